"""3x3 convolutions by Winograd's minimal filtering F(2x2, 3x3).

Lavin & Gray 2016, https://arxiv.org/abs/1509.09308. The input is cut into 4x4 tiles d that overlap
by two pixels. Each gives 2x2 pixels of the result with 16 multiplications; the definition takes 36:

    y = A^T ((G g G^T) * (B^T d B)) A,    summed over the channels of d.

The products are 16 matrix products, one for each place in the tile. Each takes as many images at
once as have tiles that fit into the cache. In float32 the rounding errors are like those of the
definition.

The gradient of the input is a convolution, too. With c the gradient of a tile's pixels, the
gradient of the kernel is G^T (sum over tiles of (B^T d B) * (A c A^T)) G.
"""

import functools

import jax
import jax.numpy as jnp

# Size of the transformed tiles and products that are computed at once. If they do not fit into the
# cache, the products wait for memory.
CACHE_BYTES = 16 * 2**20

# One array for each place in a tile. XLA would copy slices of one large array.
Places = list[list[jax.Array]]


def transform_kernel(kernel: jax.Array) -> Places:
    """G g G^T, `[3, 3, C, D]` -> 4 x 4 arrays `[C, D]`."""
    return [_G(list(row)) for row in _G(list(kernel))]


def conv3x3(x: jax.Array, transformed: Places) -> jax.Array:
    """The convolution with stride 1 and one pixel of zeros at every border.

    Args:
        x: `[B, H, W, C]`.
        transformed: 4 x 4 arrays `[C, D]`, from `transform_kernel`.

    Returns:
        `[B, H, W, D]`.
    """
    convolve = functools.partial(_conv3x3, transformed=transformed)
    y = jax.lax.map(convolve, _in_chunks(x, sum(transformed[0][0].shape)))
    return y.reshape(-1, *y.shape[2:])[: len(x)]


@jax.custom_vjp
def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`conv3x3` with a kernel `[3, 3, C, D]`. Its gradients use Winograd's algorithm, too."""
    return conv3x3(x, transform_kernel(kernel))


def _backward(inputs, cotangent):
    x, kernel = inputs
    rotated = kernel[::-1, ::-1].swapaxes(2, 3)
    return convolution(cotangent, rotated), _gradient_of_kernel(x, kernel, cotangent)


convolution.defvjp(lambda x, kernel: (convolution(x, kernel), (x, kernel)), _backward)


def _gradient_of_kernel(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    transformed, transpose = jax.vjp(transform_kernel, kernel)

    def add(total, chunk):
        images, cotangents = chunk
        convolve = functools.partial(_conv3x3, images)
        (gradient,) = jax.linear_transpose(convolve, transformed)(cotangents)
        return jax.tree.map(jnp.add, total, gradient), None

    channels = sum(kernel.shape[2:])
    chunks = _in_chunks(x, channels), _in_chunks(cotangent, channels)
    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, transformed), chunks)
    return transpose(total)[0]


def _in_chunks(x: jax.Array, channels: int) -> jax.Array:
    """Images in chunks that fit into the cache; zeros fill up the last chunk.

    Args:
        x: `[B, H, W, C]`.
        channels: of the tiles and of the products together, C + D.

    Returns:
        `[chunks, images, H, W, C]`.
    """
    batch, height, width = x.shape[:3]
    bytes_per_image = 16 * -(-height // 2) * -(-width // 2) * channels * x.dtype.itemsize
    chunks = -(-batch // max(1, CACHE_BYTES // bytes_per_image))
    images = -(-batch // chunks)
    x = jnp.pad(x, ((0, chunks * images - batch), (0, 0), (0, 0), (0, 0)))
    return x.reshape(chunks, images, *x.shape[1:])


def _conv3x3(x: jax.Array, transformed: Places) -> jax.Array:
    tiles = _transform_input(x)
    products = _materialise([[tiles[i][j] @ transformed[i][j] for j in range(4)] for i in range(4)])
    batch, height, width, _ = x.shape
    return _inverse(products, (batch, height, width, transformed[0][0].shape[-1]))


def _transform_input(x: jax.Array) -> Places:
    """B^T d B of all tiles: 4 x 4 arrays `[B ceil(H/2) ceil(W/2), C]`."""
    batch, height, width, channels = x.shape
    rows, columns = -(-height // 2), -(-width // 2)
    padding = ((0, 0), (1, 2 * rows - height + 1), (1, 2 * columns - width + 1), (0, 0))
    pairs = jnp.pad(x, padding).reshape(batch, rows + 1, 2, columns + 1, 2, channels)

    def place(i, j):
        return pairs[:, i // 2 : i // 2 + rows, i % 2, j // 2 : j // 2 + columns, j % 2]

    along_rows = [_B([place(i, j) for i in range(4)]) for j in range(4)]
    tiles = [_B([along_rows[j][i] for j in range(4)]) for i in range(4)]
    return _materialise([[tile.reshape(-1, channels) for tile in row] for row in tiles])


def _inverse(products: Places, shape: tuple[int, int, int, int]) -> jax.Array:
    """A^T m A of all tiles, joined to images of `shape` `(B, H, W, D)`."""
    batch, height, width, channels = shape
    rows, columns = -(-height // 2), -(-width // 2)
    along_rows = [_A([products[i][j] for i in range(4)]) for j in range(4)]
    pixels = [_A([along_rows[j][i] for j in range(4)]) for i in range(2)]
    pixels = [[pixel.reshape(batch, rows, columns, channels) for pixel in row] for row in pixels]
    y = jnp.stack([jnp.stack(row, 3) for row in pixels], 2)
    return y.reshape(batch, 2 * rows, 2 * columns, channels)[:, :height, :width]


def _G(g: list[jax.Array]) -> list[jax.Array]:
    return [g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]]


def _B(d: list[jax.Array]) -> list[jax.Array]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _A(m: list[jax.Array]) -> list[jax.Array]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _materialise(arrays):
    # Without the barrier, XLA computes each sum again wherever it is used, in a loop that it cannot
    # vectorise.
    return jax.lax.optimization_barrier(arrays)

"""3x3 convolutions by the minimal filtering of Winograd, F(2x2, 3x3) (Lavin & Gray 2016).

https://arxiv.org/abs/1509.09308. Of every 4x4 tile d of the input, which overlap by two, come 2x2
pixels of the result by 16 products where the definition takes 36:

    y = A^T ((G g G^T) * (B^T d B)) A,    summed over the channels of d.

The products are 16 matrix products, one a place in the tile, of as many images at once as a cache
can hold the tiles of. In float32 the rounding errors are those of the definition.

The gradient of the input is a convolution, too. With c the gradient of a tile's pixels, that of the
kernel is G^T (sum over tiles of (B^T d B) * (A c A^T)) G.
"""

import functools

import jax
import jax.numpy as jnp

# Of tiles and products: more than a cache holds, and they wait for memory.
_BYTES_AT_ONCE = 16 * 2**20

# One array for each place in a tile: taken out of a larger one they would be copied.
Places = list[list[jax.Array]]


def transform_kernel(kernel: jax.Array) -> Places:
    """G g G^T: `[3, 3, C, D]` -> 4 x 4 of `[C, D]`."""
    return [_G(list(row)) for row in _G(list(kernel))]


def conv3x3(x: jax.Array, transformed: Places) -> jax.Array:
    """The convolution of stride 1 that keeps H and W, with zeros beyond the borders.

    Args:
        x: `[B, H, W, C]`.
        transformed: 4 x 4 of `[C, D]`, from `transform_kernel`.

    Returns:
        `[B, H, W, D]`.
    """
    convolve = functools.partial(_conv3x3, transformed=transformed)
    y = jax.lax.map(convolve, _in_turns(x, sum(transformed[0][0].shape)))
    return y.reshape(-1, *y.shape[2:])[: len(x)]


@jax.custom_vjp
def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`conv3x3` by a kernel `[3, 3, C, D]`, whose gradients are computed alike."""
    return conv3x3(x, transform_kernel(kernel))


def _backward(inputs, cotangent):
    x, kernel = inputs
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return convolution(cotangent, turned), _gradient_of_kernel(x, kernel, cotangent)


convolution.defvjp(lambda x, kernel: (convolution(x, kernel), (x, kernel)), _backward)


def _gradient_of_kernel(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    transformed, transpose = jax.vjp(transform_kernel, kernel)

    def add(total, turn):
        images, cotangents = turn
        convolve = functools.partial(_conv3x3, images)
        (gradient,) = jax.linear_transpose(convolve, transformed)(cotangents)
        return jax.tree.map(jnp.add, total, gradient), None

    channels = sum(kernel.shape[2:])
    turns = _in_turns(x, channels), _in_turns(cotangent, channels)
    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, transformed), turns)
    return transpose(total)[0]


def _in_turns(x: jax.Array, channels: int) -> jax.Array:
    """Images as turns of as many as fit in a cache, filled up with zeros.

    Args:
        x: `[B, H, W, C]`.
        channels: of an image's tiles and products together.

    Returns:
        `[turns, images, H, W, C]`.
    """
    batch, height, width = x.shape[:3]
    bytes_each = 16 * -(-height // 2) * -(-width // 2) * channels * x.dtype.itemsize
    turns = -(-batch // max(1, _BYTES_AT_ONCE // bytes_each))
    images = -(-batch // turns)
    x = jnp.pad(x, ((0, turns * images - batch), (0, 0), (0, 0), (0, 0)))
    return x.reshape(turns, images, *x.shape[1:])


def _conv3x3(x: jax.Array, transformed: Places) -> jax.Array:
    tiles = _transform_input(x)
    products = _apart([[tiles[i][j] @ transformed[i][j] for j in range(4)] for i in range(4)])
    return _inverse(products, (*x.shape[:3], transformed[0][0].shape[-1]))


def _transform_input(x: jax.Array) -> Places:
    """B^T d B of all tiles: 4 x 4 of `[B ceil(H/2) ceil(W/2), C]`."""
    batch, height, width, channels = x.shape
    rows, columns = -(-height // 2), -(-width // 2)
    padding = ((0, 0), (1, 2 * rows - height + 1), (1, 2 * columns - width + 1), (0, 0))
    pairs = jnp.pad(x, padding).reshape(batch, rows + 1, 2, columns + 1, 2, channels)

    def place(i, j):
        return pairs[:, i // 2 : i // 2 + rows, i % 2, j // 2 : j // 2 + columns, j % 2]

    along_rows = [_B([place(i, j) for i in range(4)]) for j in range(4)]
    tiles = [_B([along_rows[j][i] for j in range(4)]) for i in range(4)]
    return _apart([[tile.reshape(-1, channels) for tile in row] for row in tiles])


def _inverse(products: Places, shape: tuple[int, int, int, int]) -> jax.Array:
    """A^T m A of all tiles, put together to `shape`."""
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


def _apart(arrays):
    # Else XLA computes each sum again wherever it is used, inside a loop that it cannot vectorise.
    return jax.lax.optimization_barrier(arrays)

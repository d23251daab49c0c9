"""3x3 convolutions by the minimal filtering of Winograd, F(2x2, 3x3) (Lavin & Gray 2016).

https://arxiv.org/abs/1509.09308. Of every 4x4 tile d of the input, which overlap by two, come 2x2
pixels of the result by 16 products where the definition takes 36:

    y = A^T ((G g G^T) * (B^T d B)) A,    summed over the channels of d.

The products are 16 matrix products, one a place in the tile, of as many images at once as a cache
can hold the tiles of. In float32 the rounding errors are those of the definition.
"""

import jax
import jax.numpy as jnp

# Of tiles and products: more than a cache holds, and they wait for memory.
_BYTES_AT_ONCE = 16 * 2**20


def transform_kernel(kernel: jax.Array) -> jax.Array:
    """G g G^T: `[3, 3, C, D] -> [4, 4, C, D]`."""

    def along_first(g):
        return jnp.stack([g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]])

    return along_first(along_first(kernel).swapaxes(0, 1)).swapaxes(0, 1)


def conv3x3(x: jax.Array, transformed: jax.Array) -> jax.Array:
    """The convolution of stride 1 that keeps H and W, with zeros beyond the borders.

    Args:
        x: `[B, H, W, C]`.
        transformed: `[4, 4, C, D]`, from `transform_kernel`.

    Returns:
        `[B, H, W, D]`.
    """
    batch, height, width = x.shape[:3]
    tiles_and_products = 16 * -(-height // 2) * -(-width // 2) * sum(transformed.shape[2:])
    at_once = max(1, _BYTES_AT_ONCE // (tiles_and_products * x.dtype.itemsize))
    if batch <= at_once:
        return _conv3x3(x, transformed)
    return jax.lax.map(lambda y: _conv3x3(y[None], transformed)[0], x, batch_size=at_once)


def _conv3x3(x: jax.Array, transformed: jax.Array) -> jax.Array:
    tiles = _transform_input(x)
    products = _apart([[tiles[i][j] @ transformed[i, j] for j in range(4)] for i in range(4)])
    return _inverse(products, (*x.shape[:3], transformed.shape[-1]))


def _transform_input(x: jax.Array) -> list[list[jax.Array]]:
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


def _inverse(products: list[list[jax.Array]], shape: tuple[int, int, int, int]) -> jax.Array:
    """A^T m A of all tiles, put together to `shape`."""
    batch, height, width, channels = shape
    rows, columns = -(-height // 2), -(-width // 2)
    along_rows = [_A([products[i][j] for i in range(4)]) for j in range(4)]
    pixels = [_A([along_rows[j][i] for j in range(4)]) for i in range(2)]
    pixels = [[pixel.reshape(batch, rows, columns, channels) for pixel in row] for row in pixels]
    y = jnp.stack([jnp.stack(row, 3) for row in pixels], 2)
    return y.reshape(batch, 2 * rows, 2 * columns, channels)[:, :height, :width]


def _B(d: list[jax.Array]) -> list[jax.Array]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _A(m: list[jax.Array]) -> list[jax.Array]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _apart(arrays):
    # Else XLA computes each sum again wherever it is used, inside a loop that it cannot vectorise.
    return jax.lax.optimization_barrier(arrays)

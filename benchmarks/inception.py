"""How fast do Inception features come, how near is that to the machine's floor, and does memory
stay where it is?

  python -m benchmarks.inception [--images=256] [--batch_size=32] [--side=128]
  python -m benchmarks.inception --only_stream --images=50000

Random weights, whose features take the same time. The floor is the time of the network's FLOPs at
the rate of a large float32 matrix product, measured in the same run. With --only_stream a single
matrix product stands in for the network: as many features of as many images, in the time that their
statistics take, which shows whether memory is constant without waiting for the network.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import machine, matrix_product_rate, peak_memory
from wmgm_jax.evaluation.features import FeatureNetwork
from wmgm_jax.evaluation.inception.load import inception_network
from wmgm_jax.evaluation.inception.network import InceptionV3, to_rgb

FEATURES = 2048


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=256, help="images to extract features of")
    parser.add_argument("--batch_size", type=int, default=32, help="over all devices")
    parser.add_argument("--side", type=int, default=128, help="pixels of an image's side")
    parser.add_argument("--only_stream", action="store_true", help="without the network")
    arguments = parser.parse_args()
    print(machine())
    if arguments.only_stream:
        weights = jnp.full((arguments.side * 3, FEATURES), 1e-3)
        stream(inception_network(weights, "random", arguments.batch_size, projection), arguments)
        return

    image = jnp.zeros((1, arguments.side, arguments.side, 3))
    shapes = jax.eval_shape(InceptionV3().init, jax.random.key(0), image)["params"]
    params = jax.tree.map(lambda x: jnp.full(x.shape, 1e-3, x.dtype), shapes)
    flops = float(
        jax.jit(lambda x: InceptionV3().apply({"params": params}, to_rgb(x)))
        .lower(image)
        .compile()
        .cost_analysis()["flops"]
    )

    rate = stream(inception_network(params, "random", arguments.batch_size), arguments)
    # The network asks for the same precision.
    peak = matrix_product_rate(precision="highest")
    print(f"{flops / 1e9:.2f} GFLOP an image, {rate * flops / 1e9:.0f} GFLOP/s")
    print(f"matrix product {peak / 1e9:.0f} GFLOP/s: floor {peak / flops:.1f} images/s")
    print(f"{rate * flops / peak:.0%} of the floor's rate")


def stream(inception: FeatureNetwork, arguments: argparse.Namespace) -> float:
    """Images a second; prints them, and the memory they took."""
    noise = Noise(arguments.images, arguments.side)
    inception.feature_set(Noise(2 * arguments.batch_size, arguments.side), by_subset=True)
    first_peak = peak_memory()
    start = time.perf_counter()
    inception.feature_set(noise, by_subset=True)
    rate = arguments.images / (time.perf_counter() - start)
    print(
        f"{arguments.images} images of {arguments.side} pixels, batches of "
        f"{arguments.batch_size}: {rate:.1f} images/s"
    )
    print(
        f"peak memory {first_peak:.2f} GB after 2 batches, {peak_memory():.2f} GB at the end; "
        f"the images alone would take {np.prod((len(noise), *noise.image_shape)) / 1e9:.2f} GB"
    )
    return rate


def projection(weights: jax.Array, images: jax.Array) -> jax.Array:
    """The mean row of each image, `[B, W C]`, times the weights."""
    rows = jnp.mean(images.astype(jnp.float32), axis=1)
    return rows.reshape(len(images), -1) @ weights


class Noise:
    """Images made when they are asked for."""

    def __init__(self, count: int, side: int):
        self.image_shape, self._count = (side, side, 3), count

    def __len__(self) -> int:
        return self._count

    def take(self, indices: np.ndarray) -> np.ndarray:
        random = np.random.default_rng(indices[0])
        return random.integers(0, 256, (len(indices), *self.image_shape), np.uint8)


if __name__ == "__main__":
    main()

"""How fast is the Haar transform against jaxwt and PyWavelets, and how far from the memory's limit?

    python -m benchmarks.haar --repeats 50

Every transform sees the same data in the same run, in turn, so that whatever else the machine does
falls on all of them alike; a row holds the median time.
"""

import argparse
import functools
import statistics
import time

import jax
import jax.numpy as jnp
import jaxwt
import numpy as np
import pywt

from wmgm_jax import wavelets


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=30, help="timings a row (default: 30)")
    parser.add_argument(
        "--shape",
        type=int,
        nargs=4,
        default=(64, 128, 128, 3),
        metavar=("B", "H", "W", "C"),
        help="float32 images to transform (default: 64 128 128 3)",
    )
    parser.add_argument("--levels", type=int, default=2, help="Haar levels (default: 2)")
    arguments = parser.parse_args()

    levels = arguments.levels
    images = np.random.default_rng(0).standard_normal(arguments.shape, np.float32)
    channels_last = jax.device_put(images)
    channels_first = jax.device_put(np.moveaxis(images, -1, -3).copy())

    ours = jax.jit(functools.partial(wavelets.wavedec2, levels=levels))
    theirs = jax.jit(functools.partial(jaxwt_haar, levels=levels))
    theirs_channels_first = jax.jit(functools.partial(jaxwt.wavedec2, wavelet="haar", level=levels))
    contenders = {
        "wmgm_jax": lambda: ours(channels_last),
        "jaxwt": lambda: theirs(channels_last),
        "jaxwt, channels first": lambda: theirs_channels_first(channels_first),
        "PyWavelets": lambda: pywt.wavedec2(images, "haar", level=levels, axes=(-3, -2)),
        "x + 1": functools.partial(jax.jit(lambda x: x + 1), channels_last),
    }
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-5),
        ours(channels_last),
        theirs(channels_last),
    )
    milliseconds = paired_medians(contenders, arguments.repeats)

    # x + 1 moves every value in once and out once, which a transform must do as well: the bytes
    # are the same, and so its time is the floor.
    floor = milliseconds["x + 1"]
    bandwidth = 2 * images.nbytes / floor / 1e6
    print(
        f"Haar, {levels} levels, float32 {list(images.shape)} on {jax.devices()[0].device_kind}, "
        f"median of {arguments.repeats}"
    )
    print(f"{'':<22}{'ms':>9}{'/ wmgm_jax':>13}{'/ floor':>10}")
    for name, value in milliseconds.items():
        ratio = value / milliseconds["wmgm_jax"]
        print(f"{name:<22}{value:>9.2f}{ratio:>12.2f}x{value / floor:>9.2f}x")
    print(
        f"floor: {2 * images.nbytes / 1e6:.0f} MB read and written "
        f"at the {bandwidth:.1f} GB/s of x + 1"
    )


def jaxwt_haar(x, levels):
    """jaxwt's transform of channels-last images; its own `axes` cannot be jitted."""
    coefficients = jaxwt.wavedec2(jnp.moveaxis(x, -1, -3), "haar", level=levels)
    return jax.tree.map(lambda band: jnp.moveaxis(band, -3, -1), coefficients)


def paired_medians(contenders, repeats):
    """The median milliseconds of each call, all of them timed once in every round."""
    for call in contenders.values():
        jax.block_until_ready(call())
    seconds = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, call in contenders.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()

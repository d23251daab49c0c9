"""Which algorithm computes a convolution on a CPU.

XLA's 3x3 convolutions on a CPU reach at most half the speed of a matrix product. They reach a
hundredth of it where the images are smaller than the kernel, and in the gradients of wide
convolutions with a stride of 2. Two other algorithms are faster for some shapes:

    product     one matrix product of all 3x3 windows with the kernel
    Winograd    matrix products of transformed 4x4 tiles, with 1 / 2.25 of the multiplications

Both apply to float32, to kernels of 3x3, and to one pixel of zeros at every border. Every other
convolution is XLA's, and so are all convolutions on other devices.
"""

import dataclasses
import enum


class Algorithm(enum.Enum):
    """How a convolution is computed on a CPU."""

    XLA = "xla"
    PRODUCT = "product"
    WINOGRAD = "winograd"


@dataclasses.dataclass(frozen=True)
class Policy:
    """Limits between the algorithms, measured on a CPU of two cores.

    Winograd's algorithm transforms the kernel before it uses it. There are two cases:

    - Parameters change, as in training: every call transforms the kernel, and so do both gradients.
    - Parameters are constant, as in sampling: all calls share one transformed kernel. There are no
      gradients. Winograd then wins with fewer channels, and the work of a single call is no limit.

    Attributes:
        product_channels: the least channels, in and out, for a product. With fewer, a product was
            not faster.
        product_pixels: the most pixels of an image for a product with stride 1. With more, a
            product was not faster.
        winograd_channels: the least channels, in and out, for Winograd in training. With fewer, the
            transforms cost as much as Winograd saves.
        winograd_tiles: the least 2x2 tiles of a batch for Winograd in training; same reason.
        winograd_flops: the least FLOPs of a convolution for Winograd in training. With fewer, it
            takes longer to compile than a short training gains.
        constant_winograd_channels: the least channels, in and out, for Winograd with a kernel that
            is transformed once. With fewer, the transforms of the tiles cost as much as Winograd
            saves.
        constant_winograd_images: the least images, over all calls, for which transforming the
            kernels once pays off.
    """

    product_channels: int = 128
    product_pixels: int = 16

    winograd_channels: int = 64
    winograd_tiles: int = 512
    winograd_flops: float = 1e9

    constant_winograd_channels: int = 48
    constant_winograd_images: int = 8

    def algorithm(
        self, images: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...]
    ) -> Algorithm:
        """The algorithm where parameters may change.

        Args:
            images: `(B, H, W, C)`.
            kernel: `(3, 3, C, D)`.
            strides: of both axes.
        """
        batch, height, width, channels = images
        fewest_channels = min(kernel[2:])
        is_small = strides == (1, 1) and height * width <= self.product_pixels
        if fewest_channels >= self.product_channels and (strides == (2, 2) or is_small):
            return Algorithm.PRODUCT
        tiles = batch * height * width / 4
        if (
            strides == (1, 1)
            and fewest_channels >= self.winograd_channels
            and tiles >= self.winograd_tiles
            and 72 * tiles * channels * kernel[3] >= self.winograd_flops
        ):
            return Algorithm.WINOGRAD
        return Algorithm.XLA

    def transforms_once(self, kernel: tuple[int, ...], images: int) -> bool:
        """Whether a constant kernel is transformed once, and its convolution is Winograd's.

        Args:
            kernel: shape of the kernel, `(h, w, C, D)`.
            images: number of images that it will see, over all calls.
        """
        return (
            images >= self.constant_winograd_images
            and kernel[:-2] == (3, 3)
            and min(kernel[-2:]) >= self.constant_winograd_channels
        )


POLICY = Policy()

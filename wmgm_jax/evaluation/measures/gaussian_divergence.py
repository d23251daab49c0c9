"""How far images and their bands are from white Gaussian noise (Eq. 74-78 and Figure 5).

Images are treated as Gaussian: only the correlation of their pixels counts, not the shape of their
marginals.
"""

import numpy as np

from wmgm_jax.evaluation.measures.marginals import named_bands


def gaussian_divergence(coefficients: np.ndarray) -> dict[str, float]:
    """Kullback-Leibler divergence between N(0, R) and N(0, Id), R the correlation matrix.

    The mean is removed, and each coefficient is divided by its standard deviation (Eq. 74-77).
    Eq. 76 as printed subtracts the sum of the means from each. There are two divergences:

        KL(N(0, R) || N(0, Id)) = 1/2 (tr R - d - log det R) = -1/2 log det R,
        KL(N(0, Id) || N(0, R)) = 1/2 (tr R^-1 - d + log det R),

    Eq. 78 is the second, which the smallest eigenvalues of R dominate. The first is usually called
    the divergence from a standard Gaussian.

    The sample correlation is singular if there are fewer images than coefficients. It is shrunk
    towards the identity with the closed-form intensity of Ledoit and Wolf 2004,
    https://doi.org/10.1016/S0047-259X(03)00096-4, which assumes independent images. With too few
    images both divergences are too small.

    Args:
        coefficients: `[N, ...]`, N at least 3. Coefficients that never vary are ignored.

    Returns:
        "to_gaussian" and "from_gaussian", the two divergences in nats per coefficient;
        "shrinkage", the intensity in [0, 1]; "coefficients", their number d.

    Raises:
        ValueError: fewer than three images, or no coefficient varies.
    """
    x = _standardised(coefficients)
    count, dimensions = x.shape
    # X X^T and X^T X have the same non-zero eigenvalues, so the smaller matrix is enough.
    gram = (x @ x.T if count < dimensions else x.T @ x) / count
    eigenvalues = np.zeros(dimensions)
    eigenvalues[: len(gram)] = np.maximum(np.linalg.eigvalsh(gram), 0)

    square = np.sum(eigenvalues**2)
    excess = square - dimensions
    noise = np.mean(np.sum(x**2, axis=1) ** 2) / count - square / count
    shrinkage = noise / excess if noise < excess else 1.0
    eigenvalues = shrinkage + (1 - shrinkage) * eigenvalues

    log_determinant = np.sum(np.log(eigenvalues))
    return {
        "to_gaussian": float(-log_determinant / 2 / dimensions),
        "from_gaussian": float((np.sum(1 / eigenvalues - 1) + log_determinant) / 2 / dimensions),
        "shrinkage": float(shrinkage),
        "coefficients": dimensions,
    }


def gaussian_divergences(images: np.ndarray, levels: int) -> dict[str, dict]:
    """The divergences of images and of their Haar bands.

    Args:
        images: floating-point `[N, H, W, C]`, H and W divisible by `2**levels`.
        levels: the number of scales S.

    Returns:
        "image", the result of `gaussian_divergence` for the pixels; "scale_1" to "scale_S", its
        results for the bands "LL", "LH", "HL" and "HH".
    """
    tree: dict[str, dict] = {"image": gaussian_divergence(images)}
    for scale, bands in named_bands(images, levels).items():
        tree[scale] = {band: gaussian_divergence(x) for band, x in bands.items()}
    return tree


def _standardised(coefficients: np.ndarray) -> np.ndarray:
    """float64 `[N, d]` with mean 0 and standard deviation 1 in every column that varies."""
    x = np.asarray(coefficients, np.float64).reshape(len(coefficients), -1)
    if len(x) < 3:
        raise ValueError(f"a correlation needs 3 images or more, got {len(x)}")
    x = x[:, np.ptp(x, axis=0) > 0]
    if not x.size:
        raise ValueError("no coefficient varies from image to image")
    x = x - x.mean(axis=0)
    return x / x.std(axis=0)

"""How near generated images come to real ones.

An evaluation, from the top down:

    trained         draws images from a trained model and evaluates them
    sets            the generated, reference and training images that are compared
    comparison      all measures of the sets, as one tree
    pixels          measures of pixels and Haar bands; the quick ones that training uses
    features        features of any number of images, by any network, kept in the cache
    feature_measures  Fréchet and kernel distance, precision and recall of features
    inception/      the network of FID and its weights
    learned/        a network trained on the training images, and how it is trained
    reconstruction  PSNR and SSIM of images rebuilt from their true coarsest band
    measures/       what the measures compute: pure functions, one file each
    intervals       confidence intervals
    neighbours      the training images nearest to generated ones: are these copies?
    report/         `evaluation.json`, `report.html`, tables and figures

Each measure comes with a confidence interval, the numbers of images compared, and the same measure
of training images in place of the generated ones.
"""

from wmgm_jax.evaluation.comparison import evaluate
from wmgm_jax.evaluation.pixels import quick_measures
from wmgm_jax.evaluation.sets import ImageSets, Measures

__all__ = ["ImageSets", "Measures", "evaluate", "quick_measures"]

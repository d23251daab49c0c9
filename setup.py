"""The packages of wmgm_jax; all else stands in setup.cfg.

The folder configs/ is installed inside of wmgm_jax, which setup.cfg cannot say together with
"find:".
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["wmgm_jax", "wmgm_jax.*"]), "wmgm_jax._configs"],
    package_dir={"wmgm_jax._configs": "configs"},
)

"""Measures of image quality, a file each, as pure functions of arrays."""

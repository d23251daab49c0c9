"""Inception-v3 and its features, for FID, KID, precision and recall."""

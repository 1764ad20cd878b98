"""Normalization over the batch or over a sample."""

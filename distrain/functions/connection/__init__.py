"""Functions with weights: linear, embedding, convolution."""

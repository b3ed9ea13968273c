"""Datasets: where images come from, the packed files they are kept in, and how they are cropped and augmented."""

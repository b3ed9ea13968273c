"""Caches of random embeddings, for the benchmarks that read them."""

from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.embeddings import Embeddings, read_embeddings, writing_embeddings
from stages.artifacts.weights import EncoderCard, InputContract


def random_cache(
    path: Path, split: str, images: int, dimension: int, classes: int, fingerprint: str = "none"
) -> Embeddings:
    """A float16 cache of normal vectors and uniform labels, written and opened."""
    random = np.random.default_rng(images)
    facts: dict[str, Any] = {
        "labels": random.integers(classes, size=images),
        "classes": tuple(map(str, range(classes))),
        "card": EncoderCard("random", "none", dimension, InputContract(32), {}),
        "weights": "none",
        "dataset": "random",
        "split": split,
        "dataset_fingerprint": fingerprint,
        "transform": "none",
    }
    with writing_embeddings(path, (images, dimension), "float16", **facts) as write:
        for start in range(0, images, 10_000):
            rows = min(10_000, images - start)
            write(start, random.standard_normal((rows, dimension), dtype=np.float32))
    return read_embeddings(path)

"""Caches of random embeddings, for the benchmarks that read them."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.embeddings import Embeddings, read_embeddings, writing_embeddings
from stages.artifacts.weights import EncoderCard, InputContract


def add_cache_arguments(parser: argparse.ArgumentParser, sizes: tuple[int, int, int]) -> None:
    """The ``sizes`` of a train and a val cache: their images, and the dimensions of both."""
    images, val_images, dimension = sizes
    parser.add_argument("--images", type=int, default=images, help="train images (default: %(default)s)")
    parser.add_argument("--val-images", type=int, default=val_images, help="val images (default: %(default)s)")
    parser.add_argument("--dimension", type=int, default=dimension, help="(default: %(default)s)")
    parser.add_argument("--classes", type=int, default=1000, help="(default: 1000)")


def random_pair(folder: Path, arguments: argparse.Namespace) -> tuple[Embeddings, Embeddings]:
    """A train and a val cache of these sizes."""
    train, val = (
        random_cache(folder / f"{split}.h5", split, count, arguments.dimension, arguments.classes)
        for split, count in (("train", arguments.images), ("val", arguments.val_images))
    )
    return train, val


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

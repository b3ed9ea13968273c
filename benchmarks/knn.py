"""Time the nearest-neighbour evaluation against faiss alone: the same search, called directly, in one run.

    python -m benchmarks.knn
    python -m benchmarks.knn --images 20000 --val-images 2000 --dimension 128 --json knn.json

Ours reads the float16 cache, normalises it, searches, and lets the neighbours vote; faiss alone is `IndexFlatIP` on
vectors that lie in memory as it wants them. The ratio is what the rest costs.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.table import print_table, row, timed, write_rows
from stages import knn
from stages.artifacts.embeddings import read_embeddings, writing_embeddings
from stages.artifacts.weights import EncoderCard, InputContract

FLOOR = 0.5
"""The least ratio, faiss alone to ours, that `make bench-check` lets pass."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000, help="train images (default: 100000)")
    parser.add_argument("--val-images", type=int, default=10_000, help="val images (default: 10000)")
    parser.add_argument("--dimension", type=int, default=512, help="(default: 512)")
    parser.add_argument("--classes", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--k", type=int, nargs="+", default=[1, 20], help="neighbours (default: 1 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the vectors and labels (default: 0)")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        train, val = (
            read_embeddings(written(Path(folder) / f"{split}.h5", split, count, arguments))
            for split, count in (("train", arguments.images), ("val", arguments.val_images))
        )
        labelled = np.arange(len(train.labels))
        anchors, queries = train.unit(), val.unit()
        faiss.knn(queries[:1000], anchors[:1000], 1)  # the start of its threads is not what we measure
        rows = []
        for k in arguments.k:
            _, ours = timed(lambda k=k: knn.accuracies(train, val, labelled, knn.Options(k=k), (0,)))
            _, alone = timed(lambda k=k: faiss_alone(anchors, queries, k))
            rows.append(row(f"nearest neighbours, k = {k}, s", alone, ours, floor=FLOOR))

    print_table(rows)
    if arguments.json:
        write_rows(rows, arguments.json)


def faiss_alone(anchors: np.ndarray, queries: np.ndarray, k: int) -> None:
    index = faiss.IndexFlatIP(anchors.shape[1])
    index.add(anchors)
    index.search(queries, k)


def written(path: Path, split: str, count: int, arguments: argparse.Namespace) -> Path:
    """A cache of random vectors and labels."""
    random = np.random.default_rng([arguments.seed, count])
    facts: dict[str, Any] = {
        "labels": random.integers(arguments.classes, size=count),
        "classes": tuple(map(str, range(arguments.classes))),
        "card": EncoderCard("random", "none", arguments.dimension, InputContract(32), {}),
        "weights": "none",
        "dataset": "random",
        "split": split,
        "dataset_fingerprint": "none",
        "transform": "none",
    }
    with writing_embeddings(path, (count, arguments.dimension), "float16", **facts) as write:
        for start in range(0, count, 10_000):
            rows = min(10_000, count - start)
            write(start, random.standard_normal((rows, arguments.dimension), dtype=np.float32))
    return path


if __name__ == "__main__":
    main()

"""Time the nearest-neighbour evaluation against faiss alone: the same search, called directly, in one run.

    python -m benchmarks.knn
    python -m benchmarks.knn --images 20000 --val-images 2000 --dimension 128 --json knn.json

Both start from the float16 caches and end with an accuracy: ours in 64 MiB of memory beside the queries, the plain way
with all vectors in memory, normalised by faiss, in one `IndexFlatIP`. The limit is that index alone, on vectors that
lie in memory as it wants them. Each is the least of several turns, which are taken side by side.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.stats import mode

from benchmarks.table import Row, print_table, row, timed, write_rows
from stages import knn
from stages.artifacts.embeddings import Embeddings, read_embeddings, writing_embeddings
from stages.artifacts.weights import EncoderCard, InputContract

FLOOR = 0.8
"""The least ratio, faiss alone to ours, that `make bench-check` lets pass."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000, help="train images (default: 100000)")
    parser.add_argument("--val-images", type=int, default=10_000, help="val images (default: 10000)")
    parser.add_argument("--dimension", type=int, default=512, help="(default: 512)")
    parser.add_argument("--classes", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--k", type=int, nargs="+", default=[1, 20], help="neighbours (default: 1 20)")
    parser.add_argument("--turns", type=int, default=3, help="of each, of which the fastest counts (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the vectors and labels (default: 0)")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        train, val = (
            read_embeddings(written(Path(folder) / f"{split}.h5", split, count, arguments))
            for split, count in (("train", arguments.images), ("val", arguments.val_images))
        )
        rows = [times(train, val, k, arguments.turns) for k in arguments.k]

    print_table(rows)
    if arguments.json:
        write_rows(rows, arguments.json)


def times(train: Embeddings, val: Embeddings, k: int, turns: int) -> Row:
    """The table's line of ``k`` neighbours."""
    labelled, anchors, queries = np.arange(len(train.labels)), train.unit(), val.unit()
    ways = (
        lambda: plain(train, val, k),
        lambda: knn.accuracies(train, val, labelled, knn.Options(k=k), (0,)),
        lambda: searched(anchors, queries, k),
    )
    seconds = [[timed(way)[1] for way in ways] for _ in range(turns)]
    faiss_alone, ours, search = (min(each) for each in zip(*seconds, strict=True))
    return row(f"nearest neighbours, k = {k}, s", faiss_alone, ours, floor=FLOOR, limit=search)


def plain(train: Embeddings, val: Embeddings, k: int) -> float:
    """What a few lines of faiss and scipy make of the two caches."""
    anchors, queries = (np.asarray(each.vectors, np.float32) for each in (train, val))
    for each in (anchors, queries):
        faiss.normalize_L2(each)
    votes = mode(train.labels[searched(anchors, queries, k)], axis=1).mode
    return float(np.mean(votes == val.labels))


def searched(anchors: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    index = faiss.IndexFlatIP(anchors.shape[1])
    index.add(anchors)
    neighbours: NDArray[np.int64] = index.search(queries, k)[1]
    return neighbours


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

"""Time the nearest-neighbour evaluation against faiss alone: the same search, called directly, in one run.

    python -m benchmarks.knn
    python -m benchmarks.knn --images 20000 --val-images 2000 --dimension 128

Both start from the float16 caches and end with an accuracy: ours in slices, the plain way with all vectors in memory,
normalised by faiss, in one `IndexFlatIP`. The limit is the matrix product of all val with all train vectors. On a GPU
it is a dataset of ImageNet's size.
"""

import tempfile
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.stats import mode

from benchmarks.caches import add_cache_arguments, random_pair
from benchmarks.products import seconds
from benchmarks.rows import Row, in_turns, on_gpu, parser_of, report, timed
from stages import knn
from stages.artifacts.embeddings import Embeddings
from stages.search import on_gpus

FLOOR = 0.8
"""The least ratio, faiss alone to ours, that `make bench-check` lets pass."""
SIZES = (1_280_000, 50_000, 2048) if faiss.get_num_gpus() else (100_000, 10_000, 512)
"""Train images, val images, dimensions."""


def main() -> None:
    parser = parser_of(__doc__)
    add_cache_arguments(parser, SIZES)
    parser.add_argument("--k", type=int, nargs="+", default=[1, 20], help="neighbours (default: 1 20)")
    parser.add_argument("--turns", type=int, default=3, help="of each (default: 3)")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        train, val = random_pair(Path(folder), arguments)
        rows = [times(train, val, k, arguments.turns) for k in arguments.k]
    report(rows, arguments)


def times(train: Embeddings, val: Embeddings, k: int, turns: int) -> Row:
    """The table's line of ``k`` neighbours."""
    labelled = np.arange(len(train.labels))
    faiss_alone, ours, limit = in_turns(
        turns,
        lambda: timed(lambda: plain(train, val, k)),
        lambda: timed(lambda: knn.accuracies(train, val, labelled, knn.Options(k=k), (0,))),
        lambda: seconds(len(train.labels), len(val.labels), train.vectors.shape[1]),
    )
    return Row(f"nearest neighbours{on_gpu()}, k = {k}, s", ours, faiss_alone, limit=limit, floor=FLOOR)


def plain(train: Embeddings, val: Embeddings, k: int) -> float:
    """What a few lines of faiss and scipy make of the two caches."""
    anchors, queries = (np.asarray(each.vectors, np.float32) for each in (train, val))
    for each in (anchors, queries):
        faiss.normalize_L2(each)
    index = on_gpus(faiss.IndexFlatIP(anchors.shape[1]))
    index.add(anchors)
    neighbours: NDArray[np.int64] = index.search(queries, k)[1]
    votes = mode(train.labels[neighbours], axis=1).mode
    return float(np.mean(votes == val.labels))


if __name__ == "__main__":
    main()

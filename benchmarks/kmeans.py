"""Time k-means as the cluster stage runs it against faiss alone: the same clustering, of vectors in memory.

    python -m benchmarks.kmeans
    python -m benchmarks.kmeans --images 20000 --clusters 100

Both start from a float16 cache and end with each image's cluster. The limit is the matrix product of all vectors with
all centroids, in each iteration and once more. On a GPU it is a dataset of ImageNet's size.
"""

import argparse
import tempfile
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.caches import random_cache
from benchmarks.products import seconds
from benchmarks.rows import Row, in_turns, on_gpu, parser_of, report, timed
from stages import cluster
from stages.artifacts.embeddings import Embeddings

FLOOR = 0.8
"""The least ratio, faiss alone to ours, that `make bench-check` lets pass."""
SEED = 1234
SIZES = (1_280_000, 2048, 1000) if faiss.get_num_gpus() else (50_000, 512, 500)
"""Images, dimensions, clusters."""


def main() -> None:
    images, dimension, clusters = SIZES
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=images, help="(default: %(default)s)")
    parser.add_argument("--dimension", type=int, default=dimension, help="(default: %(default)s)")
    parser.add_argument("--clusters", type=int, default=clusters, help="(default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=20, help="(default: 20)")
    parser.add_argument("--turns", type=int, default=3, help="of each (default: 3)")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        cache = random_cache(Path(folder, "train.h5"), "train", arguments.images, arguments.dimension, 10)
        faiss_alone, ours, limit = in_turns(
            arguments.turns,
            lambda: timed(lambda: plain(cache, arguments)),
            lambda: timed(lambda: clustered(cache, arguments, Path(folder))),
            lambda: seconds(arguments.images, arguments.clusters, arguments.dimension, arguments.iterations + 1),
        )
    what = f"k-means{on_gpu()}, {arguments.images} x {arguments.dimension}, {arguments.clusters} clusters, s"
    report([Row(what, ours, faiss_alone, limit=limit, floor=FLOOR)], arguments)


def clustered(cache: Embeddings, arguments: argparse.Namespace, folder: Path) -> NDArray[np.int64]:
    """What the stage does with a cache of train images alone."""
    points = cluster.mapped(cache, folder)
    options = cluster.Options(clusters=arguments.clusters, iterations=arguments.iterations)
    return cluster.kmeans(points, points[:0], options, SEED, "the cache")[0]


def plain(cache: Embeddings, arguments: argparse.Namespace) -> NDArray[np.int64]:
    """What a few lines of faiss make of the cache."""
    points = np.asarray(cache.vectors, np.float32)
    faiss.normalize_L2(points)
    kmeans = faiss.Kmeans(
        points.shape[1],
        arguments.clusters,
        niter=arguments.iterations,
        seed=SEED,
        max_points_per_centroid=10_000_000,
        gpu=bool(faiss.get_num_gpus()),
    )
    kmeans.train(points)
    found: NDArray[np.int64] = kmeans.index.search(points, 1)[1][:, 0]
    return found


if __name__ == "__main__":
    main()

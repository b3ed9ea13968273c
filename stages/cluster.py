"""k-means on an encoder's train embeddings, with the val embeddings assigned to the nearest centroid.

    python -m stages.cluster --train teacher-train.h5 --val teacher-val.h5 --clusters 10 --assignments clusters.h5

The settings are CompRess's: l2-normalised embeddings, faiss's k-means with 20 iterations on all images, from seeds that
count up from faiss's own 1234. The result feeds cluster alignment and cluster classification.
"""

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from stages.artifacts.scratch import scratch
from stages.command_line import add_options, output, parser_of, read_options, run
from stages.errors import UserError, at_least, require_split, seeds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.artifacts.embeddings import Embeddings

logger = logging.getLogger("stages")


@dataclasses.dataclass(frozen=True)
class Options:
    clusters: Annotated[int, "k; the paper uses as many as ImageNet has classes"] = 1000
    runs: Annotated[int, "k-means runs, each from its own seed"] = 1
    iterations: Annotated[int, "of each run"] = 20
    seed: Annotated[int, "of the first run; the others count up from it"] = 1234

    def __post_init__(self) -> None:
        at_least(1, clusters=self.clusters, runs=self.runs, iterations=self.iterations)
        seeds(seed=self.seed)


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="the encoder's train embeddings")
    parser.add_argument("--val", type=Path, help="the encoder's val embeddings, to be assigned as well")
    parser.add_argument("--assignments", type=output, required=True, help="the cluster of each image, to write")
    add_options(parser, Options)
    arguments = parser.parse_args(argv)

    import numpy as np

    from stages.artifacts.assignments import Assignments, write_assignments
    from stages.artifacts.embeddings import read_embeddings, read_pair
    from stages.progress import track

    options = read_options(Options, arguments)
    if arguments.val:
        train, val = read_pair(arguments.train, arguments.val)
        # Of both splits, clusters are compared with labels; of train alone, a student learns them, whatever the labels.
        train.single_labels(), val.single_labels()
    else:
        train, val = read_embeddings(arguments.train), None
        require_split(train.path, train.split, "train")
    points = mapped(train, arguments.assignments.parent)
    queries = val.unit() if val else points[:0]
    seeds = tuple(range(options.seed, options.seed + options.runs))
    runs = [
        kmeans(points, queries, options, seed, str(arguments.train))
        for seed in track(seeds, f"{options.clusters}-means on {train.card.name}", total=len(seeds), unit="runs")
    ]
    train_runs, val_runs = zip(*runs, strict=True)
    found = Assignments(
        train=np.stack(train_runs).astype(np.int32),
        val=np.stack(val_runs).astype(np.int32),
        train_labels=train.labels,
        val_labels=val.single_labels() if val else np.empty(0, dtype=np.int64),
        classes=train.classes,
        clusters=options.clusters,
        iterations=options.iterations,
        seeds=seeds,
        card=train.card,
        dataset=train.dataset,
        dataset_fingerprint=train.dataset_fingerprint,
        skipped=(train.skipped, val.skipped if val else 0),
    )
    write_assignments(arguments.assignments, found)


def mapped(train: "Embeddings", folder: Path) -> "NDArray[np.float32]":
    """`train.unit()` in a file without a name in ``folder``, mapped into memory.

    faiss goes through it in each iteration, and a million vectors of 2048 dimensions may be more than memory holds.
    """
    import numpy as np

    with scratch(folder) as file:
        for rows in train.unit_slices():
            file.write(rows.data)
        file.flush()
        return np.asarray(np.memmap(file, np.float32, mode="r", shape=train.vectors.shape))


def kmeans(
    points: "NDArray[np.float32]", queries: "NDArray[np.float32]", options: Options, seed: int, where: str
) -> tuple["NDArray[np.int64]", "NDArray[np.int64]"]:
    """The clusters of ``points`` [N, D] by k-means, and those of ``queries`` [M, D] by the nearest centroid."""
    import faiss
    import numpy as np

    from stages.search import on_gpus

    if options.clusters > len(points):
        raise UserError(f"{where}: {options.clusters} clusters asked for, but there are {len(points)} images")
    parameters = faiss.ClusteringParameters()
    parameters.niter, parameters.seed = options.iterations, seed
    # All points count, and few points a centroid are no reason for a warning.
    parameters.max_points_per_centroid, parameters.min_points_per_centroid = 10_000_000, 1
    clustering = faiss.Clustering(points.shape[1], options.clusters, parameters)
    index = on_gpus(faiss.IndexFlatL2(points.shape[1]))
    clustering.train(points, index)
    of_points, of_queries = (index.search(rows, 1)[1][:, 0] for rows in (points, queries))
    if empty := options.clusters - len(np.unique(of_points)):
        # No error: a collapsed encoder is a result, which a table of many has to be able to show.
        logger.warning(
            "%s: %d of %d clusters are empty, from the k-means seed %d", where, empty, options.clusters, seed
        )
        if (found := distinct(points, options.clusters)) < options.clusters:
            logger.warning(
                "%s: only %d distinct embeddings of %d images: has the encoder collapsed?", where, found, len(points)
            )
    return of_points, of_queries


def distinct(points: "Iterable[NDArray[np.float32]]", enough: int) -> int:
    """How many different rows there are, counted up to ``enough``, in memory for as many hashes."""
    seen: set[int] = set()
    for row in points:
        seen.add(hash(row.tobytes()))
        if len(seen) >= enough:
            break
    return len(seen)


if __name__ == "__main__":
    run(main)

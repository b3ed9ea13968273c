"""Classify each val image by its nearest train images in cosine similarity: CompRess's NN evaluation.

    python -m stages.knn --train teacher-train.h5 --val teacher-val.h5 --metrics knn.json
    python -m stages.knn --train teacher-train.h5 --val teacher-val.h5 --metrics one-shot.json --shots 1 --draws 10

Plain majority votes; ties are broken at random, by the seed. With --shots, only that many random images of each class
are searched, in several draws, and the mean and standard deviation over the draws are reported.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from stages.command_line import add_evaluation_arguments, add_options, parser_of, read_options, run
from stages.errors import UserError, at_least

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


COMPARISONS = 2**26
"""How many pairs of neighbours are compared at once, a byte each."""


@dataclasses.dataclass(frozen=True)
class Options:
    k: Annotated[int, "neighbours that vote; the paper uses 1"] = 1
    shots: Annotated[int, "train images of each class to search; 0: all of them"] = 0
    draws: Annotated[int, "random choices of the shots, or of the winners of ties"] = 1
    seed: Annotated[int, "of the first draw; the others count up from it"] = 0

    def __post_init__(self) -> None:
        at_least(1, k=self.k, draws=self.draws)
        at_least(0, shots=self.shots, seed=self.seed)


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    add_evaluation_arguments(parser)
    add_options(parser, Options)
    arguments = parser.parse_args(argv)

    import numpy as np

    from stages.artifacts.embeddings import read_pair
    from stages.artifacts.metrics import metrics_of, write_metrics

    start = time.monotonic()
    options = read_options(Options, arguments)
    train, val = read_pair(arguments.train, arguments.val)
    anchors, queries = train.unit(), val.unit()
    labels, truth = train.single_labels(), val.single_labels()
    seeds = tuple(range(options.seed, options.seed + options.draws))
    accuracies = [100 * accuracy(anchors, labels, queries, truth, options, seed, str(train.path)) for seed in seeds]
    metrics = metrics_of(
        train,
        val,
        evaluation=arguments.name or "knn",
        protocol=f"compress {options.k}-NN, cosine, "
        + (f"{options.shots}-shot" if options.shots else "all train images"),
        values={"top1": float(np.mean(accuracies))},
        deviations={"top1": float(np.std(accuracies, ddof=1))} if len(seeds) > 1 else {},
        seeds=seeds,
        options=options,
        wall_time_s=time.monotonic() - start,
    )
    write_metrics(arguments.metrics, metrics)


def accuracy(
    anchors: "NDArray[np.float32]",
    labels: "NDArray[np.int64]",
    queries: "NDArray[np.float32]",
    truth: "NDArray[np.int64]",
    options: Options,
    seed: int,
    where: str,
) -> float:
    """The share of unit ``queries`` [M, D] whose nearest unit ``anchors`` [N, D] vote for their true class."""
    import numpy as np

    from stages.search import nearest

    random = np.random.default_rng(seed)
    if options.shots:
        chosen = drawn(labels, options.shots, random, where)
        anchors, labels = anchors[chosen], labels[chosen]
    neighbours = nearest(anchors, queries, options.k, where)
    return float(np.mean(votes(labels[neighbours], random) == truth))


def drawn(labels: "NDArray[np.int64]", shots: int, random: "np.random.Generator", where: str) -> "NDArray[np.int64]":
    """``shots`` random rows of each class; a class with fewer is an error."""
    import numpy as np

    rows = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < shots:
            raise UserError(f"{where}: class {label} has {len(members)} images, fewer than the {shots} shots asked for")
        rows.append(random.choice(members, size=shots, replace=False))
    return np.concatenate(rows)


def votes(neighbours: "NDArray[np.int64]", random: "np.random.Generator") -> "NDArray[np.int64]":
    """The most frequent of each row's labels [M, k]; of several, a random one."""
    import numpy as np

    # A slice at a time: the comparison of all k with all k of 50,000 queries would take gigabytes at k = 200.
    slices = np.array_split(neighbours, max(1, neighbours.size * neighbours.shape[1] // COMPARISONS))
    counts = np.concatenate([(rows[:, :, None] == rows[:, None, :]).sum(axis=2) for rows in slices])
    shuffled = random.random(neighbours.shape)
    # Adding less than one vote at random breaks ties and nothing else: first one label, then all its copies, win.
    first = np.argmax(counts + shuffled, axis=1)
    return neighbours[np.arange(len(neighbours)), first]


if __name__ == "__main__":
    run(main)

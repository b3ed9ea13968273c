"""Classify each val image by its nearest train images in cosine similarity: CompRess's NN evaluation, and others.

    python -m stages.knn --train teacher-train.h5 --val teacher-val.h5 --metrics knn.json
    python -m stages.knn --train teacher-train.h5 --val teacher-val.h5 --metrics one-shot.json --shots 1 --draws 10
    python -m stages.knn --train teacher-train.h5 --val teacher-val.h5 --metrics dino.json --k 20 --votes weighted

Plain votes count alike, as CompRess's; weighted ones count exp(similarity / temperature), as those of InstDisc (section
3.4) and DINO. Ties are broken at random, by the seed. With --labels, only the images that --subsets lists are searched;
with --shots, only that many random ones of each class, in several draws, and the mean and standard deviation over the
draws are reported.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from stages.command_line import add_evaluation_arguments, add_options, parser_of, read_options, run
from stages.errors import UserError, above_zero, at_least, percentages, seeds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.artifacts.embeddings import Embeddings


COMPARISONS = 2**23
"""How many pairs of neighbours are compared at once, 8 bytes each."""


@dataclasses.dataclass(frozen=True)
class Options:
    k: Annotated[int, "neighbours that vote; the paper uses 1"] = 1
    votes: Annotated[
        Literal["plain", "weighted"], "plain: all count alike; weighted: by exp(similarity / temperature)"
    ] = "plain"
    temperature: Annotated[float, "of weighted votes"] = 0.07
    labels: Annotated[int, "percent of the train labels, by the dataset's stored subset; 100: all of them"] = 100
    shots: Annotated[int, "train images of each class to search; 0: all of them"] = 0
    draws: Annotated[int, "random choices of the shots, or of the winners of ties"] = 1
    seed: Annotated[int, "of the first draw; the others count up from it"] = 0

    def __post_init__(self) -> None:
        at_least(1, k=self.k, draws=self.draws)
        at_least(0, shots=self.shots)
        seeds(seed=self.seed)
        above_zero(temperature=self.temperature)
        percentages(self.labels)

    @property
    def protocol(self) -> str:
        """What was compared with what, in words."""
        weights = f", weighted at temperature {self.temperature:g}" if self.votes == "weighted" else ""
        among = "all train images" if self.labels == 100 else f"{self.labels}% of the train images"
        if self.shots:
            among = f"{self.shots}-shot" + ("" if self.labels == 100 else f" of {among}")
        name = "compress " if self.votes == "plain" else ""
        return f"{name}{self.k}-NN, cosine{weights}, {among}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    add_evaluation_arguments(parser, "knn")
    parser.add_argument("--subsets", type=Path, nargs="*", default=[], help="lists of labelled images, for --labels")
    add_options(parser, Options)
    arguments = parser.parse_args(argv)

    import numpy as np

    from stages.artifacts.embeddings import read_pair
    from stages.artifacts.metrics import counts_of, metrics_of, write_metrics
    from stages.artifacts.subsets import labelled_rows

    start = time.monotonic()
    options = read_options(Options, arguments)
    train, val = read_pair(arguments.train, arguments.val)
    labelled = labelled_rows(options.labels, arguments.subsets, train)
    seeds = tuple(range(options.seed, options.seed + options.draws))
    found = accuracies(train, val, labelled, options, seeds)
    metrics = metrics_of(
        val.card,
        val.dataset,
        counts_of(train, val),
        evaluation=arguments.name,
        protocol=options.protocol,
        values={"top1": float(np.mean(found))},
        deviations={"top1": float(np.std(found, ddof=1))} if len(seeds) > 1 else {},
        seeds=seeds,
        options=dataclasses.asdict(options),
        start=start,
        notes={"labelled": f"{len(labelled)} of {len(train.labels)} train images"},
    )
    write_metrics(arguments.metrics, metrics)


def accuracies(
    train: "Embeddings", val: "Embeddings", labelled: "NDArray[np.int64]", options: Options, seeds: Sequence[int]
) -> list[float]:
    """The percentage of val images whose nearest ``labelled`` train images vote for their class, for each seed."""
    import numpy as np

    from stages.search import nearest, slice_bytes

    labels, truth = train.single_labels(), val.single_labels()
    # All of them are read as they lie on the disk.
    chosen = None if len(labelled) == len(labels) else labelled
    queries = val.unit()
    found: list[float] = []
    for seed in seeds:
        random = np.random.default_rng(seed)
        if options.shots or not found:
            rows = labelled
            if options.shots:
                rows = labelled[drawn(labels[labelled], train.classes, options.shots, random, str(train.path))]
            anchors = train.unit_slices(rows if options.shots else chosen, slice_bytes())
            similarities, neighbours = nearest(anchors, queries, options.k, str(train.path))
            weights = weights_of(similarities, options)
        found.append(100 * float(np.mean(votes(labels[rows[neighbours]], weights, random) == truth)))
    return found


def weights_of(similarities: "NDArray[np.float32]", options: Options) -> "NDArray[np.floating]":
    """What the votes of each query's neighbours [M, k] count."""
    import numpy as np

    if options.votes == "plain":
        return np.ones_like(similarities)
    # Relative to the nearest, so that no temperature is too low for the exponential.
    return np.exp((similarities - similarities[:, :1]).astype(np.float64) / options.temperature)


def drawn(
    labels: "NDArray[np.int64]", classes: Sequence[str], shots: int, random: "np.random.Generator", where: str
) -> "NDArray[np.int64]":
    """``shots`` random rows of each of the ``classes``; one with fewer is an error."""
    import numpy as np

    rows = []
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        if len(members) < shots:
            raise UserError(f"{where}: class {name} has {len(members)} images, fewer than the {shots} shots asked for")
        rows.append(random.choice(members, size=shots, replace=False))
    return np.concatenate(rows)


def votes(
    neighbours: "NDArray[np.int64]", weights: "NDArray[np.floating]", random: "np.random.Generator"
) -> "NDArray[np.int64]":
    """The label of each row [M, k] with the largest sum of ``weights`` [M, k]; of several, a random one."""
    import numpy as np

    # A slice at a time: the comparison of all k with all k of 50,000 queries would take gigabytes at k = 200.
    parts = max(1, neighbours.size * neighbours.shape[1] // COMPARISONS)
    slices = zip(np.array_split(neighbours, parts), np.array_split(weights, parts), strict=True)
    sums = np.concatenate(
        [((rows[:, :, None] == rows[:, None, :]) * own[:, None, :]).sum(axis=2) for rows, own in slices]
    )
    shuffled = random.random(neighbours.shape)
    first = np.argmax(np.where(sums == sums.max(axis=1, keepdims=True), shuffled, -1), axis=1)
    return neighbours[np.arange(len(neighbours)), first]


if __name__ == "__main__":
    run(main)

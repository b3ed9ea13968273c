"""Give each cluster a class by the Hungarian algorithm, and score val with that: CompRess's cluster alignment (CA).

    python -m stages.align --assignments clusters.h5 --metrics cluster-alignment.json

The matching maximises the sum over clusters of their purity for the class they are given, |cluster and class| /
|cluster|, on the train split (section 4.1); the score is the accuracy on val. That is not the usual clustering
accuracy, which matches to maximise the number of correct images of the split it scores: it is reported beside, with
normalised mutual information and the adjusted Rand index, all on val, as mean and deviation over the k-means runs.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.command_line import add_metrics_arguments, parser_of, run
from stages.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.artifacts.assignments import Assignments


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--assignments", type=Path, required=True, help="the clusters of the train and val images")
    add_metrics_arguments(parser, "cluster-alignment")
    arguments = parser.parse_args(argv)

    import numpy as np

    from stages.artifacts.assignments import read_assignments
    from stages.artifacts.metrics import counts, metrics_of, write_metrics

    start = time.monotonic()
    found = read_assignments(arguments.assignments)
    if not found.val.size:
        raise UserError(f"{arguments.assignments}: holds the train images' clusters only; cluster both splits")
    runs = [
        scores(train, found.train_labels, val, found.val_labels, found.clusters, len(found.classes))
        for train, val in zip(found.train, found.val, strict=True)
    ]
    values = {name: [run[name] for run in runs] for name in runs[0]}
    metrics = metrics_of(
        found.card,
        found.dataset,
        counts(found.train.shape[1], found.val.shape[1], found.skipped),
        evaluation=arguments.name,
        protocol=protocol_of(found),
        values={name: float(np.mean(each)) for name, each in values.items()},
        deviations={name: float(np.std(each, ddof=1)) for name, each in values.items()} if len(runs) > 1 else {},
        seeds=found.seeds,
        options={"clusters": found.clusters, "runs": len(found.seeds), "iterations": found.iterations},
        start=start,
    )
    write_metrics(arguments.metrics, metrics)


def protocol_of(found: "Assignments") -> str:
    """What was clustered and matched how, in words; it is CompRess's with the number of iterations of its k-means.

    CompRess has as many clusters as classes; of other numbers, it says what cannot be right.
    """
    means = f"{found.clusters}-means" + ("" if found.iterations == 20 else f" of {found.iterations} iterations")
    name = "compress " if found.iterations == 20 else ""
    unmatched = ""
    if found.clusters != len(found.classes):
        more, fewer = ("clusters", "class") if found.clusters > len(found.classes) else ("classes", "cluster")
        count = abs(found.clusters - len(found.classes))
        unmatched = f" ({more} without a {fewer}: {count}, whose images count as wrong)"
    return f"{name}cluster alignment: {means} and purity-maximising Hungarian on train{unmatched}"


def scores(
    train: "NDArray[np.int32]",
    train_labels: "NDArray[np.int64]",
    val: "NDArray[np.int32]",
    val_labels: "NDArray[np.int64]",
    clusters: int,
    classes: int,
) -> dict[str, float]:
    """One k-means run's scores in percent: CA on val and train, and on val clustering accuracy, NMI and ARI."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    on_train = contingency(train, train_labels, clusters, classes)
    on_val = contingency(val, val_labels, clusters, classes)
    by_purity, by_count = matching(purity(on_train)), matching(on_val)
    return {
        "ca": 100 * matched(on_val, by_purity),
        "ca_train": 100 * matched(on_train, by_purity),
        "clustering_accuracy": 100 * matched(on_val, by_count),
        "nmi": 100 * float(normalized_mutual_info_score(val_labels, val)),
        "ari": 100 * float(adjusted_rand_score(val_labels, val)),
    }


def contingency(
    assignments: "NDArray[np.integer]", labels: "NDArray[np.integer]", clusters: int, classes: int
) -> "NDArray[np.int64]":
    """How many images [K, C] are in cluster k and of class c."""
    import numpy as np

    pairs = assignments.astype(np.int64) * classes + labels
    return np.bincount(pairs, minlength=clusters * classes).reshape(clusters, classes)


def purity(counts: "NDArray[np.int64]") -> "NDArray[np.float64]":
    """Each cluster's share of each class [K, C]; an empty cluster has none of any."""
    import numpy as np

    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def matching(gain: "NDArray[np.number]") -> tuple["NDArray[np.intp]", "NDArray[np.intp]"]:
    """The one-to-one assignment of clusters to classes, (clusters, classes), with the largest total ``gain`` [K, C]."""
    from scipy.optimize import linear_sum_assignment

    found: tuple[NDArray[np.intp], NDArray[np.intp]] = linear_sum_assignment(gain, maximize=True)
    return found


def matched(counts: "NDArray[np.int64]", pairs: tuple["NDArray[np.intp]", "NDArray[np.intp]"]) -> float:
    """The share of images whose cluster was given their class; a cluster given none counts as wrong."""
    return float(counts[pairs].sum() / counts.sum())


if __name__ == "__main__":
    run(main)

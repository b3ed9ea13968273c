"""Train a linear classifier for each of several classes an image may have, on frozen embeddings: VOC classification.

    python -m stages.voc_classification --train teacher-train.h5 --val teacher-val.h5 --metrics voc.json

A linear support vector machine a class, on l2-normalised embeddings, with the cost that has the best average precision
in cross-validation on the train split: the protocol of Goyal et al. ("Scaling and Benchmarking Self-Supervised Visual
Representation Learning", ICCV 2019) and of VISSL. Images in which a class is difficult are left out for that class. The
score is the mean over classes of the average precision on val, as VOC 2007 defines it and as VOC 2010 does.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from stages.command_line import add_evaluation_arguments, add_options, parser_of, read_options, run
from stages.errors import UserError, at_least, filled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.artifacts.embeddings import Embeddings
    from stages.average_precision import Curve


@dataclasses.dataclass(frozen=True)
class Options:
    costs: Annotated[tuple[int, ...], "powers of 4"] = (-10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5)
    folds: Annotated[int, "of the cross-validation that chooses each class's cost"] = 3

    def __post_init__(self) -> None:
        at_least(2, folds=self.folds)
        filled(costs=self.costs)
        if max(map(abs, self.costs)) > 30:
            raise UserError(f"--costs has {max(self.costs, key=abs)}; expected powers of 4 from -30 to 30")


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    add_evaluation_arguments(parser, "voc-classification")
    add_options(parser, Options)
    arguments = parser.parse_args(argv)

    import numpy as np

    from stages.artifacts.embeddings import read_pair
    from stages.artifacts.metrics import counts_of, left_out_note, metrics_of, write_metrics
    from stages.progress import track

    start = time.monotonic()
    options = read_options(Options, arguments)
    train, val = read_pair(arguments.train, arguments.val)
    reasons = left_out(train, val, options.folds)
    features, queries = train.unit(), val.unit()
    kept = [column for column, name in enumerate(train.classes) if name not in reasons]
    curves = {
        train.classes[column]: classified(features, train.labels[:, column], queries, val.labels[:, column], options)
        for column in track(kept, "voc classification", total=len(kept), unit="classes")
    }
    areas = {name: 100 * curve.area for name, curve in curves.items()}
    metrics = metrics_of(
        val.card,
        val.dataset,
        counts_of(train, val),
        evaluation=arguments.name,
        protocol=f"linear SVMs on l2-normalised embeddings, each class's cost by {options.folds}-fold cross-validation",
        values={
            "map_11point": float(np.mean([100 * curve.eleven_points for curve in curves.values()])),
            "map_area": float(np.mean(list(areas.values()))),
            **{f"map_area@{name}": area for name, area in areas.items()},
        },
        options=dataclasses.asdict(options),
        start=start,
        notes=left_out_note(reasons),
    )
    write_metrics(arguments.metrics, metrics)


def left_out(train: "Embeddings", val: "Embeddings", folds: int) -> dict[str, str]:
    """The classes that cannot be trained or scored, with the reason."""
    if train.labels.ndim == 1:
        raise UserError(
            f"{train.path}: the images of {train.dataset} have one label each; voc-classification needs a dataset "
            "with several labels an image, such as voc2007: give it another, or use linear"
        )
    reasons = {}
    for column, name in enumerate(train.classes):
        in_train, in_val = (int((embeddings.labels[:, column] == 1).sum()) for embeddings in (train, val))
        if in_train < folds:
            reasons[name] = f"in {in_train} train images, of {folds} folds"
        elif (absent := int((train.labels[:, column] == 0).sum())) < folds:
            reasons[name] = f"missing in {absent} train images, of {folds} folds"
        elif not in_val:
            reasons[name] = "in no val image"
    if len(reasons) == len(train.classes):
        raise UserError(
            f"{train.path}: no class is in {folds} train images, missing in {folds}, and in a val image: give more "
            "images, or fewer folds"
        )
    return reasons


def classified(
    features: "NDArray[np.float32]",
    labels: "NDArray[np.int8]",
    queries: "NDArray[np.float32]",
    truth: "NDArray[np.int8]",
    options: Options,
) -> "Curve":
    """The curve of ``queries`` [M, D] and their ``truth`` [M] under a class's classifier.

    It is trained on ``features`` [N, D] and ``labels`` [N]; what is labelled -1 counts nowhere.
    """
    import numpy as np
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import LinearSVC

    from stages.average_precision import curve

    known, scored = labels >= 0, truth >= 0
    # Twice the weight on positives as in Goyal et al.; their dual problem's order is random, the primal's solver exact.
    machines = [LinearSVC(C=4.0**power, class_weight={1: 2}, dual=False) for power in options.costs]
    precisions = [
        cross_val_score(machine, features[known], labels[known], cv=options.folds, scoring="average_precision").mean()
        for machine in machines
    ]
    best = machines[int(np.argmax(precisions))].fit(features[known], labels[known])
    return curve(best.decision_function(queries[scored]), truth[scored] == 1, int((truth == 1).sum()))


if __name__ == "__main__":
    run(main)

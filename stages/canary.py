"""Check that a fetched encoder is the published one: its nearest-neighbour accuracy, beside its authors'.

    python -m stages.canary --train teacher-train.h5 --val teacher-val.h5 --metrics canary.json \\
        --protocol 1-nn --published 57.3 --tolerance 1

The published accuracy is of ImageNet, by 1-nn, 20-nn or knn, as the catalogue calls them, and is measured in the same
way; where it differs by more than the tolerance, that is an error. It tells a backbone that is wrongly loaded, or sees
images of the wrong size or normalisation, before a student learns from it.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Annotated

from stages.command_line import add_evaluation_arguments, add_options, parser_of, read_options, run
from stages.errors import UserError, above_zero

PROTOCOLS = (("1-nn", {"k": 1}), ("20-nn", {"k": 20}), ("knn", {"k": 20, "votes": "weighted"}))
"""The options of `stages.knn` that measure each accuracy; `knn` is DINO's, with the k that its code advises."""


@dataclasses.dataclass(frozen=True)
class Options:
    tolerance: Annotated[float, "by how many percentage points the accuracy may differ from the published one"] = 1.0

    def __post_init__(self) -> None:
        above_zero(tolerance=self.tolerance)


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    add_evaluation_arguments(parser, "canary")
    names = [name for name, _ in PROTOCOLS]
    parser.add_argument("--protocol", choices=names, required=True, help="what the published accuracy was measured by")
    parser.add_argument("--published", type=float, required=True, help="that accuracy, in percent")
    add_options(parser, Options)
    arguments = parser.parse_args(argv)

    import numpy as np

    from stages import knn
    from stages.artifacts.embeddings import read_pair
    from stages.artifacts.metrics import counts_of, metrics_of, write_metrics

    start = time.monotonic()
    tolerance = read_options(Options, arguments).tolerance
    name, published = arguments.protocol, arguments.published
    (options,) = (knn.Options(**protocol) for known, protocol in PROTOCOLS if known == name)
    train, val = read_pair(arguments.train, arguments.val)
    checkpoint = train.card.origin.get("checkpoint", train.card.name)
    (found,) = knn.accuracies(train, val, np.arange(len(train.labels)), options, (options.seed,))
    if abs(found - published) > tolerance:
        raise UserError(
            f"{train.card.name}: {name} is {found:.1f} on {train.dataset} ({len(train.labels)} train and "
            f"{len(val.labels)} val images, {train.transform}), and {published:g} was published for "
            f"{checkpoint} on ImageNet; expected no more than {tolerance:g} points between them: "
            "look whether the images are ImageNet's, at the size and with the normalisation of the catalogue"
        )
    metrics = metrics_of(
        val.card,
        val.dataset,
        counts_of(train, val),
        evaluation=arguments.name,
        protocol=options.protocol,
        values={"top1": found, "published": published},
        seeds=(options.seed,),
        options={"tolerance": tolerance, **dataclasses.asdict(options)},
        start=start,
    )
    write_metrics(arguments.metrics, metrics)


if __name__ == "__main__":
    run(main)

"""Time cluster alignment at ImageNet's size: one contingency table, one Hungarian matching, and all scores of a run.

    python -m benchmarks.cluster_alignment
    python -m benchmarks.cluster_alignment --images 100000 --clusters 100 --classes 100 --json alignment.json

Clusters and labels are random, which is the matching's hard case: no cluster has a class of its own.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.rows import Row, in_turns, parser_of, report, timed
from stages import align


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=1_280_000, help="train images (default: 1280000)")
    parser.add_argument("--val-images", type=int, default=50_000, help="val images (default: 50000)")
    parser.add_argument("--clusters", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--classes", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the clusters and labels (default: 0)")
    parser.add_argument("--turns", type=int, default=3, help="of each (default: 3)")
    arguments = parser.parse_args()

    random = np.random.default_rng(arguments.seed)
    train, val = (
        (random.integers(arguments.clusters, size=n).astype(np.int32), random.integers(arguments.classes, size=n))
        for n in (arguments.images, arguments.val_images)
    )
    table = align.contingency(*train, arguments.clusters, arguments.classes)
    gain = align.purity(table)
    pairs = align.matching(gain)
    works: dict[str, Callable[[], Any]] = {
        "contingency": lambda: align.contingency(*train, arguments.clusters, arguments.classes),
        "purity": lambda: align.purity(table),
        "hungarian": lambda: align.matching(gain),
        "matched": lambda: align.matched(table, pairs),
        "scores, with NMI and ARI on val": lambda: align.scores(*train, *val, arguments.clusters, arguments.classes),
    }
    works["scores, with NMI and ARI on val"]()  # imports are not what we measure
    timers = [functools.partial(timed, work) for work in works.values()]
    turns = in_turns(arguments.turns, *timers)
    rows = [Row(f"cluster alignment: {part}, s", spent) for part, spent in zip(works, turns, strict=True)]
    report(rows, arguments)


if __name__ == "__main__":
    main()

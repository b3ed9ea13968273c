"""Time cluster alignment at ImageNet's size: one contingency table, one Hungarian matching, and all scores of a run.

    python -m benchmarks.cluster_alignment
    python -m benchmarks.cluster_alignment --images 100000 --clusters 100 --classes 100 --json alignment.json

Clusters and labels are random, which is the matching's hard case: no cluster has a class of its own.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.table import print_table, row, timed, write_rows
from stages import align


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_280_000, help="train images (default: 1280000)")
    parser.add_argument("--val-images", type=int, default=50_000, help="val images (default: 50000)")
    parser.add_argument("--clusters", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--classes", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the clusters and labels (default: 0)")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()

    random = np.random.default_rng(arguments.seed)
    train, val = (
        (random.integers(arguments.clusters, size=n).astype(np.int32), random.integers(arguments.classes, size=n))
        for n in (arguments.images, arguments.val_images)
    )
    timed(lambda: align.scores(*val, *val, arguments.clusters, arguments.classes))  # imports are not what we measure

    seconds: dict[str, float] = {}
    table, seconds["contingency"] = timed(lambda: align.contingency(*train, arguments.clusters, arguments.classes))
    gain, seconds["purity"] = timed(lambda: align.purity(table))
    pairs, seconds["hungarian"] = timed(lambda: align.matching(gain))
    _, seconds["matched"] = timed(lambda: align.matched(table, pairs))
    seconds["total"] = sum(seconds.values())
    _, seconds["scores, with NMI and ARI on val"] = timed(
        lambda: align.scores(*train, *val, arguments.clusters, arguments.classes)
    )
    _, seconds["scores, with NMI and ARI on all images"] = timed(
        lambda: align.scores(*train, *train, arguments.clusters, arguments.classes)
    )

    rows = [row(f"cluster alignment: {part}, s", None, spent) for part, spent in seconds.items()]
    print_table(rows)
    if arguments.json:
        write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()

"""Search each val image among the others: CompRess's retrieval on CUB200 and Cars196 (section 4.3, Table 4).

    python -m stages.retrieval --val teacher-val.h5 --metrics retrieval.json

Recall@k is the share of the images with at least one image of their class among their k nearest in cosine similarity;
an image is no neighbour of its own, its duplicates are. Of images that are equally near, those of other classes come
first: so there is no chance in the result, and nothing to gain from embeddings that are all alike.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from stages.command_line import add_metrics_arguments, add_options, parser_of, read_options, run
from stages.errors import UserError, at_least, filled, require_split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.artifacts.embeddings import Embeddings

SIMILARITIES = 2**25
"""How many are held at once, eight bytes each."""

EQUAL = 1e-12
"""Cosines that differ by no more are equal: the rounding of a matrix product depends on a vector's place in it."""


@dataclasses.dataclass(frozen=True)
class Options:
    ks: Annotated[tuple[int, ...], "how many neighbours are looked at, for one recall each"] = (1, 2, 4, 8)

    def __post_init__(self) -> None:
        filled(ks=self.ks)
        at_least(1, ks=min(self.ks))


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--val", type=Path, required=True, help="the encoder's val embeddings")
    add_metrics_arguments(parser, "retrieval")
    add_options(parser, Options)
    arguments = parser.parse_args(argv)

    import numpy as np

    from stages.artifacts.embeddings import read_embeddings
    from stages.artifacts.metrics import counts, metrics_of, write_metrics

    start = time.monotonic()
    options = read_options(Options, arguments)
    val = read_embeddings(arguments.val)
    check(val, options)
    labels = val.single_labels()
    before = strangers_before(val.exact_unit(), labels)
    metrics = metrics_of(
        val.card,
        val.dataset,
        counts(0, len(labels), (0, val.skipped)),
        evaluation=arguments.name,
        protocol="recall@k, cosine, each val image among the others",
        values={f"recall@{k}": 100 * float(np.mean(before < k)) for k in options.ks},
        options=dataclasses.asdict(options),
        start=start,
        notes=notes_of(labels),
    )
    write_metrics(arguments.metrics, metrics)


def check(val: "Embeddings", options: Options) -> None:
    """Refuse another split, and more neighbours than an image has."""
    require_split(val.path, val.split, "val")
    if max(options.ks) >= len(val.labels):
        raise UserError(
            f"{val.path}: {max(options.ks)} neighbours asked for, but each of {len(val.labels)} images has "
            f"{len(val.labels) - 1} others; lower --ks"
        )


def strangers_before(vectors: "NDArray[np.float64]", labels: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """How many images of other classes are at least as near to each image as the nearest of its own class.

    Recall@k is the share of images with fewer than k of them.

    Args:
        vectors: unit rows [N, D].
        labels: their classes [N].

    Returns:
        The counts [N]; of the only image of its class, N, which is more than any k.
    """
    import numpy as np

    from stages.progress import track

    count = len(vectors)
    blocks = np.array_split(np.arange(count), max(1, count * count // SIMILARITIES))
    found = []
    for rows in track(blocks, "searching", total=len(blocks), unit="blocks"):
        similarities = vectors[rows] @ vectors.T
        same = labels[rows, None] == labels
        strangers = np.where(same, -np.inf, similarities)
        same[np.arange(len(rows)), rows] = False
        nearest = np.where(same, similarities, -np.inf).max(axis=1, keepdims=True)
        before = np.count_nonzero(strangers >= nearest - EQUAL, axis=1)
        found.append(np.where(same.any(axis=1), before, count))
    return np.concatenate(found)


def notes_of(labels: "NDArray[np.int64]") -> dict[str, str]:
    """What is to be said of classes that have a single image, whose search cannot succeed."""
    import numpy as np

    single = int(np.count_nonzero(np.bincount(labels) == 1))
    return {"single_image_classes": f"{single}, whose images find none of their class: misses"} if single else {}


if __name__ == "__main__":
    run(main)

"""Choose the images whose labels an evaluation with few labels may use: the same share of every class.

    python -m stages.label_subset --train train.h5 --percent 10 --subset digits-10.txt

From each class, ``percent`` of its train images, to the nearest whole number and at least one, are drawn at random.
The draw depends on the labels and the seed alone, so every machine makes the same list.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from stages.command_line import add_options, output, parser_of, read_options, run
from stages.errors import UserError, require_split, seeds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.datasets.packed import PackedImages


@dataclasses.dataclass(frozen=True)
class Options:
    percent: Annotated[int, "of each class's train images"]
    seed: Annotated[int, "of the draw"] = 0

    def __post_init__(self) -> None:
        seeds(seed=self.seed)
        if not 1 <= self.percent <= 100:
            raise UserError(f"--percent is {self.percent}; expected 1 to 100")


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="the packed train split")
    parser.add_argument("--subset", type=output, required=True, help="the list of rows to write")
    add_options(parser, Options)
    arguments = parser.parse_args(argv)

    from stages.artifacts.subsets import Subset, write_subset
    from stages.datasets.packed import read_pack

    options = read_options(Options, arguments)
    pack = read_pack(arguments.train)
    rows = balanced(pack, options)
    write_subset(arguments.subset, Subset(pack.name, pack.fingerprint, options.percent, str(options.seed), rows))


def balanced(pack: "PackedImages", options: Options) -> "NDArray[np.int64]":
    """The rows drawn from each class in turn, sorted.

    Raises:
        UserError: the images have several classes each, it is not the train split, or a class has no images.
    """
    import numpy as np

    if pack.labels.ndim != 1:
        raise UserError(f"{pack.path}: its images have several classes each; expected one, to draw from class by class")
    require_split(pack.path, pack.split, "train")
    random = np.random.default_rng(options.seed)
    drawn = []
    for label, name in enumerate(pack.classes):
        members = np.flatnonzero(pack.labels == label)
        if not len(members):
            raise UserError(f"{pack.path}: the class {name!r} has no images; expected at least one of each class")
        count = max(1, (len(members) * options.percent + 50) // 100)
        drawn.append(random.choice(members, size=count, replace=False))
    return np.sort(np.concatenate(drawn))


if __name__ == "__main__":
    run(main)

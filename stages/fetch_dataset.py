"""Pack a dataset's train and val splits into one HDF5 file each.

    python -m stages.fetch_dataset --source digits --name digits --train train.h5 --val val.h5
    python -m stages.fetch_dataset --source cifar10 --name cifar10 --train train.h5 --val val.h5 \\
        --downloads results/downloads --workers 4

Images keep their encoded bytes (JPEG, PNG, ...), but for large ones where --short-side makes them small. Each is
decoded once to see that it can be: those that cannot are named, and end the packing unless --skip-corrupt leaves them
out. Both files carry the fingerprint of the whole dataset, by which the later stages refuse what was made from other
data.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from stages.command_line import add_options, add_plugin, output, parser_of, read_options, run
from stages.errors import UserError, at_least, seeds

logger = logging.getLogger("stages")


@dataclasses.dataclass(frozen=True)
class Options:
    """What every dataset takes, whatever its source."""

    train_fraction: Annotated[float, "share of the train images to keep, drawn at random regardless of class"] = 1.0
    val_fraction: Annotated[float, "share of the val images to keep"] = 1.0
    fraction_seed: Annotated[int, "seed of both draws; a smaller share is part of a larger one"] = 0
    skip_corrupt: Annotated[int, "images that may be left out because they do not decode; more are an error"] = 0
    short_side: Annotated[int, "pixels that longer short sides are brought to, as JPEG; 0: every file as it is"] = 0

    def __post_init__(self) -> None:
        for name in ("train_fraction", "val_fraction"):
            if not 0 < getattr(self, name) <= 1:
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag} is {getattr(self, name):g}; expected a number above 0 and up to 1")
        at_least(0, skip_corrupt=self.skip_corrupt, short_side=self.short_side)
        seeds(fraction_seed=self.fraction_seed)


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--name", required=True, help="the dataset's name in the files")
    parser.add_argument("--train", type=output, required=True, help="the packed train split to write")
    parser.add_argument("--val", type=output, required=True, help="the packed val split to write")
    parser.add_argument(
        "--downloads",
        type=Path,
        default=Path("results/downloads"),
        help="the folder that keeps downloaded files (default: results/downloads)",
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that read and check (default: 0, this one)")
    add_options(parser, Options)
    source = add_plugin(parser, argv, "stages.datasets.sources", "source")
    arguments = parser.parse_args(argv)
    at_least(0, workers=arguments.workers)

    from stages.datasets.packed import write_packs
    from stages.datasets.resized import resized
    from stages.datasets.splits import drawn, require_same_classes, without_image

    common = read_options(Options, arguments)
    options = read_options(source.Options, arguments)
    if getattr(options, "path", None) == "":
        if not hasattr(source, "download"):
            raise UserError(
                f"--path is empty, and {arguments.source} has no download; expected the folder that holds it"
            )
        options = dataclasses.replace(options, path=str(source.download(options, arguments.downloads)))
    splits = {split: source.read(options, split) for split in ("train", "val")}
    require_same_classes(splits, arguments.name)
    shares = {"train": common.train_fraction, "val": common.val_fraction}
    for split, images in splits.items():
        splits[split] = drawn(images, shares[split], common.fraction_seed)
        if lost := without_image(splits[split]):
            logger.warning("%s of %s: no image of %d classes was drawn", split, arguments.name, len(lost))
        if common.short_side:
            splits[split] = resized(splits[split], common.short_side, f"dataset {arguments.name}")
    write_packs(
        {getattr(arguments, split): (split, images) for split, images in splits.items()},
        name=arguments.name,
        source=arguments.source,
        skip_corrupt=common.skip_corrupt,
        workers=arguments.workers,
    )


if __name__ == "__main__":
    run(main)

"""Pack a dataset's train and val splits into one HDF5 file each.

    python -m stages.fetch_dataset --source digits --name digits --train train.h5 --val val.h5

Images keep their encoded bytes (JPEG, PNG, ...); nothing is resized. Both files carry the fingerprint of the whole
dataset, by which the later stages refuse what was made from other data.
"""

from collections.abc import Sequence
from pathlib import Path

from stages.command_line import add_plugin, parser_of, read_options, run
from stages.datasets import sources


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--name", required=True, help="the dataset's name in the files")
    parser.add_argument("--train", type=Path, required=True, help="the packed train split to write")
    parser.add_argument("--val", type=Path, required=True, help="the packed val split to write")
    source = add_plugin(parser, argv, sources, "source")
    arguments = parser.parse_args(argv)

    from stages.datasets.packed import write_packs

    options = read_options(source.Options, arguments)
    write_packs(
        {
            arguments.train: ("train", source.read(options, "train")),
            arguments.val: ("val", source.read(options, "val")),
        },
        name=arguments.name,
        source=arguments.source,
    )


if __name__ == "__main__":
    run(main)

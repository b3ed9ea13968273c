"""Join the shards of a dataset's embeddings, by one encoder, to one cache a split, as if it had been written at once.

    python -m stages.join_embeddings --shards 8 --folders teacher-train.shards teacher-val.shards \\
        --embeddings teacher-train.h5 teacher-val.h5

Nothing is copied: a cache is an HDF5 virtual dataset over the shards 1of8.h5 to 8of8.h5 of a folder beside it, and the
folder has to stay where it is to the cache.
"""

from collections.abc import Sequence
from pathlib import Path

from stages.command_line import output, parser_of, run
from stages.errors import UserError, at_least


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--shards", type=int, required=True, help="how many there are of each split")
    parser.add_argument("--folders", type=Path, nargs="+", required=True, help="the folder of each split's shards")
    parser.add_argument("--embeddings", type=output, nargs="+", required=True, help="a file to write for each of them")
    arguments = parser.parse_args(argv)
    if len(arguments.folders) != len(arguments.embeddings):
        parser.error("--folders and --embeddings need as many paths as each other")
    at_least(1, shards=arguments.shards)

    from stages.artifacts import shards

    for folder, path in zip(arguments.folders, arguments.embeddings, strict=True):
        if folder.parent != path.parent:
            raise UserError(f"{folder}: is not beside {path}; expected both in one folder, which may move as a whole")
        shards.join(path, folder, arguments.shards)


if __name__ == "__main__":
    run(main)

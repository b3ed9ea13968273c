"""Draw the measured numbers, the training curves, the images of some clusters, or a table beside what is reported.

    python -m stages.plot bars --metrics results/metrics/*/*.json --figure bars.png
    python -m stages.plot curves --histories a/history.csv b/history.csv --names a b --figure curves.png
    python -m stages.plot clusters --assignments clusters.h5 --images val.h5 --split val --figure clusters.png
    python -m stages.plot table-lines --table table.csv --over rows --x temperature --y accuracy --figure lines.png
    python -m stages.plot table-bars --table table.csv --references Teacher --figure bars.png

A figure is a PNG, SVG or PDF file, by its name. Equal inputs give equal files, to the byte.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stages.command_line import output, parser_of, run
from stages.errors import seeds


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    if arguments.kind == "bars":
        from stages.figures import bars

        bars.draw(arguments.metrics, arguments.figure)
    elif arguments.kind == "curves":
        from stages.figures import curves

        curves.draw(arguments.histories, arguments.names, arguments.figure)
    elif arguments.kind == "table-lines":
        from stages.figures import lines

        lines.draw(arguments.table, arguments.over, arguments.references, arguments.x, arguments.y, arguments.figure)
    elif arguments.kind == "table-bars":
        from stages.figures import table_bars

        table_bars.draw(arguments.table, arguments.references, arguments.y, arguments.figure)
    else:
        from stages.figures import clusters

        seeds(seed=arguments.seed)
        clusters.draw(
            arguments.assignments,
            arguments.images,
            arguments.split,
            arguments.figure,
            rows=arguments.rows,
            columns=arguments.columns,
            seed=arguments.seed,
        )


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)

    bars = _kind(kinds, "bars", "what was measured, of each teacher, its students and their references")
    bars.add_argument("--metrics", type=Path, nargs="+", required=True, help="the JSON files of all evaluations")

    curves = _kind(kinds, "curves", "the training loss of each encoder")
    curves.add_argument("--histories", type=Path, nargs="+", required=True, help="the CSV files of the trainings")
    curves.add_argument("--names", nargs="+", required=True, help="the encoders' names, in the same order")

    clusters = _kind(kinds, "clusters", "random images of random clusters, of the first k-means run")
    clusters.add_argument("--assignments", type=Path, required=True, help="the cluster of each image")
    clusters.add_argument("--images", type=Path, required=True, help="the packed split that was clustered")
    clusters.add_argument("--split", choices=("train", "val"), default="val", help="which split that is (default: val)")
    clusters.add_argument("--rows", type=_count, default=10, help="clusters to show (default: 10)")
    clusters.add_argument("--columns", type=_count, default=12, help="images of each (default: 12)")
    clusters.add_argument("--seed", type=int, default=0, help="of both choices (default: 0)")

    text = "what was measured beside what is reported, "
    lines = _kind(kinds, "table-lines", text + "over groups, columns or rows that are numbers")
    axes = ("groups", "columns", "rows")
    lines.add_argument("--over", choices=axes, required=True, help="which of the table's labels are those numbers")
    lines.add_argument("--x", default="", help="what those numbers are (default: nothing)")
    for table in (lines, _kind(kinds, "table-bars", text + "in groups")):
        table.add_argument("--table", type=Path, required=True, help="the CSV that write_table wrote")
        table.add_argument("--y", default="", help="what is measured (default: the name of the value)")
        table.add_argument("--references", nargs="*", default=[], help="rows to show in grey (default: none)")
    return parser


def _kind(
    kinds: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    """A subcommand that writes a figure."""
    parser = kinds.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.add_argument("--figure", type=output, required=True, help="the PNG, SVG or PDF file to write")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    run(main)

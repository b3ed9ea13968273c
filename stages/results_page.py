"""Gather an experiment's tables and figures on one page.

    python -m stages.results_page --about "What it is." --claims results/tables/claims.md \\
        --table "Table A" results/tables/a.md results/tables/a.csv results/figures/a.png \\
        --comparison results/tables/comparison.md results/figures/comparison.png --page results/results.md

The page begins with what the experiment is, with what was measured of each table, and what was not, and with the
claims about the tables. It holds the tables and links to the figures, by where they are from the page: page and figures
can be moved together.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from stages.artifacts.rows import read_rows
from stages.command_line import output, parser_of, run
from stages.tables import markdown
from stages.tables.layout import Entry, Table

COLUMNS = ("row", "mean", "dataset", "n_train", "n_val")

INTRODUCTION = """\
# Results

Made by the workflow; each number's file is in `results/metrics`.
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    words = ("TITLE", "MARKDOWN CSV FIGURE")
    parser.add_argument(
        "--table", nargs="+", action="append", default=[], metavar=words, help="a table, what to call it, its figures"
    )
    parser.add_argument("--about", default="", help="what the page begins with, in Markdown (default: nothing)")
    parser.add_argument(
        "--claims", type=Path, help="what judge_claims wrote of claims about the tables (default: none)"
    )
    parser.add_argument(
        "--comparison", type=Path, nargs="+", metavar=("MARKDOWN", "FIGURE"), help="the table of all, and its figures"
    )
    parser.add_argument("--page", type=output, required=True, help="the Markdown file to write")
    arguments = parser.parse_args(argv)

    from stages.artifacts.atomic import write_text

    if any(len(words) < 3 for words in arguments.table):
        parser.error("--table takes a title, a Markdown and a CSV file, and figures")
    tables = [(title, [Path(file) for file in files]) for title, *files in arguments.table]
    blocks = [INTRODUCTION.rstrip("\n"), *filter(None, [arguments.about.strip("\n")])]
    if tables:
        blocks.append(overview(tables))
    if arguments.claims:
        blocks.append(arguments.claims.read_text().rstrip("\n"))
    for table, _, *figures in (files for _, files in tables):
        blocks += [table.read_text().rstrip("\n"), *_links(figures, arguments.page)]
    if arguments.comparison:
        table, *figures = arguments.comparison
        blocks += ["## All that was measured", table.read_text().rstrip("\n"), *_links(figures, arguments.page)]
    write_text(arguments.page, "\n\n".join(blocks) + "\n")


def _links(figures: Sequence[Path], page: Path) -> Iterator[str]:
    for figure in figures:
        yield f"![{figure.stem}]({Path(os.path.relpath(figure, page.parent)).as_posix()})"


def overview(tables: Sequence[tuple[str, Sequence[Path]]]) -> str:
    """A row for each table with its title: on what it was measured, and how much of it was not."""
    rows = []
    for title, (_, numbers, *_) in tables:
        cells = read_rows(numbers, COLUMNS, "write_table")
        rows.append((title, [Entry(text) for text in _summary(cells)]))
    columns = ("measured on", "cells measured", "only reported", "rows not run")
    return markdown.table(Table(corner="table", spans=[], columns=columns, parts=[rows]))


def _summary(cells: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    measured = [cell for cell in cells if cell["mean"]]
    ran = {cell["row"] for cell in measured}
    missing = dict.fromkeys(cell["row"] for cell in cells if cell["row"] not in ran)
    return ", ".join(_datasets(measured)), str(len(measured)), str(len(cells) - len(measured)), ", ".join(missing)


def _datasets(cells: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Each dataset once, with all counts of images that cells have; some, as retrieval's, have none to train on."""
    for dataset in dict.fromkeys(cell["dataset"] for cell in cells):
        counted = [cell for cell in cells if cell["dataset"] == dataset and cell["n_train"] not in ("", "0")]
        counts = dict.fromkeys(f"{cell['n_train']}/{cell['n_val']}" for cell in counted)
        yield f"{dataset} ({', '.join(counts)})" if counts else dataset


if __name__ == "__main__":
    run(main)

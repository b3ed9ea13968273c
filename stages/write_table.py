"""Lay out what was measured beside what a paper reports.

    python -m stages.write_table --rows Teacher Ours --columns Linear NN \\
        --cell "" Teacher Linear top1 results/metrics/teacher/digits-linear.json \\
        --cell "" Ours NN "" results/metrics/student--seed?/digits-knn.json \\
        --paper workflow/papers/compress.yaml --table table-1 --markdown table.md --csv table.csv --latex table.tex

A cell is its group ("" without groups), row, column, the name of a value ("" for top1, ca or the first), and the
metrics files of one encoder or of all its seeds, which are averaged. What the paper alone has is marked as not run.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.command_line import output, parser_of, run
from stages.errors import UserError
from stages.tables.reported import Place
from stages.tables.tidy import facts_of

if TYPE_CHECKING:
    from stages.tables.content import Content

CSV_COLUMNS = (
    "group",
    "row",
    "column",
    "value",
    "unit",
    "mean",
    "std",
    "seeds",
    "repeats",
    "dataset",
    "n_train",
    "n_val",
    "reported",
    "reported_deviation",
    "difference",
    "protocol",
    "encoders",
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    words = ("GROUP", "ROW COLUMN VALUE FILE")
    parser.add_argument("--cell", nargs="+", action="append", default=[], metavar=words, help="see above; once a cell")
    parser.add_argument("--groups", nargs="+", default=[""], help="the groups' headings, in order (default: no groups)")
    parser.add_argument(
        "--rows", nargs="+", required=True, help="the rows' labels, in order; the paper's own come first"
    )
    parser.add_argument("--columns", nargs="+", required=True, help="the columns' headings, in order")
    parser.add_argument("--references", nargs="*", default=[], help="the rows that are no competitors (default: none)")
    parser.add_argument("--paper", type=Path, help="the YAML file of what a paper reports (default: none)")
    parser.add_argument("--table", default="table-1", help="which of its tables (default: table-1)")
    parser.add_argument(
        "--comparable",
        choices=("true", "false"),
        default="true",
        help="false: the data or the architectures are not the paper's, so show no differences (default: true)",
    )
    parser.add_argument("--title", default="", help="above the table (default: the paper's)")
    parser.add_argument("--note", default="", help="under the table (default: none)")
    parser.add_argument("--markdown", type=output, required=True, help="the Markdown table to write")
    parser.add_argument("--csv", type=output, required=True, help="the CSV to write")
    parser.add_argument("--latex", type=output, required=True, help="the LaTeX table to write; it needs booktabs")
    arguments = parser.parse_args(argv)

    from stages.artifacts.atomic import write_text
    from stages.artifacts.rows import write_rows
    from stages.tables import latex, markdown
    from stages.tables.content import Content, check_units, notes_of, read_measured, tables_of
    from stages.tables.reported import read_reported

    reported = read_reported(arguments.paper, arguments.table) if arguments.paper else None
    content = Content(
        groups=tuple(arguments.groups),
        rows=tuple(arguments.rows),
        columns=tuple(arguments.columns),
        references=tuple(arguments.references),
        measured=read_measured(map(_cell, arguments.cell)),
        reported=reported,
        comparable=arguments.comparable == "true",
    )
    check_units(content)
    title = arguments.title or (reported.title if reported else "")
    tables, notes = tables_of(content), notes_of(content, arguments.note)
    heading = [f"## {markdown.escaped(title)}"] if title else []
    text = "\n\n".join([*heading, *map(markdown.table, tables), markdown.notes(notes)]) + "\n"
    write_text(arguments.markdown, text)
    write_rows(arguments.csv, CSV_COLUMNS, tidy(content))
    write_text(arguments.latex, latex.PREAMBLE + latex.floating(title, tables, notes))
    print(text, end="")


def _cell(words: Sequence[str]) -> tuple[Place, str, list[Path]]:
    """A ``--cell``: its place, its value's name, its files."""
    if len(words) < 5:
        raise UserError(
            f"--cell {' '.join(words)}: expected a group, a row, a column, a value's name and metrics files"
        )
    group, row, column, value, *paths = words
    return Place(group, row, column), value, [Path(path) for path in paths]


def tidy(content: "Content") -> Iterator[dict[str, object]]:
    """All cells by the CSV's columns, those that are only reported as well."""
    places = [Place(group, row, column) for row in content.all_rows for group, column in content.places]
    facts = ((place, dict(_facts(content, place))) for place in places)
    return ({**place._asdict(), **known} for place, known in facts if known)


def _facts(content: "Content", place: Place) -> Iterator[tuple[str, object]]:
    """What is known of a cell, by the CSV's column."""
    if measured := content.measured.get(place):
        yield from facts_of(measured.cell, measured.value)
    if number := content.numbers.get(place):
        yield "reported", number.value
        if number.deviation is not None:
            yield "reported_deviation", number.deviation
    difference = content.difference(place)
    if difference is not None:
        yield "difference", round(difference, 6)


if __name__ == "__main__":
    run(main)

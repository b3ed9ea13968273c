"""Lay out the metrics of a teacher, its students and their references as in CompRess's Table 1.

    python -m stages.write_comparison --metrics results/metrics/*/*.json --markdown table.md --csv table.csv \\
        --latex table.tex

Reads metrics files and nothing else: an encoder's card in them says whether it is a teacher, a student or a reference.
The Markdown and the LaTeX table show one value of each evaluation; the CSV holds them all, one in a line. Students
that differ in nothing but their seed share a cell; if each has a teacher of its own, trained along, so do the teachers,
in a row for each method. A dataset has a table of its own, and so has an evaluation whose values have units.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.command_line import output, parser_of, run
from stages.tables import latex, markdown
from stages.tables.layout import MISSING, Entry, Table
from stages.tables.notes import DEVIATION, devices, images, repeats, seeds
from stages.tables.tidy import facts_of

if TYPE_CHECKING:
    from stages.tables.comparison import Comparison, Row
    from stages.tables.results import Cell


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="the JSON files of all evaluations")
    parser.add_argument("--markdown", type=output, required=True, help="the Markdown table to write")
    parser.add_argument("--csv", type=output, required=True, help="the CSV of all values to write")
    parser.add_argument("--latex", type=output, required=True, help="the LaTeX table to write; it needs booktabs")
    arguments = parser.parse_args(argv)

    from stages.artifacts.atomic import write_text
    from stages.artifacts.rows import write_rows
    from stages.tables.comparison import read_comparisons

    comparisons = read_comparisons(arguments.metrics)
    text = written_in_markdown(comparisons)
    write_text(arguments.markdown, text)
    write_rows(arguments.csv, CSV_COLUMNS, tidy(comparisons))
    write_text(arguments.latex, written_in_latex(comparisons))
    print(text, end="")


def tables_of(comparison: "Comparison") -> list[Table]:
    """The table of the groups and that of the encoders outside them, whichever there are."""
    from stages.tables.results import heading

    headings = [heading(evaluation) for evaluation in comparison.evaluations]
    tables = []
    if comparison.groups and headings:
        references = [row for row in comparison.rows if row.kind != "method"]
        methods = [row for row in comparison.rows if row.kind == "method"]
        tables.append(
            Table(
                corner="Teacher → student",
                spans=[(str(group), len(headings)) for group in comparison.groups],
                columns=headings * len(comparison.groups),
                parts=[
                    [(comparison.label(row), _entries(comparison, row)) for row in part]
                    for part in (references, methods)
                    if part
                ],
            )
        )
    others = [name for name in comparison.others if any(comparison.cell_of(name, e) for e in comparison.evaluations)]
    if others:
        rows = [
            (_described(comparison, name), [Entry(_shown(comparison.cell_of(name, e))) for e in comparison.evaluations])
            for name in others
        ]
        corner = "Other encoders" if comparison.groups else "Encoder"
        tables.append(Table(corner=corner, spans=[], columns=headings, parts=[rows]))
    return [*tables, *(_cost_table(comparison, name) for name in comparison.costs)]


def _cost_table(comparison: "Comparison", evaluation: str) -> Table:
    """All values of an evaluation that measures in units, a row an encoder."""
    encoders, values = comparison.encoders_of(evaluation), comparison.values(evaluation)
    cells = [[comparison.cell_of(name, evaluation, value) for value in values] for name in encoders]
    units = [next((cell.unit for cell in column if cell), None) for column in zip(*cells, strict=True)]
    return Table(
        corner=evaluation,
        spans=[],
        columns=[f"{value} ({unit})" if unit else value for value, unit in zip(values, units, strict=True)],
        parts=[
            [
                (_described(comparison, name), [Entry(_shown(cell)) for cell in row])
                for name, row in zip(encoders, cells, strict=True)
            ]
        ],
    )


def _entries(comparison: "Comparison", row: "Row") -> list[Entry]:
    entries = []
    for group in comparison.groups:
        for evaluation in comparison.evaluations:
            cell = comparison.cell(group, row, evaluation)
            best = (
                row.kind == "method" and cell is not None and f"{cell.mean:.1f}" == comparison.best(group, evaluation)
            )
            entries.append(Entry(_shown(cell), strong=_shown(cell) if best else ""))
    return entries


def _shown(cell: "Cell | None") -> str:
    return MISSING if cell is None else str(cell)


def _described(comparison: "Comparison", encoder: str) -> str:
    (architecture,) = {result.architecture for result in comparison.results if result.encoder == encoder}
    return f"{encoder} ({architecture})"


def notes_of(comparison: "Comparison") -> list[str]:
    """What a reader of the table must know: the images, each evaluation's protocol, the seeds, the signs."""
    entries = [entry.text for table in tables_of(comparison) for entry in table.entries]
    notes = [*_measured(comparison), *_seeds(comparison)]
    if any("±" in text for text in entries):
        notes.append(DEVIATION)
    if any(row.kind == "method" for row in comparison.rows):
        notes.append("Bold: the best distillation method of the column.")
    if MISSING in entries:
        notes.append(f"{MISSING}: not run.")
    return notes


def _measured(comparison: "Comparison") -> Iterator[str]:
    """The dataset and the evaluations; the numbers of images are the dataset's, or each evaluation's if they differ."""
    from stages.tables.results import heading

    metrics = {result.metrics.evaluation: result.metrics for result in comparison.results}
    counts = {name: images(each.n) for name, each in metrics.items()}
    alike = len({count for count in counts.values() if count}) == 1
    yield f"Dataset: {comparison.dataset}" + (f"{max(counts.values())}." if alike else ".")
    for name in (*comparison.evaluations, *comparison.costs):
        cells = [cell for encoder in comparison.encoders_of(name) if (cell := comparison.cell_of(encoder, name))]
        what = f"{comparison.shown(name)} in percent; " if name in comparison.evaluations else ""
        yield (
            f"{heading(name)}: {what}{metrics[name].protocol}{repeats(cells)}{devices(cells)}"
            + ("." if alike or not counts[name] else f"; {counts[name].removeprefix(', ')}.")
        )


def _seeds(comparison: "Comparison") -> Iterator[str]:
    from stages.tables.comparison import TEACHER
    from stages.tables.results import heading

    places = [(group, evaluation) for group in comparison.groups for evaluation in comparison.evaluations]
    yield from seeds(
        {
            comparison.label(row): [
                (f"{group} {heading(evaluation)}", cell)
                for group, evaluation in places
                if (cell := comparison.cell(group, row, evaluation))
            ]
            for row in comparison.rows
            if row != TEACHER
        }
    )


def written_in_markdown(comparisons: Sequence["Comparison"]) -> str:
    """The tables as GitHub shows them, each with its notes as a list."""
    blocks = []
    for comparison in comparisons:
        if len(comparisons) > 1:
            blocks.append(f"### {markdown.escaped(comparison.dataset)}")
        blocks += [markdown.table(table) for table in tables_of(comparison)]
        blocks.append(markdown.notes(notes_of(comparison)))
    return "\n\n".join(blocks) + "\n"


def written_in_latex(comparisons: Sequence["Comparison"]) -> str:
    """A ``table`` for each dataset, to be included in a document that uses booktabs."""
    floats = (latex.floating(each.dataset, tables_of(each), notes_of(each)) for each in comparisons)
    return latex.PREAMBLE + "\n".join(floats)


CSV_COLUMNS = (
    "dataset",
    "teacher",
    "teacher_architecture",
    "student_architecture",
    "row",
    "evaluation",
    "value",
    "unit",
    "mean",
    "std",
    "seeds",
    "repeats",
    "n_train",
    "n_val",
    "protocol",
    "encoders",
)


def tidy(comparisons: Sequence["Comparison"]) -> Iterator[dict[str, object]]:
    """All values by the CSV's columns."""
    return (
        {**place, "evaluation": evaluation, **dict(facts_of(cell, value))}
        for comparison in comparisons
        for evaluation in (*comparison.evaluations, *comparison.costs)
        for value in comparison.values(evaluation)
        for place, cell in _cells(comparison, evaluation, value)
    )


def _cells(comparison: "Comparison", evaluation: str, value: str) -> Iterator[tuple[dict[str, str], "Cell"]]:
    """All that was measured, with its place in the columns of the CSV."""
    for group in comparison.groups:
        for row in comparison.rows:
            if cell := comparison.cell(group, row, evaluation, value):
                place = {
                    "teacher": group.teacher,
                    "teacher_architecture": group.teacher_architecture or "",
                    "student_architecture": group.architecture,
                    "row": comparison.label(row),
                }
                yield place, cell
    for name in comparison.others:
        if cell := comparison.cell_of(name, evaluation, value):
            yield {"student_architecture": cell.results[0].architecture, "row": name}, cell


if __name__ == "__main__":
    run(main)

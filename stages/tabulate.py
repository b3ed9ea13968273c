"""Lay out the metrics of a teacher, its students and their references as in CompRess's Table 1.

    python -m stages.tabulate --metrics results/metrics/*/*.json --markdown table.md --csv table.csv --latex table.tex

Reads metrics files and nothing else: an encoder's card in them says whether it is a teacher, a student or a reference.
The Markdown and the LaTeX table show one value of each evaluation; the CSV holds them all, one in a line. Students
that differ in nothing but their seed share a cell. A dataset has a table of its own.
"""

import csv
import dataclasses
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.command_line import parser_of, run

if TYPE_CHECKING:
    from stages.figures.comparison import Cell, Comparison, Row

MISSING = "\N{EN DASH}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="the JSON files of all evaluations")
    parser.add_argument("--title", default="", help="above the table (default: none)")
    parser.add_argument("--markdown", type=Path, required=True, help="the Markdown table to write")
    parser.add_argument("--csv", type=Path, required=True, help="the CSV of all values to write")
    parser.add_argument("--latex", type=Path, required=True, help="the LaTeX table to write; it needs booktabs")
    arguments = parser.parse_args(argv)

    from stages.artifacts.atomic import write_text
    from stages.figures.comparison import read_comparisons

    comparisons = read_comparisons(arguments.metrics)
    text = markdown(comparisons, arguments.title)
    write_text(arguments.markdown, text)
    write_text(arguments.csv, tidy(comparisons))
    write_text(arguments.latex, latex(comparisons, arguments.title))
    print(text, end="")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A cell's text, bold if it is the best of its column."""

    text: str
    bold: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """``spans``, (heading, columns) of each group, above ``columns``; ``rows`` in two parts, references and methods."""

    corner: str
    spans: Sequence[tuple[str, int]]
    columns: Sequence[str]
    parts: Sequence[Sequence[tuple[str, Sequence[Entry]]]]


def tables_of(comparison: "Comparison") -> list[Table]:
    """The table of the groups and that of the encoders outside them, whichever there are."""
    from stages.figures.comparison import heading

    headings = [heading(evaluation) for evaluation in comparison.evaluations]
    tables = []
    if comparison.groups:
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
    if comparison.others:
        rows = [
            (_described(comparison, name), [Entry(_shown(comparison.cell_of(name, e))) for e in comparison.evaluations])
            for name in comparison.others
        ]
        corner = "Other encoders" if comparison.groups else "Encoder"
        tables.append(Table(corner=corner, spans=[], columns=headings, parts=[rows]))
    return tables


def _entries(comparison: "Comparison", row: "Row") -> list[Entry]:
    entries = []
    for group in comparison.groups:
        for evaluation in comparison.evaluations:
            cell = comparison.cell(group, row, evaluation)
            best = (
                row.kind == "method" and cell is not None and f"{cell.mean:.1f}" == comparison.best(group, evaluation)
            )
            entries.append(Entry(_shown(cell), best))
    return entries


def _shown(cell: "Cell | None") -> str:
    return MISSING if cell is None else str(cell)


def _described(comparison: "Comparison", encoder: str) -> str:
    (architecture,) = {result.architecture for result in comparison.results if result.encoder == encoder}
    return f"{encoder} ({architecture})"


def notes_of(comparison: "Comparison") -> list[str]:
    """What a reader of the table must know: the images, each evaluation's protocol, the seeds, the signs."""
    entries = [
        entry.text for table in tables_of(comparison) for part in table.parts for _, row in part for entry in row
    ]
    notes = [*_measured(comparison), *_seeds(comparison)]
    if any("±" in text for text in entries):
        notes.append(
            "±: the sample standard deviation over the seeds of the encoder or, of a single encoder, over the repeats "
            "of the evaluation."
        )
    if any(row.kind == "method" for row in comparison.rows):
        notes.append("Bold: the best distillation method of the column.")
    if MISSING in entries:
        notes.append(f"{MISSING}: not run.")
    return notes


def _measured(comparison: "Comparison") -> Iterator[str]:
    """The dataset and the evaluations; the numbers of images are the dataset's, or each evaluation's if they differ."""
    from stages.figures.comparison import heading

    results = {result.metrics.evaluation: result for result in comparison.results}
    images = {name: f"{r.metrics.n['train']} train and {r.metrics.n['val']} val images" for name, r in results.items()}
    alike = len(set(images.values())) == 1
    yield f"Dataset: {comparison.dataset}" + (f", {images[comparison.evaluations[0]]}." if alike else ".")
    for name in comparison.evaluations:
        repeats = _repeats(comparison, name)
        yield (
            f"{heading(name)}: {comparison.shown(name)} in percent; {results[name].metrics.protocol}"
            + (f"; mean of {repeats} repeats" if repeats != "1" else "")
            + ("." if alike else f"; {images[name]}.")
        )


def _repeats(comparison: "Comparison", evaluation: str) -> str:
    """How often the evaluation was repeated on each encoder: a number, or the smallest and the largest."""
    encoders = dict.fromkeys(result.encoder for result in comparison.results)
    cells = [comparison.cell_of(name, evaluation) for name in encoders]
    counts = [cell.repeats for cell in cells if cell]
    return " to ".join(str(count) for count in dict.fromkeys((min(counts), max(counts))))


def _seeds(comparison: "Comparison") -> Iterator[str]:
    """The seeds behind each row; a downloaded encoder's are not known."""
    texts = [
        f"{comparison.label(row)} {seeds}"
        for row in comparison.rows
        if row.kind != "teacher" and (seeds := _seeds_of(comparison, row))
    ]
    if texts:
        yield f"Seeds: {'; '.join(texts)}."


def _seeds_of(comparison: "Comparison", row: "Row") -> str:
    """The seeds of most of the row's cells, then those of the others."""
    from stages.figures.comparison import heading

    columns: dict[str, list[str]] = {}
    for group in comparison.groups:
        for evaluation in comparison.evaluations:
            cell = comparison.cell(group, row, evaluation)
            if cell and None not in cell.seeds:
                seeds = ", ".join(map(str, sorted(seed for seed in cell.seeds if seed is not None)))
                columns.setdefault(seeds, []).append(f"{group} {heading(evaluation)}")
    usual = max(columns, key=lambda seeds: len(columns[seeds]), default="")
    exceptions = [f"{seeds} in {', '.join(where)}" for seeds, where in columns.items() if seeds != usual]
    return usual + (f" (but {'; '.join(exceptions)})" if exceptions else "")


def markdown(comparisons: Sequence["Comparison"], title: str) -> str:
    """The tables as GitHub shows them, each with its notes as a list."""
    blocks = [f"## {_in_markdown(title)}"] if title else []
    for comparison in comparisons:
        if len(comparisons) > 1:
            blocks.append(f"### {_in_markdown(comparison.dataset)}")
        blocks += [_markdown_table(table) for table in tables_of(comparison)]
        blocks.append("\n".join(f"- {_in_markdown(note)}" for note in notes_of(comparison)))
    return "\n\n".join(blocks) + "\n"


def _markdown_table(table: Table) -> str:
    """Padded, so that it reads as text as well; Markdown has no spans, so a group's heading is on its first column."""
    evaluations = ["Evaluation" if table.spans else table.corner, *table.columns]
    groups = [table.corner, *(text for name, span in table.spans for text in (name, *[""] * (span - 1)))]
    rows = [list(map(_in_markdown, line)) for line in ([groups, evaluations] if table.spans else [evaluations])]
    for part in table.parts:
        for label, entries in part:
            texts = [f"**{entry.text}**" if entry.bold else entry.text for entry in entries]
            rows.append([_in_markdown(label), *texts])
    widths = [max(len(row[column]) for row in rows) for column in range(len(evaluations))]
    lines = ["| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |" for row in rows]
    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def _in_markdown(text: str) -> str:
    return re.sub(r"([\\|*<`])", r"\\\1", text)


def latex(comparisons: Sequence["Comparison"], title: str) -> str:
    """A ``table`` for each dataset, to be included in a document that uses booktabs."""
    return "% \\usepackage{booktabs}\n" + "\n".join(_latex_float(comparison, title) for comparison in comparisons)


def _latex_float(comparison: "Comparison", title: str) -> str:
    caption = f"{title} ({comparison.dataset})" if title else comparison.dataset
    tabulars = "\n\n\\medskip\n".join(_latex_table(table) for table in tables_of(comparison))
    notes = "\\par\n".join(_in_latex(note) for note in notes_of(comparison))
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{_in_latex(caption)}}}\n{tabulars}\n\n\\smallskip\n"
        f"\\begin{{minipage}}{{\\linewidth}}\\footnotesize\n{notes}\n\\end{{minipage}}\n\\end{{table}}\n"
    )


def _latex_table(table: Table) -> str:
    lines = [f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}", "\\toprule"]
    if table.spans:
        spans = "".join(f" & \\multicolumn{{{span}}}{{c}}{{{_in_latex(name)}}}" for name, span in table.spans)
        lines.append(f"{_in_latex(table.corner)}{spans} \\\\")
        ends = [2 + sum(span for _, span in table.spans[:index]) for index in range(len(table.spans) + 1)]
        lines.append("".join(f"\\cmidrule(lr){{{a}-{b - 1}}}" for a, b in itertools.pairwise(ends)))
    lines.append(" & ".join(map(_in_latex, ["" if table.spans else table.corner, *table.columns])) + " \\\\")
    for part in table.parts:
        lines.append("\\midrule")
        for label, entries in part:
            texts = [_in_latex(e.text) if not e.bold else f"\\textbf{{{_in_latex(e.text)}}}" for e in entries]
            lines.append(" & ".join([_in_latex(label), *texts]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


LATEX = {
    **{character: f"\\{character}" for character in "_&%$#{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": "$\\pm$",
    "→": "$\\to$",
    MISSING: "--",
}


def _in_latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


CSV_COLUMNS = (
    "dataset",
    "teacher",
    "teacher_architecture",
    "student_architecture",
    "row",
    "evaluation",
    "value",
    "mean",
    "std",
    "encoder_seeds",
    "repeats",
    "n_train",
    "n_val",
    "protocol",
    "encoders",
)


def tidy(comparisons: Sequence["Comparison"]) -> str:
    """All values as CSV, one in a line; ``std`` is over the encoders if ``encoder_seeds`` > 1, else the repeats."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for comparison in comparisons:
        for evaluation in comparison.evaluations:
            for value in comparison.values(evaluation):
                for *place, cell in _cells(comparison, evaluation, value):
                    writer.writerow([comparison.dataset, *place, evaluation, value, *_numbers(cell)])
    return text.getvalue()


def _cells(comparison: "Comparison", evaluation: str, value: str) -> Iterator[tuple[str, str, str, str, "Cell"]]:
    """The teacher, its architecture, the student architecture and row, with the cell, of all that was measured."""
    for group in comparison.groups:
        for row in comparison.rows:
            if cell := comparison.cell(group, row, evaluation, value):
                yield group.teacher, group.teacher_architecture or "", group.architecture, comparison.label(row), cell
    for name in comparison.others:
        if cell := comparison.cell_of(name, evaluation, value):
            yield "", "", cell.results[0].architecture, name, cell


def _numbers(cell: "Cell") -> list[str | int | float]:
    metrics = cell.results[0].metrics
    return [
        round(cell.mean, 6),
        "" if cell.std is None else round(cell.std, 6),
        len(cell.results),
        cell.repeats,
        metrics.n["train"],
        metrics.n["val"],
        metrics.protocol,
        " ".join(result.encoder for result in cell.results),
    ]


if __name__ == "__main__":
    run(main)

"""Judge what papers claim by the tables of what was measured.

    python -m stages.judge_claims --claim "Small temperatures matter" results/tables/temperature.csv 0 0.04 0.1 1.0 \\
        --claim "Caching costs under a point" results/tables/caching.csv -1 Cached Live \\
        --markdown claims.md --csv claims.csv

A claim is its text, a table, a margin, a row that is said to be better, and the rows that it is said to be better than
by more than the margin, in every column and group. A margin of -1 says: at most one point worse.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.command_line import output, parser_of, run
from stages.errors import UserError
from stages.tables import markdown
from stages.tables.layout import MISSING, Entry, Table, signed

if TYPE_CHECKING:
    from stages.tables.claims import Claim, Pair

    Judged = tuple[Claim, Path, Sequence[Pair]]

NOTES = (
    "Each cell: by how much the better row is above the other, in the unit of the table, and whether the claim holds. "
    "Welch's t-test over the seeds says so, one-sided at 5%, either way; else the difference is within noise. Of one "
    "seed there is no verdict.",
    "The seeds are those of the students alone: teacher, images and split are the same for all rows, and others might "
    "change a verdict. Where two rows are equal, one verdict in ten is wrong.",
)

CSV_COLUMNS = ("claim", "table", "group", "column", "better", "worse", "margin", "difference", "reported", "verdict")


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    words = ("TEXT", "TABLE MARGIN BETTER WORSE")
    parser.add_argument("--claim", nargs="+", action="append", required=True, metavar=words, help="see above; a claim")
    parser.add_argument("--markdown", type=output, required=True, help="the Markdown text to write")
    parser.add_argument("--csv", type=output, required=True, help="the CSV of all comparisons to write")
    arguments = parser.parse_args(argv)

    from stages.artifacts.atomic import write_text
    from stages.artifacts.rows import write_rows
    from stages.tables.points import read_points

    judged: list[Judged] = []
    for words in arguments.claim:
        claim, table = _claim(words)
        pairs = list(claim.pairs(read_points(table)))
        if not pairs:
            raise UserError(f"{table}: has no column in which both {claim.better} and one of the others was measured")
        judged.append((claim, table, pairs))
    text = written_in_markdown(judged)
    write_text(arguments.markdown, text)
    write_rows(arguments.csv, CSV_COLUMNS, _facts(judged))
    print(text, end="")


def _claim(words: Sequence[str]) -> "tuple[Claim, Path]":
    """A ``--claim``, and the table that it is about."""
    from stages.tables.claims import Claim

    try:
        text, table, margin, better, *worse = words
        return Claim(text, better, tuple(worse), float(margin)), Path(table)
    except ValueError:
        raise UserError(
            f"--claim {' '.join(words)}: expected a text, a table, a margin, a row and the rows it is better than"
        ) from None


def written_in_markdown(judged: "Sequence[Judged]") -> str:
    """How many comparisons each claim holds in, then the comparisons themselves."""
    blocks = ["## What is claimed, and whether it holds here", markdown.table(_overview(judged))]
    for claim, _, pairs in judged:
        blocks += [f"### {markdown.escaped(claim.text)}", markdown.table(_table(claim, pairs))]
    return "\n\n".join([*blocks, markdown.notes(NOTES)]) + "\n"


def _overview(judged: "Sequence[Judged]") -> Table:
    from stages.tables.claims import VERDICTS

    rows = []
    for claim, _, pairs in judged:
        counts = Counter(pair.verdict for pair in pairs)
        rows.append((claim.text, [Entry(str(counts[verdict] or "")) for verdict in VERDICTS]))
    return Table(corner="comparisons in which it", spans=[], columns=VERDICTS, parts=[rows])


def _table(claim: "Claim", pairs: "Sequence[Pair]") -> Table:
    """A row for each row that is said to be worse, a column for each column and group of the table."""
    found = {(c.worse.row, c.worse.group, c.worse.column): c for c in pairs}
    groups = dict.fromkeys(group for _, group, _ in found)
    columns = dict.fromkeys(column for *_, column in found)
    entries = {row: [found.get((row, group, column)) for group in groups for column in columns] for row in claim.worse}
    return Table(
        corner="" if any(groups) else claim.said,
        under=claim.said,
        spans=[(group, len(columns)) for group in groups if group],
        columns=list(columns) * len(groups),
        parts=[[(row, [_entry(c) if c else Entry(MISSING) for c in cells]) for row, cells in entries.items()]],
    )


def _entry(pair: "Pair") -> Entry:
    """As in ``+3.1 holds (paper +4.6)``, bold if it holds."""
    first = f"{signed(pair.difference)} {pair.verdict}"
    beside = "" if pair.reported is None else f" (paper {signed(pair.reported)})"
    return Entry(first + beside, strong=first if pair.verdict == "holds" else "")


def _facts(judged: "Sequence[Judged]") -> Iterator[dict[str, object]]:
    for claim, table, pairs in judged:
        for pair in pairs:
            yield {
                "claim": claim.text,
                "table": table.stem,
                "group": pair.better.group,
                "column": pair.better.column,
                "better": claim.better,
                "worse": pair.worse.row,
                "margin": claim.margin,
                "difference": round(pair.difference, 6),
                "reported": "" if pair.reported is None else round(pair.reported, 6),
                "verdict": pair.verdict,
            }


if __name__ == "__main__":
    run(main)

"""Tables as GitHub's Markdown shows them."""

import re
from collections.abc import Sequence

from stages.tables.layout import Entry, Table


def table(table: Table) -> str:
    """Padded, so that it reads as text as well; Markdown has no spans, so a group's heading is on its first column."""
    columns = [table.under if table.spans else table.corner, *table.columns]
    groups = [table.corner, *(text for name, span in table.spans for text in (name, *[""] * (span - 1)))]
    rows = [list(map(escaped, line)) for line in ([groups, columns] if table.spans else [columns])]
    rows += [[escaped(label), *map(_cell, entries)] for part in table.parts for label, entries in part]
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    lines = ["| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |" for row in rows]
    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def notes(notes: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(note)}" for note in notes)


def escaped(text: str) -> str:
    return re.sub(r"([\\|*<`])", r"\\\1", text)


def _cell(entry: Entry) -> str:
    rest = escaped(entry.text.removeprefix(entry.strong))
    return f"**{escaped(entry.strong)}**{rest}" if entry.strong else rest

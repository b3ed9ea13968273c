"""CSVs between jobs: a history, the cells of a table."""

import csv
import io
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from stages.artifacts.atomic import write_text
from stages.errors import UserError


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write the ``rows`` below a header; what a row has nothing for stays empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_rows(path: Path, columns: Collection[str], writer: str) -> list[dict[str, str]]:
    """All rows, of a file that has at least ``columns``; ``writer`` is who writes such a one."""
    try:
        # Excel begins a CSV with a mark of its encoding.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header, rows = reader.fieldnames or (), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a CSV ({error}); expected what {writer} writes") from None
    if not set(columns) <= set(header):
        raise UserError(f"{path}: lacks some of the columns {', '.join(columns)}; expected what {writer} writes")
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise UserError(f"{path}: row {number} has not as many values as the header; expected what {writer} writes")
    return rows


def finite(text: str) -> float:
    """The number that a CSV has; a ValueError of what is none, infinite ones included."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number

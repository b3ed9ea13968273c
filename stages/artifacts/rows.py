"""CSVs between jobs: a history, the cells of a table."""

import csv
import io
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
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if not set(columns) <= set(rows.fieldnames or ()):
            raise UserError(f"{path}: lacks some of the columns {', '.join(columns)}; expected what {writer} writes")
        return list(rows)

"""CSVs between jobs: a history, the cells of a table."""

import csv
from collections.abc import Collection
from pathlib import Path

from stages.errors import UserError


def read_rows(path: Path, columns: Collection[str], writer: str) -> list[dict[str, str]]:
    """All rows, of a file that has at least ``columns``; ``writer`` is who writes such a one."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if not set(columns) <= set(rows.fieldnames or ()):
            raise UserError(f"{path}: lacks some of the columns {', '.join(columns)}; expected what {writer} writes")
        return list(rows)

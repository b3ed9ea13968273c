"""A table before it is written: headings, rows, and which cells are bold."""

import dataclasses
from collections.abc import Sequence

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A cell's text; ``strong``, which it begins with, is bold."""

    text: str
    strong: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """``spans``, (heading, columns) of each group, above ``columns``; the rows in ``parts``, references and methods.

    ``corner`` names the rows, or the groups if there are spans; ``under`` then names the columns.
    """

    corner: str
    spans: Sequence[tuple[str, int]]
    columns: Sequence[str]
    parts: Sequence[Sequence[tuple[str, Sequence[Entry]]]]
    under: str = "Evaluation"

    @property
    def entries(self) -> list[Entry]:
        """All cells, row by row."""
        return [entry for part in self.parts for _, entries in part for entry in entries]


def signed(difference: float) -> str:
    """With one digit after the point; what rounds to nothing is +0.0."""
    return f"{round(difference, 1) + 0.0:+.1f}".replace("-", MINUS)

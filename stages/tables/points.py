"""The cells of a table of what was measured beside what is reported, as `stages.write_table` writes them."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

from stages.artifacts.rows import finite, read_rows
from stages.errors import UserError

COLUMNS = ("group", "row", "column", "value", "unit", "mean", "std", "reported", "difference", "seeds")


@dataclasses.dataclass(frozen=True)
class Point:
    """A cell: what was measured, of how many seeds, its deviation, and what is reported; None where there is none."""

    group: str
    row: str
    column: str
    value: str
    unit: str
    mean: float | None
    std: float | None
    reported: float | None
    difference: float | None
    seeds: int


def read_points(path: Path) -> list[Point]:
    """The cells, in the table's order.

    Raises:
        UserError: not such a table, or one without a cell.
    """
    try:
        points = [_point(row) for row in read_rows(path, COLUMNS, "write_table")]
    except ValueError as error:
        raise UserError(f"{path}: {error}; expected what write_table writes") from None
    if not points:
        raise UserError(f"{path}: has no cells, so there is nothing to draw")
    return points


def _point(row: Mapping[str, str]) -> Point:
    group, where, column, value, unit, *numbers, seeds = (row[name] for name in COLUMNS)
    mean, std, reported, difference = (finite(number) if number else None for number in numbers)
    if std is not None and std < 0:
        raise ValueError(f"a deviation is {std:g}")
    return Point(group, where, column, value, unit, mean, std, reported, difference, len(seeds.split()))


def number_of(label: str) -> float | None:
    """A label's number; None of one that is none."""
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

"""A table as bars, a panel for each column, with what is reported as hollow marks."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from stages.figures.bars import REFERENCES, Group, Panel, coloured, draw_panels, greyed
from stages.figures.labels import axis_label, mark_label
from stages.tables.points import Point, read_points
from stages.tables.results import Cell


def draw(table: Path, references: Sequence[str], y: str, path: Path) -> None:
    """Draw the cells of ``table``; the rows among ``references`` are grey, and shown even if they are only reported."""
    points = read_points(table)
    measured = {point.row for point in points if point.mean is not None}
    points = [point for point in points if point.row in {*measured, *references}]
    rows = list(dict.fromkeys(point.row for point in points))
    greys = greyed(dict(zip([row for row in rows if row in references], itertools.cycle(REFERENCES))))
    looks = {**greys, **coloured([row for row in rows if row not in greys])}
    panels = []
    for column in dict.fromkeys(point.column for point in points):
        here = [point for point in points if point.column == column]
        panels.append(Panel(column, axis_label(here, y), groups_of(here)))
    draw_panels(panels, looks, path, mark_label(points))


def groups_of(points: Sequence[Point]) -> list[Group]:
    groups = {point.group: [other for other in points if other.group == point.group] for point in points}
    marked = any(point.reported is not None for point in points)
    return [
        Group(
            name,
            bars=tuple((point.row, _cell(point)) for point in part),
            marks=tuple(point.reported for point in part) if marked else (),
        )
        for name, part in groups.items()
    ]


def _cell(point: Point) -> Cell | None:
    unit = None if point.unit == "percent" else point.unit
    return None if point.mean is None else Cell(point.mean, point.std, (), 1, (), unit)

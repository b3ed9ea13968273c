"""A table as lines over what its groups, columns or rows count, such as epochs, beside what is reported."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.errors import UserError
from stages.figures.labels import axis_label, mark_label
from stages.figures.style import GREY, OKABE_ITO, WIDTH, drawing
from stages.figures.text import across, width_of, within
from stages.tables.points import Point, number_of, read_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_HEIGHT, LEGEND_LINE = 3.3, 0.25
COLUMNS = 2
MARKERS = "os^Dv*P"
Look = tuple[str, str]
"""A line's colour and marker."""

Over = Literal["groups", "columns", "rows"]
"""Which labels of the table are the numbers that lines go over."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A point with the ``panel`` and the ``line`` it belongs to, over ``x``; None of what is the same for all x."""

    panel: str
    line: str
    x: float | None
    point: Point


def draw(table: Path, over: Over, references: Sequence[str], x: str, y: str, path: Path) -> None:
    """Draw the cells of ``table``, with ``x`` and ``y`` on the axes; ``references`` are grey.

    Over groups, a line is a row and a panel a column; over columns, a line is a row and a panel a group; over rows, a
    line is a group and a panel a column, and a row that is no number is level.
    """
    points = read_points(table)
    places = places_of(points, over)
    if all(place.x is None for place in places):
        raise UserError(f"{table}: none of its {over} is a number, so there is nothing to draw lines over")
    looks = looks_of([place.line for place in places if place.x is not None], references)
    panels = {place.panel: [other for other in places if other.panel == place.panel] for place in places}
    columns = min(COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    legend = _legend(looks, points)
    wide = across([handle.get_label() for handle in legend], WIDTH)
    with drawing(path, lines * PANEL_HEIGHT + LEGEND_LINE * (1 + math.ceil(len(legend) / wide))) as figure:
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axis, (name, part) in zip(axes, panels.items(), strict=False):
            _panel(axis, part, looks, WIDTH / columns)
            axis.set_title(within(name, WIDTH / columns - 0.9, size=10, weight="bold"), loc="left", fontweight="bold")
            axis.set_xlabel(x)
            axis.set_ylabel(axis_label([place.point for place in part], y))
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        figure.legend(handles=legend, loc="outside lower center", ncols=wide, fontsize=9, frameon=False)


def places_of(points: Sequence[Point], over: Over) -> list[Place]:
    if over == "groups":
        return [Place(point.column, point.row, number_of(point.group), point) for point in points]
    if over == "columns":
        return [Place(point.group, point.row, number_of(point.column), point) for point in points]
    return [Place(point.column, point.group, number_of(point.row), point) for point in points]


def looks_of(names: Sequence[str], references: Sequence[str]) -> dict[str, Look]:
    """The look of each line; where the colours are used up, they come again with other markers."""
    others = [name for name in dict.fromkeys(names) if name not in references]
    colours = {
        name: (OKABE_ITO[index % len(OKABE_ITO)], MARKERS[(index + index // len(OKABE_ITO)) % len(MARKERS)])
        for index, name in enumerate(others)
    }
    return {**{name: (GREY, ".") for name in names if name in references}, **colours}


def _panel(axis: "Axes", places: Sequence[Place], looks: Mapping[str, Look], inches: float) -> None:
    for place in places:
        if place.x is None:
            _level(axis, place.point)
    for name, look in looks.items():
        line = sorted((place for place in places if place.line == name and place.x is not None), key=lambda p: p.x or 0)
        _line(axis, line, *look)
    _scale(axis, sorted({place.x for place in places if place.x is not None}), inches)


def _line(axis: "Axes", places: Sequence[Place], colour: str, marker: str) -> None:
    reported = [place for place in places if place.point.reported is not None]
    if reported:
        axis.plot(
            _floats(p.x for p in reported), _floats(p.point.reported for p in reported), **_hollow(colour, marker)
        )
    measured = [place for place in places if place.point.mean is not None]
    if measured:
        axis.errorbar(
            _floats(place.x for place in measured),
            _floats(place.point.mean for place in measured),
            _floats(place.point.std for place in measured),
            color=colour,
            marker=marker,
            markersize=5.5,
            linewidth=1.8,
            elinewidth=1,
            capsize=2.5,
        )


def _floats(numbers: Iterable[float | None]) -> list[float]:
    """None as not a number, which is not drawn."""
    return [math.nan if number is None else number for number in numbers]


def _hollow(colour: str, marker: str) -> dict[str, Any]:
    return {
        "color": colour,
        "alpha": 0.75,
        "linestyle": (0, (4, 2)),
        "linewidth": 1.1,
        "marker": marker,
        "markersize": 6,
        "markerfacecolor": "white",
    }


def _level(axis: "Axes", point: Point) -> None:
    """A number that belongs to no x, across the whole panel and with its name on it."""
    for value, style in ((point.mean, "solid"), (point.reported, (0, (4, 2)))):
        if value is not None:
            axis.axhline(value, color=GREY, linestyle=style, linewidth=1, zorder=1)
            name = point.row if style == "solid" else f"{point.row}, reported"
            axis.annotate(
                name,
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 2),
                textcoords="offset points",
                ha="right",
                fontsize=8,
                color=GREY,
            )


def _scale(axis: "Axes", numbers: Sequence[float], inches: float) -> None:
    """Ticks where there are points; logarithmic where that keeps them further apart. Of levels alone there are none."""
    from matplotlib.ticker import NullLocator

    apart = closest(numbers)
    if numbers and numbers[0] > 0:
        logarithmic = closest([math.log(number) for number in numbers])
        if logarithmic > apart:
            axis.set_xscale("log")
        apart = max(apart, logarithmic)
    labels = [f"{number:,.0f}" if number >= 1000 else f"{number:g}" for number in numbers]
    room = apart * (inches - 1.1)
    level = room > max((width_of(label, 10) for label in labels), default=0.0) + 0.1
    rotation = 0 if level else 30 if room > 0.3 else 90
    axis.set_xticks(numbers, labels, rotation=rotation, ha="right" if rotation == 30 else "center")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(axis="y", color="#E4E4E4", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.margins(x=0.04, y=0.12)


def closest(numbers: Sequence[float]) -> float:
    """The smallest distance between two of these rising numbers, as a part of that from the first to the last."""
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    return min(steps) / sum(steps) if steps else 1.0


def _legend(looks: Mapping[str, Look], points: Sequence[Point]) -> list[Any]:
    """A line's colour and marker for each name, then what is solid and what is hollow."""
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=colour, marker=marker, label=name) for name, (colour, marker) in looks.items() if name
    ]
    first = GREY if lines else OKABE_ITO[0]
    deviations = any(point.std is not None for point in points)
    measured = "measured, ± standard deviation" if deviations else "measured"
    if any(point.mean is not None for point in points):
        lines.append(Line2D([], [], color=first, marker="o", label=measured))
    if reported := mark_label(points):
        lines.append(Line2D([], [], label=reported, **_hollow(first, "o")))
    return lines

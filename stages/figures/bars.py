"""Grouped bars of the measured numbers, a panel for each evaluation, as in CompRess's Figure 1."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.figures.style import DPI, GREY, OKABE_ITO, WIDTH, drawing
from stages.figures.text import BREAKS, across, fitted, width_of, within
from stages.tables.comparison import Comparison, read_comparisons
from stages.tables.results import Cell, heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Look = Mapping[str, Any]
"""How a bar is filled."""

PANEL_HEIGHT, LEGEND_LINE = 2.7, 0.22
BESIDE = 0.9
"""Inches of a panel's width that are not its axis's, about: the numbers and the label at its left."""
LEAST_HEIGHT = 1.9
"""Inches of an axis's height; names that leave less make the figure higher."""
WIDEST_BAR = 0.6
"""Inches, of which a part is between two bars: few bars do not fill the axis."""
GAP = 1.0
"""The space between two groups, in bars."""
SMALL = 8
"""The size of names that have little room, and of the bars' numbers."""

REFERENCES: dict[str, Look] = {
    "teacher": {"facecolor": "white", "edgecolor": GREY, "hatch": "////"},
    "supervised": {"facecolor": GREY},
    "untrained": {"facecolor": "#C8C8C8"},
}

HATCHES = ("xxxx", "....", "||||", "----", "++++", "oooo", "\\\\\\\\")

MARK: Look = {
    "marker": "D",
    "markersize": 5,
    "linestyle": "none",
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "markeredgewidth": 1.0,
    "zorder": 5,
}

NOTE = (
    "Error bars: sample standard deviation over the encoder's seeds or, of a single encoder, the evaluation's repeats"
)


@dataclasses.dataclass(frozen=True)
class Group:
    """A name under the axis, and above it a bar for each label; what only another panel has keeps its place.

    ``marks`` are numbers to compare the bars with, in their order.
    """

    name: str
    bars: tuple[tuple[str, Cell | None], ...]
    marks: tuple[float | None, ...] = ()


@dataclasses.dataclass(frozen=True)
class Panel:
    title: str
    axis: str
    groups: Sequence[Group]


def draw(metrics: Sequence[Path], path: Path) -> None:
    """Draw what the ``metrics`` files hold of teachers, students and their references.

    Encoders that are none of these are left to the table, unless a dataset has no others.
    """
    comparisons = read_comparisons(metrics)
    panels = []
    for comparison in comparisons:
        for evaluation in comparison.evaluations:
            groups = [group for group in groups_of(comparison, evaluation) if any(cell for _, cell in group.bars)]
            if groups:
                name = f"{comparison.dataset}: {heading(evaluation)}" if len(comparisons) > 1 else heading(evaluation)
                panels.append(Panel(name, f"{comparison.shown(evaluation)}, %", groups))
    draw_panels(panels, looks_of(comparisons), path)


def draw_panels(panels: Sequence[Panel], looks: Mapping[str, Look], path: Path, marks: str = "") -> None:
    """Draw the panels, two in a line if they are narrow, above a legend of the ``looks`` and of the ``marks``."""
    columns = 1 if len(panels) == 1 or max((slots(panel.groups) for panel in panels), default=0) > 36 else 2
    lines = max(1, math.ceil(len(panels) / columns))
    wide = across([*looks, *([marks] if marks else [])], WIDTH)
    legend_height = LEGEND_LINE * (2 + math.ceil((len(looks) + bool(marks)) / wide))
    with drawing(path, lines * PANEL_HEIGHT + legend_height) as figure:
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axis, panel in zip(axes, panels, strict=False):
            inches = WIDTH / columns - BESIDE
            _panel(axis, panel.groups, looks, inches, panel.axis)
            title = within(panel.title, inches - 0.2, size=10, weight="bold")
            axis.set_title(title, loc="left", fontweight="bold")
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        deviations = any(cell and cell.std is not None for panel in panels for _, cell in _flat(panel.groups))
        figure.legend(
            handles=[*(_patch(label, look) for label, look in looks.items()), *([_mark(marks)] if marks else [])],
            title=NOTE if deviations else None,
            title_fontsize="small",
            loc="outside lower center",
            ncols=wide,
            fontsize=9,
            frameon=False,
            columnspacing=1.4,
            handlelength=1.6,
        )
        figure.draw_without_rendering()  # Only now the axes' sizes are known, which say how the names are broken.
        names = [_write_names(axis, panel.groups) for axis, panel in zip(axes, panels, strict=False)]
        beneath = sum(max(names[start : start + columns]) for start in range(0, len(names), columns))
        missing = beneath + lines * (LEAST_HEIGHT - axes[0].get_window_extent().height / DPI)
        figure.set_figheight(figure.get_figheight() + max(0, missing))


def groups_of(comparison: Comparison, evaluation: str) -> list[Group]:
    """A group for each student architecture and teacher; without students, a single one of all encoders."""
    if not comparison.groups:
        return [Group("", tuple((name, comparison.cell_of(name, evaluation)) for name in comparison.others))]
    several = len({group.teacher for group in comparison.groups}) > 1
    groups = []
    for group in comparison.groups:
        rows = [r for r in comparison.rows if any(comparison.cell(group, r, e) for e in comparison.evaluations)]
        name = f"{group.teacher} →\n{group.architecture}" if several else group.architecture
        bars = tuple((comparison.label(row), comparison.cell(group, row, evaluation)) for row in rows)
        groups.append(Group(name, bars))
    return groups


def looks_of(comparisons: Sequence[Comparison]) -> dict[str, Look]:
    """The look of each label's bars, the same in all panels: greys for references, colours for what is compared."""
    references = greyed({c.label(row): row.kind for c in comparisons for row in c.rows if row.kind in REFERENCES})
    methods = [c.label(row) for c in comparisons for row in c.rows if row.kind == "method"]
    encoders = [name for c in comparisons if not c.groups for name in c.others]
    return {**references, **coloured([*methods, *encoders])}


def greyed(kinds: Mapping[str, str]) -> dict[str, Look]:
    """The look of each reference, by its label; after the first of a kind, with other hatches."""
    looks: dict[str, Look] = {}
    for label, kind in kinds.items():
        before = list(kinds.values())[: len(looks)].count(kind)
        hatch = HATCHES[(before - 1) % len(HATCHES)]
        looks[label] = {"edgecolor": "white", **REFERENCES[kind], "hatch": hatch} if before else REFERENCES[kind]
    return looks


def coloured(labels: Sequence[str]) -> dict[str, Look]:
    """A colour for each label, with dots where the colours are used up."""
    looks: dict[str, Look] = {}
    for index, label in enumerate(dict.fromkeys(labels)):
        used_up = {"hatch": "....", "edgecolor": "white"} if index >= len(OKABE_ITO) else {}
        looks[label] = {"facecolor": OKABE_ITO[index % len(OKABE_ITO)], **used_up}
    return looks


def limits(cells: Sequence[Cell], marks: Sequence[float] = ()) -> tuple[float, float]:
    """Where the axis starts and the highest bar ends, its error and the marks included.

    The start is zero, the lowest number below it or, to tell close ones apart, a multiple of ten that leaves something
    of the lowest bar.
    """
    low = min([cell.mean - (cell.std or 0) for cell in cells] + list(marks))
    high = max([cell.mean + (cell.std or 0) for cell in cells] + list(marks))
    floor = 10.0 * math.floor((low - 0.15 * max(high - low, 2)) / 10)
    if any(cell.mean < 0 for cell in cells):
        floor = low
    elif floor <= high / 3:
        floor = 0.0
    return floor, high if high > 0 else 1.0


def slots(groups: Sequence[Group]) -> float:
    """The width of the axis, in bars."""
    return sum(len(group.bars) + GAP for group in groups)


def starts_of(groups: Sequence[Group]) -> list[float]:
    """Where each group's first bar is on the axis."""
    return list(itertools.accumulate((len(group.bars) + GAP for group in groups[:-1]), initial=0.0))


def misfits(names: Sequence[str], middles: Sequence[float], inches: float, size: float) -> set[int]:
    """Which names meet one beside them or pass an end of the axis, written about their ``middles``, in inches."""
    halves = [width_of(name, size) / 2 for name in names]
    ends = [(middle - half, middle + half) for middle, half in zip(middles, halves, strict=True)]
    past = {place for place, (left, right) in enumerate(ends) if left < 0 or right > inches}
    space = width_of("n", size)
    meeting = [place for place in range(1, len(ends)) if ends[place - 1][1] + space > ends[place][0]]
    return {*past, *meeting, *(place - 1 for place in meeting)}


def _flat(groups: Sequence[Group]) -> list[tuple[str, Cell | None]]:
    return [bar for group in groups for bar in group.bars]


def _panel(axis: "Axes", groups: Sequence[Group], looks: Mapping[str, Look], inches: float, label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    marks = [mark for group in groups for mark in group.marks if mark is not None]
    floor, top = limits([cell for _, cell in _flat(groups) if cell], marks)
    slot = min(WIDEST_BAR, inches / slots(groups))
    headroom = _bars(axis, groups, looks, floor, slot)
    ceiling = top + headroom / (LEAST_HEIGHT - headroom) * (top - floor)
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(floor, ceiling)
    axis.set_yticks([tick for tick in ticks if floor <= tick <= min(ceiling, max(100, top))])
    axis.set_ylim(floor, ceiling)
    around = (inches / slot - slots(groups)) / 2
    axis.set_xlim(-0.5 - GAP / 2 - around, slots(groups) - 0.5 - GAP / 2 + around)
    axis.set_ylabel(within(label + (f" (axis from {floor:g})" if floor > 0 else ""), LEAST_HEIGHT, size=10))
    axis.set_xticks([])


def _write_names(axis: "Axes", groups: Sequence[Group]) -> float:
    """Write the groups' names under the axis, on their sides if they have no room; returns the inches they take."""
    names = [group.name for group in groups]
    middles = [start + (len(group.bars) - 1) / 2 for start, group in zip(starts_of(groups), groups, strict=False)]
    frame = axis.get_window_extent()
    places = [(axis.transData.transform((middle, 0))[0] - frame.x0) / DPI for middle in middles]
    size, rotation = 10, 0
    if misfits(names, places, frame.width / DPI, size):
        size = SMALL
        level = fitted(names, lambda texts: misfits(texts, places, frame.width / DPI, SMALL), BREAKS[:-1])
        names, rotation = (level, 0) if level else ([" ".join(name.split()) for name in names], 90)
    axis.set_xticks(middles, names, rotation=rotation, fontsize=size)
    axis.tick_params(axis="x", length=0)
    beneath = axis.xaxis.get_tightbbox()
    return (frame.y0 - beneath.y0) / DPI if beneath else 0.0


def _bars(axis: "Axes", groups: Sequence[Group], looks: Mapping[str, Look], floor: float, inches: float) -> float:
    """Draw the bars, each ``inches`` wide; returns the inches that the numbers above them take."""
    numbers = [cell.shown(cell.mean) for _, cell in _flat(groups) if cell]
    upright = max((width_of(number, SMALL) for number in numbers), default=0.0) + 0.06 > inches
    for start, group in zip(starts_of(groups), groups, strict=False):
        for place, (label, cell) in enumerate(group.bars):
            if cell:
                base = max(floor, 0.0)
                axis.bar(start + place, cell.mean - base, width=0.88, bottom=base, **looks[label])
                if cell.std is not None:
                    axis.errorbar(start + place, cell.mean, cell.std, color="black", elinewidth=0.8, capsize=1.5)
                if inches > 0.11:
                    foot = base if group.marks else None
                    _number(axis, start + place, cell, foot, upright=upright)
        for place, mark in enumerate(group.marks):
            if mark is not None:
                axis.plot(start + place, mark, **MARK)
    if inches <= 0.11 or any(group.marks for group in groups) or not numbers:
        return 0.1
    return 0.1 + (max(width_of(number, 7) for number in numbers) if upright else SMALL / 72)


def _number(axis: "Axes", position: float, cell: Cell, foot: float | None, *, upright: bool) -> None:
    """The bar's number above it or, where marks may stand there, at its ``foot``."""
    from matplotlib.patheffects import withStroke

    axis.annotate(
        cell.shown(cell.mean),
        (position, max(cell.mean + (cell.std or 0), 0.0) if foot is None else foot),
        xytext=(0, 2 if foot is None else 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        rotation=90 if upright else 0,
        fontsize=7 if upright else SMALL,
        path_effects=None if foot is None else [withStroke(linewidth=2, foreground="white")],
    )


def _mark(label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=within(label, WIDTH - 1, size=9), **MARK)


def _patch(label: str, look: Look) -> Any:
    from matplotlib.patches import Patch

    return Patch(label=within(label, WIDTH - 1, size=9), **look)

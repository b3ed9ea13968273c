"""Grouped bars of the measured numbers, a panel for each evaluation, as in CompRess's Figure 1."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.figures.style import CHARACTER, GREY, OKABE_ITO, WIDTH, drawing
from stages.tables.comparison import Comparison, read_comparisons
from stages.tables.results import Cell, heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Look = Mapping[str, Any]
"""How a bar is filled."""

PANEL_HEIGHT, LEGEND_LINE = 2.7, 0.22
GAP = 1.0
"""The space between two groups, in bars."""

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
    across = _across([len(label) for label in (*looks, *([marks] if marks else []))])
    legend_height = LEGEND_LINE * (2 + math.ceil((len(looks) + bool(marks)) / across))
    with drawing(path, lines * PANEL_HEIGHT + legend_height) as figure:
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axis, panel in zip(axes, panels, strict=False):
            _panel(axis, panel.groups, looks, WIDTH / columns, panel.axis)
            axis.set_title(panel.title, loc="left", fontweight="bold")
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        deviations = any(cell and cell.std is not None for panel in panels for _, cell in _flat(panel.groups))
        figure.legend(
            handles=[*(_patch(label, look) for label, look in looks.items()), *([_mark(marks)] if marks else [])],
            title=NOTE if deviations else None,
            title_fontsize="small",
            loc="outside lower center",
            ncols=across,
            fontsize=9,
            frameon=False,
            columnspacing=1.4,
            handlelength=1.6,
        )


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

    The start is zero or, to tell close numbers apart, a multiple of ten that leaves something of the lowest bar.
    """
    low = min([cell.mean - (cell.std or 0) for cell in cells] + list(marks))
    high = max([cell.mean + (cell.std or 0) for cell in cells] + list(marks))
    floor = 10.0 * math.floor((low - 0.15 * max(high - low, 2)) / 10)
    return (floor if floor > high / 3 else 0.0), max(high, 1.0)


def slots(groups: Sequence[Group]) -> float:
    """The width of the axis, in bars."""
    return sum(len(group.bars) + GAP for group in groups)


def overlap(names: Sequence[str], middles: Sequence[float]) -> bool:
    """Whether two names beside each other would meet, written about their ``middles``, which are in inches."""
    widths = [CHARACTER * (1 + max(map(len, name.splitlines() or [""]))) for name in names]
    return any(
        (before + after) / 2 > right - left
        for before, after, left, right in zip(widths, widths[1:], middles, middles[1:], strict=False)
    )


def _across(lengths: Sequence[int]) -> int:
    """How many labels of these lengths fit in a line of the legend, of which each column is as wide as its longest."""
    widths = [0.5 + 0.9 * CHARACTER * length for length in lengths]
    return len(widths) if sum(widths) < WIDTH - 0.3 else max(1, int((WIDTH - 0.3) / max(widths)))


def _flat(groups: Sequence[Group]) -> list[tuple[str, Cell | None]]:
    return [bar for group in groups for bar in group.bars]


def _panel(axis: "Axes", groups: Sequence[Group], looks: Mapping[str, Look], inches: float, label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    marks = [mark for group in groups for mark in group.marks if mark is not None]
    floor, top = limits([cell for _, cell in _flat(groups) if cell], marks)
    headroom = _bars(axis, groups, looks, floor, (inches - 0.9) / slots(groups))
    ceiling = top + headroom * (top - floor)
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(floor, ceiling)
    axis.set_yticks([tick for tick in ticks if floor <= tick <= min(ceiling, max(100, top))])
    axis.set_ylim(floor, ceiling)
    axis.set_xlim(-0.5 - GAP / 2, slots(groups) - 0.5 - GAP / 2)
    axis.set_ylabel(label + (f" (axis from {floor:g})" if floor else ""))
    middles, start = [], 0.0
    for group in groups:
        middles.append(start + (len(group.bars) - 1) / 2)
        start += len(group.bars) + GAP
    names = [group.name for group in groups]
    crowded = overlap(names, [middle * (inches - 0.9) / slots(groups) for middle in middles])
    axis.set_xticks(middles, names, rotation=25 if crowded else 0, ha="right" if crowded else "center")
    axis.tick_params(axis="x", length=0)


def _bars(axis: "Axes", groups: Sequence[Group], looks: Mapping[str, Look], floor: float, inches: float) -> float:
    """Draw the bars, each ``inches`` wide; returns the share of the height that the numbers above them take."""
    start = 0.0
    for group in groups:
        for place, (label, cell) in enumerate(group.bars):
            if cell:
                axis.bar(start + place, cell.mean - floor, width=0.88, bottom=floor, **looks[label])
                if cell.std is not None:
                    axis.errorbar(start + place, cell.mean, cell.std, color="black", elinewidth=0.8, capsize=1.5)
                if inches > 0.11:
                    foot = floor if group.marks else None
                    _number(axis, start + place, cell, foot, upright=inches < 0.33)
        for place, mark in enumerate(group.marks):
            if mark is not None:
                axis.plot(start + place, mark, **MARK)
        start += len(group.bars) + GAP
    return 0.05 if inches <= 0.11 else 0.22 if inches < 0.33 else 0.12


def _number(axis: "Axes", position: float, cell: Cell, foot: float | None, *, upright: bool) -> None:
    """The bar's number above it or, where marks may stand there, at its ``foot``."""
    from matplotlib.patheffects import withStroke

    axis.annotate(
        cell.shown(cell.mean),
        (position, cell.mean + (cell.std or 0) if foot is None else foot),
        xytext=(0, 2 if foot is None else 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        rotation=90 if upright else 0,
        fontsize=7 if upright else 8,
        path_effects=None if foot is None else [withStroke(linewidth=2, foreground="white")],
    )


def _mark(label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **MARK)


def _patch(label: str, look: Look) -> Any:
    from matplotlib.patches import Patch

    return Patch(label=label, **look)

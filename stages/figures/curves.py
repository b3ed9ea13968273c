"""The loss over the epochs, a panel for each encoder: the losses of different methods have no common scale.

The seeds of one student are in one panel.
"""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.artifacts.rows import read_rows
from stages.errors import UserError, different
from stages.figures.style import OKABE_ITO, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCALES = "Each method has a loss of its own: the heights of two do not compare."

Curve = tuple[list[int], list[float]]
"""Epochs, and their losses."""

COLUMNS = 3
PANEL_HEIGHT, LINE = 1.9, 0.2
"""Inches of a panel, and of a line of text."""


def draw(histories: Sequence[Path], names: Sequence[str], path: Path) -> None:
    """Draw the losses of ``histories``, titled by ``names``; one without an epoch is named under the figure."""
    if len(histories) != len(names):
        raise UserError(f"{len(histories)} histories but {len(names)} names: expected a name for each, in their order")
    different(names=names)
    losses = {name: read_losses(history) for history, name in zip(histories, names, strict=True)}
    trained = by_student({name: curve for name, curve in losses.items() if curve[0]})
    idle = [name for name, (epochs, _) in losses.items() if not epochs]
    columns = max(1, min(COLUMNS, len(trained)))
    lines = max(1, math.ceil(len(trained) / columns))
    note = textwrap.wrap(f"Not trained, so without a curve: {', '.join(idle)}", 110) if idle else []
    with drawing(path, lines * PANEL_HEIGHT + (2.5 + len(note)) * LINE) as figure:
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axis, (title, drawn) in zip(axes, trained.items(), strict=False):
            _panel(axis, title, drawn)
        for axis in axes[len(trained) :]:
            axis.set_axis_off()
        if trained:
            figure.supylabel("training loss", fontsize="medium")
        figure.supxlabel("\n".join([*(["epoch", SCALES] if trained else []), *note]), fontsize="medium")


def by_student(curves: Mapping[str, Curve]) -> dict[str, list[Curve]]:
    """The curves by the title of their panel: of students that differ in their seed, the one name and all seeds."""
    seeds: dict[str, dict[str, Curve]] = {}
    for name, curve in curves.items():
        student, seed = re.fullmatch(r"(.*?)(?:--seed(\d+))?", name).groups(default="")  # type: ignore[union-attr]
        seeds.setdefault(student, {})[seed] = curve
    return {
        student + (f"--seed{', '.join(of_seed)}" if any(of_seed) else ""): list(of_seed.values())
        for student, of_seed in seeds.items()
    }


def _panel(axis: "Axes", title: str, curves: Sequence[Curve]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    for number, (epochs, loss) in enumerate(curves):
        axis.plot(epochs, loss, color=OKABE_ITO[number % len(OKABE_ITO)], marker="." if len(loss) < 3 else None)
    axis.set_title("\n".join(textwrap.wrap(title, 38)), loc="left", fontsize="small")
    if wide([value for _, loss in curves for value in loss]):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlim(0, max(epoch for epochs, _ in curves for epoch in epochs) + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def read_losses(path: Path) -> Curve:
    """The epochs and their losses; both empty for an encoder that was not trained."""
    rows = read_rows(path, ("epoch", "loss"), "pretrain or distill")
    try:
        points = [(int(row["epoch"]), float(row["loss"])) for row in rows]
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: not a whole history ({error}); run the training that wrote it again") from error
    return [epoch for epoch, _ in points], [loss for _, loss in points]


def wide(loss: Sequence[float]) -> bool:
    """Whether the losses are positive and range so far that only a logarithmic axis shows their lower end."""
    return min(loss) > 0 and max(loss) / min(loss) > 20

"""The loss over the epochs, a panel for each encoder: the losses of different methods have no common scale."""

import csv
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.errors import UserError
from stages.figures.style import OKABE_ITO, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCALES = "Each method has a loss of its own: the heights of two do not compare."

COLUMNS = 3
PANEL_HEIGHT, LINE = 1.9, 0.2
"""Inches of a panel, and of a line of text."""


def draw(histories: Sequence[Path], names: Sequence[str], path: Path) -> None:
    """Draw the losses of ``histories``, titled by ``names``; one without an epoch is named under the figure."""
    if len(histories) != len(names):
        raise UserError(f"{len(histories)} histories but {len(names)} names: expected a name for each, in their order")
    losses = [(name, *read_losses(history)) for history, name in zip(histories, names, strict=True)]
    trained = [(name, epochs, loss) for name, epochs, loss in losses if epochs]
    idle = [name for name, epochs, _ in losses if not epochs]
    columns = max(1, min(COLUMNS, len(trained)))
    lines = max(1, math.ceil(len(trained) / columns))
    note = textwrap.wrap(f"Not trained, so without a curve: {', '.join(idle)}", 110) if idle else []
    with drawing(path, lines * PANEL_HEIGHT + (2.5 + len(note)) * LINE) as figure:
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axis, (name, epochs, loss) in zip(axes, trained, strict=False):
            _panel(axis, name, epochs, loss)
        for axis in axes[len(trained) :]:
            axis.set_axis_off()
        if trained:
            figure.supylabel("training loss", fontsize="medium")
        figure.supxlabel("\n".join([*(["epoch", SCALES] if trained else []), *note]), fontsize="medium")


def _panel(axis: "Axes", name: str, epochs: Sequence[int], loss: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    axis.plot(epochs, loss, color=OKABE_ITO[0], marker="." if len(loss) < 3 else None)
    axis.set_title("\n".join(textwrap.wrap(name, 38)), loc="left", fontsize="small")
    if wide(loss):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlim(0, max(epochs) + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def read_losses(path: Path) -> tuple[list[int], list[float]]:
    """The epochs and their losses; both empty for an encoder that was not trained."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if not {"epoch", "loss"} <= set(rows.fieldnames or ()):
            raise UserError(f"{path}: has no columns epoch and loss; expected a history written by pretrain or distill")
        try:
            points = [(int(row["epoch"]), float(row["loss"])) for row in rows]
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: not a whole history ({error}); run the training that wrote it again") from error
    return [epoch for epoch, _ in points], [loss for _, loss in points]


def wide(loss: Sequence[float]) -> bool:
    """Whether the losses are positive and range so far that only a logarithmic axis shows their lower end."""
    return min(loss) > 0 and max(loss) / min(loss) > 20

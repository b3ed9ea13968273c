"""What was measured: metrics files, and the cells of tables and figures that several of them make."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stages.artifacts.metrics import Metrics, read_metrics
from stages.errors import UserError

HEADINGS = {"linear": "Linear", "knn": "NN", "cluster-alignment": "CA"}
"""The paper's name of an evaluation, in the paper's order; others follow under their own names."""

SHOWN = ("top1", "ca")
"""The value that stands for an evaluation; of one with neither, its first."""


@dataclasses.dataclass(frozen=True)
class Result:
    """A metrics file, and what its encoder's card says."""

    path: Path
    metrics: Metrics

    @property
    def encoder(self) -> str:
        return str(self.metrics.encoder["name"])

    @property
    def architecture(self) -> str:
        return str(self.metrics.encoder["architecture"])

    @property
    def origin(self) -> dict[str, Any]:
        return dict(self.metrics.encoder["origin"])

    @property
    def teacher(self) -> str | None:
        """Of a student, its teacher's name or, of one that was trained along, what it shares with all its seeds'."""
        if self.origin["way"] != "distill":
            return None
        along = self.origin.get("teacher_architecture")
        return trained_along(along) if along else str(self.origin["teacher"])


def trained_along(architecture: str) -> str:
    """What stands for the teachers of this architecture, of which every student has its own; no encoder's name."""
    return f"{architecture} trained along"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A value in its ``unit``, None for percent: its mean over encoders that differ in their seed, and its deviation.

    ``std`` is the sample standard deviation over the encoders or, where there is one, over the evaluation's own
    repeats; None without either. ``repeats`` are the evaluations of each encoder, the fewest if they differ.
    """

    mean: float
    std: float | None
    seeds: tuple[int | None, ...]
    repeats: int
    results: tuple[Result, ...]
    unit: str | None = None

    def __str__(self) -> str:
        return " ± ".join(self.shown(value) for value in (self.mean, self.std) if value is not None)

    def shown(self, value: float) -> str:
        """Percent have one digit after the point; what has a unit has about three in all."""
        if self.unit is None:
            return f"{value:.1f}"
        return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def read_result(path: Path) -> Result:
    """A metrics file; without values, or with one that is not finite, it is refused."""
    metrics = read_metrics(path)
    if not metrics.values:
        raise UserError(f"{path}: holds no values; delete it and run the evaluation again")
    for name, value in (*metrics.values.items(), *metrics.deviations.items()):
        if not math.isfinite(value):
            raise UserError(
                f"{path}: {name} is {value}, not a finite number; look at the encoder and evaluate it again"
            )
    return Result(path, metrics)


def summary(results: Sequence[Result], value: str) -> Cell | None:
    """The mean and deviation of ``value`` over ``results``, which differ in nothing but their encoder's seed."""
    results = [result for result in results if value in result.metrics.values]
    if not results:
        return None
    values = [result.metrics.values[value] for result in results]
    return Cell(
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else results[0].metrics.deviations.get(value),
        seeds=tuple(result.origin.get("seed") for result in results),
        repeats=min(len(result.metrics.seeds) if value in result.metrics.deviations else 1 for result in results),
        results=tuple(results),
        unit=results[0].metrics.units.get(value),
    )


def shown(values: Iterable[str]) -> str:
    """Which of an evaluation's values stands for it."""
    names = tuple(values)
    return next((name for name in SHOWN if name in names), names[0])


def heading(evaluation: str) -> str:
    """The evaluation's name in tables and figures."""
    return HEADINGS.get(evaluation, evaluation)

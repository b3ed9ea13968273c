"""What was measured, arranged as in CompRess's Table 1: by teacher and student architecture, method and evaluation."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

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
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@dataclasses.dataclass(frozen=True)
class Group:
    """The students of one architecture and one teacher, whose own architecture is None if it was not measured.

    Teachers that were trained along, each with its student, count as one by their architecture.
    """

    teacher: str
    teacher_architecture: str | None
    architecture: str

    def __str__(self) -> str:
        teacher = f"{self.teacher} ({self.teacher_architecture})" if self.teacher_architecture else self.teacher
        return f"{teacher} → {self.architecture}"


@dataclasses.dataclass(frozen=True)
class Row:
    """What is compared within a group: the teacher, two references of the student's architecture, each method.

    Of teachers that were trained along, each method has a row.
    """

    kind: Literal["teacher", "supervised", "untrained", "method"]
    label: str
    trained_on: str | None = None

    def holds(self, result: Result, group: Group) -> bool:
        """Whether ``result`` belongs in this row of ``group``."""
        if self == TEACHER:
            return result.encoder == group.teacher
        if self.kind == "teacher":
            pair = trained_along(result.architecture), result.origin.get("student_architecture")
            return row_of(result) == self and pair == (group.teacher, group.architecture)
        in_group = (row_of(result), result.architecture) == (self, group.architecture)
        return in_group and result.teacher in (None, group.teacher)


TEACHER = Row("teacher", "Teacher")
UNTRAINED = Row("untrained", "Untrained (floor)")


def row_of(result: Result) -> Row | None:
    """The row that an encoder has by itself; None of one that can only be a teacher."""
    method, trained_on = result.origin["method"], result.origin.get("dataset")
    if result.teacher is not None:
        return Row("method", method, trained_on)
    if "student_architecture" in result.origin:
        return Row("teacher", f"Teacher of {method}", trained_on)
    if method == "supervised":
        return Row("supervised", "Supervised", trained_on)
    return UNTRAINED if method == "untrained" else None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All results on one dataset. ``others`` are the encoders that belong to no group, in a row of their own each.

    ``evaluations`` measure in percent, ``costs`` in units.
    """

    dataset: str
    results: tuple[Result, ...]
    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    others: tuple[str, ...]
    evaluations: tuple[str, ...]
    costs: tuple[str, ...] = ()

    def cell(self, group: Group, row: Row, evaluation: str, value: str | None = None) -> Cell | None:
        """The ``value`` (the one shown, if not given) of ``evaluation``; None if it was not measured."""
        return summary([r for r in self._of(evaluation) if row.holds(r, group)], value or self.shown(evaluation))

    def cell_of(self, encoder: str, evaluation: str, value: str | None = None) -> Cell | None:
        """The same of one encoder, whatever it is."""
        return summary([r for r in self._of(evaluation) if r.encoder == encoder], value or self.shown(evaluation))

    def best(self, group: Group, evaluation: str) -> str | None:
        """The highest mean among the distillation methods, as it is shown; None if there are none."""
        cells = [self.cell(group, row, evaluation) for row in self.rows if row.kind == "method"]
        means = [cell.mean for cell in cells if cell]
        return f"{max(means):.1f}" if means else None

    def values(self, evaluation: str) -> tuple[str, ...]:
        """The names of the evaluation's values."""
        return tuple(dict.fromkeys(name for result in self._of(evaluation) for name in result.metrics.values))

    def shown(self, evaluation: str) -> str:
        """The name of the value that stands for the evaluation."""
        return shown(self.values(evaluation))

    def encoders_of(self, evaluation: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(result.encoder for result in self._of(evaluation)))

    def label(self, row: Row) -> str:
        """The row's label, with the dataset it was trained on where that tells it from another."""
        same = [other for other in self.rows if other.label == row.label]
        return row.label if len(same) == 1 else f"{row.label} (trained on {row.trained_on})"

    def _of(self, evaluation: str) -> list[Result]:
        return [result for result in self.results if result.metrics.evaluation == evaluation]


def shown(values: Iterable[str]) -> str:
    """Which of an evaluation's values stands for it."""
    names = tuple(values)
    return next((name for name in SHOWN if name in names), names[0])


def heading(evaluation: str) -> str:
    """The evaluation's name in tables and figures."""
    return HEADINGS.get(evaluation, evaluation)


def read_comparisons(paths: Sequence[Path]) -> list[Comparison]:
    """One comparison a dataset, in the order in which the datasets, methods and encoders first appear in ``paths``.

    Raises:
        UserError: no files, two that measured the same, or two that cannot stand in one column; both are named.
    """
    if not paths:
        raise UserError("no metrics files were given: expected at least one JSON file written by an evaluation")
    results = [read_result(path) for path in paths]
    _refuse_namesakes(results)
    _refuse_repetition(results)
    architectures = {result.encoder: result.architecture for result in results}
    datasets = dict.fromkeys(result.metrics.dataset for result in results)
    return [
        _comparison(dataset, [result for result in results if result.metrics.dataset == dataset], architectures)
        for dataset in datasets
    ]


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


def _comparison(dataset: str, results: Sequence[Result], architectures: dict[str, str]) -> Comparison:
    students = [result for result in results if result.teacher is not None]
    groups = sorted(
        dict.fromkeys(Group(s.teacher, architectures.get(s.teacher), s.architecture) for s in students if s.teacher),
        key=lambda group: [s.teacher for s in students].index(group.teacher),
    )
    candidates = [TEACHER, *sorted(filter(None, dict.fromkeys(map(row_of, results))), key=_reference_first)]
    rows = [row for row in candidates if any(row.holds(result, group) for result in results for group in groups)]
    seen = [r.encoder for r in results if any(row.holds(r, group) for row in rows for group in groups)]
    costs = {r.metrics.evaluation for r in results if shown(r.metrics.values) in r.metrics.units}
    evaluations = sorted(dict.fromkeys(r.metrics.evaluation for r in results), key=_papers_order)
    comparison = Comparison(
        dataset=dataset,
        results=tuple(results),
        groups=tuple(groups),
        rows=tuple(rows),
        others=tuple(dict.fromkeys(result.encoder for result in results if result.encoder not in seen)),
        evaluations=tuple(name for name in evaluations if name not in costs),
        costs=tuple(name for name in evaluations if name in costs),
    )
    _refuse_mixed_columns(comparison)
    _refuse_ambiguous_cells(comparison)
    return comparison


def _reference_first(row: Row) -> int:
    return ("teacher", "supervised", "untrained", "method").index(row.kind)


def _papers_order(evaluation: str) -> int:
    known = list(HEADINGS)
    return known.index(evaluation) if evaluation in known else len(known)


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


def _refuse_namesakes(results: Iterable[Result]) -> None:
    first: dict[str, Result] = {}
    for result in results:
        known = first.setdefault(result.encoder, result)
        if known.metrics.encoder != result.metrics.encoder:
            raise UserError(
                f"{known.path} and {result.path} measured different encoders of one name, {result.encoder}: "
                f"delete what is out of date and evaluate again, or give one of them another --name"
            )


def _refuse_repetition(results: Iterable[Result]) -> None:
    first: dict[tuple[str, str, str], Result] = {}
    for result in results:
        key = result.encoder, result.metrics.dataset, result.metrics.evaluation
        known = first.setdefault(key, result)
        if known is not result:
            raise UserError(
                f"{known.path} and {result.path} both hold {key[2]} of {key[0]} on {key[1]}: give only one of them, or "
                f"evaluate one under another --name"
            )


def _refuse_mixed_columns(comparison: Comparison) -> None:
    """A column compares what was measured alike: one protocol, on equally many images."""
    first: dict[str, Result] = {}
    for result in comparison.results:
        known = first.setdefault(result.metrics.evaluation, result)
        for what in ("protocol", "n"):
            one, other = (getattr(each.metrics, what) for each in (known, result))
            if one != other:
                raise UserError(
                    f"{known.path} and {result.path} are both {heading(result.metrics.evaluation)} on "
                    f"{comparison.dataset} but differ in {what} ({one}; {other}): evaluate them alike, or one of them "
                    f"under another --name"
                )


def _refuse_ambiguous_cells(comparison: Comparison) -> None:
    """A cell's mean is over seeds: two encoders of one seed differ in something that no label tells."""
    for group in comparison.groups:
        for row in comparison.rows:
            for evaluation in comparison.evaluations:
                cell = comparison.cell(group, row, evaluation)
                first: dict[int | None, Result] = {}
                for seed, result in zip(cell.seeds, cell.results, strict=True) if cell else ():
                    known = first.setdefault(seed, result)
                    if known is not result:
                        raise UserError(
                            f"{known.path} and {result.path}: the encoders {known.encoder} and {result.encoder} are "
                            f"both {row.label} of {group} with seed {seed}, in one cell of the table: give one of "
                            f"them another --label"
                        )

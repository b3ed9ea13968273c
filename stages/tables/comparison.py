"""What was measured, arranged as in CompRess's Table 1: by teacher and student architecture, method and evaluation."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from stages.errors import UserError
from stages.tables.conflicts import (
    refuse_ambiguous_cells,
    refuse_mixed_columns,
    refuse_namesakes,
    refuse_repetition,
)
from stages.tables.results import HEADINGS, Cell, Result, read_result, shown, summary, trained_along


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
        return summary(self._cells.get((group, row, evaluation), []), value or self.shown(evaluation))

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

    @functools.cached_property
    def _cells(self) -> dict[tuple[Group, Row, str], list[Result]]:
        """What belongs into each cell, by group, row and evaluation: sought once, as tables ask for it many times."""
        cells: dict[tuple[Group, Row, str], list[Result]] = {}
        for result, group, row in itertools.product(self.results, self.groups, self.rows):
            if row.holds(result, group):
                cells.setdefault((group, row, result.metrics.evaluation), []).append(result)
        return cells


def read_comparisons(paths: Sequence[Path]) -> list[Comparison]:
    """One comparison a dataset, in the order in which the datasets, methods and encoders first appear in ``paths``.

    Raises:
        UserError: no files, two that measured the same, or two that cannot stand in one column; both are named.
    """
    if not paths:
        raise UserError("no metrics files were given: expected at least one JSON file written by an evaluation")
    results = [read_result(path) for path in paths]
    refuse_namesakes(results)
    refuse_repetition(results)
    architectures = {result.encoder: result.architecture for result in results}
    datasets = dict.fromkeys(result.metrics.dataset for result in results)
    return [
        _comparison(dataset, [result for result in results if result.metrics.dataset == dataset], architectures)
        for dataset in datasets
    ]


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
    refuse_mixed_columns(comparison)
    refuse_ambiguous_cells(comparison)
    return comparison


def _reference_first(row: Row) -> int:
    return ("teacher", "supervised", "untrained", "method").index(row.kind)


def _papers_order(evaluation: str) -> int:
    known = list(HEADINGS)
    return known.index(evaluation) if evaluation in known else len(known)

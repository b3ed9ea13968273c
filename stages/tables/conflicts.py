"""Metrics that cannot stand in one table: two of the same, and two that were not measured alike."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stages.errors import UserError
from stages.tables.results import Result, heading

if TYPE_CHECKING:
    from stages.tables.comparison import Comparison


def refuse_namesakes(results: Iterable[Result]) -> None:
    first: dict[str, Result] = {}
    for result in results:
        known = first.setdefault(result.encoder, result)
        if known.metrics.encoder != result.metrics.encoder:
            raise UserError(
                f"{known.path} and {result.path} measured different encoders of one name, {result.encoder}: "
                f"delete what is out of date and evaluate again, or give one of them another --name"
            )


def refuse_repetition(results: Iterable[Result]) -> None:
    first: dict[tuple[str, str, str], Result] = {}
    for result in results:
        key = result.encoder, result.metrics.dataset, result.metrics.evaluation
        known = first.setdefault(key, result)
        if known is not result:
            raise UserError(
                f"{known.path} and {result.path} both hold {key[2]} of {key[0]} on {key[1]}: give only one of them, or "
                f"evaluate one under another --name"
            )


def refuse_mixed_columns(comparison: "Comparison") -> None:
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


def refuse_ambiguous_cells(comparison: "Comparison") -> None:
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

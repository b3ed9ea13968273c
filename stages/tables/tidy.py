"""Tables as CSV, a cell in a line, with all that is known of it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.tables.results import Cell


def facts_of(cell: "Cell", value: str) -> Iterator[tuple[str, object]]:
    """What is known of a cell of the evaluation's ``value``, by the name of the CSV's column.

    ``std`` is over the ``seeds`` of the encoders if they are several, else over the repeats.
    """
    metrics = cell.results[0].metrics
    yield "value", value
    yield "unit", "percent" if cell.unit is None else cell.unit
    yield "mean", round(cell.mean, 6)
    if cell.std is not None:
        yield "std", round(cell.std, 6)
    yield "seeds", " ".join(str(seed) for seed in cell.seeds if seed is not None)
    yield "repeats", cell.repeats
    yield "dataset", metrics.dataset
    yield from ((f"n_{split}", metrics.n[split]) for split in ("train", "val") if split in metrics.n)
    yield "protocol", metrics.protocol
    yield "encoders", " ".join(result.encoder for result in cell.results)

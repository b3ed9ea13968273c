"""An evaluation's result: a small JSON file of numbers, and everything needed to read them rightly."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.artifacts.atomic import write_text
from stages.artifacts.embeddings import Embeddings
from stages.errors import UserError


@dataclasses.dataclass(frozen=True)
class Metrics:
    """``values`` in percent, but for those with ``units``; ``deviations`` over the ``seeds``, for those repeated.

    ``n`` is how many images there were (`counts`). ``notes`` are findings that are no numbers, such as which layer was
    best.
    """

    encoder: Mapping[str, Any]
    dataset: str
    evaluation: str
    protocol: str
    values: Mapping[str, float]
    deviations: Mapping[str, float]
    n: Mapping[str, int]
    seeds: tuple[int, ...]
    options: Mapping[str, Any]
    wall_time_s: float
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)


def counts(train: int, val: int, skipped: tuple[int, int]) -> dict[str, int]:
    """The images of each split and, only where there are any, those left out because they do not decode."""
    left_out = {"train_skipped": skipped[0], "val_skipped": skipped[1]}
    return {"train": train, "val": val, **{name: images for name, images in left_out.items() if images}}


def metrics_of(
    train: Embeddings,
    val: Embeddings,
    *,
    evaluation: str,
    protocol: str,
    values: Mapping[str, float],
    deviations: Mapping[str, float],
    seeds: tuple[int, ...],
    options: Any,
    wall_time_s: float,
    notes: Mapping[str, str] | None = None,
) -> Metrics:
    """The metrics of an evaluation that compares val with train embeddings."""
    return Metrics(
        encoder=json.loads(val.card.to_json()),
        dataset=val.dataset,
        evaluation=evaluation,
        protocol=protocol,
        values=values,
        deviations=deviations,
        n=counts(len(train.labels), len(val.labels), (train.skipped, val.skipped)),
        seeds=seeds,
        options=dataclasses.asdict(options),
        wall_time_s=round(wall_time_s, 3),
        notes=notes or {},
    )


def write_metrics(path: Path, metrics: Metrics) -> None:
    write_text(path, json.dumps(dataclasses.asdict(metrics), indent=2, sort_keys=True) + "\n")


def read_metrics(path: Path) -> Metrics:
    try:
        fields = json.loads(path.read_text())
        return Metrics(**{**fields, "seeds": tuple(fields["seeds"])})
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: not a metrics file of ours ({error}); delete it and run the evaluation again"
        ) from error

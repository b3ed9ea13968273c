"""An evaluation's result: a small JSON file of numbers, and everything needed to read them rightly."""

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from stages.artifacts.atomic import write_text
from stages.artifacts.weights import EncoderCard
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


class Split(Protocol):
    """A split's images, packed or embedded."""

    @property
    def labels(self) -> NDArray[Any]: ...

    @property
    def skipped(self) -> int: ...


def counts_of(train: Split, val: Split) -> dict[str, int]:
    """The `counts` of an evaluation of two splits."""
    return counts(len(train.labels), len(val.labels), (train.skipped, val.skipped))


def left_out_note(reasons: Mapping[str, str]) -> dict[str, str]:
    """What is to be noted of classes left out of a mean, each with its reason."""
    return {"left_out": "; ".join(f"{name} ({reason})" for name, reason in reasons.items())} if reasons else {}


def metrics_of(
    card: EncoderCard,
    dataset: str,
    n: Mapping[str, int],
    *,
    evaluation: str,
    protocol: str,
    values: Mapping[str, float],
    options: Mapping[str, Any],
    start: float,
    deviations: Mapping[str, float] | None = None,
    seeds: tuple[int, ...] = (),
    units: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Metrics:
    """The metrics of an evaluation of the encoder of ``card`` that began at ``start`` (`time.monotonic`)."""
    return Metrics(
        encoder=json.loads(card.to_json()),
        dataset=dataset,
        evaluation=evaluation,
        protocol=protocol,
        values=values,
        deviations=deviations or {},
        n=n,
        seeds=seeds,
        options=options,
        wall_time_s=round(time.monotonic() - start, 3),
        units=units or {},
        notes=notes or {},
    )


def write_metrics(path: Path, metrics: Metrics) -> None:
    write_text(path, json.dumps(dataclasses.asdict(metrics), indent=2) + "\n")


def read_metrics(path: Path) -> Metrics:
    try:
        fields = json.loads(path.read_text())
        return Metrics(**{**fields, "seeds": tuple(fields["seeds"])})
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: not a metrics file of ours ({error}); unless it was given by mistake, delete it and run the "
            "evaluation again"
        ) from error

"""The references in the table of all, of which an architecture has one row each: the mean over their seeds."""

import dataclasses
import json
from collections.abc import Mapping, Sequence

from experiment.encoders import Encoder, Fetched, Pretrained, Student
from experiment.errors import ConfigError
from experiment.evaluations import Measurement

METHODS = ("supervised", "untrained")
"""Those whose encoders `stages.tables.comparison` puts beside students of their architecture."""


def refuse_mixed_references(measurements: Sequence[Measurement], encoders: Mapping[str, Encoder]) -> None:
    """Refuse, before anything runs, references of one row that differ in more than their seed, or not even in that.

    Raises:
        ConfigError: of the second of them, with what to do.
    """
    students = {
        (m.dataset, encoders[m.encoder].architecture) for m in measurements if isinstance(encoders[m.encoder], Student)
    }
    rows: dict[tuple[str, ...], list[Encoder]] = {}
    for m in measurements:
        encoder = encoders[m.encoder]
        method, trained_on = _origin(encoder)
        if method in METHODS and (m.dataset, encoder.architecture) in students:
            row = rows.setdefault((m.evaluation, m.dataset, encoder.architecture, method, trained_on), [])
            _refuse_another(encoder, row, m.evaluation)
            row.append(encoder)


def _origin(encoder: Encoder) -> tuple[str, str]:
    """By which method an encoder was trained without a teacher, and on what; of others, nothing."""
    if isinstance(encoder, Fetched):
        entry = json.loads(encoder.entry)
        return str(entry.get("method", "")), str(entry.get("dataset", "imagenet"))
    return (encoder.method, encoder.dataset) if isinstance(encoder, Pretrained) else ("", "")


def _refuse_another(encoder: Encoder, row: Sequence[Encoder], evaluation: str) -> None:
    for other in row:
        if not _is_another_seed(encoder, other):
            raise ConfigError(
                f"encoders.{encoder.name}: is in the row of {other.name} in the table of all; expected another seed, "
                f"and nothing else, between them: leave one of them out of {evaluation}, by its key encoders, or "
                "measure it in an experiment of its own"
            )


def _is_another_seed(one: Encoder, other: Encoder) -> bool:
    if not isinstance(one, Pretrained) or not isinstance(other, Pretrained):
        return False
    return one.seed != other.seed and dataclasses.replace(one, name=other.name, seed=other.seed) == other

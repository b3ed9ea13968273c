"""The references in the table of all, of which an architecture has one row each: the mean over their seeds."""

import dataclasses
from collections.abc import Mapping, Sequence

from experiment.encoders import Encoder, Pretrained, Student
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
    rows: dict[tuple[str, ...], list[Pretrained]] = {}
    for m in measurements:
        encoder = encoders[m.encoder]
        if not isinstance(encoder, Pretrained) or encoder.method not in METHODS:
            continue
        if (m.dataset, encoder.architecture) in students:
            key = m.evaluation, m.dataset, encoder.architecture, encoder.method, encoder.dataset
            _refuse_another(encoder, rows.setdefault(key, []), m.evaluation)
            rows[key].append(encoder)


def _refuse_another(encoder: Pretrained, row: Sequence[Pretrained], evaluation: str) -> None:
    for other in row:
        same_but_seed = dataclasses.replace(encoder, name=other.name, seed=other.seed) == other
        if encoder.seed == other.seed or not same_but_seed:
            raise ConfigError(
                f"encoders.{encoder.name}: is in the row of {other.name} in the table of all; expected another seed, "
                f"and nothing else, between them: leave one of them out of {evaluation}, by its key encoders, or "
                "measure it in an experiment of its own"
            )

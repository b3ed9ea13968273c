"""config.yaml, checked and spelled out: an experiment's datasets, encoders, evaluations, tables, figures and claims."""

import fnmatch
from collections.abc import Mapping
from typing import Any, TypeVar

from experiment.datasets import dataset_of, require_labels
from experiment.encoders import Fetched, Pretrained, Student, Trained, encoder_of
from experiment.errors import ConfigError, require
from experiment.evaluations import EVALUATIONS, Measurement, evaluation_of
from experiment.outline import check_outline
from experiment.references import refuse_mixed_references
from experiment.students import with_students
from experiment.tables import Claim, Figure, Table, claims_of, figures_of, tables_of

Kind = TypeVar("Kind")

LONGEST = 230
"""Letters of a file's name, to which its ending comes, and of which file systems take 255."""


class Experiment:
    """A checked config. Encoders are in the order in which they stand in it, students after their groups' order.

    A teacher that is trained along stands before its student.

    Raises:
        ConfigError: the config says something that cannot be run.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        check_outline(config)
        self.datasets = {name: dataset_of(name, entry) for name, entry in config["datasets"].items()}
        others = {name: encoder_of(name, entry, self.datasets) for name, entry in config["encoders"].items()}
        self.encoders = with_students(config, self.datasets, others)
        self.evaluations = {
            name: evaluation_of(name, entry or {}, self.datasets, self.encoders)
            for name, entry in config["evaluations"].items()
        }
        for m in self.measurements:
            base, dataset = self.evaluations[m.evaluation].base, self.datasets[m.dataset]
            what = f"{base} of {m.encoder}"
            require_labels(f"evaluations.{m.evaluation}", what, EVALUATIONS[base].labels, dataset)
            if len(m.folder) > LONGEST:
                raise ConfigError(
                    f"encoders: {m.encoder} on {m.dataset} by {m.evaluation} makes a file's name of {len(m.folder)} "
                    f"letters; expected {LONGEST} at most: shorten these names"
                )
        refuse_mixed_references(self.measurements, self.encoders)
        self.cluster_pictures = list(config.get("cluster_pictures", []))
        for name in self.cluster_pictures:
            require("cluster_pictures", "encoder", name, self.encoders)
            if not self.pictured(name):
                raise ConfigError(
                    f"cluster_pictures: {name} has no clusters on {self.encoders[name].dataset}; expected encoders "
                    "that an evaluation of the kind cluster-alignment measures on their own dataset"
                )
        self.tables: dict[str, Table] = tables_of(config, self)
        self.figures: dict[str, Figure] = figures_of(config, self.tables)
        self.claims: tuple[Claim, ...] = claims_of(config, self.tables)
        self.about: str = config.get("about", "")
        self.containers: Mapping[str, str] = config.get("containers", {})

    def evaluations_of(self, base: str) -> list[str]:
        """The names of the evaluations of the kind ``base``."""
        return [evaluation.name for evaluation in self.evaluations.values() if evaluation.base == base]

    @property
    def measurements(self) -> list[Measurement]:
        """All that is to be measured, encoder by encoder, each in the order of the evaluations."""
        return [
            Measurement(encoder.name, dataset, evaluation.name)
            for encoder in self.encoders.values()
            for evaluation in self.evaluations.values()
            if any(fnmatch.fnmatchcase(encoder.name, pattern) for pattern in evaluation.encoders)
            for dataset in evaluation.datasets or (encoder.dataset,)
        ]

    def pictured(self, encoder: str) -> list[str]:
        """The evaluations that cluster an encoder's own dataset."""
        own, kinds = self.encoders[encoder].dataset, self.evaluations_of("cluster-alignment")
        return [
            m.evaluation
            for m in self.measurements
            if (m.encoder, m.dataset) == (encoder, own) and m.evaluation in kinds
        ]

    @property
    def datasets_in_one(self) -> list[str]:
        """The datasets that one job embeds."""
        return [dataset.name for dataset in self.datasets.values() if dataset.shards == 1]

    @property
    def datasets_in_shards(self) -> list[str]:
        """The datasets that several jobs embed, a part each."""
        return [dataset.name for dataset in self.datasets.values() if dataset.shards > 1]

    def _of_kind(self, kind: type[Kind]) -> dict[str, Kind]:
        return {name: encoder for name, encoder in self.encoders.items() if isinstance(encoder, kind)}

    @property
    def pretrained(self) -> dict[str, Pretrained]:
        return self._of_kind(Pretrained)

    @property
    def fetched(self) -> dict[str, Fetched]:
        return self._of_kind(Fetched)

    @property
    def students(self) -> dict[str, Student]:
        return self._of_kind(Student)

    @property
    def trained(self) -> dict[str, Trained]:
        """Those that have a job of their own which trains them: the pretrained ones and the students."""
        return self._of_kind(Trained)

    @property
    def canaries(self) -> dict[str, float]:
        """The fetched encoders that are to be as good as published, each with its tolerance in points."""
        return {name: encoder.canary for name, encoder in self.fetched.items() if encoder.canary is not None}

    @property
    def online(self) -> list[str]:
        """The students that are trained along with their teachers."""
        return [name for name, student in self.students.items() if student.learns_from == "online"]

    @property
    def distilled(self) -> list[str]:
        """The students whose teachers are there before."""
        return [name for name, student in self.students.items() if student.learns_from != "online"]

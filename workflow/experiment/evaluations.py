"""The config's evaluations: which encoders are measured, how, and on what."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiment.datasets import Dataset, require_augmentation
from experiment.encoders import Encoder
from experiment.errors import ConfigError, require, unknown
from experiment.options import options_of


@dataclass(frozen=True)
class Kind:
    """A kind of evaluation, which has rules of its own: the ``stage`` whose options it takes, and what it reads.

    ``labels`` are how many an image it needs, one or several, or empty where it does not mind; boxes come with several.
    ``embedded`` is one that takes embeddings.
    """

    stage: str
    labels: str = ""
    embedded: bool = False


EVALUATIONS = {
    "linear": Kind("stages.linear_probe", labels="one", embedded=True),
    "knn": Kind("stages.knn", labels="one", embedded=True),
    "cluster-alignment": Kind("stages.cluster", labels="one", embedded=True),
    "retrieval": Kind("stages.retrieval", labels="one", embedded=True),
    "layers": Kind("stages.layer_probe", labels="one"),
    "cost": Kind("stages.cost"),
    "voc-classification": Kind("stages.voc_classification", labels="several", embedded=True),
    "voc-detection": Kind("stages.voc_detection", labels="several"),
}


@dataclass(frozen=True)
class Evaluation:
    """A way to measure encoders: those that ``encoders``' patterns name, each on ``datasets`` or, without, on its own.

    ``base`` is the kind of evaluation, of which this is a variant or the plain form.
    """

    name: str
    base: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Measurement:
    """One encoder, evaluated one way on one dataset."""

    encoder: str
    dataset: str
    evaluation: str

    @property
    def file(self) -> str:
        """Its metrics, as the evaluations' rules name their output."""
        return f"results/metrics/{self.encoder}/{self.dataset}-{self.evaluation}.json"

    @property
    def folder(self) -> str:
        """The longest name that it gives: of the folder for the state of an unfinished linear probe."""
        return f"{self.encoder}--{self.dataset}--{self.evaluation}"


def evaluation_of(
    name: str, entry: Mapping[str, Any], datasets: Mapping[str, Dataset], encoders: Mapping[str, Encoder]
) -> Evaluation:
    where = f"evaluations.{name}"
    base = entry.get("evaluation", name)
    require(where, "evaluation", base, EVALUATIONS)
    if "augmentation" in entry:
        require_augmentation(where, entry["augmentation"])
    for dataset in entry.get("datasets", []):
        require(f"{where}.datasets", "dataset", dataset, datasets)
    for pattern in entry.get("encoders", []):
        if not fnmatch.filter(encoders, pattern):
            raise ConfigError(f"{where}.encoders: {unknown('encoder', pattern, encoders)}")
    return Evaluation(
        name=name,
        base=base,
        datasets=tuple(entry.get("datasets", ())),
        encoders=tuple(entry.get("encoders", ("*",))),
        options=options_of(where, EVALUATIONS[base].stage, entry, {"evaluation", "datasets", "encoders"}),
    )

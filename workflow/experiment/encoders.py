"""The config's encoders: public checkpoints, those trained here without a teacher, and what students of them are."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiment import source
from experiment.architectures import require_architecture
from experiment.datasets import Dataset, require_augmentation, require_labels
from experiment.errors import ConfigError, require, unknown
from experiment.options import options_of

CATALOGUE = source.ROOT / "stages" / "checkpoints" / "catalogue.toml"

WHENCE = ("url", "convert", "published")
"""What the catalogue says of a checkpoint that no weights depend on: where it is from, and how good it is."""


@dataclass(frozen=True)
class Trained:
    """What every encoder has that a job of its own trains; ``method`` is its file's name."""

    name: str
    method: str
    architecture: str
    dataset: str
    augmentation: str
    normalisation: str
    seed: int
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Pretrained(Trained):
    """An encoder trained without a teacher."""


@dataclass(frozen=True)
class Fetched:
    """A public checkpoint, in ``file``. ``entry`` is its table in the catalogue, as text, but for `WHENCE`.

    ``by_hand`` is what the user has to do for a file that cannot be downloaded. ``canary`` is by how many points its
    accuracy may differ from the ``published`` one, a protocol and a percentage, if it is to be compared.
    """

    name: str
    checkpoint: str
    architecture: str
    dataset: str
    file: str
    by_hand: str
    entry: str
    canary: float | None
    published: tuple[str, float] | None


@dataclass(frozen=True)
class Student(Trained):
    """An encoder distilled from another; ``label`` is the method's name in the config.

    ``learns_from`` is what it needs of its teacher: cached ``embeddings``, the ``weights`` of a live one,
    ``assignments``, the clusters of its embeddings, the ``networks`` that it was trained with, or nothing that is there
    before: the teacher is trained ``online``, along with it. Cached embeddings are of so many ``teacher_views`` of each
    image or, with 0, of the plain one.
    """

    teacher: str
    learns_from: str
    label: str
    teacher_views: int

    @property
    def view_files(self) -> list[str]:
        """The caches of the views that its teacher embeds, in their order."""
        folder = f"results/views/{self.teacher}/{self.dataset}-{self.augmentation}"
        # An epoch shows one of them to the student.
        seen = min(self.teacher_views, max(1, self.options["epochs"]))
        return [f"{folder}/{number}.h5" for number in range(seen)]

    @property
    def heads(self) -> str:
        """What it needs of its teacher's training beside the encoder: all ``networks``, a ``projector``, or nothing."""
        projector = "projector" if self.options.get("teacher_head") else ""
        return "networks" if self.learns_from == "networks" else projector


@dataclass(frozen=True)
class OnlineTeacher:
    """The teacher of the one student ``student``, whose training trains it along."""

    name: str
    student: str
    method: str
    architecture: str
    dataset: str
    options: Mapping[str, Any]


Encoder = Pretrained | Fetched | Student | OnlineTeacher


def encoder_of(name: str, entry: Mapping[str, Any], datasets: Mapping[str, Dataset]) -> Pretrained | Fetched:
    """An encoder without a teacher."""
    where = f"encoders.{name}"
    require(f"{where}.dataset", "dataset", entry["dataset"], datasets)
    if ("pretrain" in entry) == ("fetch" in entry):
        raise ConfigError(f"{where}: expected one of the keys pretrain and fetch, found {', '.join(entry)}")
    dataset = datasets[entry["dataset"]]
    return _fetched(where, name, entry, dataset) if "fetch" in entry else _pretrained(where, name, entry, dataset)


def _fetched(where: str, name: str, entry: Mapping[str, Any], dataset: Dataset) -> Fetched:
    for key in entry:
        if key not in ("fetch", "dataset", "canary"):
            raise ConfigError(f"{where}: {unknown('key', key, ('fetch', 'dataset', 'canary'))}")
    catalogue = _catalogue()
    require(f"{where}.fetch", "checkpoint", entry["fetch"], catalogue)
    table = catalogue[entry["fetch"]]
    if table.get("unsupported"):
        raise ConfigError(f"{where}.fetch: {entry['fetch']} cannot be used: {table['unsupported']}")
    if "architecture" not in table:
        raise ConfigError(f"{where}.fetch: the table {entry['fetch']} of {CATALOGUE.name} has no architecture")
    published = None
    if "canary" in entry:
        require_labels(where, f"canary of {name}", "one", dataset)
        published = _published(f"{where}.canary", entry["fetch"], table.get("published", {}))
    return Fetched(
        name=name,
        checkpoint=entry["fetch"],
        architecture=table["architecture"],
        dataset=dataset.name,
        file=table.get("file") or table.get("url", "").rpartition("/")[2],
        by_hand=table.get("convert") or ("" if table.get("url") else "copy it"),
        entry=json.dumps({key: value for key, value in table.items() if key not in WHENCE}, sort_keys=True),
        canary=entry.get("canary"),
        published=published,
    )


def _pretrained(where: str, name: str, entry: Mapping[str, Any], dataset: Dataset) -> Pretrained:
    if "architecture" not in entry:
        raise ConfigError(f"{where}: the key 'architecture' is missing (such as resnet18 or mobilenet_v2)")
    require_architecture(f"{where}.architecture", entry["architecture"], dataset)
    method = entry["pretrain"]
    require(f"{where}.pretrain", "pretraining method", method, source.plugins("stages.pretraining"))
    module = source.plugin_module("stages.pretraining", method)
    require_labels(where, f"{method} of {name}", source.literal(module, "LABELS", ""), dataset)
    fixed = {"pretrain", "architecture", "dataset", "augmentation", "normalisation", "seed"}
    return Pretrained(
        name=name,
        method=method,
        architecture=entry["architecture"],
        dataset=dataset.name,
        augmentation=augmentation_of(where, entry, module, dataset),
        normalisation=entry.get("normalisation", "imagenet"),
        seed=entry.get("seed", 0),
        options=options_of(where, module, entry, fixed),
    )


def augmentation_of(where: str, entry: Mapping[str, Any], module: str, dataset: Dataset) -> str:
    """The entry's own augmentation or that of the paper of its method, ``module``, or else the dataset's."""
    name = str(entry.get("augmentation") or source.literal(module, "AUGMENTATION", dataset.augmentation))
    require_augmentation(where, name)
    return name


def _catalogue() -> dict[str, Any]:
    try:
        return tomllib.loads(CATALOGUE.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{CATALOGUE}: not a TOML file (are all texts in quotes?): {error}") from None


def _published(where: str, checkpoint: str, published: Mapping[str, float]) -> tuple[str, float]:
    """The protocol and the accuracy that a canary compares with: of neighbours, which not all have published."""
    names = [name for name, _ in source.literal("stages.canary", "PROTOCOLS", ())]
    for name in names:
        if name in published:
            return name, published[name]
    raise ConfigError(
        f"{where}: {checkpoint} has no published accuracy of nearest neighbours to compare with; expected one of "
        f"{', '.join(names)} in its table of {CATALOGUE.name}, found {', '.join(published) or 'none'}; take the key out"
    )

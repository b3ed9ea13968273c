"""config.yaml, checked and spelled out: the datasets, encoders, students and evaluations of an experiment."""

import difflib
import fnmatch
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from experiment import source

SCHEMA = Path(__file__).resolve().parents[1] / "schemas" / "config.schema.yaml"

CATALOGUE = source.ROOT / "stages" / "checkpoints" / "catalogue.toml"

EVALUATIONS = {
    "linear": "stages.linear_probe",
    "knn": "stages.knn",
    "cluster-alignment": "stages.cluster",
    "voc-classification": "stages.voc_classification",
    "voc-detection": "stages.voc_detection",
}
"""The evaluations that have rules of their own, each with the stage whose options it takes."""

LABELS = {
    **dict.fromkeys(("linear", "knn", "cluster-alignment"), "one"),
    **dict.fromkeys(("voc-classification", "voc-detection"), "several"),
}
"""How many labels an image an evaluation needs, for those that mind. Boxes come with several."""


class ConfigError(Exception):
    """What is wrong with the config, where, what was expected and what to do, in one line."""


@dataclass(frozen=True)
class Dataset:
    name: str
    source: str
    size: int
    augmentation: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Pretrained:
    """An encoder trained without a teacher."""

    name: str
    method: str
    architecture: str
    dataset: str
    augmentation: str
    normalisation: str
    seed: int
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Fetched:
    """A public checkpoint. ``entry`` is its table in the catalogue, as text: what a change of it changes."""

    name: str
    checkpoint: str
    architecture: str
    dataset: str
    entry: str


@dataclass(frozen=True)
class Student:
    """An encoder distilled from another; ``label`` is the method's name in the config, ``method`` its file's.

    ``learns_from`` is what it needs of its teacher: cached ``embeddings``, the ``weights`` of a live one,
    ``assignments``, the clusters of its embeddings, or the ``networks`` that it was trained with.
    """

    name: str
    teacher: str
    learns_from: str
    label: str
    method: str
    architecture: str
    dataset: str
    augmentation: str
    normalisation: str
    seed: int
    options: Mapping[str, Any]


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
    """One encoder, evaluated one way on one dataset: a metrics file."""

    encoder: str
    dataset: str
    evaluation: str


Encoder = Pretrained | Fetched | Student


class Experiment:
    """A checked config. Encoders are in the order in which they stand in it, students after their groups' order.

    Raises:
        ConfigError: the config says something that cannot be run.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        _check_schema(config)
        self.datasets = {name: _dataset(name, entry) for name, entry in config["datasets"].items()}
        self.encoders: dict[str, Encoder] = {
            name: self._without_teacher(name, entry) for name, entry in config["encoders"].items()
        }
        methods = {name: dict(entry) for name, entry in config.get("methods", {}).items()}
        groups = config.get("students", [])
        known = {*self.encoders, *(name for group in groups for name in _names_of(group))}
        for number, group in enumerate(groups):
            for student in self._group(f"students[{number}]", group, methods, known):
                self.encoders[student.name] = student
        self.evaluations = {name: self._evaluation(name, entry or {}) for name, entry in config["evaluations"].items()}
        for measurement in self.measurements:
            self._check_labels(measurement)
        self.cluster_pictures = list(config.get("cluster_pictures", []))
        for name in self.cluster_pictures:
            _require("cluster_pictures", "encoder", name, self.encoders)
        if self.cluster_pictures and not self.evaluations_of("cluster-alignment"):
            raise ConfigError("cluster_pictures: needs an evaluation of the kind cluster-alignment")
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

    @property
    def pretrained(self) -> list[str]:
        return [name for name, encoder in self.encoders.items() if isinstance(encoder, Pretrained)]

    @property
    def fetched(self) -> list[str]:
        return [name for name, encoder in self.encoders.items() if isinstance(encoder, Fetched)]

    @property
    def students(self) -> list[str]:
        return [name for name, encoder in self.encoders.items() if isinstance(encoder, Student)]

    def student(self, name: str) -> Student:
        student = self.encoders[name]
        assert isinstance(student, Student)
        return student

    def _without_teacher(self, name: str, entry: Mapping[str, Any]) -> Pretrained | Fetched:
        where = f"encoders.{name}"
        _require(f"{where}.dataset", "dataset", entry["dataset"], self.datasets)
        if ("pretrain" in entry) == ("fetch" in entry):
            raise ConfigError(f"{where}: expected one of the keys pretrain and fetch, found {', '.join(entry)}")
        return self._fetched(where, name, entry) if "fetch" in entry else self._pretrained(where, name, entry)

    def _fetched(self, where: str, name: str, entry: Mapping[str, Any]) -> Fetched:
        for key in entry:
            if key not in ("fetch", "dataset"):
                raise ConfigError(f"{where}: {_unknown('key', key, ('fetch', 'dataset'))}")
        catalogue = tomllib.loads(CATALOGUE.read_text())
        _require(f"{where}.fetch", "checkpoint", entry["fetch"], catalogue)
        table = catalogue[entry["fetch"]]
        return Fetched(name, entry["fetch"], table["architecture"], entry["dataset"], json.dumps(table, sort_keys=True))

    def _pretrained(self, where: str, name: str, entry: Mapping[str, Any]) -> Pretrained:
        if "architecture" not in entry:
            raise ConfigError(f"{where}: the key 'architecture' is missing (such as resnet18 or mobilenet_v2)")
        _check_architecture(f"{where}.architecture", entry["architecture"])
        method = entry["pretrain"]
        _require(f"{where}.pretrain", "pretraining method", method, source.plugins("stages.pretraining"))
        fixed = {"pretrain", "architecture", "dataset", "augmentation", "normalisation", "seed"}
        return Pretrained(
            name=name,
            method=method,
            architecture=entry["architecture"],
            dataset=entry["dataset"],
            augmentation=self._augmentation(where, entry),
            normalisation=entry.get("normalisation", "imagenet"),
            seed=entry.get("seed", 0),
            options=_options(where, source.plugin_module("stages.pretraining", method), entry, fixed),
        )

    def _augmentation(self, where: str, entry: Mapping[str, Any]) -> str:
        """The entry's own augmentation, or its dataset's."""
        name = entry.get("augmentation", self.datasets[entry["dataset"]].augmentation)
        _require(f"{where}.augmentation", "augmentation", name, source.plugins("stages.datasets.augmentations"))
        return str(name)

    def _group(
        self, where: str, group: Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]], known: Iterable[str]
    ) -> Iterable[Student]:
        """A group's students: every teacher with every architecture, method and seed."""
        for architecture in group["architectures"]:
            _check_architecture(f"{where}.architectures", architecture)
        for name, (teacher, architecture, label, seed) in _names_of(group).items():
            others = [other for other in known if not other.startswith(f"{teacher}--")]
            _require(f"{where}.teachers", "encoder", teacher, others)
            _require(f"{where}.methods", "method", label, [*source.plugins("stages.distillation"), *methods])
            variant = {"method": label, **methods.get(label, {})}
            method = variant.pop("method")
            _require(f"methods.{label}.method", "method", method, source.plugins("stages.distillation"))
            module = source.plugin_module("stages.distillation", method)
            shared = _given(f"{where}.options", module, group.get("options", {}))
            options = _options(f"methods.{label}", module, {**shared, **variant})
            dataset = group["dataset"]
            _require(f"{where}.dataset", "dataset", dataset, self.datasets)
            yield Student(
                name=name,
                teacher=teacher,
                learns_from=self._learns_from(where, module, label, teacher, group.get("teacher")),
                label=label,
                method=method,
                architecture=architecture,
                dataset=dataset,
                augmentation=self._augmentation(where, group),
                normalisation=group.get("normalisation", "imagenet"),
                seed=seed,
                options=options,
            )

    def _evaluation(self, name: str, entry: Mapping[str, Any]) -> Evaluation:
        where = f"evaluations.{name}"
        base = entry.get("evaluation", name)
        _require(where, "evaluation", base, EVALUATIONS)
        for dataset in entry.get("datasets", []):
            _require(f"{where}.datasets", "dataset", dataset, self.datasets)
        for pattern in entry.get("encoders", []):
            if not fnmatch.filter(self.encoders, pattern):
                raise ConfigError(f"{where}.encoders: {_unknown('encoder', pattern, self.encoders)}")
        return Evaluation(
            name=name,
            base=base,
            datasets=tuple(entry.get("datasets", ())),
            encoders=tuple(entry.get("encoders", ("*",))),
            options=_options(where, EVALUATIONS[base], entry, {"evaluation", "datasets", "encoders"}),
        )

    def _check_labels(self, measurement: Measurement) -> None:
        """Refuse, before anything runs, an evaluation on images whose labels it cannot read."""
        kind, dataset = self.evaluations[measurement.evaluation].base, self.datasets[measurement.dataset]
        found = source.constant(source.plugin_module("stages.datasets.sources", dataset.source), "LABELS", "one")
        needed = LABELS.get(kind, found)
        if found != needed:
            raise ConfigError(
                f"evaluations.{measurement.evaluation}: {kind} of {measurement.encoder} on {dataset.name} needs images "
                f"with {needed} label{'s' if needed == 'several' else ''} each, but {dataset.source} has {found}; name "
                "other datasets or encoders"
            )

    def _learns_from(self, where: str, module: str, label: str, teacher: str, asked: str | None) -> str:
        """What a method learns from; ``asked`` is whether the group wants the teacher cached or live, if it says so."""
        needed = source.constant(module, "TEACHER", "embeddings")
        if needed == "embeddings":
            return "weights" if asked == "live" else "embeddings"
        only = "live" if needed == "networks" else "cached"
        if asked not in (None, only):
            raise ConfigError(
                f"{where}.teacher: {label} learns from the teacher's {needed}, which are {only}; expected {only}"
            )
        if needed == "networks":
            self._require_networks(where, label, teacher)
        return needed

    def _require_networks(self, where: str, label: str, name: str) -> None:
        """Only some ways of pretraining leave, beside the encoder, the networks that ``label`` learns from."""
        package = "stages.pretraining"
        leave = [
            method
            for method in source.plugins(package)
            if source.constant(source.plugin_module(package, method), "HEADS", "") == "networks"
        ]
        teacher = self.encoders.get(name)
        if not isinstance(teacher, Pretrained) or teacher.method not in leave:
            how = "is a student" if teacher is None or isinstance(teacher, Student) else "was fetched"
            if isinstance(teacher, Pretrained):
                how = f"was trained by {teacher.method}, which leaves no projector"
            raise ConfigError(
                f"{where}.teachers: teacher {name} {how}; {label} needs a teacher pretrained by {' or '.join(leave)}"
            )


def _names_of(group: Mapping[str, Any]) -> dict[str, tuple[str, str, str, int]]:
    """A group's students by name, as (teacher, architecture, method label, seed).

    A student's name holds its teacher's, so a circle of teachers cannot be written down. It names a folder, so that of
    timm/resnet18 has a dash for the slash.
    """
    return {
        f"{teacher}--{architecture.replace('/', '-')}--{label}--seed{seed}": (teacher, architecture, label, seed)
        for teacher in group["teachers"]
        for architecture in group["architectures"]
        for label in group["methods"]
        for seed in group.get("seeds", [0])
    }


def _dataset(name: str, entry: Mapping[str, Any]) -> Dataset:
    where = f"datasets.{name}"
    _require(f"{where}.source", "dataset source", entry["source"], source.plugins("stages.datasets.sources"))
    _require(
        f"{where}.augmentation", "augmentation", entry["augmentation"], source.plugins("stages.datasets.augmentations")
    )
    module = source.plugin_module("stages.datasets.sources", entry["source"])
    return Dataset(
        name=name,
        source=entry["source"],
        size=entry["size"],
        augmentation=entry["augmentation"],
        options=_options(where, module, entry, {"source", "size", "augmentation"}),
    )


def _options(where: str, module: str, entry: Mapping[str, Any], fixed: Iterable[str] = ()) -> dict[str, Any]:
    """All options of ``module``: the entry's values, and the defaults for what it leaves out.

    So a default that is written out in the config is the same as one that is not.
    """
    known = source.options(module)
    given = _given(where, module, {key: value for key, value in entry.items() if key not in fixed}, fixed)
    for option in known.values():
        if option.required and option.name not in given:
            raise ConfigError(f"{where}: the key {option.name!r} is missing ({option.help})")
    return {name: given.get(name, option.default) for name, option in known.items()}


def _given(where: str, module: str, values: Mapping[str, Any], fixed: Iterable[str] = ()) -> dict[str, Any]:
    """``values``, each checked to be an option of ``module`` and of its type."""
    known = source.options(module)
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{where}: {_unknown('key', key, [*known, *fixed])}")
        if not known[key].accepts(value):
            raise ConfigError(f"{where}.{key}: expected {known[key].expected}, got {value!r} ({known[key].help})")
    return dict(values)


def _check_architecture(where: str, name: str) -> None:
    families = source.plugins("stages.architectures")
    if source.architecture_family(name) not in families:
        raise ConfigError(f"{where}: {_unknown('architecture', name, families)}, each with its variant, as in resnet18")


def _require(where: str, kind: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise ConfigError(f"{where}: {_unknown(kind, name, known)}")


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    hint = f", did you mean {nearest[0]!r}?" if nearest else ";"
    return f"unknown {kind} {name!r}{hint} known are {', '.join(sorted(known))}"


def _check_schema(config: Mapping[str, Any]) -> None:
    """Check the config's outline; the options inside are checked against the stages that take them."""
    validator = Draft202012Validator(yaml.safe_load(SCHEMA.read_text()))
    for error in sorted(validator.iter_errors(config), key=lambda error: list(map(str, error.absolute_path))):
        raise ConfigError(_schema_message(error))


def _schema_message(error: Any) -> str:
    where = ".".join(map(str, error.absolute_path)) or "the config"
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        odd = next(key for key in error.instance if key not in known)
        return f"{where}: {_unknown('key', odd, known)}"
    if error.validator == "enum":
        return f"{where}: {_unknown('value', error.instance, error.validator_value)} ({error.schema['description']})"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        text = error.schema["properties"][missing].get("description", "")
        return f"{where}: the key {missing!r} is missing ({text})"
    text = error.schema.get("description")
    return f"{where}: {error.message}" + (f" ({text})" if text else "")

"""config.yaml, checked and spelled out: an experiment's datasets, encoders, evaluations, tables, figures and claims."""

import fnmatch
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from experiment import source
from experiment.errors import ConfigError, require, unknown
from experiment.tables import Claim, Figure, Table, claims_of, figures_of, tables_of

SCHEMA = Path(__file__).resolve().parents[1] / "schemas" / "config.schema.yaml"

PACKING = "stages.fetch_dataset"
"""The stage whose options every dataset takes, beside those of its source."""

CATALOGUE = source.ROOT / "stages" / "checkpoints" / "catalogue.toml"

EVALUATIONS = {
    "linear": "stages.linear_probe",
    "knn": "stages.knn",
    "cluster-alignment": "stages.cluster",
    "retrieval": "stages.retrieval",
    "layers": "stages.layer_probe",
    "cost": "stages.cost",
    "voc-classification": "stages.voc_classification",
    "voc-detection": "stages.voc_detection",
}
"""The evaluations that have rules of their own, each with the stage whose options it takes."""

LABELS = {
    **dict.fromkeys(("linear", "knn", "cluster-alignment", "retrieval", "layers", "supervised"), "one"),
    **dict.fromkeys(("voc-classification", "voc-detection"), "several"),
}
"""How many labels an image an evaluation or a pretraining method needs, if it minds. Boxes come with several."""


@dataclass(frozen=True)
class Dataset:
    name: str
    source: str
    size: int
    augmentation: str
    shards: int
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
    """A public checkpoint. ``entry`` is its table in the catalogue, as text: what a change of it changes.

    ``canary`` is by how many points its accuracy may differ from the published one, if it is to be compared.
    """

    name: str
    checkpoint: str
    architecture: str
    dataset: str
    entry: str
    canary: float | None


@dataclass(frozen=True)
class Student:
    """An encoder distilled from another; ``label`` is the method's name in the config, ``method`` its file's.

    ``learns_from`` is what it needs of its teacher: cached ``embeddings``, the ``weights`` of a live one,
    ``assignments``, the clusters of its embeddings, the ``networks`` that it was trained with, or nothing that is there
    before: the teacher is trained ``online``, along with it.
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


Encoder = Pretrained | Fetched | Student | OnlineTeacher

Methods = Mapping[str, Mapping[str, Any]]
"""The config's methods: options by the name of a method or a variant, whose key ``method`` says of which."""

TEACHER_SUFFIX = "--teacher"
"""What the name of a teacher that is trained along has after that of its student."""


class Experiment:
    """A checked config. Encoders are in the order in which they stand in it, students after their groups' order.

    A teacher that is trained along stands before its student.

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
        for name in methods:
            _check_method(name, methods)
        groups = [(f"students[{number}]", group) for number, group in enumerate(config.get("students", []))]
        known = {*self.encoders, *(name for _, group in groups for name in _all_names_of(group, methods))}
        for where, group in groups:
            for encoder in self._group(where, group, methods, known):
                _refuse_another(where, encoder, self.encoders)
                self.encoders[encoder.name] = encoder
        for where, group in groups:
            for name in _names_of(group):
                self._require_heads(where, self.student(name))
        self.evaluations = {name: self._evaluation(name, entry or {}) for name, entry in config["evaluations"].items()}
        for m in self.measurements:
            kind, dataset = self.evaluations[m.evaluation].base, self.datasets[m.dataset]
            _check_labels(f"evaluations.{m.evaluation}", kind, m.encoder, dataset)
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

    @property
    def pretrained(self) -> list[str]:
        return [name for name, encoder in self.encoders.items() if isinstance(encoder, Pretrained)]

    @property
    def fetched(self) -> list[str]:
        return [name for name, encoder in self.encoders.items() if isinstance(encoder, Fetched)]

    @property
    def canaries(self) -> dict[str, float]:
        """The fetched encoders that are to be as good as published, each with its tolerance in points."""
        fetched = (encoder for encoder in self.encoders.values() if isinstance(encoder, Fetched))
        return {encoder.name: encoder.canary for encoder in fetched if encoder.canary is not None}

    @property
    def students(self) -> list[str]:
        return [name for name, encoder in self.encoders.items() if isinstance(encoder, Student)]

    @property
    def online(self) -> list[str]:
        """The students that are trained along with their teachers."""
        return [name for name in self.students if self.student(name).learns_from == "online"]

    @property
    def distilled(self) -> list[str]:
        """The students whose teachers are there before."""
        return [name for name in self.students if self.student(name).learns_from != "online"]

    def student(self, name: str) -> Student:
        student = self.encoders[name]
        assert isinstance(student, Student)
        return student

    def _without_teacher(self, name: str, entry: Mapping[str, Any]) -> Pretrained | Fetched:
        where = f"encoders.{name}"
        require(f"{where}.dataset", "dataset", entry["dataset"], self.datasets)
        if ("pretrain" in entry) == ("fetch" in entry):
            raise ConfigError(f"{where}: expected one of the keys pretrain and fetch, found {', '.join(entry)}")
        return self._fetched(where, name, entry) if "fetch" in entry else self._pretrained(where, name, entry)

    def _fetched(self, where: str, name: str, entry: Mapping[str, Any]) -> Fetched:
        for key in entry:
            if key not in ("fetch", "dataset", "canary"):
                raise ConfigError(f"{where}: {unknown('key', key, ('fetch', 'dataset', 'canary'))}")
        catalogue = _catalogue()
        require(f"{where}.fetch", "checkpoint", entry["fetch"], catalogue)
        table = catalogue[entry["fetch"]]
        if "architecture" not in table:
            raise ConfigError(f"{where}.fetch: the table {entry['fetch']} of {CATALOGUE.name} has no architecture")
        if "canary" in entry:
            _check_labels(where, "knn", name, self.datasets[entry["dataset"]])
            _require_published(f"{where}.canary", entry["fetch"], table.get("published", {}))
        text = json.dumps(table, sort_keys=True)
        return Fetched(name, entry["fetch"], table["architecture"], entry["dataset"], text, entry.get("canary"))

    def _pretrained(self, where: str, name: str, entry: Mapping[str, Any]) -> Pretrained:
        if "architecture" not in entry:
            raise ConfigError(f"{where}: the key 'architecture' is missing (such as resnet18 or mobilenet_v2)")
        _check_architecture(f"{where}.architecture", entry["architecture"], self.datasets[entry["dataset"]])
        method = entry["pretrain"]
        require(f"{where}.pretrain", "pretraining method", method, source.plugins("stages.pretraining"))
        _check_labels(where, method, name, self.datasets[entry["dataset"]])
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
        require(f"{where}.augmentation", "augmentation", name, source.plugins("stages.datasets.augmentations"))
        return str(name)

    def _group(
        self, where: str, group: Mapping[str, Any], methods: Methods, known: Iterable[str]
    ) -> Iterable[Student | OnlineTeacher]:
        """A group's students: every teacher with every architecture, method and seed; with the teachers of its own."""
        require(f"{where}.dataset", "dataset", group["dataset"], self.datasets)
        dataset = self.datasets[group["dataset"]]
        for architecture in group["architectures"]:
            _check_architecture(f"{where}.architectures", architecture, dataset)
        for label in group["methods"]:
            require(f"{where}.methods", "method", label, [*source.plugins("stages.distillation"), *methods])
        online = _is_online(where, group, methods)
        for teacher in group["teachers"]:
            if online:
                _check_architecture(f"{where}.teachers: {group['methods'][0]} trains them along", teacher, dataset)
            else:
                others = [other for other in known if not other.startswith(f"{teacher}--")]
                require(f"{where}.teachers", "encoder", teacher, others)
        for name, (teacher, architecture, label, seed) in _names_of(group).items():
            method = _method_of(label, methods)
            module = source.plugin_module("stages.distillation", method)
            variant = _variant_options(label, methods)
            shared = _given(f"{where}.options", module, group.get("options", {}))
            options = _options(f"{where}: {label}", module, {**shared, **variant})
            if online:
                teacher_name = f"{name}{TEACHER_SUFFIX}"
                yield OnlineTeacher(teacher_name, name, method, teacher, dataset.name, options)
                teacher = teacher_name
            yield Student(
                name=name,
                teacher=teacher,
                learns_from=_learns_from(where, module, label, group.get("teacher")),
                label=label,
                method=method,
                architecture=architecture,
                dataset=dataset.name,
                augmentation=self._augmentation(where, group),
                normalisation=group.get("normalisation", "imagenet"),
                seed=seed,
                options=options,
            )

    def _evaluation(self, name: str, entry: Mapping[str, Any]) -> Evaluation:
        where = f"evaluations.{name}"
        base = entry.get("evaluation", name)
        require(where, "evaluation", base, EVALUATIONS)
        if "augmentation" in entry:
            names = source.plugins("stages.datasets.augmentations")
            require(f"{where}.augmentation", "augmentation", entry["augmentation"], names)
        for dataset in entry.get("datasets", []):
            require(f"{where}.datasets", "dataset", dataset, self.datasets)
        for pattern in entry.get("encoders", []):
            if not fnmatch.filter(self.encoders, pattern):
                raise ConfigError(f"{where}.encoders: {unknown('encoder', pattern, self.encoders)}")
        return Evaluation(
            name=name,
            base=base,
            datasets=tuple(entry.get("datasets", ())),
            encoders=tuple(entry.get("encoders", ("*",))),
            options=_options(where, EVALUATIONS[base], entry, {"evaluation", "datasets", "encoders"}),
        )

    def _require_heads(self, where: str, student: Student) -> None:
        """Not every teacher's training leaves, beside the encoder, the heads that the student learns from."""
        teacher = self.encoders[student.teacher]
        left = _heads_left_by(teacher)
        # What a public checkpoint holds beside the backbone is for the stage that reads it to find out.
        untold = isinstance(teacher, Fetched) and student.heads == "projector"
        if untold or student.heads in ("", *left):
            return
        how = "is a student" if isinstance(teacher, Student) else "was fetched"
        if isinstance(teacher, Pretrained):
            how = f"was trained by {teacher.method}, which leaves no {'target network' if left else 'projector'}"
        package = "stages.pretraining"
        leave = [
            name for name in source.plugins(package) if student.heads in _heads(source.plugin_module(package, name))
        ]
        instead = ", or the option teacher_head: false" if student.heads == "projector" else ""
        raise ConfigError(
            f"{where}.teachers: teacher {teacher.name} {how}; {student.label} needs a teacher pretrained by "
            f"{' or '.join(leave)}{instead}"
        )


def _check_labels(where: str, kind: str, encoder: str, dataset: Dataset) -> None:
    """Refuse, before anything runs, an evaluation of or a training on images whose labels it cannot read."""
    found = source.constant(
        source.plugin_module("stages.datasets.sources", dataset.source), "LABELS", "one", dataset.options
    )
    needed = LABELS.get(kind, found)
    if found != needed:
        raise ConfigError(
            f"{where}: {kind} of {encoder} on {dataset.name} needs images with {needed} "
            f"label{'s' if needed == 'several' else ''} each, but {dataset.source} has {found}; name other datasets or "
            "encoders"
        )


def _catalogue() -> dict[str, Any]:
    try:
        return tomllib.loads(CATALOGUE.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{CATALOGUE}: not a TOML file (are all texts in quotes?): {error}") from None


def _require_published(where: str, checkpoint: str, published: Mapping[str, float]) -> None:
    """A canary compares accuracies of neighbours, which not all authors have published."""
    nothing: tuple[tuple[str, object], ...] = ()
    names = [name for name, _ in source.constant("stages.canary", "PROTOCOLS", nothing)]
    if not published.keys() & set(names):
        raise ConfigError(
            f"{where}: {checkpoint} has no published accuracy of nearest neighbours to compare with; expected one of "
            f"{', '.join(names)} in its table of {CATALOGUE.name}, found {', '.join(published) or 'none'}; take the "
            "key out"
        )


def _refuse_another(where: str, encoder: Encoder, encoders: Mapping[str, Encoder]) -> None:
    """Two groups may name one student, but not two of one name: of these, only one would be trained."""
    if encoders.get(encoder.name, encoder) != encoder:
        raise ConfigError(
            f"{where}: another group has a student {encoder.name} already, with other settings; expected one of each "
            "name: give one of them a variant of its own under methods"
        )


def _heads_left_by(encoder: Encoder) -> tuple[str, ...]:
    """What an encoder's training leaves beside it, as far as the method says: none of a student or a download."""
    if isinstance(encoder, Pretrained):
        return _heads(source.plugin_module("stages.pretraining", encoder.method))
    if isinstance(encoder, OnlineTeacher):
        return _heads(source.plugin_module("stages.distillation", encoder.method))
    return ()


def _heads(module: str) -> tuple[str, ...]:
    """What training by ``module`` leaves beside the encoder, or an online method beside its teacher."""
    return {"projector": ("projector",), "networks": ("projector", "networks")}.get(
        source.constant(module, "HEADS", ""), ()
    )


def _learns_from(where: str, module: str, label: str, asked: str | None) -> str:
    """What a method learns from; ``asked`` is whether the group wants the teacher cached or live, if it says so."""
    needed = source.constant(module, "TEACHER", "embeddings")
    if needed == "embeddings":
        return "weights" if asked == "live" else "embeddings"
    if needed == "online" and asked:
        raise ConfigError(f"{where}.teacher: {label} trains its teacher along, neither cached nor live; take it out")
    only = "live" if needed == "networks" else "cached"
    if asked not in (None, only):
        raise ConfigError(
            f"{where}.teacher: {label} learns from the teacher's {needed}, which are {only}; expected {only}"
        )
    return needed


def _is_online(where: str, group: Mapping[str, Any], methods: Methods) -> bool:
    """Whether a group's students are trained along with their teachers, which are architectures then."""
    online = [label for label in group["methods"] if _trains_teacher(label, methods)]
    others = [label for label in group["methods"] if label not in online]
    if online and others:
        raise ConfigError(
            f"{where}.methods: {online[0]} trains its teacher along, so that teachers are architectures, but to "
            f"{others[0]} they are encoders; put them into two groups"
        )
    return bool(online)


def _trains_teacher(label: str, methods: Methods) -> bool:
    """Whether ``label`` is a method, or a variant of one, that trains its teacher along."""
    package, method = "stages.distillation", _method_of(label, methods)
    known = method in source.plugins(package)
    return known and source.constant(source.plugin_module(package, method), "TEACHER", "embeddings") == "online"


def _method_of(label: str, methods: Methods) -> str:
    """The method that a name in the config stands for: that of which it is a variant, or its own."""
    return str(methods.get(label, {}).get("method", label))


def _variant_options(label: str, methods: Methods) -> dict[str, Any]:
    """The options that the config gives a method or variant of its own."""
    return {key: value for key, value in methods.get(label, {}).items() if key != "method"}


def _check_method(label: str, methods: Methods) -> None:
    """Refuse a wrong entry of the config's methods, whether or not a group uses it: a slip may be why none does."""
    known, method = source.plugins("stages.distillation"), _method_of(label, methods)
    where = f"methods.{label}.method" if "method" in methods[label] else f"methods.{label}"
    require(where, "method", method, known)
    _given(f"methods.{label}", source.plugin_module("stages.distillation", method), _variant_options(label, methods))


def _all_names_of(group: Mapping[str, Any], methods: Methods) -> Iterable[str]:
    """The names of a group's students and of the teachers that are trained along with them."""
    for name, (_, _, label, _) in _names_of(group).items():
        yield name
        if _trains_teacher(label, methods):
            yield f"{name}{TEACHER_SUFFIX}"


def _names_of(group: Mapping[str, Any]) -> dict[str, tuple[str, str, str, int]]:
    """A group's students by name, as (teacher, architecture, method label, seed).

    A student's name holds its teacher's, so a circle of teachers cannot be written down. It names a folder, so that of
    timm/resnet18 has a dash for the slash.
    """
    return {
        f"{teacher}--{architecture}--{label}--seed{seed}".replace("/", "-"): (teacher, architecture, label, seed)
        for teacher in group["teachers"]
        for architecture in group["architectures"]
        for label in group["methods"]
        for seed in group.get("seeds", [0])
    }


def _dataset(name: str, entry: Mapping[str, Any]) -> Dataset:
    where = f"datasets.{name}"
    require(f"{where}.source", "dataset source", entry["source"], source.plugins("stages.datasets.sources"))
    require(
        f"{where}.augmentation", "augmentation", entry["augmentation"], source.plugins("stages.datasets.augmentations")
    )
    module = source.plugin_module("stages.datasets.sources", entry["source"])
    fixed = {"source", "size", "augmentation", "shards"}
    options = {
        **_options(where, module, entry, {*fixed, *source.options(PACKING)}),
        **_options(where, PACKING, entry, {*fixed, *source.options(module)}),
    }
    if str(options.get("path")).startswith("~/"):
        options["path"] = str(Path(options["path"]).expanduser())
    if options.get("path") == "" and not source.defines(module, "download"):
        text = source.options(module)["path"].help
        raise ConfigError(f"{where}.path: is empty, and {entry['source']} has no download; expected {text}")
    return Dataset(
        name=name,
        source=entry["source"],
        size=entry["size"],
        augmentation=entry["augmentation"],
        shards=entry.get("shards", 1),
        options=options,
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
    values = {name: given.get(name, option.default) for name, option in known.items()}
    if refusal := source.refusal(module, values):
        raise ConfigError(f"{where}: {refusal}")
    return values


def _given(where: str, module: str, values: Mapping[str, Any], fixed: Iterable[str] = ()) -> dict[str, Any]:
    """``values``, each checked to be an option of ``module`` and of its type."""
    known = source.options(module)
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{where}: {unknown('key', key, [*known, *fixed])}")
        if not known[key].accepts(value):
            hint = _number_hint(known[key], value)
            raise ConfigError(f"{where}.{key}: expected {known[key].expected}, got {value!r}{hint} ({known[key].help})")
    return dict(values)


def _number_hint(option: source.Option, value: Any) -> str:
    """How to write a number that YAML 1.1 takes for text, for want of a point or of the exponent's sign."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return ""
    digits, exponent, power = f"{number:e}".partition("e")
    fits = math.isfinite(number) and option.accepts(number)
    return f", which YAML reads as text: write {float(digits)}{exponent}{power}" if fits else ""


def _check_architecture(where: str, name: str, dataset: Dataset) -> None:
    # A name ends its family at the first sign, so one with a dash could never be asked for.
    families = [family for family in source.plugins("stages.architectures") if family.isalpha()]
    if source.architecture_family(name) not in families:
        raise ConfigError(f"{where}: {unknown('architecture', name, families)}, each with its variant, as in resnet18")
    module = source.plugin_module("stages.architectures", source.architecture_family(name))
    nothing: tuple[str, ...] = ()
    names, pattern = source.constant(module, "NAMES", nothing), source.constant(module, "PATTERN", "")
    # A family that does not say which names it takes is left to tell its encoder's job.
    if names and name not in names and not re.fullmatch(pattern, name):
        raise ConfigError(f"{where}: {unknown('architecture', name, names)}")
    smallest = source.constant(module, "SMALLEST", 1)
    if dataset.size < smallest:
        raise ConfigError(
            f"{where}: {name} cannot see images of {dataset.size} pixels, the size of {dataset.name}; expected a size "
            f"of at least {smallest}"
        )


def _check_schema(config: Mapping[str, Any]) -> None:
    """Check the config's outline; the options inside are checked against the stages that take them."""
    validator = Draft202012Validator(yaml.safe_load(SCHEMA.read_text()))
    for error in sorted(validator.iter_errors(config), key=lambda error: list(map(str, error.absolute_path))):
        raise ConfigError(_schema_message(error))


def _schema_message(error: Any) -> str:
    places = (f"[{place}]" if isinstance(place, int) else f".{place}" for place in error.absolute_path)
    where = "".join(places).removeprefix(".") or "the config"
    if error.instance is None and error.validator == "type":
        return f"{where}: is empty; fill it in, or take the key out"
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        odd = next(key for key in error.instance if key not in known)
        return f"{where}: {unknown('key', odd, known)}"
    if error.validator == "enum":
        return f"{where}: {unknown('value', error.instance, error.validator_value)} ({error.schema['description']})"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        text = error.schema["properties"][missing].get("description", "")
        return f"{where}: the key {missing!r} is missing ({text})"
    text = error.schema.get("description")
    return f"{where}: {error.message}" + (f" ({text})" if text else "")

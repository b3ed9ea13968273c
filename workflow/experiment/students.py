"""The config's students: of each group, every teacher with every architecture, method and seed."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from experiment import source
from experiment.architectures import require_architecture
from experiment.datasets import Dataset
from experiment.encoders import Encoder, OnlineTeacher, Student, augmentation_of
from experiment.errors import ConfigError, require
from experiment.heads import require_heads
from experiment.options import given_options, options_of

Methods = Mapping[str, Mapping[str, Any]]
"""The config's methods: options by the name of a method or a variant, whose key ``method`` says of which."""

TEACHER_SUFFIX = "--teacher"
"""What the name of a teacher that is trained along has after that of its student."""


def with_students(
    config: Mapping[str, Any], datasets: Mapping[str, Dataset], others: Mapping[str, Encoder]
) -> dict[str, Encoder]:
    """``others`` and then the config's students, by name; a teacher that is trained along stands before its student."""
    methods = {name: dict(entry) for name, entry in config.get("methods", {}).items()}
    for name in methods:
        _check_method(name, methods)
    groups = [(f"students[{number}]", group) for number, group in enumerate(config.get("students", []))]
    encoders = dict(others)
    students: list[tuple[str, Student]] = []
    seeds: dict[str, Student] = {}
    known = {*others, *(name for _, group in groups for name in _all_names_of(group, methods))}
    for where, group in groups:
        for encoder in _students_of(where, group, datasets, methods, known):
            _refuse_another(where, encoder, encoders)
            encoders[encoder.name] = encoder
            if isinstance(encoder, Student):
                students.append((where, encoder))
                first = seeds.setdefault(without_seed(encoder.name), encoder)
                _refuse_more_than_a_seed(where, encoder, first)
    for where, student in students:
        teacher = encoders[student.teacher]
        require_heads(where, student, teacher)
        _require_size(where, student, teacher, datasets)
    return encoders


def _students_of(
    where: str, group: Mapping[str, Any], datasets: Mapping[str, Dataset], methods: Methods, known: Iterable[str]
) -> Iterator[Student | OnlineTeacher]:
    """A group's students, each after its teacher if that is trained along; ``known`` are the names of all encoders."""
    require(f"{where}.dataset", "dataset", group["dataset"], datasets)
    dataset = datasets[group["dataset"]]
    for architecture in group["architectures"]:
        require_architecture(f"{where}.architectures", architecture, dataset)
    for label in group["methods"]:
        require(f"{where}.methods", "method", label, [*source.plugins("stages.distillation"), *methods])
    online = _is_online(where, group, methods)
    for teacher in group["teachers"]:
        if online:
            require_architecture(f"{where}.teachers: {group['methods'][0]} trains them along", teacher, dataset)
        else:
            others = [other for other in known if not other.startswith(f"{teacher}--")]
            require(f"{where}.teachers", "encoder", teacher, others)
    for name, (teacher, architecture, label, seed) in _names_of(group).items():
        method = _method_of(label, methods)
        module = source.plugin_module("stages.distillation", method)
        variant = _variant_options(label, methods)
        shared = given_options(f"{where}.options", module, group.get("options", {}), kind=f"key of {label}")
        options = options_of(f"{where}: {label}", module, {**shared, **variant})
        if online:
            teacher_name = f"{name}{TEACHER_SUFFIX}"
            yield OnlineTeacher(teacher_name, name, method, teacher, dataset.name, options)
            teacher = teacher_name
        learns_from = _learns_from(where, module, label, group.get("teacher"))
        augmentation = augmentation_of(where, group, module, dataset)
        if "teacher_views" in group:
            _require_views(where, label, learns_from, augmentation)
        yield Student(
            name=name,
            teacher=teacher,
            learns_from=learns_from,
            label=label,
            teacher_views=group.get("teacher_views", 0),
            method=method,
            architecture=architecture,
            dataset=dataset.name,
            augmentation=augmentation,
            normalisation=group.get("normalisation", "imagenet"),
            seed=seed,
            options=options,
        )


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
    return known and source.literal(source.plugin_module(package, method), "TEACHER", "embeddings") == "online"


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
    module = source.plugin_module("stages.distillation", method)
    given_options(f"methods.{label}", module, _variant_options(label, methods))


def _learns_from(where: str, module: str, label: str, asked: str | None) -> str:
    """What a method learns from; ``asked`` is whether the group wants the teacher cached or live, if it says so."""
    needed = str(source.literal(module, "TEACHER", "embeddings"))
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


def _require_views(where: str, label: str, learns_from: str, augmentation: str) -> None:
    """Refuse views of a teacher that is not cached, or by an augmentation that shows none twice."""
    if learns_from != "embeddings":
        raise ConfigError(
            f"{where}.teacher_views: {label} learns from its teacher's {learns_from} here; views are of a cached "
            "teacher, for a method that learns from embeddings; take it out"
        )
    package = "stages.datasets.augmentations"
    known = [name for name in source.plugins(package) if _is_repeatable(source.plugin_module(package, name))]
    if augmentation not in known:
        raise ConfigError(
            f"{where}.teacher_views: {augmentation} draws on whole batches, so no view of an image can be had again; "
            f"expected an augmentation that does not: {', '.join(known)}"
        )


def _is_repeatable(augmentation: str) -> bool:
    return bool(source.literal(augmentation, "REPEATABLE", False))


def _require_size(where: str, student: Student, teacher: Encoder, datasets: Mapping[str, Dataset]) -> None:
    """Refuse a live teacher of another image size, that of its own dataset, as it is to see the student's images.

    A public checkpoint too is fetched for the size of its dataset here, whatever the catalogue's.
    """
    own, other = datasets[student.dataset], datasets[teacher.dataset]
    if student.learns_from in ("weights", "networks") and own.size != other.size:
        cached = ", or take teacher: live out" if student.learns_from == "weights" else ""
        raise ConfigError(
            f"{where}.teachers: {teacher.name} is an encoder of images of {other.size} pixels, the size of "
            f"{other.name}, but its student {student.name} sees {own.size}, the size of {own.name}; a live teacher "
            f"sees the same: expected datasets of one size{cached}"
        )


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


def _refuse_another(where: str, encoder: Encoder, encoders: Mapping[str, Encoder]) -> None:
    """Two groups may name one student, but not two of one name: of these, only one would be trained."""
    if encoders.get(encoder.name, encoder) != encoder:
        raise ConfigError(
            f"{where}: another group has a student {encoder.name} already, with other settings; expected one of each "
            "name: give one of them a variant of its own under methods"
        )


def _refuse_more_than_a_seed(where: str, student: Student, first: Student) -> None:
    """Two groups may have a student's seeds, but with the same settings: tables show the mean of all."""
    # A teacher that is trained along has the student's name, and so its seed.
    one, other = (dataclasses.replace(each, name="", teacher="", seed=0) for each in (student, first))
    if one != other:
        raise ConfigError(
            f"{where}: {student.name} has other settings than {first.name}, and tables would show the mean of both; "
            "expected nothing but another seed: give one of them a variant of its own under methods"
        )


def without_seed(student: str) -> str:
    """What the names of all seeds of a student have in common."""
    return re.sub(r"--seed\d+(?!.*--seed\d)", "", student)

"""What a config asks of its datasets, refused where it is known before any is read that they do not have it.

Jobs refuse it as well, but after those before them, which may be days of training.
"""

import functools
import itertools
import math
import os
from pathlib import Path

from experiment import content, source
from experiment.config import Experiment
from experiment.datasets import Dataset, image_endings
from experiment.encoders import Pretrained, Student
from experiment.errors import ConfigError
from experiment.evaluations import EVALUATIONS
from experiment.plan import said_images


def check(experiment: Experiment) -> None:
    """
    Raises:
        ConfigError: a dataset has fewer train images than are asked for, or a folder's have no labels.
    """
    for encoder in experiment.trained.values():
        dataset, options = experiment.datasets[encoder.dataset], encoder.options
        if options.get("drop_last") and options.get("epochs"):
            _require_images(f"{encoder.name}: batch_size", options["batch_size"], dataset, ", with drop_last")
        if isinstance(encoder, Pretrained):
            module = source.plugin_module("stages.pretraining", encoder.method)
            _require_labels(encoder.name, encoder.method, source.literal(module, "LABELS", ""), dataset)
        elif isinstance(encoder, Student) and encoder.learns_from == "assignments":
            _require_images(f"{encoder.name}: clusters", options["clusters"], dataset)
    for measurement in experiment.measurements:
        evaluation, dataset = experiment.evaluations[measurement.evaluation], experiment.datasets[measurement.dataset]
        where = f"evaluations.{evaluation.name}"
        for kind, option in (("cluster-alignment", "clusters"), ("knn", "k")):
            if evaluation.base == kind:
                _require_images(f"{where}.{option}", evaluation.options[option], dataset)
        _require_labels(where, evaluation.base, EVALUATIONS[evaluation.base].labels, dataset)


def _require_images(where: str, needed: int, dataset: Dataset, how: str = "") -> None:
    found = train_images(dataset, needed)
    if found is not None and found < needed:
        raise ConfigError(f"{where} is {needed}{how}, but {dataset.name} has {found} train images; lower it")


def _require_labels(where: str, what: str, needed: str, dataset: Dataset) -> None:
    folder = _train_folder(dataset)
    if folder and needed and len(classes := _classes(folder)) == 1:
        raise ConfigError(
            f"{where}: {what} needs images with labels, but those of {dataset.name} are all in one folder, "
            f"{classes[0]}; name other datasets or encoders"
        )


def train_images(dataset: Dataset, enough: int) -> int | None:
    """How many train images there are, counted up to ``enough``; None where that is not known yet."""
    share, images = dataset.options["train_fraction"], said_images(dataset)
    if folder := _train_folder(dataset):
        found = _images_in(folder, math.ceil((enough + 1) / share))
    else:
        found = images[0] if images else None
    return None if found is None else max(1, round(share * found))


def _train_folder(dataset: Dataset) -> Path | None:
    folder = Path(dataset.options.get("path") or "", "train")
    return folder if dataset.source == "folder" and folder.is_dir() else None


@functools.cache
def _images_in(folder: Path, enough: int) -> int | None:
    images = content.files_under(str(folder), image_endings("folder"))
    try:
        return sum(1 for _ in itertools.islice(images, enough))
    except PermissionError:  # which the fingerprint will name
        return None


@functools.cache
def _classes(folder: Path) -> list[str]:
    """The folders of a split's classes, at most two of them."""
    try:
        with os.scandir(folder) as entries:
            classes = (entry.path for entry in entries if entry.is_dir() and not entry.name.startswith("."))
            return list(itertools.islice(classes, 2))
    except PermissionError:
        return []

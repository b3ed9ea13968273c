"""What a config asks of its datasets, refused where it is known before any is read that they do not have it.

Jobs refuse it as well, but after those before them, which may be days of training.
"""

import functools
import itertools
import os
from pathlib import Path

from experiment import counts, source
from experiment.config import Experiment
from experiment.datasets import Dataset
from experiment.encoders import Pretrained, Student
from experiment.errors import ConfigError
from experiment.evaluations import EVALUATIONS


def check(experiment: Experiment) -> None:
    """
    Raises:
        ConfigError: a dataset has fewer images than are asked for, or a folder's have no labels.
    """
    for dataset in experiment.datasets.values():
        if dataset.shards > 1:
            for split in ("train", "val"):
                _require_images(f"datasets.{dataset.name}.shards is {dataset.shards}", dataset.shards, dataset, split)
    for encoder in experiment.trained.values():
        dataset, options = experiment.datasets[encoder.dataset], encoder.options
        if options.get("drop_last") and options.get("epochs"):
            size = options["batch_size"]
            _require_images(f"{encoder.name}: batch_size is {size}, with drop_last", size, dataset)
        if isinstance(encoder, Pretrained):
            module = source.plugin_module("stages.pretraining", encoder.method)
            _require_labels(encoder.name, encoder.method, source.literal(module, "LABELS", ""), dataset)
        elif isinstance(encoder, Student) and encoder.learns_from == "assignments":
            _require_images(f"{encoder.name}: clusters is {options['clusters']}", options["clusters"], dataset)
    for measurement in experiment.measurements:
        evaluation, dataset = experiment.evaluations[measurement.evaluation], experiment.datasets[measurement.dataset]
        where = f"evaluations.{evaluation.name}"
        for kind, option in (("cluster-alignment", "clusters"), ("knn", "k")):
            if evaluation.base == kind:
                needed = evaluation.options[option]
                _require_images(f"{where}.{option} is {needed}", needed, dataset)
        if evaluation.base == "retrieval":
            most = max(evaluation.options["ks"])
            _require_images(f"{where}.ks has {most} others of each image", most + 1, dataset, "val")
        _require_labels(where, evaluation.base, EVALUATIONS[evaluation.base].labels, dataset)


def _require_images(asked: str, needed: int, dataset: Dataset, split: str = "train") -> None:
    found = counts.images(dataset, split, needed)
    if found is not None and found < needed:
        raise ConfigError(f"{asked}, but {dataset.name} has {found} {split} images; lower it")


def _require_labels(where: str, what: str, needed: str, dataset: Dataset) -> None:
    folder = counts.split_folder(dataset, "train")
    if folder and needed and len(classes := _classes(folder)) == 1:
        raise ConfigError(
            f"{where}: {what} needs images with labels, but those of {dataset.name} are all in one folder, "
            f"{classes[0]}; name other datasets or encoders"
        )


@functools.cache
def _classes(folder: Path) -> list[str]:
    """The folders of a split's classes, at most two of them; none of a split that is not there or may not be read."""
    try:
        with os.scandir(folder) as entries:
            classes = (entry.path for entry in entries if entry.is_dir() and not entry.name.startswith("."))
            return list(itertools.islice(classes, 2))
    except OSError:
        return []

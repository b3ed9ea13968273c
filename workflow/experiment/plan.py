"""What an experiment needs before it runs: its data, and about how many hours of a GPU.

PYTHONPATH=workflow python -m experiment.plan --configfile config.yaml
"""

import argparse
import ast
import csv
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from experiment import source
from experiment.config import Dataset, Experiment, Fetched, Student
from experiment.errors import ConfigError

SUSTAINED = 10e12
"""Multiply-adds a second that a GPU is assumed to keep up: 800 images a second of ResNet-50 training at 224 pixels."""

ASSUMPTION = "10 TMAC/s a GPU (ResNet-50 training at 800 images/s), as fast as images can be read"

IMAGENET = (1_281_167, 50_000)
"""The train and val images that a folder is taken to hold while it is not there."""

GMACS = {
    "alexnet": 0.714,
    "resnet18": 1.814,
    "resnet34": 3.664,
    "resnet50": 4.089,
    "resnet101": 7.801,
    "resnet152": 11.514,
    "mobilenet_v2": 0.301,
    "mobilenet_v3_small": 0.057,
    "mobilenet_v3_large": 0.217,
    "efficientnet_b0": 0.386,
}
"""10^9 multiply-adds of a forward pass at 224 pixels: what torchvision's documentation of its weights calls GFLOPS."""

TRAINING = 3
"""A training step costs about three forward passes: the backward pass is two."""

PASSES = {
    "simclr": (2, 0),
    "moco-v2": (1, 1),
    "byol": (2, 2),
    "swav": (2 + 6 * (96 / 224) ** 2, 0),
    "compress-2q": (1, 1),
    "simdis-off": (2, 2),
    "simdis-on": (2, 2),
}
"""The views of an image, in whole images, that a method trains on, and that its averaged network sees besides."""

TEACHER_PASSES = {"weights": 1, "networks": 2 * 2, "online": 2 * TRAINING + 2}
"""The forward passes of a teacher for each image, by what a student learns from; of a cached one there are none."""

PROBE_EPOCHS = {"compress": 40, "byol": 80}
"""Of a linear evaluation that leaves them to its preset, by the preset; those of others are 100."""


@dataclass(frozen=True)
class Job:
    """``output`` tells whether it is done; ``work`` are its multiply-adds, None where the architecture is unknown."""

    rule: str
    name: str
    output: Path
    work: float | None

    @property
    def recorded(self) -> float | None:
        """The seconds that it took the last time."""
        path = Path(f"results/benchmarks/{self.rule}/{self.name}.tsv")
        if not path.is_file():
            return None
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return float(rows[-1]["s"]) if rows else None


def plan(experiment: Experiment) -> Iterator[str]:
    """The lines to show: the data, then the hours of the jobs that are yet to be done; nothing if all is there."""
    data = [line for dataset in experiment.datasets.values() for line in _data(dataset)]
    data += [
        f"{encoder.name}: checkpoint {encoder.checkpoint}, a download"
        for encoder in experiment.encoders.values()
        if isinstance(encoder, Fetched) and not _weights(encoder.name).exists()
    ]
    if data:
        yield "Data that is not yet in results/:"
        yield from (f"  {line}" for line in data)
    waiting = [job for job in jobs(experiment) if not job.output.exists()]
    if waiting:
        yield f"GPU hours to come, by recorded times where a job has run before, else assuming {ASSUMPTION}:"
        yield from (f"  {line}" for line in _hours(waiting))


def _data(dataset: Dataset) -> Iterator[str]:
    if Path(f"results/datasets/{dataset.name}/train.h5").exists():
        return
    folder = dataset.options.get("path")
    if folder:
        size = "" if _said(dataset.source) else f" (taken to be as large as ImageNet: {IMAGENET[0]:,} train images)"
        there = "is there" if Path(folder).is_dir() else f"IS NOT THERE{size}"
        yield f"{dataset.name}: source {dataset.source}, from the folder {folder}, which {there}"
    elif "path" in dataset.options:
        yield f"{dataset.name}: source {dataset.source}, a download"
    else:
        yield f"{dataset.name}: source {dataset.source}, which comes with the installation"


def _hours(waiting: list[Job]) -> Iterator[str]:
    """A line a rule, the sum, and what was not counted."""
    seconds = {job: job.recorded if job.work is None else job.recorded or job.work / SUSTAINED for job in waiting}
    for rule in dict.fromkeys(job.rule for job in waiting):
        these = [job for job in waiting if job.rule == rule]
        yield f"{rule}: {len(these)} job{'s' * (len(these) > 1)}, {_shown(sum(seconds[job] or 0 for job in these))}"
    unknown = sum(each is None for each in seconds.values())
    without = f" and {unknown} jobs of architectures whose cost is not known here" if unknown else ""
    yield f"in all: {_shown(sum(filter(None, seconds.values())))}, without k-means, neighbours and fine-tuning{without}"


def _shown(seconds: float) -> str:
    hours = seconds / 3600
    return "under 0.1" if hours < 0.1 else f"{hours:,.1f}" if hours < 10 else f"{hours:,.0f}"


def jobs(experiment: Experiment) -> Iterator[Job]:
    """The jobs that take the most of a GPU's time: training, embedding, and linear evaluation on augmented images."""
    images = {name: images_of(dataset) for name, dataset in experiment.datasets.items()}
    for encoder in experiment.encoders.values():
        if "epochs" in getattr(encoder, "options", {}) and hasattr(encoder, "seed"):
            yield _training(experiment, encoder.name, images)
    for encoder_name, dataset in dict.fromkeys(_embedded(experiment)):
        output = Path(f"results/embeddings/{encoder_name}/{dataset}-val.h5")
        forward = _forward(experiment, encoder_name, dataset)
        work = None if forward is None else sum(images[dataset]) * forward
        yield Job("embed", f"{encoder_name}/{dataset}", output, work)
    for m in experiment.measurements:
        options = experiment.evaluations[m.evaluation].options
        if options.get("views") == "augmented":
            forward = _forward(experiment, m.encoder, m.dataset)
            epochs = options["epochs"] or PROBE_EPOCHS.get(options["presets"][0], 100)
            output = Path(f"results/metrics/{m.encoder}/{m.dataset}-{m.evaluation}.json")
            work = None if forward is None else epochs * images[m.dataset][0] * forward
            yield Job("linear_probe", f"{m.encoder}/{m.dataset}-{m.evaluation}", output, work)


def _training(experiment: Experiment, name: str, images: Mapping[str, tuple[float, float]]) -> Job:
    encoder = experiment.encoders[name]
    assert not isinstance(encoder, Fetched)
    rule, teacher = "pretrain", 0.0
    work = _forward(experiment, name, encoder.dataset)
    if isinstance(encoder, Student):
        rule = "distill_online" if encoder.learns_from == "online" else "distill"
        passes = TEACHER_PASSES.get(encoder.learns_from, 0)
        one = _forward(experiment, encoder.teacher, encoder.dataset) if passes else 0.0
        work, teacher = (None, 0.0) if one is None else (work, passes * one)
    if work is not None:
        trained, seen = PASSES.get(encoder.method, (1, 0))
        work = encoder.options["epochs"] * images[encoder.dataset][0] * (work * (TRAINING * trained + seen) + teacher)
    return Job(rule, name, _weights(name), work)


def _weights(encoder: str) -> Path:
    return Path(f"results/encoders/{encoder}/weights.safetensors")


def _embedded(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Whose embeddings of what are needed: by evaluations of embeddings, and by students of cached ones."""
    for m in experiment.measurements:
        evaluation = experiment.evaluations[m.evaluation]
        if evaluation.base in ("knn", "cluster-alignment", "retrieval") or evaluation.options.get("views") == "cached":
            yield m.encoder, m.dataset
    for name in experiment.students:
        student = experiment.student(name)
        if student.learns_from in ("embeddings", "assignments"):
            yield student.teacher, student.dataset


def _forward(experiment: Experiment, encoder: str, dataset: str) -> float | None:
    """The multiply-adds of a forward pass."""
    return multiply_adds(experiment.encoders[encoder].architecture, experiment.datasets[dataset].size)


def multiply_adds(architecture: str, size: int) -> float | None:
    """Of a forward pass at ``size`` pixels: in proportion to the area and to the width's square; None if unknown.

    The stem for small images, ``_cifar``, keeps four times the height and width of the usual one.
    """
    match = re.fullmatch(r"(?:timm/)?(.+?)(?:_x([\d.]+))?(?:_(cifar|samepool|same))?", architecture)
    if match is None or match[1] not in GMACS:
        return None
    area = (size / 224) ** 2 * (16 if match[3] == "cifar" else 1)
    return GMACS[match[1]] * 1e9 * area * float(match[2] or 1) ** 2


def images_of(dataset: Dataset) -> tuple[float, float]:
    """About how many train and val images: what the folder holds, or what the source's docstring says."""
    train, val = _said(dataset.source) or IMAGENET
    folder = Path(dataset.options.get("path") or "")
    if dataset.source == "folder" and folder.is_dir():
        train, val = (sum(1 for _ in (folder / split).glob("*/*")) for split in ("train", "val"))
    return train * dataset.options.get("train_fraction", 1.0), val * dataset.options.get("val_fraction", 1.0)


def _said(name: str) -> tuple[int, int] | None:
    """As in "50,000 train and 10,000 val photos"; of a number for both, that."""
    docstring = ast.get_docstring(source.tree(source.plugin_module("stages.datasets.sources", name))) or ""
    found = re.findall(r"(\d[\d,]*) (?:train|val|real|photographs)\b", docstring)
    numbers = [int(number.replace(",", "")) for number in found]
    return (numbers[0], numbers[min(1, len(numbers) - 1)]) if numbers else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"), help="the experiment (config.yaml)")
    arguments = parser.parse_args()
    try:
        experiment = Experiment(yaml.safe_load(arguments.configfile.read_text()))
    except (ConfigError, OSError) as error:
        sys.exit(f"error: config: {error}")
    print("\n".join(plan(experiment)) or "All data is there, and all training done.")


if __name__ == "__main__":
    main()

"""What an experiment needs before it runs, which a dry run says: its data, and about how many hours of a GPU."""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from experiment import checkpoints, counts, source
from experiment.config import Experiment
from experiment.datasets import Dataset
from experiment.encoders import Fetched, Student, Trained
from experiment.evaluations import EVALUATIONS, Evaluation

SUSTAINED = 10e12
"""Multiply-adds a second that a GPU is assumed to keep up: 800 images a second of ResNet-50 training at 224 pixels."""

ASSUMPTION = "10 TMAC/s a GPU (ResNet-50 training at 800 images/s), as fast as images can be read"

IMAGENET = {"train": 1_281_167, "val": 50_000}
"""The images of each split that a folder is taken to hold while it is not there."""

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

TEACHER_PASSES = {"weights": 1, "networks": 2, "online": 2 * TRAINING + 2}
"""The forward passes of a teacher for each image, by what a student learns from; of a cached one there are none.

Of its networks, the views that are predicted usually need one, which sees both.
"""


@dataclass(frozen=True)
class Job:
    """``output`` tells which job it is; ``train`` and ``val`` are the multiply-adds for each image of the split.

    ``train`` is None where the architecture is unknown.
    """

    rule: str
    name: str
    output: Path
    dataset: Dataset
    train: float | None
    val: float = 0

    @property
    def work(self) -> float | None:
        """The multiply-adds of the whole job. Images of a folder are counted only when they are asked for."""
        if self.train is None:
            return None
        return images_of(self.dataset, "train") * self.train + images_of(self.dataset, "val") * self.val

    def seconds(self, as_before: bool) -> float | None:
        """What it took the last time, if its parameters are those of then, or as far as it is known should take."""
        recorded = self.recorded if as_before else None
        work = None if recorded else self.work
        return work / SUSTAINED if work is not None else recorded

    @property
    def recorded(self) -> float | None:
        """The seconds that it took the last time."""
        path = Path(f"results/benchmarks/{self.rule}/{self.name}.tsv")
        if not path.is_file():
            return None
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return float(rows[-1]["s"]) if rows else None


def plan(experiment: Experiment, to_come: Mapping[str, bool], mirror: str) -> Iterator[str]:
    """The lines to show: the data, then the hours of the jobs that are to run; nothing if none needs either.

    Args:
        experiment: the checked config.
        to_come: the files that jobs are to make, and of each whether its job has run with the same parameters before.
        mirror: where checkpoints are taken from, as `experiment.checkpoints` has it.
    """
    data = [
        line
        for dataset in experiment.datasets.values()
        if f"results/datasets/{dataset.name}/train.h5" in to_come
        for line in _data(dataset)
    ]
    data += [
        _checkpoint(encoder, mirror)
        for encoder in experiment.fetched.values()
        if str(_weights(encoder.name)) in to_come
    ]
    if data:
        yield "Data to come into results/:"
        yield from (f"  {line}" for line in data)
    waiting = [(job, to_come[str(job.output)]) for job in jobs(experiment) if str(job.output) in to_come]
    if waiting:
        yield (
            "GPU hours to come, by the recorded time of a job that has run with the same parameters, else assuming "
            f"{ASSUMPTION}:"
        )
        yield from (f"  {line}" for line in _hours(waiting))


def _checkpoint(encoder: Fetched, mirror: str) -> str:
    file, todo = checkpoints.place(encoder, mirror), checkpoints.lacking(encoder, mirror)
    whence = f"from {file}" if file.is_file() else f"whose file IS NOT THERE: {todo}" if todo else "a download"
    return f"{encoder.name}: checkpoint {encoder.checkpoint}, {whence}"


def _data(dataset: Dataset) -> Iterator[str]:
    folder = dataset.options.get("path")
    if folder:
        is_known = bool(counts.said_images(dataset))
        size = "" if is_known else f" (taken to be as large as ImageNet: {IMAGENET['train']:,} train images)"
        there = "is there" if Path(folder).is_dir() else f"IS NOT THERE{size}"
        yield f"{dataset.name}: source {dataset.source}, from the folder {folder}, which {there}"
    elif "path" in dataset.options:
        yield f"{dataset.name}: source {dataset.source}, a download"
    else:
        yield f"{dataset.name}: source {dataset.source}, which comes with the installation"


def _hours(waiting: list[tuple[Job, bool]]) -> Iterator[str]:
    """A line a rule, the sum, and what was not counted."""
    rules: dict[str, list[float | None]] = {}
    for job, as_before in waiting:
        rules.setdefault(job.rule, []).append(job.seconds(as_before))
    for rule, these in rules.items():
        yield f"{rule}: {len(these)} job{'s' * (len(these) > 1)}, {_shown(sum(filter(None, these)))}"
    seconds = [each for these in rules.values() for each in these]
    unknown = seconds.count(None)
    without = f", nor {unknown} jobs of architectures whose cost is not known here" if unknown else ""
    yield (
        f"in all: {_shown(sum(filter(None, seconds)))}; not counted are k-means, neighbours, SVMs, detection and the "
        f"measuring of costs{without}"
    )


def _shown(seconds: float) -> str:
    hours = seconds / 3600
    return "under 0.1" if hours < 0.1 else f"{hours:,.1f}" if hours < 10 else f"{hours:,.0f}"


def jobs(experiment: Experiment) -> Iterator[Job]:
    """The jobs that take the most of a GPU's time: training, embedding, and linear probes on augmented images."""
    for encoder in experiment.trained.values():
        if "epochs" in encoder.options:
            yield _training(experiment, encoder)
    for encoder_name, name in dict.fromkeys(_embedded(experiment)):
        output = Path(f"results/embeddings/{encoder_name}/{name}-val.h5")
        forward = _forward(experiment, encoder_name, name)
        yield Job("embed", f"{encoder_name}/{name}", output, experiment.datasets[name], forward, forward or 0)
    for path, student in _viewed(experiment).items():
        name = str(path.relative_to("results/views").with_suffix(""))
        forward = _forward(experiment, student.teacher, student.dataset)
        yield Job("embed_view", name, path, experiment.datasets[student.dataset], forward)
    for m in experiment.measurements:
        rule, passes, val = _probe(experiment.evaluations[m.evaluation])
        if rule:
            forward = _forward(experiment, m.encoder, m.dataset)
            train = None if forward is None else passes * forward
            name = f"{m.encoder}/{m.dataset}-{m.evaluation}"
            yield Job(rule, name, Path(m.file), experiment.datasets[m.dataset], train, val * (forward or 0))


def _probe(evaluation: Evaluation) -> tuple[str, float, float]:
    """The rule of a probe on augmented images, and how often its encoder sees each train and each val image."""
    options = evaluation.options
    if evaluation.base == "layers":
        return "layer_probe", options["epochs"], 1
    if options.get("views") != "augmented":
        return "", 0, 0
    # All presets learn from the same views, each as long as it takes; every share of labels and every run has its own.
    of_presets = source.literal("stages.probing.presets", "EPOCHS", {})
    epochs = options["epochs"] or max(of_presets[preset] for preset in options["presets"])
    return "linear_probe", epochs * options["runs"] * sum(options["labels"]) / 100, 0


def _training(experiment: Experiment, encoder: Trained) -> Job:
    rule, teacher = "pretrain", 0.0
    work = _forward(experiment, encoder.name, encoder.dataset)
    if isinstance(encoder, Student):
        rule = "distill_online" if encoder.learns_from == "online" else "distill"
        passes = TEACHER_PASSES.get(encoder.learns_from, 0)
        one = _forward(experiment, encoder.teacher, encoder.dataset) if passes else 0.0
        work, teacher = (None, 0.0) if one is None else (work, passes * one)
    if work is not None:
        trained, seen = PASSES.get(encoder.method, (1, 0))
        work = encoder.options["epochs"] * (work * (TRAINING * trained + seen) + teacher)
    return Job(rule, encoder.name, _weights(encoder.name), experiment.datasets[encoder.dataset], work)


def _weights(encoder: str) -> Path:
    return Path(f"results/encoders/{encoder}/weights.safetensors")


def _embedded(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Whose embeddings of what are needed: by evaluations of embeddings, canaries, and students of cached ones."""
    for m in experiment.measurements:
        if EVALUATIONS[experiment.evaluations[m.evaluation].base].embedded:
            yield m.encoder, m.dataset
    for name in experiment.canaries:
        yield name, experiment.encoders[name].dataset
    for student in experiment.students.values():
        if student.learns_from in ("embeddings", "assignments") and not student.teacher_views:
            yield student.teacher, student.dataset


def _viewed(experiment: Experiment) -> dict[Path, Student]:
    """What teachers embed of views of images, by the file, with one of the students that learn from it."""
    return {Path(path): student for student in experiment.students.values() for path in student.view_files}


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


def images_of(dataset: Dataset, split: str) -> float:
    """About how many images a split has, or ImageNet's share while that is not known."""
    found = counts.images(dataset, split)
    return IMAGENET[split] * dataset.options[f"{split}_fraction"] if found is None else found

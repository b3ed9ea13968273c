"""How many images there are: in a folder by going through it, in other sources by what they say."""

import os
from pathlib import Path
from typing import Any

import pytest
from experiment import counts, plan, source
from experiment.config import Experiment
from experiment.datasets import Dataset

from tests.project import TINY


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def both(dataset: Dataset) -> tuple[int | None, ...]:
    return tuple(counts.images(dataset, split) for split in ("train", "val"))


def test_images_in_a_folder_are_counted(tmp_path: Path) -> None:
    for file in (
        "train/a/1.png",
        "train/b/deeper/2.JPEG",
        "train/b/notes.txt",
        "train/3.txt",
        "train/a/._4.png",
        "val/a/3.png",
    ):
        (tmp_path / "numerals" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "numerals" / file).touch()
    assert both(Experiment(TINY).datasets["numerals"]) == (2, 1)


def test_images_behind_links_are_counted(tmp_path: Path) -> None:
    for file in ("photos/cat/1.png", "photos/cat/deeper/2.png"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    for split in ("train", "val"):
        (tmp_path / "numerals" / split).mkdir(parents=True)
        (tmp_path / "numerals" / split / "cat").symlink_to(tmp_path / "photos/cat", target_is_directory=True)
    (tmp_path / "photos/cat/deeper/back").symlink_to(tmp_path / "photos", target_is_directory=True)
    assert both(Experiment(TINY).datasets["numerals"]) == (2, 2)


@pytest.mark.parametrize("hidden", ["numerals", "numerals/train", "numerals/train/cat"])
def test_what_may_not_be_read_is_not_known_and_planned_as_imagenet(hidden: str, tmp_path: Path) -> None:
    (tmp_path / "numerals/train/cat").mkdir(parents=True)
    tmp_path.chmod(0o755)
    (tmp_path / hidden).chmod(0)
    user = os.geteuid()
    dataset = Experiment(TINY).datasets["numerals"]
    try:
        if user == 0:  # who may read all
            os.seteuid(65534)
        assert both(dataset) == (None, None)
        assert plan.images_of(dataset, "train") == 1_281_167
    finally:
        os.seteuid(user)
        (tmp_path / hidden).chmod(0o755)


@pytest.mark.parametrize(
    ("source", "options", "images"),
    [
        ("voc2007", {}, (5011, 4952)),
        ("digits", {}, (1347, 450)),
        ("stl10", {}, (5000, 8000)),
        ("stl10", {"train_images": "unlabeled"}, (100_000, 8000)),
        ("stl10", {"train_images": "train+unlabeled", "train_fraction": 0.5}, (52_500, 8000)),
        ("cifar10", {}, (50_000, 10_000)),
    ],
)
def test_a_source_says_how_many_images_it_has(source: str, options: Any, images: tuple[float, float]) -> None:
    dataset = {"source": source, "size": 32, "augmentation": "crop-flip", **options}
    encoders = {"e": {"pretrain": "untrained", "architecture": "resnet18", "dataset": "d"}}
    evaluations = {"cost": {}}
    experiment = Experiment({"datasets": {"d": dataset}, "encoders": encoders, "evaluations": evaluations})
    assert both(experiment.datasets["d"]) == images


def test_every_source_but_a_folder_says_how_many_images_it_has() -> None:
    silent = [
        name
        for name in source.plugins("stages.datasets.sources")
        if not source.literal(source.plugin_module("stages.datasets.sources", name), "IMAGES", ())
    ]
    assert silent == ["folder"]

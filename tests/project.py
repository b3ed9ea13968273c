"""A copy of the project to run Snakemake in, with a tiny experiment on real images."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[1]

TINY = {
    "datasets": {"numerals": {"source": "folder", "size": 16, "augmentation": "affine-elastic", "path": "numerals"}},
    "encoders": {
        "teacher": {
            "pretrain": "simclr",
            "augmentation": "affine-elastic",
            "architecture": "resnet18_x0.25",
            "dataset": "numerals",
            "epochs": 3,
            "batch_size": 64,
            "optimizer": "sgd",
            "learning_rate": 0.3,
            "weight_decay": 1e-4,
            "exclude_norm_and_bias": False,
            "warmup_epochs": 0,
        },
        "supervised": {
            "pretrain": "supervised",
            "architecture": "resnet18_x0.125",
            "dataset": "numerals",
            "epochs": 3,
            "batch_size": 64,
        },
        "untrained": {"pretrain": "untrained", "architecture": "resnet18_x0.125", "dataset": "numerals"},
    },
    "students": [
        {
            "teachers": ["teacher"],
            "dataset": "numerals",
            "architectures": ["resnet18_x0.125"],
            "methods": ["compress-1q", "compress-2q"],
            "options": {"epochs": 3, "batch_size": 64, "learning_rate": 0.05, "queue_length": 128},
        }
    ],
    # On the cached views, to be quick.
    "evaluations": {
        "linear": {"views": "cached", "epochs": 3},
        "knn": {},
        "cluster-alignment": {"clusters": 5, "runs": 2},
    },
    "cluster_pictures": ["teacher"],
}


class Project:
    """A copy of the project at ``path``; commands run there with this interpreter's environment first on the path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def tiny(cls, path: Path) -> "Project":
        """A fresh copy with the tiny experiment and its folder of images."""
        for name in ("workflow", "stages", "containers"):
            shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("*.sif", "__pycache__"))
        project = cls(path)
        project.write_config(TINY)
        write_numerals(path / "numerals")
        return project

    def copy(self, path: Path) -> "Project":
        """This project and all its results, dates kept."""
        shutil.copytree(self.path, path, ignore=shutil.ignore_patterns("__pycache__"))
        return Project(path)

    def write_config(self, config: object) -> None:
        (self.path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def replace(self, file: str, old: str, new: str) -> None:
        """Edit a file as a user would; the text has to be there."""
        path = self.path / file
        text = path.read_text()
        assert old in text, f"{file} does not hold {old!r}"
        path.write_text(text.replace(old, new, 1))

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        return subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "2", "--nocolor", *arguments],
            cwd=self.path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )

    def would_run(self, *arguments: str) -> set[str]:
        """The jobs of a dry run, as ``rule`` and what it is of: encoder, evaluation, shard, view; without ``all``."""
        done = self.snakemake("--dry-run", *arguments)
        assert done.returncode == 0, done.stdout
        blocks = re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)*)", done.stdout, flags=re.MULTILINE)
        return {" ".join([rule, *_wildcards(body)]) for rule, body in blocks if rule != "all"}


def _wildcards(body: str) -> list[str]:
    found = re.search(r"wildcards: (.*)", body)
    values = dict(pair.split("=") for pair in found[1].split(", ")) if found else {}
    return [values[name] for name in ("encoder", "evaluation", "shard", "view") if name in values]


def write_numerals(folder: Path, train: int = 40, val: int = 10) -> None:
    """Five classes of real handwritten digits as PNG files, some for each class and split."""
    digits = load_digits()
    for label in range(5):
        rows = np.flatnonzero(digits.target == label)[: train + val]
        for position, row in enumerate(rows):
            place = folder / ("train" if position < train else "val") / f"digit-{label}"
            place.mkdir(parents=True, exist_ok=True)
            pixels = np.rint(digits.images[row] * 255 / 16).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{position:03}.png")

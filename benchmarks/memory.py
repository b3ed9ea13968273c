"""Measure the memory of distillation from a cached teacher of ImageNet's size: 1,281,167 vectors of 8192, 21 GB.

    python -m benchmarks.memory
    python -m benchmarks.memory --images 100000 --dimension 2048 --workers 4

It is what the processes hold without the pages of files, which the system can take back: of the training process, and
of each that reads images; of what they share, each has its part. The cache's file has holes, so that it takes no room
on the disk; the images are one small picture again and again.
"""

import argparse
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.rows import Row, parser_of, report
from stages.artifacts.hdf5 import create
from stages.artifacts.weights import EncoderCard, InputContract

FINGERPRINT = "of the same images"


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=1_281_167, help="(default: %(default)s)")
    parser.add_argument("--dimension", type=int, default=8192, help="the teacher's (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes that read images (default: 2)")
    parser.add_argument("--seconds", type=float, default=30, help="to train, its start included (default: 30)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pack(folder / "train.h5", arguments.images)
        write_cache(folder / "teacher.h5", arguments.images, arguments.dimension)
        training, readers = memory_of(distillation(folder, arguments), arguments.seconds)
    what = f"distilling from {arguments.images} x {arguments.dimension} in float16"
    report(
        [
            Row(f"{what}, MiB of the training", [training]),
            Row(f"{what}, MiB of a reader", readers),
        ],
        arguments,
    )


def write_pack(path: Path, images: int) -> None:
    """A split of one picture, many times."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "JPEG")
    picture = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
    with create(path, "dataset") as (file, _):
        file["images"] = np.tile(picture, images)
        file["offsets"] = np.arange(images + 1) * len(picture)
        file["labels"] = np.zeros(images, dtype=np.int64)
        file["classes"] = ["any"]
        file.attrs.update(name="pictures", split="train", fingerprint=FINGERPRINT, skipped=0)


def write_cache(path: Path, images: int, dimension: int) -> None:
    """A cache of which about a row in 16 is begun, and all of a small one's: the rest of it are holes.

    Without, a batch would be nothing but zeros, which a collapsed teacher's are.
    """
    card = EncoderCard("teacher", "none", dimension, InputContract(32), {})
    facts: dict[str, Any] = {"weights": "none", "dataset": "pictures", "dataset_fingerprint": FINGERPRINT}
    with create(path, "embeddings") as (file, _):
        vectors = file.create_dataset("embeddings", shape=(images, dimension), dtype="float16", fill_time="never")
        vectors[:: max(1, min(16, images // 1024)), 0] = 1
        file["labels"] = np.zeros(images, dtype=np.int64)
        file["classes"] = ["any"]
        file.attrs.update(encoder=card.to_json(), split="train", transform="none", skipped=0, **facts)


def distillation(folder: Path, arguments: argparse.Namespace) -> list[str]:
    """The command."""
    files = {"train": "train.h5", "teacher-embeddings": "teacher.h5", "checkpoints": "checkpoints"}
    files |= {"weights": "weights.safetensors", "heads": "heads.safetensors", "history": "history.csv"}
    options = {"method": "compress-1q", "name": "student", "architecture": "resnet18_x0.125", "size": 32}
    options |= {"augmentation": "crop-flip", "queue-length": 1024, "epochs": 10_000, "workers": arguments.workers}
    given = {name: folder / file for name, file in files.items()} | options
    return [sys.executable, "-m", "stages.distill", *(f"--{name}={value}" for name, value in given.items())]


def memory_of(command: list[str], seconds: float) -> tuple[float, list[float]]:
    """The MiB of a command's process, and of each that it has started, at their most, once it has trained so long."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        held: dict[int, float] = {}
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            for number in [process.pid, *children_of(process.pid)]:
                held[number] = max(held.get(number, 0), own_mebibytes(number))
            time.sleep(0.1)
        if process.poll() is not None:
            sys.exit(process.stderr.read() if process.stderr else "")
        os.killpg(process.pid, signal.SIGKILL)
    return held.pop(process.pid), list(held.values())


def children_of(number: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def own_mebibytes(number: int) -> float:
    """A process's share of what is no page of a file (Linux); nothing of one that has ended."""
    try:
        rollup = Path(f"/proc/{number}/smaps_rollup").read_text()
    except OSError:
        return 0
    return (
        sum(int(kibibytes) for kibibytes in re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", rollup, re.MULTILINE)) / 1024
    )


if __name__ == "__main__":
    main()

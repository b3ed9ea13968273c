"""Time distillation from cached embeddings as the stage runs it, beside the student's bare training step.

    python -m benchmarks.training_step
    python -m benchmarks.training_step --student mobilenet_v2 --size 224 --batch-size 256 --workers 15 --bfloat16

Ours is the whole loop of `stages.distill` by compress-1q: JPEGs read, cropped and mirrored by ``workers`` processes,
the teacher's rows looked up, the loss, the optimizer, the history. The limit is the student's own forward and backward
pass with the optimizer, of one batch that lies on the device all along.
"""

import argparse
import dataclasses
import functools
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.caches import random_cache
from benchmarks.rows import Row, cores, on_gpu, parser_of, report, timed
from stages import architectures
from stages.artifacts.weights import InputContract
from stages.datasets import augmentations
from stages.datasets.packed import PackedImages, read_pack, write_packs
from stages.datasets.sources import Split
from stages.distillation import Setting
from stages.distillation.compress_1q import CompRess1q, Options
from stages.training.acceleration import accelerate
from stages.training.batches import Batch, stream
from stages.training.checkpoint import Checkpoint
from stages.training.loop import Run, train
from stages.training.teacher import CachedTeacher

TEACHER_DIMENSION = 2048
GPU = torch.cuda.is_available()
EPOCH = 20 if GPU else 4
"""Steps; at an epoch's end the loop waits for a GPU, which in real training is rare."""


def main() -> None:
    parser = parser_of(__doc__)
    small: dict[str, Any] = {"student": "resnet18_x0.5", "size": 32, "batch_size": 64, "queue": 4096, "steps": 40}
    # A ResNet-18 in bfloat16 would wait for the images of a dozen cores.
    large: dict[str, Any] = {"student": "resnet50", "size": 224, "batch_size": 256, "queue": 128_000, "steps": 200}
    parser.set_defaults(**(large if GPU else small))
    parser.add_argument("--student", help="(default: %(default)s)")
    parser.add_argument("--size", type=int, help="pixels a side (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, help="images (default: %(default)s)")
    parser.add_argument("--queue", type=int, help="anchors (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of each (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=cores() - 1, help="(default: %(default)s)")
    parser.add_argument("--bfloat16", action="store_true", help="as the option of the methods")
    parser.add_argument("--compile", action="store_true", help="as the option of the methods")
    arguments = parser.parse_args()

    device = torch.device("cuda" if GPU else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        pack = photographs(Path(folder), EPOCH * arguments.batch_size, arguments.size * 8 // 7)
        options = Options(
            epochs=max(2, arguments.steps // EPOCH),
            batch_size=arguments.batch_size,
            queue_length=arguments.queue,
            bfloat16=arguments.bfloat16,
            compile=arguments.compile,
        )
        objective = objective_of(arguments, options, len(pack))
        ours = seconds_a_step(objective, pack, options, device, arguments)
        bare = bare_seconds(objective, options, device, arguments)
    what = f"distillation step{on_gpu()}, {arguments.student}, {arguments.batch_size} x {arguments.size} px, s"
    report([Row(what, ours, limit=bare)], arguments)


def objective_of(arguments: argparse.Namespace, options: Options, images: int) -> CompRess1q:
    student = architectures.build(arguments.student, InputContract(arguments.size))
    objective = CompRess1q(student, Setting(TEACHER_DIMENSION, images), options)
    accelerate(objective, options)
    return objective


def seconds_a_step(
    objective: CompRess1q, pack: PackedImages, options: Options, device: torch.device, arguments: argparse.Namespace
) -> list[float]:
    """Of the loop's own history, an epoch each; the first is left out, for what starts with it."""
    cache = random_cache(pack.path.parent / "teacher.h5", "train", len(pack), TEACHER_DIMENSION, 1, pack.fingerprint)
    teacher = CachedTeacher(cache, pack)
    teacher.to(device)
    augmentation = augmentations.named("crop-flip", arguments.size)

    def prepare(batch: Batch) -> Batch:
        augmented = batch.augmented(augmentation, device)
        return dataclasses.replace(augmented, frozen_output=teacher(augmented))

    batches = functools.partial(stream, pack, augmentation, options, views=1, seed=0, workers=arguments.workers)
    run = Run(options, 0, EPOCH, device, Checkpoint(pack.path.parent / "checkpoints", "benchmark"), 1e9)
    history = train(objective, run, batches, prepare, "distilling")
    return [arguments.batch_size / epoch["images_per_second"] for epoch in history[1:]]


def bare_seconds(
    objective: CompRess1q, options: Options, device: torch.device, arguments: argparse.Namespace
) -> list[float]:
    """Of the student alone, whose embeddings are drawn to nothing."""
    student = objective.student.to(device).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-6, momentum=0.9, fused=GPU)
    images = torch.rand(arguments.batch_size, 3, arguments.size, arguments.size, device=device)

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            student(images).square().mean().backward()
            optimizer.step()
        if GPU:
            torch.cuda.synchronize()

    steps(4)
    return [timed(lambda: steps(4)) / 4 for _ in range(options.epochs - 1)]


def photographs(folder: Path, count: int, side: int) -> PackedImages:
    """A packed split of smooth random JPEGs."""
    random = np.random.default_rng(0)

    def jpeg() -> bytes:
        coarse = Image.fromarray(random.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    images = [jpeg() for _ in range(count)]
    split = Split(("any",), np.zeros(count, dtype=np.int64), images)
    path = folder / "train.h5"
    write_packs({path: ("train", split)}, name="photographs", source="random")
    return read_pack(path)


if __name__ == "__main__":
    main()

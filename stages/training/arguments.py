"""The run that the arguments of `stages.training.flags` describe, and what it leaves."""

import argparse
import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from stages import processes
from stages.architectures import Encoder
from stages.artifacts.heads import save_heads
from stages.artifacts.rows import write_rows
from stages.artifacts.weights import EncoderCard, save_weights
from stages.datasets.augmentations import Augmentation
from stages.datasets.packed import PackedImages
from stages.errors import UserError, at_least, require_split, seeds
from stages.training.batches import Batch, steps_per_epoch, stream
from stages.training.checkpoint import Checkpoint
from stages.training.loop import Run, train
from stages.training.objective import Objective
from stages.training.recipe import Recipe, TrainingRecipe

logger = logging.getLogger("stages")

FILES = ("weights", "heads", "history")

NAMES = {"name", "label", "teacher_name"}
READ = {"train", "val", "teacher_embeddings", "teacher_views", "teacher_assignments"}
WRITTEN = {*FILES, *(f"teacher_{file}" for file in FILES), "metrics"}
HOW = {"checkpoints", "checkpoint_seconds", "workers"}
"""Arguments under which a run may go on though they be others: what is read counts by its digest, wherever it lies."""


def training_of(arguments: argparse.Namespace, recipe: TrainingRecipe, pack: PackedImages, *inputs: str) -> Run:
    """`run_of` the training of an encoder, which has a choice of its batch norms and precision.

    Raises:
        UserError: as by `run_of`, or it is the val split, or bfloat16 is asked for where there is no GPU.
    """
    require_split(pack.path, pack.split, "train")
    run = run_of(arguments, recipe, pack, *inputs)
    if recipe.bfloat16 and run.device.type == "cpu":
        # Of small images, PyTorch's gradients of convolutions can be off by any factor there.
        raise UserError("--bfloat16 is true, but this machine has no GPU; expected false: it is for GPUs alone")
    return dataclasses.replace(run, sync_batch_norm=recipe.sync_batch_norm)


def run_of(arguments: argparse.Namespace, recipe: Recipe, pack: PackedImages, *inputs: str) -> Run:
    """The run that the arguments describe, in as many processes as there are; its checkpoints belong to it alone.

    Args:
        inputs: digests of whatever else the run is made from, such as the teacher's embeddings.

    Raises:
        UserError: the processes have too few images.
    """
    at_least(0, workers=arguments.workers)
    seeds(seed=arguments.seed)
    device = processes.start()
    if recipe.batch_size < 2 * processes.count():
        raise UserError(
            f"--batch-size is {recipe.batch_size}, which {processes.count()} processes share; expected two images for "
            "each or more"
        )
    if recipe.schedule == "step" and recipe.milestones and min(recipe.milestones) >= recipe.epochs > 0:
        logger.warning(
            "the learning rate stays at %g: the milestones %s are beyond the last epoch, %d",
            *(recipe.learning_rate, ", ".join(map(str, recipe.milestones)), recipe.epochs),
        )
    facts = {name: str(value) for name, value in vars(arguments).items() if name not in NAMES | READ | WRITTEN | HOW}
    identity = json.dumps([facts, pack.fingerprint, pack.split, *inputs], sort_keys=True)
    return Run(
        recipe=recipe,
        seed=arguments.seed,
        steps_per_epoch=steps_per_epoch(len(pack), recipe),
        device=device,
        checkpoint=Checkpoint(arguments.checkpoints, hashlib.sha256(identity.encode()).hexdigest()),
        checkpoint_seconds=arguments.checkpoint_seconds,
    )


def train_encoder(
    arguments: argparse.Namespace,
    objective: Objective,
    run: Run,
    pack: PackedImages,
    augmentation: Augmentation,
    prepare: Callable[[Batch], Batch] | None = None,
    fixed_views: int = 0,
) -> list[dict[str, float]]:
    """Train ``objective`` on augmented images of ``pack`` as the arguments say; returns the history.

    Args:
        prepare: what `train` takes, of a method that needs more of a batch than its augmented views.
        fixed_views: as for `stream`.
    """
    batches = functools.partial(
        stream,
        pack,
        augmentation,
        run.recipe,
        views=objective.views,
        seed=arguments.seed,
        workers=arguments.workers,
        fixed_views=fixed_views,
    )
    augmented = functools.partial(Batch.augmented, augmentation=augmentation, device=run.device)
    return train(objective, run, batches, prepare or augmented, title=arguments.name)


HISTORY_COLUMNS = ("epoch", "loss", "learning_rate", "images_per_second", "waiting_share")


def write_encoder(
    arguments: argparse.Namespace,
    encoder: Encoder,
    heads: Mapping[str, Tensor],
    pack: PackedImages,
    history: list[dict[str, float]],
    origin: Mapping[str, Any],
    prefix: str = "",
) -> None:
    """Write what training leaves: the backbone with its card, the heads, and the history; the first process does.

    Args:
        origin: how the encoder came to be, but for its dataset and seed.
        prefix: of the arguments that name the encoder, its architecture and its files, as in ``teacher_weights``.
    """
    if not processes.is_first():
        return
    name, architecture = (getattr(arguments, f"{prefix}{key}") for key in ("name", "architecture"))
    weights, heads_path, history_path = (getattr(arguments, f"{prefix}{file}") for file in FILES)
    card = EncoderCard(
        name=name,
        architecture=architecture,
        dimension=encoder.dimension,
        contract=encoder.contract,
        origin={**origin, "dataset": pack.name, "seed": arguments.seed},
    )
    save_weights(weights, encoder.backbone.state_dict(), card)
    save_heads(heads_path, heads, weights)
    write_rows(history_path, HISTORY_COLUMNS, history)

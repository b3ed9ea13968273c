"""Training linear probes by the shared loop."""

from collections.abc import Sequence

import torch

from stages.artifacts.embeddings import Embeddings
from stages.probing.features import Features
from stages.probing.heads import Heads, Statistics
from stages.probing.presets import BATCH_SIZE, Preset
from stages.training.batches import steps_per_epoch
from stages.training.checkpoint import Checkpoint
from stages.training.loop import Run, train
from stages.training.recipe import Recipe


def probe(
    presets: Sequence[Preset],
    features: Features,
    rows: Sequence[int],
    statistics: Statistics,
    val: Embeddings,
    *,
    seed: int,
    device: torch.device,
    checkpoint: Checkpoint,
    checkpoint_seconds: float,
    title: str,
) -> Heads:
    """A head for each of the ``presets``, learned from the train images in ``rows`` and measured on ``val``."""
    recipe = Recipe(epochs=max(preset.recipe.epochs for preset in presets), batch_size=BATCH_SIZE)
    heads = Heads(presets, statistics, val, seed)
    train(
        heads,
        Run(recipe, seed, steps_per_epoch(len(rows), recipe), device, checkpoint, checkpoint_seconds),
        lambda first: features.batches(rows, recipe, seed, first),
        features.prepare,
        title,
    )
    return heads

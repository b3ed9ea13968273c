"""Linear classifiers on a frozen encoder, any number of them on one read of the images."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from stages.artifacts.embeddings import Embeddings
from stages.probing.presets import Preset
from stages.training.batches import Batch
from stages.training.objective import Objective
from stages.training.position import seed_here
from stages.training.recipe import Recipe, learning_rate

VAL_ROWS = 8192
"""How many val images are classified at once."""


@dataclasses.dataclass(frozen=True)
class Statistics:
    """The mean and the unbiased variance [D] of l2-normalised embeddings, dimension by dimension, float64."""

    mean: Tensor
    variance: Tensor


def statistics_of(train: Embeddings) -> Statistics:
    """Those of a whole cache, in one pass, some rows at a time."""
    count, dimension = train.vectors.shape
    total, squares = torch.zeros(2, dimension, dtype=torch.float64)
    # About the first row's values, so that no variance drowns in the square of its mean.
    origin = torch.from_numpy(train.unit(np.zeros(1, dtype=np.int64))[0]).double()
    for rows in train.unit_slices():
        shifted = torch.from_numpy(rows) - origin
        total += shifted.sum(dim=0)
        squares += shifted.square_().sum(dim=0)
    return Statistics(origin + total / count, (squares - total**2 / count) / max(1, count - 1))


class Head(nn.Module):
    """A preset's classifier: embeddings [B, D], as the preset wants them, to logits [B, C].

    Its initialisation depends on the seed alone, so heads of one form and seed start alike.
    """

    def __init__(self, preset: Preset, dimension: int, classes: int, seed: int) -> None:
        super().__init__()
        self.preset = preset
        seed_here(seed)
        self.linear = nn.Linear(dimension, classes)
        if preset.deviation is not None:
            nn.init.normal_(self.linear.weight, std=preset.deviation)
            nn.init.zeros_(self.linear.bias)
        self.norm = nn.BatchNorm1d(classes) if preset.logits_normalised else nn.Identity()

    def forward(self, embeddings: Tensor) -> Tensor:
        logits: Tensor = self.norm(self.linear(embeddings))
        return logits


class Heads(Objective):
    """Heads that learn from the same batches, each by its own recipe, measured on ``val`` after every epoch.

    A batch's ``frozen_output`` is the encoder's embeddings [B, D]. The loss is the sum of the heads', so that each has
    the gradient of its own. ``top1`` and ``top5`` [heads, epochs] count the val images whose class came first, or among
    the first five, after each epoch. A head that is done before the others stays as it is. ``losses`` are the last
    batch's, a scalar for each head that learns; who reads them waits for a GPU.
    """

    mean: Tensor
    scale: Tensor
    top1: Tensor
    top5: Tensor

    def __init__(self, presets: Sequence[Preset], statistics: Statistics, val: Embeddings, seed: int) -> None:
        super().__init__()
        self.val, self.classes = val, len(val.classes)
        self.classifiers = nn.ModuleList(Head(preset, val.vectors.shape[1], self.classes, seed) for preset in presets)
        self.epoch, self.ends_epoch = 0, False
        self.losses: list[Tensor] = []
        self.register_buffer("mean", statistics.mean.float())
        self.register_buffer("scale", torch.rsqrt(statistics.variance + 1e-5).float())
        for name in ("top1", "top5"):
            epochs = max(preset.recipe.epochs for preset in presets)
            self.register_buffer(name, torch.zeros(len(presets), epochs, dtype=torch.int64))

    def forward(self, batch: Batch) -> Tensor:
        assert batch.frozen_output is not None
        views = self._views(batch.frozen_output)
        losses = [F.cross_entropy(head(views[head.preset.standardised]), batch.labels) for _, head in self._learning()]
        self.losses = [loss.detach() for loss in losses]
        return torch.stack(losses).sum()

    def advice(self) -> str:
        failing = [
            f"{head.preset.features} with learning rate {head.preset.recipe.learning_rate:g}"
            for (_, head), loss in zip(self._learning(), self.losses, strict=True)
            if not loss.isfinite()
        ]
        if not failing:
            return super().advice()
        return (
            f"it is that of {self.val.card.name}'s linear classifier on {', and of that on '.join(failing)}: lower its "
            "rate by --learning-rates, or leave out its preset"
        )

    def optimizer(self, recipe: Recipe) -> Optimizer:
        """SGD with a group for each head, by its own recipe."""
        return torch.optim.SGD(
            [
                {
                    "params": list(head.parameters()),
                    "lr": head.preset.recipe.learning_rate,
                    "momentum": head.preset.recipe.sgd_momentum,
                    "nesterov": head.preset.recipe.nesterov,
                    "weight_decay": head.preset.recipe.weight_decay,
                }
                for head in self._all()
            ]
        )

    def before_step(self, optimizer: Optimizer, recipe: Recipe, step: int, steps_per_epoch: int) -> float:
        """Set each learning head's rate; returns the highest."""
        self.epoch, self.ends_epoch = step // steps_per_epoch, (step + 1) % steps_per_epoch == 0
        rates = {number: learning_rate(head.preset.recipe, step, steps_per_epoch) for number, head in self._learning()}
        for number, rate in rates.items():
            optimizer.param_groups[number]["lr"] = rate
        return max(rates.values())

    def after_step(self, progress: float) -> None:
        if self.ends_epoch:
            self.eval()
            self._measure()
            self.train()

    @torch.inference_mode()
    def _measure(self) -> None:
        """Count what is right after this epoch."""
        labels = torch.from_numpy(self.val.single_labels()).to(self.mean.device)
        for start in range(0, len(labels), VAL_ROWS):
            rows = np.array(self.val.vectors[start : start + VAL_ROWS], dtype=np.float32)
            views = self._views(torch.from_numpy(rows).to(self.mean.device))
            truth = labels[start : start + VAL_ROWS, None]
            for number, head in self._learning():
                first = head(views[head.preset.standardised]).topk(min(5, self.classes), dim=1).indices
                self.top1[number, self.epoch] += torch.count_nonzero(first[:, :1] == truth)
                self.top5[number, self.epoch] += torch.count_nonzero(first == truth)

    def _views(self, embeddings: Tensor) -> dict[bool, Tensor]:
        """Embeddings [B, D] as they are (False), and standardised (True)."""
        return {False: embeddings, True: (F.normalize(embeddings, dim=1) - self.mean) * self.scale}

    def _all(self) -> list[Head]:
        return cast(list[Head], list(self.classifiers))

    def _learning(self) -> Iterator[tuple[int, Head]]:
        """The heads that are not done, with their numbers."""
        for number, head in enumerate(self._all()):
            if self.epoch < head.preset.recipe.epochs:
                yield number, head

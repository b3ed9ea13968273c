"""Training batches from a packed split: one stream of steps, from any step on."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stages import processes
from stages.command_line import leave_termination_to_the_run
from stages.datasets.augmentations import Augmentation, to_float
from stages.datasets.packed import PackedImages
from stages.errors import UserError
from stages.training.position import permutation, seed_cpu_here, view_position
from stages.training.recipe import Recipe

CACHE_BYTES = 256 * 2**20
"""Of a small dataset's crops, of each view, that each reading process keeps: the workers multiply it."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Several views, [B, 3, S, S] each, of B images, with their ``indices`` in the split and their ``labels`` [B].

    Views come uint8 from the loader and are float32 in 0..1 once augmented; S may differ between them.
    ``frozen_output`` is what a frozen network says of the images, where there is one (the teacher, or the encoder under
    a probe): usually embeddings [B, D]. Where several processes train, the views are those of this process's part of
    the images; all else is of all.
    """

    views: tuple[Tensor, ...]
    indices: Tensor
    labels: Tensor
    frozen_output: Tensor | None = None
    epoch: int = 0

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory, which the loader asks for where there is a GPU."""
        views = tuple(view.pin_memory() for view in self.views)
        return dataclasses.replace(self, views=views, labels=self.labels.pin_memory())

    def to(self, device: torch.device) -> "Batch":
        """The batch with its views and labels on ``device``."""
        views = tuple(view.to(device, non_blocking=True) for view in self.views)
        return dataclasses.replace(self, views=views, labels=self.labels.to(device, non_blocking=True))

    def augmented(self, augmentation: Augmentation, device: torch.device) -> "Batch":
        """The batch on ``device``, with the batch part of the augmentation done, independently for each view."""
        there = self.to(device)
        views = tuple(augmentation.batch(to_float(view), number) for number, view in enumerate(there.views))
        return dataclasses.replace(there, views=views)


Crops = tuple[Tensor, ...]

Samples = tuple[list[Crops], list[int], np.ndarray, int]
"""Crops of this process's part of a batch; of the whole batch, the images' places in the split, labels and epoch."""


class _Samples(Dataset[Samples]):
    """Batches by (epoch, image) positions. Small datasets without random crops are decoded once and kept."""

    def __init__(
        self, pack: PackedImages, augmentation: Augmentation, views: int, seed: int, fixed_views: int = 0
    ) -> None:
        self.pack, self.augmentation, self.views, self.seed = pack, augmentation, views, seed
        self.fixed_views = fixed_views
        crop_bytes = 3 * augmentation.size**2
        self.keep = not augmentation.sample_is_random and len(pack) * crop_bytes <= CACHE_BYTES
        self.kept: dict[int, Crops] = {}
        self.rank, self.count = processes.rank(), processes.count()

    def __getitems__(self, positions: list[tuple[int, int]]) -> Samples:
        own = positions[processes.part(len(positions), self.rank, self.count)]
        indices = [index for _, index in positions]
        return [self._crops(*position) for position in own], indices, self.pack.labels[indices], positions[0][0]

    def _crops(self, epoch: int, index: int) -> Crops:
        if index in self.kept:
            return self.kept[index]
        image = self.pack.image(index)
        if self.augmentation.sample_is_random:
            fixed = self.fixed_views
            seed_cpu_here(*(view_position(epoch % fixed, index) if fixed else (self.seed, epoch, index)))
        crops = tuple(self.augmentation.sample(image, view) for view in range(self.views))
        if self.keep:
            self.kept[index] = crops
        return crops


class Positions:
    """The batches' (epoch, image) positions, of ``rows``, from the step ``first`` to the end of the last epoch."""

    def __init__(self, rows: Sequence[int], recipe: Recipe, seed: int, first: int) -> None:
        self.rows, self.recipe, self.seed, self.first = rows, recipe, seed, first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = steps_per_epoch(len(self.rows), self.recipe)
        for epoch in range(self.first // per_epoch, self.recipe.epochs):
            order = permutation(len(self.rows), self.seed, epoch)
            start = self.first % per_epoch if epoch == self.first // per_epoch else 0
            for step in range(start, per_epoch):
                places = order[step * self.recipe.batch_size : (step + 1) * self.recipe.batch_size]
                yield [(epoch, self.rows[place]) for place in places]


def steps_per_epoch(images: int, recipe: Recipe) -> int:
    """Steps an epoch. A last batch with less than two images for each process is always left out: batch norm has no
    variance to offer to one.

    Raises:
        UserError: there are epochs to train, but too few images for even one step.
    """
    whole, rest = divmod(images, recipe.batch_size)
    steps = whole if recipe.drop_last or rest < 2 * processes.count() else whole + 1
    if recipe.epochs and not steps:
        raise UserError(
            f"{images} images make no batch with batch_size {recipe.batch_size} and drop_last "
            f"{str(recipe.drop_last).lower()}, so nothing would be trained: lower batch_size"
        )
    return steps


def stream(
    pack: PackedImages,
    augmentation: Augmentation,
    recipe: Recipe,
    first: int,
    *,
    views: int,
    seed: int,
    workers: int,
    rows: Sequence[int] | None = None,
    fixed_views: int = 0,
) -> Iterator[Batch]:
    """All batches from the step ``first`` to the end of training, read by ``workers`` processes ahead of time.

    The training processes of a machine share these, and each reads its own part of a batch.

    Args:
        rows: the images to train on, by default all.
        fixed_views: how many views that are the same in every run to show, one an epoch in turn; 0: new ones.
    """
    samples = _Samples(pack, augmentation, views, seed, fixed_views)
    chosen = range(len(pack)) if rows is None else rows
    yield from reading(samples, _collate, chosen, recipe, seed=seed, workers=workers, first=first)


def reading(
    samples: Dataset[Any],
    collate: Callable[[Any], Batch],
    rows: Sequence[int],
    recipe: Recipe,
    *,
    seed: int,
    workers: int,
    first: int,
) -> Iterator[Batch]:
    """The batches that ``collate`` makes of ``samples``, which are found by (epoch, image of ``rows``)."""
    yield from DataLoader(
        samples,
        batch_sampler=Positions(rows, recipe, seed, first),
        num_workers=math.ceil(workers / processes.count_here()),
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=leave_termination_to_the_run,
    )


def _collate(samples: Samples) -> Batch:
    crops, indices, labels, epoch = samples
    views = tuple(torch.stack(view) for view in zip(*crops, strict=True))
    return Batch(views=views, indices=torch.tensor(indices), labels=torch.from_numpy(labels), epoch=epoch)

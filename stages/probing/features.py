"""What linear probes learn from: the cached embeddings of the train images, or those of augmented views of them."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from stages import gpus
from stages.architectures import Encoder
from stages.artifacts.embeddings import Embeddings
from stages.datasets.augmentations import Augmentation
from stages.datasets.packed import PackedImages
from stages.errors import UserError
from stages.training.batches import Batch, Positions, stream
from stages.training.recipe import Recipe


class Features(Protocol):
    """Batches of train images, of ``rows`` alone and from the step ``first`` on, and what the encoder says of them."""

    def batches(self, rows: Sequence[int], recipe: Recipe, seed: int, first: int) -> Iterator[Batch]: ...

    def prepare(self, batch: Batch) -> Batch:
        """The batch on the device, with the encoder's embeddings [B, D] as its ``frozen_output``."""


class Cached:
    """The embeddings of the centre views, read from the cache's memory map as they are asked for."""

    def __init__(self, train: Embeddings, device: torch.device) -> None:
        self.train, self.device = train, device
        self.labels = torch.from_numpy(train.single_labels())

    def batches(self, rows: Sequence[int], recipe: Recipe, seed: int, first: int) -> Iterator[Batch]:
        for positions in Positions(rows, recipe, seed, first):
            indices = torch.tensor([row for _, row in positions])
            yield Batch(views=(), indices=indices, labels=self.labels[indices])

    def prepare(self, batch: Batch) -> Batch:
        rows = torch.from_numpy(self.train.vectors[batch.indices.numpy()])
        return dataclasses.replace(batch.to(self.device), frozen_output=gpus.send(rows, self.device).float())


class Augmented:
    """The frozen encoder's embeddings of a new augmented view of each image in every epoch.

    Raises:
        UserError: the images are not those that ``train`` holds the embeddings of.
    """

    def __init__(
        self,
        train: Embeddings,
        pack: PackedImages,
        encoder: Encoder,
        augmentation: Augmentation,
        workers: int,
        device: torch.device,
    ) -> None:
        if train.dataset_fingerprint != pack.fingerprint or pack.split != "train":
            raise UserError(
                f"{pack.path}: holds {pack.name}-{pack.split} ({pack.fingerprint[:12]}), but {train.path} the "
                f"embeddings of {train.dataset}-{train.split} ({train.dataset_fingerprint[:12]}); expected the same "
                "train images"
            )
        self.pack, self.augmentation, self.workers, self.device = pack, augmentation, workers, device
        self.encoder = encoder.eval().requires_grad_(False).to(device)

    def batches(self, rows: Sequence[int], recipe: Recipe, seed: int, first: int) -> Iterator[Batch]:
        return stream(
            self.pack, self.augmentation, recipe, views=1, seed=seed, workers=self.workers, first=first, rows=rows
        )

    @torch.no_grad()
    def prepare(self, batch: Batch) -> Batch:
        augmented = batch.augmented(self.augmentation, self.device)
        return dataclasses.replace(augmented, frozen_output=self.encoder(augmented.views[0]).float())

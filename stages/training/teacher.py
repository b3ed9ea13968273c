"""The frozen teacher: by its embeddings, cached or live, projections, clusters of embeddings, or networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages import architectures, gpus
from stages.artifacts.assignments import Assignments, read_assignments
from stages.artifacts.embeddings import Embeddings, read_embeddings
from stages.artifacts.heads import Owner, heads_of, load_heads
from stages.artifacts.weights import EncoderCard, digest_of, load_weights
from stages.datasets.packed import PackedImages
from stages.datasets.views import is_numbered, numbered_transform
from stages.errors import UserError
from stages.training.acceleration import accelerate
from stages.training.batches import Batch
from stages.training.networks import Networks, networks_from, projector_from
from stages.training.recipe import TrainingRecipe


class Teacher:
    """Says something of a batch's images: embeddings [B, ``dimension``], not normalised, or their clusters [B].

    None where it hands the method its ``networks`` instead.
    """

    card: EncoderCard
    dimension: int
    identity: str
    """What its embeddings depend on: its weights and, of cached ones, how they were made."""
    clusters = 0
    networks: Networks | None = None
    views = 0
    """How many views of each image it knows, which the student is to see in turn; 0: whatever it sees."""

    def to(self, device: torch.device) -> None:
        """Move what it computes with; what it looks up follows the batch."""

    def __call__(self, batch: Batch) -> Tensor | None:
        raise NotImplementedError


class CachedTeacher(Teacher):
    """Looks a batch up in one cache of the teacher's embeddings, whatever the student sees."""

    def __init__(self, cache: Embeddings, pack: PackedImages) -> None:
        if cache.dataset_fingerprint != pack.fingerprint or cache.split != pack.split:
            raise UserError(
                f"{cache.path}: embeddings of {cache.dataset}-{cache.split} ({cache.dataset_fingerprint[:12]}), but "
                f"{pack.path} holds {pack.name}-{pack.split} ({pack.fingerprint[:12]}); embed these images first"
            )
        self.cache, self.card, self.dimension = cache, cache.card, cache.card.dimension
        self.owner, self.path = Owner(cache.card.name, cache.weights), cache.path
        self.identity = f"{cache.weights} {cache.transform} {cache.vectors.dtype}"

    def __call__(self, batch: Batch) -> Tensor:
        rows = self.cache.vectors[batch.indices.numpy()]
        # Up to the first row that is not zero: to look at all takes milliseconds of each step.
        if not any(row.any() for row in rows):
            raise UserError(f"{self.path}: all embeddings of a batch are zero: the teacher has collapsed; take another")
        return gpus.send(torch.from_numpy(rows), batch.labels.device).float()


class ViewedTeacher(Teacher):
    """Looks a batch up in the cache of the view that the student sees of its images in this epoch: they take turns.

    The caches are of the augmentation called ``name``, in the order of their numbers, from 0 on.
    """

    def __init__(self, paths: Sequence[Path], pack: PackedImages, name: str) -> None:
        caches = [read_embeddings(path) for path in paths]
        for number, cache in enumerate(caches):
            expected = numbered_transform(name, cache.card.contract.size, number)
            if cache.transform != expected or cache.weights != caches[0].weights:
                raise UserError(
                    f"{cache.path}: {cache.transform} by {cache.card.name} ({cache.weights[:12]}); expected {expected} "
                    f"by {caches[0].card.name} ({caches[0].weights[:12]}): embed it with --view {number}"
                )
        self.teachers = [CachedTeacher(cache, pack) for cache in caches]
        first = self.teachers[0]
        self.card, self.dimension, self.owner, self.path = first.card, first.dimension, first.owner, first.path
        self.views = len(caches)
        self.identity = " ".join(teacher.identity for teacher in self.teachers)

    def __call__(self, batch: Batch) -> Tensor:
        return self.teachers[batch.epoch % self.views](batch)


class LiveTeacher(Teacher):
    """Embeds the very view that the student sees, under the teacher's own normalisation and in evaluation mode."""

    def __init__(self, weights: Path, size: int, recipe: TrainingRecipe) -> None:
        state, self.card = _of_size(weights, size)
        self.dimension = self.card.dimension
        self.identity = digest_of(weights)
        self.owner, self.path = Owner(self.card.name, self.identity), weights
        self.encoder = architectures.load(self.card.architecture, self.card.contract, state, str(weights))
        self.encoder.eval().requires_grad_(False)
        accelerate(self.encoder, recipe)

    def to(self, device: torch.device) -> None:
        self.encoder.to(device)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        embeddings: Tensor = self.encoder(batch.views[0])
        return embeddings


class ProjectedTeacher(Teacher):
    """Another teacher's embeddings, through the projector that its training has left, in evaluation mode."""

    def __init__(self, teacher: CachedTeacher | ViewedTeacher | LiveTeacher, heads: Path) -> None:
        self.teacher, self.card, self.views = teacher, teacher.card, teacher.views
        tensors = heads_of(teacher.owner, heads, teacher.path)
        self.projector = projector_from(teacher.card, tensors, str(heads)).eval().requires_grad_(False)
        self.dimension = self.projector.dimension
        self.identity = f"{teacher.identity} {digest_of(heads)}"

    def to(self, device: torch.device) -> None:
        self.teacher.to(device)
        self.projector.to(device)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        projections: Tensor = self.projector(self.teacher(batch))
        return projections


class ClusteredTeacher(Teacher):
    """Looks up which cluster of the teacher's embeddings each image of a batch is in, by the first k-means run."""

    def __init__(self, path: Path, found: Assignments, pack: PackedImages) -> None:
        if found.dataset_fingerprint != pack.fingerprint or found.train.shape[1] != len(pack):
            raise UserError(
                f"{path}: clusters of {found.dataset} ({found.dataset_fingerprint[:12]}), but {pack.path} holds "
                f"{pack.name}-{pack.split} ({pack.fingerprint[:12]}); cluster the embeddings of these images first"
            )
        self.assigned = torch.from_numpy(found.train[0]).long()
        self.card, self.dimension, self.clusters = found.card, found.card.dimension, found.clusters
        self.identity = digest_of(path)

    def __call__(self, batch: Batch) -> Tensor:
        return self.assigned[batch.indices].to(batch.labels.device, non_blocking=True)


class NetworksTeacher(Teacher):
    """Hands over the networks that it was trained with: they move and run with the method that takes them."""

    def __init__(self, weights: Path, heads: Path, size: int) -> None:
        state, self.card = _of_size(weights, size)
        self.dimension = self.card.dimension
        self.networks = networks_from(self.card, state, load_heads(heads, weights), str(heads))
        self.identity = f"{digest_of(weights)} {digest_of(heads)}"

    def __call__(self, batch: Batch) -> None:
        return None


def _of_size(weights: Path, size: int) -> tuple[dict[str, Tensor], EncoderCard]:
    """The weights and card of a teacher that is to see the very images of ``size`` pixels that the student sees."""
    state, card = load_weights(weights)
    if card.contract.size != size:
        raise UserError(
            f"{weights}: an encoder of images of {card.contract.size} pixels, but the student sees {size}; a "
            f"live teacher sees the same: give both one size, or take the teacher's cached embeddings"
        )
    return state, card


def teacher_from(
    kind: str, files: Mapping[str, Any], pack: PackedImages, size: int, recipe: TrainingRecipe, augmentation: str
) -> Teacher:
    """The teacher, for students that see ``size`` pixels and train by the ``recipe``.

    Args:
        kind: what a student learns from: embeddings, projections, assignments or networks.
        files: the paths that it takes, by the names embeddings, weights, assignments and heads; in the place of
            ``embeddings``, a list of ``views``.
        augmentation: the name of that whose views these are.
    """
    if kind == "assignments":
        return ClusteredTeacher(files["assignments"], read_assignments(files["assignments"]), pack)
    if kind == "networks":
        return NetworksTeacher(files["weights"], files["heads"], size)
    teacher: CachedTeacher | ViewedTeacher | LiveTeacher
    if "views" in files:
        teacher = ViewedTeacher(files["views"], pack, augmentation)
    elif "embeddings" in files:
        cache = read_embeddings(files["embeddings"])
        if is_numbered(cache.transform):
            raise UserError(f"{cache.path}: {cache.transform}; expected the plain images', or all of --teacher-views")
        teacher = CachedTeacher(cache, pack)
    else:
        teacher = LiveTeacher(files["weights"], size, recipe)
    return ProjectedTeacher(teacher, files["heads"]) if kind == "projections" else teacher

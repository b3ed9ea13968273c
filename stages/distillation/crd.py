"""CRD without labels: "Contrastive Representation Distillation" (Tian, Krishnan and Isola, ICLR 2020).

Student and teacher embeddings meet in a common space through two linear layers, both trained. Each image's student
embedding is told from those of random other images by its teacher embedding, and the other way round, against memories
of the whole training set, by noise-contrastive estimation. The supervised loss is left out, as in CompRess's section
4.2, and negatives are drawn from all images, their classes unknown. The paper does not print the recipe of this
comparison: it is that of CompRess.
"""

import dataclasses
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from stages.architectures import Encoder
from stages.distillation import Distillation, Setting, teacher_of
from stages.errors import above_zero, at_least, below_one
from stages.training.batches import Batch
from stages.training.recipe import TrainingRecipe

EPSILON = 1e-7
CHUNK_BYTES = 128 * 2**20


@dataclasses.dataclass(frozen=True)
class Options(TrainingRecipe):
    dimension: Annotated[int, "of the common space"] = 128
    negatives: Annotated[int, "images that each is contrasted with"] = 16_384
    temperature: Annotated[float, "of the similarities"] = 0.07
    memory_momentum: Annotated[float, "how much of a memory stays when its image is seen again"] = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, dimension=self.dimension, negatives=self.negatives)
        above_zero(temperature=self.temperature)
        below_one(memory_momentum=self.memory_momentum)


class CRD(Distillation):
    """The sum of the student's and the teacher's contrastive loss."""

    def __init__(self, student: Encoder, setting: Setting, options: Options) -> None:
        super().__init__(student, setting, options)
        self.student_head = nn.Linear(student.dimension, options.dimension)
        self.teacher_head = nn.Linear(setting.teacher_dimension, options.dimension)
        self.student_memory = Memory(setting.images, options)
        self.teacher_memory = Memory(setting.images, options)

    def forward(self, batch: Batch) -> Tensor:
        student = F.normalize(self.student_head(self.student(batch.views[0])))
        teacher = F.normalize(self.teacher_head(teacher_of(batch)))
        images = batch.indices.to(student.device, non_blocking=True)
        drawn = torch.randint(self.student_memory.images, (len(images), self.options.negatives), device=student.device)
        contrasted = torch.cat([images[:, None], drawn], dim=1)
        self.student_memory.hold(images, student)
        self.teacher_memory.hold(images, teacher)
        return self.teacher_memory.loss(student, contrasted) + self.student_memory.loss(teacher, contrasted)

    def after_step(self, progress: float) -> None:
        self.student_memory.write_held()
        self.teacher_memory.write_held()


class Memory(nn.Module):
    """A moving average of every training image's embedding [N, D], and the loss of telling images apart by it."""

    embeddings: Tensor
    normaliser: Tensor

    def __init__(self, images: int, options: Options) -> None:
        super().__init__()
        bound = (options.dimension / 3) ** -0.5
        self.register_buffer("embeddings", torch.empty(images, options.dimension).uniform_(-bound, bound))
        # Set once, from the first batch, and kept: 0 until then.
        self.register_buffer("normaliser", torch.zeros(()))
        self.temperature, self.momentum = options.temperature, options.memory_momentum
        self.held: tuple[Tensor, Tensor] | None = None

    @property
    def images(self) -> int:
        return len(self.embeddings)

    def loss(self, queries: Tensor, contrasted: Tensor) -> Tensor:
        """The noise-contrastive loss of unit ``queries`` [B, D] against the images ``contrasted`` [B, 1 + K].

        The first of each row is the query's own image, the others are noise, drawn uniformly.
        """
        scores = torch.exp(self._similarities(queries, contrasted) / self.temperature)
        # Not by an `if`, which would wait for the GPU.
        self.normaliser = torch.where(self.normaliser == 0, scores.detach().mean() * self.images, self.normaliser)
        likelihoods = scores / self.normaliser
        noise = (contrasted.shape[1] - 1) / self.images
        positive = torch.log(likelihoods[:, 0] / (likelihoods[:, 0] + noise + EPSILON))
        negative = torch.log(noise / (likelihoods[:, 1:] + noise + EPSILON))
        return -(positive.sum() + negative.sum()) / len(queries)

    def _similarities(self, queries: Tensor, contrasted: Tensor) -> Tensor:
        """Inner products [B, 1 + K].

        The memories of a few queries at a time are gathered, and again in the backward pass: those of a whole batch of
        256 would take 2.1 GB.
        """
        rows = max(1, CHUNK_BYTES // (contrasted.shape[1] * self.embeddings.shape[1] * 4))
        chunks = zip(queries.split(rows), contrasted.split(rows), strict=True)
        return torch.cat(
            [checkpoint(self._gathered, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
        )

    def _gathered(self, queries: Tensor, contrasted: Tensor) -> Tensor:
        return torch.einsum("bd,bkd->bk", queries, self.embeddings[contrasted])

    def hold(self, images: Tensor, embeddings: Tensor) -> None:
        """Keep what `write_held` is to write: the backward pass gathers the memories that it will move."""
        self.held = images, embeddings.detach()

    def write_held(self) -> None:
        """Write what was held; call it after the optimizer step."""
        assert self.held is not None
        self.write(*self.held)
        self.held = None

    @torch.no_grad()
    def write(self, images: Tensor, embeddings: Tensor) -> None:
        """Move the memories of ``images`` [B] towards their new unit ``embeddings`` [B, D]."""
        moved = self.momentum * self.embeddings[images] + (1 - self.momentum) * embeddings
        self.embeddings[images] = F.normalize(moved)

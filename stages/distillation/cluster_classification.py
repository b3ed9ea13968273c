"""Cluster classification, CompRess's "CC" (Noroozi et al., "Boosting Self-Supervised Learning via Knowledge Transfer").

The student learns, by cross entropy, which cluster of the teacher's embeddings an image is in, through a linear
classifier that is thrown away. The recipe is that of CompRess's authors' released run: 16,000 clusters, 100 epochs,
cosine, Nesterov's momentum, no weight decay on batch norms (here on no vector: biases are left out as well).
"""

import dataclasses
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional as F

from stages.architectures import Encoder
from stages.distillation import Distillation, Setting, teacher_of
from stages.errors import UserError, at_least
from stages.training.batches import Batch
from stages.training.recipe import Epochs, ExcludeNormAndBias, LearningRate, Nesterov, Schedule, TrainingRecipe

TEACHER = "assignments"


@dataclasses.dataclass(frozen=True)
class Options(TrainingRecipe):
    epochs: Epochs = 100
    learning_rate: LearningRate = 0.1
    nesterov: Nesterov = True
    exclude_norm_and_bias: ExcludeNormAndBias = True
    schedule: Schedule = "cosine"
    clusters: Annotated[int, "k-means clusters of the teacher's embeddings, shared by all its students"] = 16_000

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, clusters=self.clusters)


class ClusterClassification(Distillation):
    """Cross entropy with the clusters of the teacher's embeddings."""

    def __init__(self, student: Encoder, setting: Setting, options: Options) -> None:
        super().__init__(student, setting, options)
        if setting.clusters != options.clusters:
            raise UserError(f"--clusters is {options.clusters}, but the teacher's are {setting.clusters}")
        self.classifier = nn.Linear(student.dimension, setting.clusters)

    def forward(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.classifier(self.student(batch.views[0])), teacher_of(batch))

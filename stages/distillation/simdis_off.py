"""SimDis-Off: "Simple Distillation Baselines for Improving Small Self-supervised Models" (Gu, Liu and Tian, 2021).

BYOL for the student, which at the same time predicts the projections of a frozen teacher that was itself trained by
BYOL. What is predicted is a choice of seven views: the projections of a network (s: the student, sema: its moving
average, t: the teacher's online network, tema: its target network) from the same view of an image (sv) or the other
(dv). The defaults are those of the paper for 100 epochs, with the two views of its offline baseline.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from stages.architectures import Encoder
from stages.distillation import Setting
from stages.prediction.options import SimDisOptions
from stages.prediction.simdis import SimDis
from stages.training.batch_norms import batch_norms_in
from stages.training.batches import Batch
from stages.training.momentum import frozen

AUGMENTATION = "byol"
TEACHER = "networks"


@dataclasses.dataclass(frozen=True)
class Options(SimDisOptions):
    teacher_statistics: Annotated[
        Literal["running", "batch"], "what the frozen teacher's batch norms normalise by; neither changes it"
    ] = "running"


class SimDisOff(SimDis):
    """The student and, of the teacher's networks, those that the views need."""

    def __init__(self, student: Encoder, setting: Setting, options: Options) -> None:
        assert setting.networks is not None
        super().__init__(student, setting, options, setting.networks.dimension)
        networks = {"t": setting.networks.online, "tema": setting.networks.target}
        self.teachers = nn.ModuleDict(
            {name: frozen(network) for name, network in networks.items() if name in self.predicted}
        )
        self.train(self.training)

    def train(self, mode: bool = True) -> "SimDisOff":
        """As usual, but for the teacher: it never trains, and its running statistics never change."""
        super().train(mode)
        self.teachers.eval()
        if self.options.teacher_statistics == "batch":
            for norm in batch_norms_in(self.teachers):
                # Together they are: normalise by the batch, and leave the running statistics as they are.
                norm.train()
                norm.track_running_stats = False
        return self

    def forward(self, batch: Batch) -> Tensor:
        return self.student_loss(batch.views, self._projections(batch.views))

    @torch.no_grad()
    def _projections(self, views: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """Those of both views by each of the teacher's networks."""
        return {name: [teacher(view) for view in views] for name, teacher in self.teachers.items()}

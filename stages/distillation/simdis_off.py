"""SimDis-Off: "Simple Distillation Baselines for Improving Small Self-supervised Models" (Gu, Liu and Tian, 2021).

BYOL for the student, which at the same time predicts the projections of a frozen teacher that was itself trained by
BYOL. What is predicted is a choice of seven views: the projections of a network (s: the student, sema: its moving
average, t: the teacher's online network, tema: its target network) from the same view of an image (sv) or the other
(dv). The defaults are those of the paper for 100 epochs, with the two views of its offline baseline.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from stages.architectures import Encoder
from stages.distillation import Distillation, Setting
from stages.errors import UserError, at_least, unknown
from stages.training.batches import Batch
from stages.training.momentum import follow, frozen, rising
from stages.training.networks import Projecting
from stages.training.recipe import Recipe

TEACHER = "networks"

VIEWS = ("s-dv", "sema-sv", "sema-dv", "t-sv", "t-dv", "tema-sv", "tema-dv")
"""What can be predicted, each a network and which view it sees. The student's own same view would be no task."""


@dataclasses.dataclass(frozen=True)
class Options(Recipe):
    epochs: Annotated[int, "passes over the training images"] = 100
    batch_size: Annotated[int, "images a step"] = 2048
    drop_last: Annotated[bool, "leave out the last, smaller batch of an epoch"] = True
    optimizer: Annotated[Literal["sgd", "lars"], "sgd, or lars: sgd with layer-wise trust ratios"] = "lars"
    learning_rate: Annotated[float, "at its highest; the paper's is 0.3 times batch_size / 256"] = 2.4
    exclude_norm_and_bias: Annotated[bool, "leave vectors, as of batch norms, out of weight decay and trust ratios"] = (
        True
    )
    schedule: Annotated[
        Literal["step", "cosine"], "step: times gamma after each milestone; cosine: to 0 over all steps"
    ] = "cosine"
    warmup_epochs: Annotated[int, "epochs of linear increase from 0 to the learning rate"] = 10
    views: Annotated[
        tuple[str, ...], "what the student predicts, any of s-dv, sema-sv, sema-dv, t-sv, t-dv, tema-sv, tema-dv"
    ] = ("sema-dv", "tema-dv")
    momentum: Annotated[float, "of the student's moving average at the start; it rises to 1 as half a cosine"] = 0.99
    teacher_statistics: Annotated[
        Literal["running", "batch"], "what the frozen teacher's batch norms normalise by; neither changes it"
    ] = "running"
    hidden_dimension: Annotated[int, "hidden units of the projector and of the predictors"] = 4096
    projection_dimension: Annotated[int, "outputs of the student's projector"] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, hidden_dimension=self.hidden_dimension, projection_dimension=self.projection_dimension)
        if not 0 <= self.momentum <= 1:
            raise UserError(f"--momentum is {self.momentum:g}; expected 0 to 1")
        if not self.views:
            raise UserError(f"--views is empty; expected one or more of {', '.join(VIEWS)}")
        for view in self.views:
            if view not in VIEWS:
                raise unknown("view", view, VIEWS)
            if self.views.count(view) > 1:
                raise UserError(f"--views has {view} {self.views.count(view)} times; expected each at most once")


class SimDisOff(Distillation):
    """The student, a predictor for each view, and of the other networks those that the views need."""

    views = 2

    def __init__(self, student: Encoder, setting: Setting, options: Options) -> None:
        super().__init__(student, setting, options)
        assert setting.networks is not None
        hidden, outputs = options.hidden_dimension, options.projection_dimension
        self.projector = BYOLProjectionHead(student.dimension, hidden, outputs)
        dimensions = {
            "s": outputs,
            "sema": outputs,
            "t": setting.networks.dimension,
            "tema": setting.networks.dimension,
        }
        self.predictors = nn.ModuleDict(
            {view: BYOLPredictionHead(outputs, hidden, dimensions[network_of(view)]) for view in options.views}
        )
        predicted = {network_of(view) for view in options.views}
        self.average = frozen(Projecting(student, self.projector)) if "sema" in predicted else None
        self.teachers = nn.ModuleDict(
            {
                name: frozen(network)
                for name, network in (("t", setting.networks.online), ("tema", setting.networks.target))
                if name in predicted
            }
        )
        self.train(self.training)

    def train(self, mode: bool = True) -> "SimDisOff":
        """As usual, but for the teacher: it never trains, and its running statistics never change."""
        super().train(mode)
        self.teachers.eval()
        if self.options.teacher_statistics == "batch":
            for module in self.teachers.modules():
                if isinstance(module, _BatchNorm):
                    # Together they are: normalise by the batch, and leave the running statistics as they are.
                    module.train()
                    module.track_running_stats = False
        return self

    def forward(self, batch: Batch) -> Tensor:
        projections = [self.projector(self.student(view)) for view in batch.views]
        targets = self._targets(batch.views, projections)
        return torch.stack(
            [self._loss(view, projections, targets[network_of(view)]) for view in self.options.views]
        ).mean()

    @torch.no_grad()
    def _targets(self, views: tuple[Tensor, ...], projections: list[Tensor]) -> Mapping[str, list[Tensor]]:
        """The projections of both views by each of the predicted networks."""
        targets = {"s": [projection.detach() for projection in projections]}
        if self.average is not None:
            targets["sema"] = [self.average(view) for view in views]
        for name, teacher in self.teachers.items():
            targets[name] = [teacher(view) for view in views]
        return targets

    def _loss(self, view: str, projections: list[Tensor], targets: list[Tensor]) -> Tensor:
        """The squared distance of unit predictions and targets, in both directions: a scalar, 0 to 8."""
        if view.endswith("-dv"):
            targets = targets[::-1]
        predictions = map(self.predictors[view], projections)
        cosines = [F.cosine_similarity(*pair).mean() for pair in zip(predictions, targets, strict=True)]
        return 4 - 2 * torch.stack(cosines).sum()

    def after_step(self, progress: float) -> None:
        if self.average is not None:
            momentum = rising(self.options.momentum, progress)
            follow(self.average.encoder, self.student, momentum)
            follow(self.average.projector, self.projector, momentum)


def network_of(view: str) -> str:
    """The network that gives the target of a view: s, sema, t or tema."""
    return view.partition("-")[0]

"""What SimDis's two methods share: a student that predicts its own and its teacher's projections."""

from collections.abc import Mapping, Sequence

import torch
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from torch import Tensor, nn

from stages.architectures import Encoder
from stages.distillation import Distillation, Setting
from stages.prediction.distance import squared_distance
from stages.prediction.options import SimDisOptions, network_of
from stages.training.momentum import cosine_momentum, ema_update, frozen
from stages.training.networks import Projecting


class SimDis(Distillation):
    """The student, its projector, a predictor for each view and, where a view needs it, their moving average.

    Where the teacher's projections come from is each method's own affair; they have ``teacher_dimension``.
    """

    views = 2

    def __init__(self, student: Encoder, setting: Setting, options: SimDisOptions, teacher_dimension: int) -> None:
        super().__init__(student, setting, options)
        hidden, outputs = options.hidden_dimension, options.projection_dimension
        self.projector = BYOLProjectionHead(student.dimension, hidden, outputs)
        dimensions = {"s": outputs, "sema": outputs, "t": teacher_dimension, "tema": teacher_dimension}
        self.predictors = nn.ModuleDict(
            {view: BYOLPredictionHead(outputs, hidden, dimensions[network_of(view)]) for view in options.views}
        )
        self.average = frozen(Projecting(student, self.projector)) if "sema" in self.predicted else None

    @property
    def predicted(self) -> set[str]:
        """The networks whose projections the views need, of s, sema, t and tema."""
        return set(map(network_of, self.options.views))

    def student_loss(self, views: Sequence[Tensor], teacher: Mapping[str, Sequence[Tensor]]) -> Tensor:
        """The mean over what is predicted, a scalar of 0 to 8.

        Args:
            teacher: the projections of both views by the networks t and tema of the teacher, those that are needed.
        """
        own = [self.projector(self.student(view)) for view in views]
        targets = {**teacher, "s": own, "sema": self._averaged(views)}
        losses = []
        for view, predictor in self.predictors.items():
            goals = targets[network_of(view)]
            losses.append(squared_distance([predictor(z) for z in own], goals[::-1] if view.endswith("-dv") else goals))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def _averaged(self, views: Sequence[Tensor]) -> list[Tensor]:
        """The moving average's projections of both views; none where no view needs them."""
        return [] if self.average is None else [self.average(view) for view in views]

    def after_step(self, progress: float) -> None:
        if self.average is not None:
            momentum = cosine_momentum(self.options.momentum, progress)
            ema_update(self.average.encoder, self.student, momentum)
            ema_update(self.average.projector, self.projector, momentum)

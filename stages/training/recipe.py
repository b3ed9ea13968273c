"""The part of a method's options that all methods share, and the learning rate it gives at each step."""

import dataclasses
import math
from typing import Annotated, Literal

from stages.errors import UserError, at_least, below_one, different, not_negative

# Options of which many methods change the default alone, with their texts.
Epochs = Annotated[int, "passes over the training images"]
BatchSize = Annotated[int, "images a step"]
LearningRate = Annotated[float, "at its highest"]
WeightDecay = Annotated[float, "on trained parameters"]
ExcludeNormAndBias = Annotated[bool, "leave vectors, as of batch norms, out of weight decay and trust ratios"]
DropLast = Annotated[bool, "leave out an epoch's last, smaller batch (one of fewer than two images a GPU always is)"]
Optimizer = Annotated[Literal["sgd", "lars"], "sgd, or lars: sgd with layer-wise trust ratios"]
Nesterov = Annotated[bool, "Nesterov's form of the momentum"]
Schedule = Annotated[Literal["step", "cosine"], "step: times gamma after each milestone; cosine: to 0 over all steps"]
Milestones = Annotated[tuple[int, ...], "epochs after which the step schedule lowers the learning rate"]
Gamma = Annotated[float, "factor of the step schedule"]
WarmupEpochs = Annotated[int, "epochs of linear increase from 0 to the learning rate"]
SyncBatchNorm = Annotated[
    bool, "on several GPUs, batch norms of encoders see the images of all; false: of each GPU its own"
]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How long and how fast to train. The defaults are CompRess's (section 4, implementation details)."""

    epochs: Epochs = 130
    batch_size: BatchSize = 256
    drop_last: DropLast = False
    optimizer: Optimizer = "sgd"
    learning_rate: LearningRate = 0.01
    sgd_momentum: Annotated[float, "of the optimizer"] = 0.9
    nesterov: Nesterov = False
    weight_decay: WeightDecay = 1e-4
    exclude_norm_and_bias: ExcludeNormAndBias = False
    schedule: Schedule = "step"
    milestones: Milestones = (90, 120)
    gamma: Gamma = 0.2
    warmup_epochs: WarmupEpochs = 0

    def __post_init__(self) -> None:
        if self.warmup_epochs >= self.epochs > 0:
            raise UserError(
                f"--warmup-epochs is {self.warmup_epochs}, but there are {self.epochs} epochs; expected fewer, or 0"
            )
        at_least(0, epochs=self.epochs, warmup_epochs=self.warmup_epochs)
        at_least(2, batch_size=self.batch_size)
        at_least(1, milestones=min(self.milestones, default=1))
        different(milestones=self.milestones)
        not_negative(learning_rate=self.learning_rate, weight_decay=self.weight_decay, gamma=self.gamma)
        below_one(sgd_momentum=self.sgd_momentum)
        if self.nesterov and not self.sgd_momentum:
            raise UserError("--nesterov is true with --sgd-momentum 0; expected a momentum above 0, or false")
        if self.optimizer == "lars" and not self.weight_decay > 0:
            # lightly's LARS would leave out its trust ratios, and train at a rate that is meant for them.
            raise UserError(
                f"--weight-decay is {self.weight_decay:g}; expected a number above 0 with the optimizer lars"
            )


@dataclasses.dataclass(frozen=True)
class TrainingRecipe(Recipe):
    """A recipe for training an encoder itself, and how its passes are computed."""

    sync_batch_norm: SyncBatchNorm = False
    bfloat16: Annotated[
        bool, "run the encoders, a live teacher's too, in bfloat16 by autocast; weights and losses stay in float32"
    ] = False
    compile: Annotated[bool, "compile the encoders by torch.compile: minutes at the start, for long training"] = False


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of ``step`` (from 0): a function of the position alone, so there is no state to restore."""
    epoch = step / steps_per_epoch
    if epoch < recipe.warmup_epochs:
        return recipe.learning_rate * (step + 1) / (recipe.warmup_epochs * steps_per_epoch)
    if recipe.schedule == "cosine":
        share = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
    passed = sum(math.floor(epoch) >= milestone for milestone in recipe.milestones)
    return float(recipe.learning_rate * recipe.gamma**passed)

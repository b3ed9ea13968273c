"""What a method adds to the shared training loop."""

from torch import Tensor, nn
from torch.optim import Optimizer

from stages.training.batches import Batch
from stages.training.optimizers import optimizer_of
from stages.training.recipe import Recipe, learning_rate


class Objective(nn.Module):
    """A method's loss, with every module and buffer it trains or keeps.

    All of its state is in ``state_dict``, so that a checkpoint holds it; what requires a gradient is trained.
    """

    views = 1
    """How many independently augmented views of each image a batch has to hold."""

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar."""
        raise NotImplementedError

    def advice(self) -> str:
        """What to do about a loss that is not finite: that of the last batch, or of the one before."""
        return "lower learning_rate, or look at these images"

    def heads(self) -> dict[str, Tensor]:
        """What a later method may need of the trained encoder beside its backbone, such as a projector."""
        return {}

    def optimizer(self, recipe: Recipe) -> Optimizer:
        """What takes the steps."""
        return optimizer_of(self, recipe)

    def before_step(self, optimizer: Optimizer, recipe: Recipe, step: int, steps_per_epoch: int) -> float:
        """Set the learning rate of ``step``, from 0; returns it, to be shown."""
        rate = learning_rate(recipe, step, steps_per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        return rate

    def after_step(self, progress: float) -> None:
        """What follows an optimizer step: moving averages, writing to memory banks; ``progress`` runs from 0 to 1."""

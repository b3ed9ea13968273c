"""What a method adds to the shared training loop."""

from torch import Tensor, nn

from stages.training.batches import Batch


class Objective(nn.Module):
    """A method's loss, with every module and buffer it trains or keeps.

    All of its state is in ``state_dict``, so that a checkpoint holds it; what requires a gradient is trained.
    """

    views = 1
    """How many independently augmented views of each image a batch has to hold."""

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar."""
        raise NotImplementedError

    def heads(self) -> dict[str, Tensor]:
        """What a later method may need of the trained encoder beside its backbone, such as a projector."""
        return {}

    def after_step(self, progress: float) -> None:
        """What follows an optimizer step: moving averages, writing to memory banks; ``progress`` runs from 0 to 1."""

"""The anchors that the options ask for: a memory bank's, or those of the batch itself."""

from torch import Tensor, nn

from stages.similarity.options import SimilarityOptions
from stages.similarity.queue import AnchorQueue


class MinibatchAnchors(nn.Module):
    """The other images of the batch, in the place of an `AnchorQueue` (CompRess, section 3, "Memory bank")."""

    leave_out_own = True
    """Anchor i is image i itself, and no anchor of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.held: Tensor | None = None

    def hold(self, embeddings: Tensor) -> None:
        """Take ``embeddings`` [B, D] for anchors until `write_held`."""
        self.held = embeddings.detach()

    @property
    def current(self) -> Tensor:
        """The anchors [B, D] of all images of the batch."""
        assert self.held is not None
        return self.held

    def similarities(self, queries: Tensor) -> Tensor:
        """Inner products [B, B - 1] of ``queries`` [B, D] with the anchors of the other images."""
        count = len(queries)
        # After the first, each entry of the diagonal ends a row of count + 1: a mask would be waited for on a GPU.
        others = (queries @ self.current.T).flatten()[1:].view(count - 1, count + 1)[:, :-1]
        return others.reshape(count, count - 1)

    def write_held(self) -> None:
        """Forget the batch: nothing of it is kept."""
        self.held = None


Anchors = AnchorQueue | MinibatchAnchors


def anchors_of(options: SimilarityOptions, dimension: int) -> Anchors:
    """Anchors of ``dimension``: hold a batch, compare with those, and write what is held after the step."""
    if options.anchors == "minibatch":
        return MinibatchAnchors()
    return AnchorQueue(options.queue_length, dimension, warm_start=options.warm_start)

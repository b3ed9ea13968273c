"""The anchors that the options ask for: a memory bank's, or those of the batch itself."""

import torch
from torch import Tensor, nn

from stages.similarity.options import SimilarityOptions
from stages.similarity.queue import AnchorQueue


class MinibatchAnchors(nn.Module):
    """The other images of the batch, in the place of an `AnchorQueue` (CompRess, section 3, "Memory bank")."""

    def __init__(self) -> None:
        super().__init__()
        self.held: Tensor | None = None

    def hold(self, embeddings: Tensor) -> None:
        """Take ``embeddings`` [B, D] for anchors until `write_held`."""
        self.held = embeddings.detach()

    def similarities(self, queries: Tensor) -> Tensor:
        """Inner products [B, B - 1] of ``queries`` [B, D] with the anchors of the other images."""
        assert self.held is not None
        count = len(queries)
        others = ~torch.eye(count, dtype=torch.bool, device=queries.device)
        return (queries @ self.held.T)[others].view(count, count - 1)

    def write_held(self) -> None:
        """Forget the batch: nothing of it is kept."""
        self.held = None


def anchors_of(options: SimilarityOptions, dimension: int) -> AnchorQueue | MinibatchAnchors:
    """Anchors of ``dimension``: hold a batch, ask for similarities, and write what is held after the step."""
    if options.anchors == "minibatch":
        return MinibatchAnchors()
    return AnchorQueue(options.queue_length, dimension, warm_start=options.warm_start)

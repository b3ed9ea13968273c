"""The memory bank: a first-in-first-out queue of anchor embeddings."""

import math

import torch
from torch import Tensor, nn

from stages.errors import at_least


class AnchorQueue(nn.Module):
    """The last ``length`` embeddings that were written to it, [length, dimension]; part of every checkpoint.

    Two queues that are written together stay aligned: equal slots hold the same images. The initial content is
    uniform in +-1/sqrt(dimension / 3), of unit norm in expectation, as in MoCo's memory bank; with ``warm_start``
    nothing is compared with it.
    """

    leave_out_own = False
    """Anchor i has nothing to do with image i of the batch."""

    embeddings: Tensor

    def __init__(self, length: int, dimension: int, *, warm_start: bool = False) -> None:
        super().__init__()
        at_least(1, queue_length=length)
        bound = 1 / math.sqrt(dimension / 3)
        self.register_buffer("embeddings", torch.empty(length, dimension).uniform_(-bound, bound))
        # How many embeddings ever came in: the next slot, and how many slots are filled, follow from it. No buffer: to
        # read one is to wait for the GPU.
        self.written = 0
        self.warm_start = warm_start
        self.held: Tensor | None = None

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.written)

    def set_extra_state(self, state: Tensor) -> None:
        self.written = int(state)

    @property
    def current(self) -> Tensor:
        """The anchors [K, dimension] to compare with: a view, so read it before the next `write`."""
        # Slots are filled from the first on.
        return self.embeddings[: self.written] if self.warm_start else self.embeddings

    def similarities(self, queries: Tensor) -> Tensor:
        """Inner products [B, K] of ``queries`` [B, dimension] with the anchors; no gradient flows to these."""
        return queries @ self.current.T

    def hold(self, embeddings: Tensor) -> None:
        """Keep ``embeddings`` for `write_held`: the backward pass still needs the anchors that they will replace."""
        self.held = embeddings.detach()

    def write_held(self) -> None:
        """Write what was held; call it after the optimizer step."""
        assert self.held is not None
        self.write(self.held)
        self.held = None

    @torch.no_grad()
    def write(self, embeddings: Tensor) -> None:
        """Replace the oldest anchors by ``embeddings`` [B, dimension]; of a batch beyond the length, the end stays."""
        length = len(self.embeddings)
        slots = (self.written + torch.arange(len(embeddings), device=embeddings.device)) % length
        kept = slice(max(0, len(embeddings) - length), None)
        self.embeddings[slots[kept]] = embeddings[kept].to(self.embeddings.dtype)
        self.written += len(embeddings)

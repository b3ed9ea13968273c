"""The memory bank: a first-in-first-out queue of anchor embeddings."""

import math

import torch
from torch import Tensor, nn

from stages.errors import at_least


class AnchorQueue(nn.Module):
    """The last ``length`` embeddings that were written to it, [length, dimension]; part of every checkpoint.

    Two queues that are written together stay aligned: equal slots hold the same images. The initial content is
    uniform in +-1/sqrt(dimension / 3), of unit norm in expectation, as in MoCo's memory bank.
    """

    anchors: Tensor
    position: Tensor

    def __init__(self, length: int, dimension: int) -> None:
        super().__init__()
        at_least(1, queue_length=length)
        bound = 1 / math.sqrt(dimension / 3)
        self.register_buffer("anchors", torch.empty(length, dimension).uniform_(-bound, bound))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))
        self.held: Tensor | None = None

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
        length = len(self.anchors)
        slots = (self.position + torch.arange(len(embeddings), device=embeddings.device)) % length
        kept = slice(max(0, len(embeddings) - length), None)
        self.anchors[slots[kept]] = embeddings[kept].to(self.anchors.dtype)
        self.position.copy_((self.position + len(embeddings)) % length)

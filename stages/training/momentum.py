"""Networks that are moving averages of others, as key encoders and target networks are."""

import copy
import math
from typing import TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

M = TypeVar("M", bound=nn.Module)


def frozen(module: M) -> M:
    """A copy of ``module`` that is not trained."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def frozen_reinitialised(module: M) -> M:
    """A copy of the freshly initialised ``module`` that is not trained, with initial weights of its own.

    The entries of a fresh tensor are independent draws from one distribution, so they are redrawn by putting them into
    another random order; constants, as in batch norms, stay. This needs no knowledge of the architecture.
    """
    copied = frozen(module)
    for parameter in copied.parameters():
        order = torch.randperm(parameter.numel(), device=parameter.device)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return copied


def ema_update(average: nn.Module, module: nn.Module, momentum: float) -> None:
    """``average`` becomes momentum * ``average`` + (1 - momentum) * ``module``; its buffers stay its own."""
    get_ema_multi_avg_fn(momentum)(tuple(average.parameters()), tuple(module.parameters()), None)


def cosine_momentum(momentum: float, progress: float) -> float:
    """From ``momentum`` at the start to 1 at the end, as half a cosine (BYOL, appendix J)."""
    return 1 - (1 - momentum) * (math.cos(math.pi * progress) + 1) / 2

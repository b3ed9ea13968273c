"""The batch norms of encoders where several processes train: over each process's own images, or over the whole batch.

Those of heads see the whole batch anyway (`stages.processes`).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages import processes
from stages.architectures import encoders_in


def synchronise(module: nn.Module) -> None:
    """Make the batch norms of all encoders in ``module`` normalise by the whole batch; names in its state stay."""
    # timm's knows timm's own batch norms, which hold an activation, beside torch's.
    from timm.layers.norm_act import convert_sync_batchnorm

    for encoder in encoders_in(module):
        if torch.cuda.is_available():
            convert_sync_batchnorm(encoder)
            continue
        # torch has no kernel for it on CPUs: there, all processes normalise all images, which costs time alone.
        for norm in batch_norms_in(encoder):
            norm.register_forward_pre_hook(_take_all)
            norm.register_forward_hook(_keep_own)


def by_batch(module: nn.Module) -> bool:
    """Whether an encoder in ``module`` normalises by the images of the batch that it is given."""
    return any(norm.training for encoder in encoders_in(module) for norm in batch_norms_in(encoder))


def batch_norms_in(module: nn.Module) -> list[_BatchNorm]:
    """All batch norms that ``module`` has, torch's and timm's."""
    return [each for each in module.modules() if isinstance(each, _BatchNorm)]


def _take_all(norm: nn.Module, inputs: tuple[Any, ...]) -> Tensor | None:
    return processes.gathered(inputs[0], summed=True) if norm.training else None


def _keep_own(norm: nn.Module, inputs: tuple[Any, ...], outputs: Tensor) -> Tensor | None:
    return processes.own(outputs) if norm.training else None

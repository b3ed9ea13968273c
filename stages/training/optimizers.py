"""The optimizer that a recipe asks for."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from stages.training.recipe import Recipe


def optimizer_of(module: nn.Module, recipe: Recipe, apart: nn.Module | None = None) -> torch.optim.Optimizer:
    """SGD or LARS over what of ``module`` requires a gradient; the loop sets the learning rate at each step.

    Args:
        apart: a part of ``module`` that has no gradient at some steps. It is a group of its own: the fused SGD takes
            momenta for all parameters of a group, or for none.
    """
    own = dict.fromkeys(() if apart is None else apart.parameters())
    others = [parameter for parameter in module.parameters() if parameter not in own]
    groups = [group for part in (others, own) for group in _groups(part, recipe) if group["params"]]
    settings: dict[str, Any] = {
        "lr": recipe.learning_rate,
        "momentum": recipe.sgd_momentum,
        "nesterov": recipe.nesterov,
    }
    if recipe.optimizer == "sgd":
        # On the CPU the plain form is as fast, and its rounding is what runs from before go on with.
        return torch.optim.SGD(groups, fused=groups[0]["params"][0].is_cuda, **settings)
    from lightly.utils.lars import LARS

    return LARS(groups, **settings)


def _groups(parameters: Iterable[nn.Parameter], recipe: Recipe) -> list[dict[str, Any]]:
    """All parameters with weight decay, or the vectors among them (norms and biases) without.

    Without weight decay, lightly's LARS leaves out its trust ratio as well, as SimCLR and BYOL do.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not recipe.exclude_norm_and_bias:
        return [{"params": trained, "weight_decay": recipe.weight_decay}]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]

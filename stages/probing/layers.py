"""Linear classifiers on the intermediate layers of a frozen encoder, all trained at once."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.architectures import Encoder
from stages.errors import UserError, unknown
from stages.training.batches import Batch
from stages.training.objective import Objective
from stages.training.position import seed_here

LARGEST = 10_000
"""How many values of a layer are looked at, at most: about as many of each, as Zhang et al. (CVPR 2017) propose."""


class Layers:
    """Reads the layers ``names`` (all, if empty) of ``encoder``, which is frozen, in one forward pass.

    Raises:
        UserError: the ``architecture`` has no such layer, names none at all, or one gives no maps, tokens or vectors.
    """

    def __init__(self, encoder: Encoder, names: Sequence[str], architecture: str) -> None:
        paths = encoder.backbone.layer_paths
        if not paths:
            raise UserError(f"{architecture} names no intermediate layers; leave it out of this evaluation")
        for name in names:
            if name not in paths:
                raise unknown(f"layer of {architecture}", name, paths)
        self.architecture = architecture
        self.encoder = encoder.eval().requires_grad_(False)
        self.names = [name for name in paths if not names or name in names]
        self._read: dict[str, Tensor] = {}
        for name in self.names:
            encoder.backbone.get_submodule(paths[name]).register_forward_hook(functools.partial(self._keep, name))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, S, S] in 0..1 to each layer's features, as `pooled` gives them, in the order of ``names``."""
        self.encoder(images)
        read, self._read = self._read, {}
        for name in self.names:
            if name not in read:
                raise UserError(f"{self.architecture} does not run its layer {name}; name others by --layers")
        return [read[name] for name in self.names]

    def shapes(self) -> list[tuple[int, int]]:
        """Each layer's (channels, positions), tried on one black image."""
        size = self.encoder.contract.size
        features = self(torch.zeros(1, 3, size, size, device=self.encoder.mean.device))
        return [(layer.shape[1], layer.shape[2]) for layer in features]

    def _keep(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        # Pooled here and now, into a tensor of its own: an in-place ReLU that follows would overwrite the output.
        if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
            raise UserError(
                f"layer {name} of {self.architecture} gives no maps, tokens or vectors; name others by --layers"
            )
        self._read[name] = pooled(output)


def pooled(output: Tensor) -> Tensor:
    """A layer's output as features [B, C, P] of P positions, C x P being at most `LARGEST`, in memory of its own.

    A map [B, C, H, W] is averaged to the largest square of positions that this allows; of tokens [B, N, C], with the
    class token if there is one, the mean is taken; a vector [B, C] is one position.
    """
    if output.ndim == 2:
        return output.clone().unsqueeze(2)
    if output.ndim == 3:
        return output.mean(dim=1).unsqueeze(2)
    side = max(1, math.isqrt(LARGEST // output.shape[1]))
    height, width = (min(side, length) for length in output.shape[2:])
    return F.adaptive_avg_pool2d(output, (height, width)).flatten(2)


class LayerProbes(Objective):
    """A batch norm without scale and shift, then a linear layer, on each of the ``layers``.

    The loss is the sum of their cross entropies, so that each classifier has the gradient it would have alone; its
    initialisation is a function of ``seed`` and its layer. The encoder is no part of the state: it does not change.
    """

    def __init__(self, layers: Layers, classes: int, seed: int) -> None:
        super().__init__()
        self.layers = layers
        self.classifiers = nn.ModuleList()
        every = list(layers.encoder.backbone.layer_paths)
        for name, (channels, positions) in zip(layers.names, layers.shapes(), strict=True):
            seed_here(seed, every.index(name))
            self.classifiers.append(
                nn.Sequential(
                    nn.BatchNorm1d(channels, affine=False), nn.Flatten(), nn.Linear(channels * positions, classes)
                )
            )

    def logits(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, S, S] in 0..1 to each layer's logits [B, classes]."""
        return [
            classifier(features) for classifier, features in zip(self.classifiers, self.layers(images), strict=True)
        ]

    def forward(self, batch: Batch) -> Tensor:
        return torch.stack([F.cross_entropy(logits, batch.labels) for logits in self.logits(batch.views[0])]).sum()

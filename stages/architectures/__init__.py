"""Encoders: a backbone of a named architecture, behind its input contract.

An architecture's name begins with its family, which is a module here: ``resnet18_x0.5`` is built by ``resnet.py``,
``timm/vit_tiny_patch16_224`` by ``timm.py``. A family's ``build(name, size)`` returns a backbone, normalised images
[B, 3, size, size] to embeddings [B, D], with D in ``dimension``.
"""

import contextlib
import re
import types
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from stages import plugins, processes
from stages.artifacts.weights import EncoderCard, InputContract, load_weights
from stages.errors import UserError


class Backbone(nn.Module):
    """Normalised images [B, 3, S, S] to embeddings [B, ``dimension``].

    ``layer_paths`` are its intermediate layers, from the first to the last: the name that tables know a layer by, and
    the path of the submodule whose output it is. Without them it can be put to all use but the evaluation of layers.
    """

    dimension: int
    layer_paths: Mapping[str, str] = types.MappingProxyType({})

    def feature_map(self, images: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] of any size, to their last feature map [B, C, h, w] before any pooling."""
        raise NotImplementedError


class Encoder(nn.Module):
    """A backbone that takes images in 0..1 and normalises them itself, so that every encoder can see the same crop.

    ``autocast`` runs the backbone in bfloat16; images and embeddings keep their precision.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, contract: InputContract) -> None:
        super().__init__()
        # Channels last halves the time of MobileNets on CPUs, and is what tensor cores want on GPUs.
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.contract = contract
        self.autocast = False
        self.register_buffer("mean", torch.tensor(contract.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(contract.std).view(3, 1, 1), persistent=False)

    @property
    def dimension(self) -> int:
        return self.backbone.dimension

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] in 0..1 to embeddings [B, D], neither normalised nor projected.

        Where several processes train, they are this process's images, but the embeddings of the whole batch.
        """
        normalised = (images - self.mean) / self.std
        autocast = torch.autocast(images.device.type, torch.bfloat16) if self.autocast else contextlib.nullcontext()
        with processes.own_rng(), autocast:
            embeddings: Tensor = self.backbone(normalised.contiguous(memory_format=torch.channels_last))
        return processes.gathered(embeddings.to(images.dtype))


def encoders_in(module: nn.Module) -> list[Encoder]:
    """All encoders that ``module`` has, or is."""
    return [each for each in module.modules() if isinstance(each, Encoder)]


def family(name: str) -> str:
    """The family an architecture's name begins with: the letters before the first digit or sign."""
    return re.split(r"[^a-z]", name, maxsplit=1)[0]


def build(name: str, contract: InputContract) -> Encoder:
    """A freshly initialised encoder of the architecture ``name``."""
    module = plugins.module(__name__, "architecture family", family(name) or name)
    return Encoder(module.build(name, contract.size), contract)


def read(weights: Path) -> tuple[Encoder, EncoderCard]:
    """The encoder of a weights file, and its card."""
    state, card = load_weights(weights)
    return load(card.architecture, card.contract, state, str(weights)), card


def load(name: str, contract: InputContract, state: dict[str, Tensor], where: str) -> Encoder:
    """An encoder with the given backbone weights; every key must be there, none may be left over."""
    encoder = build(name, contract)
    expected, found = set(encoder.backbone.state_dict()), set(state)
    if expected != found:
        odd = sorted(expected ^ found)
        raise UserError(
            f"{where}: not the weights of a {name}: {len(expected - found)} tensors missing, {len(found - expected)} "
            f"too many, the first is {odd[0]!r}"
        )
    for key, tensor in encoder.backbone.state_dict().items():
        if tensor.shape != state[key].shape:
            raise UserError(
                f"{where}: not the weights of a {name}: {key!r} has shape {list(state[key].shape)}, expected "
                f"{list(tensor.shape)}"
            )
    encoder.backbone.load_state_dict(state)
    return encoder

"""The networks that a teacher was trained with, for methods that need more of it than its embeddings."""

import dataclasses
from collections.abc import Mapping

from torch import Tensor, nn

from stages import architectures
from stages.architectures import Encoder
from stages.artifacts.weights import EncoderCard
from stages.errors import UserError


class Projector(nn.Module):
    """A multilayer perceptron, rebuilt from its tensors: embeddings [B, D] to projections [B, ``dimension``].

    Linear layers and batch norms are known by their tensors, ``layers.<number>.<name>``; a layer without any is a ReLU.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        numbers = [int(key.split(".")[1]) for key in state]
        self.layers = nn.Sequential(*(_layer(_part(state, f"layers.{number}")) for number in range(max(numbers) + 1)))
        self.dimension = [layer.out_features for layer in self.layers if isinstance(layer, nn.Linear)][-1]
        self.load_state_dict(state)

    def forward(self, embeddings: Tensor) -> Tensor:
        projections: Tensor = self.layers(embeddings)
        return projections


def _layer(state: Mapping[str, Tensor]) -> nn.Module:
    if not state:
        return nn.ReLU(inplace=True)
    if "running_mean" in state:
        return nn.BatchNorm1d(len(state["running_mean"]))
    outputs, inputs = state["weight"].shape
    return nn.Linear(inputs, outputs, bias="bias" in state)


class Projecting(nn.Module):
    """An encoder and its projector: images [B, 3, S, S] to projections [B, D]."""

    def __init__(self, encoder: Encoder, projector: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector

    def forward(self, images: Tensor) -> Tensor:
        projections: Tensor = self.projector(self.encoder(images))
        return projections


@dataclasses.dataclass(frozen=True)
class Networks:
    """The online and the target network of a teacher, whose projections have ``dimension``."""

    online: Projecting
    target: Projecting
    dimension: int


def networks_from(card: EncoderCard, state: dict[str, Tensor], heads: dict[str, Tensor], where: str) -> Networks:
    """The networks of the encoder ``card``, from its backbone and the heads that BYOL leaves beside it."""
    otherwise = "a student of its networks, as by simdis-off, needs a teacher pretrained by byol"
    projector = _projector(card, heads, "projector", where, otherwise)
    target_backbone = _required(card, heads, "target_backbone", where, otherwise)
    target_projector = _projector(card, heads, "target_projector", where, otherwise)
    online, target = (
        architectures.load(card.architecture, card.contract, backbone, where) for backbone in (state, target_backbone)
    )
    return Networks(Projecting(online, projector), Projecting(target, target_projector), projector.dimension)


def projector_from(card: EncoderCard, heads: dict[str, Tensor], where: str) -> Projector:
    """The projector of the encoder ``card``, from the heads that its training has left beside it."""
    otherwise = "learn from its embeddings, by --teacher-head false, or take a teacher that has one"
    return _projector(card, heads, "projector", where, otherwise)


def _projector(card: EncoderCard, heads: dict[str, Tensor], name: str, where: str, otherwise: str) -> Projector:
    state = _required(card, heads, name, where, otherwise)
    try:
        return Projector(state)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise UserError(f"{where}: not a {name.replace('_', ' ')} ({' '.join(str(error).split())})") from error


def _required(card: EncoderCard, heads: dict[str, Tensor], name: str, where: str, otherwise: str) -> dict[str, Tensor]:
    """The tensors of the part ``name``; a `UserError` says what to do, ``otherwise``, if there are none."""
    part = _part(heads, name)
    if not part:
        how = {"fetch": "fetched"}.get(
            card.origin["way"], f"trained by {card.origin.get('method', card.origin['way'])}"
        )
        raise UserError(
            f"{where}: teacher {card.name} was {how}, which leaves no {name.replace('_', ' ')}; {otherwise}"
        )
    return part


def _part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors under ``name``, without it."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}

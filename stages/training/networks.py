"""The networks that a teacher was trained with, for methods that need more of it than its embeddings."""

import dataclasses

from torch import Tensor, nn

from stages import architectures
from stages.architectures import Encoder
from stages.artifacts.weights import EncoderCard
from stages.errors import UserError


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
    parts = {name: _part(heads, name) for name in ("projector", "target_backbone", "target_projector")}
    missing = [name.replace("_", " ") for name, part in parts.items() if not part]
    if missing:
        method = card.origin.get("method", card.origin["way"])
        raise UserError(
            f"{where}: teacher {card.name} was trained by {method}, which leaves no {missing[0]}; a student of its "
            "networks, as by simdis-off, needs a teacher pretrained by byol"
        )
    encoders = [
        architectures.load(card.architecture, card.contract, backbone, where)
        for backbone in (state, parts["target_backbone"])
    ]
    projectors = [_projector(parts[name], where) for name in ("projector", "target_projector")]
    online, target = (Projecting(*pair) for pair in zip(encoders, projectors, strict=True))
    return Networks(online, target, _outputs(parts["projector"]))


def _part(heads: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors under ``name``, without it."""
    return {key.removeprefix(f"{name}."): value for key, value in heads.items() if key.startswith(f"{name}.")}


def _projector(state: dict[str, Tensor], where: str) -> nn.Module:
    from lightly.models.modules.heads import BYOLProjectionHead

    try:
        hidden, inputs = state["layers.0.weight"].shape
        projector = BYOLProjectionHead(inputs, hidden, _outputs(state))
        projector.load_state_dict(state)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"{where}: not a projector of byol ({' '.join(str(error).split())})") from error
    return projector


def _outputs(state: dict[str, Tensor]) -> int:
    return len(state["layers.3.weight"])

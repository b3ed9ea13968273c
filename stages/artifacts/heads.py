"""What of an encoder's training, beside its backbone, a later method may need: a projector, a target network."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stages.artifacts.atomic import atomic_with_digest
from stages.artifacts.weights import copied, digest_of, read_card, refusing_damage
from stages.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclasses.dataclass(frozen=True)
class Owner:
    """The encoder that heads belong to: its name and the sha256 of its weights file."""

    encoder: str
    weights: str


def tensors_of(**parts: "nn.Module") -> dict[str, "torch.Tensor"]:
    """The tensors of modules, each under its part's name: ``projector.layers.0.weight``."""
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}


def save_heads(path: Path, tensors: Mapping[str, "torch.Tensor"], weights: Path) -> None:
    """Write the heads of the encoder whose file is ``weights``; many methods have none, and ``tensors`` is empty."""
    from safetensors.torch import save

    owner = Owner(read_card(weights).name, digest_of(weights))
    with atomic_with_digest(path) as temporary:
        temporary.write_bytes(
            save(copied(tensors), metadata={"heads": json.dumps(dataclasses.asdict(owner), sort_keys=True)})
        )


def load_heads(path: Path, weights: Path) -> dict[str, "torch.Tensor"]:
    """The tensors, which have to be the heads of the encoder whose file is ``weights``."""
    return heads_of(Owner(read_card(weights).name, digest_of(weights)), path, weights)


def heads_of(expected: Owner, path: Path, source: Path) -> dict[str, "torch.Tensor"]:
    """The tensors, which have to be the heads of the encoder ``expected``, of which ``source`` holds something."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    with refusing_damage(path, "heads"), safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
    if "heads" not in metadata:
        raise UserError(
            f"{path}: does not say whose heads they are; expected a heads file of pretrain, distill or fetch"
        )
    owner = Owner(**json.loads(metadata["heads"]))
    if owner.weights != expected.weights:
        raise UserError(
            f"{path}: the heads of {owner.encoder} ({owner.weights[:12]}), but {source} is of {expected.encoder} "
            f"({expected.weights[:12]}); give both files of one encoder"
        )
    with refusing_damage(path, "heads"):
        return load_file(path)

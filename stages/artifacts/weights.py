"""An encoder's weights file: the backbone's tensors and, beside them, what is needed to rebuild and to trust it."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.artifacts.atomic import atomic_with_digest
from stages.errors import UserError

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

NORMALISATIONS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "swav": (IMAGENET_MEAN, (0.228, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""The named ones, mean and std each. SimCLR has none; SwAV's red differs in the last digit, in its evaluation too."""


@dataclasses.dataclass(frozen=True)
class InputContract:
    """What an encoder expects: square images of ``size`` pixels, normalised by ``mean`` and ``std`` (RGB, 0..1)."""

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = "bilinear"
    """By which images are brought to ``size`` for evaluation: bilinear or bicubic."""

    @classmethod
    def named(cls, size: int, normalisation: str, interpolation: str = "bilinear") -> "InputContract":
        """The contract of ``size`` pixels under one of `NORMALISATIONS`."""
        return cls(size, *NORMALISATIONS[normalisation], interpolation)


@dataclasses.dataclass(frozen=True)
class EncoderCard:
    """An encoder's name, architecture, embedding dimension, input contract, and how it came to be.

    ``origin`` holds ``way`` (fetch, pretrain, distill), ``method``, ``dataset``, ``seed``; a student's, ``teacher`` and
    ``generation``. Of two that were trained at once, it holds the other's architecture too: ``teacher_architecture``,
    ``student_architecture``.
    """

    name: str
    architecture: str
    dimension: int
    contract: InputContract
    origin: Mapping[str, Any]

    @property
    def generation(self) -> int:
        """How many teachers are behind it: the teacher that it learned from, that one's, and so on."""
        return int(self.origin.get("generation", 0))

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "EncoderCard":
        fields = json.loads(text)
        contract = fields.pop("contract")
        return cls(
            contract=InputContract(
                contract["size"], tuple(contract["mean"]), tuple(contract["std"]), contract["interpolation"]
            ),
            **fields,
        )


def save_weights(path: Path, state: Mapping[str, "torch.Tensor"], card: EncoderCard) -> None:
    """Write the backbone's tensors, in the architecture's own key names, and the card as metadata."""
    from safetensors.torch import save

    with atomic_with_digest(path) as temporary:
        temporary.write_bytes(save(copied(state), metadata={"encoder": card.to_json()}))


def copied(tensors: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """The tensors on the CPU and each in memory of its own, as safetensors wants them: shared modules' are not."""
    import torch

    whole = torch.contiguous_format
    return {name: tensor.detach().to("cpu", copy=True, memory_format=whole) for name, tensor in tensors.items()}


def read_card(path: Path) -> EncoderCard:
    """The card alone, without reading the tensors."""
    from safetensors import safe_open

    with refusing_damage(path), safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
    if "encoder" not in metadata:
        raise UserError(f"{path}: has no encoder card; expected a weights file written by pretrain, distill or fetch")
    return EncoderCard.from_json(metadata["encoder"])


def load_weights(path: Path) -> tuple[dict[str, "torch.Tensor"], EncoderCard]:
    """The tensors and the card."""
    from safetensors.torch import load_file

    card = read_card(path)
    with refusing_damage(path):
        return load_file(path), card


def digest_of(path: Path) -> str:
    """The file's sha256, by which embeddings know the weights that made them."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def refusing_damage(path: Path, kind: str = "weights") -> Iterator[None]:
    """Refuse a missing file, and turn safetensors' error about a damaged one into one line that names it."""
    from safetensors import SafetensorError

    if not path.is_file():
        raise UserError(f"{path}: no such {kind} file")
    try:
        yield
    except SafetensorError as error:
        raise UserError(
            f"{path}: not a whole safetensors file ({error}); unless it was given by mistake, delete it and run the "
            "stage that makes it again"
        ) from error

"""Where public checkpoint files keep the backbone, and how much else may be in them.

Loading is strict. Every tensor of a file is either the backbone's or among what its layout is known to hold besides,
and every tensor of the backbone is there: the weights are all the file's, or none are.
"""

import argparse
import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.artifacts import torch_archive
from stages.errors import UserError, unknown

State = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The state dict is under ``path``, the backbone's names begin with ``prefix``, those of heads are in ``others``.

    ``projector`` begins the names of the head that the backbone was trained behind, if it is a multilayer perceptron.
    ``convert`` gives the backbone's names and tensors the form that they have here.
    """

    path: tuple[str, ...] = ()
    prefix: str = ""
    others: tuple[str, ...] = ()
    projector: str = ""
    convert: Callable[[State], State] = dict


def _of_dinov2(state: State) -> State:
    """DINOv2's names to timm's. With registers, timm adds the class token's position to the token itself."""
    state = {re.sub(r"\.mlp\.w12\.", ".mlp.fc1.", key): tensor for key, tensor in state.items()}
    state = {re.sub(r"\.mlp\.w3\.", ".mlp.fc2.", key): tensor for key, tensor in state.items()}
    if "register_tokens" in state and {"cls_token", "pos_embed"} <= state.keys():
        positions = state.pop("pos_embed")
        state["reg_token"] = state.pop("register_tokens")
        state["cls_token"] = state["cls_token"] + positions[:, :1]
        state["pos_embed"] = positions[:, 1:]
    return state


LAYOUTS = {
    "moco": Layout(
        path=("state_dict",),
        prefix="module.encoder_q.",
        others=("module.encoder_q.fc.", "module.encoder_k.", "module.queue"),
        projector="module.encoder_q.fc.",
    ),
    "swav": Layout(
        prefix="module.",
        others=("module.projection_head.", "module.prototypes."),
        projector="module.projection_head.",
    ),
    "simclr": Layout(path=("state_dict",), others=("fc.",)),
    "vissl": Layout(path=("classy_state_dict", "base_model", "model", "trunk"), prefix="_feature_blocks."),
    "dino": Layout(),
    "dino-training": Layout(path=("teacher",), prefix="backbone.", others=("head.",)),
    "dinov2": Layout(others=("mask_token",), convert=_of_dinov2),
    "torchvision": Layout(others=("fc.", "classifier.")),
    "timm": Layout(others=("fc.", "head.", "classifier.")),
}


def read(path: Path) -> Any:
    """What the file holds. Nothing but weights is unpickled: a pickle could run any program."""
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        # DINO keeps its command line beside the weights: a Namespace has no code of its own to run.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch_archive.load(path)
    except Exception as error:
        if isinstance(error, OSError) and error.filename:  # Not the file's content.
            raise
        objects = re.search(r"GLOBAL (\S+)", str(error))
        if objects is None:
            raise _damaged(path) from None
        raise UserError(
            f"{path}: holds more than weights: unpickling it would run {objects[1]}; refused. Load it where that can "
            "do no harm, save the state dict alone with torch.save, and put that file in its place"
        ) from None


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError:
        raise _damaged(path) from None


def _damaged(path: Path) -> UserError:
    with path.open("rb") as file:
        start = file.read(16)
    return UserError(f"{path}: not a whole checkpoint file, it begins with {start!r}; delete it and run again")


def backbone_of(content: Any, layout: str, architecture: str, expected: Mapping[str, Tensor], where: Path) -> State:
    """The tensors of ``content`` under the names in ``expected``, with the shapes and types there."""
    if layout not in LAYOUTS:
        raise unknown("checkpoint layout", layout, LAYOUTS)
    rule = LAYOUTS[layout]
    title = f"{where}: not the weights of a {architecture} in the layout {layout!r}"
    state = _state_dict(content, rule.path, title)
    # Of torchvision's AlexNet, only the last layer of the classifier is a head.
    heads = {key for key in state if key.startswith(rule.others) and key.removeprefix(rule.prefix) not in expected}
    ours = {key: tensor for key, tensor in state.items() if key not in heads}
    stripped = {key.removeprefix(rule.prefix): tensor for key, tensor in ours.items() if key.startswith(rule.prefix)}
    found = _without_old_gaps(rule.convert(stripped), expected)
    missing = [f"{rule.prefix}{name}" for name in expected if name not in found]
    strange = [key for key in ours if not key.startswith(rule.prefix)]
    strange += [f"{rule.prefix}{name}" for name in found if name not in expected]
    if missing or strange:
        raise UserError(f"{title}: {_count(missing, 'missing')}, {_count(strange, 'left over')}")
    return {name: _fitted(found[name], tensor, name, title) for name, tensor in expected.items()}


def projector_of(content: Any, layout: str, where: Path) -> State:
    """The tensors of the projector, ``layers.<number>.<name>``; none if layout or file has none.

    One of a single layer, such as MoCo v1's, has no numbers in its names.
    """
    rule = LAYOUTS[layout]
    if not rule.projector:
        return {}
    state = _state_dict(content, rule.path, f"{where}: not in the layout {layout!r}")
    names = {key: key.removeprefix(rule.projector) for key in state if key.startswith(rule.projector)}
    return {f"layers.{name if name[0].isdigit() else f'0.{name}'}": state[key] for key, name in names.items()}


def _state_dict(content: Any, path: Iterable[str], title: str) -> State:
    """The tensors at ``path`` in the file."""
    here = "the file"
    for step in path:
        if not isinstance(content, Mapping) or step not in content:
            raise UserError(f"{title}: no {step!r} in {here}, but {_shown(content)}")
        content, here = content[step], repr(step)
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise UserError(f"{title}: expected tensors and nothing else in {here}, found {_shown(content)}")
    return dict(content)


def _without_old_gaps(state: State, expected: Mapping[str, Tensor]) -> State:
    """With the batch norms' counters of batches added where there are none, as torch does: nothing reads them."""
    counters = {
        name: torch.zeros_like(tensor)
        for name, tensor in expected.items()
        if name.endswith(".num_batches_tracked") and name.replace("num_batches_tracked", "running_mean") in state
    }
    return {**counters, **state}


def _fitted(found: Tensor, expected: Tensor, name: str, title: str) -> Tensor:
    """``found`` in the type of ``expected``, its positions for as many patches; any other shape is refused."""
    if name.endswith("pos_embed") and found.ndim == 3 and found.shape[1] != expected.shape[1]:
        found = _resized_positions(found, expected.shape[1])
    if found.shape != expected.shape:
        raise UserError(f"{title}: {name!r} has shape {list(found.shape)}, expected {list(expected.shape)}")
    return found.to(expected.dtype)


def _resized_positions(positions: Tensor, tokens: int) -> Tensor:
    """The position embeddings [1, T, D] of a square of patches, for an image with fewer or more of them."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    # No two squares are neighbours, so the number alone tells whether the class token has a position.
    others = 0 if math.isqrt(positions.shape[1]) ** 2 == positions.shape[1] else 1
    side = math.isqrt(tokens - others)
    return resample_abs_pos_embed(positions, [side, side], num_prefix_tokens=others)


def _count(names: list[str], what: str) -> str:
    return f"{len(names)} {what}{f' ({_first(names)})' if names else ''}"


def _shown(content: Any) -> str:
    return _first(content) if isinstance(content, Mapping) else f"a {type(content).__name__}"


def _first(names: Iterable[Any]) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")

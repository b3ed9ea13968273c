"""Loading is strict: every tensor of a public file's backbone arrives, or nothing does."""

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from stages import architectures
from stages.artifacts.weights import InputContract
from stages.checkpoints import layouts
from stages.errors import UserError
from tests.checkpoint_fixtures import LAYOUTS, State, assert_same, public

pytest_plugins = ["tests.checkpoint_fixtures"]

RESNET = "resnet18_x0.125"


def fresh(architecture: str = RESNET, size: int = 32) -> State:
    """The tensors of another such network, from which nothing may come."""
    torch.manual_seed(7)
    return architectures.build(architecture, InputContract(size)).backbone.state_dict()


def saved(content: Any, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def loaded(path: Path, layout: str, architecture: str = RESNET) -> State:
    return layouts.backbone_of(layouts.read(path), layout, architecture, fresh(architecture), path)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_arrives(layout: str, old: bool, backbone: State, tmp_path: Path) -> None:
    path = saved(public(layout, backbone), tmp_path / "f.pth.tar", _use_new_zipfile_serialization=not old)
    assert_same(loaded(path, layout), backbone)


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet_v2", "efficientnet_b0"])
def test_torchvisions_own_networks_arrive_less_their_classifiers(name: str, tmp_path: Path) -> None:
    """AlexNet's embedding is in what torchvision calls its classifier."""
    state = torchvision.models.get_model(name).state_dict()
    found = layouts.backbone_of(state, "torchvision", name, fresh(name, 64), tmp_path)
    assert_same(found, {key: state[key] for key in found})
    heads = {"alexnet": "classifier.6.", "resnet18": "fc."}
    assert set(state) - set(found) == {key for key in state if key.startswith(heads.get(name, "classifier."))}


def test_every_layout_is_tested() -> None:
    assert {*LAYOUTS, "dinov2"} == layouts.LAYOUTS.keys()


def test_safetensors_are_read_as_well(weights: Path, backbone: State) -> None:
    assert_same(loaded(weights, "timm"), backbone)


def test_half_precision_becomes_single(backbone: State, tmp_path: Path) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in backbone.items()}
    found = loaded(saved(half, tmp_path / "f.pth"), "dino")
    assert_same(found, {name: half[name].to(tensor.dtype) for name, tensor in backbone.items()})


def test_counters_that_old_files_do_not_have_are_zero(backbone: State, tmp_path: Path) -> None:
    old = {name: tensor for name, tensor in backbone.items() if not name.endswith("num_batches_tracked")}
    found = loaded(saved(old, tmp_path / "f.pth"), "dino")
    counters = {name: torch.zeros_like(tensor) for name, tensor in backbone.items() if name not in old}
    assert counters
    assert_same(found, {name: {**old, **counters}[name] for name in backbone})


# What is not the architecture's.


def renamed(change: Callable[[str], str]) -> Callable[[State], State]:
    return lambda state: {change(name): tensor for name, tensor in state.items()}


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


def with_one(name: str) -> Callable[[State], State]:
    return lambda state: {**state, name: torch.zeros(3)}


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        ("moco", without("conv1.weight"), "1 missing ('module.encoder_q.conv1.weight'), 0 left over"),
        ("moco", with_one("extra"), "0 missing, 1 left over ('module.encoder_q.extra')"),
        ("swav", without("bn1.running_mean"), "missing ('module.bn1.running_mean'"),
        ("dino", with_one("fc.weight"), "0 missing, 1 left over ('fc.weight')"),
        (
            "dino",
            renamed(lambda name: f"model.{name}"),
            "120 missing ('conv1.weight', 'bn1.weight', 'bn1.bias', ...), 120 left over ('model.",
        ),
        ("vissl", renamed(lambda name: name.replace("layer4", "layer5")), "left over ('_feature_blocks.layer5."),
        ("torchvision", lambda state: {}, "120 missing ('conv1.weight', 'bn1.weight', 'bn1.bias', ...), 0 left over"),
        ("dino", lambda state: {**state, "conv1.weight": torch.zeros(8, 3, 3, 3)}, "has shape [8, 3, 3, 3], expected"),
    ],
)
def test_a_tensor_missing_or_left_over_is_refused_with_both_sides(
    layout: str, change: Callable[[State], State], message: str, backbone: State, tmp_path: Path
) -> None:
    path = saved(public(layout, change(backbone)), tmp_path / "f.pth")
    with pytest.raises(UserError) as refused:
        loaded(path, layout)
    assert str(refused.value).startswith(f"{path}: not the weights of a {RESNET} in the layout {layout!r}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize("found", LAYOUTS)
@pytest.mark.parametrize("asked", LAYOUTS)
def test_a_file_in_another_layout_is_refused_or_is_the_same(
    found: str, asked: str, backbone: State, tmp_path: Path
) -> None:
    """CompRess's loader left a random backbone where the layout was not the expected one."""
    path = saved(public(found, backbone), tmp_path / "f.pth")
    try:
        state = loaded(path, asked)
    except UserError:
        assert found != asked
    else:
        assert_same(state, backbone)


def test_a_name_without_the_layouts_prefix_is_not_taken(backbone: State, tmp_path: Path) -> None:
    mixed = public("moco", backbone)
    mixed["state_dict"]["conv1.weight"] = mixed["state_dict"].pop("module.encoder_q.conv1.weight")
    with pytest.raises(UserError, match=r"1 missing \('module.encoder_q.conv1.weight'\), 1 left over \('conv1.weight'"):
        loaded(saved(mixed, tmp_path / "f.pth"), "moco")


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("resnet34_x0.125", "missing ('layer1.2.conv1.weight'"),
        ("resnet18_x0.25", "'conv1.weight' has shape [8, 3, 7, 7], expected [16, 3, 7, 7]"),
        ("mobilenet_v2", "missing ('features.0.0.weight'"),
    ],
)
def test_another_architectures_weights_are_refused(
    architecture: str, message: str, backbone: State, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        loaded(saved(public("torchvision", backbone), tmp_path / "f.pth"), "torchvision", architecture)


@pytest.mark.parametrize(
    ("layout", "content", "message"),
    [
        ("moco", {"model": 1, "epoch": 2}, "no 'state_dict' in the file, but 'model', 'epoch'"),
        ("vissl", {"classy_state_dict": {"base_model": []}}, "no 'model' in 'base_model', but a list"),
        ("moco", {"state_dict": {"a": 1}}, "expected tensors and nothing else in 'state_dict', found 'a'"),
        ("swav", [1, 2], "expected tensors and nothing else in the file, found a list"),
    ],
)
def test_a_file_of_another_form_is_refused(layout: str, content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        loaded(saved(content, tmp_path / "f.pth"), layout)


def test_an_unknown_layout_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown checkpoint layout 'mocco': did you mean 'moco'"):
        layouts.backbone_of({}, "mocco", RESNET, {}, Path("f.pth"))


# What is no weights file.


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("old", [False, True])
def test_a_pickle_of_more_than_weights_is_refused_and_not_run(old: bool, backbone: State, tmp_path: Path) -> None:
    content = {"state_dict": backbone, "hook": Trap(tmp_path / "sprung")}
    path = saved(content, tmp_path / "f.pth", _use_new_zipfile_serialization=not old)
    with pytest.raises(
        UserError, match=r"f\.pth: holds more than weights: unpickling it would run posix\.mkdir; refused"
    ):
        layouts.read(path)
    assert not (tmp_path / "sprung").exists()


def test_a_namespace_brings_nothing_else_in(tmp_path: Path) -> None:
    path = saved({"args": argparse.Namespace(hook=Trap(tmp_path / "sprung"))}, tmp_path / "f.pth")
    with pytest.raises(UserError, match="refused"):
        layouts.read(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html></html>", b"", b"PK\x03\x04", None])
def test_a_file_that_is_not_whole_is_refused(
    suffix: str, content: bytes | None, backbone: State, tmp_path: Path
) -> None:
    path = tmp_path / f"f.{suffix}"
    if content is None:
        content = saved(backbone, path).read_bytes()[:-1000]
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"not a whole checkpoint file, it begins with b.*delete it and run again"):
        layouts.read(path)


def test_a_file_with_a_hole_is_refused(backbone: State, tmp_path: Path) -> None:
    """As of a disk or a mirror that lost a block: torch.load would take the zeros for weights."""
    path = saved(backbone, tmp_path / "f.pth")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 512] = bytes(512)
    path.write_bytes(content)
    assert set(torch.load(path, weights_only=True)) == set(backbone)
    with pytest.raises(UserError, match="not a whole checkpoint file"):
        layouts.read(path)


def test_tensors_without_names_are_refused(backbone: State, tmp_path: Path) -> None:
    content = layouts.read(saved(dict(enumerate(backbone.values())), tmp_path / "f.pth"))
    with pytest.raises(UserError, match="expected tensors and nothing else in the file, found 0, 1, 2"):
        layouts.backbone_of(content, "dino", "resnet18", backbone, tmp_path / "f.pth")


# Vision transformers.

DINOV2 = ["timm/vit_small_patch14_dinov2.lvd142m", "timm/vit_small_patch14_reg4_dinov2.lvd142m"]


def of_dinov2(architecture: str, size: int) -> State:
    """A state dict in the official names, of a random network for images of ``size``."""
    torch.manual_seed(3)
    model = timm.create_model(architecture.removeprefix("timm/"), num_classes=0, img_size=size)
    state: dict[str, Tensor] = {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}
    state["mask_token"] = torch.zeros(1, state["cls_token"].shape[-1])
    if "reg_token" in state:
        state["register_tokens"] = state.pop("reg_token")
        state["pos_embed"] = torch.randn(1, state["pos_embed"].shape[1] + 1, state["pos_embed"].shape[2])
    return state


@pytest.mark.parametrize("size", [112, 56])
@pytest.mark.parametrize("architecture", DINOV2)
def test_dinov2_is_what_timm_makes_of_it(architecture: str, size: int) -> None:
    official = of_dinov2(architecture, 112)
    backbone = architectures.build(architecture, InputContract(size)).backbone
    found = layouts.backbone_of(official, "dinov2", architecture, backbone.state_dict(), Path("f.pth"))
    assert_same(found, checkpoint_filter_fn(dict(official), backbone))  # type: ignore[arg-type]


def test_the_names_of_dinov2_giants_are_timms() -> None:
    names = {"blocks.3.mlp.w12.weight": 1, "blocks.3.mlp.w3.bias": 2, "norm.weight": 3}
    expected = {"blocks.3.mlp.fc1.weight": 1, "blocks.3.mlp.fc2.bias": 2, "norm.weight": 3}
    assert layouts._of_dinov2(names) == expected  # type: ignore[arg-type, comparison-overlap]


@pytest.mark.parametrize("layout", ["dino", "dino-training", "timm"])
def test_a_vision_transformer_arrives_for_images_of_another_size(layout: str) -> None:
    state = timm.create_model("test_vit", num_classes=0, img_size=64).state_dict()
    backbone = architectures.build("timm/test_vit", InputContract(32)).backbone
    found = layouts.backbone_of(public(layout, state), layout, "timm/test_vit", backbone.state_dict(), Path("f.pth"))
    assert_same(found, checkpoint_filter_fn(dict(state), backbone))  # type: ignore[arg-type]
    assert found["pos_embed"].shape[1] < state["pos_embed"].shape[1]

"""Backbones: the same keys and the same numbers as torchvision's, any width, and names that are not known."""

import re

import pytest
import torch
import torchvision
from torch import nn

from stages import architectures
from stages.artifacts.weights import InputContract
from stages.errors import UserError

NAMES = ["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2"]


def headless(name: str) -> nn.Module:
    """torchvision's model with its classifier taken off."""
    model: nn.Module = getattr(torchvision.models, name)()
    setattr(model, "classifier" if name == "mobilenet_v2" else "fc", nn.Identity())
    return model


def with_statistics(model: nn.Module) -> nn.Module:
    """``model`` with random batch norm parameters and statistics, which are all alike in a fresh one."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_shapes_are_torchvisions_less_the_classifier(name: str) -> None:
    expected = {key: tensor.shape for key, tensor in headless(name).state_dict().items()}
    found = architectures.build(name, InputContract(32)).backbone.state_dict()
    assert {key: tensor.shape for key, tensor in found.items()} == expected


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2"])
def test_embeddings_are_torchvisions_features_of_the_same_weights(name: str, training: bool) -> None:
    reference = with_statistics(headless(name)).train(training).double()
    encoder = architectures.load(name, InputContract(64), reference.state_dict(), "weights").train(training).double()
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        found, expected = encoder.backbone(images), reference(images)
    assert found.shape == (4, encoder.dimension)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "dimension", "stem"),
    [
        ("resnet18", 512, 64),
        ("resnet18_x0.5", 256, 32),
        ("resnet18_x0.125", 64, 8),
        ("resnet50_x0.5", 1024, 32),
        ("resnet18_x2", 1024, 128),
        ("resnet50_x0.25", 512, 16),
        ("mobilenet_v2", 1280, 32),
    ],
)
def test_the_width_scales_every_layer(name: str, dimension: int, stem: int) -> None:
    encoder = architectures.build(name, InputContract(32))
    assert encoder.dimension == dimension
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, dimension)
    assert next(encoder.backbone.parameters()).shape[0] == stem


def test_half_the_width_has_half_of_every_channel() -> None:
    whole, half = (
        architectures.build(name, InputContract(32)).backbone.state_dict() for name in ("resnet18", "resnet18_x0.5")
    )
    assert whole.keys() == half.keys()
    for key, tensor in half.items():
        halves = [
            size if key == "conv1.weight" and axis > 0 else size // 2 for axis, size in enumerate(whole[key].shape[:2])
        ]
        assert list(tensor.shape) == [*halves, *whole[key].shape[2:]]


def test_the_encoder_normalises_by_its_own_contract() -> None:
    contract = InputContract(32, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    encoder = architectures.build("resnet18_x0.125", contract).eval()
    images = torch.rand(2, 3, 32, 32)
    by_hand = torch.stack([(images[:, c] - contract.mean[c]) / contract.std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(encoder(images), encoder.backbone(by_hand))


def test_the_contract_is_no_part_of_the_weights() -> None:
    encoder = architectures.build("resnet18_x0.125", InputContract(32))
    assert all(key.startswith("backbone.") for key in encoder.state_dict())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", "unknown architecture 'resnet19': did you mean 'resnet18'?"),
        ("resnet18_0.5", "unknown architecture 'resnet18_0.5': did you mean 'resnet18_x0.5'?"),
        ("resnet18_x", "did you mean 'resnet18"),
        ("mobilenet_v3", "unknown architecture 'mobilenet_v3': did you mean 'mobilenet_v2'?"),
        ("resnt18", "unknown architecture family 'resnt': did you mean 'resnet'?"),
        ("vgg16", "unknown architecture family 'vgg': known are"),
        ("", "unknown architecture family ''"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        architectures.build(name, InputContract(32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.weight": None}, "w: not the weights of a resnet18_x0.125: 1 tensors missing, 0 too many"),
        ({"fc.weight": torch.zeros(2)}, "0 tensors missing, 1 too many, the first is 'fc.weight'"),
        ({"module.bn1.weight": torch.zeros(8), "bn1.weight": None}, "1 tensors missing, 1 too many"),
        ({"conv1.weight": torch.zeros(16, 3, 7, 7)}, "'conv1.weight' has shape [16, 3, 7, 7], expected [8, 3, 7, 7]"),
    ],
)
def test_weights_of_another_layout_are_refused(change: dict[str, torch.Tensor | None], message: str) -> None:
    state = architectures.build("resnet18_x0.125", InputContract(32)).backbone.state_dict()
    changed = {key: tensor for key, tensor in {**state, **change}.items() if tensor is not None}
    with pytest.raises(UserError, match=re.escape(message)):
        architectures.load("resnet18_x0.125", InputContract(32), changed, "w")


def test_weights_of_another_width_are_refused() -> None:
    state = architectures.build("resnet18_x0.25", InputContract(32)).backbone.state_dict()
    with pytest.raises(UserError, match="has shape"):
        architectures.load("resnet18_x0.125", InputContract(32), state, "w")

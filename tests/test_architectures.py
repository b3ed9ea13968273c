"""Backbones: the keys and numbers of torchvision's and timm's, any width, and names that are not known."""

import copy
import re

import pytest
import timm
import torch
import torchvision
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from torch import Tensor, nn

from stages import architectures
from stages.artifacts.weights import InputContract
from stages.errors import UserError

OTHERS = ["mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "alexnet"]
NAMES = ["resnet18", "resnet34", "resnet50", "resnet101", *OTHERS]
SIZE = 64


def headless(name: str) -> nn.Module:
    """torchvision's model with its classifier taken off; AlexNet's is its last layer alone."""
    model: nn.Module = getattr(torchvision.models, name)()
    if name == "alexnet":
        model.classifier = model.classifier[:-1]
    else:
        setattr(model, "fc" if name.startswith("resnet") else "classifier", nn.Identity())
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
    found = architectures.build(name, InputContract(SIZE)).backbone.state_dict()
    assert {key: tensor.shape for key, tensor in found.items()} == expected


# In training, EfficientNet's blocks and torchvision's AlexNet drop by chance.
BY_CHANCE = ("efficientnet_b0", "alexnet")


@pytest.mark.parametrize(
    ("name", "training"),
    [(name, training) for name in NAMES for training in (False, True) if not (training and name in BY_CHANCE)],
)
def test_embeddings_are_torchvisions_features_of_the_same_weights(name: str, training: bool) -> None:
    reference = with_statistics(headless(name)).train(training).double()
    encoder = architectures.load(name, InputContract(SIZE), reference.state_dict(), "weights").train(training).double()
    images = torch.randn(4, 3, SIZE, SIZE, dtype=torch.float64)
    with torch.no_grad():
        found, expected = encoder.backbone(images), reference(images)
    assert found.shape == (4, encoder.dimension)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_alexnet_drops_nothing_and_its_embedding_is_not_negative() -> None:
    encoder = architectures.build("alexnet", InputContract(SIZE))
    images = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        embeddings = encoder.train()(images)
        torch.testing.assert_close(encoder.eval()(images), embeddings)
    assert embeddings.shape == (2, 4096)
    assert embeddings.min() == 0
    assert embeddings.max() > 0


@pytest.mark.parametrize("size", [63, 64, 224])
def test_alexnet_sees_all_sizes_that_it_allows(size: int) -> None:
    with torch.no_grad():
        assert architectures.build("alexnet", InputContract(size))(torch.rand(1, 3, size, size)).shape == (1, 4096)


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("mobilenet_v3_small", 576),
        ("mobilenet_v3_large", 960),
        ("efficientnet_b0", 1280),
        ("resnet34_x0.125", 64),
        ("resnet101_x0.125", 256),
        ("resnet152_x0.125", 256),
        ("resnet200_x0.125", 256),
        ("resnet18_cifar", 512),
        ("resnet18_x0.5_cifar", 256),
        ("resnet50_x0.25_same", 512),
        ("resnet50_x0.25_samepool", 512),
        ("timm/resnet18", 512),
        ("timm/mobilenetv3_small_050", 1024),
        ("timm/test_vit", 64),
        ("timm/test_convnext", 64),
        ("timm/test_efficientnet", 256),
        ("timm/vit_tiny_patch16_224", 192),
    ],
)
def test_embeddings_have_the_architectures_dimension(name: str, dimension: int) -> None:
    encoder = architectures.build(name, InputContract(SIZE))
    assert encoder.dimension == dimension
    with torch.no_grad():
        assert encoder(torch.rand(2, 3, SIZE, SIZE)).shape == (2, dimension)


@pytest.mark.parametrize(("name", "sides"), [("resnet18_x0.5_cifar", (32, 4)), ("resnet18_x0.5", (8, 1))])
def test_the_cifar_stem_keeps_the_resolution(name: str, sides: tuple[int, int]) -> None:
    backbone = architectures.build(name, InputContract(32)).backbone
    seen: list[torch.Size] = []
    for layer in ("layer1", "layer4"):
        backbone.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output.shape))
    backbone(torch.rand(2, 3, 32, 32))
    assert [tuple(shape[2:]) for shape in seen] == [(side, side) for side in sides]
    assert seen[0][1] == 32


# What TensorFlow's definition of SAME gives at stride 2: (kernel, side) to the pixels padded before and after.
SAME = {
    (7, 224): (2, 3),
    (7, 32): (2, 3),
    (7, 33): (3, 3),
    (3, 112): (0, 1),
    (3, 16): (0, 1),
    (3, 17): (1, 1),
    (3, 2): (0, 1),
    (3, 1): (1, 1),
}


def padded(images: Tensor, before: int, after: int, value: float) -> Tensor:
    """Images [B, C, S, S] copied into the middle of larger ones."""
    side = images.shape[-1]
    larger = torch.full((*images.shape[:2], before + side + after, before + side + after), value, dtype=images.dtype)
    larger[..., before : before + side, before : before + side] = images
    return larger


def windows(images: Tensor, kernel: int, stride: int) -> Tensor:
    """Every whole window of images [B, C, S, S], row by row: [B, C, rows, columns, kernel, kernel]."""
    starts = range(0, images.shape[-1] - kernel + 1, stride)
    rows = [
        torch.stack([images[..., top : top + kernel, left : left + kernel] for left in starts], dim=2) for top in starts
    ]
    return torch.stack(rows, dim=2)


@pytest.mark.parametrize("case", SAME)
def test_strided_convolutions_pad_as_tensorflows_same(case: tuple[int, int]) -> None:
    kernel, side = case
    backbone = architectures.build("resnet18_x0.125_same", InputContract(32)).backbone.double()
    convolution = backbone.get_submodule({7: "conv1", 3: "layer2.0.conv1"}[kernel])
    images = torch.randn(2, convolution.weight.shape[1], side, side, dtype=torch.float64)
    found = convolution(images)
    expected = torch.einsum(
        "bcyxij,ocij->boyx", windows(padded(images, *SAME[case], 0.0), kernel, 2), convolution.weight
    )
    assert found.shape[-1] == (side + 1) // 2
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("variant", ["same", "samepool"])
@pytest.mark.parametrize("side", [side for kernel, side in SAME if kernel == 3])
def test_the_max_pool_pads_as_tensorflows_same(side: int, variant: str) -> None:
    pool = architectures.build(f"resnet18_x0.125_{variant}", InputContract(32)).backbone.get_submodule("maxpool")
    # Below zero, so that a padding of zeros would be the maximum.
    images = torch.rand(2, 3, side, side, dtype=torch.float64) - 2
    expected = windows(padded(images, *SAME[3, side], -torch.inf), 3, 2).amax(dim=(-2, -1))
    torch.testing.assert_close(pool(images), expected)


@pytest.mark.parametrize(
    ("name", "convolutions", "pools"),
    [("resnet50_x0.125_same", 4, 1), ("resnet18_x0.125_same", 4, 1), ("resnet50_x0.125_samepool", 0, 1)],
)
def test_same_is_another_padding_of_the_same_weights(name: str, convolutions: int, pools: int) -> None:
    plain = name.rpartition("_")[0]
    reference = with_statistics(architectures.build(plain, InputContract(32)).backbone).double().eval()
    found = architectures.load(name, InputContract(32), reference.state_dict(), "w").backbone.double().eval()
    assert list(found.state_dict()) == list(reference.state_dict())
    assert sum(isinstance(module, Conv2dSame) for module in found.modules()) == convolutions
    assert sum(isinstance(module, MaxPool2dSame) for module in found.modules()) == pools
    # From 33 pixels on, all sides are odd: 17, 9, 5, 3. Then SAME pads as much before as after, which is PyTorch's way.
    odd, even = torch.randn(2, 3, 33, 33, dtype=torch.float64), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(found(odd), reference(odd))
        assert (found(even) - reference(even)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["resnet18", "test_vit", "vit_tiny_patch16_224"])
def test_timms_models_are_timms_in_keys_and_numbers(name: str) -> None:
    encoder = architectures.build(f"timm/{name}", InputContract(SIZE)).eval()
    size = {} if name == "resnet18" else {"img_size": SIZE}
    reference = timm.create_model(name, num_classes=0, **size).eval()
    reference.load_state_dict(encoder.backbone.state_dict())
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(encoder.backbone(images), reference(images))


def test_a_dinov2_model_is_made_for_the_contracts_size() -> None:
    """timm's own size for it is 518 pixels, which makes 1,369 positions."""
    encoder = architectures.build("timm/vit_small_patch14_dinov2.lvd142m", InputContract(56))
    assert encoder.backbone.state_dict()["pos_embed"].shape == (1, 1 + 4 * 4, 384)
    with torch.no_grad():
        assert encoder(torch.rand(1, 3, 56, 56)).shape == (1, 384)


def test_timms_weights_are_loaded_strictly() -> None:
    state = architectures.build("timm/test_vit", InputContract(SIZE)).backbone.state_dict()
    short = {key: tensor for key, tensor in state.items() if key != "cls_token"}
    with pytest.raises(UserError, match=r"not the weights of a timm/test_vit: 1 tensors missing.*'cls_token'"):
        architectures.load("timm/test_vit", InputContract(SIZE), short, "w")
    with pytest.raises(UserError, match="'pos_embed' has shape"):
        architectures.load("timm/test_vit", InputContract(2 * SIZE), state, "w")


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("timm/vit_tiny_patch16_24", 64, ["'timm/vit_tiny_patch16_24': did you mean 'timm/vit_tiny_patch16_224'"]),
        ("timm/resnet18.nothing_in1k", 64, ["'timm/resnet18.nothing_in1k': did you mean 'timm/resnet18."]),
        ("timm/", 64, ["'timm/': expected timm/NAME"]),
        ("timm", 64, ["'timm'", "expected timm/NAME"]),
        ("timm_resnet18", 64, ["did you mean 'timm/resnet18'"]),
        ("timm/hf-hub:someone/something", 64, ["unknown architecture"]),
        ("timm/../resnet18", 64, ["unknown architecture"]),
        ("timm/vit_tiny_patch16_224", 8, ["timm/vit_tiny_patch16_224 cannot see images of 8 pixels", "another size"]),
        ("timm/test_vit", 0, ["timm/test_vit cannot see images of 0 pixels"]),
        ("alexnet", 62, ["images of 62 pixels", "at least 63"]),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(name: str, size: int, words: list[str]) -> None:
    with pytest.raises(UserError) as refusal:
        architectures.build(name, InputContract(size))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400
    for word in words:
        assert word in str(refusal.value)


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
        ("resnet18_x0", "unknown architecture 'resnet18_x0': did you mean 'resnet18"),
        ("resnet18_x0.001", "unknown architecture 'resnet18_x0.001'"),
        ("resnet18_x", "did you mean 'resnet18"),
        ("mobilenet_v3", "unknown architecture 'mobilenet_v3': did you mean 'mobilenet_v2'?"),
        ("resnt18", "unknown architecture family 'resnt': did you mean 'resnet'?"),
        ("resnet18_cifar_x0.5", "unknown architecture 'resnet18_cifar_x0.5': did you mean 'resnet18_cifar'?"),
        ("resnet18_x0.5_cifer", "did you mean 'resnet18_x0.5_cifar'?"),
        ("alexnett", "unknown architecture family 'alexnett': did you mean 'alexnet'?"),
        ("alexnet_v2", "unknown architecture 'alexnet_v2': did you mean 'alexnet'?"),
        ("efficientnet_b9", "unknown architecture 'efficientnet_b9': did you mean 'efficientnet_b0'?"),
        ("mobilenet_v3_smal", "unknown architecture 'mobilenet_v3_smal': did you mean 'mobilenet_v3_small'?"),
        ("vgg16", "unknown architecture family 'vgg': known are"),
        ("ResNet18", "unknown architecture family 'ResNet18': did you mean 'resnet'?"),
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


@pytest.mark.parametrize(
    "name", [*OTHERS, "resnet18", "resnet50_x0.25_same", "resnet18_x0.5_cifar", "timm/test_convnext"]
)
def test_the_embedding_is_made_from_the_feature_map(name: str) -> None:
    backbone = architectures.build(name, InputContract(SIZE)).backbone.eval()
    with_statistics(backbone)
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        features, embeddings = backbone.feature_map(images), backbone(images)
        if name == "alexnet":
            pooled = backbone.classifier(backbone.avgpool(backbone.features[-1](features)).flatten(1))
        elif name.startswith("timm"):
            pooled = backbone.forward_head(features)
        else:
            pooled = features.mean(dim=(2, 3))
        assert backbone.feature_map(torch.randn(1, 3, SIZE, SIZE + 32)).shape[3] > features.shape[3]
    torch.testing.assert_close(pooled, embeddings)


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "timm/swin_tiny_patch4_window7_224"])
def test_a_transformers_tokens_lie_on_the_map_where_they_were_cut(name: str) -> None:
    backbone = architectures.build(name, InputContract(224)).backbone.eval()
    images = torch.zeros(2, 3, 224, 224)
    # What changes in the upper right corner changes the map there more than anywhere else.
    images[1, :, :32, -32:] = 1
    with torch.no_grad():
        plain, changed = backbone.feature_map(images)
    difference = (plain - changed).norm(dim=0)
    side = difference.shape[0]
    row, column = divmod(int(difference.argmax()), side)
    assert difference.shape == (side, side)
    assert row < 0.3 * side
    assert column >= 0.7 * side
    with pytest.raises(UserError, match="gives no feature map of 256 x 224 pixels"):
        backbone.feature_map(torch.zeros(1, 3, 224, 256))


def test_a_copy_of_a_timm_model_maps_by_its_own_weights() -> None:
    backbone = architectures.build("timm/test_convnext", InputContract(SIZE)).backbone.eval()
    twin = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
        assert not twin.feature_map(torch.rand(1, 3, SIZE, SIZE)).any()
        assert backbone.feature_map(torch.rand(1, 3, SIZE, SIZE)).any()

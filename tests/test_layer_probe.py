"""Linear classifiers on layers: which layers, pooled how, trained as if each were alone, on an encoder left alone."""

import copy
import dataclasses
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages import architectures, layer_probe
from stages.architectures import Backbone, Encoder
from stages.artifacts.metrics import Metrics, read_metrics
from stages.artifacts.weights import InputContract, digest_of, load_weights
from stages.datasets import augmentations
from stages.datasets.packed import PackedImages, read_pack, write_packs
from stages.datasets.sources import Split
from stages.errors import UserError
from stages.probing.layers import LayerProbes, Layers, pooled
from stages.training.batches import Batch, stream
from stages.training.position import seed_here
from tests.conftest import assert_refused, flags, program
from tests.training_fixtures import Training

pytest_plugins = ["tests.training_fixtures"]

ALEXNET = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
LEVELS = ["L1", "L2", "L3", "L4", "L5"]


def encoder_of(name: str, size: int) -> Encoder:
    torch.manual_seed(0)
    return architectures.build(name, InputContract(size))


# What each layer is, as its name in the literature says.


def shapes_of(name: str, size: int) -> dict[str, tuple[int, ...]]:
    """The shape of the output of each of the layers, as a hook sees it."""
    backbone = encoder_of(name, size).backbone.eval()
    seen: dict[str, tuple[int, ...]] = {}
    for layer, path in backbone.layer_paths.items():
        backbone.get_submodule(path).register_forward_hook(
            lambda _, __, output, layer=layer: seen.update({layer: tuple(output.shape[1:])})
        )
    with torch.no_grad():
        backbone(torch.zeros(1, 3, size, size))
    return seen


def test_the_layers_of_alexnet_are_those_of_the_literature() -> None:
    assert shapes_of("alexnet", 224) == {
        "conv1": (64, 55, 55),
        "conv2": (192, 27, 27),
        "conv3": (384, 13, 13),
        "conv4": (256, 13, 13),
        "conv5": (256, 13, 13),
        "fc6": (4096,),
        "fc7": (4096,),
    }


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", [64, 64, 128, 256, 512]),
        ("resnet50", [64, 256, 512, 1024, 2048]),
        ("resnet18_x0.5_samepool", [32, 32, 64, 128, 256]),
        ("mobilenet_v2", [16, 24, 32, 96, 1280]),
        ("mobilenet_v3_small", [16, 16, 24, 48, 576]),
        ("mobilenet_v3_large", [16, 24, 40, 112, 960]),
        ("efficientnet_b0", [16, 24, 40, 112, 1280]),
    ],
)
def test_a_level_is_the_last_map_of_its_resolution(name: str, channels: list[int]) -> None:
    assert shapes_of(name, 64) == {
        level: (width, side, side) for level, width, side in zip(LEVELS, channels, (32, 16, 8, 4, 2), strict=True)
    }


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0"])
def test_what_follows_a_level_has_half_its_side(name: str) -> None:
    backbone = encoder_of(name, 64).backbone.eval()
    sides: list[int] = []
    for module in backbone.get_submodule("features").children():
        module.register_forward_hook(lambda _, __, output: sides.append(output.shape[-1]))
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 64, 64))
    last = [place for place, side in enumerate(sides) if sides[place + 1 : place + 2] != [side]]
    assert [f"features.{place}" for place in last] == list(backbone.layer_paths.values())


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("timm/test_vit", {"blocks.0": (64, 1), "blocks.5": (64, 1)}),
        ("timm/test_convnext", {"stages.0": (24, 256), "stages.3": (64, 4)}),
        ("timm/resnet18", {"act1": (64, 144), "layer4": (512, 4)}),
    ],
)
def test_the_layers_of_timms_models_are_timms_features(name: str, layers: dict[str, tuple[int, int]]) -> None:
    found = Layers(encoder_of(name, 64), (), name)
    shapes = dict(zip(found.names, found.shapes(), strict=True))
    assert {layer: shapes[layer] for layer in (found.names[0], found.names[-1])} == layers


def test_a_model_without_layers_that_can_be_read_is_refused() -> None:
    name = "timm/swin_s3_tiny_224"
    for encoder in (encoder_of(name, 224), Encoder(Backbone(), InputContract(32))):
        with pytest.raises(UserError, match="timm/swin_s3_tiny_224 names no intermediate layers"):
            Layers(encoder, (), name)


def test_a_layer_that_is_never_run_or_gives_no_tensor_is_refused() -> None:
    for name, size, message in [
        ("timm/coat_lite_tiny", 64, "timm/coat_lite_tiny does not run its layer serial_blocks1"),
        ("timm/crossvit_9_240", 240, "layer blocks.0 of timm/crossvit_9_240 gives no maps, tokens or vectors"),
    ]:
        with pytest.raises(UserError, match=message):
            Layers(encoder_of(name, size), (), name).shapes()


def test_an_unknown_layer_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown layer of alexnet 'conv6': did you mean 'conv"):
        Layers(encoder_of("alexnet", 64), ("conv6",), "alexnet")


# What is read of them.


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("alexnet", [64 * 12**2, 192 * 7**2, 384 * 5**2, 256 * 6**2, 256 * 6**2, 4096, 4096]),
        ("resnet50", [9216, 9216, 8192, 9216, 8192]),
    ],
)
def test_a_layer_has_as_many_values_as_in_vissls_configurations(name: str, values: list[int]) -> None:
    """VISSL's sizes for ResNet-50 and AlexNet, but for conv1, conv2 and conv4, whose channels are torchvision's."""
    layers = Layers(encoder_of(name, 224), (), name)
    assert [channels * positions for channels, positions in layers.shapes()] == values


def naive_pool(maps: Tensor, side: int) -> Tensor:
    """Adaptive average pooling, written out: of a side of n, cell i is from floor(i n / s) to ceil((i + 1) n / s)."""
    height, width = maps.shape[2:]
    cells = [
        maps[:, :, i * height // side : -(-(i + 1) * height // side), j * width // side : -(-(j + 1) * width // side)]
        for i in range(side)
        for j in range(side)
    ]
    return torch.stack([cell.mean(dim=(2, 3)) for cell in cells], dim=2)


@pytest.mark.parametrize(("channels", "length", "side"), [(64, 55, 12), (384, 13, 5), (2048, 7, 2), (8, 4, 4)])
def test_maps_are_averaged_over_a_grid_of_cells(channels: int, length: int, side: int) -> None:
    maps = torch.randn(2, channels, length, length, dtype=torch.float64)
    torch.testing.assert_close(pooled(maps), naive_pool(maps, side))


def test_a_map_of_more_channels_than_values_allowed_is_averaged_whole() -> None:
    maps = torch.randn(2, 10_001, 3, 3)
    torch.testing.assert_close(pooled(maps), maps.mean(dim=(2, 3)).unsqueeze(2))


def test_tokens_are_averaged_and_vectors_are_as_they_are() -> None:
    tokens, vectors = torch.randn(2, 5, 7), torch.randn(2, 7)
    torch.testing.assert_close(pooled(tokens), tokens.mean(dim=1).unsqueeze(2))
    torch.testing.assert_close(pooled(vectors), vectors.unsqueeze(2))
    assert pooled(vectors).data_ptr() != vectors.data_ptr()


def step_by_step(encoder: Encoder, images: Tensor) -> dict[str, Tensor]:
    """AlexNet's layers by a plain loop over its modules, each ReLU out of place and each output a copy."""
    paths = {path: name for name, path in encoder.backbone.layer_paths.items()}
    features = (images - encoder.mean) / encoder.std
    seen = {}
    for part in ("features", "avgpool", "classifier"):
        module = encoder.backbone.get_submodule(part)
        if part == "classifier":
            features = features.flatten(1)
        for name, child in module.named_children() if part != "avgpool" else [("", module)]:
            features = F.relu(features) if isinstance(child, nn.ReLU) else child(features)
            if f"{part}.{name}" in paths:
                seen[paths[f"{part}.{name}"]] = pooled(features).clone()
    return seen


def test_layers_are_read_as_they_are_after_their_relu_whatever_overwrites_them() -> None:
    encoder = encoder_of("alexnet", 64)
    assert any(module.inplace for module in encoder.backbone.modules() if isinstance(module, nn.ReLU))
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        expected = step_by_step(encoder, images)
    layers = Layers(encoder, (), "alexnet")
    found = dict(zip(layers.names, layers(images), strict=True))
    assert list(found) == list(expected) == ALEXNET
    for name, features in found.items():
        torch.testing.assert_close(features, expected[name])
        assert features.min() == 0 < features.max()


def test_an_output_that_is_overwritten_in_place_is_read_before_that() -> None:
    """The stem's batch norm is followed by a ReLU in place; averages of what it clips would not be negative."""
    encoder = encoder_of("resnet18_x0.125", 32)
    encoder.backbone.layer_paths = {"norm": "bn1"}
    (found,) = Layers(encoder, (), "resnet18_x0.125")(torch.rand(4, 3, 32, 32))
    assert found.min() < 0


def test_one_forward_pass_reads_all_layers_and_no_gradient_reaches_the_encoder() -> None:
    encoder = encoder_of("resnet18_x0.125", 32)
    passes: list[int] = []
    encoder.register_forward_hook(lambda *_: passes.append(1))
    layers = Layers(encoder, (), "resnet18_x0.125")
    probes = LayerProbes(layers, 3, seed=0).train()
    passes.clear()
    probes(
        Batch(views=(torch.rand(4, 3, 32, 32),), indices=torch.arange(4), labels=torch.tensor([0, 1, 2, 0]))
    ).backward()
    assert passes == [1]
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert all(parameter.grad is not None for parameter in probes.parameters())
    assert not any(features.requires_grad for features in layers(torch.rand(2, 3, 32, 32)))


# How classifiers are trained on them.


@dataclasses.dataclass(frozen=True)
class Probing(Training):
    """A call of ``stages.layer_probe`` whose files are in ``folder``."""

    @property
    def metrics(self) -> Path:
        return self.folder / "layers.json"

    @property
    def argv(self) -> list[str]:
        files = {"metrics": self.metrics, "checkpoints": self.checkpoint.parent}
        layers = self.options.get("layers", ())
        rest = {name: value for name, value in self.options.items() if name != "layers"}
        return [*flags({**rest, **files}), *(["--layers", *layers] if layers else [])]

    def measured(self) -> Metrics:
        layer_probe.main(self.argv)
        return read_metrics(self.metrics)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, small_splits: tuple[Path, Path]) -> SimpleNamespace:
    """150 and 100 real digits, packed."""
    whole = [read_pack(path) for path in small_splits]
    folder = tmp_path_factory.mktemp("few-digits")
    paths = SimpleNamespace(train=folder / "train.h5", val=folder / "val.h5")
    few = {paths.train: ("train", first(whole[0], 150)), paths.val: ("val", first(whole[1], 100))}
    write_packs(few, name="digits", source="digits")
    return paths


def first(pack: PackedImages, count: int) -> Split:
    encoded = [pack.encoded(index).tobytes() for index in range(count)]
    return Split(images=encoded, labels=pack.labels[:count], classes=pack.classes)


@pytest.fixture
def probing(weights: Path, images: SimpleNamespace, tmp_path: Path) -> Callable[..., Probing]:
    def call(folder: str = ".", **options: Any) -> Probing:
        known = {"weights": weights, "train": images.train, "val": images.val, "augmentation": "affine-elastic"}
        recipe = {"epochs": 4, "batch_size": 32, "learning_rate": 0.05, "checkpoint_seconds": 300}
        (tmp_path / folder).mkdir(exist_ok=True)
        return Probing(tmp_path / folder, "layer_probe", {**known, **recipe, **options})

    return call


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[LayerProbes]:
    """The classifiers of the calls in the test."""
    made: list[LayerProbes] = []
    construct = LayerProbes.__init__

    def noting(self: LayerProbes, *arguments: Any) -> None:
        construct(self, *arguments)
        made.append(self)

    monkeypatch.setattr(LayerProbes, "__init__", noting)
    return made


def test_each_layers_classifier_is_the_one_trained_alone(
    probing: Callable[..., Probing], trained: list[LayerProbes]
) -> None:
    together = probing().measured()
    everything = dict(zip(LEVELS, trained.pop().classifiers, strict=True))
    for name in ("L2", "L5"):
        alone = probing(layers=(name,)).measured()
        (classifier,) = trained.pop().classifiers
        for key, tensor in classifier.state_dict().items():
            assert torch.equal(tensor, everything[name].state_dict()[key]), (name, key)
        assert alone.values == {
            "top1": together.values[f"top1@{name}"],
            f"top1@{name}": together.values[f"top1@{name}"],
        }


@pytest.mark.parametrize("seed", [0, 3])
def test_training_is_that_of_a_softmax_regression_on_the_pooled_layer(
    probing: Callable[..., Probing], trained: list[LayerProbes], images: SimpleNamespace, weights: Path, seed: int
) -> None:
    """Written out in float64, on the same views: standardise by the batch, one linear layer, SGD with momentum."""
    found = probing(layers=("L3",), epochs=2, milestones=1, learning_rate=0.02, seed=seed).measured()
    (classifier,) = trained[0].classifiers
    state, card = load_weights(weights)
    layers = Layers(architectures.load(card.architecture, card.contract, state, ""), ("L3",), "")
    fresh = LayerProbes(layers, 10, seed).classifiers[0][2]
    weight, bias = (parameter.detach().double() for parameter in fresh.parameters())
    speeds = [torch.zeros_like(weight), torch.zeros_like(bias)]
    pack = read_pack(images.train)
    recipe, augmentation = layer_probe.Options(epochs=2, batch_size=32), augmentations.named("affine-elastic", 32)
    for step, batch in enumerate(stream(pack, augmentation, recipe, views=1, seed=seed, workers=0, first=0)):
        rate = 0.02 if step < 5 else 0.002
        seed_here(seed, step)
        (features,) = (layer.double() for layer in layers(batch.augmented(augmentation, torch.device("cpu")).views[0]))
        mean, variance = features.mean(dim=(0, 2), keepdim=True), features.var(dim=(0, 2), keepdim=True, correction=0)
        rows = ((features - mean) / (variance + 1e-5).sqrt()).flatten(1)
        shares = (rows @ weight.T + bias).softmax(dim=1) - F.one_hot(batch.labels, 10)
        gradients = shares.T @ rows / len(rows), shares.mean(dim=0)
        for tensor, speed, gradient in zip((weight, bias), speeds, gradients, strict=True):
            speed.mul_(0.9).add_(gradient + 5e-4 * tensor)
            tensor.sub_(rate * speed)
    torch.testing.assert_close(classifier[2].weight.double(), weight, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(classifier[2].bias.double(), bias, rtol=1e-3, atol=1e-5)
    assert found.values["top1"] == found.values["top1@L3"]


def test_what_a_val_image_is_taken_for_does_not_depend_on_those_beside_it(
    probing: Callable[..., Probing], trained: list[LayerProbes], images: SimpleNamespace
) -> None:
    """Batch norms use what they have seen of train, and see nothing of val."""
    probing(epochs=1).measured()
    (probes,) = trained
    before = copy.deepcopy(probes.state_dict())
    pack, augmentation = read_pack(images.val), augmentations.named("affine-elastic", 32)
    in_pairs, at_once = (layer_probe.predictions(probes.train(), pack, augmentation, size, 0) for size in (2, 100))
    for name in LEVELS:
        assert (in_pairs[name] == at_once[name]).mean() > 0.97, "but for rounding"
    assert all(torch.equal(tensor, before[key]) for key, tensor in probes.state_dict().items())


def test_val_images_are_brought_to_size_as_the_encoders_contract_says(
    images: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = architectures.build("resnet18_x0.125", InputContract(24, interpolation="bicubic"))
    probes, pack = LayerProbes(Layers(encoder, ("L5",), ""), 10, 0), read_pack(images.val)
    seen: list[Tensor] = []
    monkeypatch.setattr(probes, "logits", lambda shown: [seen.append(shown) or torch.zeros(len(shown), 10)])
    augmentation = augmentations.named("crop-flip", 24)
    layer_probe.predictions(probes, pack, augmentation, 32, 0)
    views = [augmentation.center(pack.image(number), "bicubic") for number in range(len(pack))]
    assert torch.equal(torch.cat(seen), augmentations.to_float(torch.stack(views)))


def test_the_encoder_is_left_as_it_was(
    probing: Callable[..., Probing], trained: list[LayerProbes], weights: Path
) -> None:
    before = digest_of(weights)
    probing(epochs=1).measured()
    backbone = trained[0].layers.encoder.backbone
    for key, tensor in load_weights(weights)[0].items():
        assert torch.equal(backbone.state_dict()[key], tensor), key
    assert not backbone.training
    assert digest_of(weights) == before


def test_metrics_tell_every_layer_and_the_best(probing: Callable[..., Probing]) -> None:
    found = probing().measured()
    layers = {name: found.values[f"top1@{name}"] for name in LEVELS}
    assert found.values == {"top1": max(layers.values()), **{f"top1@{name}": top1 for name, top1 in layers.items()}}
    assert layers[found.notes["best_layer"]] == found.values["top1"]
    assert found.values["top1"] > 30, "real digits, of which one in ten would be right by chance"
    assert (found.evaluation, found.dataset, found.n) == ("layers", "digits", {"train": 150, "val": 100})
    assert "best layer by val top1" in found.protocol
    assert found.seeds == (0,)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(probing: Callable[..., Probing]) -> None:
    plain, again, other = (probing(epochs=1, seed=seed).measured().values for seed in (0, 0, 1))
    assert plain == again != other


def test_the_defaults_are_vissls() -> None:
    options = layer_probe.Options()
    assert (options.epochs, options.batch_size, options.learning_rate) == (14, 256, 0.01)
    assert (options.weight_decay, options.sgd_momentum, options.nesterov) == (5e-4, 0.9, False)
    assert (options.schedule, options.milestones, options.gamma) == ("step", (4, 8, 12), 0.1)


def test_a_terminated_run_goes_on_to_the_numbers_of_an_unbroken_one(
    probing: Callable[..., Probing], trained: list[LayerProbes]
) -> None:
    broken = probing("broken", epochs=12, checkpoint_seconds=0)
    status, stderr = broken.interrupted(8, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM, stderr
    assert [path.name for path in broken.folder.iterdir()] == ["checkpoints"]
    saved = torch.load(broken.checkpoint, weights_only=True)["objective"]
    assert all(key.startswith("classifiers.") for key in saved), "the encoder is in its own file"
    status, stderr = broken.run()
    assert status == 0, stderr
    assert "going on at step" in stderr
    assert read_metrics(broken.metrics).values == probing("whole", epochs=12).measured().values
    assert not broken.checkpoint.parent.exists()


# What is refused.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs is 0; expected at least 1"),
        ({"layers": ("L6",)}, "unknown layer of resnet18_x0.125 'L6': did you mean 'L"),
        ({"augmentation": "crop-flop"}, "did you mean 'crop-flip'"),
    ],
)
def test_options_that_cannot_be_met_are_refused(
    probing: Callable[..., Probing], options: dict[str, Any], message: str
) -> None:
    call = probing(**options)
    with pytest.raises(UserError, match=message):
        call.measured()
    assert not list(call.folder.iterdir())


def test_splits_that_do_not_belong_together_are_refused(
    probing: Callable[..., Probing], images: SimpleNamespace, small_splits: tuple[Path, Path]
) -> None:
    for train, val, message in [
        (images.train, small_splits[1], "do not belong together"),
        (images.val, images.train, r"val\.h5: holds the val split; expected the train split"),
    ]:
        with pytest.raises(UserError, match=message):
            probing(train=train, val=val).measured()


def test_the_program_refuses_images_of_several_classes_each(
    images: SimpleNamespace, weights: Path, tmp_path: Path
) -> None:
    few = first(read_pack(images.train), 8)
    several = dataclasses.replace(few, labels=np.eye(8, 10, dtype=np.int8))
    packs = {split: tmp_path / f"{split}.h5" for split in ("train", "val")}
    write_packs({path: (split, several) for split, path in packs.items()}, name="voc", source="folder")
    before = set(tmp_path.rglob("*"))
    files = {"weights": weights, "metrics": tmp_path / "layers.json", "checkpoints": tmp_path / "checkpoints"}
    done = program("layer_probe", *flags({**packs, **files, "augmentation": "crop-flip"}))
    assert_refused(done, packs["train"], "several labels each", folder=tmp_path, before=before)


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_without_labels_are_refused(
    split: str, images: SimpleNamespace, probing: Callable[..., Probing], tmp_path: Path
) -> None:
    few = {each: first(read_pack(getattr(images, each)), 8) for each in ("train", "val")}
    few[split] = dataclasses.replace(few[split], labels=np.array([-1, 0, 1, -1, 2, 3, 4, 5]))
    packs = {each: tmp_path / f"few-{each}.h5" for each in few}
    write_packs({packs[each]: (each, few[each]) for each in few}, name="digits", source="digits")
    with pytest.raises(UserError, match=rf"few-{split}\.h5: 2 of 8 images of digits have no label"):
        probing(**packs).measured()


def test_images_that_were_left_out_are_counted(images: SimpleNamespace, probing: Callable[..., Probing]) -> None:
    packs = {path: path.with_stem(f"skipped-{path.stem}") for path in (images.train, images.val)}
    for count, (whole, path) in enumerate(packs.items(), start=2):
        shutil.copy(whole, path)
        with h5py.File(path, "r+") as file:
            file.attrs["skipped"] = count
    train, val = packs.values()
    found = probing(train=train, val=val, epochs=1).measured()
    assert found.n == {"train": 150, "train_skipped": 2, "val": 100, "val_skipped": 3}

"""Costs: against torchvision's published ones, by hand, and the numbers in the papers."""

import itertools
import math
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from stages import architectures, cost
from stages.architectures import Backbone, Encoder
from stages.artifacts.metrics import Metrics, read_metrics
from stages.artifacts.weights import InputContract, save_weights
from stages.errors import UserError
from tests.conftest import card, flags

CLASSIFIERS = {
    "alexnet": (4096,),
    "resnet18": (512,),
    "resnet50": (2048,),
    "mobilenet_v2": (1280,),
    "mobilenet_v3_small": (576, 1024),
    "efficientnet_b0": (1280,),
}
"""The inputs of torchvision's classifying layers, which our backbones have not; the last has 1,000 outputs."""


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_with_its_classifier_a_backbone_costs_what_torchvision_publishes(name: str) -> None:
    found = cost.size_of(architectures.build(name, InputContract(224)))
    widths = [*CLASSIFIERS[name], 1000]
    layers = list(itertools.pairwise(widths))
    published = torchvision.models.get_model_weights(name).DEFAULT.meta
    weights = sum(inputs * outputs for inputs, outputs in layers)
    biases = sum(outputs for _, outputs in layers)
    assert round(found["parameters"] * 1e6) + weights + biases == published["num_params"]
    assert found["flops"] + weights / 1e9 == pytest.approx(published["_ops"], abs=0.0006)


@pytest.mark.parametrize(
    ("name", "printed"), [("resnet50", 4.1), ("resnet18", 1.8), ("alexnet", 0.7), ("mobilenet_v2", 0.3)]
)
def test_flops_are_those_that_papers_print(name: str, printed: float) -> None:
    """Those of the ResNets in SimDis, Table 1."""
    assert round(cost.size_of(architectures.build(name, InputContract(224)))["flops"], 1) == printed


class Counted(Backbone):
    """A grouped convolution, a linear layer on its 16 positions, and attention: 3 channels become 8."""

    dimension = 8

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.convolution = nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3)
        self.linear = nn.Linear(6, 8, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        positions = self.convolution(self.norm(images)).flatten(2).transpose(1, 2)
        tokens = self.linear(positions).unsqueeze(1)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).mean(dim=(1, 2))


def test_multiply_adds_are_counted_as_by_hand() -> None:
    convolution, linear, attention = 16 * 6 * 9, 16 * 6 * 8, 2 * 16 * 16 * 8
    encoder = Encoder(Counted(), InputContract(8))
    assert cost.multiply_adds(encoder) == convolution + linear + attention
    parameters = (3 + 3) + (6 * 9 + 6) + 6 * 8
    assert cost.size_of(encoder)["parameters"] == pytest.approx(parameters / 1e6)


def test_a_vit_costs_what_its_shapes_say() -> None:
    """DeiT-Ti/16 (Touvron et al., 2021) has 5 M parameters; twelve blocks of width 192 on 197 tokens."""
    found = cost.size_of(architectures.build("timm/vit_tiny_patch16_224", InputContract(224)))
    width, tokens = 192, 197
    block = tokens * (3 + 1 + 4 + 4) * width**2 + 2 * tokens**2 * width
    assert found["flops"] * 1e9 == 196 * 3 * 256 * width + 12 * block
    assert found["dimension"] == width
    assert math.floor(found["parameters"]) == 5


def weights_of(architecture: str, size: int, path: Path, name: str = "toy") -> Path:
    encoder = architectures.build(architecture, InputContract(size))
    facts = card(name=name, architecture=architecture, dimension=encoder.dimension, contract=InputContract(size))
    save_weights(path, encoder.backbone.state_dict(), facts)
    return path


def measured(weights: Path, **options: object) -> Metrics:
    metrics = weights.parent / "cost.json"
    known = {"dataset": "toy", "metrics": metrics, "batch_size": 4, "batches": 2}
    cost.main(flags({"weights": weights, **known, **options}))
    return read_metrics(metrics)


def test_metrics_tell_what_was_measured(weights: Path, tmp_path: Path) -> None:
    copied = tmp_path / "weights.safetensors"
    copied.write_bytes(weights.read_bytes())
    found = measured(copied)
    assert found.units == {"parameters": "M", "flops": "G", "dimension": "", "size": "px", "images_per_s": "images/s"}
    assert found.values.keys() == found.units.keys()
    assert found.values["images_per_s"] > 0
    assert found.values["dimension"] == 64
    assert (found.evaluation, found.dataset, found.encoder["name"]) == ("cost", "toy", "toy")
    assert found.notes == {"device": cost.name_of(torch.device("cuda" if torch.cuda.is_available() else "cpu"))}
    assert found.protocol.startswith("the backbone at its own image size;")
    assert found.values["size"] == 32
    assert "of 4 images, float32, the median of 2" in found.protocol


def test_the_speed_of_its_training_is_its_median_epochs(tmp_path: Path) -> None:
    weights = weights_of("resnet18_x0.125", 16, tmp_path / "weights.safetensors")
    heading = "epoch,loss,learning_rate,images_per_second,waiting_share\n"
    history = tmp_path / "history.csv"
    history.write_text(heading + "1,0.5,0.1,70.0,0.1\n2,0.4,0.1,300.5,0.1\n3,0.3,0.1,200.0,0.1\n")
    found = measured(weights, history=history)
    assert found.values["training_images_per_s"] == 200.0
    assert found.units["training_images_per_s"] == "images/s"
    history.write_text(heading)  # of an encoder that was not trained
    assert "training_images_per_s" not in measured(weights, history=history).values
    history.write_text(heading + "1,0.5,0.1,,0.1\n")
    with pytest.raises(UserError, match=r"history\.csv: not a whole history \(could not convert"):
        measured(weights, history=history)
    history.write_text("{}")
    with pytest.raises(UserError, match=r"history\.csv: lacks some of the columns images_per_second; expected what"):
        measured(weights, history=history)


def test_a_student_is_compared_with_its_teacher_each_at_its_own_size(tmp_path: Path) -> None:
    student = weights_of("resnet18_x0.125", 32, tmp_path / "student.safetensors", name="student")
    teacher = weights_of("resnet18_x0.25", 64, tmp_path / "teacher.safetensors", name="teacher")
    alone = [measured(path).values for path in (student, teacher)]
    found = measured(student, teacher=teacher)
    assert found.encoder["name"] == "student"
    assert found.protocol == measured(teacher).protocol, "or they could not stand in one table"
    for key, name in (("parameters", "parameter_ratio"), ("flops", "flops_ratio")):
        assert found.values[name] == pytest.approx(alone[1][key] / alone[0][key])
        assert found.units[name] == ""
    # Twice the width is four times the weights of most layers; twice the size, four times the positions.
    assert 3.5 < found.values["parameter_ratio"] < 4
    assert 10 < found.values["flops_ratio"] < 16


def test_only_the_speed_differs_from_one_time_to_the_next(tmp_path: Path) -> None:
    weights = weights_of("resnet18_x0.125", 16, tmp_path / "weights.safetensors")
    first, second = (
        {name: value for name, value in measured(weights).values.items() if name != "images_per_s"} for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_speed_is_measured_in_the_numbers_asked_for(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    forward = Encoder.forward

    def noting(self: Encoder, images: Tensor) -> Tensor:
        embeddings = forward(self, images)
        seen.add((images.dtype, len(images), embeddings.dtype, embeddings.requires_grad))
        return embeddings

    weights = weights_of("resnet18_x0.125", 16, tmp_path / "weights.safetensors")
    monkeypatch.setattr(Encoder, "forward", noting)
    found = measured(weights, dtype=dtype)
    half = getattr(torch, dtype)
    assert seen == {(torch.float32, 1, torch.float32, False), (half, 4, half, False)}
    assert found.options["dtype"] == dtype


def test_the_speed_is_of_the_median_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that says how long each batch took: three to warm up, then 1, 4 and 2 seconds."""
    took = [100.0, 100.0, 100.0, 1.0, 4.0, 2.0]
    ticks = [tick for seconds in took for tick in (0.0, seconds)]
    monkeypatch.setattr(cost.time, "perf_counter", lambda: ticks.pop(0))
    options = cost.Options(batch_size=8, batches=3)
    encoder = architectures.build("resnet18_x0.125", InputContract(16))
    assert cost.speed(encoder, torch.device("cpu"), options) == 4.0
    assert ticks == []
    assert not any(module.training for module in encoder.modules()), "a forward pass in evaluation"


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batches": 0}])
def test_options_below_one_are_refused(weights: Path, tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="is 0; expected at least 1"):
        measured(weights, metrics=tmp_path / "cost.json", **options)
    assert not (tmp_path / "cost.json").exists()

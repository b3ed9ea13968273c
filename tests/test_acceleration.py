"""bfloat16 and compiled passes: the same numbers but for rounding, the same weights' names, and what stays exact."""

import functools
import importlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stages import architectures, distill, pretrain
from stages.artifacts.weights import InputContract, load_weights
from stages.errors import UserError
from stages.training.acceleration import accelerate
from stages.training.momentum import ema_update, frozen
from stages.training.recipe import TrainingRecipe
from tests.training_fixtures import ARCHITECTURE, Training

pytest_plugins = ["tests.training_fixtures"]

SIZE = 32


def encoder_of(recipe: TrainingRecipe) -> architectures.Encoder:
    torch.manual_seed(0)
    encoder = architectures.build("resnet18_x0.25", InputContract(SIZE))
    accelerate(encoder, recipe)
    return encoder


def images() -> Tensor:
    return torch.rand(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def gradients(encoder: architectures.Encoder) -> Tensor:
    encoder(images()).square().sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in encoder.parameters() if parameter.grad is not None])


@pytest.mark.parametrize(
    "recipe",
    [
        TrainingRecipe(bfloat16=True),
        pytest.param(
            TrainingRecipe(compile=True),
            marks=pytest.mark.skipif(not shutil.which("g++"), reason="compiling for a CPU needs g++"),
        ),
    ],
    ids=["bfloat16", "compiled"],
)
def test_embeddings_and_gradients_are_the_plain_ones_but_for_rounding(recipe: TrainingRecipe) -> None:
    plain, other = encoder_of(TrainingRecipe()), encoder_of(recipe)
    expected, found = plain(images()), other(images())
    assert found.dtype is torch.float32
    # bfloat16 keeps 8 significant bits, and twenty layers of batch norms over few values lose some of them.
    bound = 0.15 if recipe.bfloat16 else 1e-4
    assert 0 < float((found - expected).detach().norm() / expected.detach().norm()) < bound
    first, second = gradients(plain), gradients(other)
    assert float(torch.cosine_similarity(first, second, dim=0)) > 1 - bound
    assert all(parameter.dtype is torch.float32 for parameter in other.parameters())


def test_a_smaller_batch_has_a_graph_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the graph of a second size would have taken over the first size's batches too."""
    graphs: list[torch.fx.GraphModule] = []
    ran: list[set[int]] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        number = len(graphs)
        graphs.append(graph)

        def run(*inputs: object) -> object:
            ran[-1].add(number)
            return graph(*inputs)

        return run

    compiled = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", functools.partialmethod(compiled, backend=backend))
    encoder = encoder_of(TrainingRecipe(compile=True))
    for count in (8, 8, 5, 8):
        ran.append(set())
        encoder(images()[:count])
    assert ran[0] == ran[1] == ran[3]
    assert ran[0]
    assert not ran[0] & ran[2]


def test_the_names_of_weights_and_what_is_copied_stay() -> None:
    encoder = encoder_of(TrainingRecipe(bfloat16=True, compile=True))
    assert encoder.state_dict().keys() == encoder_of(TrainingRecipe()).state_dict().keys()
    average = frozen(encoder)
    assert average.autocast
    ema_update(average, encoder, 0.5)


def test_without_it_nothing_is_rounded() -> None:
    assert torch.equal(encoder_of(TrainingRecipe())(images()), encoder_of(TrainingRecipe())(images()))
    exact = encoder_of(TrainingRecipe()).double()
    assert exact(images().double()).dtype is torch.float64


@pytest.mark.parametrize(
    ("program", "options", "encoders"),
    [
        ("pretrain", {"method": "supervised"}, 1),
        # The student, and the teacher that sees what it sees.
        ("distill", {"method": "regression"}, 2),
        # Student and teacher, each with its moving average.
        ("distill_online", {"method": "simdis-on", "teacher_name": "big", "teacher_architecture": ARCHITECTURE}, 4),
    ],
)
def test_the_programs_compile_all_their_encoders_when_they_are_told_to(
    program: str,
    options: dict[str, object],
    encoders: int,
    small_splits: tuple[Path, Path],
    untrained_teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **_: compiled.append(module))
    teacher = {"teacher_weights": untrained_teacher} if program == "distill" else {}
    training = Training(tmp_path, program, {"train": small_splits[0], "epochs": 0, **options, **teacher})
    for wanted, count in (("false", 0), ("true", encoders)):
        importlib.import_module(f"stages.{program}").main(training.within(tmp_path / wanted, compile=wanted).argv)
        assert len(compiled) == count
    assert all(isinstance(module, architectures.Backbone) for module in compiled)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_bfloat16_is_refused_without_a_gpu(small_splits: tuple[Path, Path], tmp_path: Path) -> None:
    training = Training(tmp_path, "pretrain", {"method": "supervised", "train": small_splits[0], "bfloat16": "true"})
    with pytest.raises(UserError, match="--bfloat16 is true, but this machine has no GPU"):
        pretrain.main(training.argv)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="bfloat16 is for GPUs")
@pytest.mark.parametrize("program", ["pretrain", "distill"])
def test_the_programs_train_in_bfloat16_when_they_are_told_to(
    program: str, small_splits: tuple[Path, Path], untrained_teacher: Path, tmp_path: Path
) -> None:
    options = {"train": small_splits[0], "epochs": 1, "batch_size": 51, "learning_rate": 0.01}
    teacher = {"method": "regression", "teacher_weights": untrained_teacher}
    options |= {"method": "supervised"} if program == "pretrain" else teacher
    plain = Training(tmp_path / "plain", program, options)
    rounded = plain.within(tmp_path / "rounded", bfloat16="true")
    for training in (plain, rounded):
        (pretrain if program == "pretrain" else distill).main(training.argv)
    (first, _), (second, _) = load_weights(plain.weights), load_weights(rounded.weights)
    assert not torch.equal(first["conv1.weight"], second["conv1.weight"])
    for key, value in second.items():
        torch.testing.assert_close(value, first[key], rtol=0.1, atol=0.05)

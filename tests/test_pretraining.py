"""Pretraining without a teacher: SimCLR against its formula, the supervised baseline, and no training at all."""

import copy
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from stages import architectures, plugins, pretrain, pretraining
from stages.artifacts.weights import InputContract, load_weights
from stages.datasets.packed import read_pack, write_packs
from stages.datasets.sources import Split
from stages.errors import UserError
from stages.pretraining import simclr, supervised
from stages.training.batches import Batch
from stages.training.position import first_position, permutation, seed_here
from tests.training_fixtures import ARCHITECTURE, DIMENSION, SIZE, FlatStudent, Training, batch_of, images_seeded

pytest_plugins = ["tests.training_fixtures"]


def encoder() -> architectures.Encoder:
    torch.manual_seed(0)
    return architectures.build(ARCHITECTURE, InputContract(SIZE))


def two_views(first: Tensor, second: Tensor) -> Batch:
    rows = torch.arange(len(first))
    return Batch(views=(first, second), indices=rows, labels=rows)


def naive_nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Equation 1 of the SimCLR paper, written out in float64 over all 2N views."""
    views = F.normalize(torch.cat([first, second]).double())
    total = torch.zeros((), dtype=torch.float64)
    for own in range(len(views)):
        partner = (own + len(first)) % len(views)
        similarities = {other: torch.dot(views[own], views[other]) / temperature for other in range(len(views))}
        others = torch.stack([value for other, value in similarities.items() if other != own])
        total = total - similarities[partner] + torch.logsumexp(others, dim=0)
    return total / len(views)


@settings(deadline=None, max_examples=30)
@given(batch=st.integers(2, 9), temperature=st.floats(0.05, 1), seed=st.integers(0, 2**31))
def test_simclrs_loss_is_the_papers(batch: int, temperature: float, seed: int) -> None:
    objective = simclr.SimCLR(FlatStudent(12), simclr.Options(temperature=temperature), 10)  # type: ignore[arg-type]
    objective.head = nn.Identity()  # type: ignore[assignment]
    first, second = (images_seeded(seed + view, batch, 2) - 0.5 for view in range(2))
    expected = naive_nt_xent(first.flatten(1), second.flatten(1), temperature)
    torch.testing.assert_close(objective(two_views(first, second)).double(), expected, rtol=1e-4, atol=1e-5)


def test_simclrs_gradient_is_that_of_its_formula() -> None:
    objective = simclr.SimCLR(encoder(), simclr.Options(projection_dimension=7), 10).train()
    naive = copy.deepcopy(objective)
    first, second = images_seeded(0, 6), images_seeded(1, 6)
    objective(two_views(first, second)).backward()
    # Both views are one batch to the batch norms.
    projections = naive.head(naive.encoder(torch.cat([first, second])))
    naive_nt_xent(projections[:6], projections[6:], 0.1).backward()
    for found, expected in zip(objective.parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-4)


def test_simclr_projects_to_the_dimension_that_is_asked_for() -> None:
    objective = simclr.SimCLR(encoder(), simclr.Options(projection_dimension=7), 10)
    assert objective.head(torch.rand(4, DIMENSION)).shape == (4, 7)


def test_the_supervised_loss_is_the_cross_entropy_of_a_linear_classifier() -> None:
    objective = supervised.Supervised(encoder(), supervised.Options(), 10).train()
    images, labels = images_seeded(0, 6), torch.tensor([3, 1, 4, 1, 5, 9])
    logits = copy.deepcopy(objective.encoder)(images) @ objective.classifier.weight.T + objective.classifier.bias
    expected = -torch.stack([row.log_softmax(0)[label] for row, label in zip(logits.double(), labels, strict=True)])
    found = objective(batch_of(images, labels=labels))
    torch.testing.assert_close(found.double(), expected.mean(), rtol=1e-5, atol=1e-6)
    found.backward()
    assert all(parameter.grad is not None for parameter in objective.parameters())


def test_dropout_is_where_torchvision_has_it_in_alexnet() -> None:
    alexnet = architectures.build("alexnet", InputContract(64))
    objective = supervised.Supervised(alexnet, supervised.Options(dropout=0.5), 10).train()
    reference = torchvision.models.alexnet(num_classes=10, dropout=0.5).train()
    reference.load_state_dict(
        alexnet.backbone.state_dict()
        | {f"classifier.6.{name}": value for name, value in objective.classifier.state_dict().items()}
    )
    images, labels = torch.rand(6, 3, 64, 64), torch.tensor([3, 1, 4, 1, 5, 9])
    batch = Batch(views=(images,), indices=labels, labels=labels)
    losses = []
    for _ in range(2):
        torch.manual_seed(len(losses))
        losses.append(objective(batch))
        torch.manual_seed(len(losses) - 1)
        expected = F.cross_entropy(reference((images - alexnet.mean) / alexnet.std), labels)
        torch.testing.assert_close(losses[-1], expected, rtol=1e-4, atol=1e-5)
    assert losses[0] != losses[1]
    torch.testing.assert_close(objective.eval()(batch), objective(batch), rtol=0, atol=0)


def test_dropout_is_before_the_classifier_of_an_architecture_without_its_own() -> None:
    objective = supervised.Supervised(encoder(), supervised.Options(dropout=0.2), 10).train()
    seen: list[Tensor] = []
    objective.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    objective.encoder.register_forward_hook(lambda _, __, outputs: seen.append(outputs))
    objective(batch_of(images_seeded(0, 64), labels=torch.zeros(64, dtype=torch.long)))
    embeddings, dropped = seen
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], embeddings[kept] / 0.8)
    assert 0.15 < (~kept & (embeddings != 0)).sum() / (embeddings != 0).sum() < 0.25


def test_the_supervised_recipe_is_torchvisions_reference_for_resnet18() -> None:
    """The defaults of its references/classification/train.py on eight GPUs, with 32 images each."""
    options = supervised.Options()
    assert (options.epochs, options.batch_size, options.optimizer) == (90, 8 * 32, "sgd")
    assert (options.learning_rate, options.sgd_momentum, options.weight_decay) == (0.1, 0.9, 1e-4)
    assert (options.schedule, options.milestones, options.gamma) == ("step", (30, 60), 0.1)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_cannot_be_dropped_is_refused(share: float) -> None:
    with pytest.raises(UserError, match=r"--dropout is .*; expected 0 or more, below 1"):
        supervised.Options(dropout=share)


def test_supervision_by_images_without_labels_is_refused(tmp_path: Path, small_splits: tuple[Path, Path]) -> None:
    pack = read_pack(small_splits[0])
    images = [pack.encoded(index).tobytes() for index in range(6)]
    split = Split(pack.classes, np.array([0, 1, -1, 2, -1, 3]), images)
    write_packs({tmp_path / "train.h5": ("train", split)}, name="digits", source="digits")
    training = Training(tmp_path, "pretrain", {"method": "supervised", "train": tmp_path / "train.h5"})
    with pytest.raises(UserError, match=r"train\.h5: 2 of 6 images of digits have no label"):
        pretrain.main(training.argv)


@pytest.mark.parametrize(
    ("program", "options"),
    [
        ("pretrain", {"method": "untrained"}),
        ("distill_online", {"method": "simdis-on", "teacher_name": "big", "teacher_architecture": ARCHITECTURE}),
    ],
)
def test_nothing_learns_from_val(
    program: str, options: dict[str, str], small_splits: tuple[Path, Path], tmp_path: Path
) -> None:
    """What is measured on it would be too good, and nothing would say so."""
    training = Training(tmp_path, program, {**options, "train": small_splits[1]})
    with pytest.raises(UserError, match=r"val\.h5: holds the val split; expected the train split"):
        importlib.import_module(f"stages.{program}").main(training.argv)
    assert not list(tmp_path.iterdir())


def test_untrained_writes_the_initial_weights_and_an_empty_history(
    small_splits: tuple[Path, Path], tmp_path: Path
) -> None:
    training = Training(tmp_path, "pretrain", {"method": "untrained", "train": small_splits[0], "seed": 3})
    pretrain.main(training.argv)
    seed_here(*first_position(3, 0))
    expected = architectures.build(ARCHITECTURE, InputContract(SIZE)).backbone.state_dict()
    state, card = load_weights(training.weights)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert training.history.read_text() == "epoch,loss,learning_rate,images_per_second,waiting_share\n"
    assert card.origin == {"way": "pretrain", "method": "untrained", "dataset": "digits", "seed": 3}
    assert not training.checkpoint.parent.exists()


def test_the_programs_seed_is_that_of_the_order_of_its_images(
    small_splits: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    loss = supervised.Supervised.forward

    def noting(self: supervised.Supervised, batch: Batch) -> torch.Tensor:
        seen.append(batch.indices.tolist())
        return loss(self, batch)

    monkeypatch.setattr(supervised.Supervised, "forward", noting)
    options = {"method": "supervised", "train": small_splits[0], "epochs": 2, "batch_size": 153, "seed": 3}
    pretrain.main(Training(tmp_path, "pretrain", options).argv)
    assert seen == [permutation(153, 3, epoch) for epoch in range(2)]


def test_a_label_stands_for_the_method_in_tables(small_splits: tuple[Path, Path], tmp_path: Path) -> None:
    options = {"method": "untrained", "train": small_splits[0], "label": "random-features"}
    training = Training(tmp_path, "pretrain", options)
    pretrain.main(training.argv)
    assert load_weights(training.weights)[1].origin["method"] == "random-features"


@pytest.mark.parametrize("method", ["simclr", "supervised"])
def test_the_head_is_thrown_away(method: str, small_splits: tuple[Path, Path], tmp_path: Path) -> None:
    options = {"train": small_splits[0], "epochs": 1, "batch_size": 64, "learning_rate": 0.01, "warmup_epochs": 0}
    training = Training(tmp_path, "pretrain", {"method": method, **options})
    pretrain.main(training.argv)
    state, card = load_weights(training.weights)
    assert set(state) == set(encoder().backbone.state_dict())
    assert card.dimension == DIMENSION
    assert card.contract == InputContract(SIZE)


def test_the_methods_are_the_files() -> None:
    files = {path.stem for path in Path(str(pretraining.__file__)).parent.glob("*.py")} - {"__init__"}
    assert plugins.names("stages.pretraining") == sorted(name.replace("_", "-") for name in files)
    assert {"simclr", "supervised", "untrained"} <= set(plugins.names("stages.pretraining"))


@pytest.mark.parametrize(("name", "nearest"), [("simcrl", "simclr"), ("supervized", "supervised")])
def test_an_unknown_method_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"unknown method '{name}': did you mean '{nearest}'"):
        plugins.module("stages.pretraining", "method", name)


def test_a_name_like_no_other_lists_what_is_known() -> None:
    with pytest.raises(UserError, match=r"unknown method 'xyzzy': known are .*simclr.*supervised"):
        plugins.module("stages.pretraining", "method", "xyzzy")

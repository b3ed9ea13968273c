"""What holds for every self-supervised method: it learns, by any augmentation, and a killed run ends as an unbroken."""

import os
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stages import architectures, plugins, pretrain, pretraining
from stages.artifacts.weights import InputContract, load_weights
from stages.datasets import augmentations
from stages.datasets.packed import PackedImages
from stages.pretraining.simclr import Options
from stages.training.batches import Batch, steps_per_epoch, stream
from stages.training.checkpoint import Checkpoint
from stages.training.loop import Run, train
from stages.training.position import seed_here
from tests.training_fixtures import ARCHITECTURE, DIMENSION, Training

pytest_plugins = ["tests.training_fixtures"]

SIZE = 32
SMALL: dict[str, dict[str, Any]] = {
    "simclr": {"learning_rate": 0.1},
    # A queue that no epoch fills evenly, so that its position matters.
    "moco-v2": {"learning_rate": 0.1, "queue_length": 101, "momentum": 0.9},
    "swav": {
        "learning_rate": 0.1,
        "small_crops": 2,
        "prototypes": 30,
        "epsilon": 0.1,
        "freeze_prototypes_steps": 5,
        "queue_length": 50,
        "queue_start_epoch": 1,
        "hidden_dimension": 64,
    },
    "byol": {"learning_rate": 0.1, "momentum": 0.9, "hidden_dimension": 128, "projection_dimension": 32},
}
RECIPE = {"epochs": 3, "batch_size": 32, "optimizer": "sgd", "weight_decay": 1e-4, "warmup_epochs": 0}


def objective(method: str, seed: int = 0, **changes: Any) -> pretraining.Pretraining:
    module = plugins.module("stages.pretraining", "method", method)
    seed_here(seed)
    encoder = architectures.build(ARCHITECTURE, InputContract(SIZE))
    return plugins.class_in(module, pretraining.Pretraining)(
        encoder, module.Options(**{**RECIPE, **SMALL[method], **changes}), 10
    )


def trained(
    found: pretraining.Pretraining, pack: PackedImages, name: str, folder: Path, terminate_at: int | None = None
) -> list[dict[str, float]]:
    """Train to the end, or until this process is asked to terminate in a step counted from where the training is."""
    augmentation = augmentations.named(name, SIZE)
    recipe, device = found.options, torch.device("cpu")
    run = Run(recipe, 0, steps_per_epoch(len(pack), recipe), device, Checkpoint(folder, "key"), 1e9)
    seen = 0

    def prepare(batch: Batch) -> Batch:
        nonlocal seen
        seen += 1
        if seen == terminate_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch.augmented(augmentation, device)

    return train(
        found,
        run,
        lambda first: stream(pack, augmentation, recipe, views=found.views, seed=0, workers=0, first=first),
        prepare,
        "a test",
    )


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
@pytest.mark.parametrize("method", SMALL)
def test_a_killed_run_ends_with_the_state_of_an_unbroken_one(
    method: str, optimizer: str, small_pack: PackedImages, tmp_path: Path
) -> None:
    unbroken = objective(method, optimizer=optimizer)
    expected = trained(unbroken, small_pack, "moco-v2", tmp_path / "unbroken")
    # In the second of three epochs of four steps. Going on, nothing is left of the initialisation: its seed is another.
    with pytest.raises(SystemExit):
        trained(objective(method, optimizer=optimizer), small_pack, "moco-v2", tmp_path / "killed", terminate_at=7)
    continued = objective(method, seed=1, optimizer=optimizer)
    history = trained(continued, small_pack, "moco-v2", tmp_path / "killed")
    found = continued.state_dict()
    for name, value in unbroken.state_dict().items():
        assert torch.equal(found[name], value), name
    assert [row["loss"] for row in history] == [row["loss"] for row in expected]


LEARNING: dict[str, dict[str, Any]] = {
    "simclr": {"epochs": 10},
    # Keys that follow faster are all alike in the end, as in the paper's ablation of the momentum.
    "moco-v2": {
        "epochs": 20,
        "optimizer": "lars",
        "learning_rate": 6.0,
        "temperature": 0.1,
        "momentum": 0.99,
        "queue_length": 37,
    },
    # Softer codes are all alike in the end at this batch size, as the authors' README warns.
    "swav": {"epochs": 10, "optimizer": "lars", "learning_rate": 2.0, "epsilon": 0.01, "queue_length": 0},
    "byol": {"epochs": 10, "optimizer": "lars", "learning_rate": 2.0},
}
"""What lowers the loss in a few dozen steps."""


@pytest.mark.parametrize(
    ("method", "augmentation"),
    [*((method, "affine-elastic") for method in SMALL), *((method, method) for method in SMALL)],
)
def test_the_loss_falls(method: str, augmentation: str, small_pack: PackedImages, tmp_path: Path) -> None:
    found = objective(method, **LEARNING[method])
    losses = [row["loss"] for row in trained(found, small_pack, augmentation, tmp_path)]
    # From the third epoch on: before, memory banks hold noise, and targets what they were initialised with.
    assert statistics.mean(losses[-2:]) < statistics.mean(losses[2:4]) - 0.03, losses


@pytest.mark.parametrize("method", SMALL)
def test_the_stage_trains_by_the_methods_own_augmentation(
    method: str, small_splits: tuple[Path, Path], tmp_path: Path
) -> None:
    options = {**RECIPE, **SMALL[method], "method": method, "train": small_splits[0], "augmentation": method}
    training = Training(tmp_path, "pretrain", {**options, "size": SIZE, "epochs": 1, "optimizer": "lars"})
    pretrain.main(training.argv)
    state, card = load_weights(training.weights)
    start: dict[str, Tensor] = objective("simclr").encoder.backbone.state_dict()
    assert state.keys() == start.keys()
    assert (card.dimension, card.origin["method"]) == (DIMENSION, method)
    assert len(training.losses()) == 2


def test_simclrs_defaults_are_the_papers() -> None:
    options = Options()
    assert (options.epochs, options.batch_size, options.warmup_epochs, options.schedule) == (100, 4096, 10, "cosine")
    assert (options.optimizer, options.exclude_norm_and_bias, options.weight_decay) == ("lars", True, 1e-6)
    assert options.learning_rate == pytest.approx(0.3 * 4096 / 256)
    assert (options.temperature, options.projection_dimension) == (0.1, 128)

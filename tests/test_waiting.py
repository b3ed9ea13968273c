"""A step gives the device its work and waits for none of it: on a device without values, to read one is an error."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stages import plugins
from stages.artifacts.embeddings import read_embeddings
from stages.datasets import augmentations
from stages.probing.features import Cached
from stages.probing.heads import Heads, statistics_of
from stages.probing.layers import LayerProbes, Layers
from stages.probing.presets import PRESETS
from stages.similarity import fused
from stages.training.batches import Batch
from stages.training.objective import Objective
from stages.training.recipe import Recipe
from tests.test_distillation import SIZE, TEACHER, encoder, learns_from, objective_of
from tests.test_self_supervised import SMALL
from tests.test_self_supervised import objective as pretraining_of
from tests.training_fixtures import learns_clusters

pytest_plugins = ["tests.training_fixtures"]

COUNT = 8
META = torch.device("meta")


class Copies(TorchDispatchMode):
    """Notes the copies from the CPU to the device that the CPU waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[Any] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        keywords = keywords or {}
        copied = function is torch.ops.aten._to_copy.default and arguments[0].device != META
        if copied and keywords.get("device") == META and not keywords.get("non_blocking"):
            self.waited.append(arguments[0].shape)
        return function(*arguments, **keywords)


def copies_waited_for(objective: Objective, size: int, teacher: Tensor | None) -> list[Any]:
    """Those of two steps on random views."""
    views = tuple(torch.empty(COUNT, 3, size, size, device=META) for _ in range(objective.views))
    labels = torch.empty(COUNT, dtype=torch.long, device=META)
    batch = Batch(views, torch.arange(COUNT), labels, teacher)
    return waited_for_in_steps(objective, objective.options, lambda: batch)


def waited_for_in_steps(objective: Objective, recipe: Recipe, prepared: Callable[[], Batch]) -> list[Any]:
    """Those of two steps as the loop takes them, the first of an epoch of three."""
    objective.to(META).train()
    optimizer = objective.optimizer(recipe)
    with Copies() as copies:
        for step in range(2):
            objective.before_step(optimizer, recipe, step, 3)
            loss = objective(prepared())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            objective.after_step((step + 1) / 3)
    return copies.waited


@pytest.mark.parametrize("name", ["moco-v2", "simclr", "swav", "byol"])
def test_an_augmentation_copies_its_draws_without_waiting(name: str) -> None:
    augmentation = augmentations.named(name, 28)
    images = torch.empty(32, 3, 28, 28, device=META)
    augmentation.batch(images)  # The constants are made.
    with Copies() as copies:
        for view in range(2):
            augmentation.batch(images, view)
    assert not copies.waited


@pytest.mark.parametrize("method", plugins.names("stages.distillation"))
def test_a_step_of_distillation_reads_nothing_from_the_device(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # This device has none, and nothing is computed in it here.
    monkeypatch.setattr(fused.torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    changes = {"warm_start": True} if method.startswith("compress") else {}
    changes |= {"optimizer": "sgd"}
    teacher = torch.empty(COUNT, TEACHER, device=META)
    if learns_clusters(method):
        teacher = torch.empty(COUNT, dtype=torch.long, device=META)
    if learns_from(method) in ("networks", "online"):
        teacher = None
    assert not copies_waited_for(objective_of(method, encoder(), **changes), SIZE, teacher)


def test_a_step_with_the_anchors_of_a_minibatch_reads_nothing_from_the_device() -> None:
    objective = objective_of("compress-2q", encoder(), anchors="minibatch", divergence="squared", optimizer="sgd")
    assert not copies_waited_for(objective, SIZE, torch.empty(COUNT, TEACHER, device=META))


# lightly's loss of simclr chooses by a mask, which is waited for.
@pytest.mark.parametrize("method", sorted({*SMALL} - {"simclr"}))
def test_a_step_of_pretraining_reads_nothing_from_the_device(method: str) -> None:
    changes = {"queue_length": COUNT, "queue_start_epoch": 0, "freeze_prototypes_steps": 1} if method == "swav" else {}
    assert not copies_waited_for(pretraining_of(method, **changes), 32, None)


def test_a_step_of_linear_probes_reads_nothing_from_the_device(teacher_cache: Path) -> None:
    cache = read_embeddings(teacher_cache)
    heads, features = Heads(list(PRESETS.values()), statistics_of(cache), cache, 0), Cached(cache, META)
    (batch,) = features.batches(range(COUNT), Recipe(epochs=1), 0, 0)
    assert not waited_for_in_steps(heads, Recipe(), lambda: features.prepare(batch))


def test_a_step_of_layer_probes_reads_nothing_from_the_device() -> None:
    probed = encoder()
    probes = LayerProbes(Layers(probed, (), "resnet18"), 10, 0)
    probed.to(META)
    batch = Batch((torch.empty(COUNT, 3, SIZE, SIZE, device=META),), torch.arange(COUNT), torch.zeros(COUNT).long())
    assert not waited_for_in_steps(probes, Recipe(), lambda: batch.to(META))

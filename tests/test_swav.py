"""SwAV: swapped prediction with codes from a Sinkhorn algorithm written out in float64; prototypes, queue, crops."""

import copy
import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stages import architectures
from stages.artifacts.weights import InputContract
from stages.errors import UserError
from stages.pretraining.swav import Options, SwAV
from stages.training.batches import Batch
from tests.training_fixtures import ARCHITECTURE, SIZE, images_seeded

BATCH = 6
SMALL = 8
OPTIONS = Options(
    epochs=4,
    optimizer="sgd",
    learning_rate=0.1,
    warmup_epochs=0,
    batch_size=BATCH,
    small_crops=2,
    prototypes=9,
    freeze_prototypes_steps=0,
    hidden_dimension=32,
    projection_dimension=8,
)


def objective(**changes: object) -> SwAV:
    torch.manual_seed(0)
    encoder = architectures.build(ARCHITECTURE, InputContract(SIZE))
    return SwAV(encoder, dataclasses.replace(OPTIONS, **changes), 10).train()  # type: ignore[arg-type]


def batch_seeded(seed: int, small: int = 2, count: int = BATCH) -> Batch:
    rows = torch.arange(count)
    sizes = [SIZE] * 2 + [SMALL] * small
    views = tuple(images_seeded(10 * seed + view, count, size) for view, size in enumerate(sizes))
    return Batch(views=views, indices=rows, labels=rows)


def naive_codes(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The authors' Sinkhorn algorithm, an entry at a time: prototypes used equally, then images counted equally."""
    images, prototypes = scores.shape
    codes = (scores.detach().double() / epsilon).exp().tolist()
    for _ in range(iterations):
        used = [sum(row[prototype] for row in codes) for prototype in range(prototypes)]
        codes = [[value / use / prototypes for value, use in zip(row, used, strict=True)] for row in codes]
        codes = [[value / sum(row) / images for value in row] for row in codes]
    return torch.tensor([[value / sum(row) for value in row] for row in codes], dtype=torch.float64)


def naive_loss(scores: list[Tensor], options: Options, queued: list[Tensor] | None = None) -> Tensor:
    """Mean over the two full crops' codes of the mean over all other crops' cross entropies with them."""
    total = torch.zeros((), dtype=torch.float64)
    for own in range(2):
        known = scores[own] if queued is None else torch.cat([queued[own], scores[own]])
        codes = naive_codes(known, options.epsilon, options.sinkhorn_iterations)[-len(scores[own]) :]
        for other, predicted in enumerate(scores):
            if other != own:
                logs = torch.log_softmax(predicted.double() / options.temperature, dim=1)
                total = total - (codes * logs).sum() / len(logs) / (len(scores) - 1) / 2
    return total


def embeddings_of(found: SwAV, batch: Batch) -> list[Tensor]:
    """Those of every view, with the batches that the authors' network makes: one for each resolution."""
    full = found.encoder(torch.cat(batch.views[:2]))
    small = [found.encoder(torch.cat(batch.views[2:]))] if len(batch.views) > 2 else []
    return list(F.normalize(found.head(torch.cat([full, *small]))).split(BATCH))


def scores_of(found: SwAV, batch: Batch) -> list[Tensor]:
    """Every view against the prototypes."""
    return [embeddings @ found.prototypes.weight.T for embeddings in embeddings_of(found, batch)]


@pytest.mark.parametrize("changes", [{}, {"small_crops": 0}, {"temperature": 0.3, "epsilon": 0.2}, {"prototypes": 30}])
def test_the_loss_and_its_gradient_are_the_papers(changes: dict[str, object]) -> None:
    found = objective(**changes)
    naive, batch = copy.deepcopy(found), batch_seeded(0, found.options.small_crops)
    loss, expected = found(batch), naive_loss(scores_of(naive, batch), found.options)
    assert loss.ndim == 0
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-5)
    loss.backward()
    expected.backward()
    for one, other in zip(found.parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=5e-3, atol=2e-4)


def test_codes_use_all_prototypes_equally_in_the_end() -> None:
    scores = F.normalize(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)))
    codes = naive_codes(scores, 0.5, 50)
    torch.testing.assert_close(codes.sum(dim=0), torch.full((8,), 5.0, dtype=torch.float64), rtol=1e-6, atol=0)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(40, dtype=torch.float64))


def stepped(found: SwAV, numbers: range, steps: int = 100, *, fused: bool = False) -> None:
    optimizer = found.optimizer(found.options)
    for group in optimizer.param_groups:
        group["fused"] = fused
    for number in numbers:
        found.before_step(optimizer, found.options, number, steps_per_epoch=steps)
        optimizer.zero_grad()
        found(batch_seeded(number)).backward()
        optimizer.step()
        found.after_step((number + 1) / steps)


def test_prototypes_are_unit_vectors_at_the_start_and_after_each_step() -> None:
    found = objective()
    torch.testing.assert_close(found.prototypes.weight.norm(dim=1), torch.ones(9))
    stepped(found, range(2))
    torch.testing.assert_close(found.prototypes.weight.norm(dim=1), torch.ones(9))


def test_prototypes_are_frozen_for_the_first_steps_and_trained_after_them() -> None:
    found = objective(freeze_prototypes_steps=3)
    start = found.prototypes.weight.detach().clone()
    stepped(found, range(3))
    # Neither gradient nor decay nor momentum: only that unit vectors are made unit vectors again.
    torch.testing.assert_close(found.prototypes.weight.detach(), start, rtol=0, atol=1e-6)
    stepped(found, range(3, 4))
    assert (found.prototypes.weight - start).abs().max() > 1e-4


def test_prototypes_thaw_under_the_fused_sgd_as_under_the_plain_one() -> None:
    """The fused form is that of GPUs, which takes momenta for all parameters of a group or for none."""
    plain, fused = (objective(freeze_prototypes_steps=2) for _ in range(2))
    stepped(plain, range(4))
    stepped(fused, range(4), fused=True)
    for one, other in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_the_queue_fills_from_its_epoch_on_and_is_used_once_full() -> None:
    # Four epochs of five steps; two batches fill the queue, in the first two steps of the third epoch.
    found = objective(queue_length=2 * BATCH, queue_start_epoch=2)
    optimizer = found.optimizer(found.options)
    written: list[list[Tensor]] = [[], []]
    for step in range(16):
        naive, batch = copy.deepcopy(found), batch_seeded(step)
        loss, embeddings = found(batch), embeddings_of(naive, batch)
        scores = [each @ naive.prototypes.weight.T for each in embeddings]
        queued = None
        if step >= 12:
            queued = [torch.cat(each[-2:]) @ naive.prototypes.weight.T for each in written]
        torch.testing.assert_close(loss.double(), naive_loss(scores, found.options, queued), rtol=1e-4, atol=1e-4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= 10:
            assert found.queue is not None
            assert found.queue.held is not None
            for each, held, crops in zip(written, found.queue.held.chunk(2, dim=1), embeddings[:2], strict=True):
                torch.testing.assert_close(held, crops.detach(), rtol=1e-4, atol=1e-5)
                each.append(held)
        found.after_step((step + 1) / 20)
        assert found.queue is not None
        assert int(found.queue.written) == max(0, step - 9) * BATCH


def test_without_a_queue_there_is_none_in_the_state() -> None:
    assert not [name for name in objective().state_dict() if "queue" in name]
    assert objective(queue_length=5).state_dict()["queue.embeddings"].shape == (5, 16)


def test_there_are_two_full_views_and_the_small_ones() -> None:
    assert (objective().views, objective(small_crops=0).views) == (4, 2)
    assert SwAV(objective().encoder, Options(), 10).views == 8


def test_the_defaults_are_those_of_the_recipe_for_batches_of_4096() -> None:
    options = Options()
    assert (options.epochs, options.batch_size, options.warmup_epochs, options.schedule) == (200, 4096, 10, "cosine")
    assert (options.optimizer, options.learning_rate, options.weight_decay) == ("lars", 4.8, 1e-6)
    assert (options.prototypes, options.sinkhorn_iterations, options.epsilon) == (3000, 3, 0.05)
    assert (options.temperature, options.freeze_prototypes_steps) == (0.1, 313)
    assert (options.queue_length, options.queue_start_epoch) == (0, 15)
    assert (options.hidden_dimension, options.projection_dimension, options.small_crops) == (2048, 128, 6)
    assert not options.exclude_norm_and_bias


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"epsilon": -1.0}, {"small_crops": -1}, {"prototypes": 1}, {"queue_length": -1}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    flag = next(iter(wrong)).replace("_", "-")
    with pytest.raises(UserError, match=f"^--{flag} is "):
        Options(**wrong)  # type: ignore[arg-type]

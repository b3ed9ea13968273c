"""BYOL: its loss, its target network and the target's momentum, written out in float64."""

import copy
import math

import pytest
import torch
from torch import Tensor

from stages import architectures
from stages.artifacts.weights import InputContract
from stages.errors import UserError
from stages.pretraining.byol import BYOL, Options
from stages.training.batches import Batch
from stages.training.momentum import cosine_momentum, ema_update, frozen_reinitialised
from stages.training.optimizers import optimizer_of
from tests.training_fixtures import ARCHITECTURE, SIZE, batch_seeded, images_seeded

OPTIONS = Options(
    optimizer="sgd", learning_rate=0.05, momentum=0.8, hidden_dimension=32, projection_dimension=8, batch_size=6
)


def objective(options: Options = OPTIONS) -> BYOL:
    torch.manual_seed(0)
    encoder = architectures.build(ARCHITECTURE, InputContract(SIZE))
    return BYOL(encoder, options, 10).train()


def naive_loss(predictions: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Equations 2 of the paper: squared distances of unit vectors, an image at a time, mean over images."""
    total = torch.zeros((), dtype=torch.float64)
    for prediction, target in ((predictions[0], targets[1]), (predictions[1], targets[0])):
        for one, other in zip(prediction.double(), target.detach().double(), strict=True):
            total = total + (one / one.norm() - other / other.norm()).square().sum()
    return total / len(predictions[0])


def test_the_loss_and_its_gradient_are_the_papers() -> None:
    found = objective()
    naive = copy.deepcopy(found)
    batch = batch_seeded(0)
    loss = found(batch)
    predictions = [naive.predictor(naive.projector(naive.encoder(view))) for view in batch.views]
    targets = [naive.target_projector(naive.target_encoder(view)) for view in batch.views]
    expected = naive_loss(predictions, targets)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    assert loss.ndim == 0
    loss.backward()
    expected.backward()
    for (name, one), other in zip(found.named_parameters(), naive.parameters(), strict=True):
        if name.startswith("target"):
            assert one.grad is None
        else:
            torch.testing.assert_close(one.grad, other.grad, rtol=2e-3, atol=1e-4)


def test_the_loss_is_0_when_predictions_are_targets_and_8_when_they_are_opposite() -> None:
    found = objective()
    found.encoder, found.target_encoder = (torch.nn.Flatten() for _ in range(2))  # type: ignore[assignment]
    found.projector, found.target_projector, found.predictor = (torch.nn.Identity() for _ in range(3))  # type: ignore[assignment]
    image = images_seeded(0, 4)
    rows = torch.arange(4)
    alike, opposite = (Batch(views=views, indices=rows, labels=rows) for views in ((image, 2 * image), (image, -image)))
    assert float(found(alike)) == pytest.approx(0, abs=1e-5)
    assert float(found(opposite)) == pytest.approx(8, abs=1e-5)


def test_the_target_follows_by_the_rising_momentum_after_each_step() -> None:
    found = objective()
    optimizer = optimizer_of(found, OPTIONS)
    expected = [parameter.detach().double() for parameter in found.target_encoder.parameters()]
    for step in range(5):
        optimizer.zero_grad()
        found(batch_seeded(step)).backward()
        optimizer.step()
        before = [parameter.clone() for parameter in found.target_encoder.parameters()]
        assert all(torch.equal(*pair) for pair in zip(before, found.target_encoder.parameters(), strict=True))
        found.after_step((step + 1) / 5)
        momentum = 1 - 0.2 * (math.cos(math.pi * (step + 1) / 5) + 1) / 2
        pairs = zip(expected, found.encoder.parameters(), strict=True)
        expected = [momentum * value + (1 - momentum) * online.detach().double() for value, online in pairs]
        for one, other in zip(found.target_encoder.parameters(), expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("progress", "expected"), [(0, 0.996), (0.5, 0.998), (1, 1.0)])
def test_the_momentum_rises_to_1_as_half_a_cosine(progress: float, expected: float) -> None:
    assert cosine_momentum(0.996, progress) == pytest.approx(expected)


def test_the_target_is_initialised_alike_but_differently() -> None:
    found = objective()
    names = dict(found.encoder.named_parameters())
    for name, target in found.target_encoder.named_parameters():
        assert not target.requires_grad
        assert torch.equal(target.flatten().sort().values, names[name].detach().flatten().sort().values)
        # Constants, as the batch norms', have but one order.
        assert torch.equal(target, names[name]) == (target.ndim == 1), name
    assert not torch.equal(found.target_projector.layers[0].weight, found.projector.layers[0].weight)


def test_a_reinitialised_layer_is_unrelated_to_the_first() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(16, 32, 3).to(memory_format=torch.channels_last)
    other = frozen_reinitialised(layer)
    pair = torch.stack([layer.weight.detach().flatten(), other.weight.flatten()])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 4 / math.sqrt(pair.shape[1])
    assert other.weight.is_contiguous(memory_format=torch.channels_last)


def test_each_network_keeps_its_own_statistics_of_both_views() -> None:
    found = objective()
    found(batch_seeded(0))
    statistics = [module.backbone.bn1 for module in (found.encoder, found.target_encoder)]
    assert [int(each.num_batches_tracked) for each in statistics] == [2, 2]
    assert not torch.equal(statistics[0].running_mean, statistics[1].running_mean)
    before = statistics[1].running_mean.clone()
    found.after_step(0.5)
    assert torch.equal(statistics[1].running_mean, before)


def test_its_heads_are_the_projector_and_the_whole_target_network() -> None:
    found = objective()
    parts = {
        "projector": found.projector,
        "target_backbone": found.target_encoder.backbone,
        "target_projector": found.target_projector,
    }
    expected = {f"{name}.{key}": tensor for name, part in parts.items() for key, tensor in part.state_dict().items()}
    heads = found.heads()
    assert heads.keys() == expected.keys()
    assert all(torch.equal(heads[name], expected[name]) for name in expected)
    own = found.encoder.backbone.state_dict()["conv1.weight"]
    assert not torch.equal(heads["target_backbone.conv1.weight"], own)


def test_a_moving_average_is_of_parameters_alone() -> None:
    torch.manual_seed(0)
    average, newest = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    torch.nn.init.constant_(newest.weight, 3.0)
    newest(torch.randn(4, 3))
    ema_update(average, newest, 0.75)
    torch.testing.assert_close(average.weight.detach(), torch.full((3,), 1.5))
    assert torch.equal(average.running_mean, torch.zeros(3))  # type: ignore[arg-type]


def test_the_defaults_are_the_papers() -> None:
    options = Options()
    assert (options.epochs, options.batch_size, options.warmup_epochs, options.schedule) == (1000, 4096, 10, "cosine")
    assert (options.optimizer, options.exclude_norm_and_bias, options.weight_decay) == ("lars", True, 1.5e-6)
    assert options.learning_rate == pytest.approx(0.2 * 4096 / 256)
    assert (options.momentum, options.hidden_dimension, options.projection_dimension) == (0.996, 4096, 256)


@pytest.mark.parametrize("wrong", [{"momentum": 1.1}, {"momentum": -0.1}, {"hidden_dimension": 0}])
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    flag = next(iter(wrong)).replace("_", "-")
    with pytest.raises(UserError, match=f"^--{flag} is "):
        Options(**wrong)  # type: ignore[arg-type]

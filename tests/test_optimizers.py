"""SGD and LARS as a recipe asks for them, against steps written out in float64."""

import pytest
import torch
from torch import Tensor, nn

from stages.training.objective import Objective
from stages.training.optimizers import optimizer_of
from stages.training.recipe import Recipe, learning_rate

RATES = (0.3, 0.2, 0.1, 0.05)
LARS = {"optimizer": "lars", "weight_decay": 0.02, "sgd_momentum": 0.9}


def network() -> nn.Module:
    """Matrices, vectors of both kinds, and a frozen layer."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, 4), nn.Linear(4, 4))
    layers[4].requires_grad_(False)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layers


def gradients(step: int, parameters: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(parameter.shape, generator=generator) for parameter in parameters]


def trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def stepped(module: nn.Module, recipe: Recipe) -> list[Tensor]:
    """The trained parameters after a step at each of the rates, set as the loop sets them."""
    optimizer = optimizer_of(module, recipe)
    for step, rate in enumerate(RATES):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for parameter, gradient in zip(trained(module), gradients(step, trained(module)), strict=True):  # type: ignore[arg-type]
            parameter.grad = gradient
        optimizer.step()
    return [parameter.detach() for parameter in trained(module)]


def written_out(module: nn.Module, recipe: Recipe) -> list[Tensor]:
    """The same steps by You et al.'s formula (LARS) or plain SGD, one parameter at a time in float64."""
    found = []
    for number, parameter in enumerate(trained(module)):
        value = parameter.detach().double()
        velocity = torch.zeros_like(value)
        included = not recipe.exclude_norm_and_bias or value.ndim > 1
        decay = recipe.weight_decay if included else 0.0
        for step, rate in enumerate(RATES):
            gradient = gradients(step, trained(module))[number].double()  # type: ignore[arg-type]
            update = gradient + decay * value
            if recipe.optimizer == "lars" and included:
                update = update * 0.001 * value.norm() / (gradient.norm() + decay * value.norm())
            velocity = recipe.sgd_momentum * velocity + update
            step_by = update + recipe.sgd_momentum * velocity if recipe.nesterov else velocity
            value = value - rate * step_by
        found.append(value)
    return found


RECIPES = {
    "sgd": Recipe(weight_decay=0.02),
    "sgd with Nesterov's momentum": Recipe(weight_decay=0.02, nesterov=True),
    "sgd, vectors without decay": Recipe(weight_decay=0.02, exclude_norm_and_bias=True),
    "lars": Recipe(**LARS),  # type: ignore[arg-type]
    "lars, vectors left out": Recipe(**LARS, exclude_norm_and_bias=True),  # type: ignore[arg-type]
    "lars with another momentum": Recipe(**{**LARS, "sgd_momentum": 0.5}),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_steps_are_those_of_the_formula(name: str) -> None:
    found, expected = stepped(network(), RECIPES[name]), written_out(network(), RECIPES[name])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_what_needs_no_gradient_is_not_optimised(optimizer: str) -> None:
    module = network()
    for excluded in (False, True):
        recipe = Recipe(optimizer=optimizer, exclude_norm_and_bias=excluded)  # type: ignore[arg-type]
        held = [id(each) for group in optimizer_of(module, recipe).param_groups for each in group["params"]]
        assert sorted(held) == sorted(map(id, trained(module)))


def test_excluded_vectors_take_the_plain_step_whatever_their_size_and_the_decay() -> None:
    """Neither decay nor trust ratio: from the same gradients, the change does not depend on the value."""
    small, large = network(), network()
    with torch.no_grad():
        for parameter in large.parameters():
            parameter.mul_(10)
    before = [[parameter.detach().clone() for parameter in trained(module)] for module in (small, large)]
    recipe = Recipe(**LARS, exclude_norm_and_bias=True)  # type: ignore[arg-type]
    after = [stepped(module, recipe) for module in (small, large)]
    changes = [[one - other for one, other in zip(*pair, strict=True)] for pair in zip(after, before, strict=True)]
    for change, scaled in zip(*changes, strict=True):
        # A layer ten times as large is changed about ten times as much: that is what LARS is for.
        expected = change if change.ndim == 1 else 10 * change
        assert (scaled - expected).norm() < (1e-4 if change.ndim == 1 else 0.5) * expected.norm()


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_all_groups_have_the_rate_of_the_step(optimizer: str) -> None:
    """Vectors that are left out of weight decay and a part that is apart are groups of their own."""
    recipe = Recipe(optimizer=optimizer, exclude_norm_and_bias=True, epochs=4, milestones=(1, 3))  # type: ignore[arg-type]
    layers = network()
    found = optimizer_of(layers, recipe, apart=layers.get_submodule("3"))
    assert len(found.param_groups) == 4
    for step in range(8):
        shown = Objective().before_step(found, recipe, step, 2)
        assert {group["lr"] for group in found.param_groups} == {shown} == {learning_rate(recipe, step, 2)}

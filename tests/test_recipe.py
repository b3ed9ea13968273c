"""The learning rate of every step against torch's own schedulers."""

import math
import re
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR, SequentialLR

from stages import plugins
from stages.errors import UserError
from stages.similarity.queue import AnchorQueue
from stages.training.batches import steps_per_epoch
from stages.training.large_batches import LargeBatchRecipe
from stages.training.recipe import Recipe, TrainingRecipe, learning_rate


def rates(recipe: Recipe, steps: int) -> list[float]:
    return [learning_rate(recipe, step, steps) for step in range(recipe.epochs * steps)]


def optimizer_at(rate: float) -> SGD:
    return SGD([torch.zeros(1, requires_grad=True)], lr=rate)


def followed(scheduler: LRScheduler, count: int) -> Iterator[float]:
    """The learning rates of a scheduler that is stepped ``count`` times."""
    for _ in range(count):
        yield scheduler.optimizer.param_groups[0]["lr"]
        scheduler.optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("steps", [1, 3, 7])
@pytest.mark.parametrize("milestones", [(), (4,), (2, 5), (1, 2, 3)])
def test_the_step_schedule_is_that_of_multi_step_lr(milestones: tuple[int, ...], steps: int) -> None:
    recipe = Recipe(epochs=7, learning_rate=0.3, gamma=0.1, milestones=milestones)
    reference = MultiStepLR(optimizer_at(0.3), [milestone * steps for milestone in milestones], gamma=0.1)
    assert rates(recipe, steps) == pytest.approx(list(followed(reference, 7 * steps)), rel=1e-9)


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_the_cosine_schedule_is_that_of_cosine_annealing_lr(steps: int) -> None:
    recipe = Recipe(epochs=7, learning_rate=0.3, schedule="cosine")
    reference = CosineAnnealingLR(optimizer_at(0.3), T_max=7 * steps)
    assert rates(recipe, steps) == pytest.approx(list(followed(reference, 7 * steps)), rel=1e-9)


@pytest.mark.parametrize("steps", [2, 3, 7])
@pytest.mark.parametrize("warmup", [1, 2, 5])
@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_the_warm_up_is_that_of_linear_lr(schedule: str, warmup: int, steps: int) -> None:
    recipe = Recipe(epochs=9, learning_rate=0.3, schedule=schedule, warmup_epochs=warmup, milestones=(6,), gamma=0.5)  # type: ignore[arg-type]
    ramp, rest = warmup * steps, (9 - warmup) * steps
    optimizer = optimizer_at(0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR's own use of a deprecated argument
        rising = LinearLR(optimizer, start_factor=1 / ramp, end_factor=1, total_iters=ramp - 1)
        after: LRScheduler = (
            CosineAnnealingLR(optimizer, T_max=rest)
            if schedule == "cosine"
            else MultiStepLR(optimizer, [(6 - warmup) * steps], gamma=0.5)
        )
        reference = list(followed(SequentialLR(optimizer, [rising, after], milestones=[ramp]), 9 * steps))
    assert rates(recipe, steps) == pytest.approx(reference, rel=1e-9)


@pytest.mark.parametrize(
    ("first", "last", "rate"),
    [(1, 90, 0.01), (91, 120, 0.002), (121, 130, 0.0004)],
)
def test_the_default_is_the_papers_schedule(first: int, last: int, rate: float) -> None:
    steps = 5005
    for epoch in (first, last):
        for step in ((epoch - 1) * steps, epoch * steps - 1):
            assert learning_rate(Recipe(), step, steps) == pytest.approx(rate)


def test_the_default_is_the_papers_optimizer() -> None:
    """Plain momentum, and weight decay on all: what CompRess's code gives to torch's SGD."""
    recipe = Recipe()
    assert (recipe.optimizer, recipe.sgd_momentum, recipe.nesterov) == ("sgd", 0.9, False)
    assert (recipe.weight_decay, recipe.exclude_norm_and_bias, recipe.warmup_epochs) == (1e-4, False, 0)


def test_batch_norms_see_the_whole_batch_where_the_papers_batches_are_of_thousands() -> None:
    assert LargeBatchRecipe().sync_batch_norm
    assert not TrainingRecipe().sync_batch_norm


def test_imagenet_takes_5005_steps_of_256() -> None:
    assert steps_per_epoch(1_281_167, Recipe()) == 5005


@pytest.mark.parametrize(("epochs", "warmup"), [(2, 2), (3, 10)])
def test_training_that_is_all_warm_up_is_refused(epochs: int, warmup: int) -> None:
    """It would never run at its learning rate, and without a word: ten epochs of warm-up are the default of some."""
    with pytest.raises(UserError, match=f"--warmup-epochs is {warmup}, but there are {epochs} epochs; expected fewer"):
        Recipe(epochs=epochs, warmup_epochs=warmup)


def test_no_training_needs_no_shorter_warm_up() -> None:
    assert Recipe(epochs=0, warmup_epochs=10).warmup_epochs == 10


@pytest.mark.parametrize(
    ("option", "value", "least"),
    [("epochs", -1, 0), ("warmup_epochs", -1, 0), ("batch_size", 0, 2), ("batch_size", 1, 2)],
)
def test_a_recipe_that_cannot_be_followed_is_refused(option: str, value: int, least: int) -> None:
    flag = option.replace("_", "-")
    with pytest.raises(UserError, match=f"^--{flag} is {value}; expected at least {least}$"):
        Recipe(**{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"learning_rate": -1.0}, "--learning-rate is -1; expected a number, 0 or above"),
        ({"learning_rate": math.inf}, "--learning-rate is inf; expected a number, 0 or above"),
        ({"weight_decay": -1e-4}, "--weight-decay is -0.0001; expected a number, 0 or above"),
        ({"weight_decay": math.nan}, "--weight-decay is nan; expected a number, 0 or above"),
        ({"gamma": -0.1}, "--gamma is -0.1; expected a number, 0 or above"),
        ({"sgd_momentum": 1.0}, "--sgd-momentum is 1; expected 0 or more, below 1"),
        ({"sgd_momentum": -0.1}, "--sgd-momentum is -0.1; expected 0 or more, below 1"),
        ({"nesterov": True, "sgd_momentum": 0.0}, "--nesterov is true with --sgd-momentum 0; expected a momentum"),
    ],
)
def test_numbers_that_no_optimizer_takes_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        Recipe(**wrong)  # type: ignore[arg-type]


def test_a_queue_without_slots_is_refused() -> None:
    with pytest.raises(UserError, match="--queue-length is 0; expected at least 1"):
        AnchorQueue(0, 4)


@pytest.mark.parametrize(
    ("method", "wrong", "message"),
    [
        ("compress-1q", {"temperature": -0.04}, "--temperature is -0.04; expected a number above 0"),
        ("compress-2q", {"temperature": 0.0}, "--temperature is 0; expected a number above 0"),
        ("compress-2q", {"momentum": 1.0}, "--momentum is 1; expected 0"),
        ("seed", {"queue_length": 0}, "--queue-length is 0; expected at least 1"),
        ("pkt", {"weight": math.nan}, "--weight is nan; expected a number above 0"),
        ("pkt", {"optimizer": "lars", "weight_decay": 0.0}, "--weight-decay is 0; expected a number above 0"),
    ],
)
def test_options_out_of_range_are_refused(method: str, wrong: dict[str, float | str], message: str) -> None:
    options = plugins.module("stages.distillation", "method", method).Options
    with pytest.raises(UserError, match=re.escape(message)):
        options(**wrong)

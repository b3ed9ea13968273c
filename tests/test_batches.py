"""The stream of batches: every image once an epoch, the same from any step on and with any number of workers."""

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import pretrain
from stages.datasets import augmentations
from stages.datasets.augmentations import Augmentation, to_float
from stages.datasets.packed import PackedImages
from stages.errors import UserError
from stages.training.batches import Batch, steps_per_epoch, stream
from stages.training.position import first_position, permutation, seed_here, seed_of, view_position
from stages.training.recipe import Recipe
from tests.training_fixtures import SIZE, Training

pytest_plugins = ["tests.training_fixtures"]


class Center(Augmentation):
    """The view without chance, for streams of which only the order matters; ``batch`` adds noise."""

    sample_is_random = False
    transform = "centre"

    def sample(self, image: torch.Tensor, view: int = 0) -> torch.Tensor:
        return image[:, : self.size, : self.size]

    center = sample

    def batch(self, images: torch.Tensor, view: int = 0) -> torch.Tensor:
        return (images + 0.1 * torch.rand_like(images)).clamp(0, 1)


def batches(
    pack: PackedImages,
    recipe: Recipe,
    *,
    seed: int = 0,
    first: int = 0,
    workers: int = 0,
    views: int = 1,
    random: bool = False,
) -> list[Batch]:
    augmentation = augmentations.named("crop-flip", SIZE) if random else Center(8)
    return list(stream(pack, augmentation, recipe, views=views, seed=seed, workers=workers, first=first))


def epochs(pack: PackedImages, recipe: Recipe, seed: int = 0) -> list[list[int]]:
    """The images of each epoch, in their order."""
    steps = iter(batches(pack, recipe, seed=seed))
    per_epoch = steps_per_epoch(len(pack), recipe)
    return [
        [index for batch in itertools.islice(steps, per_epoch) for index in batch.indices.tolist()]
        for _ in range(recipe.epochs)
    ]


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.indices, other.indices)
        assert torch.equal(one.labels, other.labels)
        assert len(one.views) == len(other.views)
        assert all(torch.equal(*pair) for pair in zip(one.views, other.views, strict=True))


def test_every_epoch_shows_every_image_once_in_an_order_of_its_own(small_pack: PackedImages) -> None:
    orders = epochs(small_pack, Recipe(epochs=4, batch_size=20))
    assert [sorted(order) for order in orders] == [list(range(len(small_pack)))] * 4
    assert len({tuple(order) for order in orders}) == 4
    assert list(range(len(small_pack))) not in orders


def test_the_seed_is_the_order(small_pack: PackedImages) -> None:
    recipe = Recipe(epochs=2, batch_size=20)
    assert epochs(small_pack, recipe, seed=1) == epochs(small_pack, recipe, seed=1)
    some, others = epochs(small_pack, recipe, seed=1), epochs(small_pack, recipe, seed=2)
    assert not any(order in others for order in some), "nor is it that of another epoch of another run"


def test_an_index_comes_with_its_own_image_and_label(small_pack: PackedImages) -> None:
    for batch in batches(small_pack, Recipe(epochs=2, batch_size=20)):
        for position, index in enumerate(batch.indices.tolist()):
            assert torch.equal(batch.views[0][position], small_pack.image(index))
            assert int(batch.labels[position]) == int(small_pack.labels[index])


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("first", [1, 7, 8, 11, 16, 23, 24])
def test_a_stream_from_a_step_on_is_the_rest_of_the_unbroken_one(
    small_pack: PackedImages, first: int, random: bool
) -> None:
    recipe = Recipe(epochs=3, batch_size=20)
    assert steps_per_epoch(len(small_pack), recipe) == 8
    whole = batches(small_pack, recipe, views=2, random=random)
    assert_same(batches(small_pack, recipe, first=first, views=2, random=random), whole[first:])


@pytest.mark.parametrize("random", [True, False])
def test_the_number_of_workers_changes_nothing(small_pack: PackedImages, random: bool) -> None:
    recipe = Recipe(epochs=2, batch_size=40)
    alone, helped = (
        batches(small_pack, recipe, workers=workers, views=2, first=1, random=random) for workers in (0, 2)
    )
    assert_same(helped, alone)


def test_random_crops_differ_between_views_images_epochs_and_seeds(small_pack: PackedImages) -> None:
    def crops(seed: int) -> dict[tuple[int, int], torch.Tensor]:
        recipe = Recipe(epochs=2, batch_size=153)
        steps = batches(small_pack, recipe, seed=seed, views=2, random=True)
        return {
            (epoch, index): torch.stack([view[position] for view in step.views])
            for epoch, step in enumerate(steps)
            for position, index in enumerate(step.indices.tolist())
        }

    some, others = crops(0), crops(1)
    differing = {
        "views": sum(not torch.equal(views[0], views[1]) for views in some.values()) / len(some),
        "epochs": sum(not torch.equal(some[0, index], some[1, index]) for index in range(153)) / 153,
        "seeds": sum(not torch.equal(some[key], others[key]) for key in some) / len(some),
    }
    assert all(share > 0.95 for share in differing.values()), differing


def test_crops_are_as_the_loader_reads_them_and_floats_once_augmented(small_pack: PackedImages) -> None:
    (batch,) = batches(small_pack, Recipe(epochs=1, batch_size=153), views=2, random=True)
    assert [(view.dtype, view.shape) for view in batch.views] == [(torch.uint8, (153, 3, SIZE, SIZE))] * 2
    augmented = batch.augmented(augmentations.named("crop-flip", SIZE), torch.device("cpu"))
    for view, crops in zip(augmented.views, batch.views, strict=True):
        assert torch.equal(view, to_float(crops)), "crop-flip has no batch part"
        assert float(view.max()) == 1


def test_each_view_is_augmented_independently(small_pack: PackedImages) -> None:
    batch = batches(small_pack, Recipe(epochs=1, batch_size=153), views=2)[0]
    assert torch.equal(batch.views[0], batch.views[1]), "one crop, without chance"
    augmented = batch.augmented(Center(8), torch.device("cpu"))
    assert not torch.equal(augmented.views[0], augmented.views[1])


class Numbered(Center):
    """Views that say which they are: crops by their values, batches by what is added to them."""

    def sample(self, image: torch.Tensor, view: int = 0) -> torch.Tensor:
        return torch.full((3, self.size, self.size), 10 * view, dtype=torch.uint8)

    def batch(self, images: torch.Tensor, view: int = 0) -> torch.Tensor:
        return images + view


def test_an_augmentation_is_told_the_number_of_each_view(small_pack: PackedImages) -> None:
    augmentation, recipe = Numbered(8), Recipe(epochs=1, batch_size=153)
    (batch,) = stream(small_pack, augmentation, recipe, views=3, seed=0, workers=0, first=0)
    assert [view.unique().tolist() for view in batch.views] == [[0], [10], [20]]
    augmented = batch.augmented(augmentation, torch.device("cpu"))
    assert [view.unique().item() for view in augmented.views] == pytest.approx([0, 1 + 10 / 255, 2 + 20 / 255])


class PackOf:
    """The first images of a pack, as a pack."""

    def __init__(self, pack: PackedImages) -> None:
        self.pack = pack

    def __call__(self, images: int) -> PackedImages:
        return dataclasses.replace(self.pack, labels=self.pack.labels[:images])


@pytest.fixture(scope="module")
def small_pack_of(small_pack: PackedImages) -> PackOf:
    return PackOf(small_pack)


@settings(deadline=None)
@given(images=st.integers(2, 60), batch_size=st.integers(2, 70), drop_last=st.booleans(), count=st.integers(1, 3))
def test_batches_are_whole_but_the_last_which_is_never_a_single_image(
    images: int, batch_size: int, drop_last: bool, count: int, small_pack_of: PackOf
) -> None:
    recipe = Recipe(epochs=count, batch_size=batch_size, drop_last=drop_last)
    rest = images % batch_size
    expected = [batch_size] * (images // batch_size) + ([rest] if rest > 1 and not drop_last else [])
    if not expected:
        with pytest.raises(UserError, match=f"{images} images"):
            steps_per_epoch(images, recipe)
        return
    found = [len(batch.indices) for batch in batches(small_pack_of(images), recipe)]
    assert steps_per_epoch(images, recipe) == len(expected)
    assert found == expected * count


def test_a_dataset_smaller_than_a_batch_is_refused_in_one_line(small_splits: tuple[Path, Path], tmp_path: Path) -> None:
    options = {"method": "simclr", "train": small_splits[0], "epochs": 2, "batch_size": 154, "warmup_epochs": 0}
    training = Training(tmp_path, "pretrain", options)
    with pytest.raises(UserError, match=r"153 images.*batch.size 154.*drop.last"):
        pretrain.main(training.argv)
    assert not list(tmp_path.iterdir())


def test_an_untrained_encoder_needs_no_batch() -> None:
    assert steps_per_epoch(1, Recipe(epochs=0)) == 0


def test_seeds_of_positions_do_not_collide() -> None:
    positions = [(), *itertools.product(range(40)), *itertools.product(range(40), repeat=2), (0, 0, 0), (2**40, 1)]
    assert len({seed_of(*position) for position in positions}) == len(positions)
    assert all(0 <= seed_of(*position) < 2**63 for position in positions)


@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_first_weights_and_repeatable_views_are_drawn_where_no_run_draws_anything_else(seed: int) -> None:
    """A run's own positions are its seed with a step, an epoch, or an epoch and an image, none of them below 0."""
    first = [first_position(seed, generation) for generation in range(5)]
    assert len(set(first)) == 5
    assert all(position[0] == seed and position[1] < 0 for position in first)
    assert all(view_position(number, image)[0] < 0 for number in range(3) for image in range(3))


def test_a_position_fixes_all_that_follows_it() -> None:
    def draws(*position: int) -> list[float]:
        seed_here(*position)
        return torch.rand(3).tolist()

    assert draws(0, 5) == draws(0, 5)
    assert len({tuple(draws(seed, step)) for seed in range(3) for step in range(10)}) == 30


@settings(deadline=None)
@given(length=st.integers(0, 200), seed=st.integers(0, 2**31), epoch=st.integers(0, 1000))
def test_a_permutation_leaves_the_generator_alone(length: int, seed: int, epoch: int) -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    assert sorted(permutation(length, seed, epoch)) == list(range(length))
    assert torch.equal(torch.rand(2), expected)

"""The augmentations of self-supervised methods: torchvision's operations by image, and the papers' parameters."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from stages.datasets import augmentations, photometric
from stages.datasets.augmentations.crop_flip import CropFlip
from stages.datasets.photometric import Photometric
from stages.errors import UserError
from stages.training.position import seed_here

NAMES = ("moco-v2", "simclr", "swav", "byol")
STILL = Photometric(0, 0, 0, 0, 3, jitter_probability=0, grey_probability=0, blur_probability=0)


@pytest.fixture
def images() -> Tensor:
    """Colourful images in 0..1, [6, 3, 20, 24], with pure colours, black, white and grey pixels."""
    found = torch.rand(6, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    found[:, :, :2] = found[:, :, :2].round()
    found[:, :, 2] = found[:, :1, 2]
    return found


# The operations.

FACTORS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, float], Tensor], list[float]]] = {
    "brightness": (photometric.brightness, F.adjust_brightness, [0.0, 0.2, 0.9, 1.0, 1.3, 1.8]),
    "contrast": (photometric.contrast, F.adjust_contrast, [0.0, 0.2, 0.9, 1.0, 1.3, 1.8]),
    "saturation": (photometric.saturation, F.adjust_saturation, [0.0, 0.2, 0.9, 1.0, 1.3, 1.8]),
    "hue": (photometric.hue, F.adjust_hue, [-0.5, -0.2, -0.03, 0.0, 0.1, 0.5]),
}


@pytest.mark.parametrize("name", FACTORS)
def test_each_image_is_changed_by_its_own_factor_as_torchvision_does(name: str, images: Tensor) -> None:
    ours, theirs, factors = FACTORS[name]
    found = ours(images, torch.tensor(factors).view(-1, 1, 1, 1))
    expected = torch.stack([theirs(image, factor) for image, factor in zip(images, factors, strict=True)])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_grey_and_solarize_are_torchvisions(images: Tensor) -> None:
    torch.testing.assert_close(photometric.grey(images), F.rgb_to_grayscale(images, 3))
    torch.testing.assert_close(photometric.solarize(images), F.solarize(images, 0.5))


@pytest.mark.parametrize("radius", [1, 4])
def test_each_image_is_blurred_by_its_own_sigma_as_torchvision_does(radius: int, images: Tensor) -> None:
    sigmas = [0.1, 0.4, 0.8, 1.2, 1.6, 2.0]
    found = photometric.blur(images, torch.tensor(sigmas).view(-1, 1, 1, 1), radius)
    pairs = zip(images, sigmas, strict=True)
    expected = torch.stack([F.gaussian_blur(image, [2 * radius + 1] * 2, [sigma] * 2) for image, sigma in pairs])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


# Chance.


def happens(images: Tensor, changed: Tensor) -> Tensor:
    return (images != changed).flatten(1).any(dim=1)


SHARES: dict[str, dict[str, object]] = {
    "jitter_probability": {"brightness": 0.4},
    "grey_probability": {},
    # The least sigma of all changes nothing in 32 bits.
    "blur_probability": {"sigma": (1.0, 2.0)},
    "solarize_probability": {},
}


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("probability", [0.0, 0.2, 0.8, 1.0])
def test_each_image_is_changed_with_the_probability_by_a_draw_of_its_own(name: str, probability: float) -> None:
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).expand(1000, -1, -1, -1)
    kept = {field: getattr(STILL, field) for field in STILL.__dataclass_fields__}
    torch.manual_seed(0)
    share = happens(images, Photometric(**{**kept, **SHARES[name], name: probability})(images)).double().mean()
    assert abs(float(share) - probability) <= 5 * (probability * (1 - probability) / 1000) ** 0.5


def test_without_chance_nothing_changes_and_the_input_is_left_alone(images: Tensor) -> None:
    assert torch.equal(STILL(images), images)
    before = images.clone()
    Photometric(0.8, 0.8, 0.8, 0.2, 2, solarize_probability=0.5)(images)
    assert torch.equal(images, before)


def test_factors_are_uniform_in_the_jitters_range() -> None:
    grey = torch.full((2000, 3, 4, 4), 0.5)
    torch.manual_seed(0)
    jitter = Photometric(0.4, 0, 0, 0, 1, jitter_probability=1, grey_probability=0, blur_probability=0)
    factors = jitter(grey)[:, 0, 0, 0] / 0.5
    assert 0.6 <= factors.min() < 0.61
    assert 1.39 < factors.max() <= 1.4
    torch.testing.assert_close(factors.sort().values, torch.linspace(0.6, 1.4, 2000), rtol=0, atol=0.04)


def test_the_parts_of_the_jitter_come_in_every_order_as_those_of_torchvision() -> None:
    """The mean and spread of many jittered copies of an image are those of torchvision's ColorJitter."""
    image = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    jitter = Photometric(0.8, 0.8, 0.8, 0.2, 1, jitter_probability=1, grey_probability=0, blur_probability=0)
    ours = jitter(image.expand(3000, -1, -1, -1))
    theirs = v2.ColorJitter(0.8, 0.8, 0.8, 0.2)
    reference = torch.stack([theirs(image) for _ in range(1500)])
    torch.testing.assert_close(ours.mean(dim=0), reference.mean(dim=0), rtol=0, atol=0.04)
    torch.testing.assert_close(ours.std(dim=0), reference.std(dim=0), rtol=0, atol=0.03)


def test_the_order_of_the_parts_differs_between_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brightness clips white, so that contrast before it gives another image than after it."""
    monkeypatch.setattr(photometric, "_uniform", lambda rows, low, high: torch.full((len(rows),), float(high)))
    image = torch.tensor([0.1, 0.3, 0.9]).expand(400, 3, 1, -1)
    torch.manual_seed(0)
    found = Photometric(1.0, 1.0, 0, 0, 1, jitter_probability=1, grey_probability=0, blur_probability=0)(image)
    bright_first, contrast_first = (
        F.adjust_contrast(F.adjust_brightness(image, 2), 2),
        F.adjust_brightness(F.adjust_contrast(image, 2), 2),
    )
    by_bright, by_contrast = ((found - end).abs().amax(dim=(1, 2, 3)) < 1e-5 for end in (bright_first, contrast_first))
    assert torch.equal(by_bright, ~by_contrast)
    assert 140 < int(by_bright.sum()) < 260


def test_an_image_is_jittered_then_grey_then_blurred_then_solarised(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photometric, "_uniform", lambda rows, low, high: torch.full((len(rows),), float(high)))
    all_of_it = Photometric(0, 0, 0, 0.3, 2, *[1.0] * 4)
    jittered = F.rgb_to_grayscale(F.adjust_hue(images, 0.3), 3)
    expected = F.solarize(F.gaussian_blur(jittered, [5, 5], [2.0, 2.0]), 0.5)
    torch.testing.assert_close(all_of_it(images), expected, rtol=0, atol=5e-6)


# The augmentations.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("view", [0, 1, 2])
def test_chance_is_torchs_generator_alone(name: str, view: int) -> None:
    augmentation = augmentations.named(name, 28)
    image = torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    others = random.getstate(), np.random.get_state()[1].tolist()

    def draw(seed: int) -> tuple[Tensor, Tensor]:
        seed_here(seed)
        crop = augmentation.sample(image, view)
        return crop, augmentation.batch(augmentations.to_float(crop).expand(8, -1, -1, -1), view)

    first, again, other = draw(0), draw(0), draw(1)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[1], other[1])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == others


@pytest.mark.parametrize("name", NAMES)
def test_images_of_a_batch_and_views_are_changed_independently(name: str) -> None:
    augmentation = augmentations.named(name, 20)
    alike = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0)).expand(32, -1, -1, -1)
    seed_here(0)
    views = [augmentation.batch(alike, view) for view in range(2)]
    for changed in views:
        assert len(changed.flatten(1).unique(dim=0)) > 20
    assert not torch.equal(*views)


@pytest.mark.parametrize("name", NAMES)
def test_views_have_their_sizes_and_stay_in_range(name: str) -> None:
    augmentation = augmentations.named(name, 56)
    image = torch.randint(0, 256, (3, 80, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for view in range(4):
        size = 24 if name == "swav" and view >= 2 else 56
        crops = torch.stack([augmentation.sample(image, view) for _ in range(6)])
        assert (crops.dtype, crops.shape) == (torch.uint8, (6, 3, size, size))
        changed = augmentation.batch(augmentations.to_float(crops), view)
        assert changed.shape == (6, 3, size, size)
        assert changed.dtype == torch.float32
        assert 0 <= changed.min() <= changed.max() <= 1
    assert torch.equal(augmentation.center(image), CropFlip(56).center(image))
    assert augmentation.sample_is_random
    assert augmentation.transform == CropFlip.transform


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_size_works_and_one_below_is_refused(name: str) -> None:
    smallest = 4 if name == "swav" else 2
    augmentation = augmentations.named(name, smallest)
    image = torch.randint(0, 256, (3, 9, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for view in range(3):
        crops = torch.stack([augmentation.sample(image, view) for _ in range(20)])
        torch.manual_seed(view)
        assert augmentation.batch(augmentations.to_float(crops), view).isfinite().all()
    with pytest.raises(UserError, match=f"^--size is {smallest - 1}; expected at least {smallest}$"):
        augmentations.named(name, smallest - 1)


def test_a_small_crop_of_swav_has_96_pixels_where_a_full_one_has_224() -> None:
    augmentation = augmentations.named("swav", 224)
    image = torch.zeros(3, 300, 300, dtype=torch.uint8)
    assert [augmentation.sample(image, view).shape[-1] for view in (0, 1, 2, 7)] == [224, 224, 96, 96]


SCALES = {
    ("crop-flip", 0): (0.08, 1.0),
    ("moco-v2", 0): (0.2, 1.0),
    ("moco-v2", 1): (0.2, 1.0),
    ("simclr", 0): (0.08, 1.0),
    ("swav", 0): (0.14, 1.0),
    ("swav", 1): (0.14, 1.0),
    ("swav", 2): (0.05, 0.14),
    ("swav", 7): (0.05, 0.14),
    ("byol", 0): (0.08, 1.0),
    ("byol", 1): (0.08, 1.0),
}


@pytest.mark.parametrize(("name", "view"), SCALES)
def test_crops_have_the_papers_share_of_the_area_and_half_are_flipped(name: str, view: int) -> None:
    """Of an image whose red and green are its coordinates, a crop says itself where it comes from."""
    ramp = torch.arange(256, dtype=torch.uint8)
    image = torch.stack([ramp.expand(256, 256), ramp[:, None].expand(256, 256), torch.zeros(256, 256).byte()])
    augmentation = augmentations.named(name, 56)
    torch.manual_seed(0)
    crops = torch.stack([augmentation.sample(image, view) for _ in range(300)]).double()
    left, right = crops[:, 0, :, 0].mean(dim=1), crops[:, 0, :, -1].mean(dim=1)
    top, bottom = crops[:, 1, 0].mean(dim=1), crops[:, 1, -1].mean(dim=1)
    # Between the middles of the outermost pixels there is one pixel less than the crop has.
    whole = crops.shape[-1] / (crops.shape[-1] - 1)
    shares = (right - left).abs() * (bottom - top) * whole**2 / 256**2
    low, high = SCALES[name, view]
    assert low * 0.9 < shares.min() < low + 0.15 * (high - low)
    assert high - 0.25 * (high - low) < shares.max() < high * 1.05
    assert 110 < int((right < left).sum()) < 190
    assert bool((bottom > top).all())


PARAMETERS = {
    ("moco-v2", 0): Photometric(0.4, 0.4, 0.4, 0.1, 11, 0.8, 0.2, 0.5, 0.0),
    ("moco-v2", 1): Photometric(0.4, 0.4, 0.4, 0.1, 11, 0.8, 0.2, 0.5, 0.0),
    ("simclr", 1): Photometric(0.8, 0.8, 0.8, 0.2, 11, 0.8, 0.2, 0.5, 0.0),
    ("swav", 0): Photometric(0.8, 0.8, 0.8, 0.2, 11, 0.8, 0.2, 0.5, 0.0),
    ("swav", 5): Photometric(0.8, 0.8, 0.8, 0.2, 11, 0.8, 0.2, 0.5, 0.0),
    ("byol", 0): Photometric(0.4, 0.4, 0.2, 0.1, 11, 0.8, 0.2, 1.0, 0.0),
    ("byol", 1): Photometric(0.4, 0.4, 0.2, 0.1, 11, 0.8, 0.2, 0.1, 0.2),
}


@pytest.mark.parametrize(("name", "view"), PARAMETERS)
def test_the_parameters_are_the_papers(name: str, view: int, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr(Photometric, "__call__", lambda self, images: used.append(self) or images)
    augmentations.named(name, 224).batch(torch.zeros(2, 3, 224, 224), view)
    assert used == [PARAMETERS[name, view]]
    assert used[0].sigma == (0.1, 2.0)


@pytest.mark.parametrize(("name", "view"), SCALES)
def test_crops_are_those_of_torchvisions_transforms_with_the_papers_interpolation(name: str, view: int) -> None:
    mode = v2.InterpolationMode.BICUBIC if name in ("simclr", "byol") else v2.InterpolationMode.BILINEAR
    image = torch.randint(0, 256, (3, 70, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    augmentation, size = augmentations.named(name, 28), 12 if view >= 2 else 28
    theirs = v2.Compose(
        [
            v2.RandomResizedCrop(size, SCALES[name, view], (3 / 4, 4 / 3), mode, antialias=True),
            v2.RandomHorizontalFlip(),
        ]
    )
    for seed in range(8):
        torch.manual_seed(seed)
        found = augmentation.sample(image, view)
        torch.manual_seed(seed)
        assert torch.equal(found, theirs(image))


@pytest.mark.parametrize(("name", "view"), SCALES)
def test_crops_are_antialiased_as_pillows_are(name: str, view: int) -> None:
    """Of a chessboard of single pixels, nothing but grey is left; without a filter, patterns are."""
    rows, columns = torch.arange(448)[:, None], torch.arange(448)
    board = (255 * ((rows + columns) % 2)).byte().expand(3, -1, -1)
    augmentation = augmentations.named(name, 28)
    torch.manual_seed(0)
    crops = torch.stack([augmentation.sample(board, view) for _ in range(20)])
    assert (crops.float() - 127.5).abs().max() < 30


def test_byols_first_views_are_blurred_and_its_second_are_solarised_at_times() -> None:
    augmentation = augmentations.named("byol", 40)
    noise = torch.rand(400, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    white = torch.ones(400, 3, 40, 40)
    torch.manual_seed(0)
    rough = [
        augmentation.batch(noise, view).diff(dim=3).square().mean(dim=(1, 2, 3)).median().item() for view in range(2)
    ]
    assert rough[0] < 0.7 * rough[1]
    dark = [(augmentation.batch(white, view).amax(dim=(1, 2, 3)) < 0.45).double().mean().item() for view in range(2)]
    assert dark[0] == 0
    assert 0.12 < dark[1] < 0.28

"""The augmentations: range, shape, chance by position alone, and known maps."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from stages import plugins
from stages.datasets import augmentations
from stages.datasets.augmentations.affine_elastic import AffineElastic
from stages.datasets.augmentations.crop_flip import CropFlip
from stages.training.position import seed_here

STILL = {"degrees": 0.0, "scale": (1.0, 1.0), "shear": 0.0, "shift": 0.0, "warp": 0.0}
PLAIN = {"gamma": (1.0, 1.0), "contrast": (1.0, 1.0), "noise": 0.0}


def affine(**limits: object) -> AffineElastic:
    """The augmentation with nothing but what ``limits`` switch on."""
    augmentation = AffineElastic(32)
    for name, value in {**STILL, **PLAIN, **limits}.items():
        setattr(augmentation, name, value)
    return augmentation


@pytest.fixture
def images() -> Tensor:
    """Smooth blobs in 0..1, [8, 3, 32, 32], black at the border."""
    generator = torch.Generator().manual_seed(0)
    blobs = torch.nn.functional.interpolate(torch.rand(8, 3, 4, 4, generator=generator), size=(16, 16), mode="bicubic")
    return torch.nn.functional.pad(blobs.clamp(0, 1), (8, 8, 8, 8))


@pytest.mark.parametrize("name", ["affine-elastic", "crop-flip", "squash-flip"])
def test_crops_and_batches_keep_shape_and_range(name: str) -> None:
    augmentation = augmentations.named(name, 24)
    image = torch.randint(0, 256, (3, 40, 30), dtype=torch.uint8)
    for crop in (augmentation.sample(image), augmentation.center(image)):
        assert crop.shape == (3, 24, 24)
        assert crop.dtype == torch.uint8
    batch = augmentation.batch(torch.rand(5, 3, 24, 24))
    assert batch.shape == (5, 3, 24, 24)
    assert 0 <= batch.min() <= batch.max() <= 1


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", plugins.names("stages.datasets.augmentations"))
def test_evaluation_views_are_resized_without_aliasing_by_the_interpolation_asked_for(name: str, mode: str) -> None:
    image = torch.randint(0, 256, (3, 90, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    augmentation = augmentations.named(name, 28)
    side = 32 if isinstance(augmentation, CropFlip) else 28
    whole = F.resize(image, [side, side], interpolation=F.InterpolationMode(mode), antialias=True)
    assert torch.equal(augmentation.center(image, mode), F.center_crop(whole, [28, 28]))


def test_without_chance_the_batch_is_unchanged(images: Tensor) -> None:
    torch.testing.assert_close(affine().batch(images), images.clamp(min=1e-4), atol=2e-6, rtol=0)


def test_chance_is_the_seed_s_alone_and_differs_between_images(images: Tensor) -> None:
    augmentation = AffineElastic(32)
    alike = images[:1].expand(4, -1, -1, -1)
    seed_here(0, 1)
    first = augmentation.batch(alike)
    seed_here(0, 1)
    assert torch.equal(first, augmentation.batch(alike))
    seed_here(0, 2)
    assert not torch.allclose(first, augmentation.batch(alike), atol=0.05)
    assert not torch.allclose(first[0], first[1], atol=0.05)


def fixed(monkeypatch: pytest.MonkeyPatch, draw: float = 1.0) -> None:
    """Every draw at its upper limit, or at its lower one for a ``draw`` of 0."""
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.full(shape, draw, **options))


def sheared(images: Tensor, by: float) -> Tensor:
    """Each row read ``by`` its distance from the middle row to the right."""
    places, rows = np.arange(32), images.numpy()
    moved = [
        [[np.interp(places + by * (y - 15.5), places, row[y], left=0, right=0) for y in places] for row in image]
        for image in rows
    ]
    return torch.tensor(np.array(moved), dtype=torch.float32)


MAPS: dict[str, tuple[dict[str, object], Callable[[Tensor, int], Tensor]]] = {
    # affine_grid maps output to input, so a positive angle turns the content counter-clockwise on screen.
    "rotation": ({"degrees": 90.0}, lambda images, sign: torch.rot90(images, sign, (2, 3))),
    "shift": ({"shift": 0.25}, lambda images, sign: F.affine(images, 0, [-8 * sign, -8 * sign], 1, [0, 0])),
    "shear": ({"shear": 0.25}, lambda images, sign: sheared(images, 0.25 * sign)),
    "contrast": ({"contrast": (0.3, 0.7)}, lambda images, sign: images * (0.5 + 0.2 * sign)),
    "gamma": ({"gamma": (1.0, 2.0)}, lambda images, sign: images ** (1.5 + 0.5 * sign)),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("case", MAPS)
def test_a_fixed_draw_is_the_known_map(case: str, sign: int, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the upper limit of what is drawn, and at the lower one, which is the opposite of it."""
    limits, expected = MAPS[case]
    fixed(monkeypatch, (1 + sign) / 2)
    torch.testing.assert_close(affine(**limits).batch(images), expected(images, sign), atol=2e-4, rtol=0)


def test_the_noise_has_at_most_its_standard_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed(monkeypatch)
    torch.manual_seed(0)
    grey = torch.full((2, 3, 32, 32), 0.5)
    noise = affine(noise=0.05)._inked(grey) - grey
    assert noise.std(dim=(1, 2, 3)).tolist() == pytest.approx([0.05, 0.05], rel=0.1)
    assert abs(noise.mean()) < 0.01


def test_the_noise_of_each_image_has_a_deviation_of_its_own_and_is_drawn_for_each_channel() -> None:
    torch.manual_seed(0)
    grey = torch.full((200, 3, 16, 16), 0.5)
    noise = affine(noise=0.05)._inked(grey) - grey
    found = noise.std(dim=(1, 2, 3)).sort().values
    torch.testing.assert_close(found, torch.linspace(0, 0.05, 200), rtol=0, atol=0.006)
    assert torch.corrcoef(noise.transpose(0, 1).flatten(1)).fill_diagonal_(0).abs().max() < 0.05


def test_twice_the_scale_halves_what_is_read(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed(monkeypatch)
    larger = affine(scale=(2.0, 2.0)).batch(images)
    middle = torch.nn.functional.interpolate(images[:, :, 8:24, 8:24], size=(32, 32), mode="bilinear")
    torch.testing.assert_close(larger[:, :, 2:-2, 2:-2], middle[:, :, 2:-2, 2:-2], atol=2e-4, rtol=0)


def test_the_warp_moves_pixels_smoothly_and_not_far(images: Tensor) -> None:
    still, warped = affine(), affine(warp=0.12)
    difference = warped._grid(images) - still._grid(images)
    # Bicubic interpolation overshoots its nodes by less than a half.
    assert 0.02 < difference.abs().max() < 0.12 * 1.5
    assert (difference[:, 1:] - difference[:, :-1]).abs().max() < 0.12 * 1.5 * 2 * 3 / 32 * 2


def test_the_warp_goes_either_way_and_along_each_axis_by_itself(images: Tensor) -> None:
    torch.manual_seed(0)
    still, warped = affine(), affine(warp=0.12)
    across, down = (warped._grid(images) - still._grid(images)).unbind(dim=3)
    for shift in (across, down):
        assert shift.min() < -0.06
        assert shift.max() > 0.06
    assert torch.corrcoef(torch.stack([across.flatten(), down.flatten()]))[0, 1].abs() < 0.3

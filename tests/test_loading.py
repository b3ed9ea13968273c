"""Images on their way to training: decoded as Pillow does, cropped as torchvision does, and packed small."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import v2

from stages.datasets import augmentations
from stages.datasets.decoding import UndecodableError, decoded, pixels
from stages.datasets.packed import PackedImages, read_pack, write_packs
from stages.datasets.resized import QUALITY, resized
from stages.datasets.sources import Boxes, Split
from stages.errors import UserError
from stages.training.batches import stream
from stages.training.position import seed_here
from stages.training.recipe import Recipe
from tests.test_packing import contents, fetched

SIZES = st.integers(1, 90)


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth random picture with some noise."""
    random = np.random.default_rng(seed)
    smooth = Image.fromarray(random.integers(0, 256, (5, 5, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    noisy = np.asarray(smooth) + random.normal(0, 8, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def array(file: bytes) -> np.ndarray:
    return np.frombuffer(file, dtype=np.uint8).copy()


def split_of(*files: bytes, boxes: Boxes | None = None) -> Split:
    return Split(("a",), np.zeros(len(files), dtype=np.int64), files, boxes)


def packed(path: Path, *files: bytes) -> PackedImages:
    write_packs({path: ("train", split_of(*files))}, name="toy", source="toy")
    return read_pack(path)


# Decoding.


@settings(deadline=None, max_examples=60)
@given(
    width=SIZES,
    height=SIZES,
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    progressive=st.booleans(),
)
def test_pixels_of_a_jpeg_are_pillows_bit_for_bit(width: int, height: int, mode: str, **options: Any) -> None:
    file = encoded(photo(width, height).convert(mode), **options)
    expected = np.asarray(decoded(file)).transpose(2, 0, 1)
    found = pixels(array(file))
    np.testing.assert_array_equal(found.numpy(), expected)
    assert found.permute(1, 2, 0).is_contiguous()


def test_a_jpeg_in_colour_or_grey_is_not_decoded_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(encoded: bytes) -> Image.Image:
        raise AssertionError

    monkeypatch.setattr("stages.datasets.decoding.decoded", refuse)
    for mode in ("RGB", "L"):
        assert pixels(array(encoded(photo(9, 7).convert(mode)))).shape == (3, 7, 9)
    with pytest.raises(AssertionError):
        pixels(array(encoded(photo(9, 7).convert("CMYK"))))


@pytest.mark.parametrize("length", [0, 2, 3, 200, 700, -40])
def test_a_jpeg_cut_short_is_told_in_pillows_words(length: int) -> None:
    cut = encoded(photo(90, 70))[:length]
    with pytest.raises(UndecodableError) as expected:
        decoded(cut)
    with pytest.raises(UndecodableError) as found:
        pixels(array(cut))
    assert str(found.value) == str(expected.value)


# Crops and flips.


@settings(deadline=None, max_examples=40)
@given(width=SIZES, height=SIZES, size=st.integers(1, 60), seed=st.integers(0, 1000))
def test_crops_and_flips_are_the_references_with_the_same_draws(width: int, height: int, size: int, seed: int) -> None:
    reference = v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])
    file = encoded(photo(width, height, seed))
    seed_here(seed)
    found = augmentations.named("crop-flip", size).sample(pixels(array(file)))
    seed_here(seed)
    assert torch.equal(found, reference(v2.functional.pil_to_tensor(decoded(file))))


@pytest.mark.parametrize("seed", range(12))
def test_crops_and_flips_are_those_of_the_transforms_on_pillow_images(seed: int) -> None:
    reference = transforms.Compose(
        [transforms.RandomResizedCrop(65), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    )
    file = encoded(photo(171, 127, seed))
    seed_here(seed)
    found = augmentations.named("crop-flip", 65).sample(pixels(array(file)))
    seed_here(seed)
    # Both round to whole levels after each of their two passes.
    assert (found.int() - reference(decoded(file)).int()).abs().max() <= 1


def test_a_training_batch_holds_the_references_crops(tmp_path: Path) -> None:
    files = [encoded(photo(80, 61)), encoded(photo(45, 99).convert("L")), encoded(photo(64, 64), "PNG")]
    pack = packed(tmp_path / "train.h5", *files)
    recipe = Recipe(epochs=1, batch_size=3)
    (batch,) = stream(pack, augmentations.named("crop-flip", 48), recipe, 0, views=2, seed=7, workers=0)
    reference = v2.Compose([v2.RandomResizedCrop(48, antialias=True), v2.RandomHorizontalFlip()])
    for place, index in enumerate(batch.indices.tolist()):
        seed_here(7, 0, index)
        image = v2.functional.pil_to_tensor(decoded(files[index]))
        for view in batch.views:
            assert torch.equal(view[place], reference(image))


# Packed small.


FILES = {
    "large.jpg": encoded(photo(161, 120, 1)),
    "small.jpg": encoded(photo(50, 32, 2)),
    "tall.png": encoded(photo(41, 200, 3), "PNG"),
    "grey.jpg": encoded(photo(90, 64, 4).convert("L")),
    "cmyk.jpg": encoded(photo(64, 90, 5).convert("CMYK")),
    "deep.png": encoded(Image.fromarray(np.arange(6400, dtype=np.uint16).reshape(80, 80) * 10), "PNG"),
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """``photos/{train,val}/cat``: the same images of many kinds in both."""
    for split in ("train", "val"):
        (tmp_path / "photos" / split / "cat").mkdir(parents=True)
        for name, file in FILES.items():
            (tmp_path / "photos" / split / "cat" / name).write_bytes(file)
    return tmp_path / "photos"


@pytest.mark.parametrize("workers", [0, 2])
def test_large_images_are_resized_as_torchvision_does_and_small_ones_keep_their_bytes(
    workers: int, photos: Path, tmp_path: Path
) -> None:
    train, val = fetched(photos, tmp_path / "out", short_side=32, workers=workers)
    assert contents(train) == contents(val)
    for index, name in enumerate(sorted(FILES)):
        if name == "small.jpg":
            assert contents(train)[index] == FILES[name]
            continue
        expected = transforms.Resize(32)(decoded(FILES[name]))
        assert contents(train)[index] == encoded(expected, quality=QUALITY)
        assert train.picture(index).size == expected.size
        assert train.image(index).shape == (3, *expected.size[::-1])


def test_a_resized_pack_has_a_fingerprint_of_its_own_and_resizing_again_changes_nothing(
    photos: Path, tmp_path: Path
) -> None:
    whole, small, again, smaller = (
        fetched(photos, tmp_path / str(side), short_side=side)[0] for side in (0, 32, 33, 31)
    )
    assert contents(whole) == [FILES[name] for name in sorted(FILES)]
    assert len({pack.fingerprint for pack in (whole, small, again, smaller)}) == 4
    split = split_of(*contents(small))
    assert [resized(split, 32, "again").images[row] for row in range(len(FILES))] == contents(small)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_does_not_decode_is_named_where_images_are_resized(workers: int, photos: Path, tmp_path: Path) -> None:
    file = photos / "val/cat/large.jpg"
    file.write_bytes(FILES["large.jpg"][:900])
    with pytest.raises(UserError, match=f"do not decode .*{file}; mend or remove"):
        fetched(photos, tmp_path / "out", short_side=32, workers=workers)
    _, val = fetched(photos, tmp_path / "out", short_side=32, skip_corrupt=1, workers=workers)
    assert (len(val), val.skipped) == (len(FILES) - 1, 1)


def test_images_with_boxes_are_not_resized() -> None:
    boxes = Boxes(np.array([0, 1]), np.array([[0, 0, 9, 9]], np.float32), np.array([0]), np.array([False]))
    split = split_of(FILES["large.jpg"], boxes=boxes)
    with pytest.raises(UserError, match="dataset toy: it has boxes, in pixels; expected a short_side of 0"):
        resized(split, 32, "dataset toy")
    assert len(resized(dataclasses.replace(split, boxes=None), 32, "dataset toy").labels) == 1


def test_the_evaluation_view_of_a_resized_pack_is_that_of_the_files_but_for_the_compression(tmp_path: Path) -> None:
    file = encoded(photo(300, 220), quality=95)
    small = resized(split_of(file), 64, "toy").images[0]
    augmentation = augmentations.named("crop-flip", 56)
    views: list[Tensor] = [augmentation.center(pixels(array(each))).float() for each in (file, small)]
    assert (views[0] - views[1]).abs().mean() < 3

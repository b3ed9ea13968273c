"""Packed datasets, their sources and the evaluation view of their images."""

import dataclasses
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.transforms import v2

from stages import fetch_dataset
from stages.datasets import augmentations
from stages.datasets.augmentations import to_float
from stages.datasets.encoded import split_of_files
from stages.datasets.packed import PackedImages, read_pack, write_packs
from stages.datasets.sources import Boxes, Split
from stages.datasets.views import CenterViews
from stages.errors import UserError
from tests.conftest import assert_refused, flags, program


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


def picture(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """A smooth random picture."""
    small = np.random.default_rng(seed).integers(0, 256, size=(5, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def packed(path: Path, files: list[bytes], labels: list[int], classes: int = 2) -> PackedImages:
    split = Split(
        classes=tuple(map(str, range(classes))),
        labels=np.array(labels),
        images=files,
    )
    write_packs({path: ("train", split)}, name="toy", source="toy")
    return read_pack(path)


# The digits.


def test_the_digits_are_split_1347_to_450_with_every_class_in_proportion(digits: SimpleNamespace) -> None:
    train, val = read_pack(digits.train), read_pack(digits.val)
    assert (len(train), len(val)) == (1347, 450)
    assert (train.split, val.split, train.name, val.name) == ("train", "val", "digits", "digits")
    whole = np.bincount(load_digits().target)
    for pack, share in ((train, 1347 / 1797), (val, 450 / 1797)):
        assert np.abs(np.bincount(pack.labels) - share * whole).max() < 1
    assert train.classes == val.classes == tuple("0123456789")


def test_the_digits_decode_to_their_original_values_every_one_once(digits: SimpleNamespace) -> None:
    found = []
    for pack in (read_pack(digits.train), read_pack(digits.val)):
        for index in range(len(pack)):
            image = pack.image(index)
            assert image.shape == (3, 8, 8)
            assert torch.equal(image[0], image[1])
            assert torch.equal(image[0], image[2])
            values = np.rint(image[0].numpy() * (16 / 255)).astype(int)
            found.append((pack.labels[index], *values.ravel()))
    source = load_digits()
    expected = [(label, *image.astype(int).ravel()) for label, image in zip(source.target, source.images, strict=True)]
    assert sorted(found) == sorted(expected)


def test_the_same_split_is_drawn_every_time_and_another_from_another_seed(
    digits: SimpleNamespace, tmp_path: Path
) -> None:
    fingerprints = []
    for seed in (0, 1):
        paths = {"train": tmp_path / f"train-{seed}.h5", "val": tmp_path / f"val-{seed}.h5"}
        fetch_dataset.main(flags({"source": "digits", "name": "digits", "split_seed": seed, **paths}))
        fingerprints.append(read_pack(paths["train"]).fingerprint)
    assert (tmp_path / "train-0.h5").read_bytes() == digits.train.read_bytes()
    assert fingerprints[0] == read_pack(digits.train).fingerprint != fingerprints[1]


@pytest.mark.parametrize("images", [-1, 0, 9, 1788, 5000])
def test_a_val_split_that_cannot_be_stratified_is_refused(images: int, tmp_path: Path) -> None:
    paths = {"train": tmp_path / "train.h5", "val": tmp_path / "val.h5"}
    with pytest.raises(UserError, match=f"--val-images is {images}; expected 10 to 1787"):
        fetch_dataset.main(flags({"source": "digits", "name": "digits", "val_images": images, **paths}))
    assert not list(tmp_path.iterdir())


# Packed files.


def test_both_splits_carry_one_fingerprint_of_all_images_and_labels(tmp_path: Path) -> None:
    def fingerprint(train: list[bytes], train_labels: list[int], val: list[bytes], val_labels: list[int]) -> str:
        splits = {}
        for name, files, labels in (("train", train, train_labels), ("val", val, val_labels)):
            splits[tmp_path / f"{name}.h5"] = (name, Split(("a", "b"), np.array(labels), files))
        write_packs(splits, name="toy", source="toy")
        found = {read_pack(path).fingerprint for path in splits}
        assert len(found) == 1
        return found.pop()

    one, two, three, four = (encoded(picture(seed)) for seed in range(4))
    images = [one, three], [0, 1], [two], [1]
    changed = [
        ([one, four], [0, 1], [two], [1]),
        ([one, three], [1, 1], [two], [1]),
        ([one, three], [0, 1], [four], [1]),
        ([one, three], [0, 1], [two], [0]),
        ([one + b"t", three], [0, 1], [two], [1]),
        ([three, one], [0, 1], [two], [1]),
    ]
    assert fingerprint(*images) == fingerprint(*images)
    assert len({fingerprint(*images), *(fingerprint(*each) for each in changed)}) == 1 + len(changed)


@settings(deadline=None, max_examples=30)
@given(ends=st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_any_bytes_come_back_as_they_were_packed(ends: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    files = [encoded(picture(0, 2, 2)) + end for end in ends]  # what follows the end of a PNG file is no part of it
    pack = packed(tmp_path_factory.mktemp("pack") / "train.h5", files, [0] * len(files))
    assert [pack.encoded(index).tobytes() for index in range(len(pack))] == files


def test_several_labels_an_image_and_boxes_come_back_and_count_in_the_fingerprint(tmp_path: Path) -> None:
    labels = np.array([[1, 0, -1], [0, 1, 0]], dtype=np.int8)
    corners = np.array([[0, 0, 9, 8], [3, 4, 20, 30], [1, 1, 2, 2]], dtype=np.float32)
    boxes = Boxes(np.array([0, 2, 3]), corners, np.array([0, 2, 1]), np.array([False, True, False]))
    moved = dataclasses.replace(boxes, corners=corners + 1)
    fingerprints = set()
    for objects in (boxes, moved, None):
        files = [encoded(picture(0)), encoded(picture(1))]
        split = Split(("a", "b", "c"), labels, files, objects)
        write_packs({tmp_path / "train.h5": ("train", split)}, name="toy", source="toy")
        pack = read_pack(tmp_path / "train.h5")
        assert pack.labels.dtype == np.int8
        np.testing.assert_array_equal(pack.labels, labels)
        fingerprints.add(pack.fingerprint)
        if objects is None:
            assert pack.boxes is None
            continue
        for name, values in vars(objects).items():
            np.testing.assert_array_equal(getattr(pack.boxes, name), values)
            assert getattr(pack.boxes, name).dtype == values.dtype
    assert len(fingerprints) == 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_images_decode_as_pillow_decodes_them(kind: str, tmp_path: Path) -> None:
    file = encoded(picture(0), kind)
    found = packed(tmp_path / "train.h5", [file], [0]).image(0)
    expected = np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).transpose(2, 0, 1)
    assert found.shape == (3, 30, 40)
    difference = np.abs(found.numpy().astype(int) - expected)
    assert difference.max() <= (0 if kind == "PNG" else 3)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_images_of_any_mode_come_as_rgb(mode: str, tmp_path: Path) -> None:
    file = encoded(picture(0).convert(mode), "JPEG" if mode == "CMYK" else "PNG")
    found = packed(tmp_path / "train.h5", [file], [0]).image(0)
    assert (found.shape, found.dtype) == ((3, 30, 40), torch.uint8)


def test_16_bit_images_are_scaled_to_8_bits(tmp_path: Path) -> None:
    values = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
    found = packed(tmp_path / "train.h5", [encoded(Image.fromarray(values))], [0]).image(0)
    assert found.dtype == torch.uint8
    assert np.abs(found[0].numpy() - values / 257.0).max() <= 1


def test_an_image_that_no_longer_decodes_is_named(tmp_path: Path) -> None:
    whole = packed(tmp_path / "train.h5", [encoded(picture(0)), encoded(picture(1))], [0, 1])
    second = whole.encoded(1).tobytes()
    whole.path.write_bytes(whole.path.read_bytes().replace(second[50:], bytes(len(second) - 50)))
    pack = read_pack(whole.path)
    pack.image(0)
    with pytest.raises(UserError, match=r"train\.h5: image 1 does not decode"):
        pack.image(1)


def test_an_empty_split_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dataset toy: its train split is empty"):
        packed(tmp_path / "train.h5", [], [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_source_that_fails_in_its_second_split_leaves_neither(workers: int, tmp_path: Path) -> None:
    files = [tmp_path / "0.png", tmp_path / "1.png"]
    for file in files:
        file.write_bytes(encoded(picture(0)))
    splits = {
        tmp_path / "train.h5": ("train", split_of_files(["a"], [(str(files[0]), 0)])),
        tmp_path / "val.h5": ("val", split_of_files(["a"], [(str(file), 0) for file in files])),
    }
    files[1].unlink()
    with pytest.raises(FileNotFoundError) as failed:
        write_packs(splits, name="toy", source="toy", workers=workers)
    assert failed.value.filename == str(files[1])
    assert [path.name for path in tmp_path.iterdir()] == ["0.png"]


# Folders.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``images/{train,val}/{cat,dog,emu}``: JPEG files, with what is no image among them."""
    root = tmp_path / "images"
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(("emu", "cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                content = encoded(picture(10 * label + number), "JPEG")
                (root / split / name / f"{number}.{'JPEG' if number else 'jpg'}").write_bytes(content)
            (root / split / name / "notes.txt").write_text("not an image")
        (root / split / "index.csv").write_text("not a class")
    return root


def fetched(folder: Path, out: Path) -> tuple[PackedImages, PackedImages]:
    paths = {"train": out / "train.h5", "val": out / "val.h5"}
    fetch_dataset.main(flags({"source": "folder", "path": folder, "name": "animals", **paths}))
    return read_pack(paths["train"]), read_pack(paths["val"])


def test_a_folder_is_read_as_torchvisions_image_folder_reads_it(folder: Path, tmp_path: Path) -> None:
    for split, pack in zip(("train", "val"), fetched(folder, tmp_path), strict=True):
        reference = torchvision.datasets.ImageFolder(folder / split)
        assert pack.classes == tuple(reference.classes) == ("cat", "dog", "emu")
        assert list(pack.labels) == reference.targets
        for index, (path, _) in enumerate(reference.samples):
            assert pack.encoded(index).tobytes() == Path(path).read_bytes()


def test_images_in_folders_of_a_class_belong_to_the_class(folder: Path, tmp_path: Path) -> None:
    nested = folder / "train" / "dog" / "2024.png"
    nested.mkdir()
    (folder / "train" / "dog" / "0.jpg").rename(nested / "9.jpg")
    train, _ = fetched(folder, tmp_path)
    np.testing.assert_array_equal(np.bincount(train.labels), [4, 4, 4])


def _remove(folder: Path) -> None:
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()


FOLDER_FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing": (_remove, "train", "no such folder"),
    "no train": (lambda root: _remove(root / "train"), "train", "no such folder"),
    "no val": (lambda root: _remove(root / "val"), "val", "no such folder"),
    "empty class": (
        lambda root: [file.unlink() for file in (root / "val" / "emu").glob("[01].*")],
        "val/emu",
        "holds no image; expected files ending in .bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp",
    ),
    "an image that is a broken link": (
        lambda root: (root / "train/cat/9.jpg").symlink_to("gone.jpg"),
        "train/cat/9.jpg",
        "a link to gone.jpg that leads nowhere (No such file or directory)",
    ),
    "a class that is a broken link": (
        lambda root: [(root / split / "yak").symlink_to("../gone") for split in ("train", "val")],
        "train/yak",
        "a link to ../gone that leads nowhere",
    ),
    "a link to itself": (
        lambda root: (root / "train/cat/0.JPEG").symlink_to("0.JPEG"),
        "train/cat/0.JPEG",
        "a link to 0.JPEG that leads nowhere",
    ),
    "a link to where it lies": (
        lambda root: (root / "train/cat/all").symlink_to("../../train", target_is_directory=True),
        "train/cat/all/cat",
        "a link to a folder that it lies in",
    ),
    "images beside the classes": (
        lambda root: [(root / "train/emu" / name).rename(root / "train" / name) for name in ("0.jpg", "1.JPEG")],
        "train/0.jpg and 1 more",
        "not in a class folder; move them into one, or out of ",
    ),
}


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_that_one_split_alone_has_is_named(split: str, folder: Path, tmp_path: Path) -> None:
    _remove(folder / split / "dog")
    other = {"train": "val", "val": "train"}[split]
    message = f"dataset animals: its {split} split has no class 'dog', which its {other} split has"
    with pytest.raises(UserError, match=re.escape(message)):
        fetched(folder, tmp_path)
    assert not list(tmp_path.glob("*.h5*"))


@pytest.mark.parametrize("source", ["folder", "cars196"])
def test_a_source_without_a_download_needs_its_folder(source: str, tmp_path: Path) -> None:
    packs = flags({"train": tmp_path / "train.h5", "val": tmp_path / "val.h5"})
    with pytest.raises(UserError, match=f"--path is empty, and {source} has no download"):
        fetch_dataset.main(["--source", source, "--name", "photos", "--path", "", *packs])


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
def test_a_folder_with_a_fault_is_refused(fault: str, folder: Path, tmp_path: Path) -> None:
    break_it, where, message = FOLDER_FAULTS[fault]
    break_it(folder)
    with pytest.raises(UserError, match=re.escape(f"{folder / where}: ") + ".*" + re.escape(message)):
        fetched(folder, tmp_path)
    assert not list(tmp_path.glob("*.h5*"))


def test_images_without_classes_are_told_where_to_go(folder: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("emu", "dog"):
            _remove(folder / split / name)
        (folder / split / "cat/0.jpg").rename(folder / split / "0.jpg")
        _remove(folder / split / "cat")
    with pytest.raises(UserError, match=re.escape(f"{folder / 'train'}: no class folder in it; ")) as refused:
        fetched(folder, tmp_path)
    assert f"such as {folder / 'train/all'}/" in str(refused.value)
    for split in ("train", "val"):
        (folder / split / "all").mkdir()
        (folder / split / "0.jpg").rename(folder / split / "all/0.jpg")
    packs = fetched(folder, tmp_path)
    assert [(pack.classes, pack.labels.tolist()) for pack in packs] == [(("all",), [-1])] * 2
    with pytest.raises(UserError, match=r"1 of 1 images of animals have no label; they serve to pretrain"):
        packs[0].single_labels()


def test_images_of_every_ending_are_read_and_other_files_are_counted(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = {"bmp": "BMP", "gif": "GIF", "PNG": "PNG", "TIF": "TIFF", "tiff": "TIFF", "webp": "WEBP"}
    for ending, kind in kinds.items():
        (folder / "train/dog" / f"a.{ending}").write_bytes(encoded(picture(7), kind))
    for name in ("b.heic", "c.heic", "README"):
        (folder / "train/emu" / name).touch()
    train, _ = fetched(folder, tmp_path)
    assert np.bincount(train.labels)[1] == 4 + len(kinds)
    for index in np.flatnonzero(train.labels == 1):
        assert train.image(index).shape[0] == 3
    found = [record.message for record in caplog.records if "left out" in record.message]
    assert found == [
        f"{folder / split}: files whose names are not those of images are left out: {counts}"
        for split, counts in (("train", "3 of .txt, 2 of .heic, 1 of no ending"), ("val", "3 of .txt"))
    ]


def test_what_is_hidden_does_not_count(folder: Path, tmp_path: Path) -> None:
    """Such as the folders of notebooks and thumbnails, and what macOS leaves beside each file on other disks."""
    plain = fetched(folder, tmp_path)
    for place in ("train/.thumbnails", "train/cat/.ipynb_checkpoints", "val/.git"):
        (folder / place).mkdir()
        (folder / place / "0.jpg").write_bytes(b"")
    (folder / "val/dog/._0.jpg").write_bytes(b"")
    (folder / "val/.broken").symlink_to("nowhere")
    for before, after in zip(plain, fetched(folder, tmp_path / "again"), strict=True):
        assert (after.classes, after.fingerprint) == (before.classes, before.fingerprint)


def test_files_may_be_named_in_any_encoding_and_classes_in_utf_8(folder: Path, tmp_path: Path) -> None:
    plain = fetched(folder, tmp_path)
    for split in ("train", "val"):
        (folder / split / "emu/0.jpg").rename(folder / split / os.fsdecode(b"emu/0\xe9.jpg"))
    for before, after in zip(plain, fetched(folder, tmp_path / "again"), strict=True):
        assert after.fingerprint == before.fingerprint
    (folder / "val/dog").rename(folder / os.fsdecode(b"val/d\xf6g"))
    with pytest.raises(UserError, match=r"images/val/b'd\\xf6g': a class whose name is not UTF-8; rename its folder"):
        fetched(folder, tmp_path)


def test_linked_images_and_classes_are_read_in_the_order_of_their_paths(folder: Path, tmp_path: Path) -> None:
    plain = fetched(folder, tmp_path)
    (folder / "train/emu").rename(tmp_path / "birds")
    (folder / "train/emu").symlink_to(tmp_path / "birds", target_is_directory=True)
    (folder / "train/dog/0.jpg").rename(tmp_path / "dog.jpg")
    (folder / "train/dog/0.jpg").symlink_to(tmp_path / "dog.jpg")
    (folder / "train/cat").rename(tmp_path / "cats")
    (folder / "train/cat").mkdir()
    (folder / "train/cat/below").symlink_to(tmp_path / "cats", target_is_directory=True)
    for before, after in zip(plain, fetched(folder, tmp_path / "again"), strict=True):
        assert after.fingerprint == before.fingerprint


def test_the_program_refuses_a_folder_without_a_class(folder: Path, tmp_path: Path) -> None:
    _remove(folder / "val" / "cat")
    before = set(tmp_path.rglob("*"))
    paths = {"train": tmp_path / "train.h5", "val": tmp_path / "val.h5"}
    done = program("fetch_dataset", *flags({"source": "folder", "path": folder, "name": "animals", **paths}))
    assert_refused(done, "dataset animals: its val split has no class", "'cat'", folder=tmp_path, before=before)


# Views.


@pytest.mark.parametrize("size", [32, 96, 224])
@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (64, 64), (20, 31), (257, 256)])
def test_the_centre_view_is_torchvisions_resize_and_centre_crop(size: int, width: int, height: int) -> None:
    image = picture(1, width, height)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    found = augmentations.named("crop-flip", size).center(tensor)
    resize = round(size * 256 / 224)
    reference = v2.Compose([v2.Resize(resize, antialias=True), v2.CenterCrop(size)])
    assert found.shape == (3, size, size)
    assert found.dtype == torch.uint8
    assert torch.equal(found, reference(tensor))
    # The papers' own pipeline works on PIL images: the same but for rounding.
    papers = torchvision.transforms.Compose(
        [torchvision.transforms.Resize(resize), torchvision.transforms.CenterCrop(size)]
    )
    difference = found.permute(1, 2, 0).numpy().astype(int) - np.asarray(papers(image), dtype=int)
    assert np.abs(difference).max() <= 2


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (20, 31)])
def test_a_squashed_view_is_the_whole_image_as_pil_resizes_it(width: int, height: int) -> None:
    image = picture(1, width, height)
    squash = augmentations.named("squash-flip", 32)
    whole = squash.center(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    reference = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR), dtype=int)
    assert np.abs(whole.permute(1, 2, 0).numpy().astype(int) - reference).max() <= 2
    torch.manual_seed(0)
    seen = [squash.sample(torch.from_numpy(np.array(image)).permute(2, 0, 1)) for _ in range(40)]
    flipped = [torch.equal(view, whole.flip(2)) for view in seen]
    assert all(torch.equal(view, whole) or turned for view, turned in zip(seen, flipped, strict=True))
    assert 10 < sum(flipped) < 30


def test_the_resized_side_is_256_for_224() -> None:
    tensor = torch.arange(256, dtype=torch.uint8).expand(3, 256, 256)
    found = augmentations.named("crop-flip", 224).center(tensor)
    assert torch.equal(found, tensor[:, 16:240, 16:240])


def test_centre_views_are_the_same_every_time_in_the_order_of_the_split(tmp_path: Path) -> None:
    pack = packed(tmp_path / "train.h5", [encoded(picture(seed)) for seed in range(3)], [0, 1, 0])
    augmentation = augmentations.named("crop-flip", 16)
    views = CenterViews(pack, augmentation)
    assert len(views) == 3
    for index in range(3):
        assert torch.equal(views[index], views[index])
        assert torch.equal(views[index], augmentation.center(pack.image(index)))


def test_random_crops_have_the_size_and_follow_torchs_generator() -> None:
    augmentation = augmentations.named("crop-flip", 16)
    image = torch.from_numpy(np.array(picture(2))).permute(2, 0, 1)
    torch.manual_seed(0)
    first = [augmentation.sample(image) for _ in range(20)]
    torch.manual_seed(0)
    again = [augmentation.sample(image) for _ in range(20)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(crop.shape == (3, 16, 16) and crop.dtype == torch.uint8 for crop in first)
    assert len({crop.numpy().tobytes() for crop in first}) == 20


def test_half_of_the_random_crops_are_flipped() -> None:
    augmentation = augmentations.named("crop-flip", 8)
    ramp = torch.arange(200, dtype=torch.uint8).expand(3, 50, 200)
    torch.manual_seed(0)
    flipped = sum(int(crop[0, 0, 0] > crop[0, 0, -1]) for crop in (augmentation.sample(ramp) for _ in range(400)))
    assert 160 < flipped < 240


def test_random_crops_cover_8_to_100_percent_of_the_area() -> None:
    augmentation = augmentations.named("crop-flip", 8)
    assert augmentation.crop.scale == (0.08, 1.0)  # type: ignore[attr-defined]
    assert augmentation.crop.ratio == (3 / 4, 4 / 3)  # type: ignore[attr-defined]


def test_bytes_become_numbers_from_0_to_1() -> None:
    found = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.2, 1.0]))


def test_an_unknown_augmentation_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown augmentation 'crop-flop': did you mean 'crop-flip'?"):
        augmentations.named("crop-flop", 32)

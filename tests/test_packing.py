"""What every dataset takes: fractions drawn at random, and images that do not decode found, named, or left out."""

import contextlib
import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages import align, cluster, embed, fetch_dataset, knn
from stages.artifacts.embeddings import read_embeddings
from stages.datasets import packed
from stages.datasets.decoding import UndecodableError, checked, decoded
from stages.datasets.packed import PackedImages, read_pack, write_packs
from stages.datasets.resized import resized
from stages.datasets.sources import Boxes, Split
from stages.datasets.splits import drawn, require_same_classes, subset
from stages.errors import UserError
from tests.conftest import ROOT, assert_refused, flags, program


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


def photo(seed: int, mode: str = "RGB") -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, size=(5, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((40, 30), Image.Resampling.BICUBIC).convert(mode)


PHOTO = encoded(photo(0))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """``photos/{train,val}/{cat,dog}``: 10 and 5 photos a class."""
    root = tmp_path / "photos"
    for split, count in (("train", 10), ("val", 5)):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                (root / split / name / f"{number}.jpg").write_bytes(encoded(photo(100 * label + number)))
    return root


def fetched(root: Path, out: Path, **options: Any) -> tuple[PackedImages, PackedImages]:
    out.mkdir(exist_ok=True)
    paths = {"train": out / "train.h5", "val": out / "val.h5"}
    fetch_dataset.main(flags({"source": "folder", "path": root, "name": "pets", **paths, **options}))
    return read_pack(paths["train"]), read_pack(paths["val"])


def contents(pack: PackedImages) -> list[bytes]:
    return [pack.encoded(index).tobytes() for index in range(len(pack))]


def split_of(labels: list[int], classes: int, boxes: Boxes | None = None) -> Split:
    files = [PHOTO + bytes([number]) for number in range(len(labels))]
    names = [f"{number}.jpg" for number in range(len(labels))]
    return Split(tuple("abcdefgh"[:classes]), np.array(labels), files, boxes, names)


# Fractions.


def test_a_fraction_is_drawn_by_its_seed_in_the_order_of_the_split(photos: Path, tmp_path: Path) -> None:
    whole = fetched(photos, tmp_path / "whole")
    half = fetched(photos, tmp_path / "half", train_fraction=0.5, val_fraction=0.3)
    again = fetched(photos, tmp_path / "again", train_fraction=0.5, val_fraction=0.3)
    other = fetched(photos, tmp_path / "other", train_fraction=0.5, fraction_seed=1)
    assert [len(pack) for pack in half] == [10, 3]
    assert [len(pack) for pack in other] == [10, 10]
    for all_images, some, same in zip(whole, half, again, strict=True):
        rows = [contents(all_images).index(file) for file in contents(some)]
        assert rows == sorted(set(rows))
        assert some.labels.tolist() == all_images.labels[rows].tolist()
        assert contents(same) == contents(some)
        assert same.fingerprint == some.fingerprint != all_images.fingerprint
    assert contents(other[0]) != contents(half[0])


@settings(max_examples=30)
@given(images=st.integers(1, 50), small=st.floats(0.001, 1), large=st.floats(0.001, 1), seed=st.integers(0, 5))
def test_a_smaller_fraction_is_part_of_a_larger(images: int, small: float, large: float, seed: int) -> None:
    split = split_of([0] * images, 1)
    small, large = sorted((small, large))
    few, many = drawn(split, small, seed), drawn(split, large, seed)
    assert len(few.labels) == max(1, round(small * images))
    assert few.names is not None
    assert many.names is not None
    assert set(few.names) <= set(many.names)
    assert [few.images[row] for row in range(len(few.labels))] == [
        split.images[int(name.removesuffix(".jpg"))] for name in few.names
    ]


def test_a_fraction_that_loses_a_class_is_told(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="stages"):
        train, val = fetched(photos, tmp_path, train_fraction=0.05)
    assert (len(train), len(val)) == (1, 10)
    assert caplog.messages == ["train of pets: no image of 1 classes was drawn"]


def test_every_image_is_as_likely_to_be_drawn() -> None:
    split = split_of([0] * 20, 1)
    counts = np.zeros(20)
    for seed in range(400):
        counts[[int(str(name).removesuffix(".jpg")) for name in drawn(split, 0.25, seed).names or ()]] += 1
    assert counts.sum() == 400 * 5
    assert np.abs(counts - 100).max() < 5 * np.sqrt(400 * 0.25 * 0.75)


def test_boxes_go_with_their_images() -> None:
    counts = [2, 0, 3, 1]
    corners = np.arange(24, dtype=np.float32).reshape(6, 4)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    boxes = Boxes(offsets, corners, np.arange(6), np.arange(6) % 2 == 0)
    found = subset(split_of([0, 0, 0, 0], 1, boxes), np.array([1, 2, 3])).boxes
    assert found is not None
    assert found.offsets.tolist() == [0, 0, 3, 4]
    np.testing.assert_array_equal(found.corners, corners[2:])
    assert found.classes.tolist() == [2, 3, 4, 5]
    assert found.difficult.tolist() == [True, False, True, False]
    none = subset(split_of([0, 0, 0, 0], 1, boxes), np.array([1])).boxes
    assert none is not None
    assert none.corners.shape == (0, 4)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("train_fraction", 0, "--train-fraction is 0; expected a number above 0 and up to 1"),
        ("val_fraction", 1.5, "--val-fraction is 1.5; expected a number above 0 and up to 1"),
        ("train_fraction", "nan", "--train-fraction is nan; expected a number above 0 and up to 1"),
        ("fraction_seed", -1, "--fraction-seed is -1; expected 0 to 2000000000"),
        ("skip_corrupt", -1, "--skip-corrupt is -1; expected at least 0"),
        ("workers", -1, "--workers is -1; expected at least 0"),
    ],
)
def test_a_value_out_of_range_is_one_line(
    option: str, value: object, message: str, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        fetched(photos, tmp_path, **{option: value})
    assert not list(tmp_path.glob("*.h5*"))


# Classes.


def test_splits_of_different_classes_are_refused() -> None:
    splits = {"train": split_of([0, 1], 2), "val": split_of([0, 1, 2], 3)}
    with pytest.raises(UserError, match="dataset toy: its train split has no class 'c', which its val split has"):
        require_same_classes(splits, "toy")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_without_an_image_is_refused(split: str) -> None:
    splits = {"train": split_of([0, 1, 2], 3), "val": split_of([0, 1, 2], 3), split: split_of([2, 0, 0], 3)}
    with pytest.raises(UserError, match=f"dataset toy: its {split} split has no image of the class 'b'; expected some"):
        require_same_classes(splits, "toy")


def test_a_split_without_labels_has_none_to_lack() -> None:
    require_same_classes({"train": split_of([-1, -1], 3), "val": split_of([0, 1, 2], 3)}, "toy")


@pytest.mark.parametrize(
    ("split", "says"),
    [
        (dataclasses.replace(split_of([0, 1, 2], 3), labels=np.array([0, 1])), "has 3 images and 2 labels"),
        (split_of([0, 1, 3], 3), "has labels from 0 to 3; expected 0 to 2, or -1 for none"),
        (split_of([0, 1, -2], 3), "has labels from -2 to 1; expected 0 to 2, or -1 for none"),
    ],
)
def test_labels_that_are_not_the_images_are_refused(split: Split, says: str) -> None:
    with pytest.raises(UserError, match=f"dataset toy: its val split {says}"):
        require_same_classes({"train": split_of([0, 1, 2], 3), "val": split}, "toy")


# Images that do not decode.

CORRUPT = {
    "empty": b"",
    "text": b"<html>404 not found</html>",
    "half a jpeg": encoded(photo(1).resize((200, 150)))[:3000],
    "a tiff of 32 bits": encoded(photo(1).convert("F"), "TIFF"),
    "half a png": encoded(photo(1), "PNG")[:700],
    "half a webp": encoded(photo(1), "WEBP")[:100],
    "a png with a broken stream": encoded(photo(1), "PNG")[:50] + bytes(2000),
    "the header alone": PHOTO[:200],
    "zeros": bytes(1000),
}

SOUND = {
    "16 bits": encoded(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000), "PNG"),
    "cmyk": encoded(photo(2, "CMYK")),
    "palette": encoded(photo(2, "P"), "PNG"),
    "palette with transparency": encoded(photo(2, "RGBA").quantize(), "PNG"),
    "grey": encoded(photo(2, "L")),
    "two colours": encoded(photo(2, "1"), "PNG"),
    "png named jpg": encoded(photo(2), "PNG"),
}


@pytest.mark.parametrize("fault", CORRUPT)
def test_an_image_that_does_not_decode_is_named_and_nothing_is_packed(fault: str, photos: Path, tmp_path: Path) -> None:
    file = photos / "val/dog/3.jpg"
    file.write_bytes(CORRUPT[fault])
    with pytest.raises(UserError) as refused:
        fetched(photos, tmp_path)
    assert str(refused.value) == (
        f"dataset pets: images that do not decode (1, of which 0 may be left out): {file}; mend or remove them, or "
        "set skip_corrupt: 1"
    )
    assert not list(tmp_path.glob("*.h5*"))


def test_images_of_any_mode_are_sound(photos: Path, tmp_path: Path) -> None:
    for number, content in enumerate(SOUND.values()):
        (photos / f"train/cat/{number}.jpg").write_bytes(content)
    train, _ = fetched(photos, tmp_path)
    assert contents(train)[: len(SOUND)] == list(SOUND.values())
    assert [train.picture(index).mode for index in range(len(SOUND))] == ["RGB"] * len(SOUND)


@pytest.mark.parametrize("workers", [0, 2])
def test_all_that_do_not_decode_are_told_with_their_faults(
    workers: int, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [photos / f"{split}/{name}/{number}.jpg" for split in ("train", "val") for name in ("cat", "dog")
             for number in (1, 4)]  # fmt: skip
    for file in files:
        file.write_bytes(b"")
    message = f"decode (8, of which 7 may be left out): {', '.join(map(str, files[:5]))} and 3 more, all in the log"
    with pytest.raises(UserError, match=re.escape(message)), caplog.at_level("WARNING", logger="stages"):
        fetched(photos, tmp_path, skip_corrupt=7, workers=workers)
    assert caplog.messages == [f"{file}: does not decode (empty)" for file in files]
    assert not list(tmp_path.glob("*.h5*"))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_left_out_leaves_the_pack_of_the_others(workers: int, photos: Path, tmp_path: Path) -> None:
    corrupt = [photos / "train/cat/0.jpg", photos / "train/dog/9.jpg", photos / "val/cat/2.jpg"]
    for file in corrupt:
        file.write_bytes(b"hello")
    found = fetched(photos, tmp_path / "found", skip_corrupt=3, workers=workers)
    for file in corrupt:
        file.unlink()
    expected = fetched(photos, tmp_path / "expected")
    assert [pack.skipped for pack in found] == [2, 1]
    assert [pack.skipped for pack in expected] == [0, 0]
    for some, same in zip(found, expected, strict=True):
        assert contents(some) == contents(same)
        assert len(some.blob) == len(same.blob) == sum(map(len, contents(same)))
        assert some.labels.tolist() == same.labels.tolist()
        assert some.fingerprint == same.fingerprint


def test_corrupt_images_that_were_not_drawn_do_not_matter(photos: Path, tmp_path: Path) -> None:
    (photos / "train/cat/0.jpg").write_bytes(b"")
    seeds = [seed for seed in range(20) if 0 not in np.random.default_rng(seed).permutation(20)[:10]]
    train, _ = fetched(photos, tmp_path, train_fraction=0.5, fraction_seed=seeds[0])
    assert (len(train), train.skipped) == (10, 0)


def test_a_split_of_nothing_but_corrupt_images_is_refused(tmp_path: Path) -> None:
    files = [b"x", b"y"]
    split = Split(("a",), np.array([0, 0]), files)
    with pytest.raises(UserError, match="dataset toy: no image of its train split decodes"):
        write_packs({tmp_path / "t.h5": ("train", split)}, name="toy", source="toy", skip_corrupt=2)
    with pytest.raises(UserError, match=r"decode \(2, of which 0 may be left out\): image 0, image 1; mend"):
        write_packs({tmp_path / "t.h5": ("train", split)}, name="toy", source="toy")
    assert not list(tmp_path.iterdir())


def test_images_are_packed_whole_however_many_bytes_are_copied_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "SLICE", 100)
    write_packs({tmp_path / "t.h5": ("train", split_of([0, 0, 0], 1))}, name="toy", source="toy")
    assert contents(read_pack(tmp_path / "t.h5")) == [PHOTO + bytes([number]) for number in range(3)]


def test_labels_and_boxes_of_what_is_left_out_go_with_it(tmp_path: Path) -> None:
    files = [PHOTO, b"", PHOTO + b"2"]
    labels = np.array([[1, 0], [0, 1], [-1, 1]], dtype=np.int8)
    difficult = np.array([False, False, False, True])
    boxes = Boxes(np.array([0, 1, 3, 4]), np.eye(4, dtype=np.float32), np.array([1, 1, 1, 0]), difficult)
    split = Split(("a", "b"), labels, files, boxes)
    write_packs({tmp_path / "t.h5": ("train", split)}, name="toy", source="toy", skip_corrupt=1)
    pack = read_pack(tmp_path / "t.h5")
    assert contents(pack) == [files[0], files[2]]
    np.testing.assert_array_equal(pack.labels, labels[[0, 2]])
    assert pack.boxes is not None
    assert pack.boxes.offsets.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(pack.boxes.corners, np.eye(4)[[0, 3]])
    assert pack.boxes.classes.tolist() == [1, 0]
    assert pack.boxes.difficult.tolist() == [False, True]


def test_what_was_left_out_is_counted_to_the_metrics(photos: Path, tmp_path: Path, weights: Path) -> None:
    for file in ("train/cat/0.jpg", "train/dog/1.jpg"):
        (photos / file).write_bytes(b"")
    packs = fetched(photos, tmp_path, skip_corrupt=2)
    caches = [tmp_path / "train-e.h5", tmp_path / "val-e.h5"]
    images = [part for name, paths in (("--images", [pack.path for pack in packs]), ("--embeddings", caches))
              for part in (name, *map(str, paths))]  # fmt: skip
    embed.main([*flags({"weights": weights, "augmentation": "crop-flip"}), *images])
    assert [read_embeddings(cache).skipped for cache in caches] == [2, 0]
    pair = {"train": caches[0], "val": caches[1]}
    knn.main(flags({**pair, "metrics": tmp_path / "knn.json"}))
    cluster.main(flags({**pair, "clusters": 2, "assignments": tmp_path / "clusters.h5"}))
    align.main(flags({"assignments": tmp_path / "clusters.h5", "metrics": tmp_path / "ca.json"}))
    for name in ("knn.json", "ca.json"):
        assert json.loads((tmp_path / name).read_text())["n"] == {"train": 18, "train_skipped": 2, "val": 10}


# Decoding.


def damaged(content: bytes, changes: list[tuple[int, int]], end: int) -> bytes:
    damaged = bytearray(content)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    return bytes(damaged[: max(0, len(damaged) - end)])


@settings(max_examples=200)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "AVIF", "DDS"]),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    end=st.integers(0, 600),
)
def test_whatever_is_damaged_decodes_or_is_told(kind: str, changes: list[tuple[int, int]], end: int) -> None:
    content = damaged(encoded(photo(3), kind), changes, end)
    ((_, fault),) = checked([content], 0)
    assert "\n" not in fault
    if fault:
        with pytest.raises(UndecodableError):
            decoded(content)
    else:
        assert decoded(content).mode == "RGB"


def test_several_processes_find_what_one_finds() -> None:
    images = [*CORRUPT.values(), *SOUND.values()] * 20
    alone = list(checked(images, 0))
    assert list(checked(images, 3)) == alone
    assert [image for image, _ in alone] == images
    faults = [bool(fault) for _, fault in alone]
    assert faults == ([True] * len(CORRUPT) + [False] * len(SOUND)) * 20


class _Counted(list[bytes]):
    """Images that count how many were asked for."""

    asked = 0

    def __getitem__(self, index: Any) -> Any:
        _Counted.asked += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("short_side", [0, 20])
def test_packing_reads_each_image_once(short_side: int, tmp_path: Path) -> None:
    _Counted.asked = 0
    split = dataclasses.replace(split_of([0] * 40, 1), images=_Counted([PHOTO] * 40))
    split = resized(split, short_side, "toy") if short_side else split
    write_packs({tmp_path / "t.h5": ("train", split)}, name="toy", source="toy")
    assert _Counted.asked == 40


def test_images_are_read_one_after_the_other_not_all_at_once() -> None:
    images = _Counted([PHOTO] * 500)
    _Counted.asked = 0
    stream = checked(images, 0)
    for _ in range(20):
        next(stream)
    assert _Counted.asked <= 40


# The program.


def test_the_program_names_the_image_and_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    file = photos / "train/dog/4.jpg"
    file.write_bytes(PHOTO[:300])
    before = set(tmp_path.rglob("*"))
    paths = {"train": tmp_path / "train.h5", "val": tmp_path / "val.h5", "workers": 2}
    done = program("fetch_dataset", *flags({"source": "folder", "path": photos, "name": "pets", **paths}))
    assert_refused(done, file, "skip_corrupt: 1", folder=tmp_path, before=before)
    assert f"{file}: does not decode (" in done.stderr


@pytest.fixture
def many(photos: Path) -> Path:
    """``photos`` with enough in it to be interrupted."""
    for number in range(3000):
        os.link(photos / "train/cat/0.jpg", photos / f"train/cat/more{number}.jpg")
    return photos


def test_the_processes_of_a_killed_packing_end_too(many: Path, tmp_path: Path) -> None:
    paths = {"train": tmp_path / "train.h5", "val": tmp_path / "val.h5", "workers": 3}
    command = [sys.executable, "-m", "stages.fetch_dataset"]
    command += flags({"source": "folder", "path": many, "name": "pets", **paths})
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        while len(processes(process.pid)) < 4 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while processes(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not processes(process.pid)


def test_a_reading_process_that_dies_ends_the_packing(many: Path, tmp_path: Path) -> None:
    paths = {"train": tmp_path / "train.h5", "val": tmp_path / "val.h5", "workers": 2}
    command = [sys.executable, "-m", "stages.fetch_dataset"]
    command += flags({"source": "folder", "path": many, "name": "pets", **paths})
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while len(processes(process.pid)) < 3 and process.poll() is None:
            time.sleep(0.01)
        os.kill(max(processes(process.pid)), signal.SIGKILL)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: a process that reads images has died" in stderr
    assert not list(tmp_path.glob("*.h5*"))


def processes(session: int) -> list[int]:
    """The processes of a session that run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, of_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            found += [int(folder.name)] if int(of_session) == session and state != "Z" else []
    return found


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["the program", "all its processes"])
def test_a_terminated_packing_leaves_nothing(send: Callable[[int, int], None], many: Path, tmp_path: Path) -> None:
    paths = {"train": tmp_path / "train.h5", "val": tmp_path / "val.h5", "workers": 2}
    command = [sys.executable, "-m", "stages.fetch_dataset"]
    command += flags({"source": "folder", "path": many, "name": "pets", **paths})
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True) as process:
        while not (tmp_path / ".train.h5.partial").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.1)
        send(process.pid, signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, stderr.decode()
    assert b"Traceback" not in stderr
    assert not list(tmp_path.glob("*.h5*"))
    assert not list(tmp_path.glob(".*"))

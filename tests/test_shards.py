"""Embeddings in shards: the rows of the unsharded cache bit for bit, and no shard missing, foreign or altered."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from stages import embed, join_embeddings, knn
from stages.artifacts.embeddings import read_embeddings
from stages.artifacts.metrics import read_metrics
from stages.artifacts.shards import JoinedRows, join, shard_rows
from stages.errors import UserError
from tests.conftest import assert_refused, flags, program

Make = Callable[..., Path]

COUNT = 4
VECTORS = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float16)
LABELS = np.arange(30) % 3


@pytest.fixture
def write_shards(make_embeddings: Make, tmp_path: Path) -> Callable[..., Path]:
    """Writes shards of 7 and 8 rows of ``VECTORS``, into a folder of the split's name; each fact can be changed."""

    def write(split: str = "train", vectors: Any = VECTORS, **facts: Any) -> Path:
        folder = tmp_path / f"{split}.shards"
        facts = {"classes": ("a", "b", "c"), **facts}
        for number in range(1, COUNT + 1):
            rows = list(shard_rows(len(vectors), number, COUNT))
            path = folder / f"{number}of{COUNT}.h5"
            make_embeddings(split, vectors[rows], LABELS[rows], path=path, shard=(number, COUNT), **facts)
        return folder

    return write


@pytest.fixture
def cache(write_shards: Callable[..., Path], tmp_path: Path) -> Path:
    """The joined cache of the train split."""
    join(tmp_path / "train.h5", write_shards(), COUNT)
    return tmp_path / "train.h5"


@pytest.mark.parametrize(("images", "count"), [(30, 4), (7, 7), (1000, 3), (5, 1)])
def test_shards_are_all_rows_once_and_of_about_one_size(images: int, count: int) -> None:
    parts = [shard_rows(images, number, count) for number in range(1, count + 1)]
    assert [row for part in parts for row in part] == list(range(images))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_joined_cache_is_the_unsharded_one(cache: Path, make_embeddings: Make, tmp_path: Path) -> None:
    whole = read_embeddings(make_embeddings("train", VECTORS, LABELS, path=tmp_path / "whole.h5"))
    found = read_embeddings(cache)
    assert (found.vectors.dtype, found.vectors.shape) == (np.float16, (30, 5))
    np.testing.assert_array_equal(found.vectors, VECTORS)
    np.testing.assert_array_equal(found.labels, LABELS)
    for name in ("card", "weights", "dataset", "split", "dataset_fingerprint", "transform", "skipped"):
        assert getattr(found, name) == getattr(whole, name)
    rows = np.array([29, 0, 7, 6, 7, 15])
    np.testing.assert_array_equal(found.unit(), whole.unit())
    np.testing.assert_array_equal(found.unit(rows), whole.unit(rows))
    np.testing.assert_array_equal(found.exact_unit(), whole.exact_unit())


def test_nothing_is_copied_and_others_read_it_as_one_dataset(cache: Path) -> None:
    found = read_embeddings(cache)
    assert isinstance(found.vectors, JoinedRows)
    assert all(isinstance(part, np.memmap) and not part.flags.writeable for part in found.vectors.parts)
    with h5py.File(cache) as file:
        assert file["embeddings"].is_virtual
        np.testing.assert_array_equal(file["embeddings"][:], VECTORS)


def test_it_moves_with_its_shards(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("train.h5", "train.shards"):
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
    np.testing.assert_array_equal(read_embeddings(tmp_path / "elsewhere/train.h5").vectors, VECTORS)


@pytest.mark.parametrize(
    "rows",
    [
        slice(None),
        slice(5, 9),
        slice(28, 99),
        slice(9, 9),
        slice(-3, None),
        slice(0, 30, 7),
        np.array([29, 0, 0, 14]),
        np.arange(0),
    ],
)
def test_rows_are_those_of_one_array(rows: Any) -> None:
    parts = np.split(VECTORS, [1, 7, 22])
    found = JoinedRows(parts)[rows]
    np.testing.assert_array_equal(found, VECTORS[rows])
    assert found.dtype == VECTORS.dtype


@pytest.mark.parametrize("dtypes", [("f2", "f4"), ("f4", "f2")])
def test_rows_of_both_precisions_are_read_in_the_higher_whichever_comes_first(dtypes: tuple[str, str]) -> None:
    parts = [(VECTORS[:7] + np.float32(1e-3)).astype(dtypes[0]), (VECTORS[7:] + np.float32(1e-3)).astype(dtypes[1])]
    found = JoinedRows(parts)
    assert found.dtype == found[:].dtype == np.float32
    np.testing.assert_array_equal(found[:], np.concatenate([part.astype(np.float32) for part in parts]))


@pytest.mark.parametrize("row", [-1, 30])
def test_rows_that_are_not_there_are_an_error(row: int) -> None:
    with pytest.raises(IndexError, match="of 30"):
        JoinedRows(np.split(VECTORS, [1, 7]))[np.array([0, row])]


def test_a_shard_that_float16_does_not_hold_keeps_its_values(write_shards: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_shards(vectors=VECTORS.astype(np.float32) + 1e6)
    for number in (1, 3):
        shutil.move(folder / f"{number}of4.h5", tmp_path / f"{number}.h5")
        shutil.move(folder / f"{number}of4.h5.sha256", tmp_path / f"{number}.h5.sha256")
    write_shards()
    for number in (1, 3):
        shutil.move(tmp_path / f"{number}.h5", folder / f"{number}of4.h5")
        shutil.move(tmp_path / f"{number}.h5.sha256", folder / f"{number}of4.h5.sha256")
    join(tmp_path / "train.h5", folder, COUNT)
    expected = VECTORS.astype(np.float32)
    expected[[*range(7), *range(15, 22)]] += 1e6
    vectors = read_embeddings(tmp_path / "train.h5").vectors
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, expected)
    np.testing.assert_array_equal(vectors[np.array([3, 8])], expected[[3, 8]])


# What is refused, by those who read a cache.


def deleted(folder: Path) -> None:
    (folder / "3of4.h5").unlink()


def without_digest(folder: Path) -> None:
    (folder / "3of4.h5.sha256").unlink()


def truncated(folder: Path) -> None:
    os.truncate(folder / "3of4.h5", (folder / "3of4.h5").stat().st_size - 100)


def incomplete(folder: Path) -> None:
    with h5py.File(folder / "3of4.h5", "r+") as file:
        file.attrs["complete"] = False


def swapped(folder: Path) -> None:
    shutil.move(folder / "3of4.h5", folder / "once")
    shutil.move(folder / "2of4.h5", folder / "3of4.h5")
    shutil.move(folder / "once", folder / "2of4.h5")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (deleted, r"3of4\.h5: no such embeddings shard file"),
        (without_digest, r"3of4\.h5\.sha256: is missing"),
        (truncated, r"3of4\.h5: damaged or truncated"),
        (incomplete, r"3of4\.h5: incomplete"),
        (swapped, r"2of4\.h5: holds shard 3 of 4"),
    ],
)
def test_a_faulty_shard_is_named(cache: Path, fault: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    fault(tmp_path / "train.shards")
    with pytest.raises(UserError, match=rf"{message}.*; delete .*train\.h5 too"):
        read_embeddings(cache)
    with pytest.raises(UserError, match=message):
        join(tmp_path / "again.h5", tmp_path / "train.shards", COUNT)
    assert not (tmp_path / "again.h5").exists()


@pytest.mark.parametrize("fact", ["weights", "dataset_fingerprint", "transform"])
def test_a_shard_of_other_embeddings_is_refused(
    cache: Path, write_shards: Callable[..., Path], tmp_path: Path, fact: str
) -> None:
    mine = tmp_path / "train.shards"
    shutil.move(mine, tmp_path / "kept")
    write_shards(**{fact: "another"})
    for name in ("3of4.h5", "3of4.h5.sha256"):
        shutil.copy(mine / name, tmp_path / "kept" / name)
    shutil.rmtree(mine)
    shutil.move(tmp_path / "kept", mine)
    with pytest.raises(UserError, match=rf"3of4\.h5: its {fact} is another"):
        read_embeddings(cache)


def test_shards_that_were_all_made_anew_have_to_be_joined_anew(
    cache: Path, write_shards: Callable[..., Path], tmp_path: Path
) -> None:
    digest = (tmp_path / "train.h5.sha256").read_text()
    write_shards(vectors=VECTORS + 1, weights="another")
    with pytest.raises(UserError, match=r"1of4\.h5: is not the one that was joined; delete .*train\.h5 too"):
        read_embeddings(cache)
    join(cache, tmp_path / "train.shards", COUNT)
    np.testing.assert_array_equal(read_embeddings(cache).vectors, VECTORS + 1)
    assert (tmp_path / "train.h5.sha256").read_text() != digest


def test_shards_made_again_alike_leave_the_digest_as_it_was(
    cache: Path, write_shards: Callable[..., Path], tmp_path: Path
) -> None:
    digest = (tmp_path / "train.h5.sha256").read_text()
    time.sleep(1.1)  # HDF5 tells times in seconds.
    write_shards()
    np.testing.assert_array_equal(read_embeddings(cache).vectors, VECTORS)
    join(cache, tmp_path / "train.shards", COUNT)
    assert (tmp_path / "train.h5.sha256").read_text() == digest


def test_a_shard_alone_is_no_cache(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected embeddings, found embeddings shard"):
        read_embeddings(tmp_path / "train.shards/1of4.h5")


# The programs.


def test_jobs_that_share_the_work_give_what_one_gives(weights: Path, digits: SimpleNamespace, tmp_path: Path) -> None:
    """Bit for bit, as the shards are whole batches here: 450 val images are 9 of 50."""
    common = {"weights": weights, "augmentation": "crop-flip", "batch_size": 50}
    images = ["--images", str(digits.train), str(digits.val)]

    def embedded(train: Path, val: Path, *more: str) -> None:
        embed.main([*flags(common), *images, "--embeddings", str(train), str(val), *more])

    embedded(tmp_path / "one-train.h5", tmp_path / "one-val.h5")
    folders = [tmp_path / "train.shards", tmp_path / "val.shards"]
    for number in ("2", "3", "1"):
        embedded(*(folder / f"{number}of3.h5" for folder in folders), "--shard", number, "3")
    caches = [tmp_path / "train.h5", tmp_path / "val.h5"]
    paths = ["--folders", *map(str, folders), "--embeddings", *map(str, caches)]
    join_embeddings.main(["--shards", "3", *paths])
    one, found = read_embeddings(tmp_path / "one-val.h5"), read_embeddings(caches[1])
    assert found.vectors.dtype == one.vectors.dtype
    np.testing.assert_array_equal(found.vectors, one.vectors)
    np.testing.assert_array_equal(found.labels, one.labels)
    train = read_embeddings(caches[0])
    assert [len(part) for part in train.vectors.parts] == [449, 449, 449]  # type: ignore[union-attr]
    np.testing.assert_allclose(train.vectors, read_embeddings(tmp_path / "one-train.h5").vectors, rtol=2e-3, atol=1e-5)
    knn.main(flags({"train": caches[0], "val": caches[1], "metrics": tmp_path / "knn.json"}))
    assert read_metrics(tmp_path / "knn.json").n == {"train": 1347, "val": 450}


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("1 451", "--shard: 451 shards of 450 images; expected at least an image in each"),
        ("0 3", "--shard is 0 3; expected the shard's number, from 1 on"),
        ("4 3", "--shard is 4 3; expected the shard's number, from 1 on"),
    ],
)
def test_shards_without_images_are_refused(
    weights: Path, digits: SimpleNamespace, tmp_path: Path, shard: str, message: str
) -> None:
    files = {"weights": weights, "augmentation": "crop-flip", "images": digits.val, "embeddings": tmp_path / "out.h5"}
    with pytest.raises(UserError, match=message):
        embed.main([*flags(files), "--shard", *shard.split()])
    assert not list(tmp_path.iterdir())


def test_the_program_names_the_shard_that_is_missing(cache: Path, tmp_path: Path) -> None:
    deleted(tmp_path / "train.shards")
    before = set(tmp_path.rglob("*"))
    paths = {"shards": COUNT, "folders": tmp_path / "train.shards", "embeddings": tmp_path / "other.h5"}
    done = program("join_embeddings", *flags(paths))
    assert_refused(done, tmp_path / "train.shards/3of4.h5", "no such", folder=tmp_path, before=before)


def test_shards_that_lie_elsewhere_are_refused(cache: Path, tmp_path: Path) -> None:
    paths = {"shards": COUNT, "folders": tmp_path / "train.shards", "embeddings": tmp_path / "far/train.h5"}
    with pytest.raises(UserError, match="is not beside"):
        join_embeddings.main(flags(paths))

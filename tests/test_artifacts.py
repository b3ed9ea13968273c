"""The files between jobs: whole or not there, and refused when damaged, cut short, of another kind or another make."""

import dataclasses
import errno
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from stages.artifacts import embeddings
from stages.artifacts.assignments import Assignments, read_assignments, write_assignments
from stages.artifacts.atomic import atomic, atomic_with_digest, write_text
from stages.artifacts.embeddings import Embeddings, read_embeddings, threads, unit_rows
from stages.artifacts.heads import load_heads, save_heads
from stages.artifacts.metrics import Metrics, read_metrics, write_metrics
from stages.artifacts.weights import InputContract, digest_of, load_weights, read_card, save_weights
from stages.datasets.packed import read_pack, write_packs
from stages.datasets.sources import Split
from stages.errors import UserError
from tests.conftest import ROOT, assert_refused, card, flags, program

Make = Callable[..., Path]


def some_assignments(images: int = 6, classes: int = 3) -> Assignments:
    labels = np.arange(images) % classes
    return Assignments(
        train=labels[None].astype(np.int32),
        val=labels[None].astype(np.int32),
        train_labels=labels,
        val_labels=labels,
        classes=tuple(f"class {number}" for number in range(classes)),
        clusters=classes,
        iterations=7,
        seeds=(1234,),
        card=card(),
        dataset="toy",
        dataset_fingerprint="fingerprint-of-toy",
        skipped=(2, 1),
    )


def some_split(images: int = 40, classes: int = 4) -> Split:
    buffer = io.BytesIO()
    Image.new("1", (1, 1)).save(buffer, format="PNG")
    # What follows the end of a PNG file is no part of it.
    files = [buffer.getvalue() + bytes([number % 250]) * (number % 250) for number in range(images)]
    return Split(
        classes=tuple(f"n{number:08d}" for number in range(classes)),
        labels=np.arange(images) % classes,
        images=files,
    )


def some_metrics() -> Metrics:
    return Metrics(
        encoder={"name": "toy"},
        dataset="toy",
        evaluation="knn",
        protocol="compress 1-NN",
        values={"top1": 97.25},
        deviations={"top1": 0.5},
        n={"train": 10, "val": 5},
        seeds=(0, 1),
        options={"k": 1},
        wall_time_s=0.25,
    )


# Writing, whole or not at all.


def test_a_file_appears_under_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with atomic(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("writing", [atomic, atomic_with_digest])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_writing_leaves_the_file_before_it(writing: Any, error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file"
    with writing(path) as temporary:
        temporary.write_text("before")
    before = {file: file.read_text() for file in tmp_path.iterdir()}
    with pytest.raises(error), writing(path) as temporary:  # noqa: PT012
        temporary.write_text("half of it")
        raise error
    assert {file: file.read_text() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("kind", ["embeddings", "dataset", "assignments", "weights"])
def test_the_digest_beside_a_file_verifies_with_sha256sum(kind: str, made: dict[str, Path]) -> None:
    folder, name = made[kind].parent, made[kind].name
    done = subprocess.run(["sha256sum", "-c", f"{name}.sha256"], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{name}: OK\n")
    assert digest_of(made[kind]) == hashlib.sha256(made[kind].read_bytes()).hexdigest()


def test_no_digest_of_other_content_is_ever_beside_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"

    def interrupted(sidecar: Path, text: str) -> None:
        raise KeyboardInterrupt

    for content in ("first", "second"):
        if content == "second":
            monkeypatch.setattr("stages.artifacts.atomic.write_text", interrupted)
        try:
            with atomic_with_digest(path) as temporary:
                temporary.write_text(content)
        except KeyboardInterrupt:
            assert content == "second"
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from stages.artifacts.embeddings import writing_embeddings
from stages.artifacts.weights import EncoderCard, InputContract
from stages.command_line import run

def main(argv):
    card = EncoderCard("toy", "resnet18", 64, InputContract(32), {})
    facts = dict(labels=np.zeros(9000, dtype=np.int64), classes=("a",), card=card, weights="w", dataset="toy",
                 split="train", dataset_fingerprint="f", transform="t")
    with writing_embeddings(Path(sys.argv[1]), (9000, 64), "float32", **facts) as write:
        write(0, np.ones((4000, 64), dtype=np.float32))
        print("half", flush=True)
        time.sleep(60)

run(main)
"""


@pytest.mark.parametrize(
    ("how", "status", "left"),
    [(signal.SIGTERM, 128 + signal.SIGTERM, []), (signal.SIGKILL, -signal.SIGKILL, [".train.h5.partial"])],
)
def test_a_writer_killed_in_the_middle_leaves_no_file(
    how: signal.Signals, status: int, left: list[str], tmp_path: Path, make_embeddings: Make
) -> None:
    path = tmp_path / "train.h5"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == "half\n"
        writer.send_signal(how)
        assert writer.wait(timeout=30) == status
    assert [file.name for file in tmp_path.iterdir()] == left
    if left:  # not even under its own name is the half a file for us
        with pytest.raises(
            UserError, match=r"(damaged or truncated|incomplete).*alone first \(snakemake \S+\)|not ours"
        ):
            read_embeddings(tmp_path / left[0])
    make_embeddings("train", np.eye(3, dtype=np.float32), range(3))
    assert read_embeddings(path).vectors.shape == (3, 3)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["train.h5", "train.h5.sha256"]


# Reading back what was written.


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_embeddings_come_back_as_they_were_written(make_embeddings: Make, dtype: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(70, 5)).astype(dtype)
    labels = np.arange(70) % 7
    path = make_embeddings("train", vectors, labels, skipped=3)
    found = read_embeddings(path)
    assert isinstance(found.vectors, np.memmap)
    assert found.vectors.dtype == dtype
    np.testing.assert_array_equal(found.vectors, vectors)
    np.testing.assert_array_equal(found.labels, labels)
    others = dataclasses.asdict(found)
    del others["vectors"], others["labels"], others["card"]
    assert others == {
        "path": path,
        "classes": tuple(f"class {label}" for label in range(7)),
        "weights": "sha-of-the-weights",
        "dataset": "toy",
        "split": "train",
        "dataset_fingerprint": "fingerprint-of-toy",
        "transform": "resize 256/224, centre crop at 32",
        "skipped": 3,
    }
    assert found.card == card(dimension=5)


@pytest.mark.parametrize(("number", "expected"), [("3", 3), ("4,2", 4), ("", len(os.sched_getaffinity(0)))])
def test_threads_are_as_many_as_openmps(monkeypatch: pytest.MonkeyPatch, number: str, expected: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", number)
    assert threads() == expected


def test_the_memory_map_cannot_be_written_through(make_embeddings: Make) -> None:
    found = read_embeddings(make_embeddings("train", np.eye(3, dtype=np.float32), range(3)))
    with pytest.raises(ValueError, match="read-only"):
        found.vectors[0] = 0
    found.unit()[0] = 0
    np.testing.assert_array_equal(found.vectors, np.eye(3))


def test_weights_and_their_card_come_back_as_they_were_written(tmp_path: Path) -> None:
    state = {"a.weight": torch.randn(3, 4), "b.count": torch.tensor(7), "c": torch.randn(4, 3).T}
    written = card(contract=InputContract(96, (0.0, 0.5, 1.0), (1.0, 2.0, 3.0)), origin={"way": "fetch", "seed": 3})
    save_weights(tmp_path / "w.safetensors", state, written)
    found, found_card = load_weights(tmp_path / "w.safetensors")
    assert found_card == read_card(tmp_path / "w.safetensors") == written
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor)


def test_tensors_that_share_memory_are_written_each(tmp_path: Path) -> None:
    """As those of timm's CoaT do, whose blocks share modules."""
    shared = torch.randn(4, 4)
    state = {"a": shared, "b": shared, "c": shared[1:], "d": shared.T}
    save_weights(tmp_path / "w.safetensors", state, card())
    save_heads(tmp_path / "h.safetensors", state, tmp_path / "w.safetensors")
    for found in (
        load_weights(tmp_path / "w.safetensors")[0],
        load_heads(tmp_path / "h.safetensors", tmp_path / "w.safetensors"),
    ):
        assert all(torch.equal(found[name], state[name]) for name in state)


def test_assignments_come_back_as_they_were_written(tmp_path: Path) -> None:
    written = some_assignments()
    write_assignments(tmp_path / "clusters.h5", written)
    found = read_assignments(tmp_path / "clusters.h5")
    for field in dataclasses.fields(Assignments):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(written, field.name))


def test_metrics_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_metrics(tmp_path / "knn.json", some_metrics())
    assert read_metrics(tmp_path / "knn.json") == some_metrics()


def test_as_many_classes_as_imagenet_21k_fit(make_embeddings: Make, tmp_path: Path) -> None:
    count = 21_841
    names = tuple(f"n{number:08d}" for number in range(count))
    write_packs({tmp_path / "pack.h5": ("train", some_split(classes=count))}, name="toy", source="toy")
    assert read_pack(tmp_path / "pack.h5").classes == names
    path = make_embeddings("train", np.eye(3, dtype=np.float16), range(3), classes=names)
    assert read_embeddings(path).classes == names
    write_assignments(tmp_path / "clusters.h5", dataclasses.replace(some_assignments(), classes=names))
    assert read_assignments(tmp_path / "clusters.h5").classes == names


def test_class_names_may_be_of_any_script(make_embeddings: Make) -> None:
    names = ("Ärger", "猫", "chien d'eau")
    path = make_embeddings("train", np.eye(3, dtype=np.float16), range(3), classes=names)
    assert read_embeddings(path).classes == names


# Unit vectors.


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_unit_rows_are_those_of_float64(dtype: Any) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 300)).astype(dtype)
    wide = rows.astype(np.float64)
    expected = wide / np.sqrt((wide**2).sum(axis=1, keepdims=True))
    found = unit_rows(rows, "")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_the_rows_given_are_not_changed() -> None:
    rows = np.full((2, 2), 3, dtype=np.float32)
    unit_rows(rows, "")
    np.testing.assert_array_equal(rows, 3)


@pytest.mark.parametrize("rows", [None, np.array([99, 3, 3, 50, 7, 0, 61, 20])])
@pytest.mark.parametrize("count", ["1", "3"])
def test_unit_vectors_are_the_same_by_any_number_of_threads_and_parts(
    count: str, rows: NDArray[np.int64] | None, made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = read_embeddings(made["embeddings"])
    expected = unit_rows(np.array(cache.vectors if rows is None else cache.vectors[rows]), "")
    monkeypatch.setenv("OMP_NUM_THREADS", count)
    monkeypatch.setattr(embeddings, "PART_BYTES", 4 * 16 * 3)
    np.testing.assert_array_equal(cache.unit(rows), expected)
    np.testing.assert_array_equal(np.concatenate(list(cache.unit_slices(rows, size=4 * 16 * 5))), expected)


def test_a_zero_vector_is_named_by_its_row_whichever_part_it_is_in(
    make_embeddings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.ones((50, 4))
    vectors[[31, 47]] = 0
    cache = read_embeddings(make_embeddings("train", vectors, np.zeros(50)))
    monkeypatch.setattr(embeddings, "PART_BYTES", 4 * 4 * 10)
    with pytest.raises(UserError, match="the first is row 31 "):
        cache.unit()


# Damage.


@pytest.fixture
def made(make_embeddings: Make, tmp_path: Path) -> dict[str, Path]:
    """One file of each kind."""
    paths = {kind: tmp_path / f"{kind}.h5" for kind in ("embeddings", "dataset", "assignments", "weights")}
    vectors = np.random.default_rng(0).normal(size=(100, 16)).astype(np.float16)
    make_embeddings("train", vectors, np.arange(100) % 5, path=paths["embeddings"])
    write_packs({paths["dataset"]: ("train", some_split())}, name="toy", source="toy")
    write_assignments(paths["assignments"], some_assignments(100, 5))
    save_weights(paths["weights"], {"a": torch.zeros(50)}, card())
    return paths


READERS: dict[str, Callable[[Path], Any]] = {
    "embeddings": read_embeddings,
    "dataset": read_pack,
    "assignments": read_assignments,
    "weights": load_weights,
}
HDF5 = ["embeddings", "dataset", "assignments"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("kind", READERS)
def test_a_file_cut_short_is_refused(kind: str, share: float, made: dict[str, Path]) -> None:
    whole = made[kind].stat().st_size
    os.truncate(made[kind], min(int(share * whole), whole - 1))
    with pytest.raises(UserError, match=rf"{kind}\.h5: .*(damaged or truncated|not a whole).*run the stage"):
        READERS[kind](made[kind])


@pytest.mark.parametrize("value", [False, None])
@pytest.mark.parametrize("kind", HDF5)
def test_a_file_not_marked_complete_is_refused(kind: str, value: bool | None, made: dict[str, Path]) -> None:
    with h5py.File(made[kind], "r+") as file:
        del file.attrs["complete"]
        if value is not None:
            file.attrs["complete"] = value
    with pytest.raises(UserError, match=rf"{kind}\.h5: incomplete"):
        READERS[kind](made[kind])


@pytest.mark.parametrize("other", HDF5)
@pytest.mark.parametrize("kind", HDF5)
def test_a_file_of_another_kind_is_refused(kind: str, other: str, made: dict[str, Path]) -> None:
    if other == kind:
        READERS[kind](made[kind])
        return
    with pytest.raises(UserError, match=rf"{other}\.h5: expected {kind}, found {other}"):
        READERS[kind](made[other])


def test_an_hdf5_file_of_others_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file["embeddings"] = np.zeros((2, 2))
    with pytest.raises(UserError, match="found an HDF5 file that is not ours"):
        read_embeddings(tmp_path / "theirs.h5")


@pytest.mark.parametrize("content", [b"", b"hello, world\n" * 100, b"\x89HDF\r\n\x1a\n", b"\xff" * 4096])
@pytest.mark.parametrize("kind", READERS)
def test_anything_else_is_refused(kind: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.h5"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"file\.h5: .*unless it was given by mistake, delete it"):
        READERS[kind](path)


@pytest.mark.parametrize("kind", READERS)
def test_a_folder_is_no_file(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"no such {kind} file"):
        READERS[kind](tmp_path)


@pytest.mark.parametrize("kind", READERS)
def test_a_missing_file_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"nowhere\.h5: no such {kind} file"):
        READERS[kind](tmp_path / "nowhere.h5")


def test_weights_without_a_card_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"w\.safetensors: has no encoder card"):
        load_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"{}", b'{"seeds": [1]}', b'{"seeds": 1}', b"\xff\xfe\x00"])
def test_what_is_not_our_metrics_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "knn.json").write_bytes(content)
    with pytest.raises(UserError, match=r"knn\.json: not a metrics file of ours .*unless it was given by mistake"):
        read_metrics(tmp_path / "knn.json")


def test_metrics_with_a_key_that_is_not_known_are_refused(tmp_path: Path) -> None:
    write_metrics(tmp_path / "knn.json", some_metrics())
    fields = json.loads((tmp_path / "knn.json").read_text())
    (tmp_path / "knn.json").write_text(json.dumps({**fields, "surprise": 1}))
    with pytest.raises(UserError, match="surprise"):
        read_metrics(tmp_path / "knn.json")


@pytest.mark.parametrize("damage", ["cut short", "incomplete", "missing", "weights"])
def test_the_program_refuses_damaged_embeddings(damage: str, made: dict[str, Path], tmp_path: Path) -> None:
    train, val = made["embeddings"], tmp_path / "val.h5"
    shutil.copy(train, val)
    expected = {"cut short": "damaged", "incomplete": "incomplete", "missing": "no such", "weights": "not a readable"}
    if damage == "cut short":
        os.truncate(val, val.stat().st_size // 2)
    elif damage == "incomplete":
        with h5py.File(val, "r+") as file:
            file.attrs["complete"] = False
    elif damage == "missing":
        val.unlink()
    else:
        shutil.copy(made["weights"], val)
    before = set(tmp_path.rglob("*"))
    done = program("knn", *flags({"train": train, "val": val, "metrics": tmp_path / "knn.json"}))
    assert_refused(done, val, expected[damage], folder=tmp_path, before=before)


# A full disk.


def _write_embeddings(path: Path) -> Embeddings:
    from stages.artifacts.embeddings import writing_embeddings

    facts: dict[str, Any] = {"weights": "w", "dataset": "toy", "dataset_fingerprint": "f", "transform": "t"}
    labels = np.zeros(400, dtype=np.int64)
    with writing_embeddings(
        path, (400, 50), "float16", labels=labels, classes=("a",), card=card(), split="train", **facts
    ) as write:
        for start in range(0, 400, 100):
            write(start, np.ones((100, 50), dtype=np.float16))
    return read_embeddings(path)


def _write_pack(path: Path) -> Any:
    write_packs({path: ("train", some_split(200))}, name="toy", source="toy")
    return read_pack(path)


def _write_assignments(path: Path) -> Assignments:
    write_assignments(path, some_assignments(1000))
    return read_assignments(path)


def _write_weights(path: Path) -> Any:
    save_weights(path, {"a": torch.zeros(8000)}, card())
    return load_weights(path)


def _write_metrics(path: Path) -> Metrics:
    write_metrics(path, some_metrics())
    return read_metrics(path)


@pytest.mark.parametrize("kilobytes", [4, 8, 12, 20, 24, 32, 36, 40, 44, 48, 52, 56])
@pytest.mark.parametrize("write", [_write_embeddings, _write_pack, _write_assignments, _write_weights, _write_metrics])
def test_on_a_full_disk_a_file_is_whole_or_not_there(
    write: Callable[[Path], Any], kilobytes: int, small_disk: Callable[[int], Path]
) -> None:
    folder = small_disk(kilobytes)
    (folder / "other").write_bytes(bytes(4096))
    path = folder / "file"
    try:
        write(path)
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017
        # The digest comes last: where only it did not fit, the file is whole.
        if path.exists():
            assert write is not _write_metrics
            READERS[write.__name__.removeprefix("_write_").replace("pack", "dataset")](path)
        assert not list(folder.glob(".*"))
    else:
        assert path.exists()


def test_the_program_says_that_the_disk_is_full(small_disk: Callable[[int], Path]) -> None:
    folder = small_disk(200)
    paths = {"train": folder / "train.h5", "val": folder / "val.h5"}
    done = program("fetch_dataset", *flags({"source": "digits", "name": "digits", **paths}))
    full = "the disk is full ([Errno 28] No space left on device"
    assert_refused(done, full, folder, "free some space", folder=folder, before=set())


def test_small_text_is_written_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "text\n")
    assert (tmp_path / "a" / "b.txt").read_text() == "text\n"
    assert not re.search("partial", " ".join(os.listdir(tmp_path / "a")))  # noqa: PTH208

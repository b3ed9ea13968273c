"""Label subsets: a fair share of every class, the same on every machine, and lists that do not fit are refused."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import label_subset
from stages.artifacts.embeddings import read_embeddings
from stages.artifacts.subsets import Subset, labelled_rows, read_subset, write_subset
from stages.datasets.packed import PackedImages, read_pack
from stages.errors import UserError
from tests.conftest import assert_refused, flags, program

Make = Callable[..., Path]


def pack_of(labels: Any, classes: int = 5, **facts: Any) -> PackedImages:
    nothing = np.zeros(0, dtype=np.uint8)
    names = tuple(f"class {label}" for label in range(classes))
    known = {"path": Path("train.h5"), "name": "toy", "split": "train", "fingerprint": "f"}
    return PackedImages(
        blob=nothing, offsets=np.zeros(1), labels=np.asarray(labels), classes=names, **{**known, **facts}
    )


@given(st.lists(st.integers(1, 40), min_size=5, max_size=5), st.integers(1, 100), st.integers(0, 99))
def test_every_class_has_its_share_and_at_least_one(sizes: list[int], percent: int, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(5), sizes))
    rows = label_subset.balanced(pack_of(labels), label_subset.Options(percent, seed))
    assert rows.tolist() == sorted(set(rows.tolist()))
    for label, size in enumerate(sizes):
        assert abs(np.sum(labels[rows] == label) - max(1, size * percent / 100)) <= 0.5


def test_every_image_of_a_class_is_drawn_by_some_seed() -> None:
    labels = np.repeat(np.arange(5), 6)
    seen = {row for seed in range(60) for row in label_subset.balanced(pack_of(labels), label_subset.Options(17, seed))}
    assert seen == set(range(30))


def test_a_known_subset_is_the_same_on_every_machine(digits: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "digits-10.txt"
    label_subset.main(flags({"train": digits.train, "percent": 10, "subset": path}))
    rows = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert len(rows) == 136
    assert hashlib.sha256("\n".join(rows).encode()).hexdigest() == DIGITS_10
    found = read_subset(path)
    # Larger ones than this are compared by their digest.
    assert (
        path.with_name("digits-10.txt.sha256").read_text().split()[0] == hashlib.sha256(path.read_bytes()).hexdigest()
    )
    pack = read_pack(digits.train)
    assert (found.dataset, found.fingerprint, found.percent, found.seed) == ("digits", pack.fingerprint, 10, "0")
    assert np.bincount(pack.labels[found.rows]).tolist() == [
        (count * 10 + 50) // 100 for count in np.bincount(pack.labels)
    ]


DIGITS_10 = "6f9bd0209de003b26a9e649478d60c3386a36b959193f981e910842da7316647"


@pytest.mark.parametrize(
    ("pack", "message"),
    [
        (pack_of([0, 1, 2, 4]), "the class 'class 3' has no images; expected at least one"),
        (pack_of(np.zeros((4, 5), dtype=np.int8)), "its images have several classes each; expected one"),
        (pack_of(range(5), split="val"), "holds the val split; expected the train split"),
    ],
)
def test_a_split_that_cannot_be_drawn_from_is_refused(pack: PackedImages, message: str) -> None:
    with pytest.raises(UserError, match=rf"train\.h5: {message}"):
        label_subset.balanced(pack, label_subset.Options(10))


def test_the_program_refuses_a_percentage_of_nothing(digits: SimpleNamespace, tmp_path: Path) -> None:
    done = program("label_subset", *flags({"train": digits.train, "percent": 0, "subset": tmp_path / "0.txt"}))
    assert_refused(done, "--percent is 0; expected 1 to 100", folder=tmp_path, before=set())


@pytest.fixture
def train(make_embeddings: Make) -> Any:
    return read_embeddings(make_embeddings("train", np.eye(10, dtype=np.float32), np.arange(10) % 3))


SUBSET = Subset("toy", "fingerprint-of-toy", 30, "0", np.array([2, 5, 9]))


def test_a_list_comes_back_as_it_was_written(tmp_path: Path, train: Any) -> None:
    write_subset(tmp_path / "30.txt", SUBSET)
    write_subset(tmp_path / "50.txt", dataclasses.replace(SUBSET, percent=50, rows=np.array([1])))
    files = [tmp_path / "50.txt", tmp_path / "30.txt"]
    assert labelled_rows(30, files, train).tolist() == [2, 5, 9]
    assert labelled_rows(100, files, train).tolist() == list(range(10))


def test_a_published_list_needs_its_dataset_and_percent_alone(tmp_path: Path, train: Any) -> None:
    path = tmp_path / "published.txt"
    path.write_text("# from somewhere\n# fingerprint: fingerprint-of-toy\n# percent: 30\n\n9\n2\n5\n")
    assert labelled_rows(30, [path], train).tolist() == [2, 5, 9]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# percent: 30\n1\nn01440764_10026.JPEG\n", "line 3 is 'n01440764_10026.JPEG'; expected a row's index"),
        ("# percent: 30\n-1\n", "line 2 is '-1'"),
        ("# percent: 30\n1\n", "has no line '# fingerprint: ...'"),
        ("# fingerprint: fingerprint-of-toy\n1\n", "has no line '# percent: ...'"),
        ("# fingerprint: x\n# percent: some\n1\n", "its percent is 'some'"),
        (f"# fingerprint: x\n# percent: {'9' * 5000}\n1\n", "its percent is '99"),
        (f"# percent: 30\n{'9' * 20}\n", "line 2 is '99"),
        ("# fingerprint: x\n# percent: 30\n# images: 3\n1\n2\n", "lists 2 rows, 2 of them different; expected 3"),
        ("# fingerprint: x\n# percent: 30\n1\n1\n", "lists 2 rows, 1 of them different"),
        ("# fingerprint: another\n# percent: 30\n1\n", r"but .*train\.h5 holds toy \(fingerprint-"),
        ("# fingerprint: fingerprint-of-toy\n# percent: 30\n1\n10\n", "its last row is 10; expected some of 0 to 9"),
        ("# fingerprint: fingerprint-of-toy\n# percent: 30\n", "its last row is none"),
        (
            "# fingerprint: fingerprint-of-toy\n# percent: 20\n1\n",
            "asks for 30% of the labels, and --subsets gives lists of 20%",
        ),
    ],
)
def test_a_list_that_does_not_fit_is_refused(tmp_path: Path, train: Any, text: str, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as refusal:
        labelled_rows(30, [path], train)
    assert str(path) in str(refusal.value) or "--subsets" in str(refusal.value)


def test_a_missing_list_is_named(tmp_path: Path, train: Any) -> None:
    with pytest.raises(UserError, match=r"list\.txt: no such list of labelled images"):
        labelled_rows(30, [tmp_path / "list.txt"], train)


def test_what_is_no_text_is_refused(tmp_path: Path, train: Any) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"list\.txt: is no text"):
        labelled_rows(30, [tmp_path / "list.txt"], train)
    with pytest.raises(UserError, match="no such list of labelled images"):
        labelled_rows(30, [tmp_path], train)

"""Recall@k: against a float64 sort, by hand, on real birds, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import embed, fetch_dataset, retrieval
from stages.artifacts.embeddings import read_embeddings, unit_rows
from stages.artifacts.metrics import Metrics, read_metrics
from stages.errors import UserError
from tests.conftest import assert_refused, flags, photographs, program
from tests.test_knn import blobs

Make = Callable[..., Path]


def measured(val: Path, *ks: int) -> Metrics:
    metrics = val.parent / "retrieval.json"
    chosen = ["--ks", *map(str, ks)] if ks else []
    retrieval.main([*flags({"val": val, "metrics": metrics}), *chosen])
    return read_metrics(metrics)


def reference(vectors: Any, labels: Any, k: int) -> float:
    """Recall@k in float64, image by image: a sort of the others by cosine, of equals strangers first."""
    unit = vectors.astype(np.float64)
    unit /= np.sqrt((unit**2).sum(axis=1, keepdims=True))
    hits = 0
    for query in range(len(unit)):
        others = [row for row in range(len(unit)) if row != query]
        near = sorted(
            others, key=lambda row: (-round(float(unit[query] @ unit[row]), 12), labels[row] == labels[query])
        )
        hits += any(labels[row] == labels[query] for row in near[:k])
    return 100 * hits / len(unit)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_recall_is_that_of_a_plain_float64_sort(make_embeddings: Make, dtype: Any) -> None:
    vectors, labels, _, _ = blobs(seed=3, classes=12, images=150, spread=2.5)
    vectors = vectors.astype(dtype)
    found = measured(make_embeddings("val", vectors, labels), 1, 2, 4, 8, 20)
    assert found.values == pytest.approx({f"recall@{k}": reference(vectors, labels, k) for k in (1, 2, 4, 8, 20)})
    assert 20 < found.values["recall@1"] < found.values["recall@20"] < 100


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 4))
def test_recall_with_many_ties_is_that_of_the_sort(seed: int, images: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    # Few different directions, of several lengths: most images have duplicates, of their own class and of others.
    vectors = random.integers(1, 3, size=(images, 2)).astype(np.float32) * random.integers(1, 4, size=(images, 1))
    labels = random.integers(classes, size=images)
    before = retrieval.strangers_before(unit_rows(vectors, "", dtype=np.float64), labels)
    for k in range(1, images):
        assert 100 * np.mean(before < k) == pytest.approx(reference(vectors, labels, k))


def test_an_example_counted_by_hand(make_embeddings: Make) -> None:
    """Directions in degrees 0, 10, 25, 45, 70 of classes a, b, a, b, c.

    The first a sees b before a: a hit from k = 2 on. b at 10 sees a (0), a (25), b (45): from 3 on. a at 25 sees
    b (10), b (45), a (0): from 3 on. b at 45 sees a (25), c (70), b (10): from 3 on. c is alone.
    """
    angles = np.deg2rad([0, 10, 25, 45, 70])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = measured(make_embeddings("val", rows, [0, 1, 0, 1, 2]), 1, 2, 3, 4)
    assert found.values == {"recall@1": 0, "recall@2": 20, "recall@3": 80, "recall@4": 80}
    assert found.notes == {"single_image_classes": "1, whose images find none of their class: misses"}


def test_a_duplicate_is_a_neighbour_and_the_image_itself_is_not(make_embeddings: Make) -> None:
    rows = np.array([[1, 0], [1, 0], [0, 1], [0, 2], [-1, 0]], dtype=np.float32)
    found = measured(make_embeddings("val", rows, [0, 0, 1, 2, 1]), 1)
    # The first two find each other. The third's nearest is its duplicate of another class, the last's are the two.
    assert found.values == {"recall@1": 40}


def test_embeddings_all_alike_find_nothing_before_all_strangers(make_embeddings: Make) -> None:
    same = np.ones((20, 8), dtype=np.float16)
    found = measured(make_embeddings("val", same, np.repeat([0, 1], 10)), 1, 10, 11)
    assert found.values == {"recall@1": 0, "recall@10": 0, "recall@11": 100}


def test_a_narrow_cone_is_searched_as_well_as_the_whole_sphere(make_embeddings: Make) -> None:
    """In float32 the cosines of these directions, a ten-thousandth apart, are all one."""
    vectors, labels, _, _ = blobs(seed=6, classes=9, images=120, spread=1.5)
    narrow = 1e-4 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    narrow = np.concatenate([narrow, np.ones((120, 1))], axis=1).astype(np.float32)
    flat = (narrow - narrow.mean(axis=0)).astype(np.float64)
    squares = ((flat[:, None] - flat[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    expected = 100 * np.mean(labels[squares.argmin(axis=1)] == labels)
    found = measured(make_embeddings("val", narrow, labels)).values["recall@1"]
    assert found == pytest.approx(expected, abs=1)
    assert found > 40


def test_the_order_of_the_images_does_not_matter(make_embeddings: Make) -> None:
    vectors, labels, _, _ = blobs(seed=4, classes=9, images=120, spread=2.5)
    vectors[60:] = vectors[:60]
    order = np.random.default_rng(0).permutation(120)
    plain = measured(make_embeddings("val", vectors, labels)).values
    assert measured(make_embeddings("val", vectors[order], labels[order])).values == plain


def test_recall_is_the_same_however_many_are_searched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels, _, _ = blobs(seed=5, classes=9, images=101, spread=2.5)
    vectors[50:100] = vectors[:50]
    whole = retrieval.strangers_before(unit_rows(vectors, "", dtype=np.float64), labels)
    monkeypatch.setattr(retrieval, "SIMILARITIES", 101 * 7)
    np.testing.assert_array_equal(retrieval.strangers_before(unit_rows(vectors, "", dtype=np.float64), labels), whole)


def test_metrics_tell_what_was_measured(one_hot_pair: tuple[Path, Path]) -> None:
    found = measured(one_hot_pair[1])
    assert found.values == {f"recall@{k}": 100.0 for k in (1, 2, 4, 8)}
    assert (found.evaluation, found.dataset, found.n) == ("retrieval", "toy", {"train": 0, "val": 30})
    assert (found.seeds, found.deviations, found.notes) == ((), {}, {})
    assert found.options == {"ks": [1, 2, 4, 8]}


def test_images_that_were_left_out_are_counted(make_embeddings: Make) -> None:
    found = measured(make_embeddings("val", np.eye(4, dtype=np.float32), np.arange(4), skipped=3), 1)
    assert found.n == {"train": 0, "val": 4, "val_skipped": 3}


@pytest.mark.parametrize(
    ("ks", "message"),
    [
        ((1, 30), r"val\.h5: 30 neighbours asked for, but each of 30 images has 29 others"),
        ((1, 0), "--ks is 0; expected at least 1"),
    ],
)
def test_options_that_cannot_be_met_are_refused(
    one_hot_pair: tuple[Path, Path], ks: tuple[int, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        measured(one_hot_pair[1], *ks)
    assert not (one_hot_pair[1].parent / "retrieval.json").exists()


def test_no_neighbours_at_all_are_refused() -> None:
    with pytest.raises(UserError, match="--ks is empty"):
        retrieval.Options(ks=())


def test_the_train_split_is_refused(one_hot_pair: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"train\.h5: holds the train split; expected the val split"):
        measured(one_hot_pair[0])


def test_the_program_refuses_a_zero_vector(make_embeddings: Make, tmp_path: Path) -> None:
    rows = np.eye(10, dtype=np.float16)
    rows[3] = 0
    val = make_embeddings("val", rows, range(10))
    before = set(tmp_path.rglob("*"))
    done = program("retrieval", *flags({"val": val, "metrics": tmp_path / "retrieval.json"}))
    assert_refused(done, val, "row 3", "zero", folder=tmp_path, before=before)


def test_recall_on_real_birds_is_that_of_the_sort(weights: Path, tmp_path: Path) -> None:
    """Random features tell a bird's colours at least; chance is 2.4%, 29 of the 1,199 others."""
    birds = photographs("cub40-112px")
    packs = {split: tmp_path / f"{split}.h5" for split in ("train", "val")}
    fetch_dataset.main(flags({"source": "folder", "path": birds, "name": "cub40", **packs}))
    cache = tmp_path / "cub40-val.h5"
    embed.main(flags({"weights": weights, "augmentation": "crop-flip", "images": packs["val"], "embeddings": cache}))
    found = measured(cache)
    embeddings = read_embeddings(cache)
    labels = embeddings.single_labels()
    assert found.n["val"] == len(labels) == 1200
    for k in (1, 2, 4, 8):
        unit = np.array(embeddings.vectors, dtype=np.float64)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        similarities = unit @ unit.T
        np.fill_diagonal(similarities, -np.inf)
        near = np.argsort(-similarities, axis=1)[:, :k]
        expected = 100 * np.mean((labels[near] == labels[:, None]).any(axis=1))
        assert found.values[f"recall@{k}"] == pytest.approx(expected, abs=0.1)
    assert found.values["recall@1"] > 4

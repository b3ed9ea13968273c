"""k-NN: against scikit-learn and a plain formulation, its votes and draws, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.neighbors import KNeighborsClassifier

from stages import knn, search
from stages.artifacts import embeddings
from stages.artifacts.embeddings import unit_rows
from stages.artifacts.metrics import Metrics, read_metrics
from stages.artifacts.subsets import Subset, write_subset
from stages.errors import UserError
from stages.search import nearest
from tests.conftest import assert_refused, card, flags, noted_rows, peak_bytes, program

Make = Callable[..., Path]


def measured(train: Path, val: Path, **options: object) -> Metrics:
    metrics = train.parent / "knn.json"
    knn.main(flags({"train": train, "val": val, "metrics": metrics, **options}))
    return read_metrics(metrics)


def blobs(seed: int, classes: int, images: int, spread: float) -> tuple[Any, Any, Any, Any]:
    """Overlapping classes of different lengths of vectors: train, its labels, val, its labels."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, 16))
    labels = random.integers(classes, size=2 * images)
    labels[:classes] = labels[images : images + classes] = np.arange(classes)
    vectors = (centres[labels] + spread * random.normal(size=(2 * images, 16))) * random.uniform(
        0.1, 10, size=(2 * images, 1)
    )
    vectors = vectors.astype(np.float32)
    return vectors[:images], labels[:images], vectors[images:], labels[images:]


def plain_votes(neighbours: Any, random: np.random.Generator) -> Any:
    return knn.votes(neighbours, np.ones(neighbours.shape, dtype=np.float32), random)


@pytest.mark.parametrize(("classes", "k"), [(2, 1), (7, 1), (2, 5), (2, 21)])  # where no vote can be tied
def test_accuracy_is_that_of_scikit_learns_cosine_classifier(make_embeddings: Make, classes: int, k: int) -> None:
    train, labels, val, truth = blobs(seed=k, classes=classes, images=300, spread=2.0)
    reference = KNeighborsClassifier(n_neighbors=k, metric="cosine", algorithm="brute").fit(train, labels)
    expected = 100 * reference.score(val, truth)
    assert 20 < expected < 99
    found = measured(make_embeddings("train", train, labels), make_embeddings("val", val, truth), k=k)
    assert found.values["top1"] == pytest.approx(expected)


@pytest.mark.parametrize(("k", "temperature"), [(20, 0.07), (20, 1.0), (200, 0.1), (7, 0.0001), (50, 0.0001)])
def test_weighted_votes_are_those_of_scikit_learn(make_embeddings: Make, k: int, temperature: float) -> None:
    train, labels, val, truth = blobs(seed=k, classes=9, images=300, spread=2.0)
    train, val = (unit_rows(rows, "").astype(np.float64) for rows in (train, val))

    def weights(distances: Any) -> Any:
        return np.exp((distances.min(axis=1, keepdims=True) - distances) / temperature)

    reference = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights).fit(train, labels)
    expected = 100 * reference.score(val, truth)
    assert 20 < expected < 99
    pair = make_embeddings("train", train.astype(np.float32), labels), make_embeddings("val", val, truth)
    found = measured(*pair, k=k, votes="weighted", temperature=temperature)
    assert found.values["top1"] == pytest.approx(expected)
    assert found.protocol == f"{k}-NN, cosine, weighted at temperature {temperature:g}, all train images"


def test_equal_weights_are_plain_votes() -> None:
    neighbours = np.random.default_rng(1).integers(0, 4, size=(101, 7))
    winners = [knn.votes(neighbours, np.full((101, 7), w), np.random.default_rng(2)) for w in (1, 0.25)]
    assert np.array_equal(*winners)


def test_one_shot_is_the_nearest_of_the_images_drawn(make_embeddings: Make) -> None:
    train, labels, val, truth = blobs(seed=3, classes=6, images=120, spread=1.0)
    found = measured(make_embeddings("train", train, labels), make_embeddings("val", val, truth), shots=1, draws=4)
    accuracies = []
    for seed in range(4):
        rows = knn.drawn(labels, "abcdef", 1, np.random.default_rng(seed), "")
        right = 0
        for query, label in zip(val.astype(np.float64), truth, strict=True):
            cosines = [query @ train[row] / np.linalg.norm(train[row].astype(np.float64)) for row in rows]
            right += labels[rows[np.argmax(cosines)]] == label
        accuracies.append(100 * right / 120)
    assert found.values["top1"] == pytest.approx(np.mean(accuracies))
    assert len(set(accuracies)) > 1


@pytest.mark.parametrize("shots", [0, 2])
def test_only_the_images_of_the_subset_are_searched(make_embeddings: Make, tmp_path: Path, shots: int) -> None:
    train, labels, val, truth = blobs(seed=4, classes=4, images=200, spread=1.5)
    rows = np.arange(0, 200, 4)
    write_subset(tmp_path / "25.txt", Subset("toy", "fingerprint-of-toy", 25, "0", rows))
    pair = make_embeddings("train", train, labels), make_embeddings("val", val, truth)
    options = {"shots": shots, "k": 3, "draws": 2}
    found = measured(*pair, labels=25, subsets=tmp_path / "25.txt", **options)
    alone = make_embeddings("train", train[rows], labels[rows], path=tmp_path / "alone.h5")
    assert found.values == measured(alone, pair[1], **options).values
    assert found.values != measured(*pair, **options).values
    assert found.notes == {"labelled": "50 of 200 train images"}
    assert found.protocol.endswith("25% of the train images")


def test_the_slices_read_at_once_change_nothing(make_embeddings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    train, labels, val, truth = blobs(seed=5, classes=4, images=100, spread=2.0)
    pair = make_embeddings("train", train, labels), make_embeddings("val", val, truth)
    whole = measured(*pair, k=3).values
    rows = noted_rows(monkeypatch)
    for name in ("SLICE_BYTES", "PART_BYTES"):
        monkeypatch.setattr(embeddings, name, 4 * 16 * 7)
    monkeypatch.setattr(search, "GPU_SLICE_BYTES", 4 * 16 * 7)
    assert measured(*pair, k=3).values == whole
    assert (sum(rows), max(rows)) == (200, 7)
    train[53] = 0
    with pytest.raises(UserError, match=r"train\.h5: 1 of 7 vectors .* the first is row 53"):
        measured(make_embeddings("train", train, labels), pair[1])


@pytest.mark.parametrize("options", [{"k": 3}, {"shots": 1000}])
def test_the_train_vectors_are_never_all_in_memory(
    make_embeddings: Make, monkeypatch: pytest.MonkeyPatch, options: dict[str, int]
) -> None:
    vectors = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float16)
    train = make_embeddings("train", vectors, np.arange(20_000) % 20)
    val = make_embeddings("val", vectors[:50], np.arange(50) % 20)
    assert peak_bytes(monkeypatch, lambda: measured(train, val, **options)) < vectors.nbytes


def test_neighbours_are_those_of_a_plain_float64_sort_by_cosine() -> None:
    train, _, val, _ = blobs(seed=0, classes=5, images=200, spread=2.0)
    wide = [rows.astype(np.float64) for rows in (train, val)]
    first, second = (rows / np.sqrt((rows**2).sum(axis=1, keepdims=True)) for rows in wide)
    expected = np.argsort(-(second @ first.T), axis=1)[:, :10]
    anchors = np.array_split(unit_rows(train, ""), 30)  # some slices have fewer rows than there are neighbours
    similarities, neighbours = nearest(anchors, unit_rows(val, ""), 10, "")
    np.testing.assert_array_equal(neighbours, expected)
    np.testing.assert_allclose(similarities, np.take_along_axis(second @ first.T, expected, axis=1), atol=1e-5)


@given(hnp.arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=st.integers(0, 3)))
def test_the_winner_of_a_vote_has_the_most_votes(neighbours: Any) -> None:
    for row, winner in zip(neighbours, plain_votes(neighbours, np.random.default_rng(0)), strict=True):
        assert np.count_nonzero(row == winner) == np.bincount(row).max()


@pytest.mark.parametrize(
    ("row", "shares"),
    [
        ([4, 7], {4: 1 / 2, 7: 1 / 2}),
        ([1, 2, 2, 1, 3], {1: 1 / 2, 2: 1 / 2}),
        ([5, 6, 8], {5: 1 / 3, 6: 1 / 3, 8: 1 / 3}),
    ],
)
def test_ties_are_broken_evenly_at_random(row: list[int], shares: dict[int, float]) -> None:
    winners = plain_votes(np.tile(row, (6000, 1)), np.random.default_rng(0))
    assert set(winners) == set(shares)
    for label, share in shares.items():
        assert np.mean(winners == label) == pytest.approx(share, abs=0.03)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_shots_are_that_many_different_images_of_every_class(seed: int, shots: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(5), random.integers(4, 9, size=5)))
    rows = knn.drawn(labels, "abcde", shots, random, "train.h5")
    assert len(set(rows)) == len(rows)
    np.testing.assert_array_equal(np.bincount(labels[rows]), [shots] * 5)


def test_every_image_of_a_class_is_drawn_in_some_draw() -> None:
    labels = np.repeat(np.arange(3), 4)
    seen = {row for seed in range(60) for row in knn.drawn(labels, "abc", 1, np.random.default_rng(seed), "")}
    assert seen == set(range(12))


def test_a_class_without_images_has_fewer_than_the_shots() -> None:
    with pytest.raises(UserError, match=r"train\.h5: class b has 0 images, fewer than the 1 shots asked for"):
        knn.drawn(np.array([0, 0, 2, 2]), "abc", 1, np.random.default_rng(0), "train.h5")


@pytest.mark.parametrize("options", [{}, {"k": 8}, {"shots": 1, "draws": 3}, {"shots": 8, "k": 5}])
def test_perfect_embeddings_score_100(one_hot_pair: tuple[Path, Path], options: dict[str, int]) -> None:
    assert measured(*one_hot_pair, **options).values == {"top1": 100.0}


def test_embeddings_all_alike_score_as_chance_does(make_embeddings: Make) -> None:
    labels = np.repeat(np.arange(5), 20)
    same = np.ones((100, 8), dtype=np.float16)
    found = measured(make_embeddings("train", same, labels), make_embeddings("val", same, labels))
    assert found.values["top1"] == pytest.approx(20)


def test_the_length_of_vectors_does_not_matter(make_embeddings: Make) -> None:
    train, labels, val, truth = blobs(seed=1, classes=5, images=200, spread=2.0)
    plain = measured(make_embeddings("train", train, labels), make_embeddings("val", val, truth), k=3)
    powers = 2.0 ** np.random.default_rng(0).integers(-3, 4, size=(200, 1)).astype(np.float32)
    scaled = measured(make_embeddings("train", powers * train, labels), make_embeddings("val", val, truth), k=3)
    assert scaled.values == plain.values


def test_draws_are_repeated_from_consecutive_seeds_and_summarised(make_embeddings: Make) -> None:
    train, labels, val, truth = blobs(seed=2, classes=4, images=120, spread=2.0)
    pair = make_embeddings("train", train, labels), make_embeddings("val", val, truth)
    together = measured(*pair, shots=2, draws=3, seed=5)
    single = [measured(*pair, shots=2, seed=seed) for seed in (5, 6, 7)]
    accuracies = [one.values["top1"] for one in single]
    assert len(set(accuracies)) > 1
    assert together.seeds == (5, 6, 7)
    assert together.values["top1"] == pytest.approx(np.mean(accuracies))
    assert together.deviations["top1"] == pytest.approx(np.std(accuracies, ddof=1))
    assert all(one.deviations == {} for one in single)


def test_metrics_tell_what_was_measured(one_hot_pair: tuple[Path, Path]) -> None:
    found = measured(*one_hot_pair, k=2, shots=3, name="3-shot")
    assert (found.evaluation, found.dataset, found.n) == ("3-shot", "toy", {"train": 80, "val": 30})
    assert found.protocol == "compress 2-NN, cosine, 3-shot"
    assert {"k": 2, "shots": 3, "draws": 1, "seed": 0, "votes": "plain", "labels": 100}.items() <= found.options.items()
    assert found.encoder["name"] == "toy"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 81}, "train.h5: 81 neighbours asked for, but there are 80 images"),
        ({"k": 21, "shots": 2}, "train.h5: 21 neighbours asked for, but there are 20 images"),
        ({"shots": 9}, "train.h5: class class 0 has 8 images, fewer than the 9 shots asked for"),
        ({"k": 0}, "--k is 0; expected at least 1"),
        ({"draws": 0}, "--draws is 0; expected at least 1"),
        ({"shots": -1}, "--shots is -1; expected at least 0"),
        ({"temperature": 0}, "--temperature is 0; expected a number above 0"),
        ({"labels": 101}, "--labels has 101; expected different percentages, from 1 to 100"),
        ({"labels": 10}, "--labels asks for 10% of the labels, and --subsets gives lists of none"),
    ],
)
def test_options_that_cannot_be_met_are_refused(
    one_hot_pair: tuple[Path, Path], options: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        measured(*one_hot_pair, **options)
    assert not (one_hot_pair[0].parent / "knn.json").exists()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"weights": "another-sha"}, "made with weights sha-of-the-weights and another-sha"),
        ({"dataset_fingerprint": "other"}, "made with dataset fingerprint-of-toy and other"),
        ({"transform": "resize at 32"}, "made with view resize 256/224, centre crop at 32 and resize at 32"),
        ({"split": "train"}, "val.h5: holds the train split; expected the val split"),
    ],
)
def test_embeddings_that_do_not_belong_together_are_refused(
    make_embeddings: Make, tmp_path: Path, facts: dict[str, str], message: str
) -> None:
    rows, labels = np.eye(4, dtype=np.float16), np.arange(4)
    train = make_embeddings("train", rows, labels)
    val = make_embeddings(facts.pop("split", "val"), rows, labels, path=tmp_path / "val.h5", **facts)
    with pytest.raises(UserError, match=message):
        measured(train, val)


def test_train_and_val_exchanged_are_refused(one_hot_pair: tuple[Path, Path]) -> None:
    train, val = one_hot_pair
    with pytest.raises(UserError, match=r"val\.h5: holds the val split; expected the train split"):
        measured(val, train)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("bad", [0, np.nan, np.inf, -np.inf])
def test_a_vector_without_a_direction_is_refused_by_file_and_row(make_embeddings: Make, split: str, bad: float) -> None:
    pair = {}
    for each in ("train", "val"):
        rows = np.ones((6, 3), dtype=np.float16)
        if each == split:
            rows[4] = bad if bad == 0 else [1, bad, 1]
        pair[each] = make_embeddings(each, rows, np.arange(6) % 2)
    with pytest.raises(UserError, match=rf"{split}\.h5: 1 of 6 vectors .* the first is row 4"):
        measured(pair["train"], pair["val"])


def test_the_program_names_both_files_that_do_not_belong_together(make_embeddings: Make, tmp_path: Path) -> None:
    rows, labels = np.eye(4, dtype=np.float16), np.arange(4)
    train = make_embeddings("train", rows, labels)
    val = make_embeddings("val", rows, labels, weights="another-sha", card=card(name="other", dimension=4))
    before = set(tmp_path.rglob("*"))
    done = program("knn", *flags({"train": train, "val": val, "metrics": tmp_path / "knn.json"}))
    assert_refused(done, train, val, "sha-of-the-weights", "another-sha", folder=tmp_path, before=before)


def test_the_program_refuses_a_vector_of_nan(make_embeddings: Make, tmp_path: Path) -> None:
    rows, labels = np.eye(4, dtype=np.float16), np.arange(4)
    val = make_embeddings("val", rows, labels)
    rows[2, 2] = np.nan
    train = make_embeddings("train", rows, labels)
    before = set(tmp_path.rglob("*"))
    done = program("knn", *flags({"train": train, "val": val, "metrics": tmp_path / "knn.json"}))
    assert_refused(done, train, "row 2", "nan", "non-zero", folder=tmp_path, before=before)


def test_votes_are_the_same_however_many_are_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    neighbours = np.random.default_rng(1).integers(0, 4, size=(101, 7))
    whole = plain_votes(neighbours, np.random.default_rng(2))
    monkeypatch.setattr(knn, "COMPARISONS", 100)
    assert np.array_equal(plain_votes(neighbours, np.random.default_rng(2)), whole)

"""Cluster alignment: against brute force, scikit-learn and an example worked by hand."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from stages import align
from stages.artifacts.assignments import Assignments, write_assignments
from stages.artifacts.metrics import Metrics, read_metrics
from tests.conftest import assert_refused, card, flags, program

Make = Callable[..., Path]


def assignments(train: Any, train_labels: Any, val: Any, val_labels: Any, clusters: int, classes: int) -> Assignments:
    train, val = np.atleast_2d(train).astype(np.int32), np.atleast_2d(val).astype(np.int32)
    return Assignments(
        train=train,
        val=val,
        train_labels=np.asarray(train_labels, dtype=np.int64),
        val_labels=np.asarray(val_labels, dtype=np.int64),
        classes=tuple(f"class {label}" for label in range(classes)),
        clusters=clusters,
        iterations=20,
        seeds=tuple(range(1234, 1234 + len(train))),
        card=card(),
        dataset="toy",
        dataset_fingerprint="fingerprint-of-toy",
    )


def aligned(folder: Path, found: Assignments, **options: object) -> Metrics:
    write_assignments(folder / "clusters.h5", found)
    align.main(flags({"assignments": folder / "clusters.h5", "metrics": folder / "ca.json", **options}))
    return read_metrics(folder / "ca.json")


def brute_force(gain: Any) -> list[float]:
    """The total gain of every one-to-one assignment of as many pairs as can be, largest first."""
    if gain.shape[0] > gain.shape[1]:
        gain = gain.T
    rows = range(gain.shape[0])
    totals = [gain[rows, list(columns)].sum() for columns in itertools.permutations(range(gain.shape[1]), len(rows))]
    return sorted(totals, reverse=True)


shapes = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(hnp.arrays(np.int64, shapes, elements=st.integers(0, 30)))
def test_no_assignment_has_a_larger_gain_than_the_matching(counts: Any) -> None:
    for gain in (counts, align.purity(counts)):
        rows, columns = align.matching(gain)
        assert len(set(rows)) == len(set(columns)) == min(counts.shape)
        assert gain[rows, columns].sum() == pytest.approx(brute_force(gain)[0])


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_contingency_counts_as_a_loop_does(clusters: int, classes: int, images: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    assigned = random.integers(clusters, size=images).astype(np.int32)
    labels = random.integers(classes, size=images)
    expected = np.zeros((clusters, classes), dtype=np.int64)
    for k, c in zip(assigned, labels, strict=True):
        expected[k, c] += 1
    found = align.contingency(assigned, labels, clusters, classes)
    np.testing.assert_array_equal(found, expected)
    used = found[found.any(axis=1)][:, found.any(axis=0)]
    np.testing.assert_array_equal(used, contingency_matrix(labels, assigned).T)


def test_purity_is_each_clusters_share_of_each_class_and_an_empty_cluster_has_none() -> None:
    found = align.purity(np.array([[3, 1], [0, 0], [0, 5], [1, 0]]))
    np.testing.assert_allclose(found, [[0.75, 0.25], [0, 0], [0, 1], [1, 0]])


WORKED_TRAIN = np.array([[60, 40], [2, 1]])
"""Cluster 0 holds 60 of class 0 and 40 of class 1, cluster 1 holds 2 and 1.

As given, purities 60/100 + 1/3 = 0.933; exchanged, 40/100 + 2/3 = 1.067: CA exchanges. Counts, 61 against 42: do not.
"""


def unrolled(counts: Any) -> tuple[Any, Any]:
    """Images that make the contingency ``counts``: their clusters, their labels."""
    clusters, labels = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    return clusters, labels


def test_an_example_worked_by_hand_where_purity_and_count_disagree() -> None:
    train, val = unrolled(WORKED_TRAIN), unrolled(np.array([[30, 10], [4, 6]]))
    found = align.scores(*train, *val, clusters=2, classes=2)
    assert found["ca_train"] == pytest.approx(100 * 42 / 103)
    assert found["ca"] == pytest.approx(100 * (10 + 4) / 50)
    assert found["clustering_accuracy"] == pytest.approx(100 * (30 + 6) / 50)


def test_the_mapping_comes_from_train_and_the_score_from_val() -> None:
    train, val = unrolled(np.diag([5, 5, 5])), unrolled(np.roll(np.diag([4, 4, 4]), 1, axis=1))
    found = align.scores(*train, *val, clusters=3, classes=3)
    assert (found["ca"], found["ca_train"]) == (0, 100)
    assert (found["clustering_accuracy"], found["nmi"], found["ari"]) == (100, pytest.approx(100), 100)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[5, 0], [0, 3], [2, 2]], 8 / 12),  # the third cluster is given no class
        ([[4, 0, 1], [0, 3, 1]], 7 / 9),  # the third class is given no cluster
        ([[4, 0], [0, 0]], 1.0),  # an empty cluster takes nothing away
        ([[6, 3, 1], [0, 0, 0], [0, 0, 0]], 6 / 10),  # collapsed: the largest class
    ],
)
def test_clusters_without_a_class_count_as_wrong(counts: Any, expected: float) -> None:
    images = unrolled(np.array(counts))
    found = align.scores(*images, *images, clusters=len(counts), classes=len(counts[0]))
    assert found["ca"] == found["ca_train"] == pytest.approx(100 * expected)


@settings(deadline=None)
@given(st.integers(2, 5), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_scores_do_not_depend_on_the_numbers_of_the_clusters(clusters: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels, truth = random.integers(classes, size=60), random.integers(classes, size=40)
    train, val = random.integers(clusters, size=60), random.integers(clusters, size=40)
    on_train, on_val = (align.contingency(a, b, clusters, classes) for a, b in ((train, labels), (val, truth)))
    for gain in (align.purity(on_train), on_val):  # of equally good matchings, any may be found
        best, second = [*brute_force(gain), -1.0][:2]
        assume(best - second > 1e-9)
    names = random.permutation(clusters)
    plain = align.scores(train, labels, val, truth, clusters, classes)
    renamed = align.scores(names[train], labels, names[val], truth, clusters, classes)
    assert renamed == pytest.approx(plain)


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_nmi_and_ari_are_scikit_learns_on_val(clusters: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    train, labels = random.integers(clusters, size=30), random.integers(classes, size=30)
    val, truth = random.integers(clusters, size=50), random.integers(classes, size=50)
    found = align.scores(train, labels, val, truth, clusters, classes)
    assert found["nmi"] == pytest.approx(100 * normalized_mutual_info_score(truth, val))
    assert found["ari"] == pytest.approx(100 * adjusted_rand_score(truth, val))


def test_clusters_that_are_the_classes_score_100_everywhere(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(10), 8)
    runs = np.stack([np.random.default_rng(seed).permutation(10)[labels] for seed in range(2)])
    found = aligned(tmp_path, assignments(runs, labels, runs[:, ::4], labels[::4], clusters=10, classes=10))
    assert set(found.values) == {"ca", "ca_train", "clustering_accuracy", "nmi", "ari"}
    assert found.values == pytest.approx(dict.fromkeys(found.values, 100.0))
    assert found.deviations == pytest.approx(dict.fromkeys(found.values, 0.0))
    assert (found.n, found.seeds, found.evaluation) == ({"train": 80, "val": 20}, (1234, 1235), "cluster-alignment")


@pytest.mark.parametrize(
    ("clusters", "classes", "said"),
    [
        (10, 10, "on train"),
        (12, 10, "on train (clusters without a class: 2, whose images count as wrong)"),
        (7, 10, "on train (classes without a cluster: 3, whose images count as wrong)"),
    ],
)
def test_other_numbers_of_clusters_than_classes_are_said(
    tmp_path: Path, clusters: int, classes: int, said: str
) -> None:
    """Else a thousand clusters of ten classes would look like a bad encoder."""
    labels = np.repeat(np.arange(classes), 2)
    runs = np.minimum(labels, clusters - 1)[None]
    found = aligned(tmp_path, assignments(runs, labels, runs, labels, clusters=clusters, classes=classes))
    assert found.protocol.endswith(said)


def test_runs_are_summarised_by_mean_and_unbiased_deviation(tmp_path: Path) -> None:
    labels = np.repeat([0, 1], 10)
    runs = np.stack([labels, np.roll(labels, 1), np.roll(labels, 3)])
    found = aligned(tmp_path, assignments(runs, labels, runs, labels, clusters=2, classes=2), name="ca-2")
    single = [aligned(tmp_path, assignments(run, labels, run, labels, clusters=2, classes=2)) for run in runs]
    assert [one.values["ca"] for one in single] == [100, 90, 70]
    assert all(one.deviations == {} for one in single)
    assert found.values["ca"] == pytest.approx(260 / 3)
    assert found.deviations["ca"] == pytest.approx(np.std([100, 90, 70], ddof=1))
    for name in found.values:
        assert found.values[name] == pytest.approx(np.mean([one.values[name] for one in single]))
    assert found.evaluation == "ca-2"


def test_the_program_refuses_embeddings_in_place_of_assignments(
    one_hot_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    before = set(tmp_path.rglob("*"))
    done = program("align", *flags({"assignments": one_hot_pair[0], "metrics": tmp_path / "ca.json"}))
    expected = "expected assignments, found embeddings"
    assert_refused(done, one_hot_pair[0], expected, folder=tmp_path, before=before)

"""k-means: against scikit-learn's and by its own definition, its seeds, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from stages import align, cluster
from stages.artifacts.assignments import Assignments, read_assignments
from stages.artifacts.embeddings import unit_rows
from stages.artifacts.metrics import Metrics, read_metrics
from stages.errors import UserError
from tests.conftest import flags, peak_bytes, program

Make = Callable[..., Path]


def clustered(train: Path, val: Path, **options: object) -> Assignments:
    path = train.parent / "clusters.h5"
    cluster.main(flags({"train": train, "val": val, "assignments": path, **options}))
    return read_assignments(path)


@pytest.fixture
def pixels(make_embeddings: Make) -> tuple[Path, Path]:
    """The digits' own pixels as embeddings: 1300 train and 497 val images."""
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float16)
    return make_embeddings("train", images[:1300], labels[:1300]), make_embeddings("val", images[1300:], labels[1300:])


def inertia(points: Any, assigned: Any) -> float:
    """The summed squared distances to the means of the clusters, in float64."""
    rows = points.astype(np.float64)
    return sum(((rows[assigned == k] - rows[assigned == k].mean(axis=0)) ** 2).sum() for k in np.unique(assigned))


def test_separate_groups_are_found_whatever_the_length_of_their_vectors(make_embeddings: Make) -> None:
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(6), 25))
    lengths = random.uniform(0.1, 10, size=(150, 1))
    vectors = ((np.eye(6)[labels] + 0.02 * random.normal(size=(150, 6))) * lengths).astype(np.float16)
    pair = make_embeddings("train", vectors[:100], labels[:100]), make_embeddings("val", vectors[100:], labels[100:])
    found = clustered(*pair, clusters=6, runs=10)
    best = np.argmin([inertia(unit_rows(vectors[:100], ""), run) for run in found.train])
    train, val = found.train[best], found.val[best]
    name = {label: train[labels[:100] == label][0] for label in range(6)}
    assert len(set(name.values())) == 6
    np.testing.assert_array_equal(train, [name[label] for label in labels[:100]])
    np.testing.assert_array_equal(val, [name[label] for label in labels[100:]])


def test_the_log_is_the_stages_own(pixels: tuple[Path, Path], tmp_path: Path) -> None:
    """What faiss says when it is loaded, of modules that are not found, would look like a fault."""
    arguments = {"train": pixels[0], "val": pixels[1], "assignments": tmp_path / "clusters.h5", "clusters": 10}
    done = program("cluster", *flags(arguments))
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if not line.startswith("10-means on ")] == []


def test_clusters_are_as_tight_as_scikit_learns(pixels: tuple[Path, Path]) -> None:
    found = clustered(*pixels, clusters=10, runs=3)
    points = unit_rows(load_digits().data[:1300], "")
    reference = KMeans(10, init="random", n_init=10, max_iter=20, random_state=0).fit(points).inertia_
    assert min(inertia(points, run) for run in found.train) <= 1.02 * reference


def test_every_image_is_in_the_cluster_whose_mean_is_nearest(pixels: tuple[Path, Path]) -> None:
    found = clustered(*pixels, clusters=10, iterations=200)
    points = unit_rows(load_digits().data, "").astype(np.float64)
    centroids = np.stack([points[:1300][found.train[0] == k].mean(axis=0) for k in range(10)])
    expected = ((points[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(found.train[0], expected[:1300])
    np.testing.assert_array_equal(found.val[0], expected[1300:])


def test_all_images_count_however_many_there_are_to_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Recorder(faiss.Clustering):  # type: ignore[misc]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(faiss, "Clustering", Recorder)
    points = unit_rows(np.random.default_rng(0).normal(size=(2000, 4)), "")
    cluster.kmeans(points, points, cluster.Options(clusters=1), seed=1234, where="")
    centroid = faiss.vector_to_array(made[0].centroids)
    np.testing.assert_allclose(centroid, points.astype(np.float64).mean(axis=0), atol=1e-6)
    assert made[0].niter == 20


def test_runs_have_consecutive_seeds_from_faisss_own_and_repeat_exactly(pixels: tuple[Path, Path]) -> None:
    together = clustered(*pixels, clusters=10, runs=2)
    assert together.seeds == (1234, 1235)
    assert (together.train[0] != together.train[1]).any()
    for number, seed in enumerate(together.seeds):
        alone = clustered(*pixels, clusters=10, seed=seed)
        np.testing.assert_array_equal(alone.train[0], together.train[number])
        np.testing.assert_array_equal(alone.val[0], together.val[number])


def test_the_train_vectors_are_never_all_in_memory(make_embeddings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float16)
    train = make_embeddings("train", vectors, np.arange(20_000) % 20)
    val = make_embeddings("val", vectors[:50], np.arange(50) % 20)
    assert peak_bytes(monkeypatch, lambda: clustered(train, val, clusters=5)) < vectors.nbytes
    assert {path.name.removesuffix(".sha256") for path in train.parent.iterdir()} == {
        "train.h5",
        "val.h5",
        "clusters.h5",
    }


def test_assignments_keep_the_labels_and_where_they_come_from(pixels: tuple[Path, Path]) -> None:
    found = clustered(*pixels, clusters=10)
    labels = load_digits().target
    np.testing.assert_array_equal(np.concatenate([found.train_labels, found.val_labels]), labels)
    assert (found.train.shape, found.val.shape, found.clusters, len(found.classes)) == ((1, 1300), (1, 497), 10, 10)
    assert (found.card.name, found.dataset, found.dataset_fingerprint) == ("toy", "toy", "fingerprint-of-toy")


def test_a_start_that_leaves_clusters_empty_is_told_and_scored(
    one_hot_pair: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    found = clustered(*one_hot_pair, clusters=10)
    used = len(np.unique(found.train))
    assert used < 10
    assert f"train.h5: {10 - used} of 10 clusters are empty, from the k-means seed 1234" in caplog.text
    (score,) = (
        align.scores(t, found.train_labels, v, found.val_labels, 10, 10)["ca"]
        for t, v in zip(found.train, found.val, strict=True)
    )
    assert score == pytest.approx(10 * used)


def test_as_many_clusters_as_images_puts_each_in_its_own(make_embeddings: Make) -> None:
    rows = np.linspace(1, 2, 15, dtype=np.float16).reshape(5, 3) ** np.arange(1, 4, dtype=np.float16)
    found = clustered(make_embeddings("train", rows, range(5)), make_embeddings("val", rows, range(5)), clusters=5)
    assert sorted(found.train[0]) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(found.train[0], found.val[0])


def test_rows_are_told_apart_only_as_far_as_is_asked() -> None:
    rows = iter(np.array([[1, 2], [1, 2], [3, 4], [1, 2], [5, 6], [7, 8]], dtype=np.float32))
    assert cluster.distinct(rows, 3) == 3
    np.testing.assert_array_equal(list(rows), [[7, 8]])
    assert cluster.distinct(iter(np.ones((5, 2), dtype=np.float32)), 3) == 1


def scored(train: Path, val: Path, **options: object) -> Metrics:
    clustered(train, val, **options)
    metrics = train.parent / "ca.json"
    align.main(flags({"assignments": train.parent / "clusters.h5", "metrics": metrics}))
    return read_metrics(metrics)


def test_perfect_embeddings_are_aligned_to_100(make_embeddings: Make) -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 60)
    vectors = (np.eye(4, 16)[labels] + 0.02 * random.normal(size=(240, 16))).astype(np.float32)
    pair = make_embeddings("train", vectors, labels), make_embeddings("val", vectors[::3], labels[::3])
    best = max(scored(*pair, clusters=4, seed=seed).values["ca"] for seed in range(1234, 1244))
    assert best == 100


def test_labels_that_have_nothing_to_do_with_the_images_are_aligned_to_chance(make_embeddings: Make) -> None:
    random = np.random.default_rng(0)
    vectors, labels = random.normal(size=(4000, 8)).astype(np.float32), random.integers(5, size=4000)
    pair = (
        make_embeddings("train", vectors[:2000], labels[:2000]),
        make_embeddings("val", vectors[2000:], labels[2000:]),
    )
    found = scored(*pair, clusters=5)
    assert found.values["ca"] == pytest.approx(20, abs=3 * 100 * np.sqrt(0.2 * 0.8 / 2000))


def test_metrics_tell_how_many_iterations_there_were(pixels: tuple[Path, Path]) -> None:
    papers, other = (scored(*pixels, clusters=10, iterations=iterations) for iterations in (20, 3))
    assert papers.options == {"clusters": 10, "runs": 1, "iterations": 20}
    assert papers.protocol == "compress cluster alignment: 10-means and purity-maximising Hungarian on train"
    assert other.options["iterations"] == 3
    assert other.protocol == "cluster alignment: 10-means of 3 iterations and purity-maximising Hungarian on train"


def test_train_images_without_labels_are_refused_before_any_clustering(make_embeddings: Make) -> None:
    rows, classes = np.eye(4, dtype=np.float32), tuple("abcd")
    train = make_embeddings("train", rows, np.array([0, -1, 2, -1]), classes=classes)
    val = make_embeddings("val", rows, np.arange(4), classes=classes)
    with pytest.raises(UserError, match=r"train\.h5: 2 of 4 images of toy have no label"):
        clustered(train, val, clusters=2)
    cluster.main(flags({"train": train, "clusters": 2, "assignments": train.parent / "clusters.h5"}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 81}, "train.h5: 81 clusters asked for, but there are 80 images"),
        ({"clusters": 0}, "--clusters is 0; expected at least 1"),
        ({"clusters": 2, "runs": 0}, "--runs is 0; expected at least 1"),
        ({"clusters": 2, "iterations": 0}, "--iterations is 0; expected at least 1"),
    ],
)
def test_options_that_cannot_be_met_are_refused(
    one_hot_pair: tuple[Path, Path], options: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        clustered(*one_hot_pair, **options)
    assert not (one_hot_pair[0].parent / "clusters.h5").exists()


def test_a_collapsed_encoder_is_told_and_scores_chance(make_embeddings: Make, caplog: pytest.LogCaptureFixture) -> None:
    same = np.ones((40, 8), dtype=np.float16)
    found = clustered(*(make_embeddings(split, same, np.arange(40) % 4) for split in ("train", "val")), clusters=4)
    assert "train.h5: only 1 distinct embeddings of 40 images: has the encoder collapsed?" in caplog.text
    scores = align.scores(found.train[0], found.train_labels, found.val[0], found.val_labels, 4, 4)
    assert scores["ca"] == 25


def test_the_val_split_alone_is_not_clustered(one_hot_pair: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = flags({"train": one_hot_pair[1], "clusters": 3, "assignments": tmp_path / "clusters.h5"})
    with pytest.raises(UserError, match=r"val\.h5: holds the val split; expected the train split"):
        cluster.main(arguments)
    assert not (tmp_path / "clusters.h5").exists()

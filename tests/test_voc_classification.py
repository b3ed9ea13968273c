"""VOC classification: against the protocol written out with scikit-learn, difficult images, and what is left out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from stages import embed, fetch_dataset, pretrain, voc_classification
from stages.artifacts.embeddings import unit_rows
from stages.artifacts.metrics import Metrics, read_metrics
from stages.errors import UserError
from tests.conftest import assert_refused, flags, photographs, program

Make = Callable[..., Path]


def measured(train: Path, val: Path, **options: object) -> Metrics:
    metrics = train.parent / "voc.json"
    voc_classification.main(flags({"train": train, "val": val, "metrics": metrics, **options}))
    return read_metrics(metrics)


def made(seed: int, images: int, classes: int = 3) -> tuple[Any, Any]:
    """Vectors that tell, with noise, which of the classes are in each image, some difficult."""
    random = np.random.default_rng(seed)
    there = random.random((images, classes)) < [0.5, 0.3, 0.2]
    vectors = there @ np.eye(classes, 12) + 0.5 * random.normal(size=(images, 12))
    labels = np.where(there & (random.random(there.shape) < 0.15), -1, there)
    return vectors.astype(np.float32), labels


@pytest.fixture
def pair(make_embeddings: Make) -> tuple[Path, Path]:
    names = ("cat", "dog", "cow")
    train, val = (make_embeddings(split, *made(seed, 120), classes=names) for split, seed in (("train", 0), ("val", 1)))
    return train, val


def reference(powers: list[int]) -> list[float]:
    """The area under each class's curve by the protocol, step by step, with scikit-learn's other solver and curve."""
    (train, labels), (val, truth) = made(0, 120), made(1, 120)
    features, queries = unit_rows(train, ""), unit_rows(val, "")
    scores = []
    for column in range(3):
        rows = np.flatnonzero(labels[:, column] != -1)
        inputs, targets = features[rows], labels[rows, column]
        means = []
        for power in powers:
            folds = []
            for learned, held in StratifiedKFold(3).split(inputs, targets):
                machine = LinearSVC(C=4.0**power, class_weight={0: 1, 1: 2}, dual=True, tol=1e-6, max_iter=100_000)
                machine.fit(inputs[learned], targets[learned])
                folds.append(average_precision_score(targets[held], machine.decision_function(inputs[held])))
            means.append(np.mean(folds))
        best = LinearSVC(C=4.0 ** powers[int(np.argmax(means))], class_weight={0: 1, 1: 2}, dual=True, max_iter=100_000)
        answers = best.fit(inputs, targets).decision_function(queries)
        kept = truth[:, column] != -1
        precision, recall, _ = precision_recall_curve(truth[kept, column], answers[kept])
        scores.append(float(-100 * np.sum(np.diff(recall) * np.maximum.accumulate(precision)[:-1])))
    return scores


def test_classes_are_scored_as_by_the_protocol_written_out(pair: tuple[Path, Path]) -> None:
    found = measured(*pair, costs="-4").values
    areas = [found[f"map_area@{name}"] for name in ("cat", "dog", "cow")]
    assert areas == pytest.approx(reference([-4]), abs=0.1)
    assert found["map_area"] == pytest.approx(np.mean(areas))
    assert 60 < found["map_area"] < 99
    assert next(iter(found)) == "map_11point"


def test_the_cost_is_that_of_the_best_cross_validation(pair: tuple[Path, Path]) -> None:
    arguments = [part for name, path in zip(("train", "val"), pair, strict=True) for part in (f"--{name}", str(path))]
    metrics = pair[0].parent / "voc.json"
    voc_classification.main([*arguments, "--metrics", str(metrics), "--costs", "-10", "-3", "0", "3"])
    found = read_metrics(metrics).values
    areas = [found[f"map_area@{name}"] for name in ("cat", "dog", "cow")]
    assert areas == pytest.approx(reference([-10, -3, 0, 3]), abs=0.1)
    assert areas != pytest.approx(reference([-10]), abs=0.1)
    assert areas != pytest.approx(reference([3]), abs=0.1)


def test_each_cost_is_tried_in_as_many_folds_as_asked_for(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[int] = []
    fit = LinearSVC.fit

    def noting(self: LinearSVC, inputs: Any, targets: Any) -> LinearSVC:
        fitted.append(len(inputs))
        machine: LinearSVC = fit(self, inputs, targets)
        return machine

    monkeypatch.setattr(LinearSVC, "fit", noting)
    found = measured(*pair, costs="-4", folds=5)
    known = [int((made(0, 120)[1][:, column] != -1).sum()) for column in range(3)]
    assert len(fitted) == 3 * (5 + 1), "a class, in five folds and on all that is known of it"
    assert fitted[5::6] == known
    assert all(abs(count - 0.8 * known[0]) < 2 for count in fitted[:5])
    assert "5-fold" in found.protocol


def test_difficult_images_count_neither_in_training_nor_in_scoring(make_embeddings: Make, tmp_path: Path) -> None:
    (train, labels), (val, truth) = made(0, 120), made(1, 120)
    names = ("cat", "dog", "cow")

    def areas(**vectors: Any) -> dict[str, float]:
        paths = [
            make_embeddings(split, vectors[split], known, classes=names, path=tmp_path / f"{split}.h5")
            for split, known in (("train", labels), ("val", truth))
        ]
        return dict(measured(paths[0], paths[1], costs="-2").values)

    cats = {"train": labels[:, 0] == -1, "val": truth[:, 0] == -1}
    assert all(rows.any() for rows in cats.values())
    moved = {
        split: np.where(cats[split][:, None], -9 * rows[:, ::-1], rows)
        for split, rows in (("train", train), ("val", val))
    }
    before, after = areas(train=train, val=val), areas(**moved)
    assert before["map_area@cat"] == pytest.approx(after["map_area@cat"])
    assert before["map_area@dog"] != after["map_area@dog"]


def test_classes_without_images_are_left_out_of_the_mean_and_named(make_embeddings: Make) -> None:
    (train, labels), (val, truth) = made(0, 120), made(1, 120)
    names = ("cat", "dog", "cow", "bird", "sheep")
    rare = np.zeros((120, 2), dtype=np.int8)
    rare[:2, 0] = rare[:5, 1] = 1
    labels, truth = np.hstack([labels, rare]), np.hstack([truth, 0 * rare])
    truth[:, 3], truth[7, 4] = rare[:, 0], -1
    paths = make_embeddings("train", train, labels, classes=names), make_embeddings("val", val, truth, classes=names)
    found = measured(*paths, costs="0")
    assert found.notes == {"left_out": "bird (in 2 train images, of 3 folds); sheep (in no val image)"}
    assert found.values["map_area"] == pytest.approx(np.mean([found.values[f"map_area@{name}"] for name in names[:3]]))
    assert not {"map_area@bird", "map_area@sheep"} & set(found.values)


@pytest.mark.parametrize("others", [0, -1])
def test_a_class_of_nearly_every_train_image_is_left_out(make_embeddings: Make, others: int) -> None:
    (train, labels), (val, truth) = made(0, 120), made(1, 120)
    person = np.ones((120, 1), dtype=np.int8)
    person[:2] = others
    names = ("cat", "dog", "cow", "person")
    paths = [
        make_embeddings(split, vectors, np.hstack([rows, person]), classes=names)
        for split, vectors, rows in (("train", train, labels), ("val", val, truth))
    ]
    found = measured(paths[0], paths[1], costs="0")
    assert found.notes == {"left_out": f"person (missing in {2 if others == 0 else 0} train images, of 3 folds)"}
    assert "map_area@person" not in found.values


def test_perfect_embeddings_score_100_and_equal_ones_the_share_of_each_class(make_embeddings: Make) -> None:
    labels = np.tile(np.eye(4), (10, 1))
    for vectors, expected in ((np.eye(4)[labels.argmax(axis=1)], 100), (np.ones((40, 4)), 25)):
        files = [
            make_embeddings(split, vectors.astype(np.float32), labels, classes=tuple("abcd"))
            for split in ("train", "val")
        ]
        found = measured(files[0], files[1], costs="0").values
        assert (found["map_11point"], found["map_area"]) == pytest.approx((expected, expected))


def test_metrics_tell_what_was_measured(pair: tuple[Path, Path]) -> None:
    found = measured(*pair, costs="0", name="voc-1")
    assert (found.evaluation, found.seeds, found.n) == ("voc-1", (), {"train": 120, "val": 120})
    assert found.options == {"costs": [0], "folds": 3}
    assert "3-fold" in found.protocol


def test_one_label_an_image_is_refused(one_hot_pair: tuple[Path, Path], tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    arguments = flags({"train": one_hot_pair[0], "val": one_hot_pair[1], "metrics": tmp_path / "voc.json"})
    done = program("voc_classification", *arguments)
    assert_refused(done, one_hot_pair[0], "one label each", "use linear", folder=tmp_path, before=before)


@pytest.mark.parametrize(("options", "message"), [({"folds": 1}, "--folds is 1"), ({"folds": 100}, "no class is in")])
def test_folds_that_cannot_be_are_refused(pair: tuple[Path, Path], options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        measured(*pair, **options)


def test_no_costs_are_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--costs is empty"):
        voc_classification.main(
            [*flags({"train": pair[0], "val": pair[1], "metrics": tmp_path / "voc.json"}), "--costs"]
        )


@pytest.mark.parametrize("power", [-31, 600])
def test_a_cost_beyond_all_measure_is_refused(power: int) -> None:
    with pytest.raises(UserError, match=f"--costs has {power}; expected powers of 4 from -30 to 30"):
        voc_classification.Options(costs=(0, power))


def test_the_real_slice_scores_above_chance(tmp_path: Path) -> None:
    packs = {"train": tmp_path / "train.h5", "val": tmp_path / "val.h5"}
    fetch_dataset.main(flags({"source": "voc2007", "path": photographs("voc2007-slice"), "name": "voc", **packs}))
    files = {name: tmp_path / name for name in ("weights", "heads", "history", "checkpoints")}
    shown = {"architecture": "resnet18_x0.25", "augmentation": "crop-flip", "size": 64, "train": packs["train"]}
    pretrain.main(flags({"method": "untrained", "name": "untrained", **shown, **files}))
    caches = [tmp_path / "train-cache.h5", tmp_path / "val-cache.h5"]
    views = flags({"weights": files["weights"], "augmentation": "crop-flip"})
    embed.main([*views, "--images", *map(str, packs.values()), "--embeddings", *map(str, caches)])
    found = measured(caches[0], caches[1], costs="0")
    left_out = [entry.split()[0] for entry in found.notes["left_out"].split("; ")]
    assert left_out == ["bird", "cow", "diningtable", "sheep"]
    assert len(found.values) == 2 + 16
    # Chance is the share of each class, 12% on average.
    assert 14 < found.values["map_area"] < 60

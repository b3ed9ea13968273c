"""The linear probe: against the same training written out in float64 numpy, and the paper's settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages import linear_probe
from stages.artifacts.metrics import Metrics, read_metrics
from stages.artifacts.weights import digest_of
from stages.errors import UserError
from tests.conftest import assert_refused, flags, program

Make = Callable[..., Path]


def measured(train: Path, val: Path, **options: object) -> Metrics:
    metrics = train.parent / "linear.json"
    linear_probe.main(flags({"train": train, "val": val, "metrics": metrics, **options}))
    return read_metrics(metrics)


def overlapping(images: int, dimension: int = 12, classes: int = 4) -> tuple[Any, Any]:
    random = np.random.default_rng(images)
    labels = random.integers(classes, size=images)
    vectors = np.eye(classes, dimension)[labels] + 0.7 * random.normal(size=(images, dimension)) + 1
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


class RecordingSGD(torch.optim.SGD):
    """SGD that remembers the settings of every step, and itself."""

    made: "list[RecordingSGD]" = []  # noqa: RUF012

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.steps: list[dict[str, Any]] = []
        self.made.append(self)

    def step(self, *arguments: Any) -> None:  # type: ignore[override]
        self.steps.append({name: value for name, value in self.param_groups[0].items() if name != "params"})
        super().step(*arguments)


@pytest.fixture
def optimizers(monkeypatch: pytest.MonkeyPatch) -> list[RecordingSGD]:
    """The optimizers made during the test."""
    made: list[RecordingSGD] = []
    monkeypatch.setattr(RecordingSGD, "made", made)
    monkeypatch.setattr(torch.optim, "SGD", RecordingSGD)
    return made


def test_standardisation_is_the_train_splits_own_in_float64() -> None:
    random = np.random.default_rng(0)
    scales = 10.0 ** np.arange(-4, 4)
    train, val = (random.normal(size=(n, 8)) * scales + 3 * scales for n in (50, 20))
    found = linear_probe.standardised(train.astype(np.float32), val.astype(np.float32))
    train, val = (rows.astype(np.float32).astype(np.float64) for rows in (train, val))
    mean = train.sum(axis=0) / 50
    variance = ((train - mean) ** 2).sum(axis=0) / 49
    for rows, expected in zip(found, (train, val), strict=True):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, (expected - mean) / np.sqrt(variance + 1e-5), rtol=1e-5, atol=1e-5)


def test_a_dimension_without_variance_becomes_zero_not_nan() -> None:
    train = np.array([[1, 2], [1, 3], [1, 4]], dtype=np.float32)
    for rows in linear_probe.standardised(train, train):
        np.testing.assert_array_equal(rows[:, 0], 0)
        assert rows[:, 1].any()


def reference(features: Any, labels: Any, queries: Any, truth: Any, options: linear_probe.Options) -> tuple[Any, ...]:
    """The probe in float64 numpy: softmax regression by SGD with momentum; its weights, bias and accuracies."""
    torch.manual_seed(options.seed)
    start = torch.nn.Linear(features.shape[1], int(labels.max()) + 1)
    parameters = [start.weight.detach().double().numpy(), start.bias.detach().double().numpy()]
    velocities = [np.zeros_like(parameter) for parameter in parameters]
    accuracies = []
    for epoch in range(options.epochs):
        rate = options.learning_rate * options.gamma ** sum(epoch >= milestone for milestone in options.milestones)
        order = torch.randperm(len(features)).numpy()
        for first in range(0, len(order), options.batch_size):
            rows = order[first : first + options.batch_size]
            logits = features[rows] @ parameters[0].T + parameters[1]
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            shares[np.arange(len(rows)), labels[rows]] -= 1
            for index, gradient in enumerate((shares.T @ features[rows] / len(rows), shares.mean(axis=0))):
                decayed = gradient + options.weight_decay * parameters[index]
                velocities[index] = options.momentum * velocities[index] + decayed
                parameters[index] = parameters[index] - rate * velocities[index]
        accuracies.append(np.mean((queries @ parameters[0].T + parameters[1]).argmax(axis=1) == truth))
    return *parameters, accuracies


@pytest.mark.parametrize(
    "options",
    [
        linear_probe.Options(epochs=6, batch_size=32, milestones=(2, 4)),
        linear_probe.Options(epochs=3, batch_size=50, learning_rate=0.1, momentum=0.5, weight_decay=0.1, seed=3),
        linear_probe.Options(epochs=4, batch_size=1000, learning_rate=0.3, milestones=(1,), gamma=0.5),
    ],
)
def test_training_is_that_of_the_same_probe_written_out(
    optimizers: list[RecordingSGD], options: linear_probe.Options
) -> None:
    (train, labels), (val, truth) = overlapping(110), overlapping(90)
    features, queries = linear_probe.standardised(train, val)
    accuracies = linear_probe.probe(features, labels, queries, truth, 4, options)
    weight, bias, expected = reference(features.astype(np.float64), labels, queries.astype(np.float64), truth, options)
    found = [parameter.detach().numpy() for parameter in optimizers[0].param_groups[0]["params"]]
    np.testing.assert_allclose(found[0], weight, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1], bias, rtol=1e-4, atol=1e-6)
    assert accuracies == pytest.approx(expected)
    assert 0.3 < accuracies[-1] < 1


def test_the_defaults_are_the_papers(optimizers: list[RecordingSGD], one_hot_pair: tuple[Path, Path]) -> None:
    measured(*one_hot_pair)
    (optimizer,) = optimizers
    assert [step["lr"] for step in optimizer.steps] == pytest.approx([1e-2] * 15 + [1e-3] * 15 + [1e-4] * 10)
    first = optimizer.steps[0]
    assert (first["momentum"], first["weight_decay"], first["nesterov"]) == (0.9, 1e-4, False)
    assert linear_probe.Options().batch_size == 256


def test_an_epoch_has_every_image_once_in_batches_of_256(optimizers: list[RecordingSGD], make_embeddings: Make) -> None:
    vectors, labels = overlapping(600)
    measured(make_embeddings("train", vectors, labels), make_embeddings("val", vectors, labels), epochs=2)
    assert len(optimizers[0].steps) == 2 * 3


def test_perfect_embeddings_score_100(one_hot_pair: tuple[Path, Path]) -> None:
    assert measured(*one_hot_pair, batch_size=4).values == {"top1": 100.0, "top1_best_epoch": 100.0}


def test_embeddings_all_alike_score_as_chance_does(make_embeddings: Make) -> None:
    labels = np.repeat(np.arange(5), 20)
    same = np.ones((100, 8), dtype=np.float16)
    found = measured(make_embeddings("train", same, labels), make_embeddings("val", same, labels), epochs=3)
    assert found.values["top1"] == pytest.approx(20)


def test_the_last_epoch_is_reported_and_the_best_beside_it(
    make_embeddings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_probe, "probe", lambda *_: [0.2, 0.75, 0.5])
    vectors, labels = overlapping(20)
    found = measured(make_embeddings("train", vectors, labels), make_embeddings("val", vectors, labels))
    assert found.values == {"top1": 50, "top1_best_epoch": 75}


def test_the_length_of_vectors_does_not_matter_and_the_seed_does(make_embeddings: Make) -> None:
    (train, labels), (val, truth) = overlapping(200), overlapping(300)
    lengths = 2.0 ** np.random.default_rng(0).integers(-3, 4, size=(200, 1)).astype(np.float32)
    pair = make_embeddings("train", train, labels), make_embeddings("val", val, truth)
    plain, again, other = (measured(*pair, epochs=2, seed=seed).values for seed in (0, 0, 1))
    scaled = measured(make_embeddings("train", lengths * train, labels), pair[1], epochs=2).values
    assert plain == again == scaled
    assert plain != other


def test_the_embeddings_files_are_not_touched(one_hot_pair: tuple[Path, Path]) -> None:
    before = [(digest_of(path), path.stat().st_mtime_ns) for path in one_hot_pair]
    measured(*one_hot_pair, epochs=2)
    assert [(digest_of(path), path.stat().st_mtime_ns) for path in one_hot_pair] == before


def test_metrics_tell_what_was_measured(one_hot_pair: tuple[Path, Path]) -> None:
    found = measured(*one_hot_pair, epochs=1, seed=7, name="linear-1")
    assert (found.evaluation, found.seeds, found.n) == ("linear-1", (7,), {"train": 80, "val": 30})
    assert found.protocol == "compress linear: l2-normalised, standardised by train, 1 epochs on cached views"
    assert found.options["milestones"] == [15, 30]


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch_size": 0}])
def test_options_below_one_are_refused(one_hot_pair: tuple[Path, Path], options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="is 0; expected at least 1"):
        measured(*one_hot_pair, **options)


def test_the_program_refuses_a_zero_vector(make_embeddings: Make, tmp_path: Path) -> None:
    rows = np.eye(4, dtype=np.float16)
    train = make_embeddings("train", rows, range(4))
    rows[3] = 0
    val = make_embeddings("val", rows, range(4))
    before = set(tmp_path.rglob("*"))
    done = program("linear_probe", *flags({"train": train, "val": val, "metrics": tmp_path / "linear.json"}))
    assert_refused(done, val, "row 3", "zero", folder=tmp_path, before=before)

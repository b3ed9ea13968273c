"""The linear probe: against the same training written out in float64 numpy, the authors' settings, and its faults."""

import copy
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stages import architectures, linear_probe
from stages.artifacts import embeddings
from stages.artifacts.embeddings import read_embeddings
from stages.artifacts.metrics import Metrics, read_metrics
from stages.artifacts.subsets import Subset, write_subset
from stages.artifacts.weights import digest_of, load_weights
from stages.datasets import augmentations
from stages.datasets.packed import read_pack
from stages.errors import UserError
from stages.probing import training
from stages.probing.features import Augmented, Cached
from stages.probing.heads import Head, Heads, Statistics, statistics_of
from stages.probing.presets import PRESETS, Preset
from stages.training.batches import Positions
from stages.training.checkpoint import Checkpoint
from stages.training.recipe import Recipe, learning_rate
from tests.conftest import ROOT, assert_refused, flags, noted_rows, program
from tests.training_fixtures import embedded_by

Make = Callable[..., Path]
CPU = torch.device("cpu")


def argv(folder: Path, *lists: str, **options: object) -> list[str]:
    places = {"metrics": folder / "linear.json", "checkpoints": folder / "checkpoints"}
    return [*flags({**places, "views": "cached", **options}), *lists]


def measured(train: Path, val: Path, *lists: str, **options: object) -> Metrics:
    linear_probe.main(argv(train.parent, *lists, train=train, val=val, **options))
    assert not (train.parent / "checkpoints").exists()
    return read_metrics(train.parent / "linear.json")


def overlapping(images: int, dimension: int = 12, classes: int = 7) -> tuple[Any, Any]:
    """Vectors of different lengths and their classes, which no classifier tells apart wholly."""
    random = np.random.default_rng(images)
    labels = np.concatenate([np.arange(classes), random.integers(classes, size=images - classes)])
    vectors = np.eye(classes, dimension)[labels] + 0.5 * random.normal(size=(images, dimension)) + 0.3
    return (vectors * random.uniform(0.5, 2, size=(images, 1))).astype(np.float32), labels


@pytest.fixture
def pair(make_embeddings: Make) -> tuple[Path, Path]:
    return make_embeddings("train", *overlapping(110)), make_embeddings("val", *overlapping(90))


def short(name: str, epochs: int = 6) -> Preset:
    """A preset with a schedule of few epochs."""
    preset = PRESETS[name]
    return dataclasses.replace(preset, recipe=dataclasses.replace(preset.recipe, epochs=epochs, milestones=(2, 4)))


def learned(
    presets: Sequence[Preset], pair: tuple[Path, Path], *, seed: int = 0, rows: Sequence[int] | None = None
) -> Heads:
    train, val = map(read_embeddings, pair)
    checkpoint = Checkpoint(pair[0].parent / "learned", "")
    checkpoint.remove()
    return training.probe(
        presets,
        Cached(train, CPU),
        range(len(train.labels)) if rows is None else rows,
        statistics_of(train),
        val,
        seed=seed,
        device=CPU,
        checkpoint=checkpoint,
        checkpoint_seconds=1000,
        title="probe",
    )


class Reference:
    """A preset's classifier in float64 numpy, its gradients written out."""

    def __init__(self, preset: Preset, start: dict[str, torch.Tensor]) -> None:
        self.preset = preset
        names = ["linear.weight", "linear.bias", *(["norm.weight", "norm.bias"] if preset.logits_normalised else [])]
        self.parameters = {name: start[name].double().numpy() for name in names}
        self.velocities = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        classes = len(self.parameters["linear.bias"])
        self.running = [np.zeros(classes), np.ones(classes)]

    def step(self, features: Any, labels: Any, rate: float) -> None:
        count, own, recipe = len(features), self.parameters, self.preset.recipe
        logits = features @ own["linear.weight"].T + own["linear.bias"]
        outputs = logits
        if self.preset.logits_normalised:
            mean, variance = logits.mean(axis=0), logits.var(axis=0)
            self.running[0] = 0.9 * self.running[0] + 0.1 * mean
            self.running[1] = 0.9 * self.running[1] + 0.1 * variance * count / (count - 1)
            normal = (logits - mean) / np.sqrt(variance + 1e-5)
            outputs = own["norm.weight"] * normal + own["norm.bias"]
        slope = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        slope /= slope.sum(axis=1, keepdims=True)
        slope[np.arange(count), labels] -= 1
        slope /= count
        gradients = {}
        if self.preset.logits_normalised:
            gradients["norm.weight"], gradients["norm.bias"] = (slope * normal).sum(axis=0), slope.sum(axis=0)
            inner = slope * own["norm.weight"]
            slope = inner - inner.mean(axis=0) - normal * (inner * normal).mean(axis=0)
            slope /= np.sqrt(variance + 1e-5)
        gradients["linear.weight"], gradients["linear.bias"] = slope.T @ features, slope.sum(axis=0)
        for name, gradient in gradients.items():
            decayed = gradient + recipe.weight_decay * own[name]
            self.velocities[name] = recipe.sgd_momentum * self.velocities[name] + decayed
            ahead = decayed + recipe.sgd_momentum * self.velocities[name]
            own[name] = own[name] - rate * (ahead if recipe.nesterov else self.velocities[name])

    def ranking(self, features: Any) -> Any:
        """The classes of each row, the likeliest first."""
        logits = features @ self.parameters["linear.weight"].T + self.parameters["linear.bias"]
        if self.preset.logits_normalised:
            normal = (logits - self.running[0]) / np.sqrt(self.running[1] + 1e-5)
            logits = self.parameters["norm.weight"] * normal + self.parameters["norm.bias"]
        return np.argsort(-logits, axis=1)


def standardised(train: Any, rows: Any) -> Any:
    """Rows as CompRess wants them, in float64."""
    train, rows = (
        each.astype(np.float64) / np.linalg.norm(each.astype(np.float64), axis=1)[:, None] for each in (train, rows)
    )
    return (rows - train.mean(axis=0)) / np.sqrt(train.var(axis=0, ddof=1) + 1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_training_is_that_of_the_same_probe_written_out(
    name: str, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "BATCH_SIZE", 32)
    preset = short(name)
    if name == "moco":  # a rate at which rounding does not decide
        preset = dataclasses.replace(preset, recipe=dataclasses.replace(preset.recipe, learning_rate=1.0))
    (train, labels), (val, truth) = overlapping(110), overlapping(90)
    start = Heads([preset], Statistics(torch.zeros(12), torch.ones(12)), read_embeddings(pair[1]), 3)
    expected = Reference(preset, copy.deepcopy(start.classifiers[0].state_dict()))
    features, queries = (
        standardised(train, rows) if preset.standardised else rows.astype(np.float64) for rows in (train, val)
    )
    recipe = dataclasses.replace(preset.recipe, batch_size=32)
    right = []
    for step, positions in enumerate(Positions(range(110), recipe, 3, 0)):
        rows = np.array([row for _, row in positions])
        expected.step(features[rows], labels[rows], learning_rate(recipe, step, 4))
        if step % 4 == 3:
            ranking = expected.ranking(queries)
            right.append([np.sum(ranking[:, :1] == truth[:, None]), np.sum(ranking[:, :5] == truth[:, None])])
    found = learned([preset], pair, seed=3)
    state = found.classifiers[0].state_dict()
    for parameter, value in expected.parameters.items():
        np.testing.assert_allclose(state[parameter].numpy(), value, rtol=2e-4, atol=2e-5)
    np.testing.assert_array_equal(found.top1[0], [top1 for top1, _ in right])
    np.testing.assert_array_equal(found.top5[0], [top5 for _, top5 in right])
    assert 0.15 * 90 < right[-1][0] < 90


def test_the_statistics_are_those_of_all_rows_in_float64_however_many_are_read_at_once(
    make_embeddings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = (np.random.default_rng(0).normal(size=(53, 8)) * 10.0 ** np.arange(-4, 4) + 1).astype(np.float32)
    train = read_embeddings(make_embeddings("train", vectors, np.arange(53) % 3))
    wide = vectors.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    for size in (2**26, 4 * 8 * 10, 1):
        monkeypatch.setattr(embeddings, "SLICE_BYTES", size)
        found = statistics_of(train)
        np.testing.assert_allclose(found.mean, wide.mean(axis=0), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found.variance, wide.var(axis=0, ddof=1), rtol=1e-5)


def test_several_heads_at_once_learn_what_each_learns_alone(pair: tuple[Path, Path]) -> None:
    presets = [short("compress", 3), short("moco", 5), short("simdis", 2), short("byol", 4), short("compress", 5)]
    together = learned(presets, pair)
    for number, preset in enumerate(presets):
        alone = learned([preset], pair)
        epochs = preset.recipe.epochs
        assert torch.equal(together.top1[number, :epochs], alone.top1[0])
        assert torch.equal(together.top5[number, :epochs], alone.top5[0])
        for name, value in alone.classifiers[0].state_dict().items():
            torch.testing.assert_close(together.classifiers[number].state_dict()[name], value, rtol=0, atol=0)


def test_a_classifier_that_diverges_is_named(pair: tuple[Path, Path]) -> None:
    presets = [short("compress"), short("byol")]
    presets[1] = dataclasses.replace(
        presets[1], recipe=dataclasses.replace(presets[1].recipe, learning_rate=1e38, schedule="step")
    )
    step = r"^the loss is (nan|inf) at step \d+ \(epoch \d, .*\): "
    named = r"it is that of \S+'s linear classifier on raw embeddings with learning rate 1e\+38: lower its rate by"
    with pytest.raises(UserError, match=step + named):
        learned(presets, pair)


@pytest.mark.parametrize(
    ("name", "rates", "weight_decay", "nesterov", "form"),
    [
        ("compress", [0.01] * 15 + [0.001] * 15 + [0.0001] * 10, 1e-4, False, (True, None, False)),
        ("moco", [30] * 60 + [3] * 20 + [0.3] * 20, 0, False, (False, 0.01, False)),
        ("swav", [0.15 * (1 + math.cos(math.pi * i / 100)) for i in range(100)], 1e-6, False, (False, 0.01, False)),
        ("byol", [0.1 * (1 + math.cos(math.pi * i / 80)) for i in range(80)], 0, True, (False, None, False)),
        ("simdis", [0.0005 * (1 + math.cos(math.pi * i / 80)) for i in range(80)], 0, False, (False, 0.01, True)),
    ],
)
def test_the_presets_are_their_authors(
    name: str,
    rates: list[float],
    weight_decay: float,
    nesterov: bool,
    form: tuple[bool, float | None, bool],
    pair: tuple[Path, Path],
) -> None:
    """``form``: whether embeddings are standardised, the weights' deviation if normal, a batch norm on the logits."""
    preset = PRESETS[name]
    heads = Heads([preset], Statistics(torch.zeros(12), torch.ones(12)), read_embeddings(pair[1]), 0)
    optimizer = heads.optimizer(Recipe())
    found = [heads.before_step(optimizer, Recipe(), 5 * epoch, 5) for epoch in range(preset.recipe.epochs)]
    assert found == pytest.approx(rates)
    (group,) = optimizer.param_groups
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, weight_decay, nesterov)
    assert preset.recipe.batch_size == training.BATCH_SIZE == 256
    assert (preset.standardised, preset.deviation, preset.logits_normalised) == form
    linear = Head(preset, 2000, 50, seed=0).linear.requires_grad_(False)
    if form[1]:
        assert float(linear.weight.std()) == pytest.approx(form[1], rel=0.02)
        assert not linear.bias.any()
    else:  # torch's own: uniform up to 1 / sqrt(D)
        assert float(linear.weight.abs().max()) == pytest.approx(2000**-0.5, rel=0.001)
        assert float(linear.bias.abs().max()) == pytest.approx(2000**-0.5, rel=0.2)


def test_an_epoch_has_every_image_once_in_batches_of_256(make_embeddings: Make) -> None:
    train = make_embeddings("train", *overlapping(600))
    batches = list(Cached(read_embeddings(train), CPU).batches(range(600), Recipe(epochs=2), 0, 0))
    assert [len(batch.indices) for batch in batches] == 2 * [256, 256, 88]
    for epoch in (batches[:3], batches[3:]):
        assert sorted(torch.cat([batch.indices for batch in epoch]).tolist()) == list(range(600))


@pytest.mark.parametrize("name", PRESETS)
def test_perfect_embeddings_score_100(
    one_hot_pair: tuple[Path, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "BATCH_SIZE", 8)
    found = measured(*one_hot_pair, "--presets", name)
    assert found.values == {"top1": 100.0, "top1_best_epoch": 100.0, "top5": 100.0}


def test_embeddings_all_alike_score_as_chance_does(make_embeddings: Make) -> None:
    labels = np.repeat(np.arange(5), 20)
    same = np.ones((100, 8), dtype=np.float16)
    found = measured(make_embeddings("train", same, labels), make_embeddings("val", same, labels), epochs=3)
    assert found.values == {"top1": pytest.approx(20), "top1_best_epoch": pytest.approx(20)}


def test_the_last_epoch_is_reported_and_the_best_beside_it(pair: tuple[Path, Path]) -> None:
    preset = dataclasses.replace(PRESETS["moco"], recipe=dataclasses.replace(PRESETS["moco"].recipe, epochs=9))
    counts = learned([preset], pair).top1[0].tolist()
    assert len(set(counts)) > 1
    values = measured(*pair, "--presets", "moco", epochs=9).values
    assert values["top1"] == pytest.approx(100 * counts[-1] / 90)
    assert values["top1_best_epoch"] == pytest.approx(100 * max(counts) / 90)


def test_the_length_of_vectors_does_not_matter_to_compress_and_the_seed_does(make_embeddings: Make) -> None:
    (train, labels), (val, truth) = overlapping(200), overlapping(300)
    lengths = 2.0 ** np.random.default_rng(0).integers(-3, 4, size=(200, 1)).astype(np.float32)
    pair = make_embeddings("train", train, labels), make_embeddings("val", val, truth)
    plain, again, other = (measured(*pair, epochs=2, seed=seed).values for seed in (0, 0, 1))
    scaled = measured(make_embeddings("train", lengths * train, labels), pair[1], epochs=2).values
    assert plain == again == scaled
    assert plain != other


def test_runs_are_those_of_consecutive_seeds(pair: tuple[Path, Path]) -> None:
    together = measured(*pair, epochs=2, runs=3, seed=4)
    single = [measured(*pair, epochs=2, seed=seed) for seed in (4, 5, 6)]
    assert together.seeds == (4, 5, 6)
    for name, value in together.values.items():
        each = [one.values[name] for one in single]
        assert value == pytest.approx(np.mean(each))
        assert together.deviations[name] == pytest.approx(np.std(each, ddof=1))
    assert together.deviations["top1"] > 0
    assert single[0].deviations == {}


def subset_of(train: Path, percent: int, rows: Sequence[int]) -> Path:
    path = train.parent / f"toy-{percent}.txt"
    write_subset(path, Subset("toy", "fingerprint-of-toy", percent, "0", np.array(rows)))
    return path


def test_only_labels_of_the_subset_are_used(pair: tuple[Path, Path], make_embeddings: Make) -> None:
    vectors, labels = overlapping(110)
    rows = list(range(0, 110, 4))
    options = ["--labels", "25", "--subsets", str(subset_of(pair[0], 25, rows))]
    expected = measured(*pair, *options, epochs=3)
    assert expected.notes["labelled"] == "28 of 110 train images"
    labels[[row for row in range(110) if row not in rows]] = 0
    other = make_embeddings("train", vectors, labels)
    assert measured(other, pair[1], *options, epochs=3).values == expected.values
    assert measured(other, pair[1], epochs=3).values != expected.values


def test_a_value_is_named_by_the_axes_that_have_several_entries(pair: tuple[Path, Path]) -> None:
    lists = [str(subset_of(pair[0], percent, range(percent))) for percent in (10, 20)]
    few = ["--labels", "10", "20", "100", "--subsets", *lists]
    names = measured(*pair, "--presets", "moco", "compress", *few, "--learning-rates", "0.3", "1", epochs=1).values
    kinds = ("top1", "top5", "top1_best_epoch")
    every = {f"{p},{share}%,{rate}" for p in ("moco", "compress") for share in (10, 20, 100) for rate in ("0.3", "1")}
    assert set(names) == {f"{kind}@{axes}" for kind in kinds for axes in every}
    assert set(measured(*pair, *few, epochs=1).values) >= {"top1@10%", "top1@20%", "top1@100%"}
    assert "top1@0.3" in measured(*pair, "--learning-rates", "0.3", "1", epochs=1).values
    assert set(measured(*pair, "--learning-rates", "0.3", epochs=1).values) == set(kinds)


def test_the_embeddings_files_are_not_touched(one_hot_pair: tuple[Path, Path]) -> None:
    before = [(digest_of(path), path.stat().st_mtime_ns) for path in one_hot_pair]
    measured(*one_hot_pair, epochs=2)
    assert [(digest_of(path), path.stat().st_mtime_ns) for path in one_hot_pair] == before


def test_metrics_tell_what_was_measured(one_hot_pair: tuple[Path, Path]) -> None:
    found = measured(*one_hot_pair, epochs=1, seed=7, name="linear-1")
    assert (found.evaluation, found.seeds, found.n) == ("linear-1", (7,), {"train": 80, "val": 30})
    assert found.protocol == "compress linear: l2-normalised, standardised by train, 1 epochs on cached views"
    assert found.options["presets"] == ["compress"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "-1"], "--epochs is -1; expected at least 0"),
        (["--runs", "0"], "--runs is 0; expected at least 1"),
        (["--presets"], "--presets is empty; expected at least one"),
        (["--presets", "moco", "moco"], "--presets has an entry twice: moco moco"),
        (
            ["--learning-rates", "0.1234567", "0.12345671"],
            "--learning-rates has an entry twice: 0.123457 0.123457",
        ),
        (["--labels", "0"], "--labels has 0; expected different percentages"),
        (["--labels", "10", "10"], "--labels has 10; expected different percentages"),
        (["--learning-rates", "0"], "--learning-rates is 0; expected a number above 0"),
        (["--labels", "10"], "--labels asks for 10% of the labels, and --subsets gives lists of none"),
    ],
)
def test_options_that_cannot_be_met_are_refused(
    one_hot_pair: tuple[Path, Path], options: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        measured(*one_hot_pair, *options)


def test_a_single_labelled_image_is_refused(pair: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"train\.h5: 1% of the labels is one image; a linear probe needs two or more"):
        measured(*pair, "--labels", "1", "--subsets", str(subset_of(pair[0], 1, [7])))


def test_no_more_than_a_slice_of_a_cache_is_in_memory_at_once(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = noted_rows(monkeypatch)
    monkeypatch.setattr(embeddings, "SLICE_BYTES", 4 * 12 * 7)
    measured(*pair, epochs=1)
    assert sum(rows) >= 110 + 90
    assert max(rows) == 7


def test_the_program_refuses_a_zero_vector_of_val(make_embeddings: Make, tmp_path: Path) -> None:
    rows = np.eye(4, dtype=np.float16)
    train = make_embeddings("train", rows, range(4))
    rows[3] = 0
    val = make_embeddings("val", rows, range(4))
    before = set(tmp_path.rglob("*"))
    done = program("linear_probe", *argv(tmp_path, train=train, val=val))
    assert_refused(done, val, "row 3", "zero", folder=tmp_path, before=before)


# Augmented views.


@pytest.fixture(scope="module")
def cached(digits: SimpleNamespace, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What an augmented probe of the small encoder takes: its embeddings of the digits, and the digits themselves."""
    folder = tmp_path_factory.mktemp("probed")
    train, val = (embedded_by(weights, getattr(digits, split), folder / f"{split}.h5") for split in ("train", "val"))
    return SimpleNamespace(train=train, val=val, images=digits.train, weights=weights)


def arguments_of(cached: SimpleNamespace, folder: Path, **options: object) -> list[str]:
    few = folder / "few.txt"
    fingerprint = read_pack(cached.images).fingerprint
    write_subset(few, Subset("digits", fingerprint, 4, "0", np.arange(0, 1347, 25)))
    files = {**vars(cached), "views": "augmented", "epochs": 4, "labels": 4, "subsets": few}
    return argv(folder, "--presets", "compress", "simdis", **{**files, **options})


def test_the_encoder_sees_augmented_views_and_stays_as_it_is(cached: SimpleNamespace) -> None:
    state, card = load_weights(cached.weights)
    encoder = architectures.load(card.architecture, card.contract, state, "").train()
    augmentation = augmentations.named("crop-flip", 32)
    train = read_embeddings(cached.train)
    features = Augmented(train, read_pack(cached.images), encoder, augmentation, 0, CPU)
    rows = list(range(0, 1347, 25))
    recipe = Recipe(epochs=2, batch_size=32)
    batches = [features.prepare(batch) for batch in features.batches(rows, recipe, 0, 0)]
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    for name, tensor in encoder.backbone.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    of_another_run = next(features.batches(rows, recipe, 1, 0))
    assert not torch.equal(of_another_run.indices, batches[0].indices)
    fresh = architectures.load(card.architecture, card.contract, state, "").eval()
    for batch in batches:
        torch.testing.assert_close(batch.frozen_output, fresh(batch.views[0]), rtol=1e-5, atol=1e-6)
        assert batch.labels.tolist() == train.labels[batch.indices.numpy()].tolist()
    for half in (batches[:2], batches[2:]):
        assert sorted(torch.cat([batch.indices for batch in half]).tolist()) == rows
    first, second = (
        torch.cat([b.frozen_output for b in half])[torch.cat([b.indices for b in half]).argsort()]
        for half in (batches[:2], batches[2:])
    )  # type: ignore[misc]
    assert not torch.isclose(first, second, rtol=1e-3).all(dim=1).any()


def test_the_loop_leaves_the_encoder_as_it_is(
    cached: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Augmented] = []
    construct = Augmented.__init__

    def noting(self: Augmented, *arguments: Any) -> None:
        construct(self, *arguments)
        made.append(self)

    monkeypatch.setattr(Augmented, "__init__", noting)
    linear_probe.main(arguments_of(cached, tmp_path, epochs=2))
    (features,) = made
    assert not any(module.training for module in features.encoder.modules())
    for name, tensor in load_weights(cached.weights)[0].items():
        assert torch.equal(features.encoder.backbone.state_dict()[name], tensor), name


def test_augmented_probes_are_told_by_their_protocol(cached: SimpleNamespace, tmp_path: Path) -> None:
    linear_probe.main(arguments_of(cached, tmp_path, epochs=1))
    found = read_metrics(tmp_path / "linear.json")
    assert found.protocol.endswith("1 epochs on crop-flip views, 4% of the labels")
    assert {"top1@compress", "top5@simdis"} <= set(found.values)
    before = digest_of(cached.weights)
    assert read_embeddings(cached.train).weights == before


@pytest.mark.parametrize("runs", [2, 3])
def test_a_finished_run_is_kept_when_a_later_one_is_broken_off(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, runs: int
) -> None:
    lists = ["--labels", "25", "100", "--subsets", str(subset_of(pair[0], 25, range(0, 110, 4)))]
    options = {"epochs": 3, "runs": 2}
    expected = measured(*pair, *lists, **{**options, "runs": runs}).values
    step, steps = Heads.after_step, []

    def counting(heads: Heads, progress: float) -> None:
        steps.append(progress)
        if len(steps) == 3 + 3 + 2:
            raise KeyboardInterrupt
        step(heads, progress)

    monkeypatch.setattr(Heads, "after_step", counting)
    with pytest.raises(KeyboardInterrupt):
        measured(*pair, *lists, **options)
    steps[:] = [math.nan] * 100
    assert measured(*pair, *lists, **{**options, "runs": runs}).values == expected
    assert len(steps) - 100 == 3 * (2 * runs - 2)


def test_a_run_goes_on_only_from_its_own_checkpoint(pair: tuple[Path, Path]) -> None:
    train = read_embeddings(pair[0])

    def key(code: str = "", rows: Sequence[int] = (0, 1), made: Any = train, **options: Any) -> str:
        return linear_probe.key_of(code, linear_probe.Options(**options), made, rows)

    inputs = ({"weights": "other"}, {"transform": "other"}, {"dataset_fingerprint": "other"})
    others = [key(code="other"), key(rows=(0, 2)), *(key(made=dataclasses.replace(train, **each)) for each in inputs)]
    others += [key(seed=1), key(epochs=7), key(presets=("moco",)), key(learning_rates=(0.1,))]
    others += [key(views="cached"), key(augmentation="moco-v2")]
    assert len({key(), *others}) == 1 + len(others)
    assert key(runs=3, labels=(1, 10)) == key(), "each run and share of labels has a checkpoint of its own"


def test_a_terminated_probe_goes_on_and_ends_as_an_unbroken_one(cached: SimpleNamespace, tmp_path: Path) -> None:
    linear_probe.main(arguments_of(cached, tmp_path, epochs=25))
    expected = read_metrics(tmp_path / "linear.json").values
    (tmp_path / "linear.json").unlink()
    command = [sys.executable, "-m", "stages.linear_probe", *arguments_of(cached, tmp_path, epochs=25)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    checkpoint = tmp_path / "checkpoints/4-0/checkpoint.pt"
    with subprocess.Popen(
        [*command, "--checkpoint-seconds", "0"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, stderr
    assert not (tmp_path / "linear.json").exists()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "going on at step" in done.stderr
    assert json.loads((tmp_path / "linear.json").read_text())["values"] == expected
    assert not (tmp_path / "checkpoints").exists()


def test_a_finished_probe_leaves_what_is_not_its_own(pair: tuple[Path, Path], tmp_path: Path) -> None:
    mine = tmp_path / "shared" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("not the probe's")
    linear_probe.main(argv(tmp_path, train=pair[0], val=pair[1], checkpoints=mine.parent, epochs=1, runs=2))
    assert list(mine.parent.iterdir()) == [mine]


def test_images_or_weights_that_the_embeddings_are_not_of_are_refused(
    cached: SimpleNamespace, digits: SimpleNamespace, make_embeddings: Make, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"val\.h5: holds digits-val .* expected the same train images"):
        linear_probe.main(arguments_of(cached, tmp_path, images=digits.val))
    vectors, labels = overlapping(110)
    pair = {split: make_embeddings(split, vectors, labels) for split in ("train", "val")}
    with pytest.raises(UserError, match="not the weights that made"):
        linear_probe.main(arguments_of(cached, tmp_path, **pair, labels=100))


def test_augmented_views_without_their_files_are_no_arguments(
    one_hot_pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        measured(*one_hot_pair, views="augmented")
    assert "augmented views take --weights and --images; --views cached does without" in capsys.readouterr().err

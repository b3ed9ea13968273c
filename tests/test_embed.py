"""Embedding: the vectors of calling the backbone directly, the weights as they were, files that tell their origin."""

import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stages import architectures, embed, knn
from stages.artifacts.embeddings import Embeddings, read_embeddings, read_pair
from stages.artifacts.weights import digest_of, load_weights, save_weights
from stages.datasets import augmentations
from stages.datasets.packed import read_pack
from stages.errors import UserError
from tests.conftest import assert_refused, card, flags, program


def embedded(weights: Path, images: list[Path], folder: Path, **options: object) -> list[Embeddings]:
    paths = [folder / f"embedded-{path.name}" for path in images]
    several = ["--images", *map(str, images), "--embeddings", *map(str, paths)]
    embed.main(flags({"weights": weights, "augmentation": "crop-flip", **options}) + several)
    return [read_embeddings(path) for path in paths]


def directly(weights: Path, images: Path) -> Any:
    """The vectors of the backbone in evaluation mode, image by image, normalised by hand."""
    state, found = load_weights(weights)
    backbone = architectures.build(found.architecture, found.contract).backbone
    backbone.load_state_dict(state)
    backbone.eval()
    pack, view = read_pack(images), augmentations.named("crop-flip", found.contract.size)
    mean, std = (torch.tensor(value)[:, None, None] for value in (found.contract.mean, found.contract.std))
    with torch.no_grad():
        rows = [backbone(((view.center(pack.image(i)) / 255 - mean) / std)[None])[0] for i in range(len(pack))]
    return torch.stack(rows).numpy()


@pytest.fixture
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "fits_float16", lambda _: False)


@pytest.mark.usefixtures("full_precision")
@pytest.mark.parametrize("options", [{}, {"batch_size": 7}, {"batch_size": 1000, "workers": 1}])
def test_vectors_are_those_of_calling_the_backbone_directly(
    weights: Path, digits: SimpleNamespace, tmp_path: Path, options: dict[str, int]
) -> None:
    (found,) = embedded(weights, [digits.val], tmp_path, **options)
    expected = directly(weights, digits.val)
    assert found.vectors.dtype == np.float32
    assert expected.std() > 0.01
    np.testing.assert_allclose(found.vectors, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.labels, read_pack(digits.val).labels)


def test_vectors_are_stored_rounded_to_float16(weights: Path, digits: SimpleNamespace, tmp_path: Path) -> None:
    (found,) = embedded(weights, [digits.val], tmp_path)
    assert found.vectors.dtype == np.float16
    np.testing.assert_allclose(found.vectors, directly(weights, digits.val), rtol=2e-3, atol=1e-5)


def test_vectors_too_small_for_float16_keep_their_directions(
    weights: Path, digits: SimpleNamespace, tmp_path: Path
) -> None:
    state, found = load_weights(weights)
    for key, tensor in state.items():
        if key.startswith("layer4") and re.search(r"(bn\d|downsample\.1)\.(weight|bias)", key):
            tensor *= 1e-8
    save_weights(tmp_path / "small.safetensors", state, found)
    (small,) = embedded(tmp_path / "small.safetensors", [digits.val], tmp_path)
    expected = directly(tmp_path / "small.safetensors", digits.val)
    assert 0 < expected.max() < 1e-6
    np.testing.assert_allclose(small.unit(), expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize("factor", [1e-8, 1e6])
def test_a_single_late_vector_beyond_float16_is_stored_as_it_is(
    weights: Path, digits: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    batches = embed.embedded

    def with_an_outlier(*arguments: Any) -> Any:
        for number, rows in enumerate(batches(*arguments)):
            rows[-1] *= factor if number == 2 else 1
            yield rows

    monkeypatch.setattr(embed, "embedded", with_an_outlier)
    (found,) = embedded(weights, [digits.val], tmp_path, batch_size=100)
    expected = directly(weights, digits.val)
    expected[299] *= factor
    assert found.vectors.dtype == np.float32
    np.testing.assert_allclose(found.unit(), expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found.vectors[299]), np.linalg.norm(expected[299]), rtol=1e-3)
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.parametrize(
    ("row", "fits"),
    [
        ([1.0, 2.0, 3.0], True),
        ([1e-2, 1e-3, 0.0], True),
        ([60_000.0, 0.0, 1.0], True),
        ([0.0, 0.0, 0.0], True),
        ([1e-8, 1e-8, 1e-8], False),
        ([2e-6, 2e-6, 2e-6], False),
        ([70_000.0, 0.0, 1.0], False),
        ([np.nan, 0.0, 1.0], False),
    ],
)
def test_float32_is_for_what_float16_would_change(row: list[float], fits: bool) -> None:
    assert embed.fits_float16(np.array([[1, 1, 1], row], dtype=np.float32)) == fits


def test_weights_and_running_statistics_are_left_as_they_were(
    weights: Path, digits: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders = []
    load = architectures.load

    def remembered(*arguments: Any) -> architectures.Encoder:
        encoders.append(load(*arguments))
        return encoders[-1]

    monkeypatch.setattr(architectures, "load", remembered)
    digest = digest_of(weights)
    embedded(weights, [digits.val], tmp_path)
    assert digest_of(weights) == digest
    (encoder,) = encoders
    assert not encoder.training
    after = encoder.backbone.state_dict()
    before = load_file(weights)
    assert before.keys() == after.keys()
    assert any("running_mean" in key for key in before)
    for key, tensor in before.items():
        assert torch.equal(tensor, after[key].cpu()), key


def test_both_splits_belong_together_and_tell_where_they_come_from(
    weights: Path, digits: SimpleNamespace, tmp_path: Path
) -> None:
    train, val = embedded(weights, [digits.train, digits.val], tmp_path)
    assert read_pair(train.path, val.path)[0].path == train.path
    pack = read_pack(digits.train)
    assert train.dataset_fingerprint == val.dataset_fingerprint == pack.fingerprint
    assert train.weights == val.weights == digest_of(weights)
    assert train.transform == val.transform == "resize 256/224, centre crop at 32, bilinear"
    assert (train.split, val.split, train.dataset, train.classes) == ("train", "val", "digits", pack.classes)
    assert train.card == val.card == card()
    assert (train.vectors.shape, val.vectors.shape) == ((1347, 64), (450, 64))


@pytest.mark.usefixtures("full_precision")
def test_an_image_alone_has_the_vector_it_has_among_others(
    weights: Path, digits: SimpleNamespace, tmp_path: Path
) -> None:
    (together,) = embedded(weights, [digits.val], tmp_path)
    (alone,) = embedded(weights, [digits.val], tmp_path / "alone", batch_size=1)
    np.testing.assert_allclose(together.vectors, alone.vectors, rtol=1e-4, atol=1e-5)


def test_embeddings_of_two_encoders_are_not_paired(weights: Path, digits: SimpleNamespace, tmp_path: Path) -> None:
    state, found = load_weights(weights)
    state["bn1.bias"] += 1
    save_weights(tmp_path / "other.safetensors", state, found)
    (train,) = embedded(weights, [digits.train], tmp_path)
    (val,) = embedded(tmp_path / "other.safetensors", [digits.val], tmp_path)
    with pytest.raises(UserError, match=f"made with weights {train.weights} and {val.weights}"):
        knn.main(flags({"train": train.path, "val": val.path, "metrics": tmp_path / "knn.json"}))


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"workers": -1}])
def test_options_out_of_range_are_refused(
    weights: Path, digits: SimpleNamespace, tmp_path: Path, options: dict[str, int]
) -> None:
    with pytest.raises(UserError, match="expected at least"):
        embedded(weights, [digits.val], tmp_path, **options)


def test_as_many_outputs_as_inputs_are_asked_for(
    weights: Path, digits: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = str(digits.val)
    with pytest.raises(SystemExit) as ended:
        embed.main(
            ["--weights", str(weights), "--augmentation", "crop-flip", "--images", pack, pack, "--embeddings", "a"]
        )
    assert ended.value.code == 2
    assert "--images and --embeddings need as many files as each other" in capsys.readouterr().err


def test_the_weights_of_another_architecture_are_refused(
    weights: Path, digits: SimpleNamespace, tmp_path: Path
) -> None:
    state, _ = load_weights(weights)
    save_weights(tmp_path / "wrong.safetensors", state, card(architecture="resnet18_x0.25", dimension=128))
    with pytest.raises(UserError, match=r"wrong\.safetensors: not the weights of a resnet18_x0\.25: .* has shape"):
        embedded(tmp_path / "wrong.safetensors", [digits.val], tmp_path)
    assert not list(tmp_path.glob("*.h5"))


@pytest.mark.parametrize("workers", [0, 1])
def test_the_program_names_an_image_that_does_not_decode(
    weights: Path, digits: SimpleNamespace, tmp_path: Path, workers: int
) -> None:
    images = tmp_path / "val.h5"
    shutil.copy(digits.val, images)
    pack = read_pack(images)
    with h5py.File(images, "r+") as file:
        file["images"][pack.offsets[300] : pack.offsets[301]] = 0
    before = set(tmp_path.rglob("*"))
    paths = {"images": images, "embeddings": tmp_path / "out.h5", "augmentation": "crop-flip"}
    done = program("embed", *flags({"weights": weights, "workers": workers, **paths}))
    assert_refused(done, images, "image 300 does not decode", "run the stage again", folder=tmp_path, before=before)


def test_the_program_refuses_weights_cut_short(weights: Path, digits: SimpleNamespace, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    shutil.copy(weights, half)
    os.truncate(half, half.stat().st_size // 2)
    before = set(tmp_path.rglob("*"))
    paths = {"images": digits.val, "embeddings": tmp_path / "out.h5", "augmentation": "crop-flip"}
    done = program("embed", *flags({"weights": half, **paths}))
    assert_refused(done, half, "not a whole safetensors file", "again", folder=tmp_path, before=before)

"""The teacher, cached and live: the right embeddings of the right images, and never a changed weight."""

import logging
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stages import architectures, distill
from stages.artifacts.embeddings import read_embeddings
from stages.artifacts.weights import EncoderCard, InputContract, digest_of, load_weights, save_weights
from stages.datasets import augmentations
from stages.datasets.augmentations import to_float
from stages.datasets.packed import PackedImages, read_pack
from stages.errors import UserError
from stages.training import arguments
from stages.training.batches import Batch, stream
from stages.training.recipe import Recipe, TrainingRecipe
from stages.training.teacher import CachedTeacher, LiveTeacher, teacher_from
from tests.training_fixtures import (
    ARCHITECTURE,
    DIMENSION,
    SIZE,
    Training,
    batch_of,
    embedded_by,
    images_seeded,
    packed_digits,
)

pytest_plugins = ["tests.training_fixtures"]

CONTRACT = InputContract(SIZE, mean=(0.1, 0.2, 0.3), std=(0.9, 0.7, 0.5))
"""A normalisation that is nobody's default."""


@pytest.fixture(scope="module")
def odd_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher with a normalisation and batch-norm statistics of its own."""
    torch.manual_seed(11)
    encoder = architectures.build(ARCHITECTURE, CONTRACT)
    with torch.no_grad():
        for _ in range(3):
            encoder(torch.rand(8, 3, SIZE, SIZE))
    path = tmp_path_factory.mktemp("odd") / "weights.safetensors"
    card = EncoderCard("odd", ARCHITECTURE, DIMENSION, CONTRACT, {"way": "pretrain"})
    save_weights(path, encoder.backbone.state_dict(), card)
    return path


def by_hand(weights: Path, images: Tensor) -> Tensor:
    """The embeddings of images in 0..1 under the weights' own normalisation, in evaluation mode."""
    state, card = load_weights(weights)
    backbone = architectures.build(card.architecture, card.contract).backbone
    backbone.load_state_dict(state)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (card.contract.mean, card.contract.std))
    with torch.no_grad():
        embeddings: Tensor = backbone.eval()((images - mean) / std)
    return embeddings


# cached


def test_the_cached_rows_are_those_of_the_batchs_images(
    small_pack: PackedImages, untrained_teacher: Path, teacher_cache: Path
) -> None:
    teacher = CachedTeacher(read_embeddings(teacher_cache), small_pack)
    augmentation = augmentations.named("crop-flip", SIZE)
    views = torch.stack([to_float(augmentation.center(small_pack.image(index))) for index in range(len(small_pack))])
    expected = F.normalize(by_hand(untrained_teacher, views))
    recipe = Recipe(epochs=2, batch_size=31)
    for batch in stream(small_pack, augmentation, recipe, views=1, seed=0, workers=0, first=0):
        found = teacher(batch)
        assert found.dtype == torch.float32
        torch.testing.assert_close(F.normalize(found), expected[batch.indices], rtol=0, atol=2e-3)
        # Nearer to its own image than to any other.
        assert (F.normalize(found) @ expected.T).argmax(dim=1).tolist() == batch.indices.tolist()


def test_a_cache_of_nothing_but_zeros_is_refused(small_pack: PackedImages, teacher_cache: Path, tmp_path: Path) -> None:
    collapsed = tmp_path / "collapsed.h5"
    shutil.copy(teacher_cache, collapsed)
    with h5py.File(collapsed, "r+") as file:
        file["embeddings"][1:] = 0
    teacher = CachedTeacher(read_embeddings(collapsed), small_pack)
    nothing = torch.zeros(3, dtype=torch.long)
    assert teacher(Batch((), torch.tensor([0, 1, 2]), nothing)).any()
    with pytest.raises(
        UserError, match=r"collapsed\.h5: all embeddings of a batch are zero: the teacher has collapsed"
    ):
        teacher(Batch((), torch.tensor([1, 2, 3]), nothing))


def test_a_cache_of_other_images_is_refused_with_both_named(
    small_pack: PackedImages, untrained_teacher: Path, tmp_path: Path
) -> None:
    train, _ = packed_digits(tmp_path, 1500)
    cache = embedded_by(untrained_teacher, train, tmp_path / "teacher.h5")
    with pytest.raises(UserError) as error:
        CachedTeacher(read_embeddings(cache), small_pack)
    message = str(error.value)
    other = read_pack(train)
    for part in (cache, other.fingerprint[:12], small_pack.path, small_pack.fingerprint[:12]):
        assert str(part) in message
    assert "\n" not in message


def test_a_cache_of_the_other_split_is_refused_with_both_named(
    small_splits: tuple[Path, Path], untrained_teacher: Path, tmp_path: Path
) -> None:
    cache = embedded_by(untrained_teacher, small_splits[1], tmp_path / "teacher-val.h5")
    options = {"method": "compress-1q", "train": small_splits[0], "teacher_embeddings": cache, "queue_length": 40}
    with pytest.raises(UserError, match=r"embeddings of digits-val .* holds digits-train .*embed these images first"):
        distill.main(Training(tmp_path / "student", "distill", options).argv)
    assert not (tmp_path / "student").exists()


def test_a_cache_says_which_weights_made_it(
    small_pack: PackedImages, untrained_teacher: Path, teacher_cache: Path
) -> None:
    teacher = teacher_from("embeddings", {"embeddings": teacher_cache}, small_pack, SIZE, TrainingRecipe(), "crop-flip")
    assert isinstance(teacher, CachedTeacher)
    view, kind = teacher.cache.transform, teacher.cache.vectors.dtype
    assert teacher.identity == f"{digest_of(untrained_teacher)} {view} {kind}"
    assert teacher.card == load_weights(untrained_teacher)[1]


# live


def test_a_live_teacher_of_another_image_size_is_refused(odd_teacher: Path) -> None:
    with pytest.raises(UserError, match=rf"images of {SIZE} pixels, but the student sees {2 * SIZE}"):
        LiveTeacher(odd_teacher, 2 * SIZE, TrainingRecipe())


def test_a_live_teacher_normalises_as_it_was_trained(odd_teacher: Path, small_pack: PackedImages) -> None:
    teacher = teacher_from("embeddings", {"weights": odd_teacher}, small_pack, SIZE, TrainingRecipe(), "crop-flip")
    images = images_seeded(0, 7)
    found = teacher(batch_of(images))
    torch.testing.assert_close(found, by_hand(odd_teacher, images), rtol=1e-4, atol=1e-5)
    assert teacher.identity == digest_of(odd_teacher)


def test_a_live_teacher_is_in_evaluation_mode(odd_teacher: Path) -> None:
    teacher = LiveTeacher(odd_teacher, SIZE, TrainingRecipe())
    images = images_seeded(0, 7)
    whole = teacher(batch_of(images))
    torch.testing.assert_close(teacher(batch_of(images[:1])), whole[:1], rtol=1e-4, atol=1e-5)
    state, _ = load_weights(odd_teacher)
    after = teacher.encoder.backbone.state_dict()
    assert all(torch.equal(after[name], state[name]) for name in state), "running statistics included"
    assert not whole.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.encoder.parameters())


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Tensor]]:
    """What every encoder is shown in training, by whether it is the student (its batch norms in training mode)."""
    images: dict[str, list[Tensor]] = {"student": [], "teacher": []}
    forward = architectures.Encoder.forward

    def recording(self: architectures.Encoder, views: Tensor) -> Tensor:
        images["student" if self.training else "teacher"].append(views.clone())
        return forward(self, views)

    monkeypatch.setattr(architectures.Encoder, "forward", recording)
    return images


@pytest.fixture
def distilled_live(
    seen: dict[str, list[Tensor]], small_splits: tuple[Path, Path], odd_teacher: Path, tmp_path: Path
) -> Training:
    options: dict[str, Any] = {"method": "compress-1q", "train": small_splits[0], "teacher_weights": odd_teacher}
    training = Training(tmp_path, "distill", {**options, "epochs": 2, "batch_size": 64, "queue_length": 40})
    distill.main(training.argv)
    return training


def test_a_live_teacher_sees_the_very_views_of_the_student(
    distilled_live: Training, seen: dict[str, list[Tensor]], small_pack: PackedImages
) -> None:
    assert len(seen["student"]) == len(seen["teacher"]) == 2 * 3
    for student, teacher in zip(seen["student"], seen["teacher"], strict=True):
        assert torch.equal(student, teacher)
    crops = stream(
        small_pack,
        augmentations.named("crop-flip", SIZE),
        Recipe(epochs=2, batch_size=64),
        views=1,
        seed=0,
        workers=0,
        first=0,
    )
    for student, batch in zip(seen["student"], crops, strict=True):
        assert torch.equal(student, to_float(batch.views[0])), "not normalised yet: each encoder does that itself"


def test_a_student_has_its_own_normalisation_and_names_its_teacher(distilled_live: Training) -> None:
    _, card = load_weights(distilled_live.weights)
    assert card.contract == InputContract(SIZE)
    assert card.origin["teacher"] == "odd"


def test_a_checkpoint_under_another_teacher_is_not_gone_on_from(
    small_splits: tuple[Path, Path],
    odd_teacher: Path,
    untrained_teacher: Path,
    tmp_path: Path,
    caplog: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same path, but other weights in it."""
    weights = tmp_path / "teacher.safetensors"
    weights.write_bytes(odd_teacher.read_bytes())
    options = {"method": "compress-1q", "train": small_splits[0], "teacher_weights": weights, "queue_length": 40}
    short = {"epochs": 1, "batch_size": 64, "checkpoint_seconds": 0}
    training = Training(tmp_path / "student", "distill", {**options, **short})
    # So that the run fails once it is trained, its last checkpoint saved.
    monkeypatch.setattr(arguments, "write_rows", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        distill.main(training.argv)
    monkeypatch.undo()
    assert training.checkpoint.exists()
    weights.write_bytes(untrained_teacher.read_bytes())
    with caplog.at_level(logging.INFO, "stages"):
        distill.main(training.argv)
    assert "starting anew" in caplog.text
    assert "going on" not in caplog.text


def test_one_of_the_two_teachers_has_to_be_given(
    small_splits: tuple[Path, Path], teacher_cache: Path, odd_teacher: Path, tmp_path: Path, capsys: Any
) -> None:
    options = {"method": "compress-1q", "train": small_splits[0]}
    both = {"teacher_embeddings": teacher_cache, "teacher_weights": odd_teacher}
    ways = "by --teacher-embeddings or --teacher-views or --teacher-weights"
    for given, complaint in (({}, ways), (both, "not allowed with")):
        with pytest.raises(SystemExit):
            distill.main(Training(tmp_path, "distill", {**options, **given}).argv)
        assert complaint in capsys.readouterr().err

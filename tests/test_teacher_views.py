"""Views of images that a teacher embeds once and its students see in turn: as if the teacher were live."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stages import architectures, distill, embed, plugins
from stages.artifacts.embeddings import read_embeddings
from stages.artifacts.weights import EncoderCard, InputContract, digest_of, save_weights
from stages.datasets import augmentations
from stages.datasets.augmentations import Augmentation
from stages.datasets.packed import PackedImages
from stages.errors import UserError
from stages.training.batches import Batch, stream
from stages.training.recipe import Recipe, TrainingRecipe
from stages.training.teacher import LiveTeacher, ViewedTeacher, teacher_from
from tests.conftest import assert_refused, flags, program
from tests.training_fixtures import ARCHITECTURE, DIMENSION, SIZE, Training, packed_digits

pytest_plugins = ["tests.training_fixtures"]

VIEWS = 3
CPU = torch.device("cpu")


def embedded(weights: Path, images: Path, path: Path, **options: object) -> Path:
    embed.main(
        flags({"weights": weights, "augmentation": "crop-flip", **options, "images": images, "embeddings": path})
    )
    return path


@pytest.fixture(scope="module")
def caches(
    untrained_teacher: Path, small_splits: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    folder = tmp_path_factory.mktemp("views")
    return [
        embedded(untrained_teacher, small_splits[0], folder / f"{number}.h5", view=number) for number in range(VIEWS)
    ]


def shown(pack: PackedImages, epochs: int, **options: int) -> list[Batch]:
    recipe, augmentation = Recipe(epochs=epochs, batch_size=31), augmentations.named("crop-flip", SIZE)
    settings = {"seed": 0, "workers": 0, "fixed_views": VIEWS, **options}
    return [batch.augmented(augmentation, CPU) for batch in stream(pack, augmentation, recipe, 0, views=1, **settings)]


def by_image(batches: list[Batch], epoch: int) -> Tensor:
    """What was shown of each image in an epoch, in the order of the split."""
    of_epoch = [batch for batch in batches if batch.epoch == epoch]
    order = torch.cat([batch.indices for batch in of_epoch]).argsort()
    return torch.cat([batch.views[0] for batch in of_epoch])[order]


def test_the_teacher_says_of_each_view_what_it_would_live(
    untrained_teacher: Path, small_pack: PackedImages, caches: list[Path]
) -> None:
    viewed, live = (
        ViewedTeacher(caches, small_pack, "crop-flip"),
        LiveTeacher(untrained_teacher, SIZE, TrainingRecipe()),
    )
    batches = shown(small_pack, 2 * VIEWS)
    assert {batch.epoch for batch in batches} == set(range(2 * VIEWS))
    for batch in batches:
        # float16 against float32.
        torch.testing.assert_close(F.normalize(viewed(batch)), F.normalize(live(batch)), rtol=0, atol=2e-3)


def test_views_come_back_after_their_turn_whatever_the_runs_seed_and_workers(small_pack: PackedImages) -> None:
    batches, others = shown(small_pack, VIEWS + 1), shown(small_pack, VIEWS + 1, seed=5, workers=2)
    views = [by_image(batches, epoch) for epoch in range(VIEWS + 1)]
    assert torch.equal(views[0], views[VIEWS])
    assert not any(torch.equal(views[0], view) for view in views[1:VIEWS])
    assert all(torch.equal(by_image(others, epoch), view) for epoch, view in enumerate(views))
    # The order of the images is the run's own.
    assert not torch.equal(batches[0].indices, others[0].indices)


def test_a_teacher_of_another_size_sees_the_same_parts_of_the_images(small_pack: PackedImages, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = architectures.build(ARCHITECTURE, InputContract(2 * SIZE)).eval()
    card = EncoderCard("large", ARCHITECTURE, DIMENSION, encoder.contract, {"way": "pretrain"})
    save_weights(tmp_path / "large.safetensors", encoder.backbone.state_dict(), card)
    paths = [
        embedded(tmp_path / "large.safetensors", small_pack.path, tmp_path / f"{number}.h5", view=number)
        for number in range(VIEWS)
    ]
    found = ViewedTeacher(paths, small_pack, "crop-flip")
    batch = shown(small_pack, 2)[-1]
    with torch.no_grad():
        enlarged = F.interpolate(batch.views[0], scale_factor=2, mode="bilinear")
        like_it = F.normalize(encoder(enlarged)) @ F.normalize(found(batch)).T
    # Each is most like what the teacher has seen of that image; the two only differ in how they were resized.
    assert (like_it.argmax(dim=1) == torch.arange(len(batch.indices))).float().mean() > 0.9


def test_projections_are_of_the_views(
    small_pack: PackedImages, caches: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = torch.nn.Linear(DIMENSION, 2)
    double.dimension = 2  # type: ignore[assignment]
    monkeypatch.setattr("stages.training.teacher.heads_of", lambda *_: {})
    monkeypatch.setattr("stages.training.teacher.projector_from", lambda *_: double)
    (tmp_path / "heads").write_bytes(b"heads")
    files = {"heads": tmp_path / "heads", "views": caches}
    teacher = teacher_from("projections", files, small_pack, SIZE, TrainingRecipe(), "crop-flip")
    assert teacher.views == VIEWS
    batch = shown(small_pack, 2)[-1]
    with torch.no_grad():
        expected = double(ViewedTeacher(caches, small_pack, "crop-flip")(batch))
    torch.testing.assert_close(teacher(batch), expected)


def test_a_cache_says_which_view_it_is_of(
    caches: list[Path], untrained_teacher: Path, small_pack: PackedImages
) -> None:
    assert [read_embeddings(path).transform for path in caches] == [
        f"view {number} of crop-flip at {SIZE}" for number in range(VIEWS)
    ]
    one, two = (ViewedTeacher(caches[:count], small_pack, "crop-flip") for count in (1, 2))
    assert (one.views, two.views) == (1, 2)
    assert one.identity != two.identity
    assert digest_of(untrained_teacher) in one.identity


def refused(
    case: str, caches: list[Path], teacher_cache: Path, small_splits: tuple[Path, Path], folder: Path
) -> tuple[list[Path], str]:
    """The caches to give, and the augmentation."""
    other = folder / "other.safetensors"
    save_weights(
        other,
        architectures.build(ARCHITECTURE, InputContract(SIZE)).backbone.state_dict(),
        EncoderCard("other", ARCHITECTURE, DIMENSION, InputContract(SIZE), {}),
    )
    return {
        "another order": (caches[::-1], "crop-flip"),
        "a view left out": ([caches[0], caches[2]], "crop-flip"),
        "the plain images": ([teacher_cache], "crop-flip"),
        "another augmentation": (caches, "moco-v2"),
        "another encoder's": ([caches[0], embedded(other, small_splits[0], folder / "1.h5", view=1)], "crop-flip"),
        "other images": (
            [embedded(other, packed_digits(folder, 1500)[0], folder / "0.h5", view=0)],
            "crop-flip",
        ),
    }[case]


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("another order", r"2\.h5: view 2 of crop-flip at 16 by .*; expected view 0 of crop-flip at 16 by .* --view 0"),
        ("a view left out", r"2\.h5: view 2 of .*; expected view 1 of crop-flip"),
        ("the plain images", r"\.h5: resize .* at 16, bilinear by .*; expected view 0 of crop-flip"),
        ("another augmentation", r"0\.h5: view 0 of crop-flip at 16 by .*; expected view 0 of moco-v2"),
        ("another encoder's", r"1\.h5: view 1 of crop-flip at 16 by other .*; expected view 1 of crop-flip at 16 by "),
        ("other images", "embed these images first"),
    ],
)
def test_caches_that_are_not_the_views_are_refused(
    case: str,
    says: str,
    caches: list[Path],
    teacher_cache: Path,
    small_splits: tuple[Path, Path],
    small_pack: PackedImages,
    tmp_path: Path,
) -> None:
    paths, augmentation = refused(case, caches, teacher_cache, small_splits, tmp_path)
    with pytest.raises(UserError, match=says):
        ViewedTeacher(paths, small_pack, augmentation)


def test_one_view_alone_is_not_taken_for_the_plain_images(caches: list[Path], small_pack: PackedImages) -> None:
    with pytest.raises(UserError, match=r"0\.h5: view 0 of crop-flip at 16; expected the plain images', or all of --t"):
        teacher_from("embeddings", {"embeddings": caches[0]}, small_pack, SIZE, TrainingRecipe(), "crop-flip")


@pytest.mark.parametrize("name", plugins.names("stages.datasets.augmentations"))
def test_an_augmentation_is_repeatable_if_it_draws_image_by_image_alone(name: str) -> None:
    augmentation = augmentations.named(name, 32)
    alone = type(augmentation).batch is Augmentation.batch and augmentation.sample_is_random
    if alone:
        augmentations.require_repeatable(name)
        return
    with pytest.raises(
        UserError, match=f"^{name} draws on whole batches, so no view .* expected crop-flip, squash-flip$"
    ):
        augmentations.require_repeatable(name)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"augmentation": "moco-v2", "view": 0}, "moco-v2 draws on whole batches"),
        ({"augmentation": "crop-flip", "view": -1}, "--view is -1; expected at least 0"),
    ],
)
def test_the_program_refuses_what_is_no_view(
    options: dict[str, object], says: str, untrained_teacher: Path, small_splits: tuple[Path, Path], tmp_path: Path
) -> None:
    files = {"weights": untrained_teacher, "images": small_splits[0], "embeddings": tmp_path / "0.h5"}
    assert_refused(program("embed", *flags({**files, **options})), says, folder=tmp_path, before=set())


def test_the_student_sees_the_very_views_that_its_teacher_has_seen(
    small_splits: tuple[Path, Path],
    untrained_teacher: Path,
    caches: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = LiveTeacher(untrained_teacher, SIZE, TrainingRecipe())
    seen: list[int] = []
    of_view = ViewedTeacher.__call__

    def comparing(teacher: ViewedTeacher, batch: Batch) -> Tensor:
        said = of_view(teacher, batch)
        torch.testing.assert_close(F.normalize(said), F.normalize(live(batch)), rtol=0, atol=2e-3)
        seen.append(batch.epoch)
        return said

    monkeypatch.setattr(ViewedTeacher, "__call__", comparing)
    options = {"method": "regression", "train": small_splits[0], "batch_size": 64, "epochs": 2}
    distill.main([*Training(tmp_path, "distill", options).argv, "--teacher-views", *map(str, caches)])
    assert set(seen) == {0, 1}


def test_a_student_learns_from_views_and_a_broken_run_goes_on_with_them(
    small_splits: tuple[Path, Path], caches: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"method": "compress-1q", "train": small_splits[0], "queue_length": 40, "batch_size": 64, "epochs": 4}
    given = ["--teacher-views", *map(str, caches)]
    whole, broken, fewer = (Training(tmp_path / name, "distill", options) for name in ("whole", "broken", "fewer"))
    distill.main([*whole.argv, *given])
    seen: list[int] = []
    of_view = ViewedTeacher.__call__

    def noting(teacher: ViewedTeacher, batch: Batch) -> Tensor:
        seen.append(batch.epoch)
        if len(seen) == 7:
            raise KeyboardInterrupt
        return of_view(teacher, batch)

    monkeypatch.setattr(ViewedTeacher, "__call__", noting)
    with pytest.raises(KeyboardInterrupt):
        distill.main([*broken.argv, "--checkpoint-seconds", "0", *given])
    distill.main([*broken.argv, *given])
    assert broken.digest() == whole.digest()
    assert max(seen) == 3
    distill.main([*fewer.argv, *given[:-1]])
    assert fewer.digest() != whole.digest()

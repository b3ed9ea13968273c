"""A teacher's own projector: left by its training, found in public files, rebuilt from its tensors, learnt from."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment.config import ConfigError, Experiment
from lightly.models.modules.heads import (
    BYOLProjectionHead,
    MoCoProjectionHead,
    SimCLRProjectionHead,
    SwaVProjectionHead,
)
from torch import Tensor, nn

from stages import architectures, distill, plugins
from stages.artifacts.embeddings import read_embeddings
from stages.artifacts.heads import save_heads, tensors_of
from stages.artifacts.weights import InputContract
from stages.checkpoints import layouts
from stages.datasets.packed import PackedImages
from stages.errors import UserError
from stages.pretraining import Pretraining
from stages.training.networks import Projector
from stages.training.recipe import TrainingRecipe
from stages.training.teacher import ProjectedTeacher, teacher_from
from tests.checkpoint_fixtures import LAYOUTS, PROJECTORS, public
from tests.project import TINY, Project
from tests.training_fixtures import ARCHITECTURE, DIMENSION, SIZE, Training, batch_of, images_seeded

pytest_plugins = ["tests.training_fixtures"]

with torch.random.fork_rng():
    torch.manual_seed(0)
    HEADS = {
        "moco": MoCoProjectionHead(DIMENSION, 16, 7),
        "simclr": SimCLRProjectionHead(DIMENSION, 16, 7),
        "swav": SwaVProjectionHead(DIMENSION, 16, 7),
        "byol": BYOLProjectionHead(DIMENSION, 16, 7),
    }


def used(head: nn.Module) -> nn.Module:
    """A copy of the head, in evaluation mode, whose batch norms have statistics of their own."""
    torch.manual_seed(0)
    copied = copy.deepcopy(head).train()
    with torch.no_grad():
        for _ in range(3):
            copied(3 + 2 * torch.randn(16, DIMENSION))
    return copied.eval()


@pytest.mark.parametrize("kind", HEADS)
def test_a_projector_is_rebuilt_from_its_tensors_alone(kind: str) -> None:
    head = used(HEADS[kind])
    found = Projector(head.state_dict()).eval()
    embeddings = torch.randn(5, DIMENSION)
    assert found.dimension == 7
    assert torch.equal(found(embeddings), head(embeddings))
    assert found.state_dict().keys() == head.state_dict().keys()


@pytest.mark.parametrize("method", ["simclr", "moco-v2", "swav", "byol"])
def test_pretraining_leaves_its_projector(method: str) -> None:
    module = plugins.module("stages.pretraining", "method", method)
    small = {"hidden_dimension": 16, "prototypes": 5, "queue_length": 8, "projection_dimension": 6}
    fields = set(module.Options.__dataclass_fields__)
    if method == "swav":
        small["queue_length"] = 0
    options = module.Options(**{name: value for name, value in small.items() if name in fields})
    encoder = architectures.build(ARCHITECTURE, InputContract(SIZE))
    objective: Any = plugins.class_in(module, Pretraining)(encoder, options, 10)
    head = (objective.projector if method == "byol" else objective.head).eval()
    with torch.no_grad():
        for parameter in head.parameters():  # So that a moving average of it would be told from it.
            parameter.add_(torch.rand_like(parameter))
    heads = {name: tensor for name, tensor in objective.heads().items() if name.startswith("projector.")}
    found = Projector({name.removeprefix("projector."): tensor for name, tensor in heads.items()}).eval()
    embeddings = torch.randn(5, DIMENSION)
    assert torch.equal(found(embeddings), head(embeddings))
    assert found.dimension == 6
    assert ("networks" if method == "byol" else "projector") == module.HEADS


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_public_files_projector_is_found_where_its_layout_has_one(layout: str) -> None:
    backbone = architectures.build("resnet18_x0.125", InputContract(SIZE)).backbone.state_dict()
    found = layouts.projector_of(public(layout, backbone), layout, Path("file"))
    expected = PROJECTORS[layout].state_dict() if layout in PROJECTORS else {}
    assert set(found) == {f"layers.{name}" for name in expected}
    assert all(torch.equal(found[f"layers.{name}"], tensor) for name, tensor in expected.items())
    if expected:
        embeddings = torch.randn(4, 64)
        assert torch.equal(Projector(found).eval()(embeddings), PROJECTORS[layout](embeddings))


def test_a_projector_of_one_layer_has_no_numbers() -> None:
    layer = nn.Linear(64, 3)
    state = {f"module.encoder_q.fc.{name}": tensor for name, tensor in layer.state_dict().items()}
    found = Projector(layouts.projector_of({"state_dict": state}, "moco", Path("file")))
    embeddings = torch.randn(4, 64)
    assert torch.equal(found(embeddings), layer(embeddings))


@pytest.fixture
def heads(untrained_teacher: Path, tmp_path: Path) -> Path:
    path = tmp_path / "heads.safetensors"
    save_heads(path, tensors_of(projector=used(HEADS["simclr"])), untrained_teacher)
    return path


def said(teacher: Any, indices: list[int], images: Tensor) -> Tensor:
    batch = batch_of(images)
    batch.indices.copy_(torch.tensor(indices))
    answer: Tensor = teacher(batch)
    return answer


def test_a_projected_teacher_is_its_head_on_its_embeddings_cached_or_live(
    heads: Path, untrained_teacher: Path, teacher_cache: Path, small_pack: PackedImages
) -> None:
    head, images = used(HEADS["simclr"]), images_seeded(0, 3)
    for files in ({"embeddings": teacher_cache}, {"weights": untrained_teacher}):
        plain = teacher_from("embeddings", files, small_pack, SIZE, TrainingRecipe(), "crop-flip")
        found = teacher_from("projections", {**files, "heads": heads}, small_pack, SIZE, TrainingRecipe(), "crop-flip")
        assert isinstance(found, ProjectedTeacher)
        assert (found.dimension, found.card) == (7, plain.card)
        assert found.identity.startswith(f"{plain.identity} ")
        for indices in ([4, 0, 7], [1, 2, 3]):
            projections = said(found, indices, images)
            torch.testing.assert_close(projections, head(said(plain, indices, images)), rtol=1e-6, atol=1e-6)
            assert not projections.requires_grad
    rows = torch.from_numpy(read_embeddings(teacher_cache).vectors[[4, 0, 7]]).float()
    cached = teacher_from(
        "projections", {"embeddings": teacher_cache, "heads": heads}, small_pack, SIZE, TrainingRecipe(), "crop-flip"
    )
    torch.testing.assert_close(said(cached, [4, 0, 7], images), head(rows), rtol=1e-6, atol=1e-6)


def test_heads_of_another_encoder_or_without_a_projector_are_refused(
    heads: Path, byol_teacher: Training, untrained_teacher: Path, teacher_cache: Path, small_pack: PackedImages
) -> None:
    def refusal(path: Path) -> str:
        files = {"embeddings": teacher_cache, "heads": path}
        with pytest.raises(UserError) as error:
            teacher_from("projections", files, small_pack, SIZE, TrainingRecipe(), "crop-flip")
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "the heads of byol" in refusal(byol_teacher.heads)
    assert f"but {teacher_cache} is of encoder" in refusal(byol_teacher.heads)
    message = refusal(untrained_teacher.with_name("heads.safetensors"))
    assert "teacher encoder was trained by untrained, which leaves no projector; learn from its embeddings" in message
    save_heads(heads, {"projector.layers.0.weight": torch.ones(3)}, untrained_teacher)
    assert "not a projector (" in refusal(heads)


def test_seed_learns_from_the_projections(
    heads: Path, teacher_cache: Path, small_splits: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    recipe = {"epochs": 4, "batch_size": 32, "learning_rate": 0.05, "queue_length": 101, "train": small_splits[0]}
    student = Training(
        tmp_path / "student", "distill", {"method": "seed", "teacher_embeddings": teacher_cache, **recipe}
    )
    with pytest.raises(SystemExit):
        distill.main(student.argv)
    way = " or ".join(f"--teacher-{name} and --teacher-heads" for name in ("embeddings", "views", "weights"))
    assert capsys.readouterr().err.endswith(f"seed takes its teacher by {way}\n")
    distill.main(student.within(student.folder, teacher_heads=heads).argv)
    losses = [float(row[1]) for row in student.losses()[1:]]
    assert losses[-1] < losses[0]


# the workflow


def experiment(teacher: str = "teacher", **options: Any) -> dict[str, Any]:
    short = {"epochs": 1, "batch_size": 64, "queue_length": 32, **options}
    group = {**TINY["students"][0], "teachers": [teacher], "methods": ["seed"], "options": short}  # type: ignore[index]
    return {**TINY, "students": [group], "evaluations": {"knn": {}}, "cluster_pictures": []}


@pytest.mark.parametrize("options", [{}, {"teacher_head": False}])
def test_a_student_of_projections_takes_the_cache_and_the_heads(options: dict[str, Any], tmp_path: Path) -> None:
    project = Project.tiny(tmp_path / "project")
    project.write_config(experiment(**options))
    student = "results/encoders/teacher--resnet18_x0.125--seed--seed0/weights.safetensors"
    done = project.snakemake("--dry-run", "--printshellcmds", student)
    assert done.returncode == 0, done.stdout
    embeddings = "--teacher-embeddings results/embeddings/teacher/numerals-train.h5"
    both = f"{embeddings} --teacher-heads results/encoders/teacher/heads.safetensors"
    assert (both in done.stdout, embeddings in done.stdout) == (not options, True)


def test_a_teacher_without_a_projector_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError) as refusal:
        Experiment(experiment("supervised"))
    assert str(refusal.value) == (
        "students[0].teachers: teacher supervised was trained by supervised, which leaves no projector; seed needs a "
        "teacher pretrained by byol or moco-v2 or simclr or swav, or the option teacher_head: false"
    )
    assert Experiment(experiment("supervised", teacher_head=False)).students
    config = experiment()
    config["students"][0]["methods"] = ["simdis-off"]
    config["students"][0]["options"] = {}
    with pytest.raises(ConfigError, match="trained by simclr, which leaves no target network; simdis-off needs"):
        Experiment(config)

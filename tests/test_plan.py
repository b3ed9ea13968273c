"""What is said before a run: against torch's own count of multiply-adds, and against sums by hand."""

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import yaml
from experiment import plan, source
from experiment.config import Experiment
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from stages import architectures
from stages.artifacts.weights import InputContract
from stages.training.batches import Batch
from tests.project import Project
from tests.test_distillation import TEACHER, encoder, objective_of
from tests.test_self_supervised import SMALL
from tests.test_self_supervised import objective as pretraining_of
from tests.training_fixtures import learns_from

CONFIG: dict[str, Any] = {
    "datasets": {"imagenet": {"source": "folder", "path": "nowhere", "size": 224, "augmentation": "crop-flip"}},
    "encoders": {"public": {"fetch": "moco_v2_800ep", "dataset": "imagenet"}},
    "students": [
        {
            "teachers": ["public"],
            "dataset": "imagenet",
            "architectures": ["resnet18"],
            "methods": ["compress-1q"],
            "options": {"epochs": 130},
        }
    ],
    "evaluations": {"knn": {}},
}


PACK, WEIGHTS = "results/datasets/imagenet/train.h5", "results/encoders/public/weights.safetensors"
STUDENT = "results/encoders/public--resnet18--compress-1q--seed0/weights.safetensors"


def said(experiment: Experiment, to_come: dict[str, bool], mirror: str = "") -> str:
    return "\n".join(plan.plan(experiment, to_come, mirror))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        ("resnet18", 64),
        ("resnet50", 64),
        ("mobilenet_v2", 64),
        ("alexnet", 224),
        ("resnet18_cifar", 32),
        ("resnet50_x2", 64),
    ],
)
def test_multiply_adds_are_about_those_that_torch_counts(architecture: str, size: int) -> None:
    with torch.device("meta"):
        encoder = architectures.build(architecture, InputContract(size)).eval()
        images = torch.empty(1, 3, size, size)
    with FlopCounterMode(display=False) as counter:
        encoder.to("meta")(images.to("meta"))
    assert plan.multiply_adds(architecture, size) == pytest.approx(counter.get_total_flops() / 2, rel=0.15)


@pytest.mark.parametrize("architecture", plan.GMACS)
def test_multiply_adds_at_224_pixels_are_torchvisions(architecture: str) -> None:
    assert plan.GMACS[architecture] == torchvision.models.get_model_weights(architecture).DEFAULT.meta["_ops"]


@pytest.mark.parametrize("method", [*SMALL, *source.plugins("stages.distillation")])
def test_a_training_step_has_the_planned_passes(method: str) -> None:
    """A pass is an image of full size in an encoder, forward; a trained encoder's counts three times."""
    crops = {"small_crops": 6} if method == "swav" else {}
    objective = pretraining_of(method, **crops) if method in SMALL else objective_of(method, encoder())
    found = {"own": 0.0, "teacher": 0.0}

    def noted(whose: str, _: torch.nn.Module, inputs: tuple[Tensor], embeddings: Tensor) -> None:
        found[whose] += inputs[0].shape.numel() / (4 * 3 * 56**2) * (plan.TRAINING if embeddings.requires_grad else 1)

    for name, module in objective.named_modules():
        if isinstance(module, architectures.Encoder):
            module.register_forward_hook(functools.partial(noted, "teacher" if name.startswith("teacher") else "own"))
    views = tuple(torch.rand(4, 3, 56 if view < 2 else 24, 56 if view < 2 else 24) for view in range(objective.views))
    teacher = torch.tensor([0, 1, 2, 3]) if method == "cluster-classification" else torch.rand(4, TEACHER)
    objective.train()(Batch(views, torch.arange(4), torch.arange(4), teacher))
    trained, seen = plan.PASSES.get(method, (1, 0))
    known = 0 if method in SMALL else plan.TEACHER_PASSES.get(learns_from(method), 0)
    assert found == pytest.approx({"own": plan.TRAINING * trained + seen, "teacher": known})


def test_an_unknown_architecture_has_no_number() -> None:
    assert plan.multiply_adds("timm/vit_tiny_patch16_224", 224) is None


def test_the_work_of_a_cached_teacher_is_its_embedding() -> None:
    work = {(job.rule, job.name): job.work for job in plan.jobs(Experiment(CONFIG))}
    student = "public--resnet18--compress-1q--seed0"
    assert work["distill", student] == pytest.approx(130 * 1_281_167 * 3 * 1.814e9)
    assert work["embed", "public/imagenet"] == pytest.approx(1_331_167 * 4.089e9)
    assert set(work) == {("distill", student), ("embed", "public/imagenet"), ("embed", f"{student}/imagenet")}


def test_the_work_of_a_teachers_views_is_theirs_alone() -> None:
    config = copy.deepcopy(CONFIG)
    config["students"][0]["teacher_views"] = 4
    work = {(job.rule, job.name): job.work for job in plan.jobs(Experiment(config)) if job.rule.startswith("embed_")}
    one = pytest.approx(1_281_167 * 4.089e9)
    assert work == {("embed_view", f"public/imagenet-crop-flip/{number}"): one for number in range(4)}
    # Its plain embeddings are for its own evaluation.
    assert ("embed", "public/imagenet") in {(job.rule, job.name) for job in plan.jobs(Experiment(config))}
    config["evaluations"]["knn"] = {"encoders": ["*--*"]}
    assert ("embed", "public/imagenet") not in {(job.rule, job.name) for job in plan.jobs(Experiment(config))}


def test_a_live_teacher_runs_with_its_student() -> None:
    config = copy.deepcopy(CONFIG)
    config["students"][0]["teacher"] = "live"
    (job,) = (job for job in plan.jobs(Experiment(config)) if job.rule == "distill")
    assert job.work == pytest.approx(130 * 1_281_167 * (3 * 1.814e9 + 4.089e9))


def test_data_that_is_not_there_is_named() -> None:
    text = said(Experiment(CONFIG), dict.fromkeys((PACK, WEIGHTS, STUDENT), False))
    assert "imagenet: source folder, from the folder nowhere, which IS NOT THERE" in text
    assert "public: checkpoint moco_v2_800ep, a download" in text
    # 130 epochs of 1,281,167 images, 3 x 1.814 GMACs each, at 10 TMAC/s.
    assert "distill: 1 job, 25\n" in text


@pytest.mark.parametrize("folder", ["results/downloads", "mirror"])
def test_a_checkpoint_that_is_there_is_no_download(folder: str) -> None:
    file = Path(folder, "moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar")
    file.parent.mkdir(parents=True)
    file.touch()
    assert f"public: checkpoint moco_v2_800ep, from {file}" in said(Experiment(CONFIG), {WEIGHTS: False}, "mirror")


def test_a_checkpoint_that_has_to_be_converted_is_no_download() -> None:
    config = {**CONFIG, "encoders": {"public": {"fetch": "byol_r50", "dataset": "imagenet"}}}
    text = said(Experiment(config), {WEIGHTS: False})
    assert "public: checkpoint byol_r50, whose file IS NOT THERE: it is a pickle of arbitrary objects, so " in text
    assert text.endswith("save what it writes, as results/downloads/byol_r50/pretrain_res50x1.pth.tar")


def test_only_what_is_to_come_is_planned_and_what_ran_as_it_is_before_is_known(tmp_path: Path) -> None:
    experiment = Experiment(CONFIG)
    record = tmp_path / "results/benchmarks/distill/public--resnet18--compress-1q--seed0.tsv"
    record.parent.mkdir(parents=True)
    record.write_text("s\th:m:s\n7200.0\t2:00:00\n")
    assert "  distill: 1 job, 2.0\n" in said(experiment, {STUDENT: True})
    assert "  distill: 1 job, 25\n" in said(experiment, {STUDENT: False}), "the time was that of other parameters"
    assert said(experiment, {}) == ""


def test_images_are_counted_only_where_a_job_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder on a network may hold a million of them."""
    experiment = Experiment(CONFIG)

    def images_of(*_: object) -> float:
        raise AssertionError("counted")

    monkeypatch.setattr(plan, "images_of", images_of)
    assert "GPU hours" not in said(experiment, {PACK: False})
    with pytest.raises(AssertionError, match="counted"):
        said(experiment, {STUDENT: False})


@pytest.mark.parametrize(
    ("evaluation", "rule", "passes", "of_val"),
    [
        ({"evaluation": "linear"}, "linear_probe", 40, 0),
        ({"evaluation": "linear", "presets": ["simdis"]}, "linear_probe", 80, 0),
        ({"evaluation": "linear", "presets": ["compress", "moco"], "runs": 3}, "linear_probe", 300, 0),
        ({"evaluation": "linear", "labels": [1, 10], "epochs": 50}, "linear_probe", 5.5, 0),
        ({"evaluation": "layers"}, "layer_probe", 14, 1),
    ],
)
def test_a_probe_on_augmented_images_sees_them_so_often(evaluation: Any, rule: str, passes: float, of_val: int) -> None:
    config = {**CONFIG, "students": [], "evaluations": {"probe": evaluation}}
    work = {(job.rule, job.name): job.work for job in plan.jobs(Experiment(config))}
    images = passes * 1_281_167 + of_val * 50_000
    assert work[rule, "public/imagenet-probe"] == pytest.approx(images * 4.089e9)


@pytest.mark.parametrize(
    ("evaluation", "embedded"), [("linear", True), ("retrieval", True), ("layers", False), ("cost", False)]
)
def test_embeddings_are_made_for_what_reads_them(evaluation: str, embedded: bool) -> None:
    config = {**CONFIG, "students": [], "evaluations": {evaluation: {}}}
    assert any(job.rule == "embed" for job in plan.jobs(Experiment(config))) == embedded


def test_a_dry_run_says_it_of_its_own_jobs(tmp_path: Path) -> None:
    project = Project.tiny(tmp_path / "project")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(CONFIG))
    text = project.snakemake("--dry-run", "--configfile", str(tmp_path / "mine.yaml")).stdout
    for line in ("  imagenet: source folder, from the folder nowhere, which IS NOT THERE", "  distill: 1 job, 25\n"):
        assert line in text
    text = project.snakemake(PACK, "--dry-run", "--configfile", str(tmp_path / "mine.yaml")).stdout
    assert "which IS NOT THERE" in text
    assert "GPU hours" not in text

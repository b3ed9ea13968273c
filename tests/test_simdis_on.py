"""SimDis-On: its loss and gradients written out in float64, its teacher's BYOL, and the two encoders that come out."""

import copy
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment.config import ConfigError, Experiment
from torch import Tensor, nn

from stages import architectures, distill, distill_online
from stages.artifacts.heads import load_heads
from stages.artifacts.weights import InputContract, load_weights, read_card
from stages.distillation import Setting
from stages.distillation.simdis_on import Options, SimDisOn
from stages.pretraining import byol
from stages.tables.comparison import read_comparisons
from stages.training.batches import Batch
from stages.training.networks import Networks, Projecting
from stages.training.optimizers import optimizer_of
from stages.training.teacher import NetworksTeacher
from tests.project import TINY, Project
from tests.simdis_fixtures import COMBINATIONS, TABLE_2, VIEWS, doubled, naive_loss
from tests.training_fixtures import ARCHITECTURE, SIZE, Training, batch_seeded, tiny_options

pytest_plugins = ["tests.training_fixtures"]

TEACHER = "resnet18_x0.125"


def objective(**changed: Any) -> SimDisOn:
    torch.manual_seed(0)
    student, teacher = (architectures.build(name, InputContract(SIZE)) for name in (ARCHITECTURE, TEACHER))
    recipe = {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.8, "batch_size": 6}
    options = Options(**{**tiny_options("simdis-on"), **recipe, **changed})  # type: ignore[arg-type]
    return SimDisOn(student, Setting(teacher.dimension, 24, teacher=teacher), options).train()


def step(found: nn.Module, options: Any, seed: int, progress: float = 0.5) -> None:
    optimizer = optimizer_of(found, options)
    optimizer.zero_grad()
    found(batch_seeded(seed)).backward()
    optimizer.step()
    found.after_step(progress)  # type: ignore[operator]


def networks_of(teacher: byol.BYOL) -> Networks:
    online = Projecting(teacher.encoder, teacher.projector)
    return Networks(online, Projecting(teacher.target_encoder, teacher.target_projector), 8)


def naive_byol(teacher: byol.BYOL, batch: Batch) -> Tensor:
    """Equation 1 of the paper and its mirror image, an image at a time."""
    predictions = [teacher.predictor(teacher.projector(teacher.encoder(view))) for view in batch.views]
    targets = [teacher.target_projector(teacher.target_encoder(view)).detach() for view in batch.views]
    total = torch.zeros((), dtype=torch.float64)
    for predicted, goal in ((predictions[0], targets[1]), (predictions[1], targets[0])):
        for one, other in zip(predicted, goal, strict=True):
            total = total + (one / one.norm() - other / other.norm()).square().sum()
    return total / len(batch.indices)


@pytest.mark.parametrize("views", COMBINATIONS, ids=" ".join)
def test_the_loss_and_its_gradient_are_those_written_out(views: tuple[str, ...]) -> None:
    found = objective(views=views)
    step(found, found.options, 0)  # so that the moving averages are other networks than those they follow
    found.zero_grad()
    found.double()
    naive, batch = copy.deepcopy(found), doubled(batch_seeded(1))
    loss = found(batch)
    expected = naive_loss(naive, networks_of(naive.teacher), batch) + naive_byol(naive.teacher, batch)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    assert loss.ndim == 0
    loss.backward()
    expected.backward()
    for (name, one), other in zip(found.named_parameters(), naive.named_parameters(), strict=True):
        assert one.requires_grad == (not name.startswith(("average.", "teacher.target_"))), name
        if one.requires_grad:
            assert one.grad is not None, name
            assert one.grad.abs().max() > 0, name
            torch.testing.assert_close(one.grad, other[1].grad, rtol=1e-7, atol=1e-11)
        else:
            assert one.grad is None


@pytest.mark.parametrize("views", [("sema-dv",), VIEWS], ids=" ".join)
def test_the_teacher_is_trained_by_byol_as_if_it_were_alone(views: tuple[str, ...]) -> None:
    found = objective(views=views)
    alone = copy.deepcopy(found.teacher)
    for number in range(3):
        step(found, found.options, number, (number + 1) / 3)
        step(alone, found.options, number, (number + 1) / 3)
    states = found.teacher.state_dict(), alone.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_teachers_heads_are_byols_of_the_same_options() -> None:
    heads = {"hidden_dimension": 24, "projection_dimension": 10}
    encoder = architectures.build(TEACHER, InputContract(SIZE))
    alone = byol.BYOL(encoder, byol.Options(**heads), classes=0).state_dict()
    found = objective(**heads).teacher.state_dict()
    assert {name: value.shape for name, value in found.items()} == {name: value.shape for name, value in alone.items()}


def test_the_teachers_gradient_is_byols_to_the_bit() -> None:
    found = objective(views=VIEWS)
    alone = copy.deepcopy(found.teacher)
    found(batch_seeded(0)).backward()
    alone(batch_seeded(0)).backward()
    for one, other in zip(found.teacher.parameters(), alone.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or torch.equal(one.grad, other.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("views", TABLE_2, ids=" ".join)
def test_every_combination_of_the_papers_table_2_steps(views: tuple[str, ...]) -> None:
    found = objective(views=views, optimizer="lars", learning_rate=0.2)
    assert list(found.predictors) == list(views)
    assert (found.average is not None) == any(view.startswith("sema-") for view in views)
    before = copy.deepcopy(dict(found.named_parameters()))
    for seed in range(2):
        step(found, found.options, seed)
    for name, value in found.named_parameters():
        assert value.isfinite().all(), name
        # The predictors' batch norms take out what a projector's last layer adds: that gradient is rounding.
        stays = not value.requires_grad or name.endswith("projector.layers.3.bias")
        assert stays or not torch.equal(value, before[name]), name


def test_both_moving_averages_follow_after_the_step_by_one_rising_momentum() -> None:
    found = objective()
    assert found.average is not None
    pairs = [
        (found.average.encoder, found.student),
        (found.average.projector, found.projector),
        (found.teacher.target_encoder, found.teacher.encoder),
        (found.teacher.target_projector, found.teacher.projector),
    ]
    optimizer = optimizer_of(found, found.options)
    expected = [[value.detach().double() for value in average.parameters()] for average, _ in pairs]
    # (cos(pi * progress) + 1) / 2 is 3/4, 1/2, 1/4, 0 there.
    for number, (progress, momentum) in enumerate([(1 / 3, 0.85), (1 / 2, 0.9), (2 / 3, 0.95), (1, 1.0)]):
        optimizer.zero_grad()
        found(batch_seeded(number)).backward()
        optimizer.step()
        found.after_step(progress)
        for values, (average, online) in zip(expected, pairs, strict=True):
            for place, (one, newest) in enumerate(zip(average.parameters(), online.parameters(), strict=True)):
                values[place] = momentum * values[place] + (1 - momentum) * newest.detach().double()
                torch.testing.assert_close(one.double(), values[place], rtol=1e-5, atol=1e-6)


def test_each_network_sees_each_view_once_a_step() -> None:
    found = objective(views=VIEWS)
    found(batch_seeded(0))
    assert found.average is not None
    encoders = (found.student, found.average.encoder, found.teacher.encoder, found.teacher.target_encoder)
    assert [int(encoder.backbone.bn1.num_batches_tracked) for encoder in encoders] == [2] * 4  # type: ignore[union-attr,arg-type]


def test_the_defaults_are_the_papers() -> None:
    options = Options()
    assert (options.epochs, options.batch_size, options.warmup_epochs, options.schedule) == (100, 2048, 10, "cosine")
    assert (options.optimizer, options.weight_decay, options.momentum) == ("lars", 1e-4, 0.99)
    assert options.learning_rate == pytest.approx(0.3 * 2048 / 256)
    assert options.views == ("sema-dv", "tema-dv")


# the program


def online(train: Path, folder: Path, **changed: Any) -> Training:
    recipe = {"epochs": 6, "batch_size": 32, "optimizer": "sgd", "learning_rate": 0.05, "warmup_epochs": 0}
    teacher = {"teacher_name": "along", "teacher_architecture": TEACHER}
    options = {"method": "simdis-on", "train": train, **teacher, **recipe, **tiny_options("simdis-on"), **changed}
    return Training(folder, "distill_online", options)


def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(small_splits: tuple[Path, Path], tmp_path: Path) -> None:
    unbroken = online(small_splits[0], tmp_path / "unbroken")
    status, stderr = unbroken.run()
    assert status == 0, stderr
    killed = online(small_splits[0], tmp_path / "killed")
    assert killed.within(killed.folder, checkpoint_seconds=0).interrupted(6, signal.SIGKILL)[0] == -signal.SIGKILL
    assert not killed.weights.exists()
    assert not killed.teacher.folder.exists()
    status, stderr = killed.run()
    assert status == 0, stderr
    assert "going on at step" in stderr
    for one, other in ((killed, unbroken), (killed.teacher, unbroken.teacher)):
        assert one.digest() == other.digest()
        assert one.heads.read_bytes() == other.heads.read_bytes()
        assert one.losses() == other.losses()
    assert killed.history.read_text() == killed.teacher.history.read_text()
    assert not killed.checkpoint.parent.exists()
    losses = [float(row[1]) for row in unbroken.losses()[1:]]
    assert losses[-1] < losses[0]


@pytest.fixture(scope="module")
def pair(small_splits: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A student and a teacher that were trained at once."""
    training = online(small_splits[0], tmp_path_factory.mktemp("pair"), epochs=1, label="mine")
    distill_online.main(training.argv)
    return training


def test_the_teacher_begins_the_same_whatever_the_student_and_its_views(
    small_splits: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[SimDisOn, dict[str, Tensor]]] = []
    init = SimDisOn.__init__

    def noted(self: SimDisOn, *arguments: Any) -> None:
        init(self, *arguments)
        begun.append((self, copy.deepcopy(self.teacher.state_dict())))

    monkeypatch.setattr(SimDisOn, "__init__", noted)
    changes: list[dict[str, Any]] = [
        {},
        {"architecture": "resnet18_x0.25"},
        {"views": "sema-dv"},
        {"seed": 1},
    ]
    for number, changed in enumerate(changes):
        training = online(small_splits[0], tmp_path / str(number), **{"epochs": 0, **changed})
        distill_online.main(training.argv)
    first, *same, other = (state for _, state in begun)
    for state in same:
        assert all(torch.equal(first[name], state[name]) for name in first)
    assert not torch.equal(first["encoder.backbone.conv1.weight"], other["encoder.backbone.conv1.weight"])


def test_two_encoders_come_out_and_say_how(pair: Training) -> None:
    student, teacher = (read_card(training.weights) for training in (pair, pair.teacher))
    shared = {"method": "mine", "dataset": "digits", "seed": 0}
    assert (student.name, student.architecture, teacher.name, teacher.architecture) == (
        *("encoder", ARCHITECTURE),
        *("along", TEACHER),
    )
    own = {"way": "distill", "teacher": "along", "generation": 1, "teacher_architecture": TEACHER}
    assert student.origin == {**shared, **own}
    assert teacher.origin == {**shared, "way": "pretrain", "student_architecture": ARCHITECTURE}
    assert load_heads(pair.heads, pair.weights) == {}


def test_a_student_of_simdis_off_can_learn_from_the_teacher(
    pair: Training, small_splits: tuple[Path, Path], tmp_path: Path
) -> None:
    teacher = pair.teacher
    assert NetworksTeacher(teacher.weights, teacher.heads, SIZE).networks is not None
    recipe = {"epochs": 1, "batch_size": 32, "optimizer": "sgd", "warmup_epochs": 0, **tiny_options("simdis-off")}
    files = {"train": small_splits[0], "teacher_weights": teacher.weights, "teacher_heads": teacher.heads}
    student = Training(tmp_path, "distill", {"method": "simdis-off", **files, **recipe})
    distill.main(student.argv)
    assert load_weights(student.weights)[1].origin["teacher"] == "along"


def test_each_program_names_the_other(
    pair: Training, small_splits: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        distill.main(Training(tmp_path, "distill", {"method": "simdis-on", "train": small_splits[0]}).argv)
    assert capsys.readouterr().err.endswith("simdis-on trains its teacher along: python -m stages.distill_online\n")
    teacher = {"teacher_name": "along", "teacher_architecture": TEACHER}
    with pytest.raises(SystemExit):
        distill_online.main(
            Training(tmp_path, "distill_online", {"method": "pkt", "train": small_splits[0], **teacher}).argv
        )
    assert "pkt learns from a teacher that has been trained: python -m stages.distill\n" in capsys.readouterr().err


# the workflow


def experiment(**group: Any) -> dict[str, Any]:
    """A tiny experiment of SimDis-On, and of SimDis-Off from the teacher that it leaves."""
    heads = {"hidden_dimension": 16, "projection_dimension": 8}
    options = {"epochs": 1, "batch_size": 64, "optimizer": "sgd", "learning_rate": 0.05, "warmup_epochs": 0, **heads}
    shared = {"dataset": "numerals", "architectures": ["resnet18_x0.125"], "options": options}
    along = {**shared, "teachers": ["resnet18_x0.25"], "methods": ["simdis-on"], **group}
    after = {**shared, "teachers": [f"{STUDENT}--teacher"], "methods": ["simdis-off"]}
    encoders = {"untrained": TINY["encoders"]["untrained"]}  # type: ignore[index]
    students = [along] if group else [after, along]
    return {**TINY, "encoders": encoders, "students": students, "evaluations": {"knn": {}}, "cluster_pictures": []}


STUDENT = "resnet18_x0.25--resnet18_x0.125--simdis-on--seed0"
AFTER = f"{STUDENT}--teacher--resnet18_x0.125--simdis-off--seed0"


def test_the_teacher_is_an_encoder_like_any_other() -> None:
    found = Experiment(experiment())
    assert list(found.encoders) == ["untrained", AFTER, f"{STUDENT}--teacher", STUDENT]
    assert (list(found.students), found.online, found.distilled) == ([AFTER, STUDENT], [STUDENT], [AFTER])
    assert found.students[STUDENT].teacher == f"{STUDENT}--teacher"
    assert found.students[STUDENT].architecture == "resnet18_x0.125"
    assert found.encoders[f"{STUDENT}--teacher"].architecture == "resnet18_x0.25"
    assert {measurement.encoder for measurement in found.measurements} == set(found.encoders)


def test_a_teachers_architecture_may_be_one_of_timm() -> None:
    (name,) = Experiment(experiment(teachers=["timm/resnet18"])).online
    assert name == "timm-resnet18--resnet18_x0.125--simdis-on--seed0"


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown architecture": (
        {"teachers": ["resnot50"]},
        "students[0].teachers: simdis-on trains them along: unknown architecture 'resnot50', did you mean 'resnet'?",
    ),
    "an encoder": (
        {"teachers": ["untrained"]},
        "students[0].teachers: simdis-on trains them along: unknown architecture 'untrained'; known are alexnet, ",
    ),
    "methods of both kinds": (
        {"methods": ["compress-1q", "simdis-on"]},
        "students[0].methods: simdis-on trains its teacher along, so that teachers are architectures, but to "
        "compress-1q they are encoders; put them into two groups",
    ),
    "a cached teacher": ({"teacher": "cached"}, "students[0].teacher: simdis-on trains its teacher along, neither "),
    "a live teacher": ({"teacher": "live"}, "students[0].teacher: simdis-on trains its teacher along, neither cached "),
    "the student's own same view": (
        {"options": {"views": ["s-sv"]}},
        "students[0].options.views: expected a list of some of s-dv, sema-sv, sema-dv, t-sv, t-dv, tema-sv, tema-dv",
    ),
    "an option of simdis-off": (
        {"options": {"teacher_statistics": "batch"}},
        "students[0].options: unknown key of simdis-on 'teacher_statistics'",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_wrong_group_is_refused_in_one_line(case: str) -> None:
    group, message = REFUSALS[case]
    with pytest.raises(ConfigError) as refusal:
        Experiment(experiment(**group))
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_the_workflow_trains_both_and_measures_both(tmp_path: Path) -> None:
    project = Project.tiny(tmp_path / "project")
    jobs = project.would_run("--configfile", "workflow/configs/methods.yaml")
    assert f"distill_online {STUDENT}" in jobs
    for encoder in (STUDENT, f"{STUDENT}--teacher"):
        evaluations = {"linear_probe": "linear", "knn": "knn", "align": "cluster-alignment"}
        assert {f"{rule} {encoder} {name}" for rule, name in evaluations.items()} <= jobs
    project.write_config(experiment())
    assert {job for job in project.would_run() if job.startswith("distill")} == {
        f"distill_online {STUDENT}",
        f"distill {AFTER}",
    }
    files = [f"results/metrics/{name}/numerals-knn.json" for name in (f"{STUDENT}--teacher", STUDENT)]
    done = project.snakemake(*files)
    assert done.returncode == 0, done.stdout
    (comparison,) = read_comparisons([project.path / file for file in files])
    assert list(map(str, comparison.groups)) == ["resnet18_x0.25 trained along → resnet18_x0.125"]
    assert [row.label for row in comparison.rows] == ["Teacher of simdis-on", "simdis-on"]
    assert project.would_run(*files) == set()
    project.replace("stages/distillation/simdis_on.py", "classes=0", "classes=1")
    assert f"distill_online {STUDENT}" in project.would_run(*files)

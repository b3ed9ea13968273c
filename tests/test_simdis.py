"""SimDis-Off: its loss and gradients written out in float64, its networks, and the heads that its teacher leaves."""

import copy
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment.config import ConfigError, Experiment
from safetensors.torch import save_file
from torch import Tensor, nn

from stages import architectures, distill
from stages.artifacts.heads import load_heads, save_heads
from stages.artifacts.weights import InputContract, digest_of, load_weights, save_weights
from stages.distillation import Setting
from stages.distillation.simdis_off import Options, SimDisOff
from stages.errors import UserError
from stages.pretraining import byol
from stages.training.networks import Networks
from stages.training.optimizers import optimizer_of
from stages.training.teacher import NetworksTeacher
from tests.project import TINY, Project
from tests.simdis_fixtures import COMBINATIONS, VIEWS, doubled, naive_loss
from tests.training_fixtures import (
    ARCHITECTURE,
    PROJECTION,
    SIZE,
    Training,
    batch_seeded,
    networks_seeded,
    tiny_options,
)

pytest_plugins = ["tests.training_fixtures"]


def objective(networks: Networks | None = None, **changed: Any) -> SimDisOff:
    torch.manual_seed(0)
    student = architectures.build(ARCHITECTURE, InputContract(SIZE))
    recipe = {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.8, "batch_size": 6}
    options = Options(**{**tiny_options("simdis-off"), **recipe, **changed})  # type: ignore[arg-type]
    return SimDisOff(student, Setting(64, 24, networks=networks or networks_seeded(1)), options).train()


def step(found: SimDisOff, seed: int, progress: float = 0.5) -> None:
    optimizer = optimizer_of(found, found.options)
    found(batch_seeded(seed)).backward()
    optimizer.step()
    found.after_step(progress)


def as_normalising(networks: Networks, statistics: str) -> Networks:
    """A copy of the teacher in float64 whose batch norms are in plain evaluation or training mode."""
    copied = copy.deepcopy(networks)
    for network in (copied.online, copied.target):
        network.double().train(statistics == "batch")
    return copied


@pytest.mark.parametrize("statistics", ["running", "batch"])
@pytest.mark.parametrize("views", COMBINATIONS, ids=" ".join)
def test_the_loss_and_its_gradient_are_those_written_out(views: tuple[str, ...], statistics: str) -> None:
    networks = networks_seeded(1)
    found = objective(networks, views=views, teacher_statistics=statistics)
    step(found, 0)  # so that the moving average is another network than the student
    found.zero_grad()
    found.double()
    naive, batch = copy.deepcopy(found), doubled(batch_seeded(1))
    loss = found(batch)
    expected = naive_loss(naive, as_normalising(networks, statistics), batch)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    assert loss.ndim == 0
    loss.backward()
    expected.backward()
    for (name, one), other in zip(found.named_parameters(), naive.parameters(), strict=True):
        if one.requires_grad:
            assert one.grad is not None, name
            assert other.grad is not None, name
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-7, atol=1e-11)
        else:
            assert one.grad is None


@pytest.mark.parametrize("views", COMBINATIONS, ids=" ".join)
def test_there_is_a_predictor_for_each_view_and_no_network_that_none_needs(views: tuple[str, ...]) -> None:
    found = objective(views=views)
    assert list(found.predictors) == list(views)
    assert (found.average is not None) == any(view.startswith("sema-") for view in views)
    assert set(found.teachers) == {view.split("-")[0] for view in views} & {"t", "tema"}
    before = copy.deepcopy(dict(found.named_parameters()))
    for seed in range(2):
        step(found, seed)
    for name, value in found.named_parameters():
        kept = name.startswith("teachers.")
        # The batch norms of the predictors take out whatever the projector's last layer adds: its gradient is rounding.
        assert torch.equal(value, before[name]) == kept or name.endswith("projector.layers.3.bias"), name
        assert value.requires_grad == (not kept and not name.startswith("average.")), name


def test_a_teachers_targets_are_predicted_in_its_own_dimension() -> None:
    found = objective(views=("s-dv", "tema-sv"))
    sizes = {view: predictor.layers[3].out_features for view, predictor in found.predictors.items()}  # type: ignore[index,union-attr]
    assert sizes == {"s-dv": 8, "tema-sv": PROJECTION}


def test_the_moving_average_is_of_parameters_alone_and_rises() -> None:
    found = objective()
    assert found.average is not None
    optimizer = optimizer_of(found, found.options)
    online = [*found.student.parameters(), *found.projector.parameters()]
    expected = [parameter.detach().double() for parameter in online]
    # (cos(pi * progress) + 1) / 2 is 3/4, 1/2, 1/4, 0 there.
    for number, (progress, momentum) in enumerate([(1 / 3, 0.85), (1 / 2, 0.9), (2 / 3, 0.95), (1, 1.0)]):
        optimizer.zero_grad()
        found(batch_seeded(number)).backward()
        optimizer.step()
        buffers = {name: buffer.clone() for name, buffer in found.average.named_buffers()}
        found.after_step(progress)
        assert all(torch.equal(buffers[name], buffer) for name, buffer in found.average.named_buffers())
        expected = [
            momentum * old + (1 - momentum) * new.detach().double() for old, new in zip(expected, online, strict=True)
        ]
        for one, other in zip(found.average.parameters(), expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6)
    statistics = [module.backbone.bn1 for module in (found.student, found.average.encoder)]  # type: ignore[union-attr]
    assert [int(each.num_batches_tracked) for each in statistics] == [8, 8], "each view is a batch of its own"
    assert not torch.equal(statistics[0].running_mean, statistics[1].running_mean)


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_nothing_of_the_teacher_ever_changes(statistics: str) -> None:
    networks = networks_seeded(1)
    before = copy.deepcopy([networks.online.state_dict(), networks.target.state_dict()])
    found = objective(networks, views=VIEWS, teacher_statistics=statistics, optimizer="lars", weight_decay=0.1)
    for seed in range(3):
        found.train()
        step(found, seed)
        found.eval()
    for state, name, given in zip(before, ("t", "tema"), (networks.online, networks.target), strict=True):
        for after in (found.teachers[name].state_dict(), given.state_dict()):
            assert all(torch.equal(after[key], value) for key, value in state.items())


def test_the_two_statistics_are_two_teachers() -> None:
    running, batch = (
        objective(teacher_statistics=kind, views=("t-sv",))(batch_seeded(0)) for kind in ("running", "batch")
    )
    assert not torch.isclose(running, batch, rtol=1e-4)


# options


@pytest.mark.parametrize(
    ("views", "complaint"),
    [
        ((), "--views is empty; expected at least one"),
        (("t-sv", "tema-sv", "t-sv"), "--views has an entry twice: t-sv tema-sv t-sv"),
    ],
)
def test_views_that_make_no_sense_are_refused(views: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(complaint)}") as refusal:
        Options(views=views)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("wrong", [{"momentum": 1.1}, {"momentum": -0.1}, {"hidden_dimension": 0}])
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"^--{next(iter(wrong)).replace('_', '-')} is "):
        Options(**wrong)


def test_the_defaults_are_the_papers() -> None:
    options = Options()
    assert (options.epochs, options.batch_size, options.warmup_epochs, options.schedule) == (100, 2048, 10, "cosine")
    assert (options.optimizer, options.weight_decay, options.drop_last) == ("lars", 1e-4, True)
    assert options.learning_rate == pytest.approx(0.3 * 2048 / 256)
    assert (options.momentum, options.hidden_dimension, options.projection_dimension) == (0.99, 4096, 256)
    assert options.views == ("sema-dv", "tema-dv")


# heads


def test_heads_come_back_as_they_were_written(byol_teacher: Training, tmp_path: Path) -> None:
    tensors = {"a.weight": torch.randn(3, 4, 2, 2).to(memory_format=torch.channels_last), "b": torch.tensor(7)}
    for kept in (tensors, {}):
        save_heads(tmp_path / "heads.safetensors", kept, byol_teacher.weights)
        found = load_heads(tmp_path / "heads.safetensors", byol_teacher.weights)
        assert found.keys() == kept.keys()
        assert all(torch.equal(found[name], kept[name]) for name in kept)
    sidecar = (tmp_path / "heads.safetensors.sha256").read_text()
    assert sidecar.startswith(digest_of(tmp_path / "heads.safetensors"))


def test_the_heads_of_byol_are_its_projector_and_its_target_network(byol_teacher: Training) -> None:
    torch.manual_seed(0)
    options = byol.Options(hidden_dimension=16, projection_dimension=PROJECTION)
    fresh = byol.BYOL(architectures.build(ARCHITECTURE, InputContract(SIZE)), options, 10)
    heads = load_heads(byol_teacher.heads, byol_teacher.weights)
    parts = {
        "projector": fresh.projector,
        "target_backbone": fresh.target_encoder.backbone,
        "target_projector": fresh.target_projector,
    }
    assert set(heads) == {f"{name}.{key}" for name, part in parts.items() for key in part.state_dict()}
    networks = NetworksTeacher(byol_teacher.weights, byol_teacher.heads, SIZE).networks
    assert networks is not None
    assert networks.dimension == PROJECTION
    state, _ = load_weights(byol_teacher.weights)
    loaded: list[tuple[nn.Module, dict[str, Tensor]]] = [
        (networks.online.encoder.backbone, state),
        *(
            (module, {key.removeprefix(f"{name}."): heads[key] for key in heads if key.startswith(f"{name}.")})
            for name, module in (
                ("projector", networks.online.projector),
                ("target_backbone", networks.target.encoder.backbone),
                ("target_projector", networks.target.projector),
            )
        ),
    ]
    for module, expected in loaded:
        found = module.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_teacher_by_its_networks_is_known_by_both_its_files(byol_teacher: Training, tmp_path: Path) -> None:
    """So that no run goes on from a checkpoint of a student that other target networks have taught."""
    other = tmp_path / "heads.safetensors"
    heads = load_heads(byol_teacher.heads, byol_teacher.weights)
    save_heads(other, {name: 2 * value for name, value in heads.items()}, byol_teacher.weights)
    first, second = (NetworksTeacher(byol_teacher.weights, path, SIZE).identity for path in (byol_teacher.heads, other))
    assert first != second
    assert all(digest_of(path) in first for path in (byol_teacher.weights, byol_teacher.heads))


def simdis(byol_teacher: Training, train: Path, folder: Path, **changed: Any) -> Training:
    files = {"teacher_weights": byol_teacher.weights, "teacher_heads": byol_teacher.heads, "train": train}
    recipe = {"epochs": 6, "batch_size": 32, "optimizer": "sgd", "learning_rate": 0.05, "warmup_epochs": 0}
    options = {"method": "simdis-off", **files, **recipe, **tiny_options("simdis-off"), **changed}
    return Training(folder, "distill", {name: value for name, value in options.items() if value is not None})


@pytest.mark.parametrize("missing", ["teacher_weights", "teacher_heads"])
def test_both_files_of_the_teacher_are_needed(
    missing: str, byol_teacher: Training, small_splits: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        distill.main(simdis(byol_teacher, small_splits[0], tmp_path, **{missing: None}).argv)
    complaint = "simdis-off takes its teacher by --teacher-weights and --teacher-heads"
    assert capsys.readouterr().err.splitlines()[-1].endswith(complaint)


def test_other_methods_take_no_heads(
    byol_teacher: Training, small_splits: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    files = {"teacher_weights": byol_teacher.weights, "teacher_heads": byol_teacher.heads}
    with pytest.raises(SystemExit):
        distill.main(Training(tmp_path, "distill", {"method": "pkt", "train": small_splits[0], **files}).argv)
    assert (
        "pkt takes its teacher by --teacher-embeddings or --teacher-views or --teacher-weights"
        in capsys.readouterr().err
    )


def refusal_of(weights: Path, heads: Path, size: int = SIZE) -> str:
    with pytest.raises(UserError) as refusal:
        NetworksTeacher(weights, heads, size)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_heads_of_another_encoder_are_refused(byol_teacher: Training, untrained_teacher: Path) -> None:
    message = refusal_of(untrained_teacher, byol_teacher.heads)
    for part in (byol_teacher.heads, "the heads of byol", digest_of(byol_teacher.weights)[:12], untrained_teacher):
        assert str(part) in message


def test_heads_of_other_weights_under_the_encoders_name_are_refused(byol_teacher: Training, tmp_path: Path) -> None:
    state, card = load_weights(byol_teacher.weights)
    again = tmp_path / "again.safetensors"
    save_weights(again, {name: 2 * tensor for name, tensor in state.items()}, card)
    assert "the heads of byol" in refusal_of(again, byol_teacher.heads)


def test_a_teacher_whose_training_leaves_no_projector_is_refused(untrained_teacher: Path) -> None:
    message = refusal_of(untrained_teacher, untrained_teacher.with_name("heads.safetensors"))
    assert "teacher encoder was trained by untrained, which leaves no projector" in message
    assert "simdis-off, needs a teacher pretrained by byol" in message


def test_files_that_are_no_heads_are_refused(byol_teacher: Training, tmp_path: Path) -> None:
    weights, path = byol_teacher.weights, tmp_path / "heads.safetensors"
    assert "no such heads file" in refusal_of(weights, path)
    path.write_bytes(byol_teacher.heads.read_bytes()[:-1])
    assert "not a whole safetensors file" in refusal_of(weights, path)
    save_file({}, path)
    assert "does not say whose heads" in refusal_of(weights, path)
    heads = load_heads(byol_teacher.heads, weights)
    save_heads(path, {**heads, "projector.layers.3.weight": torch.zeros(4, 5)}, weights)
    assert "not a projector (" in refusal_of(weights, path)
    assert "the student sees 32" in refusal_of(weights, byol_teacher.heads, 32)


# the programs


def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(
    byol_teacher: Training, small_splits: tuple[Path, Path], tmp_path: Path
) -> None:
    unbroken = simdis(byol_teacher, small_splits[0], tmp_path / "unbroken")
    status, stderr = unbroken.run()
    assert status == 0, stderr
    killed = simdis(byol_teacher, small_splits[0], tmp_path / "killed")
    assert killed.within(killed.folder, checkpoint_seconds=0).interrupted(6, signal.SIGKILL)[0] == -signal.SIGKILL
    status, stderr = killed.run()
    assert status == 0, stderr
    assert "going on at step" in stderr
    assert killed.digest() == unbroken.digest()
    assert killed.losses() == unbroken.losses()
    losses = [float(row[1]) for row in unbroken.losses()[1:]]
    assert losses[-1] < losses[0]
    assert load_heads(unbroken.heads, unbroken.weights) == {}


def experiment(**group: Any) -> dict[str, Any]:
    """A tiny experiment of a teacher by BYOL and its student by SimDis."""
    heads = {"hidden_dimension": 16, "projection_dimension": 8}
    options = {"epochs": 1, "batch_size": 64, "optimizer": "sgd", "learning_rate": 0.05, "warmup_epochs": 0, **heads}
    teacher = {"pretrain": "byol", "architecture": "resnet18_x0.125", "dataset": "numerals", **options}
    shared = {key: TINY["students"][0][key] for key in ("dataset", "architectures")}  # type: ignore[index]
    students = {"teachers": ["teacher"], "methods": ["simdis-off"], **shared, "options": options, **group}
    others = {key: TINY["encoders"][key] for key in ("supervised", "untrained")}  # type: ignore[index]
    return {**TINY, "encoders": {"teacher": teacher, **others}, "students": [students], "evaluations": {"knn": {}}} | {
        "cluster_pictures": []
    }


def test_the_workflow_trains_the_teacher_and_hands_over_its_networks(tmp_path: Path) -> None:
    project = Project.tiny(tmp_path / "project")
    project.write_config(experiment())
    folder = "results/encoders/teacher--resnet18_x0.125--simdis-off--seed0"
    done = project.snakemake("--printshellcmds", f"{folder}/weights.safetensors")
    assert done.returncode == 0, done.stdout
    teacher = "results/encoders/teacher"
    flags = f"--teacher-weights {teacher}/weights.safetensors --teacher-heads {teacher}/heads.safetensors"
    assert flags in done.stdout
    weights, heads = (project.path / folder / f"{name}.safetensors" for name in ("weights", "heads"))
    assert load_weights(weights)[1].origin["teacher"] == "teacher"
    assert load_heads(heads, weights) == {}
    assert not (project.path / "results/embeddings").exists()


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"teacher": "cached"}, r"students[0].teacher: simdis-off learns from the teacher's networks, which are live"),
        (
            {"teachers": ["supervised"]},
            "students[0].teachers: teacher supervised was trained by supervised, which leaves no projector; "
            "simdis-off needs a teacher pretrained by byol",
        ),
        (
            {"options": {"views": "t-sv"}},
            "students[0].options.views: expected a list of some of s-dv, sema-sv, ",
        ),
        (
            {"options": {"views": [3]}},
            "students[0].options.views: expected a list of some of s-dv, sema-sv, ",
        ),
        ({"options": {"milestones": ["a"]}}, "students[0].options.milestones: expected a list of whole numbers"),
    ],
)
def test_a_wrong_group_is_refused_in_one_line(group: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        Experiment(experiment(**group))
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("group", [{}, {"teacher": "live"}])
def test_the_teacher_is_live_whether_the_group_says_so_or_not(group: dict[str, Any]) -> None:
    found = Experiment(experiment(**group))
    (student,) = found.students.values()
    assert student.learns_from == "networks"
    assert tuple(student.options["views"]) == ("sema-dv", "tema-dv")

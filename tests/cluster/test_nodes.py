"""One training on two nodes: started on both by srun, each in its container."""

import csv
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.cluster.submission import PATIENCE, PROFILE, Submission, jobs_of, scontrol
from tests.project import TINY, Project

EPOCHS = 100
"""Long enough to be interrupted."""

TRAINING = {**TINY["encoders"]["teacher"], "learning_rate": 0.001}


@pytest.fixture(scope="module")
def alone(project: Project) -> Path:
    """An encoder that is trained on one node, in a project that from then on trains on two."""
    long = {**TRAINING, "epochs": EPOCHS}
    encoders = {"alone": TRAINING, "together": TRAINING, "unbroken": long, "preempted": long}
    encoders["exploding"] = {**TRAINING, "learning_rate": 1e30}
    untaught = {name: value for name, value in TINY.items() if name not in ("students", "cluster_pictures")}
    project.write_config({**untaught, "encoders": encoders})
    Submission(project).run(weights("alone"))
    project.replace(
        PROFILE,
        "pretrain: &training {",
        "pretrain: {cpus_per_task: 1, gpu_model: pretended, nodes: 2, gpu: 2}\n  distill: &training {",
    )
    project.replace(PROFILE, "  distill: *training\n", "")
    return project.path / weights("alone")


def weights(encoder: str) -> str:
    return f"results/encoders/{encoder}/weights.safetensors"


def log_of(project: Project, encoder: str) -> str:
    return (project.path / f"logs/pretrain/{encoder}.log").read_text()


def losses(weights: Path) -> list[float]:
    return [float(row["loss"]) for row in csv.DictReader((weights.parent / "history.csv").open())]


def nodes_of(project: Project, encoder: str) -> set[str]:
    """How many nodes the jobs of an encoder's training had, by their own account."""
    return {nodes for _, nodes, wildcards in jobs_of(project.path) if wildcards == encoder}


def test_two_nodes_compute_what_one_does(alone: Path, project: Project, submission: Submission) -> None:
    submission.run(weights("together"))
    assert (nodes_of(project, "alone"), nodes_of(project, "together")) == ({"1"}, {"2"})
    together = project.path / weights("together")
    # After that rounding grows, as it does between one and two threads; tests/test_processes.py is exact in float64.
    assert losses(together)[0] == pytest.approx(losses(alone)[0], rel=1e-2)
    assert project.would_run(weights("alone")) == set(), "how many nodes there are makes nothing run again"


def test_a_preempted_training_on_two_nodes_goes_on(alone: Path, project: Project, submission: Submission) -> None:
    submission.run(weights("unbroken"))
    submission.start(weights("preempted"))
    submission.until_trained_a_while("preempted")
    scontrol("requeue", submission.job("preempted"))
    assert "Error in rule" not in submission.finish(), "SLURM alone has started it again"
    assert log_of(project, "preempted").count("going on at step") == 1
    found, expected = (load_file(project.path / weights(encoder)) for encoder in ("preempted", "unbroken"))
    assert all((found[name] == expected[name]).all() for name in expected)


def test_an_error_on_two_nodes_is_told_once(alone: Path, project: Project, submission: Submission) -> None:
    submission.start("--retries=0", weights("exploding"))
    assert submission.process is not None
    assert submission.process.wait(PATIENCE) == 1
    said = log_of(project, "exploding")
    assert said.count("error: the loss is ") == 1
    assert "Traceback" not in said

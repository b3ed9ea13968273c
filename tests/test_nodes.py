"""What a training on several nodes asks for, what is refused, and its launcher with a stand-in for srun."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from experiment import nodes
from experiment.errors import ConfigError

from tests.project import Project
from tests.training_fixtures import ROOT, Training

pytest_plugins = ["tests.training_fixtures"]

SRUN = """#!/bin/bash
for argument; do
    case $argument in
        --ntasks=*) tasks=${argument#*=}; shift ;;
        --*) shift ;;
        *) break ;;
    esac
done
for ((task = 0; task < tasks; task++)); do "$@" & started+=($!); done
for one in "${started[@]}"; do wait "$one" || status=$?; done
exit ${status:-0}
"""
"""Starts so many of the command on this host, and ends as one that failed."""


def test_one_node_changes_nothing() -> None:
    assert nodes.resources("distill", {"gpu": "4"}, "apptainer exec torch.sif") == {"launcher": ""}
    assert nodes.count("knn", {"nodes": "1"}) == 1
    nodes.check({"distill": {"gpu": "3"}, "knn": {}}, is_local=True, image="docker://torch")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            {"distill": {"nodes": "2", "gpu": "3"}},
            "3 cannot be divided among them equally: set distill:gpu to a multiple",
        ),
        ({"distill": {"nodes": "2"}}, "distill:nodes=2: gpu counts the GPUs of all nodes, and 1 cannot be divided"),
        ({"distill": {"nodes": "0"}}, "distill:nodes=0: expected a whole number"),
        ({"pretrain": {"nodes": "2", "gpu": "all"}}, "pretrain:gpu=all: expected a whole number"),
        (
            {"default-resources": {"nodes": "2"}},
            "default-resources:nodes=2: only jobs of pretrain, distill, distill_onl",
        ),
    ],
)
def test_what_several_nodes_cannot_do_is_refused(asked: dict[str, dict[str, str]], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        nodes.check(asked, is_local=False, image="torch.sif")


def test_an_image_of_a_registry_is_refused_on_several_nodes() -> None:
    asked = {"distill": {"nodes": "2", "gpu": "2"}}
    nodes.check(asked, is_local=False, image=None)
    with pytest.raises(ConfigError, match=r"`apptainer pull torch\.sif docker://a/b`, and name the file in the config"):
        nodes.check(asked, is_local=False, image="docker://a/b")


def test_several_nodes_on_this_machine_are_refused_before_anything_starts(tmp_path: Path) -> None:
    project = Project.tiny(tmp_path / "project")
    done = project.snakemake("--set-resources", "pretrain:nodes=2", "pretrain:gpu=2")
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert line == "error: pretrain:nodes=2: on this machine there is one: use --profile workflow/profiles/slurm"
    assert not (project.path / "results").exists()


def test_how_many_nodes_there_are_makes_nothing_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sinfo", "apptainer"):
        stand_in(tmp_path / "bin" / name, "#!/bin/sh\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    project = Project.tiny(tmp_path / "project")
    weights = "results/encoders/untrained/weights.safetensors"
    assert project.snakemake(weights).returncode == 0
    on_nodes = ("--executor", "slurm", "--jobs", "1", "--set-resources", "pretrain:nodes=2", "pretrain:gpu=2")
    assert project.would_run(*on_nodes, "--", weights) == set()


@pytest.mark.parametrize(("options", "status"), [({}, 0), ({"learning_rate": 1e30}, 1)])
def test_the_launcher_starts_one_training_on_all_nodes(
    options: dict[str, float], status: int, small_splits: tuple[Path, Path], tmp_path: Path
) -> None:
    stand_in(tmp_path / "bin/srun", SRUN)
    recipe = {"epochs": 1, "batch_size": 32, "warmup_epochs": 0, "learning_rate": 0.05}
    training = Training(
        tmp_path / "out", "pretrain", {"method": "supervised", "train": small_splits[0], **recipe, **options}
    )
    command = [sys.executable, "-m", "stages.training.launch", "2", "stages.pretrain", *training.argv]
    done = subprocess.run(
        ["bash", "-c", f"{nodes.launcher(2, '')} OMP_NUM_THREADS=1 {shlex.join(command)}"],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": str(os.getpid())},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == status, done.stderr
    assert done.stderr.count("error: the loss is") == status
    assert training.weights.exists() == (status == 0)
    assert "Traceback" not in done.stderr


def stand_in(program: Path, text: str) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(text)
    program.chmod(0o755)

"""What a training on several nodes asks for and what is refused, and its run with stand-ins for SLURM's programs."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from experiment import nodes
from experiment.errors import ConfigError

from tests.project import Project
from tests.training_fixtures import ON_CPU, ROOT, Training

pytest_plugins = ["tests.training_fixtures"]

PROFILE = "workflow/profiles/slurm/config.yaml"

SLURM = ("--profile=workflow/profiles/slurm", "--slurm-status-command=squeue", "--retries=0")
FAST = ("--slurm-init-seconds-before-status-checks=1", "--seconds-between-status-checks=1")

STAND_INS = {
    "sinfo": "#!/bin/sh\n",
    "sacct": "#!/bin/sh\nexit 1\n",
    "scontrol": "#!/bin/sh\necho MinJobAge = 300 sec\n",
    # The job is over before it is submitted, and squeue tells how it has ended.
    "sbatch": f"""#!{sys.executable}
import os, pathlib, subprocess, sys
here = pathlib.Path(sys.argv[0]).parent
script = sys.argv[-1].removeprefix("--wrap=")
done = subprocess.run(["sh", "-c", script], env={{**os.environ, "SLURM_JOB_ID": "{os.getpid()}"}},
                      stdout=(here / "job.log").open("w"), stderr=subprocess.STDOUT)
(here / "state").write_text("FAILED" if done.returncode else "COMPLETED")
print("{os.getpid()}")
""",
    "squeue": f"""#!/bin/sh\necho "{os.getpid()}|$(cat "${{0%/*}}/state")"\n""",
    # An image's command runs outside of it.
    "apptainer": """#!/bin/bash
case $1 in --version) echo apptainer version 1.4.5; exit ;; inspect) exit ;; esac
echo "$@" >> "${0%/*}/apptainer.log"
while [[ $1 != *.sif ]]; do shift; done
exec "${@:2}"
""",
}

STAND_INS["srun"] = """#!/bin/bash
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
"""Programs that start what they are told to on this host; srun, as often as it is told to."""


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
        ({"distill": {"gpu": "two"}}, "distill:gpu=two: expected a whole number"),
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


def test_resources_of_a_rule_that_there_is_not_are_refused_before_anything_starts(tmp_path: Path) -> None:
    project = Project.tiny(tmp_path / "project")
    done = project.snakemake("--set-resources", "distil:gpu=2")
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: set-resources: unknown rule 'distil', did you mean 'distill'?")
    assert not (project.path / "results").exists()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in STAND_INS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name, value in ON_CPU.items():
        monkeypatch.setenv(name, value)
    return folder


def test_a_training_on_two_nodes_runs_in_its_image_on_each_and_not_again_on_one(programs: Path, tmp_path: Path) -> None:
    project = Project.tiny(tmp_path / "project")
    for name in ("torch.sif", "faiss.sif"):
        (project.path / "containers" / name).touch()
    project.replace(PROFILE, "&training {cpus_per_task: 8}", "&training {cpus_per_task: 1, nodes: 2, gpu: 2}")
    for rule in ("embed", "embed_shard", "embed_view", "linear_probe", "layer_probe", "voc_detection", "cost"):
        project.replace(PROFILE, f"  {rule}: *training\n", "")
    assert project.snakemake("results/datasets/numerals/train.h5").returncode == 0
    weights = "results/encoders/teacher/weights.safetensors"
    done = project.snakemake(*SLURM, *FAST, weights)
    assert done.returncode == 0, done.stdout + "".join(log.read_text() for log in programs.glob("job.log"))
    log = (project.path / "logs/pretrain/teacher.log").read_text()
    assert "steps" in log
    calls = [line for line in (programs / "apptainer.log").read_text().splitlines() if "stages.training.launch" in line]
    assert len(calls) == 2
    assert calls[0] == calls[1]
    assert f"--home {project.path} " in calls[0]
    assert f" {project.path}/containers/torch.sif env PET_NNODES=2 " in calls[0]
    assert project.would_run(weights) == set()


@pytest.mark.parametrize(("options", "status"), [({}, 0), ({"learning_rate": 1e30}, 1)])
def test_the_launcher_starts_one_training_on_all_nodes(
    options: dict[str, float], status: int, small_splits: tuple[Path, Path], programs: Path, tmp_path: Path
) -> None:
    recipe = {"epochs": 1, "batch_size": 32, "warmup_epochs": 0, "learning_rate": 0.05, **options}
    training = Training(tmp_path / "out", "pretrain", {"method": "supervised", "train": small_splits[0], **recipe})
    command = [sys.executable, "-m", "stages.training.launch", "2", "stages.pretrain", *training.argv]
    done = subprocess.run(
        ["bash", "-c", f"{nodes.launcher(2, '')} {shlex.join(command)}"],
        cwd=ROOT,
        env={**os.environ, "SLURM_JOB_ID": str(os.getpid())},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == status, done.stderr
    assert done.stderr.count("error: the loss is") == status
    assert training.weights.exists() == (status == 0)
    assert "Traceback" not in done.stderr

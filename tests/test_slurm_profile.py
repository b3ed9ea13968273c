"""What the slurm profile asks of SLURM: the sbatch lines, recorded by stand-ins for SLURM's programs and Apptainer."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.project import TINY, Project

PROFILE = "workflow/profiles/slurm/config.yaml"

SLURM = ("--profile=workflow/profiles/slurm", "--slurm-init-seconds-before-status-checks=1")

STAND_INS = {
    "sbatch": 'echo "$@" >> sbatch.log; echo refused >&2; exit 1',
    "sinfo": "echo 'gpu*'; echo cpu",
    "squeue": "",
    "scontrol": "echo MinJobAge = 300 sec",
    "sacct": "exit 1",
    "sacctmgr": "exit 1",
    "apptainer": "echo apptainer version 1.4.5",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The tiny experiment with its images packed, on a login node: SLURM refuses all jobs, once they are recorded."""
    for name, script in STAND_INS.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    project = Project.tiny(tmp_path / "project")
    for name in ("torch.sif", "faiss.sif"):
        (project.path / "containers" / name).touch()
    return project


def pack(project: Project) -> None:
    for split in ("train", "val"):
        for suffix in ("h5", "h5.sha256"):
            file = project.path / f"results/datasets/numerals/{split}.{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()


def submitted(project: Project, *arguments: str) -> list[str]:
    """The sbatch lines, without what differs from run to run and without the command to run."""
    done = project.snakemake(*SLURM, "--retries", "0", *arguments)
    assert "refused" in done.stdout, done.stdout
    lines = []
    for line in (project.path / "sbatch.log").read_text().splitlines():
        options = line.partition(" --wrap=")[0]
        lines.append(
            " ".join(word for word in re.split(r" (?=-)", options) if not re.match(r"--job-name|--output|-D", word))
        )
    return lines


COMMON = "--parsable --export=ALL --comment rule_"


def test_a_rule_for_the_cpu_asks_for_cores_memory_and_time(project: Project) -> None:
    project.replace(PROFILE, "# slurm_partition: gpu", "slurm_partition: cpu")
    assert submitted(project, "results/datasets/numerals/train.h5") == [
        f"{COMMON}fetch_dataset_wildcards_numerals -p cpu -t 1440 --mem 8000 --nodes=1 --requeue"
        " --ntasks=1 --cpus-per-task=8"
    ]


def test_a_job_reads_the_config_that_it_was_submitted_with(project: Project) -> None:
    project.snakemake(*SLURM, "--retries", "0", "results/datasets/numerals/train.h5")
    (line,) = (project.path / "sbatch.log").read_text().splitlines()
    (file,) = re.findall(r"--configfiles (\S+)", line)
    assert Path(file).is_relative_to(project.path)
    (project.path / "config.yaml").write_text("datasets: {")
    assert json.loads(Path(file).read_text()) == TINY
    assert project.would_run("--configfile", file)


def test_a_rule_for_a_gpu_asks_for_one_of_the_sites_model(project: Project) -> None:
    pack(project)
    project.replace(PROFILE, "&training {cpus_per_task: 8}", "&training {cpus_per_task: 8, gpu_model: a100}")
    assert submitted(project, "results/encoders/teacher/weights.safetensors") == [
        f"{COMMON}pretrain_wildcards_teacher -p gpu -t 1440 --mem 16000 --nodes=1 --requeue --cpus-per-task=8"
        " --gpus=a100:1"
    ]


@pytest.mark.parametrize(
    ("gpus", "asked"),
    [
        ("gpu: 8", " --gres=gpu:4 --gpus=8"),
        ("gpu: 8, gpu_model: a100", " --gres=gpu:a100:4 --gpus=a100:8"),
        ("gpu: 0", ""),
    ],
)
def test_a_training_on_two_nodes_asks_for_both_and_as_many_gpus_of_each(
    gpus: str, asked: str, project: Project
) -> None:
    pack(project)
    project.replace(
        PROFILE, "pretrain: &training {cpus_per_task: 8}", f"pretrain: {{cpus_per_task: 64, nodes: 2, {gpus}}}"
    )
    project.replace(PROFILE, "distill: *training", "distill: &training {cpus_per_task: 8}")
    assert submitted(project, "results/encoders/teacher/weights.safetensors") == [
        f"{COMMON}pretrain_wildcards_teacher -p gpu -t 1440 --mem 16000 --nodes=2 --requeue --ntasks=2"
        f" --cpus-per-task=64{asked}"
    ]


REFUSALS = {
    "an image that is not built": ("image", "containers/torch.sif is not there: build it by `make images`"),
    "no partition, and no default": ("partition", "no slurm_partition under default-resources"),
    "a folder that is not there": ("bind", "--bind /missing: /missing is not there"),
    "a GPU that is too old": ("model", "gpu_model v100 is older than the pinned PyTorch supports"),
    "several nodes for a rule that uses one": ("nodes", "knn:nodes=2: only jobs of pretrain, distill, distill_online"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_work_is_refused_in_one_line_before_anything_is_submitted(
    case: str, project: Project, tmp_path: Path
) -> None:
    fault, says = REFUSALS[case]
    if fault == "image":
        (project.path / "containers/torch.sif").unlink()
    elif fault == "partition":
        (tmp_path / "bin/sinfo").write_text("#!/bin/sh\necho gpu; echo cpu\n")
    elif fault == "bind":
        project.replace(PROFILE, '# apptainer-args: "--bind=/scratch', 'apptainer-args: "--bind=/missing')
    elif fault == "nodes":
        project.replace(PROFILE, "&searching {", "&searching {nodes: 2, ")
    else:
        (tmp_path / "bin/sinfo").write_text("#!/bin/sh\necho 'gpu*'\n")
        project.replace(PROFILE, "&training {", "&training {gpu_model: v100, ")
    done = project.snakemake(*SLURM)
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert says in line
    assert "Traceback" not in done.stdout
    assert not (project.path / "sbatch.log").exists()


def test_a_second_attempt_asks_for_twice_the_memory_and_time(project: Project) -> None:
    project.snakemake(*SLURM, "results/datasets/numerals/train.h5")
    words = [
        shlex.split(line.partition(" --wrap=")[0]) for line in (project.path / "sbatch.log").read_text().splitlines()
    ]
    asked = [(line[line.index("-t") + 1], line[line.index("--mem") + 1]) for line in words]
    assert asked == [("1440", "8000"), ("2880", "16000"), ("4320", "24000")]

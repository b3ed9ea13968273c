"""A real SLURM cluster on one host with pretended GPUs, real Apptainer, and the project's own images.

`make test-cluster` runs these tests, which are skipped on a host that tests/cluster/host/ has not prepared.
"""

import shutil
import subprocess
from pathlib import Path

import pytest
from experiment import images, slurm

from tests.cluster.submission import PROFILE, Submission, jobs_of
from tests.project import Project

IMAGES = ("faiss", "torch")


def _lacking() -> str:
    """What this host lacks, in a few words, or nothing."""
    missing = [program for program in ("sbatch", "apptainer") if shutil.which(program) is None]
    if missing:
        return f"{' and '.join(missing)} not installed: tests/cluster/host/install.sh installs them"
    if "pretended" not in slurm.gpu_models():
        return "no cluster with pretended GPUs: tests/cluster/host/start.sh starts one"
    unbuilt = [name for name in IMAGES if not Path(images.location(name, {})).exists()]
    return f"no image of {' and '.join(unbuilt)}: `make images` builds them" if unbuilt else ""


@pytest.fixture(scope="session", autouse=True)
def _prepared_host() -> None:
    lacking = _lacking()
    if lacking:
        pytest.skip(lacking)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny experiment with the images that are built, and the profile as a site edits it."""
    project = Project.tiny(tmp_path_factory.mktemp("cluster") / "project")
    project.replace(PROFILE, "&training {cpus_per_task: 8}", "&training {cpus_per_task: 1, gpu_model: pretended}")
    for rules in ("&searching", "fetch_dataset:"):
        project.replace(PROFILE, f"{rules} {{cpus_per_task: 8}}", f"{rules} {{cpus_per_task: 1}}")
    for name in IMAGES:
        (project.path / f"containers/{name}.sif").symlink_to(images.location(name, {}))
    return project


@pytest.fixture
def submission(project: Project) -> Submission:
    return Submission(project)


@pytest.fixture(autouse=True)
def _no_job_is_left(project: Project) -> object:
    yield
    for number, *_ in jobs_of(project.path, "PENDING", "RUNNING"):
        subprocess.run(["scancel", number], check=False)

"""Jobs that are preempted, run out of time or memory, or lose their controller end as if nothing had happened."""

import csv
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.cluster.submission import Submission, scontrol, until
from tests.project import TINY, Project

EPOCHS = 1600
"""Long enough to be interrupted: progress is told ten seconds in, and SLURM looks twice a minute for who is late."""

ENCODERS = ("unbroken", "preempted", "timed_out", "orphaned")


def weights(encoder: str) -> str:
    return f"results/encoders/{encoder}/weights.safetensors"


@pytest.fixture(scope="module")
def unbroken(project: Project) -> Path:
    """Encoders that differ in nothing but their names, and the weights of the one that nothing interrupts.

    Packing the images fails for lack of memory at the first attempt.
    """
    training = {**TINY["encoders"]["supervised"], "epochs": EPOCHS}
    untaught = {name: value for name, value in TINY.items() if name not in ("students", "cluster_pictures")}
    project.write_config({**untaught, "encoders": dict.fromkeys(ENCODERS, training)})
    project.replace("workflow/rules/datasets.smk", "mem_mb=scaled(8000)", "mem_mb=scaled(1500)")
    project.replace(
        "stages/fetch_dataset.py",
        'if __name__ == "__main__":\n',
        'if __name__ == "__main__":\n    import time\n\n    ballast = b"x" * 1_600_000_000\n    time.sleep(10)\n',
    )
    Submission(project).run(weights("unbroken"))
    return project.path / weights("unbroken")


def assert_same_as(unbroken: Path, encoder: str) -> None:
    """It went on where it was interrupted, each epoch is there once, and the weights are those of ``unbroken``."""
    folder = unbroken.parents[1] / encoder
    assert "going on at step" in (unbroken.parents[3] / f"logs/pretrain/{encoder}.log").read_text()
    rows = list(csv.DictReader((folder / "history.csv").open()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, EPOCHS + 1))
    found, expected = load_file(folder / "weights.safetensors"), load_file(unbroken)
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)


def test_a_job_that_lacked_memory_passes_with_more(unbroken: Path) -> None:
    said = (unbroken.parents[3] / "submission.log").read_text()
    assert said.count("Error in rule fetch_dataset") == 1
    assert "mem_mb=1500," in said
    assert "mem_mb=3000," in said
    assert unbroken.exists()


def test_a_preempted_training_is_queued_again_and_goes_on_as_it_was_submitted(
    unbroken: Path, submission: Submission, project: Project
) -> None:
    """Although its config is edited meanwhile."""
    submission.start(weights("preempted"))
    submission.until_trained_a_while("preempted")
    project.replace("config.yaml", "batch_size: 64", "batch_size: 32")
    scontrol("requeue", submission.job("preempted"))
    assert "Error in rule" not in submission.finish(), "SLURM alone has started it again"
    project.replace("config.yaml", "batch_size: 32", "batch_size: 64")
    assert_same_as(unbroken, "preempted")


def test_a_training_that_runs_out_of_time_goes_on_in_another_job(unbroken: Path, submission: Submission) -> None:
    submission.start(weights("timed_out"))
    submission.until_trained_a_while("timed_out")
    first = submission.job("timed_out")
    end = datetime.now() + timedelta(seconds=1)
    scontrol("update", f"JobId={first}", f"EndTime={end:%Y-%m-%dT%H:%M:%S}")
    said = submission.finish()
    assert submission.jobs("TIMEOUT")["timed_out"] == first
    assert "runtime=1440," in said
    assert "runtime=2880," in said
    assert_same_as(unbroken, "timed_out")


def test_after_a_killed_controller_snakemake_goes_on(unbroken: Path, submission: Submission) -> None:
    submission.start(weights("orphaned"))
    submission.until_trained_a_while("orphaned")
    number = submission.job("orphaned")
    submission.kill()
    assert submission.jobs("RUNNING")["orphaned"] == number, "the job has outlived its controller"
    subprocess.run(["scancel", number], check=True)
    until(lambda: "orphaned" in submission.jobs("CANCELLED"), "end of the orphaned job")
    submission.run("--unlock")
    submission.run(weights("orphaned"))
    assert_same_as(unbroken, "orphaned")

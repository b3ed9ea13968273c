"""Snakemake with the slurm profile, run beside the test that watches and disturbs its jobs."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.project import Project

PROFILE = "workflow/profiles/slurm/config.yaml"

PATIENCE = 900
"""Seconds to wait for anything; a host that is busy is slow."""

OPTIONS = (
    "--nocolor",
    "--profile=workflow/profiles/slurm",
    # There is no database of jobs, and they are short.
    "--slurm-status-command=squeue",
    "--slurm-init-seconds-before-status-checks=2",
    "--seconds-between-status-checks=2",
)


class Submission:
    """A run of Snakemake in a project, its output in ``submission.log``."""

    def __init__(self, project: Project) -> None:
        self.folder = project.path
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        """Start Snakemake, as a user would on a login node."""
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        command = [sys.executable, "-m", "snakemake", *OPTIONS, *arguments]
        with (self.folder / "submission.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def finish(self) -> str:
        """Wait for its end, which has to be a good one; what it said."""
        assert self.process is not None
        status = self.process.wait(PATIENCE)
        assert status == 0, self.said()
        return self.said()

    def run(self, *arguments: str) -> str:
        self.start(*arguments)
        return self.finish()

    def kill(self) -> None:
        """Kill Snakemake alone; its jobs stay where they are."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        return (self.folder / "submission.log").read_text()

    def job(self, wildcards: str) -> str:
        """The number of the running job with these wildcards."""
        return until(lambda: self.jobs("RUNNING").get(wildcards), f"a running job of {wildcards}")

    def jobs(self, *states: str) -> dict[str, str]:
        """The numbers of this project's jobs in these states, by the wildcards that Snakemake comments them with."""
        return {wildcards: number for number, _, wildcards in jobs_of(self.folder, *states)}

    def until_trained_a_while(self, encoder: str) -> None:
        """Wait until an encoder's job says how far it is, which has to be far from its end."""
        log = self.folder / f"logs/pretrain/{encoder}.log"
        pattern = re.compile(r"(\d+) of (\d+) steps, ")
        done, of = until(lambda: log.exists() and pattern.search(log.read_text()), f"progress in {log}").groups()
        assert int(done) < int(of) / 2, "the training is too short to be disturbed"


def until(found: Callable[[], Any], what: str) -> Any:
    """Wait for something to be found, and return it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.5)
    raise TimeoutError(f"no {what} in {PATIENCE} s")


def jobs_of(folder: Path, *states: str) -> list[tuple[str, str, str]]:
    """SLURM's jobs of a project in these states, or in all: number, how many nodes, and wildcards."""
    command = ["squeue", "--noheader", "--states", ",".join(states or ("all",)), "--format", "%i %D %k %Z"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = [line.split(maxsplit=3) for line in lines]
    return [
        (number, nodes, comment.partition("_wildcards_")[2])
        for number, nodes, comment, where in found
        if Path(where) == folder
    ]


def scontrol(*arguments: str) -> None:
    subprocess.run(["scontrol", *arguments], check=True)

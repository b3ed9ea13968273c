"""Time how long it takes to decide what to run, of an experiment of many jobs: nothing done yet, and all of it done.

    python -m benchmarks.dag
    python -m benchmarks.dag --jobs 1000
    python -m benchmarks.dag --configfile workflow/configs/compress.yaml

Without a config of its own, the experiment is one teacher on the digits and as many students as it takes, ten jobs
each: distilled, embedded, searched, clustered, probed. That all is done is pretended: its files are there, empty, and
`snakemake --touch` records them as made by the present code. Times are those of the processor, so that what else runs
on the machine counts less.
"""

import argparse
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.rows import machine

ROOT = Path(__file__).resolve().parents[1]

JOBS_PER_STUDENT = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000, help="how many, to the next student (default: 10000)")
    parser.add_argument("--configfile", type=Path, help="an experiment to take instead")
    arguments = parser.parse_args()
    print(machine())
    made = yaml.safe_dump(experiment(arguments.jobs // JOBS_PER_STUDENT))
    for state, jobs, seconds in decisions(arguments.configfile.read_text() if arguments.configfile else made):
        print(f"{state}: {jobs:,} jobs to run, decided in {seconds:.1f} s")


def decisions(config: str) -> Iterator[tuple[str, int, float]]:
    """Of an experiment of which nothing, then all is done: which of these, the jobs to run, and the seconds it took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "workflow").symlink_to(ROOT / "workflow")
        (folder / "config.yaml").write_text(config)
        seconds, output = snakemake(folder, "--dry-run")
        yield "nothing done", len(rules(output)), seconds
        for path in outputs(output):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).touch()
        snakemake(folder, "--touch", "--cores", "1")
        seconds, output = snakemake(folder, "--dry-run")
        yield "all done", len(rules(output)), seconds


def experiment(students: int) -> dict[str, Any]:
    """The config of an experiment with so many students of one teacher, by as many seeds."""
    group = {"teachers": ["teacher"], "dataset": "digits", "architectures": ["resnet18_x0.5"]}
    return {
        "datasets": {"digits": {"source": "digits", "size": 32, "augmentation": "affine-elastic"}},
        "encoders": {"teacher": {"pretrain": "simclr", "architecture": "resnet18", "dataset": "digits"}},
        "students": [{**group, "methods": ["compress-1q"], "seeds": list(range(students))}],
        "evaluations": {
            "linear": {"views": "cached"},
            "knn": {},
            "nn20": {"evaluation": "knn", "k": 20},
            "few": {"evaluation": "knn", "labels": 10},
            "retrieval": {},
            "cost": {},
            "cluster-alignment": {},
        },
    }


def snakemake(folder: Path, *arguments: str) -> tuple[float, str]:
    """The seconds of the processor that Snakemake takes in ``folder``, and what it prints."""
    command = [sys.executable, "-m", "snakemake", "--nocolor", *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def rules(output: str) -> list[str]:
    """The rules of the jobs that a dry run shows."""
    return re.findall(r"^(?:local)?rule (\w+):$", output, flags=re.MULTILINE)


def outputs(output: str) -> Iterator[str]:
    """The files that the jobs would make that a dry run shows."""
    for line in re.findall(r"^    output: (.*)$", output, flags=re.MULTILINE):
        yield from line.split(", ")


if __name__ == "__main__":
    main()

"""Run all benchmarks, on the CPU and, where there is one, on the GPU; print one table, and keep it.

    python -m benchmarks.table
    python -m benchmarks.table --check

With ``--check`` the exit status says whether a ratio of plain to ours is below its floor, which its benchmark states,
or by more than 20% below what is kept of this machine in benchmarks/results/.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.rows import Row, machine, print_rows, read_rows, write_rows

ON_CPU = (
    "similarity_loss",
    "loading",
    "training_step",
    "embedding",
    "knn",
    "kmeans",
    "cluster_alignment",
    "linear_probe",
    "memory",
    "start_up",
)
ON_GPU = ("similarity_loss", "training_step", "embedding", "knn", "kmeans", "linear_probe")
RESULTS = Path(__file__).parent / "results"
KEPT = 0.8
"""The share of a ratio measured before that it may fall to."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail where a ratio has fallen; write nothing")
    arguments = parser.parse_args()
    rows = [row for name in ON_CPU for row in rows_of(name, "")] + gpu_rows()
    print(f"\n{machine()}\n")
    print_rows(rows)
    file = RESULTS / f"{re.sub('[^a-z0-9]+', '-', machine().lower()).strip('-')}.json"
    if not arguments.check:
        RESULTS.mkdir(exist_ok=True)
        write_rows(rows, file, ["make", "bench"])
        return
    slow = fallen(rows, read_rows(file) if file.exists() else [])
    print("\n".join(slow), file=sys.stderr)
    sys.exit(bool(slow))


def gpu_rows() -> list[Row]:
    import torch

    if torch.cuda.is_available():
        return [row for name in ON_GPU for row in rows_of(name, os.environ.get("CUDA_VISIBLE_DEVICES"))]
    return [Row(f"{name} on a GPU".replace("_", " ")) for name in ON_GPU]


def rows_of(benchmark: str, gpus: str | None) -> list[Row]:
    """The rows of a benchmark, which runs in a process of its own that sees the ``gpus``; None: all there are."""
    environment = dict(os.environ)
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpus
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, "-m", f"benchmarks.{benchmark}", "--json", str(path)]
        subprocess.run(command, check=True, env=environment)
        return read_rows(path)


def fallen(rows: list[Row], before: list[Row]) -> list[str]:
    """A line for each row whose ratio is too low."""
    kept = {row.what: KEPT * row.ratio for row in before if row.ratio is not None}
    lines = []
    for row in rows:
        least = max(row.floor or 0, kept.get(row.what, 0))
        if row.ratio is not None and row.ratio < least:
            lines.append(f"{row.what}: ratio {row.ratio:.2f}, expected {least:.2f} or more")
    return lines


if __name__ == "__main__":
    main()

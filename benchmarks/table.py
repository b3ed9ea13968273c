"""Run all benchmarks and print one table; its rows are also kept, a file a kind of machine.

    python -m benchmarks.table
    python -m benchmarks.table --check

With ``--check`` the exit status says whether every ratio is at least its floor, as its benchmark states it.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BENCHMARKS = ("similarity_loss", "loading", "training_step", "embedding", "cluster_alignment", "knn")
RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail where a ratio is under its floor; write nothing")
    arguments = parser.parse_args()
    rows = [each for name in BENCHMARKS for each in rows_of(name)]
    print(f"\n{machine()}\n")
    print_table(rows)
    if not arguments.check:
        RESULTS.mkdir(exist_ok=True)
        write_rows(rows, RESULTS / f"{re.sub('[^a-z0-9]+', '-', machine().lower())}.json")
        return
    slow = [each for each in rows if each["floor"] is not None and each["ratio"] < each["floor"]]
    for each in slow:
        print(f"{each['what']}: ratio {each['ratio']:.2f}, expected {each['floor']:g} or more", file=sys.stderr)
    sys.exit(bool(slow))


def rows_of(benchmark: str) -> list[Row]:
    """The rows of a benchmark, which runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        subprocess.run([sys.executable, "-m", f"benchmarks.{benchmark}", "--json", str(path)], check=True)
        rows: list[Row] = json.loads(path.read_text())
        return rows


def machine() -> str:
    """The kind of machine: its GPU, or its processor's architecture and cores."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPU cores"


def row(what: str, plain: float | None, ours: float, *, floor: float | None = None, limit: float | None = None) -> Row:
    """One line of the table: what was measured with its unit, the plain way, ours, and the least there can be.

    ``floor`` is the least ratio of plain to ours that the check lets pass.
    """
    ratio = None if plain is None else plain / max(ours, 1e-9)
    share = None if limit is None else limit / ours
    return {"what": what, "plain": plain, "ours": ours, "ratio": ratio, "floor": floor, "limit": limit, "share": share}


def print_table(rows: Sequence[Row]) -> None:
    """Print ``rows`` with the ratio of plain to ours, and which share of our time the limit is."""
    print(f"{'what':60} {'plain':>10} {'ours':>10} {'ratio':>7} {'limit':>10} {'of limit':>9}")
    for each in rows:
        plain, ours, limit = (text(each[key], "10.3f") for key in ("plain", "ours", "limit"))
        print(f"{each['what']:60} {plain} {ours} {text(each['ratio'], '7.2f')} {limit} {text(each['share'], '9.0%')}")


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What ``work`` returns, and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def text(value: float | None, form: str) -> str:
    """``value`` in the form, or a dash of the same width."""
    return f"{'-':>{form.split('.')[0]}}" if value is None else format(value, form)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    path.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

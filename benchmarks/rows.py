"""What a benchmark measures: its rows, how they are printed, and how they are kept."""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "triton", "faiss-gpu", "numpy", "pillow", "h5py", "snakemake")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: ``what`` was measured, with its unit, and what was found in each of several turns.

    ``plain`` is the usual way to do the same, and ``limit`` the least there can be; the turns of all three are taken
    side by side. ``floor`` is the least ratio, plain to ours, that `make bench-check` lets pass. Without turns it has
    not been measured.
    """

    what: str
    ours: Sequence[float] = ()
    plain: Sequence[float] = ()
    limit: Sequence[float] = ()
    floor: float | None = None

    @property
    def ratios(self) -> list[float]:
        """Plain to ours, in each turn."""
        return [plain / ours for plain, ours in zip(self.plain, self.ours, strict=False)]

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def share(self) -> float | None:
        """Which share of our time the limit is."""
        shares = [limit / ours for limit, ours in zip(self.limit, self.ours, strict=False)]
        return statistics.median(shares) if shares else None

    def line(self) -> str:
        if not self.ours:
            return f"{self.what:58} not measured"
        medians = (f"{statistics.median(each):10.3f}" if each else " " * 10 for each in (self.plain, self.ours))
        ratio = f"{self.ratio:6.2f} ({min(self.ratios):.2f} to {max(self.ratios):.2f})" if self.ratios else ""
        limit = f"{statistics.median(self.limit):10.3f} {self.share:8.0%}" if self.limit else ""
        return f"{self.what:58} {' '.join(medians)} {ratio:22} {limit}".rstrip()


def print_rows(rows: Sequence[Row]) -> None:
    """Print medians, the ratio of plain to ours with its least and most, and which share of our time the limit is."""
    print(f"{'what':58} {'plain':>10} {'ours':>10} {'ratio':>6} {'':15} {'limit':>10} {'of limit':>8}")
    for row in rows:
        print(row.line())


def parser_of(docstring: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the benchmark's own docstring, for `report`."""
    parser = argparse.ArgumentParser(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    return parser


def report(rows: Sequence[Row], arguments: argparse.Namespace) -> None:
    """Print the rows of a benchmark and, if asked to, write them."""
    print_rows(rows)
    if arguments.json:
        write_rows(rows, arguments.json, sys.argv)


def write_rows(rows: Sequence[Row], path: Path, command: Sequence[str]) -> None:
    """Write the rows, all turns of each, with the command, the machine and the versions that they are of."""
    facts = {"command": " ".join(command), "machine": machine(), "versions": versions()}
    measured = [{**dataclasses.asdict(row), "ratio": row.ratio, "share": row.share} for row in rows]
    path.write_text(json.dumps({**facts, "rows": measured}, indent=2) + "\n")


def read_rows(path: Path) -> list[Row]:
    names = [field.name for field in dataclasses.fields(Row)]
    return [Row(**{name: row[name] for name in names}) for row in json.loads(path.read_text())["rows"]]


def machine() -> str:
    """The machine by its GPU, or by its processor and cores."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {cores()} cores"


def on_gpu() -> str:
    """What the rows of a GPU have in their names, to be told from those of a CPU."""
    import torch

    return " on the GPU" if torch.cuda.is_available() else ""


def cores() -> int:
    return len(os.sched_getaffinity(0))


def versions() -> Mapping[str, str]:
    installed = {each.metadata["Name"].lower(): each.version for each in metadata.distributions()}
    found = {name: installed[name] for name in PACKAGES if name in installed}
    return {"python": platform.python_version(), **found}


def timed(work: Callable[[], Any]) -> float:
    """The seconds that ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(turns: int, *works: Callable[[], float]) -> list[list[float]]:
    """What each of ``works`` returns, once in each of the turns, so that what else the machine does hits all alike."""
    taken = [[work() for work in works] for _ in range(turns)]
    return [list(each) for each in zip(*taken, strict=True)]

"""Time and extra memory of the similarity loss with its gradient, side by side with the plain formulation.

    python -m benchmarks.similarity_loss
    python -m benchmarks.similarity_loss --student 2048 --teacher 2048

Plain is the published form: the memory banks are copied, and the similarities, their softmaxes and their gradient are
[B, K] matrices. The limit is the matrix products that no form can do without, both similarities and the student's
gradient, in the precision of the form. On a GPU that can, half precision is measured beside single.
"""

import argparse
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.rows import Row, in_turns, on_gpu, parser_of, report, timed
from stages.similarity.fused import BLOCK, half_precision_runs_on, similarity_kl
from stages.similarity.options import Precision

SPEED = {"ours": 1.0 if torch.cuda.is_available() else 1.3, "half": 5.0}
MEMORY = 10.0
"""The least ratios, plain to ours, that `make bench-check` lets pass. On a GPU, products alone are most of "ours"."""
TEMPERATURE = 0.04
Embeddings = tuple[Tensor, Tensor, Tensor, Tensor]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--batch", type=int, default=256, help="images (default: 256)")
    parser.add_argument("--anchors", type=int, default=128_000, help="(default: 128000)")
    parser.add_argument("--student", type=int, default=512, help="its dimension (default: 512)")
    parser.add_argument("--teacher", type=int, default=2048, help="its dimension (default: 2048)")
    parser.add_argument("--turns", type=int, default=7, help="of each (default: 7)")
    parser.add_argument("--memory-of", choices=STEPS, help="only print the extra memory of this form, in bytes")
    arguments = parser.parse_args()

    embeddings = embeddings_of(arguments)
    if arguments.memory_of:
        print(extra_memory(lambda: STEPS[arguments.memory_of](*embeddings)))
        return
    seconds = seconds_of(embeddings, arguments.turns)
    # A process each, because memory that was returned once comes back without the system noticing.
    extra = {form: [int(output_of([*sys.argv[1:], "--memory-of", form])) / 2**20] for form in forms()}
    rows = []
    for form, name in (("ours", "similarity loss"), ("half", "similarity loss in half precision")):
        if form in extra:
            rows += [
                Row(
                    f"{name}{on_gpu()}, s",
                    seconds[form],
                    seconds["plain"],
                    limit=seconds[f"limit of {form}"],
                    floor=SPEED[form],
                ),
                Row(f"{name}{on_gpu()}, extra MiB", extra[form], extra["plain"], floor=MEMORY),
            ]
    report(rows, arguments)


def embeddings_of(arguments: argparse.Namespace) -> Embeddings:
    """Random unit embeddings and anchors: student, its anchors, teacher, its anchors."""
    torch.manual_seed(0)
    sizes = [
        (rows, at) for at in (arguments.student, arguments.teacher) for rows in (arguments.batch, arguments.anchors)
    ]
    student, near, teacher, far = (F.normalize(torch.randn(*size, device=DEVICE)) for size in sizes)
    return student.requires_grad_(), near, teacher, far


def plain(student: Tensor, near: Tensor, teacher: Tensor, far: Tensor) -> None:
    """The published form."""
    logits = student @ near.clone().T / TEMPERATURE
    goals = teacher @ far.clone().T / TEMPERATURE
    targets = F.softmax(goals, dim=1)
    loss = F.kl_div(F.log_softmax(logits, dim=1), targets, reduction="batchmean")
    torch.autograd.grad(loss, student)


def ours(student: Tensor, near: Tensor, teacher: Tensor, far: Tensor, precision: Precision = "single") -> None:
    loss = similarity_kl(student, near, teacher, far, (TEMPERATURE, TEMPERATURE), precision=precision)
    torch.autograd.grad(loss, student)


STEPS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], None]] = {
    "plain": plain,
    "ours": ours,
    "half": functools.partial(ours, precision="half"),
}


def forms() -> list[str]:
    """The forms that the device can run."""
    return [form for form in STEPS if form != "half" or half_precision_runs_on(torch.device(DEVICE))]


def products(student: Tensor, near: Tensor, teacher: Tensor, far: Tensor) -> None:
    """The matrix products alone: on a CPU in blocks that stay in its cache."""
    block = len(near) if near.is_cuda else BLOCK
    for ours, theirs in zip(near.split(block), far.split(block), strict=True):
        logits = student @ ours.T
        teacher @ theirs.T
        logits @ ours


def seconds_of(embeddings: Embeddings, turns: int) -> dict[str, list[float]]:
    """The seconds of each form and limit, in each turn."""
    works: dict[str, Callable[[], None]] = {form: functools.partial(STEPS[form], *embeddings) for form in forms()}
    works["limit of ours"] = functools.partial(products, *(each.detach() for each in embeddings))
    if "half" in works:
        works["limit of half"] = functools.partial(products, *(each.detach().half() for each in embeddings))
    for work in works.values():
        work()  # to warm up
    timers = [functools.partial(seconds_to_the_end, work) for work in works.values()]
    return dict(zip(works, in_turns(turns, *timers), strict=True))


def seconds_to_the_end(work: Callable[[], None]) -> float:
    """The seconds that ``work`` takes, to its end on the device."""

    def whole() -> None:
        work()
        wait()

    wait()
    return timed(whole)


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def extra_memory(work: Callable[[], None]) -> int:
    """By how many bytes the memory in use rises while ``work`` runs: the device's, or the process's resident set."""
    if DEVICE == "cuda":
        work()  # compiled, and with the libraries' workspaces there
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return max(1, torch.cuda.max_memory_allocated() - before)
    small = torch.randn(64, 64, requires_grad=True)
    torch.autograd.grad((small @ small).sum(), small)  # threads and libraries
    before = resident()
    highest, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            highest.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return max(1, max(highest) - before)  # for a ratio


def resident() -> int:
    """Bytes of this process in memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def output_of(argv: list[str]) -> str:
    """What this program prints with other arguments, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.similarity_loss", *argv]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()

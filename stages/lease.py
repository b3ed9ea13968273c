"""Start a program with GPUs of its own, on a machine whose GPUs several jobs share.

    DISTILLERY_GPUS=0,1,2,3 python -m stages.lease 2 python -m stages.training.launch 2 stages.distill ...

Of the GPUs in ``DISTILLERY_GPUS`` the program sees two that no other lease of this user holds, for which it waits. It
holds them by locks on files, which end with its last process, however that ends. Without the variable it sees what is
there: SLURM gives each job its own, and a machine may have none. Of no GPUs (``lease 0``) it sees none.
"""

import fcntl
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

LOCKS = Path("/tmp")
"""Containers see the same one as their host."""

SECONDS_BETWEEN_LOOKS = 0.5


def main() -> None:
    number, program = int(sys.argv[1]), sys.argv[2:]
    if (visible := leased(number, os.environ)) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible)
    os.execvp(program[0], program)


def leased(number: int, environment: Mapping[str, str]) -> list[str] | None:
    """The GPUs that this process and those it becomes or starts now hold; None, where they need not be told apart."""
    if not number:
        return []
    if not (shared := environment.get("DISTILLERY_GPUS")):
        return None
    gpus = shared.split(",")
    folder = LOCKS / f"distillery-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # One lease after the other, so that no two wait for each other's GPUs.
    turn = os.open(folder / "turn", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(turn, fcntl.LOCK_EX)
    held = _wait_for(min(number, len(gpus)), gpus, folder)
    os.close(turn)
    return held


def _wait_for(number: int, gpus: Iterable[str], folder: Path) -> list[str]:
    held: list[str] = []
    while True:
        for gpu in gpus:
            if gpu not in held and _is_locked_by_us(folder / gpu):
                held.append(gpu)
            if len(held) == number:
                return held
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _is_locked_by_us(path: Path) -> bool:
    """Take the lock, if nobody has it, for as long as this process and its children live."""
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    os.set_inheritable(file, True)
    return True


if __name__ == "__main__":
    main()

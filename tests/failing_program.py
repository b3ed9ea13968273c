"""Processes that meet, or of which the second fails on its way: python -m tests.failing_program [fail].

Each says when it takes its part of the group apart.
"""

import signal
import sys
from collections.abc import Sequence

from torch import distributed

from stages import processes
from stages.command_line import run
from stages.training.failure import first_to_fail

take_apart = distributed.destroy_process_group


def say_and_take_apart() -> None:
    print("taking the group apart", file=sys.stderr)
    take_apart()


def main(argv: Sequence[str] | None) -> None:
    # As in training: when one has failed, torchrun asks the others to terminate.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    distributed.destroy_process_group = say_and_take_apart
    processes.start()
    if "fail" in sys.argv and processes.rank() == 1:
        raise KeyError("a bug")
    processes.wait_for_all()


if __name__ == "__main__":
    run(main, first_to_fail)

"""Start a training in several processes, one a GPU of this machine: by torchrun, with errors left readable.

    python -m stages.training.launch 4 stages.distill --method compress-2q ...

For one process, or none, it is ``python -m stages.distill ...``. The exit status is that of the first to fail; on
SIGTERM and SIGINT, which are passed on, 128 and the signal's number, as of a single process.
"""

import os
import sys
import tempfile
from pathlib import Path

SECONDS_TO_SAVE = 300
"""How long processes that were asked to terminate may take before they are killed: a step, and a checkpoint."""


def main() -> None:
    number, module, *arguments = sys.argv[1:]
    if int(number) <= 1:
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments])

    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    settings = ["--standalone", "--nproc-per-node", number, "--shutdown-timeout", str(SECONDS_TO_SAVE)]
    with tempfile.TemporaryDirectory() as folder:
        # By this file the processes know which of them was the first to fail (`stages.command_line.run`).
        os.environ["DISTILLERY_FAILED"] = str(Path(folder) / "failed")
        # torchrun ends in a page of traceback of its own, below the line that says what went wrong.
        try:
            run.main([*settings, "-m", module, *arguments])
        except ChildFailedError as error:
            status = error.get_first_failure()[1].exitcode
            sys.exit(status if status > 0 else 128 - status)
        except SignalException as error:
            sys.exit(128 + error.sigval)


if __name__ == "__main__":
    main()

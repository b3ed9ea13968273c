"""Start a training in several processes, one a GPU: by torchrun, with errors left readable.

    python -m stages.training.launch 4 stages.distill --method compress-2q ...

For one process, or none, it is ``python -m stages.distill ...``. The exit status is that of the first to fail; on
SIGTERM and SIGINT, which are passed on, 128 and the signal's number, as of a single process.

Over several machines it is started once on each, with the number of processes on all of them together. How many
machines there are, and where and how they meet, is in torchrun's own variables: ``PET_NNODES``, ``PET_RDZV_BACKEND``,
``PET_RDZV_ENDPOINT``, ``PET_RDZV_ID``.
"""

import os
import sys
from tempfile import TemporaryDirectory

SECONDS_TO_SAVE = 300
"""How long processes that were asked to terminate may take before they are killed: a step, and a checkpoint."""


def main() -> None:
    number, module, *arguments = sys.argv[1:]
    machines = int(os.environ.get("PET_NNODES", "1"))
    if machines == 1 and int(number) <= 1:
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments])

    # Where one machine's processes fail, torchrun warns on the others of every connection that it loses.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    settings = ["--nproc-per-node", str(max(1, int(number) // machines)), "--shutdown-timeout", str(SECONDS_TO_SAVE)]
    if machines == 1:
        settings += ["--standalone"]
    # torchrun makes folders for logs, also where there are none, and leaves them. And it ends in a page of traceback of
    # its own, below the line that says what went wrong.
    with TemporaryDirectory(prefix="torchrun-") as logs:
        try:
            run.main([*settings, "--log-dir", logs, "-m", module, *arguments])
        except ChildFailedError as error:
            status = error.get_first_failure()[1].exitcode
            sys.exit(status if status > 0 else 128 - status)
        except SignalException as error:
            sys.exit(128 + error.sigval)
        except RendezvousError:
            sys.exit(f"error: another machine has left, or does not meet this one at {os.environ['PET_RDZV_ENDPOINT']}")


if __name__ == "__main__":
    main()

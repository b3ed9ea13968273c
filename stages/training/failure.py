"""Which of the processes of one training says why it has failed, and how all of them leave then."""

import atexit
import os
from datetime import timedelta


def first_to_fail() -> bool:
    """Whether no other of the processes that torchrun has started, on this machine or another, has asked this before.

    They are told apart by the store that torchrun keeps for them. Where it cannot be reached, torchrun has ended on the
    machine that kept it, and so a process there has failed before.

    The process that asks ends, with status 1, before anything that was put off to its end: NCCL would take its part of
    the group apart only when the others had done theirs, and they wait for it in a step that it will not take.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return True

    atexit.register(os._exit, 1)

    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    address, port, patience = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timedelta(seconds=10)
    try:
        asked: int = TCPStore(address, port, is_master=False, timeout=patience).add("distillery/failed", 1)
    except RuntimeError:
        return False
    return asked == 1

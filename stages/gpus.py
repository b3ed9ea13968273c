"""Whether a stage computes on a GPU."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from stages.errors import UserError

if TYPE_CHECKING:
    import torch

DRIVER = Path("/proc/driver/nvidia/gpus")
"""A folder for each GPU that NVIDIA's driver runs, in containers as on their host."""


def device() -> "torch.device":
    """The GPU if there is one, else the CPU.

    Raises:
        UserError: as `usable`.
    """
    import torch

    return torch.device("cuda" if usable_by_pytorch() else "cpu")


def usable_by_pytorch() -> int:
    """How many GPUs PyTorch can use.

    Raises:
        UserError: as `usable`.
    """
    import torch

    # device_count alone asks the driver, which counts GPUs that it is too old to have this PyTorch use.
    return usable(torch.cuda.device_count() if torch.cuda.is_available() else 0, "PyTorch")


def send(rows: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """``rows`` on ``device``; to a GPU from page-locked memory, as copies from other memory wait for the GPU.

    PyTorch keeps such memory for the next rows, so that it costs a copy.
    """
    return (rows.pin_memory() if device.type == "cuda" else rows).to(device, non_blocking=True)


def usable(found: int, library: str) -> int:
    """How many GPUs there are, of which ``library`` has ``found`` so many.

    Raises:
        UserError: it has found none where there are some: on the CPU, the work of hours would take weeks, unsaid.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if not found and not hidden and DRIVER.is_dir() and any(DRIVER.iterdir()):
        raise UserError(
            f"this machine has an NVIDIA GPU that {library} cannot use; expected a driver as new as its CUDA, and of a "
            "container, that it was started with --nv; to compute on the CPU, set CUDA_VISIBLE_DEVICES="
        )
    return found

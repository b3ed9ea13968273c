"""Which GPUs a job sees on a machine that several share, and that one which cannot be used is said to be there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages import gpus, lease
from stages.errors import UserError

SHOW = "import os, sys; print(os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True); sys.stdin.read()"


def leasing(number: int, folder: Path, shared: str | None = "0,1,2") -> "subprocess.Popen[str]":
    """A program with a lease, which says what it sees and runs until it is told not to."""
    start = f"import pathlib; from stages import lease; lease.LOCKS = pathlib.Path({str(folder)!r}); lease.main()"
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return subprocess.Popen(
        [sys.executable, "-c", start, str(number), sys.executable, "-c", SHOW],
        env=environment | ({"DISTILLERY_GPUS": shared} if shared is not None else {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def seen(program: "subprocess.Popen[str]") -> list[str]:
    assert program.stdout
    return program.stdout.readline().strip().split(",")


class Rows:
    """Notes what is done with it."""

    def __init__(self, done: str = "") -> None:
        self.done = done

    def pin_memory(self) -> "Rows":
        return Rows(f"{self.done} pinned")

    def to(self, device: torch.device, *, non_blocking: bool) -> "Rows":
        return Rows(f"{self.done} to {device} {non_blocking}")


@pytest.mark.parametrize(("device", "done"), [("cuda", " pinned to cuda True"), ("cpu", " to cpu True")])
def test_a_gpu_is_sent_rows_from_page_locked_memory(device: str, done: str) -> None:
    assert gpus.send(Rows(), torch.device(device)).done == done  # type: ignore[arg-type, attr-defined]


def test_jobs_on_one_machine_see_different_gpus_and_wait_for_them(tmp_path: Path) -> None:
    first, second = leasing(2, tmp_path), leasing(1, tmp_path)
    held, other = seen(first), seen(second)
    assert sorted([*held, *other]) == ["0", "1", "2"]
    third = leasing(2, tmp_path)
    # Killed, as for lack of memory, it holds nothing any more; one that ends lets go as well.
    first.send_signal(signal.SIGKILL)
    assert sorted(seen(third)) == sorted(held)
    fourth = leasing(3, tmp_path)
    for program in (second, third):
        program.communicate()
    assert seen(fourth) == ["0", "1", "2"]
    fourth.communicate()
    first.communicate()
    assert [program.returncode for program in (second, third, fourth)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("number", "shared", "expected"), [(1, None, "None"), (0, None, ""), (0, "0,1,2", ""), (4, "0,7", "0,7")]
)
def test_without_shared_gpus_a_job_sees_what_is_there_and_without_need_of_any_none(
    number: int, shared: str | None, expected: str, tmp_path: Path
) -> None:
    program = leasing(number, tmp_path, shared)
    assert seen(program) == expected.split(",")
    program.communicate()


def test_a_child_keeps_the_lease_of_a_job_that_died(tmp_path: Path) -> None:
    """As processes that torchrun has started, which compute on the GPU until they find that it has gone."""
    fork = "import os, sys; os.fork() and os._exit(0); sys.stdin.read()"
    start = f"import pathlib; from stages import lease; lease.LOCKS = pathlib.Path({str(tmp_path)!r}); lease.main()"
    with subprocess.Popen(
        [sys.executable, "-c", start, "1", sys.executable, "-c", fork],
        env=os.environ | {"DISTILLERY_GPUS": "0"},
        stdin=subprocess.PIPE,
    ) as parent:
        parent.wait()
        waiting = leasing(1, tmp_path, "0")
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(3 * lease.SECONDS_BETWEEN_LOOKS)
    assert seen(waiting) == ["0"]
    waiting.communicate()


def test_a_gpu_that_cannot_be_used_is_an_error_and_not_a_slow_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0000:01:00.0").mkdir()
    monkeypatch.setattr(gpus, "DRIVER", tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UserError, match=r"an NVIDIA GPU that PyTorch cannot use; expected .* --nv"):
        gpus.device()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus.device() == torch.device("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="expected a driver as new as its CUDA"):  # The driver counts the GPU.
        gpus.device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpus.device() == torch.device("cuda")

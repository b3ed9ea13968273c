"""What the tests share: small files made for real, and stages run as the programs they are."""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

from stages import architectures, fetch_dataset, search
from stages.artifacts import embeddings
from stages.artifacts.embeddings import writing_embeddings
from stages.artifacts.weights import EncoderCard, InputContract, save_weights

ROOT = Path(__file__).parents[1]

# Without a GPU, kernels run in Triton's interpreter; it has to know before anything imports it.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
torch.set_num_threads(1)
# What is computed on a GPU is compared with what is on the CPU: convolutions by TF32 differ in the third digit.
torch.backends.cudnn.allow_tf32 = False
# How long an example takes is the machine's affair.
settings.register_profile("untimed", settings.get_profile(settings.get_current_profile_name()), deadline=None)
settings.load_profile("untimed")


def photographs(name: str) -> Path:
    """A folder of real images, where the small experiments have them; without it the test is skipped."""
    folder = ROOT / "data/small" / name
    if not folder.is_dir():
        pytest.skip(f"data/small has no {name}: docs/datasets.md says where it is from")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a real file system of that many kilobytes."""
    if os.geteuid():
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kilobytes: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting a small file system is not allowed here: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True)


def card(**changes: Any) -> EncoderCard:
    """An encoder card with everything in it."""
    origin = {"way": "pretrain", "method": "untrained", "dataset": "toy", "seed": 0}
    fields = {"name": "toy", "architecture": "resnet18_x0.125", "dimension": 64, "contract": InputContract(32)}
    return EncoderCard(**{**fields, "origin": origin, **changes})


@pytest.fixture
def make_embeddings(tmp_path: Path) -> Callable[..., Path]:
    """Writes an embeddings file of ``vectors`` and ``labels``; every other fact has a default to change."""

    def make(
        split: str, vectors: NDArray[Any], labels: NDArray[Any], *, path: Path | None = None, **facts: Any
    ) -> Path:
        path = path or tmp_path / f"{split}.h5"
        vectors, labels = np.asarray(vectors), np.asarray(labels, dtype=np.int64 if np.ndim(labels) == 1 else np.int8)
        known = {
            "classes": tuple(f"class {label}" for label in range(int(labels.max()) + 1)),
            "card": card(dimension=vectors.shape[1]),
            "weights": "sha-of-the-weights",
            "dataset": "toy",
            "dataset_fingerprint": "fingerprint-of-toy",
            "transform": "resize 256/224, centre crop at 32",
        }
        facts = {**known, **facts}
        with writing_embeddings(path, vectors.shape, str(vectors.dtype), labels=labels, split=split, **facts) as write:
            write(0, vectors)
        return path

    return make


@pytest.fixture
def one_hot_pair(make_embeddings: Callable[..., Path]) -> tuple[Path, Path]:
    """Perfect embeddings, train and val: ten classes, each its own unit vector, 8 and 3 images of each."""
    train, val = np.repeat(np.arange(10), 8), np.repeat(np.arange(10), 3)
    rows = np.eye(10, dtype=np.float32)
    return make_embeddings("train", rows[train], train), make_embeddings("val", rows[val], val)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The digits, packed: ``train`` and ``val`` paths. Read only; copy a file to damage it."""
    folder = tmp_path_factory.mktemp("digits")
    paths = SimpleNamespace(train=folder / "train.h5", val=folder / "val.h5")
    fetch_dataset.main(["--source", "digits", "--name", "digits", "--train", str(paths.train), "--val", str(paths.val)])
    return paths


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a small encoder whose batch norms have statistics of their own."""
    torch.manual_seed(0)
    encoder = architectures.build("resnet18_x0.125", InputContract(32))
    with torch.no_grad():
        for _ in range(3):
            encoder(torch.rand(16, 3, 32, 32))
    path = tmp_path_factory.mktemp("encoder") / "weights.safetensors"
    save_weights(path, encoder.backbone.state_dict(), card())
    return path


def noted_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many vectors are taken from a cache at once, each time from now on."""
    unit_rows, counts = embeddings.unit_rows, []

    def noting(vectors: NDArray[Any], *arguments: Any, **options: Any) -> NDArray[Any]:
        counts.append(len(vectors))
        return unit_rows(vectors, *arguments, **options)

    monkeypatch.setattr(embeddings, "unit_rows", noting)
    return counts


def peak_bytes(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> int:
    """The most that Python and numpy allocate while ``work`` is done with small slices of caches; maps do not count."""
    monkeypatch.setattr(embeddings, "SLICE_BYTES", 2**16)
    monkeypatch.setattr(search, "GPU_SLICE_BYTES", 2**16)
    work()  # what it imports stays
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def program(stage: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m stages.<stage>`` from the repository's root; its status, stdout and stderr."""
    return subprocess.run(
        [sys.executable, "-m", f"stages.{stage}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *parts: object, folder: Path, before: set[Path]) -> None:
    """It ended with one clear line that has all ``parts``, and left ``folder`` as it was ``before``."""
    assert done.returncode == 1, done.stderr
    last = done.stderr.rstrip("\n").splitlines()[-1]
    assert last.startswith("error: "), done.stderr
    for part in parts:
        assert str(part) in last
    assert "Traceback" not in done.stderr
    assert set(folder.rglob("*")) == before


def flags(values: Mapping[str, object]) -> list[str]:
    """``{"train": path}`` to ``["--train", "path"]``, as ``main`` takes them."""
    return [part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", str(value))]

"""What the tests of public checkpoints and datasets share: files in every public layout, a server that can fail.

A test module takes the fixtures with ``pytest_plugins = ["tests.checkpoint_fixtures"]``. (PYTEST_DONT_REWRITE: test
modules import the helpers before pytest could rewrite this module.)
"""

import argparse
import contextlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages import downloads
from stages.artifacts.weights import load_weights

State = dict[str, Tensor]

HEAD = torch.ones(3, 64)

PROJECTORS = {
    "moco": nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)),
    "swav": nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval(),
}
"""What the backbones of these layouts were trained behind."""


@pytest.fixture
def backbone(weights: Path) -> State:
    """The tensors of a small ResNet whose batch norms have statistics of their own."""
    return load_weights(weights)[0]


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def public(layout: str, backbone: State) -> Any:
    """What a public file in this layout holds, with ``backbone`` as its backbone."""
    return {
        "moco": _moco,
        "swav": _swav,
        "simclr": lambda state: {"state_dict": {**state, "fc.weight": HEAD, "fc.bias": HEAD[:, 0]}},
        "vissl": _vissl,
        "dino": dict,
        "dino-training": _dino_training,
        "torchvision": lambda state: {**state, "fc.weight": HEAD, "fc.bias": HEAD[:, 0]},
        "timm": lambda state: {**state, "head.weight": HEAD, "head.bias": HEAD[:, 0]},
    }[layout](backbone)


LAYOUTS = ["moco", "swav", "simclr", "vissl", "dino", "dino-training", "torchvision", "timm"]


def _moco(backbone: State) -> Any:
    """As after an own training: released files have the encoder of queries only."""
    names = {f"fc.{name}": tensor for name, tensor in PROJECTORS["moco"].state_dict().items()}
    query = {f"module.encoder_q.{key}": tensor for key, tensor in {**backbone, **names}.items()}
    key = {f"module.encoder_k.{key}": tensor + 1 for key, tensor in {**backbone, **names}.items()}
    queue = {"module.queue": HEAD, "module.queue_ptr": torch.zeros(1)}
    return {"epoch": 800, "arch": "resnet50", "state_dict": {**query, **key, **queue}, "optimizer": {"state": {}}}


def _swav(backbone: State) -> Any:
    heads = {f"projection_head.{name}": tensor for name, tensor in PROJECTORS["swav"].state_dict().items()}
    heads["prototypes.weight"] = HEAD
    return {f"module.{key}": tensor for key, tensor in {**backbone, **heads}.items()}


def _vissl(backbone: State) -> Any:
    trunk = {f"_feature_blocks.{key}": tensor for key, tensor in backbone.items()}
    model = {"trunk": trunk, "heads": {"0.clf.0.weight": HEAD}}
    return {"phase_idx": 799, "classy_state_dict": {"base_model": {"model": model, "meters": []}, "train": True}}


def _dino_training(backbone: State) -> Any:
    heads = {"head.mlp.0.weight": HEAD, "head.last_layer.weight_v": HEAD}
    teacher = {**{f"backbone.{key}": tensor for key, tensor in backbone.items()}, **heads}
    student = {f"module.{key}": tensor + 1 for key, tensor in teacher.items()}
    return {"student": student, "teacher": teacher, "epoch": 100, "args": argparse.Namespace(arch="vit_small")}


class FileServer:
    """Files over HTTP on 127.0.0.1. ``faults`` are what happens to the next requests, one each, in order.

    ``stop``: the connection breaks after that many bytes; ``status``: that is the answer; ``shift``: the part that is
    sent begins that many bytes from the one that was asked for.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.versions = {"ETag": '"1"'}
        self.ranges = True
        self.lengths = True
        self.faults: list[tuple[str, int]] = []
        self.requests: list[tuple[str, str | None]] = []
        self.sent = 0
        self.address = ""

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"


@contextlib.contextmanager
def serving() -> Iterator[FileServer]:
    """A server, in a thread of its own."""
    files = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(files, self)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    files.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts to download, which are not made; no proxy is asked either."""
    made: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", made.append)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return made


@pytest.fixture
def server(pauses: list[float]) -> Iterator[FileServer]:
    with serving() as files:
        yield files


def answer(files: FileServer, request: BaseHTTPRequestHandler) -> None:
    path, wanted = request.path.lstrip("/"), request.headers.get("Range")
    files.requests.append((path, wanted))
    kind, value = files.faults.pop(0) if files.faults else ("stop", -1)
    if kind == "status":
        return request.send_error(value)
    if path not in files.files:
        return request.send_error(404)
    content = files.files[path]
    start = _start(files, wanted, request.headers.get("If-Range"))
    if start is not None and start >= len(content):
        request.send_response(416)
        request.send_header("Content-Range", f"bytes */{len(content)}")
        return request.end_headers()
    request.send_response(200 if start is None else 206)
    if start is not None:
        start += value if kind == "shift" else 0
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    part = content[start or 0 :]
    if files.lengths:
        request.send_header("Content-Length", str(len(part)))
    for name, version in files.versions.items():
        request.send_header(name, version)
    request.end_headers()
    sent = part[:value] if kind == "stop" and value >= 0 else part
    files.sent += len(sent)
    request.wfile.write(sent)
    return None


def _start(files: FileServer, wanted: str | None, version: str | None) -> int | None:
    """The first byte of the range that is asked for, None if the whole file is to be sent."""
    if wanted is None or not files.ranges or version not in (None, *files.versions.values()):
        return None
    match = re.fullmatch(r"bytes=(\d+)-", wanted)
    assert match is not None, wanted
    return int(match[1])

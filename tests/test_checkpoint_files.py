"""Another file in the place of a public checkpoint is told of: by itself it makes nothing run again."""

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest
from experiment import checkpoints
from experiment.encoders import Fetched
from experiment.errors import ConfigError

ENCODER = Fetched("teacher", "toy", "resnet18", "photos", "toy.pth", "{}", None, None)
WEIGHTS = Path("results/encoders/teacher/weights.safetensors")
FILE = Path("results/downloads/toy/toy.pth")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which the encoder was made of the file."""
    monkeypatch.chdir(tmp_path)
    for file, text in ((FILE, "as it was"), (WEIGHTS, "made of it")):
        file.parent.mkdir(parents=True)
        file.write_text(text)
    checkpoints.LOCK.write_text(f"{hashlib.sha256(b'as it was').hexdigest()}  toy/toy.pth\n")
    return tmp_path


def check(encoder: Fetched = ENCODER, **environment: str) -> None:
    checkpoints.refuse_replaced([encoder], environment)


def test_another_file_is_refused_until_its_encoder_is_to_be_made_again() -> None:
    check()
    os.utime(FILE, (1, 1))
    check()
    FILE.write_text("trained on")
    with pytest.raises(ConfigError, match=rf"^{FILE}: not the file that teacher was made of.* delete {WEIGHTS} and"):
        check()
    FILE.write_text("as it was")
    check()
    FILE.write_text("trained on")
    WEIGHTS.unlink()
    check()


def test_what_is_gone_or_is_still_to_be_fetched_is_no_other_file() -> None:
    (FILE.parent / "next.pth").write_text("the next one")
    check(dataclasses.replace(ENCODER, file="next.pth"))
    FILE.write_text("trained on")
    check(dataclasses.replace(ENCODER, name="not-yet"))
    FILE.unlink()
    check()
    checkpoints.LOCK.unlink()
    check()


def test_a_mirror_counts_where_there_is_no_download(folder: Path) -> None:
    mirror = folder / "mirror"
    (mirror / "toy").mkdir(parents=True)
    (mirror / "toy/toy.pth").write_text("another")
    check(DISTILLERY_MIRROR=str(mirror))
    FILE.unlink()
    check(DISTILLERY_MIRROR="https://mirror.example")
    with pytest.raises(ConfigError, match=r"mirror/toy/toy\.pth: not the file"):
        check(DISTILLERY_MIRROR=str(mirror))


def test_a_file_is_read_once() -> None:
    check()
    date = FILE.stat().st_mtime_ns
    FILE.write_text("it was as")
    os.utime(FILE, ns=(date, date))
    check()

"""The fingerprint of the user's own images: what is read counts, by its bytes."""

import os
from pathlib import Path

import pytest
from experiment import content


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for file in ("train/a/1.png", "val/a/2.png", "test/a/3.png", "list.txt"):
        (tmp_path / "photos" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / file).write_text(file)
    return tmp_path / "photos"


def fingerprint(*parts: str) -> str:
    """As a later run takes it."""
    content.fingerprint.cache_clear()
    return content.fingerprint("photos", parts)


def test_only_the_parts_that_are_read_count(folder: Path) -> None:
    before = fingerprint("train", "val", "list.txt")
    (folder / "test/a/4.png").write_text("new")
    assert fingerprint("train", "val", "list.txt") == before
    for file in ("train/a/1.png", "val/b/5.png", "list.txt"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(f"{file}, edited")
        after = fingerprint("train", "val", "list.txt")
        assert after != before
        before = after


def test_dates_and_parts_that_are_not_there_do_not_count(folder: Path) -> None:
    before = fingerprint("train", "val")
    os.utime(folder / "train/a/1.png", (1, 1))
    assert fingerprint("train", "val", "nowhere") == before
    (folder / "val/a/2.png").rename(folder / "val/a/3.png")
    assert fingerprint("train", "val") != before


def test_a_run_reads_the_folder_once(folder: Path) -> None:
    before = fingerprint("train")
    (folder / "train/a/1.png").write_text("edited meanwhile")
    assert content.fingerprint("photos", ("train",)) == before

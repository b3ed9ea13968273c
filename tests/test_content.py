"""The fingerprint of the user's own images: what is read counts, by its bytes."""

import hashlib
import os
import re
from pathlib import Path

import pytest
from experiment import content
from experiment.errors import ConfigError

FILES = (
    "train/a/1.png",
    "train/a/b/1.png",
    "train/a-b/1.png",
    "train/é.png",
    "val/a/2.png",
    "test/a/3.png",
    "list.txt",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for file in FILES:
        (tmp_path / "photos" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / file).write_text(file)
    return tmp_path / "photos"


def fingerprint(*parts: str, endings: tuple[str, ...] = ()) -> str:
    """As a later run takes it."""
    content.fingerprint.cache_clear()
    return content.fingerprint("photos", parts, endings)


def listed(folder: Path, *names: str) -> str:
    """The fingerprint by its definition: of the sorted names with the digests of the bytes, a line each."""
    lines = (f"{folder / name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}" for name in names)
    return hashlib.sha256("\n".join(sorted(lines)).replace(f"{folder}/", "").encode()).hexdigest()[:16]


def edit_unseen(file: Path) -> None:
    """New bytes under the old size and date: whoever does not see them has not read the file."""
    date = file.stat().st_mtime_ns
    file.write_text(file.read_text().upper())
    os.utime(file, ns=(date, date))


def test_it_is_that_of_the_names_and_bytes(folder: Path) -> None:
    assert fingerprint(".") == listed(folder, *FILES)
    assert fingerprint("val", "list.txt", "train") == listed(folder, *FILES[:5], "list.txt")
    assert fingerprint("nowhere") == listed(folder)


def test_links_count_as_what_they_lead_to(folder: Path) -> None:
    (folder / "val/linked.png").symlink_to(folder / "list.txt")
    (folder / "val/linked").symlink_to("../train", target_is_directory=True)
    (folder / "val/broken.png").symlink_to(folder / "nowhere")
    (folder / "val/itself.png").symlink_to("itself.png")
    linked = ("a/1.png", "a/b/1.png", "a-b/1.png", "é.png")
    before = fingerprint("val")
    assert before == listed(folder, "val/a/2.png", "val/linked.png", *(f"val/linked/{name}" for name in linked))
    (folder / "train/a/1.png").unlink()
    assert fingerprint("val") == listed(
        folder, "val/a/2.png", "val/linked.png", *(f"val/linked/{name}" for name in linked[1:])
    )


def test_a_link_to_where_it_lies_ends(folder: Path) -> None:
    before = fingerprint("train")
    (folder / "train/a/above").symlink_to("..", target_is_directory=True)
    (folder / "train/a/here").symlink_to(".", target_is_directory=True)
    assert fingerprint("train") == before


def test_folders_that_link_to_each_other_end(folder: Path) -> None:
    (folder / "train/a/other").symlink_to(folder / "val/a", target_is_directory=True)
    (folder / "val/a/other").symlink_to(folder / "train/a", target_is_directory=True)
    ours = ("train/a/1.png", "train/a/b/1.png", "train/a-b/1.png", "train/é.png", "train/a/other/2.png")
    assert fingerprint("train") == listed(folder, *ours)


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


def test_only_files_of_the_endings_that_are_read_count_and_what_is_hidden_does_not(folder: Path) -> None:
    (folder / "list.jpg").write_text("a part by itself counts, whatever it is called")
    before = fingerprint("train", "list.txt", endings=(".png", ".jpg"))
    assert before == listed(folder, *FILES[:4], "list.txt")
    for file in ("README.txt", "a/.nfs0001.png", ".DS_Store", ".cache/1.png", "a/1.png.md5"):
        (folder / "train" / file).parent.mkdir(exist_ok=True)
        (folder / "train" / file).write_text("none of the images")
    assert fingerprint("train", "list.txt", endings=(".png", ".jpg")) == before
    assert fingerprint("train", "list.txt") != fingerprint("train", endings=(".png",)) != before
    (folder / "train/a/1.JPG").write_text("one of them")
    assert fingerprint("train", "list.txt", endings=(".png", ".jpg")) != before


def test_dates_and_parts_that_are_not_there_do_not_count(folder: Path) -> None:
    before = fingerprint("train", "val")
    os.utime(folder / "train/a/1.png", (1, 1))
    assert fingerprint("train", "val", "nowhere") == before
    (folder / "val/a/2.png").rename(folder / "val/a/3.png")
    assert fingerprint("train", "val") != before


def test_files_that_come_and_go_count(folder: Path) -> None:
    before = fingerprint("train")
    (folder / "train/a/1.png").rename(folder / "list.png")
    without = fingerprint("train")
    assert without == listed(folder, *FILES[1:4])
    (folder / "list.png").rename(folder / "train/a/1.png")
    assert fingerprint("train") == before != without


def test_a_run_reads_the_folder_once(folder: Path) -> None:
    before = fingerprint("train")
    (folder / "train/a/1.png").write_text("edited meanwhile")
    assert content.fingerprint("photos", ("train",), ()) == before


def test_a_file_is_read_again_only_if_its_size_or_date_is_new(folder: Path) -> None:
    before = fingerprint("val", "list.txt")
    edit_unseen(folder / "val/a/2.png")
    assert fingerprint("val", "list.txt") == before
    os.utime(folder / "list.txt", (1, 1))
    assert fingerprint("val", "list.txt") == before
    os.utime(folder / "val/a/2.png", (1, 1))
    assert fingerprint("val", "list.txt") == listed(folder, "val/a/2.png", "list.txt") != before


def test_of_an_unchanged_folder_no_file_s_digest_is_loaded(folder: Path) -> None:
    before = fingerprint("train")
    (memory,) = content.MEMORY.iterdir()
    memory.write_text(memory.read_text().splitlines()[0])
    edit_unseen(folder / "train/a/1.png")
    assert fingerprint("train") == before
    os.utime(folder / "list.txt", (1, 1))
    assert fingerprint("train") == before
    os.utime(folder / "train/a-b/1.png", (1, 1))
    assert fingerprint("train") == listed(folder, *FILES[:4]) != before


def test_a_write_that_was_interrupted_is_harmless(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint("train")
    (folder / "train/a/1.png").write_text("edited")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fingerprint("train")
    assert fingerprint("train") == listed(folder, *FILES[:4]) != before


def test_names_in_any_encoding_count(folder: Path) -> None:
    before = fingerprint("train")
    (folder / "train/a/1.png").rename(folder / os.fsdecode(b"train/a/caf\xe9.png"))
    after = fingerprint("train")
    assert fingerprint("train") == after != before


def test_what_may_not_be_read_is_named(folder: Path) -> None:
    folder.parent.chmod(0o755)
    (folder / "train/a").chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # who may read all
            os.seteuid(65534)
        with pytest.raises(ConfigError, match=r"^photos/train/a: Permission denied; give yourself access"):
            fingerprint("train")
    finally:
        os.seteuid(user)
        (folder / "train/a").chmod(0o755)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("photo", "datasets.mine.path: no such folder photo; mount it or correct the path"),
        ("empty", "datasets.mine.path: empty has no train or val; mount it or correct the path"),
    ],
)
def test_a_folder_that_is_not_there_or_not_mounted_is_refused(name: str, says: str, folder: Path) -> None:
    (folder.parent / "empty").mkdir()
    with pytest.raises(ConfigError, match=f"^{re.escape(says)}$"):
        content.require("datasets.mine.path", name, ("train", "val"))
    content.require("datasets.mine.path", "photos", ("train", "nowhere"))

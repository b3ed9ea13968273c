"""What all stages share: help, options from a dataclass, one-line errors, and plain lines in a log file."""

import argparse
import contextlib
import dataclasses
import importlib
import os
import pty
import re
import subprocess
import sys
import termios
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from stages import knn, plugins
from stages.command_line import add_options, add_plugin, output, parser_of, read_options
from stages.errors import UserError, at_least, unknown
from stages.training.flags import add_training_arguments
from tests.conftest import ROOT, assert_refused, flags, program

STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if "\n    run(main" in path.read_text())


def test_the_stages_are_all_found() -> None:
    known = {"align", "cluster", "distill", "embed", "fetch_dataset", "knn", "linear_probe", "pretrain"}
    assert known <= set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_explains_itself(stage: str) -> None:
    done = program(stage, "--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
    assert f"python -m stages.{stage} " in done.stdout
    imported = set(re.findall(r"\| +(\S+)$", done.stderr, flags=re.MULTILINE))
    assert "stages.command_line" in imported
    assert not imported & {"torch", "numpy", "h5py"}


@pytest.mark.parametrize(
    ("stage", "package", "flag"),
    [("pretrain", "stages.pretraining", "method"), ("distill", "stages.distillation", "method")],
)
def test_the_options_of_a_method_are_shown_with_its_name(stage: str, package: str, flag: str) -> None:
    name = plugins.names(package)[0]
    done = program(stage, f"--{flag}", name, "--help")
    assert done.returncode == 0
    for field in dataclasses.fields(plugins.module(package, flag, name).Options):
        assert f"--{field.name.replace('_', '-')} " in done.stdout


# Options.


@dataclasses.dataclass(frozen=True)
class Options:
    images: Annotated[int, "how many; 100% of them"]
    rate: Annotated[float, "how fast"] = 0.5
    last: Annotated[bool, "with the last"] = False
    schedule: Annotated[Literal["step", "cosine"], "which"] = "step"
    milestones: Annotated[tuple[int, ...], "when"] = (90, 120)
    views: Annotated[tuple[str, ...], "of what"] = ("near", "far")
    folder: Annotated[str, "where"] = ""


def parsed(*argv: str) -> Options:
    parser = parser_of("doc")
    add_options(parser, Options)
    return read_options(Options, parser.parse_args(argv))


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], {}),
        (["--rate", "1e-3"], {"rate": 1e-3}),
        (["--last", "true"], {"last": True}),
        (["--last", "False"], {"last": False}),
        (["--schedule", "cosine"], {"schedule": "cosine"}),
        (["--milestones", "1", "2", "3"], {"milestones": (1, 2, 3)}),
        (["--milestones"], {"milestones": ()}),
        (["--views", "far"], {"views": ("far",)}),
        (["--views"], {"views": ()}),
        (["--folder", "a b"], {"folder": "a b"}),
    ],
)
def test_options_are_read_into_their_dataclass(argv: list[str], expected: dict[str, Any]) -> None:
    assert parsed("--images", "3", *argv) == Options(images=3, **expected)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: --images"),
        (["--images", "three"], "argument --images: invalid int value: 'three'"),
        (["--images", "3", "--last", "yes"], "expected true or false, got 'yes'"),
        (["--images", "3", "--schedule", "linear"], "invalid choice: 'linear'"),
        (["--images", "3", "--milestones", "1", "x"], "invalid int value: 'x'"),
        (["--images", "3", "--imag", "4"], "unrecognized arguments: --imag 4"),
    ],
)
def test_options_of_a_wrong_kind_are_refused_by_name(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(*argv)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_help_shows_every_default_as_it_would_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--help")
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "100% of them",
        "(default: 0.5)",
        "(default: false)",
        "(default: step)",
        "(default: 90 120)",
        "(default: near far)",
        "where (default: empty)",
    ):
        assert part in text
    assert "(default: None)" not in text


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--checkpoint-seconds", "nan", "expected a number, 0 or above"),
        ("--checkpoint-seconds", "-1", "expected a number, 0 or above"),
    ],
)
def test_a_training_refuses_what_is_no_time(
    flag: str, value: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = parser_of("Train.")
    add_training_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"{flag}={value}"])
    assert f"argument {flag}: {value}; {expected}" in capsys.readouterr().err


def test_at_least_names_the_option_as_it_is_typed() -> None:
    at_least(1, epochs=1, batch_size=2)
    with pytest.raises(UserError, match=r"^--batch-size is 0; expected at least 1$"):
        at_least(1, epochs=1, batch_size=0)


# Names.


@pytest.mark.parametrize(
    ("package", "names"),
    [
        ("stages.datasets.sources", {"digits", "folder"}),
        ("stages.datasets.augmentations", {"affine-elastic", "crop-flip"}),
        ("stages.distillation", {"compress-1q", "compress-2q", "regression-bn"}),
        ("stages.pretraining", {"simclr", "supervised"}),
    ],
)
def test_a_name_is_that_of_a_file_and_its_module_has_options(package: str, names: set[str]) -> None:
    assert names <= set(plugins.names(package))
    for name in names:
        found = plugins.module(package, "method", name)
        assert found.__name__ == f"{package}.{name.replace('-', '_')}"
        assert package == "stages.datasets.augmentations" or dataclasses.is_dataclass(found.Options)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("compress-q2", "did you mean 'compress-2q'?"),
        ("compress_2q", "did you mean 'compress-2q'?"),
        ("zzz", ": known are"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"unknown method '{name}': ") as refused:
        plugins.module("stages.distillation", "method", name)
    assert hint in str(refused.value)


def test_known_names_are_all_listed() -> None:
    assert str(unknown("fruit", "x", ["pear", "apple"])) == "unknown fruit 'x': known are apple, pear"


@pytest.mark.parametrize("argv", [["--source", "digits"], ["--source=digits"], ["--name", "x", "--source", "digits"]])
def test_the_options_of_a_plugin_follow_its_name(argv: list[str]) -> None:
    parser = parser_of("doc")
    parser.add_argument("--name")
    source = add_plugin(parser, argv, "stages.datasets.sources", "source")
    arguments = parser.parse_args([*argv, "--val-images", "100"])
    assert read_options(source.Options, arguments) == source.Options(val_images=100)


def test_without_a_plugin_the_required_flag_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        add_plugin(argparse.ArgumentParser(), [], "stages.datasets.sources", "source")
    assert "required: --source" in capsys.readouterr().err


# Errors.


def test_a_users_error_is_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    train, val, metrics = (tmp_path / name for name in ("train.h5", "val.h5", "knn.json"))
    done = program("knn", *flags({"train": train, "val": val, "metrics": metrics}))
    assert_refused(done, train, "no such embeddings file", folder=tmp_path, before=set())
    assert done.stderr.count("\n") == 1


def test_an_unknown_plugin_is_one_line(tmp_path: Path) -> None:
    paths = {"train": tmp_path / "train.h5", "val": tmp_path / "val.h5"}
    done = program("fetch_dataset", *flags({"source": "digit", "name": "x", **paths}))
    assert_refused(done, "unknown source 'digit': did you mean 'digits'?", folder=tmp_path, before=set())


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("", False)])
def test_a_traceback_is_shown_when_asked_for(value: str, shown: bool, tmp_path: Path) -> None:
    arguments = flags({"train": tmp_path / "train.h5", "val": tmp_path / "val.h5", "metrics": tmp_path / "knn.json"})
    done = program("knn", *arguments, DISTILLERY_TRACEBACK=value)
    assert done.returncode == 1
    assert ("Traceback (most recent call last)" in done.stderr) is shown
    assert "no such embeddings file" in done.stderr.splitlines()[-1]


def test_our_own_errors_keep_their_traceback(one_hot_pair: tuple[Path, Path], tmp_path: Path) -> None:
    code = "from stages.command_line import run\ndef main(argv): raise RuntimeError('a bug')\nrun(main)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == "RuntimeError: a bug"


@pytest.mark.parametrize(
    "error",
    [
        "OSError(28, 'No space left on device')",
        "OSError(122, 'Disk quota exceeded')",
        "RuntimeError('write failed\\nerrno = 28, error message = x')",
        "RuntimeError('I/O error: No space left on device (os error 28)')",
    ],
)
def test_a_full_disk_or_quota_is_one_line(error: str) -> None:
    code = f"from stages.command_line import run\ndef main(argv): raise {error}\nrun(main)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the disk is full (")
    assert done.stderr.count("\n") == 1


def run_to_its_error(body: str, *argv: str) -> str:
    """What a stage whose ``main`` has this ``body`` says when it fails."""
    code = f"from stages.command_line import run\ndef main(argv):\n{textwrap.indent(body, '    ')}\nrun(main)"
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr


BATCHES = pytest.mark.parametrize(
    ("argv", "advice"), [((), ""), (("--batch-size", "256"), "lower batch_size, or ")], ids=["without", "with batches"]
)
"""A stage's arguments, and what it advises for that: not to lower what its config has no key for."""


@BATCHES
def test_a_gpu_without_memory_is_one_line(argv: tuple[str, ...], advice: str) -> None:
    body = "import torch\nraise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GB')"
    reason = "CUDA out of memory. Tried to allocate 2 GB"
    expected = f"error: the GPU's memory is full ({reason}): {advice}take a GPU with more\n"
    assert run_to_its_error(body, *argv) == expected


def test_a_gpu_without_memory_for_faiss_is_one_line() -> None:
    reason = "Error in faiss::gpu::StandardGpuResourcesImpl: StandardGpuResources: alloc fail type FlatData dev 0"
    said = run_to_its_error(f"raise RuntimeError({reason!r})")
    assert said == f"error: the GPU's memory is full ({reason}): take a GPU with more\n"


@BATCHES
def test_a_machine_without_memory_is_one_line(argv: tuple[str, ...], advice: str) -> None:
    said = run_to_its_error("import torch\ntorch.empty(2**50, dtype=torch.uint8)", *argv)
    assert said.startswith("error: the machine's memory is full (")
    assert said.endswith(f"): {advice}raise mem_mb\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "words", ["InvalidCxxCompiler: No working C++ compiler found in", "Failed to find C compiler."]
)
def test_a_machine_without_a_compiler_is_one_line(words: str) -> None:
    said = run_to_its_error(f"raise RuntimeError({words!r})")
    assert said.startswith("error: compile, and precision half, compile code where they run, and there is no compiler")
    assert said.count("\n") == 1


def test_numpy_without_memory_is_one_line() -> None:
    said = run_to_its_error("import numpy\nnumpy.empty(2**50)")
    assert said.startswith("error: the machine's memory is full (Unable to allocate 8.00 PiB")
    assert run_to_its_error("raise MemoryError") == "error: the machine's memory is full (MemoryError): raise mem_mb\n"


def test_a_reading_process_that_is_killed_is_one_line() -> None:
    said = run_to_its_error(
        "import os, signal\n"
        "from torch.utils.data import DataLoader\n"
        "class Images(list):\n"
        "    def __getitem__(self, number):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "next(iter(DataLoader(Images([1]), num_workers=1)))"
    )
    assert said.startswith("error: a process that reads images has died (DataLoader worker (pid")
    assert said.endswith("): if for want of memory, raise mem_mb or lower --workers\n")
    assert said.count("\n") == 1


# Outputs.


def put_below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.touch()


UNFIT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (Path.mkdir, "out, a folder; "),
    "a pipe": (os.mkfifo, "out, a device, pipe or socket; "),
    "a link to a file": (lambda path: path.symlink_to(__file__), f"out, a link to {Path(__file__).resolve()}; "),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "nowhere; "),
    "below a file": (put_below_a_file, "is no folder that can be written to; "),
}
"""What makes of a path in a new folder one that cannot be written, and what is said of it."""


@pytest.mark.parametrize("what", UNFIT)
def test_an_output_that_cannot_be_written_is_one_line(what: str, tmp_path: Path) -> None:
    make, said = UNFIT[what]
    path = tmp_path / "folder/out"
    path.parent.mkdir()
    make(path)
    before = set(tmp_path.rglob("*"))
    # Its inputs are missing, and nobody looks for them yet.
    done = program("knn", *flags({"train": tmp_path / "train.h5", "val": tmp_path / "val.h5", "metrics": path}))
    assert_refused(done, f"--metrics is {path}", said, folder=tmp_path, before=before)
    assert done.stderr.count("\n") == 1


def test_an_output_on_a_disk_that_is_only_to_be_read_is_refused(small_disk: Callable[[int], Path]) -> None:
    parser = parser_of(None)
    parser.add_argument("--page", type=output)
    folder = small_disk(64)
    argv = ["--page", str(folder / "new/page.md")]
    parser.parse_args(argv)
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    with pytest.raises(UserError, match=f"^--page is {argv[1]}, but {folder} is no folder that can be written to; "):
        parser.parse_args(argv)


def parsers_of(stage: str) -> list[argparse.ArgumentParser]:
    """The stage's parser with all its arguments, or those of its subcommands."""
    seen: list[argparse.ArgumentParser] = []

    def stop(parser: argparse.ArgumentParser, argv: object) -> None:
        seen.append(parser)
        sys.exit()

    main = importlib.import_module(f"stages.{stage}").main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(SystemExit):
            main([])
    kinds = [action for action in seen[0]._actions if isinstance(action, argparse._SubParsersAction)]
    return [*kinds[0].choices.values()] if kinds else seen


def outputs_of(parser: argparse.ArgumentParser) -> set[str]:
    return {action.option_strings[0] for action in parser._actions if action.type is output}


def parse(parser: argparse.ArgumentParser, values: dict[str, str]) -> None:
    parser.parse_args([word for flag, value in values.items() for word in (flag, value)])


@pytest.mark.parametrize("stage", STAGES)
def test_every_output_of_every_stage_has_to_be_writable_and_no_other_file_of_the_call(
    stage: str, tmp_path: Path
) -> None:
    for parser in parsers_of(stage):
        fit, files = {}, set()
        for action in parser._actions:
            flag = action.option_strings[0]
            if action.type in (Path, output) or isinstance(action, argparse._AppendAction):
                files.add(flag)
            if action.required:
                fit[flag] = next(iter(action.choices or ()), str(tmp_path / action.dest) if flag in files else "1")
        outputs = {action.option_strings[0] for action in parser._actions if "to write" in (action.help or "")}
        assert outputs == outputs_of(parser)
        parse(parser, fit)
        for flag in outputs:
            with pytest.raises(UserError, match=f"^{flag} is {tmp_path}, a folder; "):
                parse(parser, {**fit, flag: str(tmp_path)})
            for other in files - {flag}:
                with pytest.raises(UserError, match=r" as well; expected another file to write$"):
                    parse(parser, {**fit, other: fit[flag]})


def test_what_the_rules_have_as_outputs_are_outputs_of_the_stages() -> None:
    stage, found = "", set()
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for name, flag in re.findall(r"\bstages\.(\w+)|(--[\w-]+) \{output\b", path.read_text()):
            stage = name or stage
            if flag:
                found.add((stage, flag))
    assert {stage for stage, _ in found} == set(STAGES)
    for stage, flag in sorted(found):
        assert all(flag in outputs_of(parser) for parser in parsers_of(stage)), (stage, flag)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--made", "a/x", "a/x"], "--made is a/x, which is given as --made as well"),
        (["--made", "a/y", "--read", "a/x", "a/../a/y"], "--made is a/y, which is given as --read as well"),
        (["--made", "a/x", "--read", "b/x"], "--made is a/x, which is given as --read as well"),
        (["--made", "a/x", "--read", "link"], "--made is a/x, which is given as --read as well"),
        (["--words", "1", "2", "--words", "title", "a/x", "--made", "a/x"], "--made is a/x, which is given as --words"),
    ],
)
def test_an_output_is_the_file_of_no_other_argument_by_whatever_path(
    argv: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    Path("b").symlink_to("a")
    Path("link").symlink_to("a/x")
    parser = parser_of(None)
    parser.add_argument("--made", type=output, nargs="+")
    parser.add_argument("--read", type=Path, nargs="*")
    parser.add_argument("--words", nargs="+", action="append")
    parser.parse_args(["--made", "a/x", "a/y", "--read", "a/z", "a/z", "--words", "a/z"])
    with pytest.raises(UserError, match=f"^{said}"):
        parser.parse_args(argv)


# Progress.


def test_progress_in_a_log_file_is_plain_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = flags({"source": "digits", "name": "digits", "train": tmp_path / "t.h5", "val": tmp_path / "v.h5"})
    with log.open("w") as file:
        command = [sys.executable, "-m", "stages.fetch_dataset", *arguments]
        subprocess.run(command, cwd=ROOT, stderr=file, check=True)
    lines = log.read_text().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("packing digits train: 1347 of 1347 images, ")
    assert lines[1].startswith("packing digits val: 450 of 450 images, ")
    assert not {"\r", "\x1b"} & set(log.read_text())


def test_progress_on_a_terminal_is_a_bar(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    arguments = flags({"source": "digits", "name": "digits", "train": tmp_path / "t.h5", "val": tmp_path / "v.h5"})
    subprocess.run([sys.executable, "-m", "stages.fetch_dataset", *arguments], cwd=ROOT, stderr=theirs, check=True)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how the end is told
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert b"\r" in shown
    assert b"packing digits val: 100%" in shown


def test_long_work_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from stages import progress

    clock = iter(np.arange(0.0, 1000.0, 4.0))  # each step takes four seconds, and a line is due after ten
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(progress.sys, "stderr", SimpleNamespace(isatty=lambda: False))
    with caplog.at_level("INFO", logger="stages"):
        assert list(progress.track("abcdefgh", "reading", total=8, unit="letters")) == list("abcdefgh")
    assert [record.getMessage() for record in caplog.records] == [
        "reading: 3 of 8 letters, 0.25 letters/s, 20 s left",
        "reading: 6 of 8 letters, 0.25 letters/s, 8 s left",
        "reading: 8 of 8 letters, 0.25 letters/s, 0 s left",
    ]


def test_a_stage_can_be_called_with_its_arguments(
    one_hot_pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: Callable[..., None] = knn.main
    monkeypatch.setattr(sys, "argv", ["pytest", "--not-for-the-stage"])
    called(flags({"train": one_hot_pair[0], "val": one_hot_pair[1], "metrics": tmp_path / "knn.json"}))
    assert (tmp_path / "knn.json").exists()

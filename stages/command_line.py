"""What every stage's command line shares: options from a dataclass, one-line errors, plain log lines."""

import argparse
import dataclasses
import errno
import logging
import math
import os
import signal
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from stages import plugins
from stages.errors import UserError

T = TypeVar("T")

logger = logging.getLogger("stages")

NO_SPACE = tuple(
    sign
    for code in (errno.ENOSPC, errno.EDQUOT)
    for sign in (f"[Errno {code}]", f"errno = {code},", f"os error {code}", os.strerror(code))
)


class Parser(argparse.ArgumentParser):
    """One that refuses the outputs that cannot or must not be written, before hours of work for them."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # Subcommands are parsed by this too, and not by `parse_args`.
        arguments, others = super().parse_known_args(args, namespace)
        _check_outputs(self._actions, arguments)
        return arguments, others


def parser_of(module_docstring: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the stage's own docstring."""
    return Parser(
        description=module_docstring, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def output(text: str) -> Path:
    """The type of an argument that names a file to write: by it, `Parser` knows the outputs."""
    return Path(text)


def _check_outputs(actions: Iterable[argparse.Action], arguments: argparse.Namespace) -> None:
    """Raise the error for the first output that cannot be written, or is the file of another argument as well."""
    flags: dict[str, str] = {}
    # The inputs first, so that each output is held against all of them.
    for action in sorted(actions, key=lambda action: action.type is output):
        flag = "/".join(action.option_strings)
        for path in _paths(getattr(arguments, action.dest, None)):
            place = os.path.realpath(path)
            if action.type is output:
                _check_output(flag, path)
                if place in flags:
                    raise UserError(
                        f"{flag} is {path}, which is given as {flags[place]} as well; expected another file to write"
                    )
            flags.setdefault(place, flag)


def _check_output(flag: str, path: Path) -> None:
    what = _no_file(path)
    if what:
        raise UserError(f"{flag} is {path}, {what}; expected the name of a file, of a new one or one to replace")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise UserError(f"{flag} is {path}, but {folder} is no folder that can be written to; expected one that is")


def _no_file(path: Path) -> str:
    """What stands where a file would be written beside, and then put in its place: as root, in a device's, too."""
    if path.is_symlink():
        return f"a link to {os.path.realpath(path)}"
    if path.is_dir():
        return "a folder"
    return "a device, pipe or socket" if path.exists() and not path.is_file() else ""


def _paths(value: Any) -> Iterator[Path]:
    """The paths of an argument's value; every word may be one, where an argument takes words of several kinds."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, list):
        for entry in value:
            yield from map(Path, entry) if isinstance(entry, list) else _paths(entry)


def add_options(parser: argparse.ArgumentParser, options: type) -> None:
    """Add a flag for each field of the dataclass ``options``: its type, default and help are the field's own."""
    group = parser.add_argument_group("options")
    hints = typing.get_type_hints(options, include_extras=True)
    for field in dataclasses.fields(options):
        kind, help_text = typing.get_args(hints[field.name])
        flag = f"--{field.name.replace('_', '-')}"
        required = field.default is dataclasses.MISSING
        default = None if required else field.default
        shown = "" if required else f" (default: {_shown(default) or 'empty'})"
        text = f"{help_text}{shown}".replace("%", "%%")
        group.add_argument(flag, default=default, help=text, required=required, **_argument_of(kind))


def _argument_of(kind: Any) -> dict[str, Any]:
    """How argparse reads a value of this type."""
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return {"choices": typing.get_args(kind)}
    if origin is tuple:
        return {**_argument_of(typing.get_args(kind)[0]), "nargs": "*", "metavar": "VALUE"}
    if kind is bool:
        return {"type": _boolean, "metavar": "true|false"}
    return {"type": kind, "metavar": kind.__name__.upper()}


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() == "true"


def _shown(value: Any) -> str:
    return (
        " ".join(map(str, value))
        if isinstance(value, tuple)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def add_plugin(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, package: str, flag: str
) -> types.ModuleType:
    """Add ``--<flag> NAME`` and the options of the module of that name; call it after all other arguments are added.

    Without a name there are no options to show: then the parser's own help, or its error, ends the program.
    """
    known = ", ".join(plugins.names(package))
    parser.add_argument(f"--{flag}", required=True, metavar="NAME", help=f"{known}; with --help, shows its options too")
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument(f"--{flag}")
    name = getattr(early.parse_known_args(argv)[0], flag)
    if name is None:
        parser.parse_args(argv)
    found = plugins.module(package, flag, name)
    add_options(parser, found.Options)
    return found


def add_evaluation_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """What every evaluation of a train and a val cache takes; ``name`` is as for `add_metrics_arguments`."""
    parser.add_argument("--train", type=Path, required=True, help="the encoder's train embeddings")
    parser.add_argument("--val", type=Path, required=True, help="the encoder's val embeddings")
    add_metrics_arguments(parser, name)


def add_metrics_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """What every evaluation takes; in tables it is called ``name``, or another."""
    parser.add_argument("--metrics", type=output, required=True, help="the JSON file to write")
    parser.add_argument("--name", default=name, help=f"the evaluation's name in tables (default: {name})")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """What says where and how to train, not what."""
    parser.add_argument("--workers", type=int, default=0, help="processes that read images ahead (default: 0, none)")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder for the state of an unfinished run")
    parser.add_argument(
        "--checkpoint-seconds", type=_seconds, default=300, help="time between saved states (default: 300)"
    )
    parser.add_argument("--checkpoint-key", default="", help="go on only from a state saved under the same key")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}; expected a number, 0 or above")
    return value


def read_options(options: Callable[..., T], arguments: argparse.Namespace) -> T:
    """The dataclass ``options`` filled from the parsed arguments."""
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    return options(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def run(main: Callable[[Sequence[str] | None], None], first_to_fail: Callable[[], bool] = lambda: True) -> None:
    """Run a stage: a user's error ends in one line and status 1, ours in a traceback.

    ``DISTILLERY_TRACEBACK=1`` shows the traceback of a user's error as well.

    Args:
        first_to_fail: called when the stage fails, whether no other of the processes that work together has failed
            before: that one says why, and the others are silent.
    """
    # Of libraries only warnings: faiss's first lines are of modules that it does not find and does not need.
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        main(None)
    except Exception as error:
        if not first_to_fail():
            sys.exit(1)
        message = _message_of(error)
        if message is None or os.environ.get("DISTILLERY_TRACEBACK"):
            raise
        sys.exit(f"error: {' '.join(message.split())}")


def _message_of(error: Exception) -> str | None:
    """The one line for an error the user can mend, None for one of ours."""
    if isinstance(error, UserError):
        # One raised by a process that reads images ahead comes wrapped in its traceback, the message last.
        return str(error).rsplit("UserError: ", 1)[-1]
    # A state that torch.save could not write: it says of the file what is wrong with it, and the disk before it.
    if any(sign in f"{error} {error.__context__}" for sign in NO_SPACE):
        return f"the disk is full ({error}); nothing half-written was kept: free some space and run again"
    # PyTorch's words and faiss's.
    if "CUDA out of memory" in str(error) or "StandardGpuResources: alloc fail" in str(error):
        return f"the GPU's memory is full ({error}): {_smaller_batches()}take a GPU with more"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"the machine's memory is full ({str(error) or 'MemoryError'}): {_smaller_batches()}raise mem_mb"
    # Inductor's words and Triton's.
    if "No working C++ compiler found" in str(error) or "Failed to find C compiler" in str(error):
        return "compile, and precision half, compile code where they run, and there is no compiler: install g++"
    if "DataLoader worker (pid" in str(error):
        return f"a process that reads images has died ({error}): if for want of memory, raise mem_mb or lower --workers"
    if isinstance(error, OSError) and error.filename:
        return f"cannot use {error.filename}: {error.strerror}"
    return None


def _smaller_batches() -> str:
    """The advice, where it can be followed: the rules give all of a config's options to their stages."""
    return "lower batch_size, or " if "--batch-size" in sys.argv else ""


def leave_termination_to_the_run(worker: int = 0) -> None:
    """For a process that reads images ahead: whoever ends a job signals all its processes, and one that obeyed would
    fail the step that is to be finished.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _leave(signum: int, frame: types.FrameType | None) -> None:
    """End as the shell reports an ended program, through the clean-up of everything half-written."""
    sys.exit(128 + signum)

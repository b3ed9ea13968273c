"""What a dataset's folder has to hold, and one clear line where it does not."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from stages.errors import UserError


def require_entries(folder: Path, entries: Iterable[str], whence: str) -> None:
    """Raise the error for the first of the files and folders ``entries`` that ``folder`` lacks; ``whence`` has them."""
    for entry in entries:
        if not (folder / entry).exists():
            raise UserError(
                f"{folder / entry}: no such file or folder; expected in {folder} what is unpacked from {whence}"
            )


@contextlib.contextmanager
def reading(folder: Path, whence: str) -> Iterator[None]:
    """Make one line of whatever torchvision says of files that are not those it expects."""
    try:
        yield
    except Exception as error:  # of any kind: of pickle, of scipy, of an assertion
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{folder}: not what torchvision reads ({reason}); expected the files from {whence} as they are: unpack "
            "them anew"
        ) from error

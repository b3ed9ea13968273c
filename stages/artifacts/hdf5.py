"""Opening our HDF5 files: whole, complete and of the expected kind, or one clear line."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.errors import UserError


@contextlib.contextmanager
def open_complete(path: Path, kind: str) -> Iterator[Any]:
    """Open an HDF5 file of ours for reading; refuse a missing, damaged, incomplete or different one."""
    import h5py

    if not path.exists():
        raise UserError(f"{path}: no such {kind} file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(
            f"{path}: damaged or truncated, not a readable HDF5 file ({error}); delete it and run the stage again"
        ) from error
    with file:
        found = file.attrs.get("kind")
        if found != kind:
            raise UserError(f"{path}: expected a {kind} file, found {found or 'an HDF5 file that is not ours'}")
        if not file.attrs.get("complete", False):
            raise UserError(f"{path}: incomplete, its writing was interrupted; delete it and run the stage again")
        yield file

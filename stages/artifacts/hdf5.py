"""Our HDF5 files: written through to the end and marked complete, or refused in one clear line."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.errors import UserError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


AGAIN = "delete it and run the stage again, alone first (snakemake {path}): what was made from it may still hold"


@contextlib.contextmanager
def open_complete(path: Path, kind: str) -> Iterator[Any]:
    """Open an HDF5 file of ours for reading; refuse a missing, damaged, incomplete or different one."""
    import h5py

    if not path.is_file():
        raise UserError(f"{path}: no such {kind} file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(
            f"{path}: damaged or truncated, not a readable HDF5 file ({error}); unless it was given by mistake, "
            f"{AGAIN.format(path=path)}"
        ) from error
    with file:
        found = file.attrs.get("kind")
        if found != kind:
            raise UserError(f"{path}: expected {kind}, found {found or 'an HDF5 file that is not ours'}")
        if not file.attrs.get("complete", False):
            raise UserError(f"{path}: incomplete, its writing was interrupted; {AGAIN.format(path=path)}")
        yield file


@contextlib.contextmanager
def create(path: Path, kind: str) -> Iterator[tuple[Any, "Storage"]]:
    """Yield an HDF5 file to fill, and its storage to check now and then; marked complete if the block ends well."""
    import h5py

    with Storage(path) as storage:
        try:
            with h5py.File(storage, "w") as file:
                file.attrs["kind"] = kind
                yield file, storage
                file.attrs["complete"] = True
        finally:
            # A write that failed comes before whatever HDF5 makes of not finding its data again.
            storage.check()


class Storage(io.FileIO):
    """A file that keeps a failed write for `check` to raise: HDF5 can crash the program when a write of its fails."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.failure: OSError | None = None

    def write(self, data: "ReadableBuffer") -> int:
        rest = memoryview(data)
        try:
            while len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failure = self.failure or OSError(error.errno, error.strerror, str(self.name))
        return len(memoryview(data))

    def readinto(self, buffer: "WriteableBuffer") -> int:
        whole = memoryview(buffer)
        read = super().readinto(whole) or 0
        whole[read:] = bytes(len(whole) - read)  # what HDF5 expects beyond the end
        return len(whole)

    def check(self) -> None:
        """Raise what went wrong so far."""
        if self.failure:
            raise self.failure

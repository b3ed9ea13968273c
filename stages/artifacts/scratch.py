"""Room on the disk for what memory may not hold."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[IO[bytes]]:
    """A file without a name in ``folder``: it goes with the program, however that ends.

    An error of it, such as that the disk is full, names the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            yield file
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(folder)
        raise

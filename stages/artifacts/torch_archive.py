"""What torch.save wrote, held to the checksums that its archive has."""

import zipfile
from pathlib import Path
from typing import Any

import torch


def load(path: Path) -> Any:
    """The content, on the CPU; of what is damaged, an error of one of many kinds.

    `torch.load` takes numbers as they come. A file of its old form, which is no archive, has no checksums.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():
                raise zipfile.BadZipFile(f"{broken} has another checksum")
    return torch.load(path, map_location="cpu", weights_only=True)

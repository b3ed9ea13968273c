"""The containers: where each image is, and what is in it."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from experiment.source import ROOT

CONTAINERS = ROOT / "containers"


def location(name: str, configured: Mapping[str, str]) -> str:
    """The image file or address to run stages in: the configured one, or the file that ``make images`` builds."""
    return configured.get(name, str(CONTAINERS / f"{name}.sif"))


def identity(name: str, configured: Mapping[str, str]) -> str:
    """A digest of what the image is made from: the Dockerfile and its pinned packages, without their comments.

    An image of one's own counts by its address. Whether containers are used at all, and where the image file lies, make
    no difference: the pins are the same without.
    """
    if name in configured and "://" in configured[name]:
        return configured[name]
    recipe = [CONTAINERS / "Dockerfile", CONTAINERS / "requirements" / f"{name}.txt"]
    return hashlib.sha256("\n".join(_content(path) for path in recipe).encode()).hexdigest()[:16]


def _content(path: Path) -> str:
    """The file's lines without comments, blank lines and surrounding space."""
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in path.read_text().splitlines())
    return "\n".join(line for line in lines if line)

"""The containers: where each image is, and what is in it."""

import hashlib
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from experiment.errors import ConfigError
from experiment.source import ROOT

CONTAINERS = ROOT / "containers"


def location(name: str, configured: Mapping[str, str]) -> str:
    """The image file or address to run stages in: the configured one, or the file that ``make images`` builds."""
    return configured.get(name, str(CONTAINERS / f"{name}.sif"))


def identity(name: str, configured: Mapping[str, str]) -> str:
    """A digest of what the image is made from: the Dockerfile and its pinned packages, without their comments.

    An image of a registry counts by its address. Whether containers are used at all, and where the image file lies,
    make no difference: the pins are the same without.
    """
    if name in configured and "://" in configured[name]:
        return configured[name]
    recipe = [CONTAINERS / "Dockerfile", CONTAINERS / "requirements" / f"{name}.txt"]
    return hashlib.sha256("\n".join(_content(path) for path in recipe).encode()).hexdigest()[:16]


def check(expected: Mapping[str, str]) -> None:
    """
    Args:
        expected: for each image's file or address, the digest that it should be labelled with, by `identity`.

    Raises:
        ConfigError: an image file is not there, was built of another recipe, or lies where Snakemake cannot use it.
    """
    for location, digest in expected.items():
        if "://" in location:
            continue
        if shlex.quote(location) != location:
            # Snakemake gives it to the shell as it is.
            raise ConfigError(
                f"container image {location!r}: containers cannot be started from a path with spaces or other signs "
                "that a shell minds: move the project, or name an image elsewhere in the config under containers"
            )
        if not Path(location).exists():
            raise ConfigError(
                f"container image {location} is not there: build it by `make images`, or name another in the config "
                f"under containers"
            )
        label = _label(location)
        if label not in (None, digest):
            raise ConfigError(
                f"container image {location} is of another recipe than containers/ has (its label is {label}, not "
                f"{digest}): build it anew by `make images`"
            )


def _label(location: str) -> str | None:
    """The digest that an image file is labelled with; None of an image of one's own that has no label."""
    command = ["apptainer", "inspect", "--labels", location]
    try:
        labels = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return None
    found = re.search(r"source-digest: (\w+)", labels)
    return found[1] if found else None


def _content(path: Path) -> str:
    """The file's lines without comments, blank lines and surrounding space."""
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in path.read_text().splitlines())
    return "\n".join(line for line in lines if line)

"""Whether the files of public checkpoints are there, where `stages.fetch_weights` looks for them."""

from pathlib import Path

from experiment.encoders import Fetched
from experiment.errors import ConfigError

DOWNLOADS = Path("results/downloads")


def place(encoder: Fetched, mirror: str) -> Path:
    """Where the file is or comes to: among the downloads or, if it is not there, in ``mirror``, where that is a folder.

    Args:
        mirror: what DISTILLERY_MIRROR says, a folder, a URL or nothing.
    """
    name = Path(encoder.checkpoint, encoder.file)
    is_mirrored = mirror and "://" not in mirror and not (DOWNLOADS / name).is_file()
    return (Path(mirror) if is_mirrored else DOWNLOADS) / name


def lacking(encoder: Fetched, mirror: str) -> str:
    """What the user has to do for the file; nothing if it is there, or its job can download it.

    Into a mirror that is a URL one cannot look.
    """
    path = place(encoder, mirror)
    if path.is_file() or "://" in mirror or not (mirror or encoder.by_hand):
        return ""
    return f"{encoder.by_hand or 'copy it'}, as {path}"


def require(encoder: Fetched, mirror: str) -> None:
    """
    Raises:
        ConfigError: the file is not there, and it cannot be downloaded.
    """
    if todo := lacking(encoder, mirror):
        raise ConfigError(f"encoders.{encoder.name}.fetch: the file of {encoder.checkpoint} is not there: {todo}")

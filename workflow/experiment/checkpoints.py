"""Files of public checkpoints, held to what encoders were made of.

A checkpoint is known by its name, so that another file in its place would make nothing run again: the numbers would
stay those of the file before.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from experiment import content
from experiment.encoders import Fetched
from experiment.errors import ConfigError

DOWNLOADS, LOCK = Path("results/downloads"), Path("checkpoints.lock")


def refuse_replaced(encoders: Iterable[Fetched], environment: Mapping[str, str]) -> None:
    """
    Args:
        encoders: those of the config; one that is still to be fetched is for its job to check.
        environment: may name a mirror.

    Raises:
        ConfigError: where an encoder was taken from, there is another file than the lock file has.
    """
    for encoder in encoders:
        weights = Path(f"results/encoders/{encoder.name}/weights.safetensors")
        place = f"{encoder.checkpoint}/{encoder.file}"
        expected, file = _locked().get(place), _file_of(place, environment)
        if weights.is_file() and expected and file and content.sha256(file) != expected:
            raise ConfigError(
                f"{file}: not the file that {encoder.name} was made of, by {LOCK}: put that one back, or give this one "
                f"a table of its own in the catalogue; or, to take it from now on, delete {weights} and the line of "
                f"{place} in {LOCK}"
            )


def _locked() -> dict[str, str]:
    """The sha256 of each file that was fetched, by its place; a line that is none is for the stage to name."""
    lines = LOCK.read_text().splitlines() if LOCK.is_file() else ()
    return {place: sha256 for sha256, _, place in (line.partition("  ") for line in lines)}


def _file_of(place: str, environment: Mapping[str, str]) -> Path | None:
    """The file that `stages.fetch_weights` would take, as far as it is here."""
    mirror = environment.get("DISTILLERY_MIRROR", "")
    folders = [DOWNLOADS, *([Path(mirror)] if mirror and "://" not in mirror else [])]
    return next((folder / place for folder in folders if (folder / place).is_file()), None)

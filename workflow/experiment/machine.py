"""Where jobs run: the machine's GPUs, the folders that a container sees, and where caches are kept."""

import argparse
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path

from experiment.errors import ConfigError

CACHES = {
    "TORCH_HOME": "torch",
    "TRITON_CACHE_DIR": "triton",
    "CUDA_CACHE_PATH": "cuda",
    "HF_HOME": "huggingface",
    "MPLCONFIGDIR": "matplotlib",
    "APPTAINER_CACHEDIR": "apptainer",
    "XDG_CACHE_HOME": "others",
}
"""Who would otherwise keep a cache in the home folder, by the variable that says where."""

FOR_GPUS = {"bfloat16": (True, "false"), "precision": ("half", "single")}
"""Options of trainings of which one value is for GPUs alone, with that value, and what there is elsewhere."""

DRIVER = Path("/proc/driver/nvidia/gpus")
"""A folder for each GPU that NVIDIA's driver runs."""


SEEN = Path("/tmp")
"""What a container sees of its host without being told, beside the working directory."""


def gpus(environment: Mapping[str, str]) -> list[str]:
    """The NVIDIA GPUs that jobs may use here, by CUDA's names: all that there are, or those in CUDA_VISIBLE_DEVICES."""
    there = [str(number) for number, _ in enumerate(DRIVER.iterdir())] if DRIVER.is_dir() else []
    allowed = environment.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return there
    # -1 is how some hide all.
    return [each for each in map(str.strip, allowed.split(",")) if each not in ("", "-1")][: len(there)]


def refuse_gpu_only(name: str, options: Mapping[str, object]) -> None:
    """
    Args:
        name: of an encoder.
        options: those of its training.

    Raises:
        ConfigError: it can be trained on a GPU alone.
    """
    for option, (value, instead) in FOR_GPUS.items():
        if options.get(option) == value:
            raise ConfigError(
                f"{name}: has {option}: {str(value).lower()}, which needs an NVIDIA GPU, and this machine has none; "
                f"expected {instead}"
            )


def cores_for(asked: int, cores: int, environment: Mapping[str, str]) -> int:
    """How many of this run's ``cores`` a job that takes ``asked`` GPUs is given: the share of these; one without GPUs.

    GPUs take turns and cores do not, so a share is all that such jobs can have at once.
    """
    there = len(gpus(environment))
    return max(1, cores * min(asked, there) // there) if there else 1


def share_gpus(environment: MutableMapping[str, str]) -> None:
    """Tell jobs of which GPUs each takes its own."""
    environment["DISTILLERY_GPUS"] = ",".join(gpus(environment))


def set_caches(environment: MutableMapping[str, str], folder: Path) -> None:
    """Keep caches in ``folder``, but for those that are somewhere of the user's choice already."""
    for variable, name in CACHES.items():
        environment.setdefault(variable, str((folder / name).absolute()))


def container_arguments(given: str, environment: Mapping[str, str], data: Iterable[str]) -> str:
    """Apptainer's arguments: the site's own, the GPUs if there are any, and the folders that stages use.

    What is there already is not added again: a job on another node starts with what its submitter found.

    Args:
        given: the arguments so far.
        environment: may name folders for scratch and for caches.
        data: folders of images and of downloads.
    """
    added = ["--nv"] if gpus(environment) else []
    added += [f"--bind={folder}" for folder in dict.fromkeys(_outside(environment, data)) if folder.exists()]
    present = shlex.split(given)
    return " ".join([given, *(shlex.quote(each) for each in added if each not in present)]).strip()


def _outside(environment: Mapping[str, str], data: Iterable[str]) -> Iterator[Path]:
    """The folders that are not below the working directory, which a container always sees, nor below `SEEN`.

    A link in a folder of data leads out of it: its target has to be seen as well.
    """
    named = [environment[variable] for variable in ("TMPDIR", *CACHES) if environment.get(variable)]
    data = [*data, *filter(None, [environment.get("DISTILLERY_MIRROR")])]
    folders = [Path(each).absolute() for each in [*named, *data]]
    linked = [target for each in data for target in _joined(_targets(Path(each)))]
    for folder in [*folders, *(path.resolve() for path in folders), *linked]:
        if not any(folder.is_relative_to(seen) for seen in (Path.cwd(), SEEN)):
            yield folder


def _targets(folder: Path, depth: int = 2) -> Iterator[Path]:
    """Where links in a folder lead, those in its subfolders included: a split may be one, a class, a checkpoint.

    Deeper ones, such as a link for each image, are not looked for, as each job would have to go through all images.
    """
    if depth == 0 or not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield Path(os.path.realpath(entry.path))
            yield from _targets(Path(entry.path), depth - 1)


def _joined(targets: Iterable[Path]) -> Iterator[Path]:
    """The targets or, of several in one folder, that folder: a bind for each class would be too long a command."""
    siblings: dict[Path, set[Path]] = {}
    for target in targets:
        siblings.setdefault(target.parent, set()).add(target)
    for parent, these in siblings.items():
        yield from these if len(these) == 1 or parent == Path("/") else {parent}


def check_binds(arguments: str) -> None:
    """
    Raises:
        ConfigError: a folder that the container is to see is not there.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("-B", "--bind", action="append", default=[])
    given = parser.parse_known_args(shlex.split(arguments))[0].bind
    for bind in ",".join(given).split(",") if given else ():
        place = Path(bind.partition(":")[0])
        if not place.exists():
            raise ConfigError(
                f"apptainer-args: --bind {bind}: {place} is not there: create it, or correct the path in the profile"
            )

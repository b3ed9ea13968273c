"""What a profile asks of a SLURM cluster, checked before anything is submitted."""

import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Sequence

from experiment.errors import ConfigError, require

TOO_OLD = r"(?i)(k40|k80|m40|m60|p4|p40|p100|v100|v100s|titan_?(x|xp|v)|gtx_?\d+(ti)?)\b"
"""GPU models before Turing: the pinned PyTorch is built with CUDA 13, which has no code for them."""

TURING = r"(?i)(t4|(quadro_)?rtx_?[568]000|titan_?rtx|(rtx_?)?20[678]0(ti|s)?)\b"
"""GPU models of compute capability 7.5, on which `--precision half` does not run; it needs 8.0."""


def partitions() -> list[str]:
    """The cluster's partitions, its default marked by an asterisk; none where SLURM does not answer."""
    return _sinfo("%P")


def gpu_models() -> set[str]:
    """The GPU models that the nodes declare: of ``gpu:a100:4(S:0-1)`` it is a100, of ``gpu:4`` there is none."""
    return set(re.findall(r"gpu:([A-Za-z][\w.-]*)", ",".join(_sinfo("%G"))))


def _sinfo(field: str) -> list[str]:
    if shutil.which("sinfo") is None:
        return []
    command = ["sinfo", "--noheader", "--format", field]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def check_partitions(asked: Collection[str], known: Collection[str]) -> None:
    """
    Args:
        asked: the profile's partitions, if it has any.
        known: the cluster's, as `partitions` has them; if there is none, SLURM is asked when it can answer.

    Raises:
        ConfigError: the profile has none and neither has the cluster a default, or it is not one of the cluster's.
    """
    names = sorted(name.removesuffix("*") for name in known)
    if names and not asked and not any(name.endswith("*") for name in known):
        raise ConfigError(
            f"profile: no slurm_partition under default-resources, and the cluster has no default: set it to one of "
            f"{', '.join(names)}"
        )
    for name in (name for several in asked for name in several.split(",")):
        if names:
            require("profile: slurm_partition", "partition", name, names)


def check_gpu_models(asked: Iterable[str], known: Collection[str], half_precision: Sequence[str]) -> None:
    """
    Args:
        asked: the profile's models.
        known: those that the cluster's nodes declare; if none does, any may be right.
        half_precision: the encoders that are trained with `--precision half`.

    Raises:
        ConfigError: the cluster has no such GPU, or its kind cannot run what is asked of it.
    """
    for model in asked:
        if known:
            require("profile: gpu_model", "GPU model", model, known)
        if re.match(TOO_OLD, model):
            raise ConfigError(
                f"profile: gpu_model {model} is older than the pinned PyTorch supports: choose one of Turing or later, "
                f"such as t4 or a100"
            )
        if half_precision and re.match(TURING, model):
            raise ConfigError(
                f"profile: gpu_model {model} cannot run precision: half, which {half_precision[0]} asks for: choose "
                f"one of compute capability 8.0 or later, such as a100, or precision: single"
            )

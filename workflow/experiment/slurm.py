"""What a profile asks of a SLURM cluster, checked before anything is submitted."""

import math
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Sequence

from experiment.errors import ConfigError, require

CAPABILITIES = {
    r"k40|k80": 3.7,
    r"m40|m60|gtx_?9[5678]0(_?ti)?": 5.2,
    r"p100": 6.0,
    r"p4|p40|titan_?xp?|(gtx_?)?10[5678]0(_?ti)?": 6.1,
    r"v100s?|titan_?v": 7.0,
    r"t4|titan_?rtx|(gtx_?)?16[56]0(_?ti|_?s(uper)?)?|(rtx_?)?20[678]0(_?ti|_?s(uper)?)?|quadro_rtx_?[4568]000": 7.5,
}
"""The highest compute capability of GPU models before Ampere, by https://developer.nvidia.com/cuda-gpus and its page of
legacy GPUs: no model will be added. Whatever it does not name may be right; the job says if it is not."""

NEEDED = 7.5
"""The least that the pinned PyTorch has code for: the first of ``torch.cuda.get_arch_list()``."""

NEEDED_BY_HALF = 8.0
"""The least on which ``--precision half`` runs."""


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
        if capability(model) < NEEDED:
            raise ConfigError(
                f"profile: gpu_model {model} is older than the pinned PyTorch supports: choose one of compute "
                f"capability {NEEDED} or later, such as t4 or a100"
            )
        if half_precision and capability(model) < NEEDED_BY_HALF:
            raise ConfigError(
                f"profile: gpu_model {model} cannot run precision: half, which {half_precision[0]} asks for: choose "
                f"one of compute capability {NEEDED_BY_HALF} or later, such as a100, or precision: single"
            )


def capability(model: str) -> float:
    """The compute capability of a model by SLURM's name for it, such as v100 or tesla_v100-sxm2-16gb; or infinity."""
    for models, known in CAPABILITIES.items():
        if re.match(rf"(nvidia_|tesla_|geforce_)*({models})\b", model.lower()):
            return known
    return math.inf

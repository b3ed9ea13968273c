"""One training on several nodes of a SLURM cluster: what its job asks for, and how it starts on each of them.

Snakemake runs a rule's whole command in the rule's container, where there is no srun. A job of several nodes therefore
has no container of Snakemake's: its command begins with an srun, which starts the same container on every node.
"""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from experiment.errors import ConfigError

TRAININGS = ("pretrain", "distill", "distill_online")
"""The rules that train an encoder; their jobs alone can use several nodes."""

SECONDS_TO_MEET = 600
"""How long nodes wait for each other: one may load its image and its packages for minutes."""

SECONDS_TO_END = 60
"""How long the others may take once a process has ended: one of them may be saving the training's state."""


def count(rule: str, asked: Mapping[str, str]) -> int:
    """How many nodes a job of the rule takes, of the resources that are ``asked`` for it.

    Raises:
        ConfigError: it is no number, or the rule cannot use several.
    """
    nodes = _number(rule, asked, "nodes", r"[1-9]\d*")
    if nodes > 1 and rule not in TRAININGS:
        raise ConfigError(f"{rule}:nodes={nodes}: only jobs of {', '.join(TRAININGS)} can use several nodes")
    return nodes


def gpus_each(rule: str, asked: Mapping[str, str]) -> int:
    """How many GPUs a job of the rule takes on each of its nodes.

    Raises:
        ConfigError: they cannot be divided equally.
    """
    nodes, gpus = count(rule, asked), _number(rule, asked, "gpu", r"\d+")
    if gpus % nodes:
        raise ConfigError(
            f"{rule}:nodes={nodes}: gpu counts the GPUs of all nodes, and {gpus} cannot be divided among them equally: "
            f"set {rule}:gpu to a multiple of {nodes}"
        )
    return gpus // nodes


def _number(rule: str, asked: Mapping[str, str], resource: str, pattern: str) -> int:
    text = asked.get(resource, "1")
    if not re.fullmatch(pattern, text):
        raise ConfigError(f"{rule}:{resource}={text}: expected a whole number")
    return int(text)


def check(asked: Mapping[str, Mapping[str, str]], *, is_local: bool, image: str | None) -> None:
    """
    Args:
        asked: what the profile and the command line say of the rules' resources.
        is_local: jobs run on this machine.
        image: what trainings run in, if they run in containers.

    Raises:
        ConfigError: a number is none, or several nodes are asked for where they cannot be had.
    """
    for rule, resources in asked.items():
        gpus_each(rule, resources)
        if count(rule, resources) == 1:
            continue
        several = f"{rule}:nodes={resources['nodes']}"
        if is_local:
            raise ConfigError(f"{several}: on this machine there is one: use --profile workflow/profiles/slurm")
        if image and "://" in image:
            raise ConfigError(
                f"{several}: containers: torch: {image} is of a registry, and several nodes start an image file: pull "
                f"it, `apptainer pull torch.sif {image}`, and name the file in the config"
            )


def resources(rule: str, asked: Mapping[str, str], inside: str) -> dict[str, str | int]:
    """The resources of a rule's job that depend on how many nodes it takes.

    ``launcher`` begins its command, and is nothing on one node. By ``mpi``, SLURM's plugin leaves srun to the command.

    Args:
        inside: the command that runs another in the container, if jobs run in containers.
    """
    nodes = count(rule, asked)
    if nodes == 1:
        return {"launcher": ""}
    resources: dict[str, str | int] = {
        "launcher": launcher(nodes, inside),
        "mpi": "srun",
        "tasks": nodes,
        "tasks_per_gpu": 0,
    }
    if gpus := gpus_each(rule, asked):
        # Beside SLURM's --gpus, which may be met by more of one node's than of another's.
        resources["gres"] = ":".join(["gpu", *filter(None, [asked.get("gpu_model")]), str(gpus)])
    return resources


def launcher(nodes: int, inside: str) -> str:
    """The command that starts another on each node of its job, inside the container, and tells torchrun where to meet.

    They meet on the node where the job's script runs, at a port of the job's own.
    """
    srun = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--cpu-bind=none"]
    srun += ["--kill-on-bad-exit=0", f"--wait={SECONDS_TO_END}"]
    meeting = {
        "PET_NNODES": nodes,
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": "$(hostname):$((20000 + SLURM_JOB_ID % 10000))",
        "PET_RDZV_ID": "$SLURM_JOB_ID",
        "PET_RDZV_CONF": f"join_timeout={SECONDS_TO_MEET},read_timeout={SECONDS_TO_MEET}",
    }
    variables = [f'{name}="{value}"' for name, value in meeting.items()]
    return " ".join(["srun", *srun, *filter(None, [inside]), "env", *variables])


def in_container(image: str, arguments: str) -> str:
    """The command that runs another in an image as Snakemake does, with these arguments of Apptainer's."""
    return f"apptainer exec --home {shlex.quote(str(Path.cwd()))} {arguments} {shlex.quote(image)}"

"""The architectures that the config names: what can be told of them without building one."""

import difflib
import functools
import importlib.util
import re
from pathlib import Path

from experiment import source
from experiment.datasets import Dataset
from experiment.errors import ConfigError, unknown


def require_architecture(where: str, name: str, dataset: Dataset) -> None:
    """Refuse an architecture that there is not, or that cannot see the dataset's images."""
    # A name ends its family at the first sign, so one with a dash could never be asked for.
    families = [family for family in source.plugins("stages.architectures") if family.isalpha()]
    if source.architecture_family(name) not in families:
        raise ConfigError(f"{where}: {unknown('architecture', name, families)}, each with its variant, as in resnet18")
    if source.architecture_family(name) == "timm":
        _require_timm_model(where, name)
    module = source.plugin_module("stages.architectures", source.architecture_family(name))
    names, pattern = source.literal(module, "NAMES", ()), source.literal(module, "PATTERN", "")
    # A family that does not say which names it takes is left to tell its encoder's job.
    if names and name not in names and not re.fullmatch(pattern, name):
        raise ConfigError(f"{where}: {unknown('architecture', name, names)}")
    smallest = source.literal(module, "SMALLEST", 1)
    if dataset.size < smallest:
        raise ConfigError(
            f"{where}: {name} cannot see images of {dataset.size} pixels, the size of {dataset.name}; expected a size "
            f"of at least {smallest}"
        )


def _require_timm_model(where: str, name: str) -> None:
    """Refuse what is no ``timm/NAME`` of timm's, a tag aside: its job would, but only after its teacher's."""
    model, known = name.removeprefix("timm/"), timm_models()
    if known and (model == name or model.partition(".")[0] not in known):
        nearest = difflib.get_close_matches(model.removeprefix("timm_"), known, n=1, cutoff=0.5)
        hint = f"did you mean 'timm/{nearest[0]}'? " if nearest else ""
        raise ConfigError(f"{where}: unknown architecture {name!r}; {hint}known are those of timm.list_models()")


@functools.cache
def timm_models() -> frozenset[str]:
    """The names of timm's models, read off its source: to import it takes seconds. None where timm is not installed."""
    package = importlib.util.find_spec("timm")
    if package is None or package.origin is None:
        return frozenset()
    files = (Path(package.origin).parent / "models").glob("*.py")
    return frozenset(
        name for file in files for name in re.findall(r"^@register_model\s+def (\w+)", file.read_text(), re.M)
    )

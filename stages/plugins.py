"""Find a method, an augmentation or a dataset source by its name in the config.

The name is the file's: ``compress-2q`` is ``stages/distillation/compress_2q.py``. So a new one is one new file, and
no list has to name it. The workflow knows the same rule and counts the file as part of the job's code.
"""

import importlib.util
import pkgutil
from types import ModuleType
from typing import TypeVar

from stages.errors import unknown

T = TypeVar("T")


def names(package: str) -> list[str]:
    """The names that `module` finds in ``package``, which need not be imported for them."""
    spec = importlib.util.find_spec(package)
    assert spec
    return sorted(info.name.replace("_", "-") for info in pkgutil.iter_modules(spec.submodule_search_locations))


def module(package: str, kind: str, name: str) -> ModuleType:
    """The module of ``package`` called ``name``; a `UserError` names the nearest one if there is none."""
    if name not in names(package):
        raise unknown(kind, name, names(package))
    return importlib.import_module(f"{package}.{name.replace('-', '_')}")


def class_in(found: ModuleType, base: type[T]) -> type[T]:
    """The one class derived from ``base`` that the module ``found`` defines itself."""
    (only,) = (
        value
        for value in vars(found).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == found.__name__
    )
    return only

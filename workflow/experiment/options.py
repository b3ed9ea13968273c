"""The options in the config: each is one that the stage declares which takes it, and of its type."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from experiment import source
from experiment.errors import ConfigError, unknown


def options_of(where: str, module: str, entry: Mapping[str, Any], fixed: Iterable[str] = ()) -> dict[str, Any]:
    """All options of ``module``: the entry's values, and the defaults for what it leaves out.

    So a default that is written out in the config is the same as one that is not.
    """
    known = source.options(module)
    given = given_options(where, module, {key: value for key, value in entry.items() if key not in fixed}, fixed)
    for option in known.values():
        if option.required and option.name not in given:
            raise ConfigError(f"{where}: the key {option.name!r} is missing ({option.help})")
    values = {name: given.get(name, option.default) for name, option in known.items()}
    if refusal := source.refusal(module, values):
        raise ConfigError(f"{where}: {refusal}")
    return values


def given_options(
    where: str, module: str, values: Mapping[str, Any], fixed: Iterable[str] = (), kind: str = "key"
) -> dict[str, Any]:
    """``values``, each checked to be an option of ``module`` and of its type, and written as its default is.

    Args:
        kind: what an option is called.
    """
    known = source.options(module)
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{where}: {unknown(kind, key, [*known, *fixed])}")
        if not known[key].accepts(value):
            hint = _number_hint(known[key], value)
            raise ConfigError(f"{where}.{key}: expected {known[key].expected}, got {value!r}{hint} ({known[key].help})")
    return {key: known[key].converted(value) for key, value in values.items()}


def _number_hint(option: source.Option, value: Any) -> str:
    """How to write a number that YAML 1.1 takes for text, for want of a point or of the exponent's sign, or quoted."""
    entries = value if isinstance(value, (list, tuple)) else [value]
    for text in (entry for entry in entries if isinstance(entry, str)):
        try:
            number = float(text)
        except ValueError:
            continue
        digits, exponent, power = f"{number:e}".partition("e")
        for meant, written in ((float, f"{float(digits)}{exponent}{power}"), (int, f"{number:.0f}")):
            if math.isfinite(number) and meant(number) == number and option.accepts_entry(meant(number)):
                quoted = isinstance(yaml.safe_load(text), (int, float))
                return f", where {text} is text to YAML: " + ("take its quotes away" if quoted else f"write {written}")
    return ""

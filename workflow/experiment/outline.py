"""The config's outline, held against its schema; the options inside are for the stages that take them to check."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from experiment.errors import ConfigError, unknown

SCHEMA = Path(__file__).resolve().parents[1] / "schemas" / "config.schema.yaml"

KINDS = {
    "object": "keys with values",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}
"""What JSON Schema's types are called."""


def check_outline(config: Mapping[str, Any]) -> None:
    """Check a config against the schema.

    Raises:
        ConfigError: the first place, in the order of their names, that is not as the schema says.
    """
    validator = Draft202012Validator(yaml.safe_load(SCHEMA.read_text()))
    for error in sorted(validator.iter_errors(config), key=lambda error: list(map(str, error.absolute_path))):
        raise ConfigError(_message(error))


def _message(error: Any) -> str:
    places = (f"[{place}]" if isinstance(place, int) else f".{place}" for place in error.absolute_path)
    where = "".join(places).removeprefix(".") or "the config"
    if error.instance is None and error.validator == "type":
        return f"{where}: is empty; fill it in, or take the key out"
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        odd = next(key for key in error.instance if key not in known)
        return f"{where}: {unknown('key', odd, known)}"
    if error.validator == "enum":
        return f"{where}: {unknown('value', error.instance, error.validator_value)} ({error.schema['description']})"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        text = error.schema["properties"][missing].get("description", "")
        return f"{where}: the key {missing!r} is missing ({text})"
    text = error.schema.get("description")
    return f"{where}: {_problem(error)}" + (f" ({text})" if text else "")


def _problem(error: Any) -> str:
    """What is wrong with a value, in words of ours where there are some."""
    if error.validator == "type":
        kinds = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
        hint = ", as YAML reads yes, no, on and off: put the word in quotes" if isinstance(error.instance, bool) else ""
        return f"expected {' or '.join(KINDS[kind] for kind in kinds)}, got {error.instance!r}{hint}"
    if error.validator == "minItems":
        return "is empty; expected at least one entry"
    if error.validator == "pattern":
        return f"{error.instance!r} is no name for it"
    return str(error.message)

"""The config's outline, held against its schema; the options inside are for the stages that take them to check."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from experiment.errors import ConfigError, unknown

SCHEMA = Path(__file__).resolve().parents[1] / "schemas" / "config.schema.yaml"


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
    return f"{where}: {error.message}" + (f" ({text})" if text else "")

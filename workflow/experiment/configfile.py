"""A config file itself: that it is YAML that ends and whose keys are names, and the config as a run began with it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from experiment.atomic import write_text
from experiment.errors import ConfigError


def check_file(path: Path) -> None:
    """Keys of `<<` may come again, as that is how they are overridden.

    Raises:
        ConfigError: it is no YAML, an anchor stands for what holds itself, or a mapping has a key twice, of which YAML
            keeps the last, or a list for a key; the line is named.
    """
    try:
        top = yaml.compose(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", error)
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{place}: cannot be read as YAML: {' '.join(str(problem).split())}") from None
    _check_node(path, top, ())


def kept(config: Mapping[str, Any], folder: Path) -> Path:
    """Write the config as it is now below ``folder``, under a name of its content, and return the file."""
    text = json.dumps(config, indent=1)
    file = folder.absolute() / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    write_text(file, text)
    return file


def _check_node(path: Path, node: yaml.Node | None, above: tuple[yaml.Node, ...]) -> None:
    """Check ``node`` and what is below it; ``above`` are those that it is in."""
    if node in above:
        raise ConfigError(f"{path}, line {node.start_mark.line + 1}: an anchor stands for what it is in itself")
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            _check_node(path, entry, (*above, node))
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(
                    f"{path}, line {line}: a key is a list or mapping; put a name that has braces in quotes"
                )
            if key.value in first:
                raise ConfigError(
                    f"{path}, line {line}: the key {key.value!r} is in line {first[key.value]} already; keep one"
                )
            first[key.value] = line
            _check_node(path, value, (*above, node))

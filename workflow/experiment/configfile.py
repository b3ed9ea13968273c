"""A config file itself: that it is YAML that ends, and that no key stands twice, of which YAML keeps the last."""

from pathlib import Path

import yaml

from experiment.errors import ConfigError


def check_file(path: Path) -> None:
    """Keys of `<<` may come again, as that is how they are overridden.

    Raises:
        ConfigError: it is no YAML, an anchor stands for what holds itself, or a mapping has a key twice; the line is
            named.
    """
    try:
        top = yaml.compose(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", error)
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{place}: cannot be read as YAML: {' '.join(str(problem).split())}") from None
    _check_node(path, top, ())


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
            if key.value in first:
                raise ConfigError(
                    f"{path}, line {line}: the key {key.value!r} is in line {first[key.value]} already; keep one"
                )
            first[key.value] = line
            _check_node(path, value, (*above, node))

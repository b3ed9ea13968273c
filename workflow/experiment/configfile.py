"""A config file itself: that it is YAML, and that no key stands twice, of which YAML keeps the last without a word."""

from pathlib import Path

import yaml

from experiment.errors import ConfigError


def check_file(path: Path) -> None:
    """Keys of `<<` may come again, as that is how they are overridden.

    Raises:
        ConfigError: it is no YAML, or a mapping has a key twice; the line is named.
    """
    try:
        pending = [yaml.compose(path.read_text())]
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", error)
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{place}: cannot be read as YAML: {' '.join(str(problem).split())}") from None
    while pending:
        node = pending.pop()
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.value in first:
                    raise ConfigError(
                        f"{path}, line {line}: the key {key.value!r} is in line {first[key.value]} already; keep one"
                    )
                first[key.value] = line
                pending.append(value)

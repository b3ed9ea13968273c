"""Keys that stand twice in a config file: YAML keeps the last of them, and says nothing."""

from pathlib import Path

import yaml

from experiment.errors import ConfigError


def refuse_repeated_keys(path: Path) -> None:
    """Check a file that is known to be YAML; keys of `<<` may come again, as that is how they are overridden.

    Raises:
        ConfigError: a mapping has a key twice; both lines are named.
    """
    pending = [yaml.compose(path.read_text())]
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

"""How the config is refused: in one line that names what is wrong, where, and the nearest known name."""

import difflib
from collections.abc import Iterable


class ConfigError(Exception):
    """What is wrong with the config, where, what was expected and what to do, in one line."""


def require(where: str, kind: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise ConfigError(f"{where}: {unknown(kind, name, known)}")


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    hint = f", did you mean {nearest[0]!r}?" if nearest else ";"
    return f"unknown {kind} {name!r}{hint} known are {', '.join(sorted(set(known))) or 'none'}"

"""Options as the stages' command lines take them."""

import shlex
from collections.abc import Mapping
from typing import Any


def flags(options: Mapping[str, Any]) -> str:
    """``{"batch_size": 128}`` as ``--batch-size 128``; lists become several values, truth values true or false."""
    return " ".join(f"--{name.replace('_', '-')} {_value(value)}".rstrip() for name, value in options.items())


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(_value(each) for each in value)
    return str(value).lower() if isinstance(value, bool) else shlex.quote(str(value))

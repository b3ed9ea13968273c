"""The error that a user can cause and mend."""

import difflib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


class UserError(Exception):
    """What is wrong, where, what was expected and what to do, in one line."""


def at_least(minimum: int, **values: int) -> None:
    """Raise the error for the first of the options ``values`` that is below ``minimum``."""
    for name, value in values.items():
        if value < minimum:
            raise UserError(f"--{name.replace('_', '-')} is {value}; expected at least {minimum}")


LARGEST_SEED = 2_000_000_000
"""So that it and those counted up from it fit a C int, which faiss's is."""


def seeds(**values: int) -> None:
    """Raise the error for the first of the options ``values`` that is no seed."""
    for name, value in values.items():
        if not 0 <= value <= LARGEST_SEED:
            raise UserError(f"--{name.replace('_', '-')} is {value}; expected 0 to {LARGEST_SEED}")


def filled(**values: Sequence[Any]) -> None:
    """Raise the error for the first of the options ``values`` that has no entry."""
    for name, entries in values.items():
        if not entries:
            raise UserError(f"--{name.replace('_', '-')} is empty; expected at least one")


def above_zero(**values: float) -> None:
    """Raise the error for the first of the options ``values`` that is no number above zero, or infinite."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise UserError(f"--{name.replace('_', '-')} is {value:g}; expected a number above 0")


def not_negative(**values: float) -> None:
    """Raise the error for the first of the options ``values`` that is no number, negative or infinite."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise UserError(f"--{name.replace('_', '-')} is {value:g}; expected a number, 0 or above")


def below_one(**values: float) -> None:
    """Raise the error for the first of the options ``values`` that is not 0 or more and below 1."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise UserError(f"--{name.replace('_', '-')} is {value:g}; expected 0 or more, below 1")


def zero_to_one(**values: float) -> None:
    """Raise the error for the first of the options ``values`` that is not in 0..1, both included."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise UserError(f"--{name.replace('_', '-')} is {value:g}; expected 0 to 1")


def different(**values: Sequence[Any]) -> None:
    """Raise the error for the first of the options ``values`` that has an entry twice."""
    for name, entries in values.items():
        if len(set(entries)) < len(entries):
            raise UserError(f"--{name.replace('_', '-')} has an entry twice: {' '.join(map(str, entries))}")


def percentages(*values: int) -> None:
    """Raise the error for the first of the --labels that is no percentage of a train split's labels, or there twice."""
    for place, value in enumerate(values):
        if not 1 <= value <= 100 or value in values[:place]:
            raise UserError(f"--labels has {value}; expected different percentages, from 1 to 100")


def require_split(path: Path, found: str, expected: str) -> None:
    """Raise the error for a file that holds another split of a dataset than is expected."""
    if found != expected:
        raise UserError(f"{path}: holds the {found} split; expected the {expected} split")


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a ``kind`` called ``name`` that is not among ``known``, with the nearest one named."""
    choices = sorted(known)
    nearest = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return UserError(f"unknown {kind} {name!r}: {hint}known are {', '.join(choices)}")

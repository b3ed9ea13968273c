"""What a paper reports: one table of workflow/papers/<paper>.yaml."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stages.errors import UserError, unknown


class Place(NamedTuple):
    """Where in a table; without groups, all is in the group ``""``."""

    group: str
    row: str
    column: str


@dataclasses.dataclass(frozen=True)
class Number:
    """A number as it is printed, with its deviation and remark, such as a layer's name, if it has them.

    Not ``comparable`` is one that was not measured as its table's others were; its remark says how it was.
    """

    value: float
    deviation: float | None = None
    note: str = ""
    comparable: bool = True

    def __str__(self) -> str:
        deviation = "" if self.deviation is None else f" ± {self.deviation}"
        return f"{self.value}{deviation}" + (f" [{self.note}]" if self.note else "")


@dataclasses.dataclass(frozen=True)
class Reported:
    """A paper's table, whose numbers are all in ``unit``; ``source`` says where it stands."""

    title: str
    source: str
    numbers: Mapping[Place, Number]
    unit: str = "percent"


def read_reported(path: Path, table: str) -> Reported:
    """The ``table`` in the file of a paper.

    Raises:
        UserError: the file has no such table, or one that is not of rows, groups if there are any, and columns.
    """
    import yaml

    try:
        paper = yaml.safe_load(path.read_text())
        tables = paper["tables"]
        if table not in tables:
            raise UserError(f"{path}: {unknown('table', table, tables)}")
        entry = tables[table]
        numbers = dict(_numbers(entry["numbers"]))
        source = _source(paper.get("citation", {}), table, entry)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: the numbers of {table} cannot be read ({error!r}); expected numbers by row, group and column"
        ) from error
    return Reported(entry.get("title", ""), source, numbers, entry.get("unit", "percent"))


def _source(citation: Mapping[str, Any], table: str, entry: Mapping[str, Any]) -> str:
    """As in "A Paper (a journal 2020), table 1, section 4.3"."""
    venue = " ".join(str(citation[key]) for key in ("venue", "year") if key in citation)
    parts = [
        citation.get("title", "") + (f" ({venue})" if venue else ""),
        table.replace("-", " "),
        *(f"{key} {entry[key]}" for key in ("section", "page") if key in entry),
        entry.get("source", ""),
    ]
    return ", ".join(filter(None, parts))


def _numbers(rows: Mapping[Any, Any]) -> Iterator[tuple[Place, Number]]:
    for row, parts in rows.items():
        for name, part in parts.items():
            if isinstance(part, Mapping) and "value" not in part:
                yield from ((Place(str(name), str(row), str(column)), _number(n)) for column, n in part.items())
            else:
                yield Place("", str(row), str(name)), _number(part)


def _number(entry: Any) -> Number:
    found = Number(**entry) if isinstance(entry, Mapping) else Number(entry)
    for number in (found.value, 0 if found.deviation is None else found.deviation):
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            raise TypeError(f"{number!r} is no number")
    return found

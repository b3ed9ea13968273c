"""The config's tables, their figures and the claims about them: what stands in each cell, and what a paper reports."""

import functools
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from experiment import source
from experiment.errors import ConfigError, require
from experiment.evaluations import Measurement
from experiment.students import without_seed

if TYPE_CHECKING:
    from experiment.config import Experiment

PAPERS = source.ROOT / "workflow" / "papers"


@dataclass(frozen=True)
class Reported:
    """A paper's table: ``file`` and ``table`` say where. ``numbers`` are by row, group if there are any, and column.

    ``digest`` is of the whole table and of the paper's citation; the paper's other tables leave it as it is.
    """

    file: str
    table: str
    title: str
    numbers: Mapping[str, Mapping[str, Any]]
    digest: str


@dataclass(frozen=True)
class Cell:
    """The ``value`` (empty: the one that is usually shown) of ``measurements``, which differ only in their seeds."""

    group: str
    row: str
    column: str
    value: str
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class Table:
    """``cells`` are those with something measured; without groups, all are of the group ``""``."""

    name: str
    title: str
    reported: Reported | None
    groups: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    references: tuple[str, ...]
    comparable: bool
    note: str
    cells: tuple[Cell, ...]

    @property
    def heading(self) -> str:
        """The title, or the paper's, or the name."""
        return self.title or (self.reported.title if self.reported else "") or self.name


@dataclass(frozen=True)
class Figure:
    """Of a table; lines go ``over`` its groups, columns or rows, whichever are numbers."""

    table: str
    kind: str
    over: str
    x: str
    y: str


@dataclass(frozen=True)
class Claim:
    """That the row ``better`` of a table is more than ``margin`` above each of the rows ``worse``."""

    text: str
    table: str
    margin: float
    better: str
    worse: tuple[str, ...]


def tables_of(config: Mapping[str, Any], experiment: "Experiment") -> dict[str, Table]:
    """The config's tables, each with its cells.

    Raises:
        ConfigError: a name that is not there, or a row, column or group in which nothing is measured.
    """
    resolver = _Resolver(experiment)
    _refuse_taken("tables", config.get("tables", {}), ("comparison", "claims"))
    return {name: _table(name, entry, resolver) for name, entry in config.get("tables", {}).items()}


def figures_of(config: Mapping[str, Any], tables: Mapping[str, Table]) -> dict[str, Figure]:
    _refuse_taken("figures", config.get("figures", {}), ("comparison", "training-curves"))
    return {name: _figure(f"figures.{name}", entry, tables) for name, entry in config.get("figures", {}).items()}


def claims_of(config: Mapping[str, Any], tables: Mapping[str, Table]) -> tuple[Claim, ...]:
    return tuple(_claim(f"claims[{number}]", entry, tables) for number, entry in enumerate(config.get("claims", [])))


def _refuse_taken(where: str, names: Iterable[str], taken: Sequence[str]) -> None:
    for name in names:
        if name in taken:
            raise ConfigError(f"{where}.{name}: every experiment has {where} of this name; expected another")


class _Resolver:
    """Finds the measurements that a row and a column name."""

    def __init__(self, experiment: "Experiment") -> None:
        self.evaluations = experiment.evaluations
        self.known = {"evaluation": list(experiment.evaluations), "dataset": list(experiment.datasets)}
        self.datasets = {name: encoder.dataset for name, encoder in experiment.encoders.items()}
        self.measured = {(m.encoder, m.dataset, m.evaluation): m for m in experiment.measurements}
        self.seeds: dict[str, list[str]] = {}
        for name in self.datasets:
            self.seeds.setdefault(without_seed(name), []).append(name)

    @property
    def names(self) -> list[str]:
        """What a row may name: encoders, and students without their seeds."""
        return [*dict.fromkeys([*self.datasets, *self.seeds])]

    def measurements(self, encoder: str, column: Mapping[str, str]) -> tuple[Measurement, ...]:
        encoders = [encoder] if encoder in self.datasets else self.seeds.get(encoder, [])
        evaluation = column["evaluation"]
        found = (self.measured.get((name, self._dataset(name, column), evaluation)) for name in encoders)
        return tuple(measurement for measurement in found if measurement)

    def _dataset(self, encoder: str, column: Mapping[str, str]) -> str:
        if "dataset" in column or column["evaluation"] not in self.evaluations:
            return column.get("dataset", "")
        named = self.evaluations[column["evaluation"]].datasets
        return named[0] if len(named) == 1 else self.datasets[encoder]


def _table(name: str, entry: Mapping[str, Any], resolver: _Resolver) -> Table:
    where = f"tables.{name}"
    rows, columns = _by_text(entry["rows"]), _by_text(entry["columns"])
    groups = _by_text(entry.get("groups", {"": {}}))
    cells = tuple(_cells(where, rows, columns, groups, resolver))
    # First, or the rows would be blamed for a column in which nothing can be measured.
    for label, column in columns.items():
        _check_column(f"{where}.columns.{label}", column, groups, resolver)
    for label in _missing(rows, {cell.row for cell in cells}):
        for group, variables in groups.items():
            name = _filled(where, rows[label], group, variables)
            require(f"{where}.rows.{label}", "encoder", name, resolver.names)
        raise _empty(f"{where}.rows.{label}")
    for label in _missing(columns, {cell.column for cell in cells}):
        raise _empty(f"{where}.columns.{label}")
    for label in _missing(groups, {cell.group for cell in cells}):
        raise _empty(f"{where}.groups.{label}")
    reported = _reported(where, entry["reported"]) if "reported" in entry else None
    if reported and not _overlap(reported, rows, columns, groups):
        raise ConfigError(
            f"{where}: {entry['reported']} reports nothing of its rows, groups and columns; expected the paper's own "
            f"labels, as in {reported.file}"
        )
    labels = {*rows, *(reported.numbers if reported else ())}
    references = tuple(map(str, entry.get("references", ())))
    for reference in references:
        require(f"{where}.references", "row", reference, labels)
    return Table(
        name=name,
        title=entry.get("title", "" if reported else name),
        reported=reported,
        groups=tuple(groups),
        rows=tuple(rows),
        columns=tuple(columns),
        references=references,
        comparable=entry.get("comparable", True),
        note=entry.get("note", ""),
        cells=cells,
    )


def _cells(
    where: str,
    rows: Mapping[str, str],
    columns: Mapping[str, Mapping[str, str]],
    groups: Mapping[str, Mapping[str, Any]],
    resolver: _Resolver,
) -> Iterator[Cell]:
    for group, variables in groups.items():
        for row, template in rows.items():
            encoder = _filled(f"{where}.rows.{row}", template, group, variables)
            for column, templates in columns.items():
                keys = {
                    key: _filled(f"{where}.columns.{column}.{key}", text, group, variables)
                    for key, text in templates.items()
                }
                if measurements := resolver.measurements(encoder, keys):
                    yield Cell(group, row, column, keys.get("value", ""), measurements)


def _by_text(entry: Mapping[Any, Any]) -> dict[str, Any]:
    """A label may be a number in the config, such as a temperature."""
    return {str(label): value for label, value in entry.items()}


def _filled(where: str, template: str, group: str, variables: Mapping[str, Any]) -> str:
    """``template`` with the group's variables in the place of their names."""

    def value(name: re.Match[str]) -> str:
        if name[1] not in variables:
            of = f"the group {group!r}" if group else "a table without groups"
            known = ", ".join(variables) or "none"
            raise ConfigError(f"{where}: unknown variable {name[1]!r} in {template!r}; known of {of} are {known}")
        return str(variables[name[1]])

    return re.sub(r"\{(.*?)\}", value, template)


def _missing(labels: Iterable[str], measured: set[str]) -> list[str]:
    return [label for label in labels if label not in measured]


def _check_column(where: str, column: Mapping[str, Any], groups: Mapping[str, Any], resolver: _Resolver) -> None:
    """Refuse a column of evaluations or datasets that the experiment does not have."""
    for group, variables in groups.items():
        for key, known in resolver.known.items():
            if key in column:
                place = f"{where}.{key}"
                require(place, key, _filled(place, column[key], group, variables), known)


def _empty(where: str) -> ConfigError:
    """A row, column or group without any measurement is a slip of the pen."""
    return ConfigError(
        f"{where}: none of its cells is measured; expected encoders that one of the columns' evaluations measures there"
    )


def _reported(where: str, name: str) -> Reported:
    """The table that ``name``, as paper/table, points to."""
    paper, _, table = name.partition("/")
    require(f"{where}.reported", "paper", paper, [path.stem for path in PAPERS.glob("*.yaml")])
    file = f"workflow/papers/{paper}.yaml"
    try:
        text = _parsed((PAPERS / f"{paper}.yaml").read_text())
        require(f"{where}.reported", f"table of {paper}", table, text["tables"])
        facts = {key: value for key, value in text.items() if key != "tables"}
        written = json.dumps({**facts, **text["tables"][table]}, default=str)
        entry = json.loads(written)  # in which all labels are text
        for parts in entry["numbers"].values():
            parts.keys()
        digest = hashlib.sha256(written.encode()).hexdigest()[:16]
        return Reported(file, table, entry.get("title", ""), entry["numbers"], digest)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split()) if isinstance(error, yaml.YAMLError) else repr(error)
        raise ConfigError(
            f"{where}.reported: {file} cannot be read ({reason}); expected tables, each with numbers by row, group "
            "and column"
        ) from error


@functools.cache
def _parsed(text: str) -> Any:
    """A paper's file, parsed once for all the tables of it."""
    return yaml.safe_load(text)


def _overlap(reported: Reported, rows: Iterable[str], columns: Iterable[str], groups: Iterable[str]) -> bool:
    """Whether some cell has a reported number."""
    parts = [
        reported.numbers[row] if group == "" else reported.numbers[row].get(group, {})
        for row in rows
        if row in reported.numbers
        for group in groups
    ]
    return any(column in part for part in parts if isinstance(part, Mapping) for column in columns)


def _figure(where: str, entry: Mapping[str, Any], tables: Mapping[str, Table]) -> Figure:
    require(f"{where}.table", "table", entry["table"], tables)
    lines = entry["kind"] == "lines"
    if "x" in entry and not lines:
        raise ConfigError(f"{where}.x: bars have no such axis; expected kind: lines, or no x")
    over = _over(where, tables[entry["table"]]) if lines else ""
    return Figure(entry["table"], entry["kind"], over, entry.get("x", ""), entry.get("y", ""))


def _over(where: str, table: Table) -> str:
    """What lines go over: the first of groups, columns, and rows but for references, that are numbers."""
    rows = [row for row in table.rows if row not in table.references]
    for name, labels in {"groups": table.groups, "columns": table.columns, "rows": rows}.items():
        if labels and all(map(_is_number, labels)):
            return name
    raise ConfigError(
        f"{where}.kind: lines are drawn over groups, columns or rows that are numbers, but {table.name} has the rows "
        f"{', '.join(table.rows)}; expected kind: bars, or the rows that are no numbers among the table's references"
    )


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def _claim(where: str, entry: Mapping[str, Any], tables: Mapping[str, Table]) -> Claim:
    require(f"{where}.table", "table", entry["table"], tables)
    rows = tables[entry["table"]].rows
    better, worse = str(entry["better"]), tuple(map(str, entry["worse"]))
    require(f"{where}.better", "row", better, rows)
    for row in worse:
        require(f"{where}.worse", "row", row, rows)
    if not math.isfinite(entry.get("margin", 0)):
        raise ConfigError(f"{where}.margin is {entry['margin']}; expected a number")
    if better in worse:
        raise ConfigError(f"{where}.worse: {better} cannot be better than itself; take it out")
    measured = {(cell.row, cell.group, cell.column) for cell in tables[entry["table"]].cells}
    if not any((better, group, column) in measured for row, group, column in measured if row in worse):
        raise ConfigError(
            f"{where}: nothing of {entry['table']} measures both {better} and one of {', '.join(worse)}; expected rows "
            "that share a column"
        )
    return Claim(entry["text"], entry["table"], entry.get("margin", 0), better, worse)

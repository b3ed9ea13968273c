"""What was measured beside what a paper reports: rows by groups of columns, and what a reader of them must know."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from stages.errors import UserError
from stages.tables.layout import MINUS, MISSING, Entry, Table, signed
from stages.tables.notes import DEVIATION, devices, images, repeats, seeds
from stages.tables.reported import Number, Place, Reported
from stages.tables.results import Cell, read_result, shown, summary

NOT_RUN = "not run"

SIDE_BY_SIDE = 4
"""So many columns fit beside each other on a page."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """A cell of the evaluation's value of this name; ``layer`` is where it was found, if several were probed."""

    value: str
    cell: Cell
    layer: str

    def __str__(self) -> str:
        return f"{self.cell} [{self.layer}]" if self.layer else str(self.cell)


@dataclasses.dataclass(frozen=True)
class Content:
    """A table's cells; not ``comparable`` are numbers of other data or architectures than the paper's."""

    groups: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    references: tuple[str, ...]
    measured: Mapping[Place, Measured]
    reported: Reported | None
    comparable: bool

    @property
    def numbers(self) -> Mapping[Place, Number]:
        """What is reported, of the groups and columns that are shown."""
        numbers = self.reported.numbers if self.reported else {}
        return {place: n for place, n in numbers.items() if place.group in self.groups and place.column in self.columns}

    @property
    def all_rows(self) -> list[str]:
        """The rows, references first, in the paper's order and with what only the paper has."""
        rows = list(dict.fromkeys([*(place.row for place in self.numbers), *self.rows]))
        return sorted(rows, key=lambda row: row not in self.references)

    @property
    def places(self) -> list[tuple[str, str]]:
        """The columns, each with its group."""
        return [(group, column) for group in self.groups for column in self.columns]

    def is_best(self, place: Place, measured: Measured) -> bool:
        """Whether it is the highest percentage of its column, as shown, among two or more that are no references."""
        rivals = {
            other.row: each.cell.mean
            for other, each in self.measured.items()
            if (other.group, other.column) == (place.group, place.column)
            and other.row not in self.references
            and each.cell.unit is None
        }
        return len(rivals) > 1 and place.row in rivals and f"{measured.cell.mean:.1f}" == f"{max(rivals.values()):.1f}"

    def difference(self, place: Place) -> float | None:
        """Measured less reported, where both are there and comparable."""
        measured, number = self.measured.get(place), self.numbers.get(place)
        if self.comparable and measured and number and number.comparable:
            return measured.cell.mean - number.value
        return None


def read_measured(cells: Iterable[tuple[Place, str, Sequence[Path]]]) -> dict[Place, Measured]:
    """What was measured, of each place's value (empty: the usual one) and metrics files.

    The files of a place are of encoders that differ in their seed. An evaluation may lack a value for some encoders, as
    a ratio to its teacher for one that has none: such a place stays empty.

    Raises:
        UserError: none of a column's files has its value, or only some of a place's; one is named, with what it has.
    """
    measured: dict[Place, Measured] = {}
    missing: dict[str, str] = {}
    for place, value, paths in cells:
        results = [read_result(path) for path in paths]
        name = value or shown(results[0].metrics.values)
        if lacking := [result for result in results if name not in result.metrics.values]:
            known = ", ".join(lacking[0].metrics.values)
            text = f"{lacking[0].path}: has no value {name!r} for the column {place.column}; it has {known}"
            if len(lacking) < len(results):
                raise UserError(text)
            missing.setdefault(place.column, text)
            continue
        cell = summary(results, name)
        assert cell is not None
        layers = dict.fromkeys(result.metrics.notes.get("best_layer", "") for result in results)
        measured[place] = Measured(name, cell, "/".join(layers) if name == "top1" else "")
    for column, text in missing.items():
        if column not in {place.column for place in measured}:
            raise UserError(text)
    return measured


def check_units(content: Content) -> None:
    """Refuse what is measured in another unit than it is reported in."""
    for place, measured in content.measured.items():
        unit = _unit(measured)
        if content.reported and place in content.numbers and content.reported.unit != unit:
            raise UserError(
                f"{measured.cell.results[0].path}: {measured.value} is in {unit or 'no unit'}, but the paper's number "
                f"for {place.row}, {_place_name(place.group, place.column)} is in {content.reported.unit}: compare "
                "another value, or correct the `unit` in the paper's file"
            )


def tables_of(content: Content) -> list[Table]:
    """The groups side by side or, where they would be too wide, one below the other with what each has."""
    if len(content.groups) == 1 or len(content.places) <= SIDE_BY_SIDE:
        spans = [(group, len(content.columns)) for group in content.groups if group]
        return [_table(content, "", spans, content.all_rows, content.places)]
    there = {*content.measured, *content.numbers}
    tables = []
    for group in content.groups:
        here = [place for place in there if place.group == group]
        rows = [row for row in content.all_rows if row in {place.row for place in here}]
        places = [(group, column) for column in content.columns if column in {place.column for place in here}]
        tables.append(_table(content, group, [], rows, places))
    return tables


def _table(
    content: Content,
    corner: str,
    spans: Sequence[tuple[str, int]],
    rows: Sequence[str],
    places: Sequence[tuple[str, str]],
) -> Table:
    references = [row for row in rows if row in content.references]
    others = [row for row in rows if row not in content.references]
    return Table(
        corner=corner,
        under="",
        spans=spans,
        columns=[column for _, column in places],
        parts=[
            [(row, [_entry(content, Place(group, row, column)) for group, column in places]) for row in part]
            for part in (references, others)
            if part
        ],
    )


def _entry(content: Content, place: Place) -> Entry:
    """As in ``57.0 (56.4, +0.6)``, with the measured number bold if it is the best of its column."""
    measured, number = content.measured.get(place), content.numbers.get(place)
    if measured is None and number is None:
        return Entry(MISSING)
    first = NOT_RUN if measured is None else str(measured)
    strong = first if measured and content.is_best(place, measured) else ""
    if number is None:
        return Entry(first, strong)
    difference = content.difference(place)
    beside = str(number) if difference is None else f"{number}, {signed(difference)}"
    return Entry(f"{first} ({beside})", strong)


def notes_of(content: Content, note: str) -> list[str]:
    """Where the numbers are from, how they were measured, and what the signs mean."""
    entries = [entry for table in tables_of(content) for entry in table.entries]
    notes = [*_about_the_paper(content), *_about_the_columns(content), *seeds(_cells_by_row(content))]
    if any("±" in str(measured) for measured in content.measured.values()):
        notes.append(DEVIATION)
    if any(entry.strong for entry in entries):
        apart = f", {', '.join(content.references)} aside" if content.references else ""
        notes.append(f"Bold: the best measured of the column{apart}.")
    if any(entry.text == MISSING for entry in entries):
        notes.append(f"{MISSING}: neither run nor reported." if content.reported else f"{MISSING}: not run.")
    return [*notes, note] if note else notes


def _about_the_paper(content: Content) -> Iterator[str]:
    if not content.reported:
        return
    yield f"Reported: {content.reported.source}."
    if content.comparable:
        yield f"Each cell: measured (reported, measured {MINUS} reported)."
        if any(not content.numbers[place].comparable for place in content.measured if place in content.numbers):
            yield "Without a difference: the paper's number was measured in another way, as its remark says."
    else:
        yield (
            f"Each cell: measured (reported). Measured on {_listed(_datasets(content))}: not comparable with the "
            "reported numbers, which are of other data or architectures."
        )
    left_out = _left_out(content)
    if left_out:
        yield f"In the paper's table but not here: {', '.join(left_out)}."


def _left_out(content: Content) -> list[str]:
    """The paper's groups that are not shown at all, and the columns missing from those that are."""
    theirs = content.reported.numbers if content.reported else ()
    groups = [place.group for place in theirs if place.group not in content.groups]
    columns = [place for place in theirs if place.group in content.groups and place.column not in content.columns]
    return list(dict.fromkeys([*groups, *(_place_name(place.group, place.column) for place in columns)]))


def _datasets(content: Content) -> list[str]:
    return list(dict.fromkeys(each.cell.results[0].metrics.dataset for each in content.measured.values()))


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "nothing"


def _place_name(group: str, column: str) -> str:
    return f"{group} {column}".lstrip()


def _about_the_columns(content: Content) -> Iterator[str]:
    """The images, and each column's value and protocol; where groups or rows differ in them, with their names."""
    datasets = {_images(measured) for measured in content.measured.values()}
    if len(datasets) == 1:
        yield f"Dataset: {min(datasets)}."
    for column in content.columns:
        facts: dict[str, list[Place]] = {}
        for place, measured in content.measured.items():
            if place.column == column:
                on = f" on {_images(measured)}" if len(datasets) > 1 else ""
                facts.setdefault(f"{_what(measured)}{on}; {_protocol(measured)}", []).append(place)
        texts = []
        for fact, places in facts.items():
            names = dict.fromkeys(place.group or place.row for place in places)
            where = f" ({', '.join(names)})" if len(facts) > 1 else ""
            cells = [content.measured[place].cell for place in places]
            speed = devices(cells) if _unit(content.measured[places[0]]).endswith("/s") else ""
            texts.append(fact + repeats(cells) + speed + where)
        if texts:
            yield f"{column}: {'; '.join(texts)}."


def _images(measured: Measured) -> str:
    metrics = measured.cell.results[0].metrics
    return f"{metrics.dataset}{images(metrics.n)}"


def _what(measured: Measured) -> str:
    unit = _unit(measured)
    return f"{measured.value} in {unit}" if unit else measured.value


def _unit(measured: Measured) -> str:
    return "percent" if measured.cell.unit is None else measured.cell.unit


def _protocol(measured: Measured) -> str:
    return measured.cell.results[0].metrics.protocol


def _cells_by_row(content: Content) -> dict[str, list[tuple[str, Cell]]]:
    rows: dict[str, list[tuple[str, Cell]]] = {}
    for place, measured in content.measured.items():
        rows.setdefault(place.row, []).append((_place_name(place.group, place.column), measured.cell))
    return rows

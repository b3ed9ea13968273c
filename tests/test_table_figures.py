"""The figures of tables, by their pixels and by what they choose to show."""

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageColor

from stages import plot
from stages.errors import UserError
from stages.figures import lines, table_bars
from stages.figures.labels import axis_label, mark_label
from stages.figures.style import GREY, OKABE_ITO
from stages.tables.points import read_points
from stages.write_table import CSV_COLUMNS
from tests.conftest import assert_refused, program

BLUE, ORANGE = OKABE_ITO[:2]


def write(path: Path, cells: list[dict[str, object]]) -> Path:
    """A CSV as write_table writes it, of one value in percent."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows({"column": "NN", "value": "top1", "unit": "percent", **cell} for cell in cells)
    return path


def drawn(kind: str, table: Path, *more: str) -> NDArray[np.uint8]:
    """The figure as [H, W, 3]."""
    path = table.with_suffix(".png")
    over = ["--over", "rows"] if kind == "lines" else []
    plot.main([f"table-{kind}", "--table", str(table), "--figure", str(path), *over, *more])
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def rows_of(picture: NDArray[np.uint8], colour: str) -> NDArray[np.intp]:
    """The lines of pixels in which a colour is."""
    return np.flatnonzero((picture == ImageColor.getrgb(colour)).all(axis=2).any(axis=1))


TEMPERATURES: list[dict[str, object]] = [
    {"row": "Teacher", "mean": 57.0},
    {"row": 0.02, "mean": 46.0, "std": 1.0, "reported": 46.3, "difference": -0.3},
    {"row": 0.04, "mean": 47.0, "reported": 46.8, "difference": 0.2},
    {"row": 1.0, "reported": 3.1},
]


def test_lines_over_rows_show_references_as_levels(tmp_path: Path) -> None:
    places = lines.places_of(read_points(write(tmp_path / "a.csv", TEMPERATURES)), "rows")
    assert [(place.panel, place.line, place.x) for place in places] == [
        ("NN", "", None),
        ("NN", "", 0.02),
        ("NN", "", 0.04),
        ("NN", "", 1.0),
    ]


def test_a_column_of_references_alone_has_their_levels(tmp_path: Path) -> None:
    cells = [*TEMPERATURES, {"row": "Teacher", "column": "Linear", "mean": 30.0}]
    picture = drawn("lines", write(tmp_path / "a.csv", cells), "--x", "temperature")
    right_panel = picture[: len(picture) * 3 // 4, picture.shape[1] * 3 // 5 :]
    assert len(rows_of(right_panel, GREY))
    assert not len(rows_of(right_panel, BLUE))


def test_columns_that_are_numbers_are_what_lines_go_over(tmp_path: Path) -> None:
    cells: list[dict[str, object]] = [
        {"group": "Top-1", "row": method, "column": epochs, "mean": epochs / 10}
        for method in "ab"
        for epochs in (100, 300)
    ]
    places = lines.places_of(read_points(write(tmp_path / "a.csv", cells)), "columns")
    assert {(place.panel, place.line) for place in places} == {("Top-1", "a"), ("Top-1", "b")}
    assert [place.x for place in places] == [100, 300, 100, 300]


def test_groups_that_are_numbers_are_what_lines_go_over(tmp_path: Path) -> None:
    cells: list[dict[str, object]] = [
        {"group": epochs, "row": "a", "column": column, "mean": 1}
        for epochs in (100, 300)
        for column in ("Top-1", "Top-5")
    ]
    places = lines.places_of(read_points(write(tmp_path / "a.csv", cells)), "groups")
    assert {(place.panel, place.line) for place in places} == {("Top-1", "a"), ("Top-5", "a")}
    assert {place.x for place in places} == {100, 300}


def test_a_higher_line_is_drawn_higher(tmp_path: Path) -> None:
    cells: list[dict[str, object]] = [
        {"group": group, "row": row, "mean": mean} for group, mean in (("low", 10), ("high", 90)) for row in (1, 2, 3)
    ]
    picture = drawn("lines", write(tmp_path / "a.csv", cells), "--x", "epochs")
    in_panel = [rows_of(picture, colour) for colour in (BLUE, ORANGE)]
    low, high = (rows[rows < 0.75 * len(picture)] for rows in in_panel)
    assert len(low)
    assert high.max() < low.min()


def test_lines_all_look_different_and_references_are_grey() -> None:
    names = [f"method {number}" for number in range(20)]
    looks = lines.looks_of([*names, "Teacher"], ["Teacher"])
    assert looks["Teacher"][0] == GREY
    assert len({looks[name] for name in names}) == 20
    assert GREY not in {looks[name][0] for name in names}


def test_what_is_only_reported_is_drawn_hollow(tmp_path: Path) -> None:
    reported = [{**cell, "mean": "", "std": "", "difference": ""} for cell in TEMPERATURES[1:]]
    only, both = (drawn("lines", write(tmp_path / f"{n}.csv", c)) for n, c in (("a", reported), ("b", TEMPERATURES)))
    solid = [len(rows_of(picture, BLUE)) for picture in (only, both)]
    assert solid[0] == 0 < solid[1]


def test_bars_have_marks_where_something_is_reported(tmp_path: Path) -> None:
    cells: list[dict[str, object]] = [
        {"group": "A", "row": "Supervised", "reported": 70.0},
        {"group": "A", "row": "CC", "reported": 60.0},
        {"group": "A", "row": "Ours", "mean": 50.0, "std": 2.0, "reported": 55.0, "difference": -5.0},
    ]
    (group,) = table_bars.groups_of(read_points(write(tmp_path / "a.csv", cells)))
    assert group.marks == (70.0, 60.0, 55.0)
    assert [cell and (cell.mean, cell.std) for _, cell in group.bars] == [None, None, (50.0, 2.0)]
    assert len(rows_of(drawn("bars", tmp_path / "a.csv", "--references", "Supervised"), BLUE)) > 50


def test_a_fourth_reference_is_grey_too_and_costs_have_their_unit(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    costs: list[dict[str, object]] = [
        {"row": name, "mean": 11.17, "value": "parameters", "unit": "M"} for name in names
    ]
    table = write(tmp_path / "a.csv", costs)
    assert not len(rows_of(drawn("bars", table, "--references", *names), BLUE))
    (group,) = table_bars.groups_of(read_points(table))
    assert [str(cell) for _, cell in group.bars] == ["11.2"] * 4
    assert axis_label(read_points(table), "") == "parameters, M"


def test_the_legend_says_what_the_reported_numbers_are(tmp_path: Path) -> None:
    points = read_points(write(tmp_path / "a.csv", TEMPERATURES))
    assert mark_label(points) == "reported"
    apart = read_points(write(tmp_path / "b.csv", [{**cell, "difference": ""} for cell in TEMPERATURES]))
    assert mark_label(apart) == "reported (other data or architectures)"
    assert mark_label(points[:1]) == ""
    assert axis_label(points, "") == "top1, %"
    assert axis_label(points, "1-NN accuracy") == "1-NN accuracy"


@pytest.mark.parametrize("kind", ["lines", "bars"])
def test_equal_tables_give_equal_files(tmp_path: Path, kind: str) -> None:
    table = write(tmp_path / "a.csv", TEMPERATURES)
    once, again = tmp_path / "once.png", tmp_path / "again.png"
    over = ["--over", "rows"] if kind == "lines" else []
    for path in (once, again):
        plot.main([f"table-{kind}", "--table", str(table), "--figure", str(path), *over])
    assert once.read_bytes() == again.read_bytes()


def test_refuses_lines_over_no_numbers(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", [{"row": "Ours", "mean": 1.0}])
    before = set(tmp_path.rglob("*"))
    done = program("plot", "table-lines", "--table", table, "--over", "rows", "--figure", tmp_path / "a.png")
    assert_refused(done, table, "none of its rows is a number", folder=tmp_path, before=before)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,2\n", "lacks some"),
        (",".join(CSV_COLUMNS) + "\n", "no cells"),
        (
            ",".join(CSV_COLUMNS) + "\na,b\n",
            r"a\.csv: row 1 has not as many values as the header; expected what write_",
        ),
        (",".join(CSV_COLUMNS) + '\n"' + "x" * 140_000, r"a\.csv: cannot be read as a CSV \(field larger"),
        ("\xff", r"a\.csv: cannot be read as a CSV \('utf-8' codec"),
    ],
)
def test_refuses_other_files(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=expected):
        read_points(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"mean": "50,1"}, "could not convert string to float: '50,1'"),
        ({"mean": "inf"}, "inf is not finite"),
        ({"mean": 50, "std": -1}, "a deviation is -1"),
    ],
)
def test_refuses_what_is_no_number(tmp_path: Path, changed: dict[str, object], says: str) -> None:
    table = write(tmp_path / "a.csv", [{"row": "Ours", **changed}])
    with pytest.raises(UserError, match=rf"a\.csv: {says}; expected what write_table writes"):
        read_points(table)


def test_a_table_that_excel_has_saved_is_the_same(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", TEMPERATURES)
    expected = read_points(table)
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert read_points(table) == expected

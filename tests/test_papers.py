"""What the papers report, as data: read whole, consistent in itself, and found by the configs' tables."""

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiment.config import Experiment

from stages.tables.points import number_of
from stages.tables.reported import Number, Place, read_reported
from tests.project import ROOT

PAPERS = {name: ROOT / "workflow" / "papers" / f"{name}.yaml" for name in ("compress", "simdis")}

CONFIGS = sorted((ROOT / "workflow" / "configs").rglob("*.yaml"))

COUNTS = {  # numbers in each table of the papers, counted there
    ("compress", "table-1"): 87,
    ("compress", "table-2"): 21,
    ("compress", "table-3"): 18,
    ("compress", "table-4"): 72,
    ("compress", "table-5"): 62,
    ("compress", "table-6"): 28,
    ("compress", "table-7"): 26,
    ("simdis", "table-1"): 9,
    ("simdis", "table-2"): 17,
}

PRINTED = [  # paper, table, group, row, column, number: from every table of both papers
    ("compress", "table-1", "MoCo ResNet-50 → AlexNet", "Reg", "CA", 9.5),
    ("compress", "table-1", "MoCo ResNet-50 → MobileNet-V2", "Ours-1q", "Linear", 65.8),
    ("compress", "table-1", "ResNet-50x4 → ResNet-50", "Ours-2q", "NN", 63.0),
    ("compress", "table-2", "", "Ours-1q", "NN", 56.0),
    ("compress", "table-3", "", "Ours-2q", "10%", 47.6),
    ("compress", "table-4", "Cars196", "Ours-2q (ResNet-50x4)", "R@8", 60.4),
    ("compress", "table-5", "AlexNet", "Ours-2q (from R50x4)", "Places top-1", 40.4),
    ("compress", "table-5", "ResNet-50", "SwAV", "ImageNet top-1", 75.3),
    ("compress", "table-6", "Top-5", "Ours-1q", "1%", 82.3),
    ("compress", "table-7", "", "Ours-1q", "Det. mAP", 59.3),
    ("compress", "variants", "", "Without SoftMax, temperature, and memory bank", "NN", 42.3),
    ("compress", "momentum", "", "0.7", "NN", 47.45),
    ("compress", "caching", "", "Cached", "Linear", 61.2),
    ("simdis", "table-1", "N=1000", "SimDis-On-7v", "Top-1", 66.14),
    ("simdis", "table-2", "Offline", "Ŝ-v, T̂-v, T̂-v'", "Top-1", 63.27),
    ("simdis", "no-lars", "", "ResNet-50 (teacher)", "Top-1", 65.83),
]

NOT_IN_THE_PAPER = {  # rows that are ours
    "simdis-1": {"Teacher of SimDis-Off"},
    "compress-3b": {"64"},
    "queue": {"2048", "9469"},
    "momentum": {"0.9", "0.99"},
    "simdis-figure-3": {"Supervised", "MoCo-v2", "BYOL", "SEED"},  # bars whose heights the paper does not print
}


def entries() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, path in PAPERS.items():
        for table, entry in yaml.safe_load(path.read_text())["tables"].items():
            yield name, table, entry


@functools.cache
def numbers(paper: str, table: str) -> dict[Place, Number]:
    return dict(read_reported(PAPERS[paper], table).numbers)


def labels(places: dict[Place, Number]) -> tuple[set[str], set[str], set[str]]:
    groups, rows, columns = zip(*places, strict=True)
    return set(groups), set(rows), set(columns)


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_is_cited(paper: str) -> None:
    facts = yaml.safe_load(PAPERS[paper].read_text())["citation"]
    assert {"title", "authors", "venue", "year"} <= set(facts)
    assert len(facts["authors"]) == 3


@pytest.mark.parametrize(("paper", "table", "entry"), list(entries()))
def test_numbers_are_percentages_unless_they_have_a_unit(paper: str, table: str, entry: dict[str, Any]) -> None:
    assert entry["title"]
    assert "section" in entry or "source" in entry
    for place, number in numbers(paper, table).items():
        assert math.isfinite(number.value), place
        assert number.value > 0, place
        assert "unit" in entry or number.value < 100, place


@pytest.mark.parametrize(("paper", "table"), COUNTS)
def test_no_number_of_a_table_is_left_out(paper: str, table: str) -> None:
    assert len(numbers(paper, table)) == COUNTS[paper, table]


@pytest.mark.parametrize(("paper", "table", "group", "row", "column", "printed"), PRINTED)
def test_a_number_is_what_is_printed(paper: str, table: str, group: str, row: str, column: str, printed: float) -> None:
    assert numbers(paper, table)[Place(group, row, column)].value == printed


def test_deviations_are_those_of_one_shot() -> None:
    deviations = {place: n.deviation for place, n in numbers("compress", "table-3").items() if n.deviation is not None}
    assert set(deviations.values()) == {0.3, 0.1}
    assert {place.column for place in deviations} == {"1-shot"}
    assert len(deviations) == 6


def test_a_teacher_has_the_same_numbers_with_every_student() -> None:
    table = numbers("compress", "table-1")
    groups, _, columns = labels(table)
    moco = [
        [table[Place(group, "Teacher", column)] for column in sorted(columns)] for group in groups if "MoCo" in group
    ]
    assert len(moco) == 3
    assert moco[0] == moco[1] == moco[2]


def test_a_number_that_stands_in_two_tables_is_the_same_in_both() -> None:
    first, second, fifth = (numbers("compress", f"table-{number}") for number in (1, 2, 5))
    for column in ("Linear", "NN", "CA"):
        r18 = first[Place("MoCo ResNet-50 → ResNet-18", "Supervised", column)]
        assert second[Place("", "Supervised", column)] == r18
    for method in ("Ours-2q", "Ours-1q"):
        for teacher, group in (("R50", "MoCo ResNet-50 → ResNet-18"), ("R50x4", "ResNet-50x4 → ResNet-50")):
            student = group.split(" → ")[1]
            best = fifth[Place(student, f"{method} (from {teacher})", "ImageNet top-1")]
            assert best.value == first[Place(group, method, "Linear")].value
    for student in ("AlexNet", "ResNet-18"):
        supervised = first[Place(f"MoCo ResNet-50 → {student}", "Supervised", "Linear")]
        assert fifth[Place(student, "Sup. on ImageNet", "ImageNet top-1")].value == supervised.value


def test_figures_show_the_tables_numbers() -> None:
    figure, table = numbers("compress", "figure-1"), numbers("compress", "table-1")
    students = {group.split(" → ")[1]: group for group in labels(table)[0]}
    for place, number in figure.items():
        if place.row == "Supervised" or (place.row == "Ours-1q" and place.group != "AlexNet"):
            assert number == table[Place(students[place.group], place.row, place.column)]
    bars, epochs = numbers("simdis", "figure-3"), numbers("simdis", "table-1")
    for place, number in bars.items():
        assert number == epochs[Place(f"N={place.group}", place.row, place.column)]


def test_more_neighbours_and_guesses_never_hit_less() -> None:
    for place, number in numbers("compress", "table-4").items():
        if place.column != "R@1":
            fewer = f"R@{int(place.column[2:]) // 2}"
            assert number.value > numbers("compress", "table-4")[place._replace(column=fewer)].value
    table = numbers("compress", "table-6")
    for place, number in table.items():
        if place.group == "Top-1":
            assert number.value < table[place._replace(group="Top-5")].value


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "workflow" / "configs")))
def test_a_config_is_accepted(path: Path) -> None:
    experiment = Experiment(yaml.safe_load(path.read_text()))
    assert experiment.measurements


def compared() -> Iterator[Any]:
    """Every table of a config that names a paper's."""
    for path in CONFIGS:
        for name, table in yaml.safe_load(path.read_text()).get("tables", {}).items():
            if "reported" in table:
                yield pytest.param(name, table, id=f"{path.relative_to(ROOT / 'workflow' / 'configs')}:{name}")


@pytest.mark.parametrize(("name", "table"), list(compared()))
def test_a_config_names_what_the_paper_has(name: str, table: dict[str, Any]) -> None:
    paper, _, reported = table["reported"].partition("/")
    groups, rows, columns = labels(numbers(paper, reported))
    assert set(table.get("groups", {"": {}})) <= groups
    assert set(table["columns"]) - {"Top-5"} <= columns
    assert set(table["rows"]) - NOT_IN_THE_PAPER.get(name, set()) <= rows
    assert NOT_IN_THE_PAPER.get(name, set()).isdisjoint(rows)


def shapes(paths: list[Path]) -> dict[str, Any]:
    """What a reader sees of each table and figure: labels in order but for those of settings, which are numbers."""
    shapes: dict[str, Any] = {}
    for config in (yaml.safe_load(path.read_text()) for path in paths):
        for name, table in config.get("tables", {}).items():
            parts = {part: list(table.get(part, ())) for part in ("columns", "groups", "references")}
            values = [column.get("value") for column in table["columns"].values()]
            rows = [row for row in table["rows"] if number_of(str(row)) is None]
            shapes[f"table {name}"] = (table.get("reported"), table.get("title"), parts, values, rows)
        shapes.update({f"figure {name}": figure for name, figure in config.get("figures", {}).items()})
    return shapes


def test_tables_and_figures_are_the_same_at_both_scales() -> None:
    papers = [path for path in CONFIGS if path.stem != "evidence"]
    small = [path for path in papers if path.parent.name == "small"]
    assert shapes(small) == shapes([path for path in papers if path not in small])


def test_the_small_evidence_is_a_cut_of_the_large() -> None:
    large, small = (yaml.safe_load(path.read_text()) for path in CONFIGS if path.stem == "evidence")
    assert small["figures"].items() <= large["figures"].items()
    for name, table in small["tables"].items():
        rows = {row for row in table["rows"] if number_of(str(row)) is None} - {"Untrained teacher"}
        assert rows <= set(large["tables"][name]["rows"])
    said = {claim["text"].split(" (")[0] for claim in large["claims"]}
    assert {claim["text"].split(" (")[0] for claim in small["claims"]} <= said


def test_every_table_of_the_papers_is_in_a_config_of_each_scale() -> None:
    def named(paths: list[Path]) -> set[str]:
        tables = [table for path in paths for table in yaml.safe_load(path.read_text()).get("tables", {}).values()]
        return {table["reported"] for table in tables if "reported" in table}

    small = [path for path in CONFIGS if path.parent.name == "small"]
    theirs = {f"{paper}/{table}" for paper, table, _ in entries()}
    without = {"compress/training-time", "compress/repository", "simdis/gaps"}
    assert named(small) == theirs - without
    assert named([path for path in CONFIGS if path not in small]) == theirs - without

"""Verdicts on claims, against t-tests worked out by hand and by scipy's test of samples, and the text they make."""

import csv
import re
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stages import judge_claims, results_page
from stages.errors import UserError
from stages.tables.claims import Pair, Verdict
from stages.tables.layout import MINUS, MISSING
from stages.tables.points import Point
from stages.write_table import CSV_COLUMNS

SEEDS = "0 1 2"


def write(path: Path, cells: list[dict[str, object]]) -> Path:
    """A CSV as write_table writes it, of one value in percent."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows({"column": "NN", "value": "top1", "unit": "percent", "seeds": SEEDS, **cell} for cell in cells)
    return path


def cell(mean: float, std: float | None = 1.0, seeds: int = 3) -> Point:
    return Point("", "a", "NN", "top1", "percent", mean, std, None, None, seeds)


@pytest.mark.parametrize(
    ("better", "worse", "margin", "verdict"),
    [
        # Three seeds of deviation 1 each: t is the difference over sqrt(2/3), with 4 degrees of freedom; the one-sided
        # 5% point of t is 2.132, which is at a difference of 1.741.
        (cell(51.75), cell(50.0), 0.0, "holds"),
        (cell(51.73), cell(50.0), 0.0, "within noise"),
        (cell(48.27), cell(50.0), 0.0, "within noise"),
        (cell(48.25), cell(50.0), 0.0, "does not hold"),
        # The same, of a margin.
        (cell(50.75), cell(50.0), -1.0, "holds"),
        (cell(50.73), cell(50.0), -1.0, "within noise"),
        (cell(47.25), cell(50.0), -1.0, "does not hold"),
        (cell(52.75), cell(50.0), 1.0, "holds"),
        (cell(51.75), cell(50.0), 1.0, "within noise"),
        (cell(47.27), cell(50.0), -1.0, "within noise"),
        (cell(49.27), cell(50.0), 1.0, "within noise"),
        (cell(49.25), cell(50.0), 1.0, "does not hold"),
        # Two seeds have 2 degrees of freedom and the point 2.920.
        (cell(52.93, seeds=2), cell(50.0, seeds=2), 0.0, "holds"),
        (cell(52.91, seeds=2), cell(50.0, seeds=2), 0.0, "within noise"),
        # Seeds that do not differ leave no doubt.
        (cell(50.1, std=0.0), cell(50.0, std=0.0), 0.0, "holds"),
        (cell(49.9, std=0.0), cell(50.0, std=0.0), 0.0, "does not hold"),
        (cell(50.0, std=0.0), cell(50.0, std=0.0), 0.0, "within noise"),
        # The deviation of a single encoder is over repeats of its evaluation: of its training it says nothing.
        (cell(90.0, seeds=1), cell(10.0), 0.0, "one seed"),
        (cell(90.0), cell(10.0, std=None, seeds=1), 0.0, "one seed"),
    ],
)
def test_verdicts_are_those_of_a_table_of_t(better: Point, worse: Point, margin: float, verdict: Verdict) -> None:
    assert Pair(better, worse, margin).verdict == verdict


numbers = st.lists(st.floats(0, 100).map(lambda number: round(number, 2)), min_size=2, max_size=5)


@given(numbers, numbers, st.sampled_from([-1.0, 0.0, 2.0]))
def test_verdicts_are_those_of_the_samples_themselves(one: list[float], other: list[float], margin: float) -> None:
    """A claim holds where scipy's test of the single numbers says so; its opposite, then, never does."""
    better, worse = (cell(statistics.fmean(each), statistics.stdev(each), len(each)) for each in (one, other))
    verdict = Pair(better, worse, margin).verdict
    if better.std == worse.std == 0:
        return
    shifted = [number - margin for number in one]
    above, below = (
        stats.ttest_ind(shifted, other, equal_var=False, alternative=way).pvalue for way in ("greater", "less")
    )
    if min(abs(above - 0.05), abs(below - 0.05)) > 1e-6:
        assert verdict == ("holds" if above < 0.05 else "does not hold" if below < 0.05 else "within noise")


def judged(tmp_path: Path, table: Path, *words: str) -> tuple[str, list[dict[str, str]]]:
    outputs = tmp_path / "claims.md", tmp_path / "claims.csv"
    claim = ["--claim", "Ours | theirs", str(table), *words]
    judge_claims.main([*claim, "--markdown", str(outputs[0]), "--csv", str(outputs[1])])
    with outputs[1].open(newline="") as file:
        return re.sub(" +", " ", outputs[0].read_text()), list(csv.DictReader(file))


CELLS: list[dict[str, object]] = [
    {"row": "Ours", "mean": 60.0, "std": 1.0, "reported": 53.4},
    {"row": "Reg", "mean": 50.0, "std": 1.0, "reported": 41.7},
    {"row": "CRD", "mean": 60.5, "std": 1.0},
    {"row": "Ours", "column": "CA", "mean": 30.0, "std": 1.0},
    {"row": "Reg", "column": "CA", "mean": 40.0, "std": 1.0},
    {"row": "CRD", "column": "CA", "reported": 17.4},
]


def test_every_column_that_has_both_rows_is_compared(tmp_path: Path) -> None:
    text, rows = judged(tmp_path, write(tmp_path / "a.csv", CELLS), "0", "Ours", "Reg", "CRD")
    assert "| comparisons in which it | holds | does not hold | within noise | one seed |" in text
    assert "| Ours \\| theirs | 1 | 1 | 1 | |" in text
    assert "### Ours \\| theirs\n" in text
    assert "| Ours above | NN | CA |" in text
    assert f"| Reg | **+10.0 holds** (paper +11.7) | {MINUS}10.0 does not hold |" in text
    assert f"| CRD | {MINUS}0.5 within noise | {MISSING} |" in text
    assert [(row["worse"], row["column"], row["verdict"]) for row in rows] == [
        ("Reg", "NN", "holds"),
        ("Reg", "CA", "does not hold"),
        ("CRD", "NN", "within noise"),
    ]
    assert (float(rows[0]["difference"]), float(rows[0]["reported"])) == (10.0, pytest.approx(11.7))


def test_one_sentence_about_two_tables_is_judged_of_each(tmp_path: Path) -> None:
    up, down = (write(tmp_path / f"{name}.csv", cells) for name, cells in (("up", CELLS[:2]), ("down", CELLS[3:5])))
    text, rows = judged(
        tmp_path, up, *("0", "Ours", "Reg"), "--claim", "Ours | theirs", str(down), *("0", "Ours", "Reg")
    )
    assert text.count("### Ours \\| theirs\n") == 2
    assert [(row["table"], row["verdict"]) for row in rows] == [("up", "holds"), ("down", "does not hold")]


def test_groups_stand_side_by_side(tmp_path: Path) -> None:
    cells = [{**each, "group": group} for group in ("R18", "V2") for each in CELLS]
    text, rows = judged(tmp_path, write(tmp_path / "a.csv", cells), "-1", "Ours", "Reg")
    assert "| | R18 | | V2 | |" in text
    assert "| Ours, less than 1 below | NN | CA | NN | CA |" in text
    assert [(row["group"], row["column"]) for row in rows] == [
        ("R18", "NN"),
        ("R18", "CA"),
        ("V2", "NN"),
        ("V2", "CA"),
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("0", "Ours", "Unknown"), r"a\.csv: has no column in which both Ours and one of the others was measured"),
        (("0", "Ours"), None),
        (("much", "Ours", "Reg"), "--claim .*: expected a text, a table, a margin"),
        ((), "--claim .*: expected a text, a table, a margin"),
    ],
)
def test_refuses_what_cannot_be_judged(tmp_path: Path, words: tuple[str, ...], expected: str | None) -> None:
    with pytest.raises(UserError, match=expected):
        judged(tmp_path, write(tmp_path / "a.csv", CELLS), *words)
    assert not (tmp_path / "claims.md").exists()


def test_the_page_begins_with_what_it_is_and_with_the_claims(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", CELLS)
    judged(tmp_path, table, "0", "Ours", "Reg")
    (tmp_path / "a.md").write_text("## A table\n")
    results_page.main(
        [
            *("--about", "A trial of *both*.\n", "--claims", str(tmp_path / "claims.md")),
            *("--table", "A table", str(tmp_path / "a.md"), str(table), "--page", str(tmp_path / "results.md")),
        ]
    )
    page = (tmp_path / "results.md").read_text()
    parts = ["A trial of *both*.\n", "| cells measured |", (tmp_path / "claims.md").read_text(), "## A table\n"]
    places = [page.index(part) for part in parts]
    assert places == sorted(places)

"""The evidence page is of the numbers beside it: the learning rates were chosen as it says, and its verdicts follow."""

import json
from pathlib import Path

import pytest
import yaml
from experiment.config import Experiment
from experiment.tables import Table

from stages.artifacts.metrics import Metrics
from stages.tables.claims import Pair
from stages.tables.points import Point
from stages.tables.results import Result, shown, summary
from tests.project import ROOT

PAGE = (ROOT / "docs/evidence.md").read_text()


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    """The one that the page is of."""
    folder = ROOT / "workflow/configs" / ("small" if "`make evidence-small` makes this page" in PAGE else "")
    return Experiment(yaml.safe_load((folder / "evidence.yaml").read_text()))


@pytest.fixture(scope="module")
def measured() -> dict[tuple[str, str], Result]:
    """What was measured, by encoder and evaluation."""
    lines = (ROOT / "docs/metrics/evidence.jsonl").read_text().splitlines()
    metrics = [Metrics(**{**fields, "seeds": tuple(fields["seeds"])}) for fields in map(json.loads, lines)]
    return {(each.encoder["name"], each.evaluation): Result(Path(), each) for each in metrics}


def points(table: Table, measured: dict[tuple[str, str], Result]) -> dict[tuple[str, str, str], Point]:
    """A table's cells by group, row and column."""
    found = {}
    for cell in table.cells:
        results = [measured[m.encoder, m.evaluation] for m in cell.measurements]
        value = summary(results, cell.value or shown(results[0].metrics.values))
        assert value is not None
        place = (cell.group, cell.row, cell.column)
        found[place] = Point(*place, "", "percent", value.mean, value.std, None, None, len(results))
    return found


def test_each_method_has_the_learning_rate_that_is_best_in_the_grid(
    experiment: Experiment, measured: dict[tuple[str, str], Result]
) -> None:
    grid = points(experiment.tables["learning-rates"], measured)
    encoders = {(c.group, c.row): c.measurements[0].encoder for c in experiment.tables["learning-rates"].cells}
    compared = {m.encoder for cell in experiment.tables["methods"].cells for m in cell.measurements}
    for row in experiment.tables["learning-rates"].rows:
        best = max((point for point in grid.values() if point.row == row), key=lambda point: point.mean or 0)
        assert encoders[best.group, row] in compared, (
            f"{row}: put its variant at {best.group} into the table of methods"
        )


def test_the_verdicts_are_those_of_the_numbers(experiment: Experiment, measured: dict[tuple[str, str], Result]) -> None:
    for claim in experiment.claims:
        cells = points(experiment.tables[claim.table], measured)
        verdicts: dict[str, int] = {}
        for (group, row, column), worse in cells.items():
            if row in claim.worse and (group, claim.better, column) in cells:
                verdict = Pair(cells[group, claim.better, column], worse, claim.margin).verdict
                verdicts[verdict] = verdicts.get(verdict, 0) + 1
        line = next(line for line in PAGE.splitlines() if line.startswith(f"| {claim.text}"))
        counts = [text.strip() for text in line.removeprefix(f"| {claim.text}").split("|")[1:5]]
        kinds = ("holds", "does not hold", "within noise", "one seed")
        assert counts == [str(verdicts.get(kind, "")) for kind in kinds], claim.text

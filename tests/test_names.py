"""All experiments write into one results/: a name that two of them use means the same in both."""

import itertools
from pathlib import Path

import pytest
import yaml
from experiment.config import Experiment

from tests.project import ROOT

CONFIGS = [ROOT / "config.yaml", *sorted((ROOT / "workflow" / "configs").rglob("*.yaml"))]


def meanings(path: Path) -> dict[str, object]:
    """What stands behind each name, by its kind; encoders with what they learn, evaluations by what they measure."""
    experiment = Experiment(yaml.safe_load(path.read_text()))
    return {
        **{f"dataset {name}": dataset for name, dataset in experiment.datasets.items()},
        **{f"encoder {name}": encoder for name, encoder in experiment.encoders.items()},
        **{f"measurement {m}": experiment.evaluations[m.evaluation].options for m in experiment.measurements},
    }


EXPERIMENTS = {str(path.relative_to(ROOT)): meanings(path) for path in CONFIGS}


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(EXPERIMENTS, 2)))
def test_a_name_means_the_same_in_two_experiments(one: str, other: str) -> None:
    first, second = EXPERIMENTS[one], EXPERIMENTS[other]
    assert {name for name in first.keys() & second.keys() if first[name] != second[name]} == set()


def test_names_are_shared() -> None:
    assert (
        EXPERIMENTS["workflow/configs/compress.yaml"].keys() & EXPERIMENTS["workflow/configs/compress-ablations.yaml"]
    )

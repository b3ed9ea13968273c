"""The experiment that runs every method, and the page that says where each comes from, leave none out."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from experiment import source
from experiment.config import Experiment

from stages import plugins
from stages.errors import UserError
from stages.training.objective import Objective
from stages.training.recipe import TrainingRecipe

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "workflow/configs/methods.yaml").read_text())
PACKAGES = ("stages.pretraining", "stages.distillation")
METHODS = [(package, method) for package in PACKAGES for method in source.plugins(package)]


def test_every_method_is_in_the_experiment() -> None:
    experiment = Experiment(CONFIG)
    pretrained = {encoder.method for encoder in experiment.pretrained.values()}
    distilled = {student.method for student in experiment.students.values()}
    assert pretrained == set(source.plugins("stages.pretraining"))
    assert distilled == set(source.plugins("stages.distillation"))


def test_it_is_small() -> None:
    for encoder in Experiment(CONFIG).encoders.values():
        if encoder.method != "untrained":
            assert (encoder.options["epochs"], encoder.options["batch_size"]) == (3, 64)


def test_every_value_of_an_ablation_is_in_it() -> None:
    options = [student.options for student in Experiment(CONFIG).students.values()]
    ablations = {"anchors": {"queue", "minibatch"}, "divergence": {"kl", "squared"}, "warm_start": {False, True}}
    for key, values in ablations.items():
        assert {each[key] for each in options if key in each} == values


@pytest.mark.parametrize(("package", "method"), METHODS)
def test_every_method_refuses_a_recipe_and_temperatures_that_cannot_be(package: str, method: str) -> None:
    """A method that checks options of its own has to check those of its base as well."""
    options = plugins.module(package, "method", method).Options
    temperatures = [field.name for field in dataclasses.fields(options) if field.name.endswith("temperature")]
    for name, wrong in {"learning_rate": -1.0, **dict.fromkeys(temperatures, 0.0)}.items():
        with pytest.raises(UserError, match=f"^--{name.replace('_', '-')} is {wrong:g}; expected a number"):
            options(**{name: wrong})


@pytest.mark.parametrize(("package", "method"), METHODS)
def test_contrasts_and_predictions_are_of_two_views(package: str, method: str) -> None:
    objective = plugins.class_in(plugins.module(package, "method", method), Objective)
    two = {"simclr", "moco-v2", "byol", "simdis-off", "simdis-on"}
    assert objective.views == (2 if method in two else 1) or method == "swav", "whose crops are an option"


def test_three_methods_learn_from_more_than_embeddings() -> None:
    for student in Experiment(CONFIG).students.values():
        others = {"cluster-classification": "assignments", "simdis-off": "networks", "simdis-on": "online"}
        assert student.learns_from == others.get(student.method, "embeddings")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_has_every_method_with_its_own_keys(package: str) -> None:
    page = (ROOT / "docs/methods.md").read_text()
    sections = dict(re.findall(r"^### `([a-z0-9-]+)`\n((?:(?!#).*\n)*)", page, flags=re.MULTILINE))
    shared = {field.name for field in dataclasses.fields(TrainingRecipe)}
    for method in source.plugins(package):
        assert method in sections, f"docs/methods.md does not describe {method}"
        for key in source.options(source.plugin_module(package, method)):
            named = re.search(rf"`{key}[`:]", sections[method])
            assert key in shared or named, f"docs/methods.md does not name {key} of {method}"

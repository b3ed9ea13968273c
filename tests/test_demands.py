"""What a config asks of its datasets that they do not have is refused before anything runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from experiment import demands
from experiment.config import Experiment
from experiment.errors import ConfigError

from tests.project import ROOT, write_numerals

STUDENTS = {
    "teachers": ["teacher"],
    "dataset": "digits",
    "architectures": ["resnet18_x0.125"],
    "methods": ["cluster-classification"],
}


def config(dataset: dict[str, Any], evaluations: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """One teacher on one dataset, ``digits``, whatever its source."""
    return {
        "datasets": {"digits": {"size": 16, "augmentation": "crop-flip", **dataset}},
        "encoders": {"teacher": {"pretrain": "untrained", "architecture": "resnet18_x0.25", "dataset": "digits"}},
        "evaluations": evaluations,
        **parts,
    }


@pytest.fixture
def numerals(tmp_path: Path) -> dict[str, Any]:
    """A folder of five classes of 40 train images each."""
    write_numerals(tmp_path / "numerals")
    return {"source": "folder", "path": str(tmp_path / "numerals")}


def refused(config: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        demands.check(Experiment(config))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("options", "evaluation", "fits", "too_many", "name"),
    [
        ({}, "cluster-alignment", 1347, 1348, "clusters"),
        ({"val_images": 97}, "cluster-alignment", 1700, 1701, "clusters"),
        ({"train_fraction": 0.5}, "knn", 674, 675, "k"),
    ],
)
def test_more_clusters_or_neighbours_than_images_are_refused(
    options: dict[str, Any], evaluation: str, fits: int, too_many: int, name: str
) -> None:
    digits = {"source": "digits", **options}
    demands.check(Experiment(config(digits, {evaluation: {name: fits}})))
    expected = f"evaluations.{evaluation}.{name} is {too_many}, but digits has {fits} train images; lower it"
    assert refused(config(digits, {evaluation: {name: too_many}})) == expected


def test_more_neighbours_than_other_val_images_are_refused() -> None:
    demands.check(Experiment(config({"source": "digits"}, {"retrieval": {"ks": [449, 1]}})))
    said = refused(config({"source": "digits"}, {"retrieval": {"ks": [450, 1]}}))
    assert said == "evaluations.retrieval.ks has 450 others of each image, but digits has 450 val images; lower it"


def test_more_shards_than_images_are_refused() -> None:
    demands.check(Experiment(config({"source": "digits", "shards": 450}, {"knn": {}})))
    said = refused(config({"source": "digits", "shards": 451}, {"knn": {}}))
    assert said == "datasets.digits.shards is 451, but digits has 450 val images; lower it"


def test_images_of_a_folder_are_counted_if_it_is_there(numerals: dict[str, Any], tmp_path: Path) -> None:
    demands.check(Experiment(config(numerals, {"knn": {"k": 200}})))
    for k in (201, 10**22):
        assert refused(config(numerals, {"knn": {"k": k}})).endswith("but digits has 200 train images; lower it")
    demands.check(Experiment(config({**numerals, "path": str(tmp_path / "nowhere")}, {"knn": {"k": 201}})))


@pytest.mark.parametrize(("drop_last", "epochs"), [(True, 1), (False, 1), (True, 0)])
def test_a_batch_that_is_never_whole_is_refused(drop_last: bool, epochs: int, numerals: dict[str, Any]) -> None:
    options = {"batch_size": 201, "drop_last": drop_last, "epochs": epochs}
    students = [{**STUDENTS, "methods": ["regression"], "options": options}]
    asked = config(numerals, {"knn": {}}, students=students)
    if drop_last and epochs:
        name = "teacher--resnet18_x0.125--regression--seed0"
        expected = f"{name}: batch_size is 201, with drop_last, but digits has 200 train images; lower it"
        assert refused(asked) == expected
    else:
        demands.check(Experiment(asked))


def test_of_a_teacher_that_is_trained_along_its_student_is_named(numerals: dict[str, Any]) -> None:
    """The teacher is in no config by its name."""
    options = {"batch_size": 201, "drop_last": True, "epochs": 1, "warmup_epochs": 0}
    group = {**STUDENTS, "teachers": ["resnet18_x0.25"], "methods": ["simdis-on"], "options": options}
    expected = "resnet18_x0.25--resnet18_x0.125--simdis-on--seed0: batch_size is 201, with drop_last, "
    assert refused(config(numerals, {"knn": {}}, students=[group])).startswith(expected)


def test_a_student_of_more_clusters_than_images_is_refused(numerals: dict[str, Any]) -> None:
    students = [{**STUDENTS, "options": {"clusters": 201}}]
    assert "clusters is 201, but digits has 200 train" in refused(config(numerals, {"knn": {}}, students=students))


@pytest.mark.parametrize("kind", ["knn", "supervised"])
def test_labels_are_not_asked_of_a_folder_of_one_class(kind: str, tmp_path: Path) -> None:
    """Which is how images without labels are laid out; each would be of the right class."""
    (tmp_path / "photos/train/all").mkdir(parents=True)
    (tmp_path / "photos/train/.git").mkdir()
    photos = {"source": "folder", "path": str(tmp_path / "photos")}
    asked = config(photos, {"knn" if kind == "knn" else "cost": {}})
    if kind == "supervised":
        asked["encoders"]["teacher"]["pretrain"] = "supervised"
    where = "evaluations.knn" if kind == "knn" else "teacher"
    folder = tmp_path / "photos/train/all"
    assert refused(asked).startswith(
        f"{where}: {kind} needs images with labels, but those of digits are all in one folder, {folder}; "
    )
    (tmp_path / "photos/train/more").mkdir()
    demands._classes.cache_clear()
    demands.check(Experiment(asked))


@pytest.mark.parametrize("file", sorted((ROOT / "workflow/configs").rglob("*.yaml")), ids=lambda file: file.stem)
def test_our_experiments_ask_for_no_more_than_there_is(file: Path) -> None:
    demands.check(Experiment(yaml.safe_load(file.read_text())))

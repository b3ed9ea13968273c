"""The config: what it spells out, and how it refuses."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiment.config import ConfigError, Experiment

CONFIG = yaml.safe_load((Path(__file__).resolve().parents[1] / "config.yaml").read_text())


def edited(path: str, value: Any, base: dict[str, Any] = CONFIG) -> dict[str, Any]:
    """A copy of a config with the entry at ``a/b/c`` set; None takes it out."""
    config = copy.deepcopy(base)
    *parents, last = path.split("/")
    place: Any = config
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return config


def test_every_teacher_meets_every_architecture_method_and_seed() -> None:
    experiment = Experiment(edited("students/0/seeds", [0, 7]))
    group = CONFIG["students"][0]
    assert len(experiment.students) == len(group["architectures"]) * len(group["methods"]) * 2
    student = experiment.student(f"teacher--{group['architectures'][0]}--compress-2q--seed7")
    assert (student.teacher, student.method, student.seed, student.live) == ("teacher", "compress-2q", 7, False)


def test_options_come_from_the_method_then_the_group_then_the_variant() -> None:
    config = edited("cluster_pictures", [])
    config = edited("methods", {"hot": {"method": "compress-1q", "temperature": 0.2, "epochs": 3}}, config)
    config["students"][0].update(methods=["hot"], options={"epochs": 5, "batch_size": 32})
    options = Experiment(config).encoders["teacher--mobilenet_v2--hot--seed0"].options
    assert (options["temperature"], options["epochs"], options["batch_size"]) == (0.2, 3, 32)
    assert options["weight_decay"] == 1e-4


def test_a_default_spelled_out_is_no_difference() -> None:
    plain, spelled = Experiment(CONFIG), Experiment(edited("evaluations/knn", {"k": 1, "shots": 0}))
    assert plain.evaluations == spelled.evaluations


def test_a_student_can_be_a_teacher() -> None:
    config = copy.deepcopy(CONFIG)
    first = next(iter(Experiment(CONFIG).students))
    config["students"].append({**config["students"][0], "teachers": [first], "methods": ["compress-1q"]})
    assert Experiment(config).student(f"{first}--mobilenet_v2--compress-1q--seed0").teacher == first


REFUSALS = {
    "an unknown key": ("datasetz", {}, ["datasetz", "did you mean 'datasets'"]),
    "an unknown key of a group": ("students/0/archs", ["resnet18"], ["students.0", "'archs'"]),
    "an unknown key of an encoder": (
        "encoders/teacher/temprature",
        0.1,
        ["encoders.teacher", "did you mean 'temperature'"],
    ),
    "an unknown key of a dataset": ("datasets/digits/val_image", 3, ["datasets.digits", "did you mean 'val_images'"]),
    "an unknown option of a method": ("methods/compress-1q", {"momentum": 0.9}, ["methods.compress-1q", "'momentum'"]),
    "a value of the wrong type": (
        "encoders/teacher/epochs",
        "many",
        ["encoders.teacher.epochs", "a whole number", "'many'"],
    ),
    "a choice that does not exist": ("encoders/teacher/schedule", "linear", ["one of step, cosine", "'linear'"]),
    "a missing key": ("encoders/teacher/architecture", None, ["encoders.teacher", "'architecture' is missing"]),
    "an unknown pretraining method": ("encoders/teacher/pretrain", "simclrr", ["did you mean 'simclr'"]),
    "an unknown distillation method": ("students/0/methods", ["compress-3q"], ["did you mean 'compress-"]),
    "an unknown architecture": ("encoders/teacher/architecture", "resnot18", ["did you mean 'resnet'"]),
    "an unknown dataset": ("encoders/teacher/dataset", "digit", ["encoders.teacher.dataset", "did you mean 'digits'"]),
    "an unknown augmentation": ("datasets/digits/augmentation", "affine", ["did you mean 'affine-elastic'"]),
    "an unknown source": ("datasets/digits/source", "digit", ["did you mean 'digits'"]),
    "an unknown evaluation": ("evaluations/knnn", {}, ["evaluations.knnn", "did you mean 'knn'"]),
    "an unknown teacher": ("students/0/teachers", ["techer"], ["students[0].teachers", "did you mean 'teacher'"]),
    "a picture of nothing": ("cluster_pictures", ["nobody"], ["cluster_pictures", "'nobody'"]),
    "a name with a slash": ("encoders/a\\b", {"pretrain": "simclr"}, ["encoders"]),
    "a text for a list": ("students/0/methods", "compress-1q", ["students.0.methods", "not of type 'array'"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_wrong_config_is_refused_in_one_line(case: str) -> None:
    path, value, words = REFUSALS[case]
    with pytest.raises(ConfigError) as refusal:
        Experiment(edited(path, value))
    assert "\n" not in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


def test_a_circle_of_teachers_cannot_be_written_down() -> None:
    """A student's name holds its teacher's, so each of two students would need the longer name."""
    config = edited("cluster_pictures", [])
    first, second = "b--mobilenet_v2--compress-1q--seed0", "a--mobilenet_v2--compress-1q--seed0"
    group = {**config["students"][0], "architectures": ["mobilenet_v2"], "methods": ["compress-1q"]}
    config["students"] = [{**group, "teachers": [first]}, {**group, "teachers": [second]}]
    with pytest.raises(ConfigError, match=r"students\[0\]\.teachers: unknown encoder 'b--mobilenet_v2"):
        Experiment(config)

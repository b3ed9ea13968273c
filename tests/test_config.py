"""The config: what it spells out, and how it refuses."""

import contextlib
import copy
import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import timm
import yaml
from experiment import commands, encoders, source, tables
from experiment.architectures import require_architecture, timm_models
from experiment.config import ConfigError, Experiment
from experiment.configfile import check_file, kept
from snakemake.common.configfile import load_configfile

ROOT = Path(__file__).resolve().parents[1]

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


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
    student = experiment.students[f"teacher--{group['architectures'][0]}--compress-2q--seed7"]
    assert (student.teacher, student.method, student.seed) == ("teacher", "compress-2q", 7)
    assert student.learns_from == "embeddings"


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


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("datasets/digits/train_fraction", 1),
        ("encoders/supervised-mobilenet_v2/gamma", 0.1),
        ("encoders/supervised-mobilenet_v2/milestones", [30, 60]),
        ("students/0/options/sgd_momentum", 0.9),
        ("methods/compress-2q/momentum", 0),
        ("evaluations/linear/learning_rates", []),
    ],
)
def test_a_value_that_is_written_otherwise_is_no_difference(path: str, value: Any) -> None:
    """To a job it would be: 1 on its command line is not 1.0, which is the default."""
    plain, written = Experiment(CONFIG), Experiment(edited(path, value))

    def flags(experiment: Experiment) -> list[str]:
        parts = (experiment.datasets, experiment.encoders, experiment.evaluations)
        return [commands.flags(each.options) for part in parts for each in part.values()]

    assert flags(written) == flags(plain)
    assert (written.datasets, written.encoders, written.evaluations) == (
        plain.datasets,
        plain.encoders,
        plain.evaluations,
    )


def test_lists_are_whole_numbers_or_not_by_the_option() -> None:
    rates = Experiment(edited("evaluations/linear/learning_rates", [1, 0.5])).evaluations["linear"].options
    assert commands.flags({"rates": rates["learning_rates"]}) == "--rates 1.0 0.5"


def test_a_dataset_has_the_options_of_its_source_and_those_of_every_source() -> None:
    entry = {"source": "cifar10", "size": 32, "augmentation": "crop-flip", "train_fraction": 0.25, "skip_corrupt": 3}
    dataset = Experiment(edited("datasets/photos", entry)).datasets["photos"]
    assert dataset.options == {
        "path": "",
        "train_fraction": 0.25,
        "val_fraction": 1.0,
        "fraction_seed": 0,
        "skip_corrupt": 3,
        "short_side": 0,
    }
    words = shlex.split(commands.flags(dataset.options))
    assert words[words.index("--path") + 1] == ""
    spelled = edited("datasets/digits", {**CONFIG["datasets"]["digits"], "val_fraction": 1.0, "split_seed": 0})
    assert Experiment(spelled).datasets == Experiment(CONFIG).datasets


def test_a_method_says_what_it_learns_from() -> None:
    config = edited("students/0/methods", ["compress-1q", "cluster-classification"])
    experiment = Experiment(edited("cluster_pictures", [], config))
    kinds = {student.label: student.learns_from for student in experiment.students.values()}
    assert kinds == {"compress-1q": "embeddings", "cluster-classification": "assignments"}
    live = edited("students/0/teacher", "live", edited("cluster_pictures", []))
    assert {student.learns_from for student in Experiment(live).students.values()} == {"weights"}


def test_an_encoder_may_have_an_augmentation_of_its_own() -> None:
    config = edited("encoders/teacher/augmentation", "crop-flip")
    found = {name: encoder.augmentation for name, encoder in Experiment(config).encoders.items()}
    assert found.pop("teacher") == "crop-flip"
    assert set(found.values()) == {"affine-elastic"}


def test_a_group_of_students_may_have_an_augmentation_of_its_own() -> None:
    experiment = Experiment(edited("students/0/augmentation", "crop-flip"))
    assert {student.augmentation for student in experiment.students.values()} == {"crop-flip"}
    assert experiment.encoders["teacher"].augmentation == "affine-elastic"


def test_a_method_has_its_papers_augmentation_and_one_without_the_datasets() -> None:
    assert CONFIG["datasets"]["digits"]["augmentation"] == "affine-elastic"
    encoder = {"architecture": "resnet18", "dataset": "digits"}
    for method, augmentation in {
        "simclr": "simclr",
        "moco-v2": "moco-v2",
        "swav": "swav",
        "byol": "byol",
        "supervised": "affine-elastic",
    }.items():
        found = Experiment(edited("encoders/another", {**encoder, "pretrain": method})).encoders["another"]
        assert isinstance(found, encoders.Pretrained)
        assert found.augmentation == augmentation
    byol = edited("encoders/teacher", {**encoder, "pretrain": "byol"}, edited("cluster_pictures", []))
    for teacher, method in (("teacher", "simdis-off"), ("resnet18", "simdis-on"), ("teacher", "compress-2q")):
        group = {**CONFIG["students"][0], "teachers": [teacher], "methods": [method], "options": {}}
        experiment = Experiment(edited("students", [group], byol))
        expected = "affine-elastic" if method == "compress-2q" else "byol"
        assert {student.augmentation for student in experiment.students.values()} == {expected}


def test_a_student_can_be_a_teacher() -> None:
    config = copy.deepcopy(CONFIG)
    first = next(iter(Experiment(CONFIG).students))
    config["students"].append({**config["students"][0], "teachers": [first], "methods": ["compress-1q"]})
    assert Experiment(config).students[f"{first}--mobilenet_v2--compress-1q--seed0"].teacher == first


def test_by_default_every_encoder_is_measured_every_way_on_its_own_dataset() -> None:
    experiment = Experiment(CONFIG)
    found = [(m.encoder, m.dataset, m.evaluation) for m in experiment.measurements]
    assert found == [
        (name, encoder.dataset, evaluation)
        for name, encoder in experiment.encoders.items()
        for evaluation in experiment.evaluations
    ]


def test_an_evaluation_names_its_datasets_and_encoders() -> None:
    config = edited("datasets/others", {"source": "digits", "size": 32, "augmentation": "crop-flip"})
    config["evaluations"] = {"knn": {"datasets": ["others", "digits"], "encoders": ["teacher", "*--compress-?q--*"]}}
    found = {(m.encoder, m.dataset) for m in Experiment(edited("cluster_pictures", [], config)).measurements}
    encoders = ["teacher"] + [
        f"teacher--{architecture}--{method}--seed0"
        for architecture in CONFIG["students"][0]["architectures"]
        for method in ("compress-1q", "compress-2q")
    ]
    assert found == {(encoder, dataset) for encoder in encoders for dataset in ("digits", "others")}


def test_a_public_checkpoint_is_an_encoder_like_any_other() -> None:
    config = edited("encoders/public", {"fetch": "moco_v2_800ep", "dataset": "digits"})
    config["students"][0]["teachers"].append("public")
    experiment = Experiment(config)
    assert list(experiment.fetched) == ["public"]
    assert experiment.encoders["public"].architecture == "resnet50"
    assert experiment.students["public--mobilenet_v2--compress-1q--seed0"].teacher == "public"


TABLE: dict[str, Any] = {
    "columns": {"NN": {"evaluation": "{neighbours}"}, "CA": {"evaluation": "cluster-alignment", "value": "nmi"}},
    "groups": {
        "A": {"student": "mobilenet_v2", "neighbours": "knn"},
        "B": {"student": "resnet18_x0.5", "neighbours": "one-shot"},
    },
    "rows": {"Teacher": "teacher", "Ours": "teacher--{student}--compress-2q", 0.5: "untrained-{student}"},
    "references": ["Teacher"],
}
TABLED = {**CONFIG, "tables": {"mine": TABLE}}


def test_a_tables_cells_are_all_seeds_of_a_student() -> None:
    table = Experiment(edited("students/0/seeds", [0, 7], TABLED)).tables["mine"]
    cells = {(cell.group, cell.row, cell.column): cell for cell in table.cells}
    ours = cells["B", "Ours", "NN"]
    assert [(m.encoder, m.dataset, m.evaluation) for m in ours.measurements] == [
        (f"teacher--resnet18_x0.5--compress-2q--seed{seed}", "digits", "one-shot") for seed in (0, 7)
    ]
    assert [cells[group, "Teacher", "CA"].value for group in "AB"] == ["nmi", "nmi"]
    # The config calls the encoder untrained-resnet18_x05, so this cell is empty; the label has become text.
    assert {place[0] for place in cells if place[1] == "0.5"} == {"A"}


def test_a_cell_may_name_one_seed_and_another_dataset() -> None:
    config = edited("datasets/others", {"source": "digits", "size": 32, "augmentation": "crop-flip"})
    config["evaluations"] = {
        "knn": {"datasets": ["others", "digits"]},
        "recall": {"evaluation": "knn", "datasets": ["others"]},
    }
    config["tables"] = {
        "mine": {
            "columns": {
                "own": {"evaluation": "knn"},
                "other": {"evaluation": "knn", "dataset": "others"},
                "only": {"evaluation": "recall"},
            },
            "rows": {"Ours": "teacher--mobilenet_v2--compress-2q--seed0"},
        }
    }
    table = Experiment(edited("cluster_pictures", [], config)).tables["mine"]
    assert {cell.column: cell.measurements[0].dataset for cell in table.cells} == {
        "own": "digits",
        "other": "others",
        "only": "others",
    }


def test_a_paper_gives_its_table_and_no_other() -> None:
    table = {**TABLE, "reported": "compress/table-1", "groups": {"MoCo ResNet-50 → AlexNet": TABLE["groups"]["A"]}}
    reported = Experiment({**CONFIG, "tables": {"mine": table}}).tables["mine"].reported
    assert reported is not None
    assert (reported.file, reported.table) == ("workflow/papers/compress.yaml", "table-1")
    assert "Reg-BN" in reported.numbers
    assert "Cars196" not in str(reported)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tables: {table-1: {title: A}}", "KeyError('numbers')"),
        ("tables: {table-1: {numbers: {Ours: 3}}}", "AttributeError"),
        ("tables: {table-1: {numbers: [1, 2]}}", "AttributeError"),
        ("tables: [", "line 1"),
        ("citation: {title: A}", "KeyError('tables')"),
        ("", "TypeError"),
    ],
)
def test_a_paper_that_cannot_be_read_is_refused_in_one_line(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "PAPERS", tmp_path)
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"tables\.mine\.reported: .*mine\.yaml cannot be read") as refusal:
        Experiment(edited("tables/mine/reported", "mine/table-1", TABLED))
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


TABLE_REFUSALS = {
    "an unknown variable": ("rows", {"Ours": "{techer}"}, ["tables.mine.rows.Ours", "'techer'", "student, neighbours"]),
    "a row of no encoder": ("rows/Ours", "techer", ["tables.mine.rows.Ours", "did you mean 'teacher'"]),
    "a column of no evaluation": (
        "columns/CA",
        {"evaluation": "kn"},
        ["tables.mine.columns.CA", "unknown evaluation 'kn', did you mean 'knn'"],
    ),
    "no column of an evaluation": (
        "columns",
        {"CA": {"evaluation": "kn"}},
        ["tables.mine.columns.CA.evaluation: unknown evaluation 'kn', did you mean 'knn'"],
    ),
    "a column of no dataset": (
        "columns/CA",
        {"evaluation": "knn", "dataset": "digit"},
        ["tables.mine.columns.CA.dataset: unknown dataset 'digit', did you mean 'digits'"],
    ),
    "an unknown key of a column": ("columns/CA", {"evaluatio": "knn"}, ["tables.mine.columns.CA", "'evaluation'"]),
    "an unknown paper": ("reported", "compres/table-1", ["tables.mine.reported", "did you mean 'compress'"]),
    "an unknown table of a paper": ("reported", "compress/table-99", ["unknown table of compress 'table-99'"]),
    "a paper's table of other labels": ("reported", "compress/table-1", ["reports nothing of its rows, groups"]),
    "an unknown reference": ("references", ["Techer"], ["tables.mine.references", "did you mean 'Teacher'"]),
    "a number for a variable": ("groups", {"A": {5: "x"}}, ["tables.mine.groups.A: expected text, got 5"]),
    "a row that begins with a dash": ("rows", {"-x": "teacher"}, ["tables.mine.rows: '-x'", "begin with a dash"]),
    "a column that begins with a dash": ("columns", {"--x": {"evaluation": "knn"}}, ["tables.mine.columns: '--x'"]),
    "a group that begins with a dash": ("groups", {"-x": {}}, ["tables.mine.groups: '-x'", "begin with a dash"]),
}


@pytest.mark.parametrize("case", TABLE_REFUSALS)
def test_a_wrong_table_is_refused_in_one_line(case: str) -> None:
    path, value, words = TABLE_REFUSALS[case]
    with pytest.raises(ConfigError) as refusal:
        Experiment(edited(f"tables/mine/{path}", value, TABLED))
    assert "\n" not in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


FIGURE_REFUSALS = {
    "a figure of an unknown table": (
        {"table": "min", "kind": "bars"},
        "figures.f.table: unknown table 'min', did you mean",
    ),
    "a figure of an unknown kind": ({"table": "mine", "kind": "line"}, "figures.f.kind: unknown value 'line'"),
    "lines over words": (
        {"table": "mine", "kind": "lines"},
        "figures.f.kind: lines are drawn over groups, columns or",
    ),
    "bars over something": ({"table": "mine", "kind": "bars", "x": "epochs"}, "figures.f.x: bars have no such axis"),
}


@pytest.mark.parametrize("case", FIGURE_REFUSALS)
def test_a_wrong_figure_is_refused_in_one_line(case: str) -> None:
    figure, expected = FIGURE_REFUSALS[case]
    with pytest.raises(ConfigError) as refusal:
        Experiment({**TABLED, "figures": {"f": figure}})
    assert str(refusal.value).startswith(expected)
    assert "\n" not in str(refusal.value)


def test_a_column_where_nothing_is_measured_is_refused() -> None:
    config = edited("datasets/others", CONFIG["datasets"]["digits"], TABLED)
    with pytest.raises(ConfigError, match=r"tables\.mine\.columns\.CA: none of its cells is measured"):
        Experiment(edited("tables/mine/columns/CA", {"evaluation": "knn", "dataset": "others"}, config))


CLAIM = {"text": "Ours is better", "table": "mine", "better": "Ours", "worse": ["Teacher", 0.5]}


def test_claims_are_about_rows_of_a_table() -> None:
    (claim,) = Experiment({**TABLED, "claims": [CLAIM]}).claims
    assert (claim.table, claim.margin, claim.better, claim.worse) == ("mine", 0, "Ours", ("Teacher", "0.5"))


CLAIM_REFUSALS = {
    "an unknown table": ("table", "min", "claims[0].table: unknown table 'min', did you mean 'mine'"),
    "an unknown better row": ("better", "Our", "claims[0].better: unknown row 'Our', did you mean 'Ours'"),
    "an unknown worse row": ("worse", ["Ours", "0.6"], "claims[0].worse: unknown row '0.6', did you mean '0.5'"),
    "a margin in words": ("margin", "small", "claims[0].margin: expected a number, got 'small' (by more than how"),
    "a margin that is no number": ("margin", math.nan, "claims[0].margin is nan; expected a number"),
    "a row above itself": ("worse", ["Teacher", "Ours"], "claims[0].worse: Ours cannot be better than itself"),
    "an unknown key": ("note", "x", "claims[0]: unknown key 'note'"),
}


@pytest.mark.parametrize("case", CLAIM_REFUSALS)
def test_a_wrong_claim_is_refused_in_one_line(case: str) -> None:
    key, value, expected = CLAIM_REFUSALS[case]
    with pytest.raises(ConfigError) as refusal:
        Experiment({**TABLED, "claims": [{**CLAIM, key: value}]})
    assert str(refusal.value).startswith(expected)
    assert "\n" not in str(refusal.value)


def test_lines_may_go_over_columns_or_over_rows_that_are_no_references() -> None:
    over_rows = {
        **TABLE,
        "rows": {"Teacher": "teacher", 0.5: "untrained-mobilenet_v2"},
        "groups": {"A": TABLE["groups"]["A"]},
    }
    over_columns = {
        "columns": {1: {"evaluation": "knn"}, 5: {"evaluation": "one-shot"}},
        "rows": {"Teacher": "teacher"},
    }
    figures = {name: {"table": name, "kind": "lines"} for name in ("rows", "columns")}
    config = {**CONFIG, "tables": {"rows": over_rows, "columns": over_columns}, "figures": figures}
    assert {name: figure.over for name, figure in Experiment(config).figures.items()} == {
        "rows": "rows",
        "columns": "columns",
    }


def test_lines_need_a_row_that_is_no_reference() -> None:
    table = {"columns": {"NN": {"evaluation": "knn"}}, "rows": {"Teacher": "teacher"}, "references": ["Teacher"]}
    figures = {"f": {"table": "mine", "kind": "lines"}}
    with pytest.raises(ConfigError, match=r"figures\.f\.kind: lines are drawn over .* has the rows Teacher"):
        Experiment({**CONFIG, "tables": {"mine": table}, "figures": figures})


def test_the_names_of_what_every_experiment_has_are_taken() -> None:
    for name in ("comparison", "claims"):
        with pytest.raises(ConfigError, match=rf"tables\.{name}"):
            Experiment({**CONFIG, "tables": {name: TABLE}})


REFUSALS = {
    "an unknown checkpoint": (
        "encoders/public",
        {"fetch": "moco_v2_80ep", "dataset": "digits"},
        ["encoders.public.fetch", "did you mean 'moco_v2_800ep'"],
    ),
    "a checkpoint that cannot be loaded": (
        "encoders/public",
        {"fetch": "byol_r200_2x", "dataset": "digits"},
        ["encoders.public.fetch: byol_r200_2x cannot be used: it is a pickle", "take byol_vissl_r200_2x"],
    ),
    "an option of a checkpoint": (
        "encoders/public",
        {"fetch": "moco_v2_800ep", "dataset": "digits", "epochs": 3},
        ["encoders.public", "unknown key 'epochs'"],
    ),
    "a canary of a checkpoint whose authors have no neighbours": (
        "encoders/public",
        {"fetch": "swav_800ep", "dataset": "digits", "canary": 1},
        ["encoders.public.canary: swav_800ep has no published accuracy", "one of 1-nn, 20-nn, knn", "found linear"],
    ),
    "a canary without a tolerance": (
        "encoders/public",
        {"fetch": "moco_v2_800ep", "dataset": "digits", "canary": 0},
        ["encoders.public.canary: 0 is less than", "by how many percentage points"],
    ),
    "a canary of an encoder that is trained here": ("encoders/teacher/canary", 1, ["unknown key 'canary'"]),
    "both ways at once": (
        "encoders/teacher/fetch",
        "moco_v2_800ep",
        ["encoders.teacher: expected one of the keys pretrain and fetch"],
    ),
    "neither way": ("encoders/teacher/pretrain", None, ["encoders.teacher: expected one of the keys"]),
    "an unknown key": ("datasetz", {}, ["datasetz", "did you mean 'datasets'"]),
    "an unknown key of a group": ("students/0/archs", ["resnet18"], ["students[0]", "'archs'"]),
    "an unknown key of an encoder": (
        "encoders/teacher/temprature",
        0.1,
        ["encoders.teacher", "did you mean 'temperature'"],
    ),
    "an unknown key of a dataset": ("datasets/digits/val_image", 3, ["datasets.digits", "did you mean 'val_images'"]),
    "an unknown key of every dataset": (
        "datasets/digits/train_fractions",
        0.5,
        ["datasets.digits", "did you mean 'train_fraction'", "val_images", "source"],
    ),
    "a key of another source": ("datasets/digits/path", "photos", ["datasets.digits", "unknown key 'path'"]),
    "a source without its folder": (
        "datasets/digits",
        {"source": "cars196", "size": 224, "augmentation": "crop-flip"},
        ["datasets.digits", "the key 'path' is missing", "stanford_cars/"],
    ),
    "a source without a download and an empty folder": (
        "datasets/digits",
        {"source": "folder", "path": "", "size": 224, "augmentation": "crop-flip"},
        ["datasets.digits.path: is empty", "folder has no download", "train/ and val/"],
    ),
    "supervised training on several labels an image": (
        "datasets/digits/source",
        "voc2007",
        [
            "encoders.supervised-mobilenet_v2: supervised of",
            "needs images with one label each, but voc2007 has several",
        ],
    ),
    "an evaluation with the name of a teacher's clusters": (
        "evaluations/k1000",
        {"evaluation": "cluster-alignment"},
        ["evaluations", "'k1000'", "not k and a number"],
    ),
    "a picture of clusters that are not made": (
        "evaluations/cluster-alignment",
        {"encoders": ["untrained*"]},
        ["cluster_pictures: teacher has no clusters on digits", "cluster-alignment"],
    ),
    "a fraction that is no number": (
        "datasets/digits/train_fraction",
        "half",
        ["train_fraction", "a number", "'half'"],
    ),
    "an unknown option of a method": ("methods/compress-1q", {"momentum": 0.9}, ["methods.compress-1q", "'momentum'"]),
    "options of a method that is misspelt": (
        "methods/compres-1q",
        {"queue_length": 64},
        ["methods.compres-1q: unknown method 'compres-1q', did you mean 'compress-1q'"],
    ),
    "an unused variant of an unknown method": (
        "methods/hot",
        {"method": "compress-7q"},
        ["methods.hot.method: unknown method 'compress-7q', did you mean 'compress-"],
    ),
    "an unknown option of an unused method": (
        "methods/pkt",
        {"queue_lenght": 3},
        ["methods.pkt: unknown key 'queue_lenght'"],
    ),
    "a wrong value of an unused method": (
        "methods/seed",
        {"queue_length": "a lot"},
        ["methods.seed.queue_length: expected a whole number, got 'a lot'"],
    ),
    "a value of the wrong type": (
        "encoders/teacher/epochs",
        "many",
        ["encoders.teacher.epochs", "a whole number", "'many'"],
    ),
    "a number that YAML reads as text": (
        "encoders/teacher/learning_rate",
        yaml.safe_load("1e-4"),
        ["encoders.teacher.learning_rate: expected a number, got '1e-4', where 1e-4 is text to YAML: write 1.0e-04"],
    ),
    "a whole number with an exponent": ("encoders/teacher/epochs", "1e2", ["where 1e2 is text to YAML: write 100 ("]),
    "a number in quotes": ("datasets/digits/train_fraction", "0.4", ["0.4 is text to YAML: take its quotes away"]),
    "a list with a number in quotes": ("encoders/teacher/milestones", [3, "5"], ["5 is text to YAML: take its quotes"]),
    "a word that YAML reads as false": (
        "students/0/teachers",
        [False],
        ["students[0].teachers[0]: expected text, got False, as YAML reads yes, no, on and off: put the word in"],
    ),
    "a list without entries": ("students/0/methods", [], ["students[0].methods: is empty; expected at least one"]),
    "a seed beyond a C int": ("evaluations/cluster-alignment", {"seed": 10**11}, ["expected 0 to 2000000000"]),
    "a seed beyond all": ("encoders/teacher/seed", 10**22, ["encoders.teacher.seed", "maximum of 2000000000"]),
    "a milestone before the first epoch": ("encoders/teacher/milestones", [0], ["milestones is 0; expected at least"]),
    "a milestone twice": ("encoders/teacher/milestones", [3, 3], ["milestones has an entry twice: 3 3"]),
    "a temperature without end": ("evaluations/knn", {"temperature": math.inf}, ["temperature is inf; expected a"]),
    "a short side below the size": (
        "datasets/digits/short_side",
        16,
        ["datasets.digits.short_side is 16, so images of 32 pixels, its size, would be enlarged ones; expected 0, or"],
    ),
    "a training of less than no epochs": (
        "encoders/teacher/epochs",
        -1,
        ["encoders.teacher: epochs is -1; expected at least 0"],
    ),
    "a group's option out of range": (
        "students/0/options/batch_size",
        1,
        ["students[0]: compress-2q: batch_size is 1; expected at least 2"],
    ),
    "a group's option that one of its methods does not take": (
        "students/0/options/queue_length",
        64,
        ["students[0].options: unknown key of regression-bn 'queue_length'"],
    ),
    "a projection head without outputs": (
        "encoders/teacher/projection_dimension",
        0,
        ["encoders.teacher: projection_dimension is 0; expected at least 1"],
    ),
    "a memory bank without slots": (
        "methods/compress-1q/queue_length",
        0,
        ["students[0]: compress-1q: queue_length is 0; expected at least 1"],
    ),
    "a warm-up as long as the training": (
        "encoders/teacher/warmup_epochs",
        45,
        ["encoders.teacher: warmup_epochs is 45, but there are 45 epochs; expected fewer, or 0"],
    ),
    "no neighbours": ("evaluations/knn", {"k": 0}, ["evaluations.knn: k is 0; expected at least 1"]),
    "more labels than all": ("evaluations/knn", {"labels": 200}, ["evaluations.knn: labels has 200"]),
    "no protocols": ("evaluations/linear/presets", [], ["evaluations.linear: presets is empty; expected at least one"]),
    "a fraction above all": ("datasets/digits/train_fraction", 2, ["datasets.digits: train_fraction is 2; expected"]),
    "a choice that does not exist": ("encoders/teacher/schedule", "linear", ["one of step, cosine", "'linear'"]),
    "a missing key": ("encoders/teacher/architecture", None, ["encoders.teacher", "'architecture' is missing"]),
    "an unknown pretraining method": ("encoders/teacher/pretrain", "simclrr", ["did you mean 'simclr'"]),
    "an unknown distillation method": ("students/0/methods", ["compress-3q"], ["did you mean 'compress-"]),
    "an unknown architecture": ("encoders/teacher/architecture", "resnot18", ["did you mean 'resnet'"]),
    "a timm that names no model": ("encoders/teacher/architecture", "timm", ["unknown architecture 'timm'; known are"]),
    "a model that timm does not have": (
        "students/0/architectures",
        ["timm/resnest18"],
        ["students[0].architectures: unknown architecture 'timm/resnest18'; did you mean 'timm/resnet18'?"],
    ),
    "an unknown depth": ("encoders/teacher/architecture", "resnet19", ["encoders.teacher.architecture", "'resnet18'"]),
    "a width of no channels": (
        "encoders/teacher/architecture",
        "resnet18_x0",
        ["encoders.teacher.architecture: unknown architecture 'resnet18_x0', did you mean 'resnet18"],
    ),
    "an architecture that cannot see so small images": (
        "encoders/teacher/architecture",
        "alexnet",
        ["encoders.teacher.architecture: alexnet cannot see images of 32 pixels, the size of digits", "at least 63"],
    ),
    "an unknown student": (
        "students/0/architectures",
        ["mobilenet_v9"],
        ["students[0].architectures: unknown architecture 'mobilenet_v9', did you mean 'mobilenet_v2'"],
    ),
    "an unknown dataset": ("encoders/teacher/dataset", "digit", ["encoders.teacher.dataset", "did you mean 'digits'"]),
    "an unknown augmentation of an encoder": (
        "encoders/teacher/augmentation",
        "crop-flop",
        ["encoders.teacher.augmentation", "did you mean 'crop-flip'"],
    ),
    "an unknown augmentation of a group": (
        "students/0/augmentation",
        "crop-flop",
        ["students[0].augmentation", "did you mean 'crop-flip'"],
    ),
    "an unknown value of an ablation": (
        "methods/compress-1q/anchors",
        "batch",
        ["methods.compress-1q.anchors", "one of queue, minibatch", "'batch'"],
    ),
    "an unknown augmentation": ("datasets/digits/augmentation", "affine", ["did you mean 'affine-elastic'"]),
    "an unknown source": ("datasets/digits/source", "digit", ["did you mean 'digits'"]),
    "an unknown evaluation": ("evaluations/knnn", {}, ["evaluations.knnn", "did you mean 'knn'"]),
    "an evaluation on an unknown dataset": (
        "evaluations/knn",
        {"datasets": ["digit"]},
        ["evaluations.knn.datasets", "did you mean 'digits'"],
    ),
    "an evaluation by several labels of images with one": (
        "evaluations/voc-classification",
        {},
        ["evaluations.voc-classification", "on digits needs images with several labels each, but digits has one"],
    ),
    "an evaluation of no encoder": (
        "evaluations/knn",
        {"encoders": ["techer*"]},
        ["evaluations.knn.encoders", "did you mean 'teacher'"],
    ),
    "a teacher where there is no encoder": ("encoders", {}, ["students[0].teachers", "'teacher'; known are none"]),
    "an unknown teacher": ("students/0/teachers", ["techer"], ["students[0].teachers", "did you mean 'teacher'"]),
    "a picture of nothing": ("cluster_pictures", ["nobody"], ["cluster_pictures", "'nobody'"]),
    "an encoder's name with a backslash": (
        "encoders/a\\b",
        {"pretrain": "simclr", "architecture": "resnet18", "dataset": "digits"},
        ["encoders: 'a\\\\b' is no name", "(letters, digits, underscores and single dashes)"],
    ),
    "a dataset's name with a dash": (
        "datasets/my-photos",
        CONFIG["datasets"]["digits"],
        ["datasets: 'my-photos' is no name", "(letters, digits and underscores)"],
    ),
    "a number for a dataset's name": (
        "datasets",
        {1: CONFIG["datasets"]["digits"]},
        ["datasets: expected text, got 1"],
    ),
    "a number for an encoder's name": ("encoders", {5: {"dataset": "digits"}}, ["encoders: expected text, got 5"]),
    "a number for an evaluation's name": ("evaluations", {5: {}}, ["evaluations: expected text, got 5", "letters"]),
    "a number for a table's name": ("tables", {1: {"columns": {}, "rows": {}}}, ["tables: expected text, got 1"]),
    "a text for a list": ("students/0/methods", "compress-1q", ["students[0].methods: expected a list, got 'comp"]),
}


@pytest.mark.parametrize(("images", "found"), [("unlabeled", "none"), ("train+unlabeled", "none for some")])
def test_evaluations_of_images_without_labels_are_refused(images: str, found: str) -> None:
    stl10 = {"source": "stl10", "size": 96, "augmentation": "crop-flip"}
    config = edited("evaluations/knn", {"datasets": ["photos"]})
    assert Experiment(edited("datasets/photos", stl10, config)).measurements
    with pytest.raises(ConfigError, match=f"knn of teacher on photos needs images with one .* but stl10 has {found};"):
        Experiment(edited("datasets/photos", {**stl10, "train_images": images}, config))


def test_several_labels_an_image_and_another_datasets_clusters_are_refused() -> None:
    voc = {"source": "voc2007", "size": 224, "augmentation": "crop-flip"}
    more = edited("datasets/voc", voc)
    with pytest.raises(ConfigError, match="linear of teacher on voc needs images with one label each, but voc2007"):
        Experiment(edited("evaluations/linear", {"datasets": ["voc"]}, more))
    other = edited("datasets/other", CONFIG["datasets"]["digits"])
    with pytest.raises(ConfigError, match="cluster_pictures: teacher has no clusters on digits"):
        Experiment(edited("evaluations/cluster-alignment", {"datasets": ["other"]}, other))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("students:", "students: is empty; fill it in, or take the key out"),
        ("students: [{teachers:}]", "students[0].teachers: is empty; fill it in, or take the key out"),
    ],
)
def test_what_is_all_commented_out_is_to_be_taken_out(text: str, expected: str) -> None:
    group = {"dataset": "digits", "architectures": ["resnet18"], "methods": ["pkt"]}
    found = yaml.safe_load(text)
    found["students"] = found["students"] and [{**group, **found["students"][0]}]
    with pytest.raises(ConfigError, match=f"^{re.escape(expected)}$"):
        Experiment({**CONFIG, **found})


def test_what_is_known_is_told_once() -> None:
    """compress-1q is a method and a key of the config's methods."""
    with pytest.raises(ConfigError, match="unknown method") as refusal:
        Experiment(edited("students/0/methods", ["nothing"]))
    assert str(refusal.value).count("compress-1q") == 1


@pytest.mark.parametrize("second", [{"teacher": "live"}, {"options": {"epochs": 3}}, {"augmentation": "crop-flip"}])
def test_two_students_of_one_name_are_refused(second: dict[str, Any]) -> None:
    """Of these, only one would be trained."""
    first, *others = CONFIG["students"]
    again = {**first, "methods": ["compress-1q"], "architectures": first["architectures"][:1], **second}
    with pytest.raises(ConfigError, match=r"students\[1\]: another group has .*--compress-1q--seed0 already"):
        Experiment({**CONFIG, "students": [first, again, *others]})


@pytest.mark.parametrize("second", [{"teacher": "live"}, {"options": {"epochs": 3}}, {"augmentation": "crop-flip"}])
def test_seeds_of_one_student_that_differ_in_more_are_refused(second: dict[str, Any]) -> None:
    """Tables would show the mean of both, as if nothing but chance were between them."""
    first, *others = CONFIG["students"]
    again = {**first, "methods": ["compress-1q"], "architectures": first["architectures"][:1], "seeds": [1], **second}
    with pytest.raises(ConfigError, match=r"students\[1\]: .*--compress-1q--seed1 has other settings than .*--seed0, "):
        Experiment({**CONFIG, "students": [first, again, *others]})


def test_seeds_of_one_student_may_be_in_two_groups() -> None:
    first = CONFIG["students"][0]
    two = Experiment({**CONFIG, "students": [first, {**first, "seeds": [1]}]})
    assert set(two.encoders) == set(Experiment({**CONFIG, "students": [{**first, "seeds": [0, 1]}]}).encoders)


@pytest.mark.parametrize("epochs", [1, 2])
def test_seeds_of_students_with_teachers_trained_along_are_held_to_the_same(epochs: int) -> None:
    group = {
        "teachers": ["resnet18"],
        "dataset": "digits",
        "architectures": ["resnet18_x0.5"],
        "methods": ["simdis-on"],
        "options": {"epochs": 1, "warmup_epochs": 0},
    }
    again = {**group, "seeds": [1], "options": {"epochs": epochs, "warmup_epochs": 0}}
    config = {**CONFIG, "students": [group, again], "methods": {}, "cluster_pictures": []}
    if epochs == 1:
        assert len(Experiment(config).online) == 2
    else:
        with pytest.raises(ConfigError, match="has other settings than"):
            Experiment(config)


def second_reference(**changes: Any) -> dict[str, Any]:
    """The config with a second supervised encoder of an architecture that students have."""
    entry = {**CONFIG["encoders"]["supervised-mobilenet_v2"], **changes}
    return edited("encoders/supervised-again", entry)


@pytest.mark.parametrize(
    "changes",
    [{}, {"learning_rate": 0.01}, {"learning_rate": 0.01, "seed": 1}, {"augmentation": "crop-flip", "seed": 1}],
)
def test_references_of_one_row_that_differ_in_more_than_the_seed_are_refused(changes: dict[str, Any]) -> None:
    """The table of all would show their mean, or be refused when all has run."""
    with pytest.raises(ConfigError, match=r"encoders\.supervised-again: .*the row of supervised-mobilenet_v2 .*linear"):
        Experiment(second_reference(**changes))


def test_a_reference_that_was_fetched_is_in_no_row_with_one_that_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {
        "method": "supervised",
        "layout": "torchvision",
        "architecture": "mobilenet_v2",
        "size": 32,
        "file": "a.pth",
    }
    table |= {"normalisation": "imagenet", "dataset": "digits"}
    monkeypatch.setattr(encoders, "CATALOGUE", tmp_path / "catalogue.toml")
    for dataset, refused in (("digits", True), ("photos", False)):
        lines = [f"{key} = {json.dumps(value)}" for key, value in {**table, "dataset": dataset}.items()]
        encoders.CATALOGUE.write_text("\n".join(["[mine]", *lines]))
        config = edited("encoders/public", {"fetch": "mine", "dataset": "digits"})
        with pytest.raises(ConfigError, match="public: is in the row") if refused else contextlib.nullcontext():
            Experiment(config)


def test_references_may_have_seeds_and_differ_where_no_row_holds_both() -> None:
    assert "supervised-again" in Experiment(second_reference(seed=1)).encoders
    assert "supervised-again" in Experiment(second_reference(architecture="resnet18", learning_rate=0.01)).encoders
    apart = second_reference(learning_rate=0.01)
    others = {"encoders": [*CONFIG["encoders"], "teacher--*"]}
    apart["evaluations"] = {name: {**entry, **others} for name, entry in apart["evaluations"].items()}
    assert "supervised-again" in Experiment(apart).encoders


def test_one_student_may_be_named_by_two_groups() -> None:
    first = CONFIG["students"][0]
    again = Experiment({**CONFIG, "students": [first, {**first, "methods": first["methods"][:1]}]})
    assert again.encoders == Experiment({**CONFIG, "students": [first]}).encoders


def test_a_live_teacher_has_no_clusters() -> None:
    config = edited("students/0/methods", ["cluster-classification"], edited("students/0/teacher", "live"))
    with pytest.raises(ConfigError, match=r"students\[0\]\.teacher: cluster-classification learns from .*assignments"):
        Experiment(edited("cluster_pictures", [], config))


def of_two_sizes(large: int, **group: object) -> dict[str, Any]:
    """Teachers of every kind on images of ``large`` pixels, and a group of students on digits of 32."""
    dataset = {"source": "digits", "size": large, "augmentation": "crop-flip"}
    config = edited("datasets/large", dataset, edited("cluster_pictures", []))
    config["encoders"]["pretrained"] = {"pretrain": "byol", "architecture": "resnet18", "dataset": "large"}
    config["encoders"]["public"] = {"fetch": "moco_v2_800ep", "dataset": "large"}
    shared = {"dataset": "large", "architectures": ["resnet18"], "options": {"epochs": 1, "warmup_epochs": 0}}
    config["students"] = [
        {**shared, "teachers": ["teacher"], "methods": ["regression"]},
        {**shared, "teachers": ["resnet18"], "methods": ["simdis-on"]},
        {**shared, "dataset": "digits", **group},
    ]
    return config


LARGE = (
    "pretrained",
    "public",
    "teacher--resnet18--regression--seed0",
    "resnet18--resnet18--simdis-on--seed0--teacher",
)


@pytest.mark.parametrize("teacher", LARGE)
def test_a_live_teacher_of_another_size_is_refused(teacher: str) -> None:
    group = {"teachers": [teacher], "methods": ["crd"], "teacher": "live"}
    Experiment(of_two_sizes(32, **group))
    with pytest.raises(ConfigError) as refusal:
        Experiment(of_two_sizes(64, **group))
    assert str(refusal.value) == (
        f"students[2].teachers: {teacher} is an encoder of images of 64 pixels, the size of large, but its student "
        f"{teacher}--resnet18--crd--seed0 sees 32, the size of digits; a live teacher sees the same: expected datasets "
        "of one size, or take teacher: live out"
    )


def test_a_claim_of_rows_that_share_no_cell_is_refused() -> None:
    config = edited("tables/mine/groups", {name: {**TABLE["groups"][name]} for name in "AB"}, TABLED)
    config["tables"]["mine"]["groups"]["A"]["other"] = "resnet18_x0.5"  # which has no untrained one of this name
    config["tables"]["mine"]["groups"]["B"]["other"] = "mobilenet_v2"
    config["tables"]["mine"]["rows"]["In B alone"] = "untrained-{other}"
    Experiment({**config, "claims": [{**CLAIM, "worse": ["In B alone", 0.5]}]})
    with pytest.raises(ConfigError) as refusal:
        Experiment({**config, "claims": [{**CLAIM, "better": 0.5, "worse": ["In B alone"]}]})
    assert str(refusal.value).startswith("claims[0]: nothing of mine measures both 0.5 and one of In B alone; expected")


def test_networks_of_another_size_are_refused_as_they_cannot_be_cached() -> None:
    with pytest.raises(ConfigError, match=r"simdis-off.* a live teacher sees the same: expected datasets of one size$"):
        Experiment(of_two_sizes(64, teachers=["pretrained"], methods=["simdis-off"]))


@pytest.mark.parametrize("views", [{}, {"teacher_views": 2, "augmentation": "crop-flip"}])
def test_a_cached_teacher_may_be_of_another_size(views: dict[str, Any]) -> None:
    Experiment(of_two_sizes(64, teachers=list(LARGE), methods=["crd"], **views))


def viewing(**changed: object) -> dict[str, Any]:
    """The config with a cached teacher that embeds three views of each image for the first group's students."""
    group = {**CONFIG["students"][0], "teacher_views": 3, "augmentation": "crop-flip", **changed}
    return {**CONFIG, "students": [group], "cluster_pictures": []}


def test_a_teachers_views_are_shared_by_its_students() -> None:
    experiment = Experiment(viewing())
    files = {tuple(student.view_files) for student in experiment.students.values()}
    dataset = CONFIG["students"][0]["dataset"]
    assert files == {tuple(f"results/views/teacher/{dataset}-crop-flip/{number}.h5" for number in range(3))}
    plain = Experiment(CONFIG)
    assert not any(student.view_files for student in plain.students.values())


def test_views_that_no_epoch_shows_are_not_embedded() -> None:
    group = CONFIG["students"][0]
    students = Experiment(viewing(options={**group["options"], "epochs": 2})).students.values()
    assert {len(student.view_files) for student in students} == {2}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"teacher": "live"}, "compress-1q learns from its teacher's weights here; views are of a cached teacher"),
        ({"methods": ["cluster-classification"], "options": {}}, "learns from its teacher's assignments here"),
        ({"augmentation": "moco-v2"}, "moco-v2 draws on whole batches, so no view .* does not: crop-flip"),
        ({"teacher_views": 0}, r"teacher_views: .* minimum"),
    ],
)
def test_views_that_no_teacher_can_have_are_refused(changed: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Experiment(viewing(**{"methods": ["compress-1q"], **changed}))


@pytest.mark.parametrize("case", REFUSALS)
def test_a_wrong_config_is_refused_in_one_line(case: str) -> None:
    path, value, words = REFUSALS[case]
    with pytest.raises(ConfigError) as refusal:
        Experiment(edited(path, value))
    assert "\n" not in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("text", ["1e-4", "1e3", "2.5e10", "-3E-2", ".5e3"])
def test_a_number_that_yaml_reads_as_text_is_shown_as_it_is_to_be_written(text: str) -> None:
    value = yaml.safe_load(text)
    with pytest.raises(ConfigError, match="is text to YAML: write ") as refusal:
        Experiment(edited("encoders/teacher/learning_rate", value))
    (written,) = re.findall(r"write (\S+)", str(refusal.value))
    assert yaml.safe_load(written) == float(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("students: []\n\nstudents: []\n", "line 3: the key 'students' is in line 1 already; keep one"),
        ("a:\n  - {x: 1, x: 2}\n", "line 2: the key 'x' is in line 2 already; keep one"),
        ("a: 1\n{{student}: x}: 2\n", "line 2: a key is a list or mapping; put a name that has braces in quotes"),
        ("rows:\n  {student}: x\n", "line 2: a key is a list or mapping; put a name that has braces in quotes"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  y: 1\n  x: 2\n  y: 3\n", "line 6: the key 'y' is in line 4 already; keep one"),
    ],
)
def test_a_key_that_stands_twice_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        check_file(file)
    assert str(refusal.value) == f"{file}, {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"datasets:\n  digits: source: digits\n", ", line 2: cannot be read as YAML: mapping values are not"),
        (
            b"datasets:\n\tdigits:\n",
            ", line 2: cannot be read as YAML: found character '\\t' that cannot start any token",
        ),
        (b"about: \xff\n", ": cannot be read as YAML: 'utf-8' codec can't decode"),
        (None, ": cannot be read as YAML: [Errno 2] No such file"),
        (b"methods:\n  a: &a\n    b: *a\n", ", line 2: an anchor stands for what it is in itself"),
    ],
)
def test_a_file_that_is_no_yaml_is_told_with_the_line(text: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(ConfigError) as refusal:
        check_file(file)
    assert str(refusal.value).startswith(f"{file}{message}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "file", [ROOT / "config.yaml", *(ROOT / "workflow/configs").rglob("*.yaml")], ids=lambda file: file.stem
)
def test_no_experiment_of_ours_has_a_key_twice(file: Path) -> None:
    check_file(file)


def test_a_config_is_kept_as_it_was(tmp_path: Path) -> None:
    once, again, other = (kept({"b": 1e-5, "a": [None, value, "±"]}, tmp_path / "kept") for value in (1, 1, True))
    assert once == again != other
    assert sorted((tmp_path / "kept").iterdir()) == sorted([once, other])
    check_file(once)
    text = json.dumps(load_configfile(once))
    assert text == json.dumps({"b": 1e-5, "a": [None, 1, "±"]})


def test_a_circle_of_teachers_cannot_be_written_down() -> None:
    """A student's name holds its teacher's, so each of two students would need the longer name."""
    config = edited("cluster_pictures", [])
    first, second = "b--mobilenet_v2--compress-1q--seed0", "a--mobilenet_v2--compress-1q--seed0"
    group = {**config["students"][0], "architectures": ["mobilenet_v2"], "methods": ["compress-1q"]}
    config["students"] = [{**group, "teachers": [first]}, {**group, "teachers": [second]}]
    with pytest.raises(ConfigError, match=r"students\[0\]\.teachers: unknown encoder 'b--mobilenet_v2"):
        Experiment(config)


@pytest.mark.parametrize(
    ("catalogue", "message"),
    [
        ("[own]\narchitecture = resnet18\n", "own.toml: not a TOML file (are all texts in quotes?): Invalid value (at"),
        ("[own]\nsize = 224\n", "encoders.public.fetch: the table own of own.toml has no architecture"),
    ],
)
def test_a_wrong_catalogue_is_one_line(
    catalogue: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.toml").write_text(catalogue)
    monkeypatch.setattr(encoders, "CATALOGUE", tmp_path / "own.toml")
    with pytest.raises(ConfigError) as error:
        Experiment(edited("encoders/public", {"fetch": "own", "dataset": "digits"}))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_family_that_no_name_leads_to_is_not_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stages/architectures").mkdir(parents=True)
    for name in ("__init__", "resnet", "my_net"):
        (tmp_path / f"stages/architectures/{name}.py").touch()
    digits = Experiment(CONFIG).datasets["digits"]
    monkeypatch.setattr(source, "ROOT", tmp_path)
    with pytest.raises(ConfigError) as error:
        require_architecture("encoders.own.architecture", "my_net", digits)
    assert "did you mean 'resnet'? known are resnet, each with its variant" in str(error.value)


def test_no_clusters_of_the_teacher_are_refused() -> None:
    config = edited("methods", {"cluster-classification": {"clusters": 0}})
    config["students"] = [{**config["students"][0], "methods": ["cluster-classification"], "options": {}}]
    with pytest.raises(ConfigError, match=r"students\[0\]: cluster-classification: clusters is 0; expected at least 1"):
        Experiment(config)


def test_names_that_no_file_could_have_are_refused() -> None:
    longest = "x" * 200
    config = {**CONFIG, "encoders": {**CONFIG["encoders"], longest: CONFIG["encoders"]["teacher"]}}
    Experiment(config)
    config["encoders"][f"{longest}{longest}"] = config["encoders"].pop(longest)
    with pytest.raises(
        ConfigError, match=f"encoders: {longest}{longest} on digits by .* letters; expected 230 at most"
    ):
        Experiment(config)


def test_timms_models_are_those_that_it_lists() -> None:
    assert timm_models() == {*timm.list_models()}

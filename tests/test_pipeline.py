"""The whole pipeline on a tiny experiment with real images, and what an edit makes it run again."""

import copy
import csv
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from stages import architectures
from stages.artifacts.weights import InputContract
from tests.project import TINY, Project

STUDENTS = ["teacher--resnet18_x0.125--compress-1q--seed0", "teacher--resnet18_x0.125--compress-2q--seed0"]
ENCODERS = ["teacher", "supervised", "untrained", *STUDENTS]


def measured(*encoders: str) -> set[str]:
    """The jobs that measure these encoders once they are trained."""
    rules = [
        "embed {0}",
        "knn {0} knn",
        "linear_probe {0} linear",
        "cluster {0} cluster-alignment",
        "align {0} cluster-alignment",
    ]
    return {rule.format(encoder) for encoder in encoders for rule in rules}


TABLES = {"write_comparison", "plot_comparison", "results_page"}
BESIDE_THE_PAPER = {"write_table", "plot_table", "results_page"}
EVERYTHING = (
    {"fetch_dataset", "plot_training_curves", "plot_clusters teacher", *TABLES}
    | {"pretrain teacher", "pretrain supervised", "pretrain untrained"}
    | {f"distill {student}" for student in STUDENTS}
    | measured(*ENCODERS)
)


def distilled_again(*students: str) -> set[str]:
    return {f"distill {student}" for student in students} | measured(*students) | TABLES | {"plot_training_curves"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny experiment, run to its end."""
    project = Project.tiny(tmp_path_factory.mktemp("pipeline") / "project")
    assert project.would_run() == EVERYTHING
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    return project


def test_a_finished_run_has_its_tables_figures_and_metrics(finished: Project) -> None:
    results = finished.path / "results"
    for name in ("comparison.md", "comparison.csv", "comparison.tex"):
        assert (results / "tables" / name).stat().st_size > 0
    for name in ("comparison.png", "training-curves.png", "clusters/teacher.png"):
        assert (results / "figures" / name).read_bytes().startswith(b"\x89PNG")
    for encoder in ENCODERS:
        for evaluation in ("linear", "knn", "cluster-alignment"):
            metrics = json.loads((results / "metrics" / encoder / f"numerals-{evaluation}.json").read_text())
            assert metrics["encoder"]["name"] == encoder
            assert metrics["n"] == {"train": 200, "val": 50}
            assert all(0 <= value <= 100 for name, value in metrics["values"].items() if name != "ari")


def test_the_table_shows_what_was_measured(finished: Project) -> None:
    table = (finished.path / "results/tables/comparison.md").read_text()
    for encoder in ENCODERS:
        metrics = json.loads((finished.path / f"results/metrics/{encoder}/numerals-knn.json").read_text())
        assert f"{metrics['values']['top1']:.1f}" in table


def test_training_leaves_histories_and_no_checkpoints(finished: Project) -> None:
    for encoder, epochs in [("teacher", 3), ("untrained", 0), (STUDENTS[0], 3)]:
        rows = list(csv.DictReader((finished.path / f"results/encoders/{encoder}/history.csv").open()))
        assert [int(row["epoch"]) for row in rows] == list(range(1, epochs + 1))
    assert not list((finished.path / "results/checkpoints").glob("*"))


def comment(project: Project) -> None:
    project.replace("stages/knn.py", "def main(", "# A comment.\n\n\ndef main(")


def docstring_and_format(project: Project) -> None:
    project.replace("stages/training/loop.py", '"""The training loop', '"""The one training loop')
    project.replace(
        "stages/training/loop.py", "optimizer.zero_grad(set_to_none=True)", "optimizer.zero_grad( set_to_none = True )"
    )


def help_text(project: Project) -> None:
    project.replace("stages/knn.py", "neighbours that vote; the paper uses 1", "how many neighbours vote")


def method(project: Project) -> None:
    project.replace("stages/distillation/compress_2q.py", "options.momentum > 0 ", "options.momentum > 0.0 ")


def stage(project: Project) -> None:
    project.replace("stages/knn.py", "np.mean(found)", "np.median(found)")


def helper_of_search(project: Project) -> None:
    project.replace("stages/search.py", "options.shard = True", "options.shard = bool(1)")


def helper_of_training(project: Project) -> None:
    project.replace("stages/training/loop.py", "set_to_none=True", "set_to_none=False")


def temperature(project: Project) -> None:
    project.write_config({**TINY, "methods": {"compress-1q": {"temperature": 0.05}}})


def spelled_out_default(project: Project) -> None:
    project.write_config({**TINY, "methods": {"compress-1q": {"temperature": 0.04}}})


def another_student(project: Project) -> None:
    group = TINY["students"][0]
    project.write_config(
        {
            **TINY,
            "students": [
                {
                    **group,
                    "methods": [*group["methods"], "regression-bn"],
                    "options": {key: value for key, value in group["options"].items() if key != "queue_length"},
                }
            ],
            "methods": {"compress-1q": {"queue_length": 128}, "compress-2q": {"queue_length": 128}},
        }
    )


def a_student_of_clusters(project: Project) -> None:
    group = TINY["students"][0]
    options = {key: value for key, value in group["options"].items() if key != "queue_length"}
    short = {"queue_length": 128}
    project.write_config(
        {
            **TINY,
            "students": [{**group, "methods": [*group["methods"], "cluster-classification"], "options": options}],
            "methods": {"compress-1q": short, "compress-2q": short, "cluster-classification": {"clusters": 20}},
        }
    )


def teachers_augmentation(project: Project) -> None:
    teacher = {**TINY["encoders"]["teacher"], "augmentation": "crop-flip"}
    project.write_config({**TINY, "encoders": {**TINY["encoders"], "teacher": teacher}})


def one_student_less(project: Project) -> None:
    group = TINY["students"][0]
    project.write_config({**TINY, "students": [{**group, "methods": ["compress-1q"]}]})


def another_order(project: Project) -> None:
    """Of the table's rows and columns."""
    encoders, evaluations = (dict(reversed(TINY[part].items())) for part in ("encoders", "evaluations"))
    project.write_config({**TINY, "encoders": encoders, "evaluations": evaluations})


def live_teacher(project: Project) -> None:
    project.write_config({**TINY, "students": [{**TINY["students"][0], "teacher": "live"}]})


def teachers_views(project: Project, views: int = 2) -> None:
    group = {**TINY["students"][0], "teacher_views": views, "augmentation": "crop-flip"}
    project.write_config({**TINY, "students": [group]})


def evaluation(name: str, **options: object) -> Callable[[Project], None]:
    """The edit of one evaluation's options."""

    def change(project: Project) -> None:
        evaluations = TINY["evaluations"]
        project.write_config({**TINY, "evaluations": {**evaluations, name: {**evaluations[name], **options}}})

    return change


def augmentation_of_probes(project: Project) -> None:
    project.replace("stages/datasets/augmentations/crop_flip.py", "* 256 / 224", "* 8 / 7")


def content(project: Project) -> None:
    first, second = sorted((project.path / "numerals/train/digit-0").iterdir())[:2]
    first.write_bytes(second.read_bytes())


def beside_the_images(project: Project) -> None:
    for file in ("train/README.txt", "val/digit-0/.DS_Store", "train/.thumbnails/000.png", "train/digit-1/.nfs01.png"):
        (project.path / "numerals" / file).parent.mkdir(exist_ok=True)
        (project.path / "numerals" / file).write_text("no image of a class")


def another_mount(project: Project) -> None:
    """The same images at another path, which a shell has to be told of in quotes."""
    (project.path / "numerals").rename(project.path / "it's a disk")
    dataset = {**TINY["datasets"]["numerals"], "path": "it's a disk"}
    project.write_config({**TINY, "datasets": {"numerals": dataset}})


def touched(project: Project) -> None:
    later = time.time() + 5
    for folder in ("results", "numerals", "stages", "containers"):
        for file in (project.path / folder).rglob("*"):
            os.utime(file, (later, later))


def dockerfile(project: Project) -> None:
    project.replace("containers/Dockerfile", "\nRUN ", "\nENV SOMETHING=else\nRUN ")


def comment_in_dockerfile(project: Project) -> None:
    project.replace("containers/Dockerfile", "\nRUN ", "\n# A comment.\nRUN ")


def pin(project: Project) -> None:
    project.replace("containers/requirements/faiss.txt", "scipy==", "scipy==0")


def resource(project: Project) -> None:
    # The number of GPUs is in the command, too.
    project.replace(
        "workflow/rules/encoders.smk", "gpu=1,\n        mem_mb=scaled(16000)", "gpu=2,\n        mem_mb=scaled(17000)"
    )


OF_FAISS = {
    *(job for job in EVERYTHING if job.split()[0] in ("knn", "cluster", "align", "plot_clusters")),
    *TABLES,
    "plot_training_curves",
}

LINEAR = {f"linear_probe {encoder} linear" for encoder in ENCODERS}

EDITS: dict[str, tuple[Callable[[Project], None], set[str]]] = {
    "a comment": (comment, set()),
    "a docstring and formatting": (docstring_and_format, set()),
    "a help text": (help_text, set()),
    "one method's file": (method, distilled_again(STUDENTS[1])),
    "the knn stage": (stage, {f"knn {encoder} knn" for encoder in ENCODERS} | TABLES),
    "a helper of knn and cluster": (
        helper_of_search,
        {job for job in EVERYTHING if job.split()[0] in ("knn", "cluster", "align")}
        | TABLES
        | {"plot_clusters teacher"},
    ),
    "a helper of all training": (helper_of_training, EVERYTHING - {"fetch_dataset"}),
    "the temperature of one method": (temperature, distilled_again(STUDENTS[0])),
    "a default, spelled out": (spelled_out_default, set()),
    "the teacher live": (live_teacher, distilled_again(*STUDENTS)),
    "views of the teacher": (
        teachers_views,
        distilled_again(*STUDENTS) | {"embed_view teacher 0", "embed_view teacher 1"},
    ),
    "another student": (
        another_student,
        distilled_again("teacher--resnet18_x0.125--regression-bn--seed0"),
    ),
    "a student of the teacher's clusters": (
        a_student_of_clusters,
        distilled_again("teacher--resnet18_x0.125--cluster-classification--seed0") | {"cluster_teacher teacher"},
    ),
    "the augmentation of the teacher alone": (
        teachers_augmentation,
        EVERYTHING
        - {"fetch_dataset", "pretrain supervised", "pretrain untrained"}
        - measured("supervised", "untrained"),
    ),
    "the views of linear": (evaluation("linear", views="augmented"), {*LINEAR, *TABLES}),
    "an augmentation that nothing uses": (augmentation_of_probes, set()),
    "the labels of knn": (
        evaluation("knn", labels=10),
        {"label_subset", *(f"knn {encoder} knn" for encoder in ENCODERS), *TABLES},
    ),
    "one student less": (one_student_less, TABLES | {"plot_training_curves"}),
    "another order": (another_order, TABLES | {"plot_training_curves"}),
    "the content of one image": (content, EVERYTHING),
    "files beside the images": (beside_the_images, set()),
    "where the images are": (another_mount, set()),
    "dates of identical files": (touched, set()),
    "the Dockerfile": (dockerfile, EVERYTHING),
    "a comment in the Dockerfile": (comment_in_dockerfile, set()),
    "a pin of one image": (pin, OF_FAISS),
    "a resource": (resource, set()),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_reruns_exactly_what_it_touched(finished: Project, tmp_path: Path, edit: str) -> None:
    project = finished.copy(tmp_path / "project")
    assert project.would_run() == set()
    change, expected = EDITS[edit]
    change(project)
    assert project.would_run() == expected


def test_one_more_view_is_embedded_beside_those_that_are_there(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    teachers_views(project, 1)
    student = STUDENTS[0]
    done = project.snakemake(f"results/encoders/{student}/weights.safetensors")
    assert done.returncode == 0, done.stdout
    assert len(list(csv.DictReader((project.path / f"results/encoders/{student}/history.csv").open()))) == 3
    teachers_views(project, 3)
    assert project.would_run() == distilled_again(*STUDENTS) | {"embed_view teacher 1", "embed_view teacher 2"}
    augmentation_of_probes(project)
    assert project.would_run() == distilled_again(*STUDENTS) | {f"embed_view teacher {number}" for number in range(3)}


def test_containers_on_or_off_rerun_nothing(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Snakemake asks for Apptainer's version even of a dry run, and a host without it is to be tested as well.
    stand_in = tmp_path / "apptainer"
    stand_in.write_text("#!/bin/sh\necho apptainer version 1.4.5\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert finished.would_run("--use-singularity") == set()


def test_an_experiment_of_its_own_replaces_the_default(finished: Project, tmp_path: Path) -> None:
    other = {**TINY, "encoders": {"lone": TINY["encoders"]["untrained"]}, "students": [], "cluster_pictures": []}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    expected = {"pretrain lone", "plot_training_curves", *measured("lone"), *TABLES}
    assert finished.would_run("--configfile", str(tmp_path / "other.yaml")) == expected


def test_a_dry_run_says_what_is_to_come_and_nothing_else_does(finished: Project, tmp_path: Path) -> None:
    more = {**TINY, "encoders": {**TINY["encoders"], "another": {**TINY["encoders"]["supervised"], "seed": 1}}}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(more))
    expected = "GPU hours to come"
    asked = finished.snakemake("--dry-run", "--configfile", str(tmp_path / "more.yaml")).stdout
    assert expected in asked
    assert "pretrain: 1 job, under 0.1" in asked
    assert expected not in finished.snakemake("--summary", "--configfile", str(tmp_path / "more.yaml")).stdout
    assert expected not in finished.snakemake("--dry-run").stdout


def test_a_dry_run_says_what_an_edit_needs_of_jobs_that_are_done(finished: Project, tmp_path: Path) -> None:
    config = copy.deepcopy(TINY)
    config["encoders"]["supervised"]["epochs"] = 4  # type: ignore[index]
    config["datasets"]["numerals"]["path"] = "nowhere"
    (tmp_path / "edited.yaml").write_text(yaml.safe_dump(config))
    asked = finished.snakemake("--dry-run", "--configfile", str(tmp_path / "edited.yaml")).stdout
    assert "numerals: source folder, from the folder nowhere, which IS NOT THERE" in asked
    assert "pretrain: 3 jobs, " in asked or "pretrain: 2 jobs, " in asked
    assert "distill: 2 jobs, " in asked


def test_a_fetched_teacher_passes_through_the_same_jobs(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = finished.copy(tmp_path / "project")
    file = tmp_path / "mirror/swav_100ep/swav_100ep_pretrain.pth.tar"
    file.parent.mkdir(parents=True)
    tensors = architectures.build("resnet50", InputContract(16)).backbone.state_dict()
    torch.save({f"module.{name}": tensor for name, tensor in tensors.items()}, file)
    monkeypatch.setenv("DISTILLERY_MIRROR", str(tmp_path / "mirror"))
    group = {**TINY["students"][0], "teachers": ["public"], "methods": ["compress-1q"]}
    encoders = {"public": {"fetch": "swav_100ep", "dataset": "numerals"}}
    project.write_config({**TINY, "encoders": encoders, "students": [group], "cluster_pictures": []})
    student = "public--resnet18_x0.125--compress-1q--seed0"
    expected = {
        "fetch_weights public",
        f"distill {student}",
        "plot_training_curves",
        *measured("public", student),
        *TABLES,
    }
    assert project.would_run() == expected
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert "public (resnet50)" in (project.path / "results/tables/comparison.md").read_text()
    assert "swav_100ep" in (project.path / "checkpoints.lock").read_text()
    project.replace("stages/checkpoints/catalogue.toml", "linear = 72.1", "linear = 72.1, 1-nn = 50.0")
    assert project.would_run() == set()
    project.replace("stages/checkpoints/catalogue.toml", "[swav_100ep]", '[swav_100ep]\nsha256 = "0"')
    assert project.would_run() == expected


def test_a_table_beside_a_paper_is_made_of_what_is_there(finished: Project, tmp_path: Path) -> None:
    """Nothing is measured anew for a table, and only its own numbers of the paper make it again."""
    project = finished.copy(tmp_path / "project")
    group = "MoCo ResNet-50 → AlexNet"
    table = {
        "reported": "compress/table-1",
        "comparable": False,
        "columns": {"Linear": {"evaluation": "linear"}, "NN": {"evaluation": "knn"}},
        "groups": {group: {"student": "resnet18_x0.125"}},
        "rows": {"Teacher": "teacher", "Ours-2q": "teacher--{student}--compress-2q"},
        "references": ["Teacher", "Supervised"],
    }
    config = {
        **TINY,
        "tables": {"compress-1": table},
        "figures": {"compress-1": {"table": "compress-1", "kind": "bars"}},
    }
    project.write_config(config)
    assert project.would_run() == BESIDE_THE_PAPER
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    text = (project.path / "results/tables/compress-1.md").read_text()
    metrics = json.loads((project.path / f"results/metrics/{STUDENTS[1]}/numerals-knn.json").read_text())
    assert f"{metrics['values']['top1']:.1f} (48.4)" in text
    assert "not run (46.4)" in text
    assert (project.path / "results/figures/compress-1.png").read_bytes().startswith(b"\x89PNG")
    page = project.path / "results/results.md"
    assert text in page.read_text()
    links = re.findall(r"!\[.*?\]\((.*?)\)", page.read_text())
    assert "figures/compress-1.png" in links
    assert all((page.parent / link).is_file() for link in links)
    claim = {"text": "Who learns is better", "table": "compress-1", "better": "Ours-2q", "worse": ["Teacher"]}
    project.write_config({**config, "about": "It's a trial.", "claims": [claim]})
    assert project.would_run() == {"judge_claims", "results_page"}
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    judged = (project.path / "results/tables/claims.md").read_text()
    assert "It's a trial." in page.read_text()
    assert judged in page.read_text()
    assert re.search(r"\| Who learns is better +\|( +\|){3} +2 \|", judged), judged
    project.replace("workflow/papers/compress.yaml", "Linear: 75.6, NN: 60.7", "Linear: 75.7, NN: 60.7")
    assert project.would_run() == set()
    project.replace("workflow/papers/compress.yaml", "NN: 48.4, CA: 33.3", "NN: 48.5, CA: 33.3")
    assert project.would_run() == {*BESIDE_THE_PAPER, "judge_claims"}


def test_the_no_op_says_so(finished: Project) -> None:
    done = finished.snakemake()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout


def test_the_report_holds_tables_pictures_and_captions(finished: Project, tmp_path: Path) -> None:
    done = finished.snakemake("--report", str(tmp_path / "report.html"))
    assert done.returncode == 0, done.stdout
    page = (tmp_path / "report.html").read_text()
    for text in ("comparison.md", "comparison.png", "training-curves.png", "teacher.png", "Figure 1", "Table 1"):
        assert text in page


def test_a_failing_stage_shows_its_one_line_and_leaves_nothing(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    evaluations = {"few": {"evaluation": "knn", "k": 11, "shots": 2}}
    project.write_config({**TINY, "evaluations": evaluations, "cluster_pictures": []})
    done = project.snakemake("--keep-going")
    assert done.returncode != 0
    assert "11 neighbours asked for, but there are 10 images" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (project.path / "results/metrics/teacher/numerals-few.json").exists()


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ("datasetz: {}\n", "error: config: the config: unknown key 'datasetz', did you mean 'datasets'?"),
        ("datasets: {}\n", "error: config: {file}, line {line}: the key 'datasets' is in line "),
    ],
)
def test_a_wrong_config_ends_in_one_line(added: str, expected: str, finished: Project, tmp_path: Path) -> None:
    text = yaml.safe_dump(TINY) + added
    (tmp_path / "wrong.yaml").write_text(text)
    done = finished.snakemake("--dry-run", "--configfile", str(tmp_path / "wrong.yaml"))
    assert done.returncode == 1
    profile, message = done.stdout.splitlines()
    assert profile.startswith("Using workflow specific profile")
    assert message.startswith(expected.format(file=tmp_path / "wrong.yaml", line=len(text.splitlines())))


def test_a_slip_in_the_default_config_is_told_with_its_line(tmp_path: Path) -> None:
    project = Project.tiny(tmp_path / "project")
    (project.path / "config.yaml").write_text("datasets:\n  numerals: source: folder\n")
    done = project.snakemake("--dry-run")
    assert done.returncode == 1
    (message,) = (line for line in done.stdout.splitlines() if line.startswith("error: "))
    assert message == "error: config: config.yaml, line 2: cannot be read as YAML: mapping values are not allowed here"


def test_the_config_of_the_repository_is_sound() -> None:
    from experiment.config import Experiment

    root = Path(__file__).resolve().parents[1]
    experiment = Experiment(yaml.safe_load((root / "config.yaml").read_text()))
    assert experiment.students

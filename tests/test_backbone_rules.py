"""The rules of retrieval, layers and cost, and of what is shown: of whom, and with what."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.project import TINY, Project

STUDENT = "teacher--resnet18_x0.125--compress-1q--seed0"
CONFIG = {
    **TINY,
    "students": [{**TINY["students"][0], "methods": ["compress-1q"]}],
    "evaluations": {"retrieval": {"ks": [1, 3]}, "layers": {"layers": ["L4", "L5"]}, "cost": {"batch_size": 2}},
    "cluster_pictures": [],
}
RULES = {"retrieval": "retrieval", "layers": "layer_probe", "cost": "cost"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project.tiny(tmp_path_factory.mktemp("rules") / "project")
    made.write_config(CONFIG)
    return made


@pytest.fixture(scope="module")
def commands(project: Project) -> dict[str, str]:
    """The command of each metrics file, by the file's name within its folder."""
    done = project.snakemake("--dry-run", "--printshellcmds")
    assert done.returncode == 0, done.stdout
    found = re.findall(r"^ +output: results/metrics/(\S+)\.json\n(?:.*\n)*?Shell command: (.*)$", done.stdout, re.M)
    return dict(found)


def test_every_encoder_is_measured_in_every_way(project: Project) -> None:
    measured = {job for job in project.would_run() if job.split()[0] in RULES.values()}
    encoders = [*TINY["encoders"], STUDENT]
    assert measured == {f"{rule} {encoder} {name}" for name, rule in RULES.items() for encoder in encoders}


def test_the_stages_are_told_their_options_and_files(commands: dict[str, str]) -> None:
    retrieval, layers = (commands[f"teacher/numerals-{name}"] for name in ("retrieval", "layers"))
    assert "--ks 1 3 " in retrieval
    assert "--val results/embeddings/teacher/numerals-val.h5" in retrieval
    assert "train" not in retrieval
    for words in (
        "--layers L4 L5 ",
        "--weights results/encoders/teacher/weights.safetensors",
        "--train results/datasets/numerals/train.h5 --val results/datasets/numerals/val.h5",
        "--augmentation affine-elastic",
        "--checkpoints results/checkpoints/teacher--numerals--layers",
    ):
        assert words in layers


def test_another_image_does_not_go_on_with_what_an_earlier_one_began(project: Project, tmp_path: Path) -> None:
    """As it makes the job run again: else half of the training would be by other packages than the other half."""

    def keys(of: Project) -> dict[str, str]:
        """The checkpoint keys of the jobs that have them, by the folder of their states."""
        done = of.snakemake("--dry-run", "--printshellcmds")
        assert done.returncode == 0, done.stdout
        return dict(re.findall(r"--checkpoints (\S+) --checkpoint-key (.*?) >", done.stdout))

    other = project.copy(tmp_path / "project")
    other.replace("containers/requirements/torch.txt", "torch==", "torch==0")
    before, after = keys(project), keys(other)
    folders = {f"results/checkpoints/{name}" for name in (STUDENT, "teacher", "teacher--numerals--layers")}
    assert folders <= before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())
    other.write_config({**CONFIG, "containers": {"torch": "docker://registry.example/it's@sha256:1"}})
    assert all(shlex.split(key)[0].endswith("-docker://registry.example/it's@sha256:1") for key in keys(other).values())


def test_only_a_students_cost_is_compared_with_its_teachers(commands: dict[str, str]) -> None:
    assert "--teacher results/encoders/teacher/weights.safetensors" in commands[f"{STUDENT}/numerals-cost"]
    assert "--teacher" not in commands["teacher/numerals-cost"]
    assert "--weights results/encoders/teacher/weights.safetensors" in commands["teacher/numerals-cost"]


def test_the_cost_of_what_was_trained_here_has_the_speed_of_that(commands: dict[str, str]) -> None:
    assert f"--history results/encoders/{STUDENT}/history.csv" in commands[f"{STUDENT}/numerals-cost"]
    assert "--history results/encoders/teacher/history.csv" in commands["teacher/numerals-cost"]


def test_downloads_alone_are_measured_without_curves_of_training(project: Project, tmp_path: Path) -> None:
    public = {"public": {"fetch": "swav_100ep", "dataset": "numerals"}}
    config = {**TINY, "encoders": public, "students": [], "cluster_pictures": [], "evaluations": {"knn": {}}}
    (tmp_path / "public.yaml").write_text(yaml.safe_dump(config))
    jobs = project.would_run("--configfile", str(tmp_path / "public.yaml"))
    of_public = {"fetch_weights public", "embed public", "knn public knn"}
    assert jobs == {"fetch_dataset", "write_comparison", "plot_comparison", "results_page", *of_public}
    figures = project.would_run("results/results.md", "--configfile", str(tmp_path / "public.yaml"))
    assert figures == jobs


def test_the_table_is_printed_only_where_it_is_what_was_asked_for(project: Project, tmp_path: Path) -> None:
    """It may be that of another experiment otherwise."""
    other = project.copy(tmp_path / "project")
    (other.path / "results/tables").mkdir(parents=True)
    (other.path / "results/tables/comparison.md").write_text("| an old table |")
    done = other.snakemake("results/datasets/numerals/train.h5")
    assert done.returncode == 0, done.stdout
    assert "an old table" not in done.stdout

"""An experiment through SLURM, in the images, to its tables."""

import json
from pathlib import Path

from tests.cluster.submission import Submission
from tests.project import TINY, Project

STUDENT = "teacher--resnet18_x0.125--compress-2q--seed0"


def home_files() -> set[Path]:
    """The folders and files of the home folder, two levels deep."""
    return {path for pattern in ("*", "*/*") for path in Path.home().glob(pattern)}


def test_the_experiment_runs_to_its_tables_in_the_images(project: Project, submission: Submission) -> None:
    group = {**TINY["students"][0], "methods": ["compress-2q"]}
    project.write_config({**TINY, "encoders": {"teacher": TINY["encoders"]["teacher"]}, "students": [group]})
    before = home_files()
    said = submission.run()
    assert "Singularity containers: ignored" not in said
    assert not list((project.path / "results/checkpoints").glob("*"))
    table = (project.path / "results/tables/comparison.md").read_text()
    for encoder in ("teacher", STUDENT):
        for evaluation in ("linear", "knn", "cluster-alignment"):
            metrics = json.loads((project.path / f"results/metrics/{encoder}/numerals-{evaluation}.json").read_text())
            assert metrics["n"] == {"train": 200, "val": 50}
        knn = json.loads((project.path / f"results/metrics/{encoder}/numerals-knn.json").read_text())
        assert f"{knn['values']['top1']:.1f}" in table
    assert home_files() == before, "nothing is written to the home folder"
    for light in ("align", "write_comparison", "plot_comparison", "plot_training_curves", "results_page"):
        assert f"localrule {light}:" in said
    assert not (project.path / ".snakemake/slurm_logs/rule_align").exists()

    # Without containers and on this machine there is nothing left to do.
    assert project.would_run() == set()

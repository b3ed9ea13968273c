"""The pages of several experiments in one folder: every link leads to a figure of its own experiment."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from experiment.gather import gather, gather_metrics

ROOT = Path(__file__).resolve().parents[1]


def results(folder: Path, name: str) -> Path:
    for figure in ("bars.png", "clusters/teacher.png"):
        (folder / "figures" / figure).parent.mkdir(parents=True, exist_ok=True)
        (folder / "figures" / figure).write_text(f"{figure} of {name}")
    page = folder / "results.md"
    page.write_text(
        f"# Results\n\n## A table of {name}\n\n![bars](figures/bars.png)\n![b](figures/bars.png)\n"
        "\n![teacher](figures/clusters/teacher.png)\n\nfigures/bars.png is a file, [x](https://figures/x.png) is not.\n"
    )
    return page


def test_links_lead_to_the_figures_of_their_own_experiment(tmp_path: Path) -> None:
    into = tmp_path / "docs"
    into.mkdir()
    for name in ("compress", "simdis"):
        gather(name, results(tmp_path / name, name), into / "results.md")
    text = (into / "results.md").read_text()
    assert re.findall(r"^# .*$", text, re.MULTILINE) == ["# Results: compress", "# Results: simdis"]
    assert "figures/bars.png is a file, [x](https://figures/x.png) is not." in text
    links = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(links) == 6
    for link in links:
        _, name, figure = link.split("/", 2)
        assert (into / link).read_text() == f"{figure} of {name}"


def test_a_figure_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    page = results(tmp_path / "compress", "compress")
    (tmp_path / "compress/figures/bars.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"bars\.png"):
        gather("compress", page, tmp_path / "results.md")
    assert not (tmp_path / "results.md").exists()


def test_metrics_are_gathered_a_file_a_line(tmp_path: Path) -> None:
    measured = [{"values": {"top1": 50.5}, "dataset": "b"}, {"values": {"top1": 60.0}, "dataset": "a"}]
    files = [tmp_path / f"{number}.json" for number in range(2)]
    for file, metrics in zip(files, measured, strict=True):
        file.write_text(json.dumps(metrics, indent=2))
    gather_metrics(files, tmp_path / "metrics/evidence.jsonl")
    assert [json.loads(line) for line in (tmp_path / "metrics/evidence.jsonl").read_text().splitlines()] == measured


@pytest.mark.parametrize("second", ["fails", "succeeds"])
def test_make_replaces_the_documents_only_when_all_has_run(tmp_path: Path, second: str) -> None:
    """With a stand-in for snakemake, which leaves a page as it would, and fails for the second paper if it is to."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    pins, installed = tmp_path / "containers/requirements/all.txt", tmp_path / ".venv/installed"
    page = results(tmp_path / "results", "this run")
    old = tmp_path / "docs/figures/compress/old.png"
    for file in (pins, installed, old, tmp_path / "docs/results.md", tmp_path / "docs/methods.md"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("old")
    commands = {
        "snakemake": f'case "$*" in *simdis*) {"exit 1" if second == "fails" else "true"};; esac',
        "python": f'exec {sys.executable} "$@"',
    }
    for name, command in commands.items():
        (tmp_path / ".venv/bin").mkdir(exist_ok=True)
        (tmp_path / ".venv/bin" / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    done = subprocess.run(["make", "papers-small"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert page.exists()
    documents = {str(path.relative_to(tmp_path / "docs")) for path in (tmp_path / "docs").rglob("*") if path.is_file()}
    if second == "fails":
        assert done.returncode != 0
        assert documents == {"figures/compress/old.png", "results.md", "methods.md"}
        assert (tmp_path / "docs/results.md").read_text() == "old"
    else:
        assert done.returncode == 0, done.stderr
        figures = {
            f"figures/{paper}/{file}"
            for paper in ("compress", "simdis")
            for file in ("bars.png", "clusters/teacher.png")
        }
        assert documents == {*figures, "results.md", "methods.md"}

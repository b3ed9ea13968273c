"""The benchmarks run, at small sizes, and their table says what has become slower: how fast it is, is not tested."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import rows, table
from benchmarks.rows import Row
from tests.conftest import ROOT

SMALL = {
    "similarity_loss": ["--batch", "4", "--anchors", "50", "--student", "8", "--teacher", "16", "--turns", "2"],
    "loading": ["--images", "4", "--turns", "2"],
    "training_step": ["--steps", "8", "--batch-size", "8", "--queue", "32", "--workers", "0"],
    "embedding": ["--images", "4", "--turns", "2", "--architecture", "resnet18_x0.125"],
    "knn": ["--images", "200", "--val-images", "20", "--dimension", "16", "--k", "1", "--turns", "1"],
    "kmeans": ["--images", "200", "--dimension", "16", "--clusters", "5", "--turns", "1"],
    "cluster_alignment": ["--images", "200", "--val-images", "20", "--clusters", "5", "--classes", "5"],
    "linear_probe": ["--images", "600", "--val-images", "20", "--dimension", "16", "--heads", "2", "--turns", "2"],
    "memory": ["--images", "300", "--dimension", "16", "--workers", "1", "--seconds", "12"],
    "start_up": ["--configfile", "config.yaml", "--turns", "1"],
}


def test_there_is_a_small_size_of_every_benchmark() -> None:
    assert set(SMALL) == {*table.ON_CPU, *table.ON_GPU}


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs_and_writes_its_rows(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", *SMALL[name], "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = rows.read_rows(path)
    assert found
    for row in found:
        assert row.what in done.stdout
        assert row.ours
        assert all(turn > 0 for turn in row.ours)
        assert not row.plain or len(row.plain) == len(row.ours)
    facts = json.loads(path.read_text())
    assert f"benchmarks/{name}.py" in facts["command"]
    assert {"python", "torch", "numpy"} <= facts["versions"].keys()


def test_a_row_shows_the_median_of_its_turns_and_how_far_they_are_apart() -> None:
    row = Row("what, s", ours=[1.0, 2.0, 4.0], plain=[4.0, 4.0, 4.0], limit=[0.5, 0.5, 1.0])
    assert row.ratios == [4.0, 2.0, 1.0]
    assert (row.ratio, row.share) == (2.0, 0.25)
    assert row.line().split() == ["what,", "s", "4.000", "2.000", "2.00", "(1.00", "to", "4.00)", "0.500", "25%"]
    assert Row("what, s").line().split() == ["what,", "s", "not", "measured"]


def test_without_a_gpu_its_rows_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = table.gpu_rows()
    assert len(found) == len(table.ON_GPU)
    assert all(row.what.endswith(" on a GPU") and row.line().endswith("not measured") for row in found)


def test_a_ratio_may_fall_by_a_fifth_and_not_below_its_floor() -> None:
    before = [Row("a", [1.0], [3.0]), Row("b", [1.0], [3.0]), Row("gone", [1.0], [9.0])]
    now = [Row("a", [1.0], [2.5]), Row("b", [1.0], [2.3]), Row("new", [1.0], [1.2], floor=1.3), Row("other", [1.0])]
    assert table.fallen(now, before) == [
        "b: ratio 2.30, expected 2.40 or more",
        "new: ratio 1.20, expected 1.30 or more",
    ]

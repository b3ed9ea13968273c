"""Whether a checkpoint's file is there is known before a run as its job will find it."""

import re
from pathlib import Path

import pytest
from experiment import checkpoints, encoders
from experiment.config import Experiment

from stages import downloads, fetch_weights
from stages.checkpoints import catalogue
from stages.errors import UserError
from tests.project import TINY, Project

COMMON = 'method = "swav"\nlayout = "swav"\narchitecture = "resnet50"\nsize = 224\nnormalisation = "swav"\n'
CATALOGUE = f"""
[downloaded]
{COMMON}
url = "https://authors.example/a.pth"
[converted]
{COMMON}
url = "https://authors.example/a.pkl"
file = "a.pth"
convert = "convert a.pkl"
[brought]
{COMMON}
file = "a.pth"
"""


@pytest.fixture(autouse=True)
def _away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(encoders, "CATALOGUE", tmp_path / "catalogue.toml")
    monkeypatch.setattr(downloads, "fetch", lambda *_: None)
    encoders.CATALOGUE.write_text(CATALOGUE)


@pytest.mark.parametrize("name", ["downloaded", "converted", "brought"])
@pytest.mark.parametrize("mirror", ["", "mirror", "https://mirror.example"])
@pytest.mark.parametrize("there", ["nowhere", "results/downloads", "mirror"])
def test_a_file_is_lacking_where_its_job_would_not_find_it(name: str, mirror: str, there: str) -> None:
    Path(there, name).mkdir(parents=True)
    Path(there, name, "a.pth").touch()
    config = {**TINY, "encoders": {**TINY["encoders"], "public": {"fetch": name, "dataset": "numerals"}}}
    encoder = Experiment(config).fetched["public"]
    entry = catalogue.named(name, encoders.CATALOGUE)
    place, todo = checkpoints.place(encoder, mirror), checkpoints.lacking(encoder, mirror)
    if not todo:
        assert fetch_weights.obtain(entry, checkpoints.DOWNLOADS, mirror) == place
        return
    assert todo == f"{'convert a.pkl' if name == 'converted' else 'copy it'}, as {place}"
    with pytest.raises(UserError, match=f"^{re.escape(str(place))}: no such file"):
        fetch_weights.obtain(entry, checkpoints.DOWNLOADS, mirror)


def test_a_run_without_a_file_that_no_job_can_get_is_refused_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISTILLERY_MIRROR", raising=False)
    project = Project.tiny(tmp_path / "project")
    config = {**TINY, "encoders": {**TINY["encoders"], "public": {"fetch": "byol_r50", "dataset": "numerals"}}}
    project.write_config(config)
    refused = project.snakemake()
    assert refused.returncode != 0
    (line,) = (line for line in refused.stdout.splitlines() if line.startswith("error: "))
    assert line.startswith("error: encoders.public.fetch: the file of byol_r50 is not there: it is a pickle of ")
    assert line.endswith("save what it writes, as results/downloads/byol_r50/pretrain_res50x1.pth.tar")
    assert not (project.path / "results").exists(), "nothing has run"
    planned = project.snakemake("--dry-run")
    assert planned.returncode == 0
    assert "public: checkpoint byol_r50, whose file IS NOT THERE: it is a pickle of " in planned.stdout
    without = project.snakemake("results/datasets/numerals/train.h5")
    assert without.returncode == 0, without.stdout

"""The rule that packs a dataset: what of a folder, and which keys, make it run again."""

from pathlib import Path
from typing import Any

import pytest
from experiment.config import Experiment

from stages.datasets.packed import read_pack
from tests.project import TINY, Project
from tests.test_sources import make_cub200

PACK = "results/datasets/birds/train.h5"


def config(**options: Any) -> dict[str, Any]:
    birds = {"source": "cub200", "size": 32, "augmentation": "crop-flip", "path": "data", **options}
    return {**TINY, "datasets": {**TINY["datasets"], "birds": birds}}


def test_a_pack_follows_its_keys_and_the_part_of_the_folder_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project.tiny(tmp_path / "project")
    make_cub200(project.path / "data", monkeypatch)
    photo = project.path / "data/CUB_200_2011/images/001.Black_footed_Albatross/Black_footed_Albatross_0000.jpg"
    whole = photo.read_bytes()
    photo.write_bytes(b"")
    project.write_config(config())
    refused = project.snakemake(PACK)
    assert refused.returncode != 0
    assert f"data/CUB_200_2011/images/{photo.parent.name}/{photo.name}; mend or remove them" in refused.stdout
    assert "Traceback" not in refused.stdout

    # Three of the four train photos: without the first, which is corrupt, and with it.
    for options, skipped in (({"fraction_seed": 3}, 0), ({"skip_corrupt": 1}, 1)):
        project.write_config(config(train_fraction=0.75, **options))
        done = project.snakemake(PACK)
        assert done.returncode == 0, done.stdout
        pack = read_pack(project.path / PACK)
        assert (len(pack), pack.skipped) == (3 - skipped, skipped)

    (project.path / "data/attributes.txt").write_text("not read")
    project.write_config(config(train_fraction=0.75, skip_corrupt=1, val_fraction=1.0))
    assert project.would_run(PACK) == set()
    project.write_config(config(train_fraction=0.5, skip_corrupt=1))
    assert project.would_run(PACK) == {"fetch_dataset"}
    project.write_config(config(train_fraction=0.75, skip_corrupt=1))
    photo.write_bytes(whole)
    assert project.would_run(PACK) == {"fetch_dataset"}


def test_a_folder_that_is_not_there_leaves_its_pack_as_it_is(tmp_path: Path) -> None:
    """Unmounted, the images are gone, but not what was made from them; other targets do without."""
    project = Project.tiny(tmp_path / "project")
    pack = "results/datasets/numerals/train.h5"
    assert project.snakemake(pack).returncode == 0
    whole = (project.path / pack).read_bytes()
    (project.path / "numerals").rename(project.path / "elsewhere")
    refused = project.snakemake(pack)
    assert refused.returncode != 0
    assert "error: datasets.numerals.path: no such folder numerals; mount it or correct the path" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert (project.path / pack).read_bytes() == whole
    assert project.would_run(pack) == {"fetch_dataset"}, "a plan may come before its data"

    (project.path / "elsewhere").rename(project.path / "numerals")
    assert project.would_run(pack) == set()


def test_a_path_may_begin_at_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Experiment(config(path="~/birds")).datasets["birds"].options["path"] == str(tmp_path / "birds")
    assert Experiment(config(path="birds~/")).datasets["birds"].options["path"] == "birds~/", "as it was written"

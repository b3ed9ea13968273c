"""The rules that embed a dataset in shards: which jobs there are, and that one shard is made again alone."""

import os
import time
from pathlib import Path

from stages.artifacts.embeddings import read_embeddings
from tests.project import TINY, Project

CACHE = "results/embeddings/untrained/numerals-train.h5"
SHARDS = {f"embed_shard untrained {number}" for number in (1, 2, 3)}


def test_a_shard_that_failed_is_embedded_again_alone(tmp_path: Path) -> None:
    project = Project.tiny(tmp_path / "project")
    numerals = TINY["datasets"]["numerals"]
    project.write_config({**TINY, "datasets": {"numerals": {**numerals, "shards": 3}}})
    assert project.would_run(CACHE) == {"fetch_dataset", "pretrain untrained", *SHARDS, "join_embeddings untrained"}
    done = project.snakemake(CACHE)
    assert done.returncode == 0, done.stdout
    assert read_embeddings(project.path / CACHE).vectors.shape == (200, 64)
    assert project.would_run(CACHE) == set()

    folder = (project.path / CACHE).parent
    later = time.time() + 5
    for file in folder.rglob("*"):
        os.utime(file, (later, later))
    assert project.would_run(CACHE) == set()

    # As it is after a run in which one shard failed: nothing is joined yet.
    for file in (*folder.glob("*.h5*"), *folder.glob("*.shards/2of3.h5*")):
        file.unlink()
    assert project.would_run(CACHE) == {"embed_shard untrained 2", "join_embeddings untrained"}

    project.write_config(TINY)
    assert project.would_run(CACHE) == {"embed untrained"}

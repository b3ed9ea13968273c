"""Search on GPUs, with faiss's GPU part replaced: this faiss has none, nor has the machine of the tests."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest

from stages import search
from stages.artifacts import embeddings
from stages.artifacts.embeddings import unit_rows
from stages.errors import UserError

Rows = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture
def cloned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """The indices that faiss was asked to put on its GPUs, each with the options; they stay on the CPU."""
    asked: list[tuple[Any, Any]] = []

    def to_all_gpus(index: Any, co: Any, ngpu: int = -1) -> Any:
        assert not index.ntotal, "vectors that are already in an index on the CPU take memory twice"
        asked.append((index, co))
        return index

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    monkeypatch.setattr(faiss, "GpuMultipleClonerOptions", lambda: SimpleNamespace(shard=False), raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", to_all_gpus, raising=False)
    return asked


@pytest.fixture(scope="module")
def unit_vectors() -> tuple[Rows, Rows]:
    random = np.random.default_rng(0)
    return unit_rows(random.normal(size=(200, 16)), ""), unit_rows(random.normal(size=(50, 16)), "")


def test_the_search_on_gpus_finds_what_a_plain_sort_finds(
    unit_vectors: tuple[Rows, Rows], cloned: list[tuple[Any, Any]]
) -> None:
    anchors, queries = unit_vectors
    similarities, neighbours = search.nearest(np.array_split(anchors, 7), queries, 5, "")
    exact = queries.astype(np.float64) @ anchors.T.astype(np.float64)
    np.testing.assert_array_equal(neighbours, np.argsort(-exact, axis=1)[:, :5])
    np.testing.assert_allclose(similarities, np.take_along_axis(exact, neighbours, axis=1), atol=1e-5)
    ((index, _),) = cloned
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT


@pytest.mark.parametrize(("gpus", "most"), [(0, 20), (2, 50)])
def test_gpus_search_more_anchors_at_once(
    gpus: int, most: int, make_embeddings: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: gpus)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(embeddings, "SLICE_BYTES", 4 * 16 * 20)
    monkeypatch.setattr(search, "GPU_SLICE_BYTES", 4 * 16 * 50)
    vectors = np.random.default_rng(0).normal(size=(120, 16))
    cache = embeddings.read_embeddings(make_embeddings("train", vectors, np.zeros(120, dtype=np.int64)))
    slices = list(cache.unit_slices(size=search.slice_bytes()))
    assert max(map(len, slices)) == most
    np.testing.assert_array_equal(np.concatenate(slices), cache.unit())


def test_more_neighbours_than_a_gpu_finds_are_refused(
    unit_vectors: tuple[Rows, Rows], cloned: list[tuple[Any, Any]]
) -> None:
    with pytest.raises(UserError, match=r"^train\.h5: 2049 neighbours asked for; faiss finds no more than 2048"):
        search.nearest(unit_vectors[:1], unit_vectors[1], 2049, "train.h5")
    assert not cloned


def test_several_gpus_share_the_vectors_out(cloned: list[tuple[Any, Any]]) -> None:
    index = faiss.IndexFlatL2(3)
    assert search.on_gpus(index) is index
    ((given, options),) = cloned
    assert given is index
    assert options.shard is True


def test_without_a_gpu_the_index_stays_as_it_is(cloned: list[tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    index = faiss.IndexFlatL2(3)
    assert search.on_gpus(index) is index
    assert not cloned

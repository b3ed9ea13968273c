"""Exact nearest-neighbour search by faiss, on the GPUs that faiss finds or else on the CPU."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stages.errors import UserError
from stages.gpus import usable

if TYPE_CHECKING:
    import faiss
    import numpy as np
    from numpy.typing import NDArray

GPU_SLICE_BYTES = 2**30
"""How much of the anchors is searched at once on GPUs, which are sent all queries anew for each slice."""

MOST_ON_GPU = 2048
"""How many neighbours faiss finds there."""


def slice_bytes() -> int | None:
    """How large slices of anchors `nearest` likes; None for any."""
    from faiss import get_num_gpus

    return GPU_SLICE_BYTES if usable(get_num_gpus(), "faiss") else None


def nearest(
    anchors: "Iterable[NDArray[np.float32]]", queries: "NDArray[np.float32]", k: int, where: str
) -> tuple["NDArray[np.float32]", "NDArray[np.int64]"]:
    """The k largest inner products [M, k] of each query [M, D] with the ``anchors``, falling, and the anchors' rows.

    ``anchors`` come in slices [n, D], as `Embeddings.unit_slices` yields them, and no more than one is held at a time:
    all of them may be more than memory holds.
    """
    from faiss import METRIC_INNER_PRODUCT, get_num_gpus
    from faiss.contrib.exhaustive_search import knn_ground_truth

    if usable(get_num_gpus(), "faiss") and k > MOST_ON_GPU:
        raise UserError(
            f"{where}: {k} neighbours asked for; faiss finds no more than {MOST_ON_GPU} on a GPU: ask for fewer, or "
            "set CUDA_VISIBLE_DEVICES="
        )
    similarities, neighbours = knn_ground_truth(queries, anchors, k, METRIC_INNER_PRODUCT)
    # Where there are too few, faiss fills each query's row up with -1.
    if (found := (neighbours[0] >= 0).sum()) < k:
        raise UserError(f"{where}: {k} neighbours asked for, but there are {found} images to search")
    return similarities, neighbours


def on_gpus(index: "faiss.Index") -> "faiss.Index":
    """The index on all GPUs, its vectors shared out among them; where there is none, the index as it is."""
    import faiss

    if not usable(faiss.get_num_gpus(), "faiss"):
        return index
    options = faiss.GpuMultipleClonerOptions()
    options.shard = True
    return faiss.index_cpu_to_all_gpus(index, co=options)

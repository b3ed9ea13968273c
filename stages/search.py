"""Exact nearest-neighbour search by faiss, on the GPUs that faiss finds or else on the CPU."""

import logging
from typing import TYPE_CHECKING

from stages.errors import UserError

if TYPE_CHECKING:
    import faiss
    import numpy as np
    from numpy.typing import NDArray


# faiss reports which of its builds it loads, as if it were of interest.
logging.getLogger("faiss.loader").setLevel(logging.WARNING)


def nearest(anchors: "NDArray[np.float32]", queries: "NDArray[np.float32]", k: int, where: str) -> "NDArray[np.int64]":
    """The rows [M, k] of the ``anchors`` [N, D] with the largest inner product with each of the ``queries`` [M, D]."""
    import faiss

    if k > len(anchors):
        raise UserError(f"{where}: {k} neighbours asked for, but there are {len(anchors)} images to search")
    index = on_gpus(faiss.IndexFlatIP(anchors.shape[1]))
    index.add(anchors)
    rows: NDArray[np.int64] = index.search(queries, k)[1]
    return rows


def on_gpus(index: "faiss.Index") -> "faiss.Index":
    """The index on all GPUs, its vectors shared out among them; where there is none, the index as it is."""
    import faiss

    if not faiss.get_num_gpus():
        return index
    options = faiss.GpuMultipleClonerOptions()
    options.shard = True
    return faiss.index_cpu_to_all_gpus(index, co=options)

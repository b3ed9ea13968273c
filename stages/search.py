"""Exact nearest-neighbour search by faiss, on the GPUs that faiss finds or else on the CPU."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from stages.errors import UserError

if TYPE_CHECKING:
    import faiss
    import numpy as np
    from numpy.typing import NDArray


# faiss reports which of its builds it loads, as if it were of interest.
logging.getLogger("faiss.loader").setLevel(logging.WARNING)


def nearest(
    anchors: "NDArray[np.float32]", queries: "Iterable[NDArray[np.float32]]", k: int, where: str
) -> tuple["NDArray[np.float32]", "NDArray[np.int64]"]:
    """The k largest inner products [M, k] of each query with the ``anchors`` [N, D], falling, and the anchors' rows.

    ``queries`` come in slices [m, D], as `Embeddings.unit_slices` yields them.
    """
    import faiss
    import numpy as np

    if k > len(anchors):
        raise UserError(f"{where}: {k} neighbours asked for, but there are {len(anchors)} images to search")
    if faiss.get_num_gpus():
        index = on_gpus(faiss.IndexFlatIP(anchors.shape[1]))
        index.add(anchors)
        found = [index.search(rows, k) for rows in queries]
    else:
        # What an index on the CPU does, without the copy of the anchors that it would make first.
        found = [faiss.knn(rows, anchors, k, faiss.METRIC_INNER_PRODUCT) for rows in queries]
    similarities, neighbours = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return similarities, neighbours


def on_gpus(index: "faiss.Index") -> "faiss.Index":
    """The index on all GPUs, its vectors shared out among them; where there is none, the index as it is."""
    import faiss

    if not faiss.get_num_gpus():
        return index
    options = faiss.GpuMultipleClonerOptions()
    options.shard = True
    return faiss.index_cpu_to_all_gpus(index, co=options)

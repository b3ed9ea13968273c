"""Embedding caches: one HDF5 file for an encoder and a split, or several shards of one, read through memory maps."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.atomic import atomic_with_digest
from stages.artifacts.hdf5 import create, open_complete
from stages.artifacts.labels import single
from stages.artifacts.shards import KIND, JoinedRows, joined, mapped
from stages.artifacts.weights import EncoderCard
from stages.errors import UserError, require_split

SLICE_BYTES = 2**26
"""How much of a cache is held as float32 at once by those that go through it, unless they ask for more."""

PART_BYTES = 2**22
"""How much of that a thread normalises at once: memory that is used again, as larger pieces would not be."""


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """``vectors`` [N, D] (read-only memory maps, usually float16) and ``labels``, with where they come from.

    ``labels`` are int64 [N] or, of images with several classes each, int8 [N, C] (`stages.datasets.sources.Split`).
    ``skipped`` images of the split were left out when it was packed.
    """

    path: Path
    vectors: NDArray[np.floating] | JoinedRows
    labels: NDArray[Any]
    classes: tuple[str, ...]
    card: EncoderCard
    weights: str
    dataset: str
    split: str
    dataset_fingerprint: str
    transform: str
    skipped: int = 0

    def unit(self, rows: range | NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """The vectors of ``rows`` (by default of all) as float32, l2-normalised; a zero or non-finite one is an error.

        It takes no more memory than they do, and some parts: a million of 2048 dimensions are 8 GB. Each thread makes a
        part: one alone is slower than a GPU's search.
        """
        chosen = range(len(self.labels)) if rows is None else rows
        filled = np.empty((len(chosen), self.vectors.shape[1]), np.float32)
        step = self._rows_in(PART_BYTES)

        def fill(start: int) -> None:
            part = chosen[start : start + step]
            rows = slice(part.start, part.stop) if isinstance(part, range) else part
            filled[start : start + step] = unit_rows(self.vectors[rows], str(self.path), part)

        with ThreadPoolExecutor(threads()) as pool:
            for _ in pool.map(fill, range(0, len(chosen), step)):
                pass  # The first error is raised here.
        return filled

    def unit_slices(
        self, rows: NDArray[np.int64] | None = None, size: int | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """What `unit` returns, in order, some rows at a time: ``size`` bytes of them, by default `SLICE_BYTES`."""
        chosen = range(len(self.labels)) if rows is None else rows
        step = self._rows_in(size or SLICE_BYTES)
        for start in range(0, len(chosen), step):
            yield self.unit(chosen[start : start + step])

    def _rows_in(self, size: int) -> int:
        """How many float32 vectors there are in ``size`` bytes, at least one."""
        return max(1, size // (4 * self.vectors.shape[1]))

    def exact_unit(self) -> NDArray[np.float64]:
        """`unit` as float64, in which even embeddings in a narrow cone differ in cosine."""
        return unit_rows(self.vectors, str(self.path), dtype=np.float64)

    def single_labels(self) -> NDArray[np.int64]:
        """The labels [N] of images of one class each; of others, and of images without labels, an error."""
        return single(self.labels, len(self.classes), self.path, self.dataset)


def threads() -> int:
    """How many threads this process is to compute with: as many as the libraries are told to, or one a core."""
    outermost = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # OpenMP takes a number for each nested level.
    return int(outermost or len(os.sched_getaffinity(0)))


def unit_rows(
    vectors: NDArray[np.floating] | JoinedRows,
    where: str,
    numbers: Sequence[int] | NDArray[np.int64] | None = None,
    dtype: type[np.floating] = np.float32,
) -> NDArray[Any]:
    """Rows [N, D] scaled to unit l2 norm, computed as ``dtype``; ``numbers`` are theirs in ``where``, if not from 0 on.

    Raises:
        UserError: a row has zero or non-finite norm; ``where`` and the row are named.
    """
    rows = np.array(vectors, dtype=dtype)
    # numpy.linalg.norm makes a temporary of the rows' size, whose memory takes longer to get than to fill.
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    bad = np.flatnonzero(~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)))
    if bad.size:
        first = bad[0] if numbers is None else numbers[bad[0]]
        raise UserError(
            f"{where}: {bad.size} of {len(rows)} vectors have zero or non-finite norm, the first is row {first} "
            f"({norms[bad[0], 0]}); cosine similarity needs non-zero vectors: the encoder has collapsed or diverged"
        )
    rows /= norms
    return rows


@contextlib.contextmanager
def writing_embeddings(
    path: Path,
    shape: tuple[int, int],
    dtype: str,
    *,
    labels: NDArray[Any],
    classes: tuple[str, ...],
    card: EncoderCard,
    weights: str,
    dataset: str,
    split: str,
    dataset_fingerprint: str,
    transform: str,
    skipped: int = 0,
    shard: tuple[int, int] | None = None,
) -> Iterator[Callable[[int, NDArray[np.floating]], None]]:
    """Yield ``write(start, rows)``; the file appears, marked complete, when the block ends well.

    With ``shard``, its number and how many there are, it is one of those that `stages.artifacts.shards` joins.
    """
    kind = KIND if shard else "embeddings"
    with atomic_with_digest(path) as temporary, create(temporary, kind) as (file, storage):
        # Contiguous storage is what lets readers memory-map the vectors, so that workers share one copy.
        vectors = file.create_dataset("embeddings", shape=shape, dtype=dtype)
        file["labels"] = labels
        file["classes"] = list(classes)
        file.attrs.update(
            encoder=card.to_json(),
            weights=weights,
            dataset=dataset,
            split=split,
            dataset_fingerprint=dataset_fingerprint,
            transform=transform,
            skipped=skipped,
        )
        if shard:
            file.attrs["shard"] = shard

        def write(start: int, rows: NDArray[np.floating]) -> None:
            vectors[start : start + len(rows)] = rows
            storage.check()

        yield write


def read_embeddings(path: Path) -> Embeddings:
    """Open a cache; nothing is read but labels and attributes."""
    with open_complete(path, "embeddings") as file:
        stored = file["embeddings"]
        attributes = file.attrs
        return Embeddings(
            path=path,
            vectors=joined(path, file) if stored.is_virtual else mapped(path, stored),
            labels=file["labels"][:],
            classes=tuple(file["classes"].asstr()[:]),
            card=EncoderCard.from_json(attributes["encoder"]),
            weights=attributes["weights"],
            dataset=attributes["dataset"],
            split=attributes["split"],
            dataset_fingerprint=attributes["dataset_fingerprint"],
            transform=attributes["transform"],
            skipped=int(attributes["skipped"]),
        )


def read_pair(train: Path, val: Path) -> tuple[Embeddings, Embeddings]:
    """A train and a val cache that belong together: one encoder's weights, one dataset, its two splits."""
    pair = read_embeddings(train), read_embeddings(val)
    for key, what in (("weights", "weights"), ("dataset_fingerprint", "dataset"), ("transform", "view")):
        first, second = (getattr(embeddings, key) for embeddings in pair)
        if first != second:
            raise UserError(
                f"{train} and {val} do not belong together: made with {what} {first} and {second}; "
                f"expected two splits embedded by the same encoder"
            )
    for embeddings, split in zip(pair, ("train", "val"), strict=True):
        require_split(embeddings.path, embeddings.split, split)
    return pair

"""Embedding caches in shards: files written side by side, joined by one HDF5 virtual dataset that copies nothing.

Where a file of a virtual dataset is missing, HDF5 itself reads zeros. So each shard is opened by itself, and held to
what was joined.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.atomic import atomic_with_digest, digest_beside
from stages.artifacts.hdf5 import create, open_complete
from stages.errors import UserError

if TYPE_CHECKING:
    import h5py

KIND = "embeddings shard"

FACTS = ("encoder", "weights", "dataset", "split", "dataset_fingerprint", "transform", "skipped")
"""The attributes that a cache and all its shards have in common."""


def shard_rows(images: int, number: int, count: int) -> range:
    """The rows of shard ``number`` of a split, of 1 to ``count``: their sizes differ by one at the most."""
    if not 1 <= number <= count:
        raise UserError(f"--shard is {number} {count}; expected the shard's number, from 1 on, and how many there are")
    if count > images:
        raise UserError(f"--shard: {count} shards of {images} images; expected at least an image in each: ask for less")
    return range((number - 1) * images // count, number * images // count)


class JoinedRows:
    """Rows [N, D] that lie end to end in several memory maps: as much of an array as those who read a cache need."""

    def __init__(self, parts: Sequence[NDArray[np.floating]]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *map(len, parts)])
        self.shape = (int(self.starts[-1]), parts[0].shape[1])
        self.dtype = np.result_type(*parts)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.floating]:
        """A copy of these rows, in their order; negative numbers are none."""
        numbers = np.arange(*rows.indices(self.shape[0])) if isinstance(rows, slice) else np.asarray(rows)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < self.shape[0]:
            raise IndexError(f"rows {numbers.min()} to {numbers.max()} of {self.shape[0]}")
        found = np.empty((len(numbers), self.shape[1]), self.dtype)
        homes = np.searchsorted(self.starts, numbers, side="right") - 1
        for home in np.unique(homes):
            here = homes == home
            found[here] = self.parts[home][numbers[here] - self.starts[home]]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.concatenate(self.parts, dtype=dtype or self.dtype)


def mapped(path: Path, stored: "h5py.Dataset") -> NDArray[np.floating]:
    """A memory map of the dataset ``stored`` of the file ``path``; of an empty one, which is nowhere, an array."""
    offset = stored.id.get_offset()
    return np.memmap(path, stored.dtype, "r", offset, stored.shape) if offset else stored[:]


@dataclasses.dataclass(frozen=True)
class Shard:
    path: Path
    vectors: NDArray[np.floating]
    labels: NDArray[Any]
    classes: list[str]
    facts: Mapping[str, Any]


def shards_in(folder: Path, count: int) -> Iterable[Shard]:
    """The shards ``1of<count>.h5`` and so on in ``folder``, in order; they have to be of one encoder and one split.

    Raises:
        UserError: one is missing, damaged, incomplete, in another's place, or of other embeddings.
    """
    facts: Mapping[str, Any] = {}
    for number in range(1, count + 1):
        path = folder / f"{number}of{count}.h5"
        with open_complete(path, KIND) as file:
            shard = Shard(
                path,
                mapped(path, file["embeddings"]),
                file["labels"][:],
                list(file["classes"].asstr()[:]),
                {name: file.attrs[name] for name in FACTS},
            )
            place = tuple(file.attrs["shard"])
        if place != (number, count):
            raise UserError(f"{path}: holds shard {place[0]} of {place[1]}; delete it and run the stage again")
        facts = facts or shard.facts
        for name in FACTS:
            if shard.facts[name] != facts[name]:
                raise UserError(
                    f"{path}: its {name} is {shard.facts[name]}, that of the shards before it {facts[name]}; delete "
                    "those that are not of this experiment and run the stage again"
                )
        yield shard


def join(path: Path, folder: Path, count: int) -> None:
    """Write the cache ``path`` of the ``count`` shards in ``folder``, which lies beside it and moves with it.

    The digest is that of the cache's own file, which has those of its shards in it: it changes with their content.
    """
    import h5py

    shards = list(shards_in(folder, count))
    rows = JoinedRows([shard.vectors for shard in shards])
    layout = h5py.VirtualLayout(rows.shape, rows.dtype)
    # Unlike h5py's other datasets, this kind would hold when it was made, and no two digests would be equal.
    layout.dcpl.set_obj_track_times(False)
    for shard, start in zip(shards, rows.starts, strict=False):
        source = h5py.VirtualSource(f"{folder.name}/{shard.path.name}", "embeddings", shard.vectors.shape)
        layout[start : start + len(shard.vectors)] = source
    with atomic_with_digest(path) as temporary, create(temporary, "embeddings") as (file, _):
        file.create_virtual_dataset("embeddings", layout)
        file["labels"] = np.concatenate([shard.labels for shard in shards])
        file["classes"] = shards[0].classes
        file["shards"] = [digest_beside(shard.path) for shard in shards]
        file.attrs.update(shards[0].facts)


def joined(path: Path, file: "h5py.File") -> JoinedRows:
    """The vectors of the cache ``path``, opened as ``file``, each shard held to what was joined."""
    digests = list(file["shards"].asstr()[:])
    folder = path.parent / Path(file["embeddings"].virtual_sources()[0].file_name).parent
    try:
        shards = list(shards_in(folder, len(digests)))
        for shard, digest in zip(shards, digests, strict=True):
            if digest_beside(shard.path) != digest:
                raise UserError(f"{shard.path}: is not the one that was joined")
    except UserError as error:
        # Snakemake does not miss a shard as long as there is what was made of it.
        raise UserError(f"{error}; delete {path} too, which was joined of it: the next run makes both again") from error
    return JoinedRows([shard.vectors for shard in shards])

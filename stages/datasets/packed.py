"""Packed datasets: a split's encoded images in one HDF5 file, read through a memory map."""

import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.atomic import atomic_with_digest
from stages.artifacts.hdf5 import create, open_complete
from stages.artifacts.labels import single
from stages.artifacts.scratch import scratch
from stages.datasets.decoding import UndecodableError, checked, decoded, pixels
from stages.datasets.sources import Boxes, Split
from stages.datasets.splits import subset
from stages.errors import UserError, require_split
from stages.progress import track

if TYPE_CHECKING:
    import h5py
    import torch
    from PIL import Image

logger = logging.getLogger("stages")

SLICE = 64 << 20
"""The bytes of images that are copied at once."""

NAMED_AT_ONCE = 5
"""How many corrupt images an error names; the log names all."""


@dataclasses.dataclass(frozen=True)
class PackedImages:
    """A split: image i is the encoded bytes ``blob[offsets[i]:offsets[i + 1]]``, its class or classes ``labels[i]``.

    ``labels`` and ``boxes`` are as in `stages.datasets.sources.Split`. ``skipped`` is how many images of the source
    were left out because they do not decode.
    """

    path: Path
    blob: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64] | NDArray[np.int8]
    classes: tuple[str, ...]
    name: str
    split: str
    fingerprint: str
    boxes: Boxes | None = None
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def single_labels(self) -> NDArray[np.int64]:
        """The labels [N] of images of one class each; of others, and of images without labels, an error."""
        return single(self.labels, len(self.classes), self.path, self.name)

    def encoded(self, index: int) -> NDArray[np.uint8]:
        """The bytes of image ``index``'s file."""
        return np.array(self.blob[self.offsets[index] : self.offsets[index + 1]])

    def picture(self, index: int) -> "Image.Image":
        """Image ``index`` decoded, RGB; one that does not decode is an error that names it."""
        with self._named(index):
            return decoded(self.encoded(index).tobytes())

    def image(self, index: int) -> "torch.Tensor":
        """Image ``index`` decoded, uint8 [3, H, W]; one that does not decode is an error that names it."""
        with self._named(index):
            return pixels(self.encoded(index))

    @contextlib.contextmanager
    def _named(self, index: int) -> Iterator[None]:
        try:
            yield
        except UndecodableError as error:
            raise UserError(
                f"{self.path}: image {index} does not decode ({error}); it did when it was packed: delete the file and "
                "run the stage again"
            ) from error


def read_pack(path: Path) -> PackedImages:
    """Open a packed split; the images stay on disk until they are asked for."""
    with open_complete(path, "dataset") as file:
        blob = file["images"]
        return PackedImages(
            path=path,
            blob=np.memmap(path, dtype=np.uint8, mode="r", offset=blob.id.get_offset(), shape=blob.shape),
            offsets=file["offsets"][:],
            labels=file["labels"][:],
            classes=tuple(file["classes"].asstr()[:]),
            name=file.attrs["name"],
            split=file.attrs["split"],
            fingerprint=file.attrs["fingerprint"],
            boxes=Boxes(**{key: file["boxes"][key][:] for key in file["boxes"]}) if "boxes" in file else None,
            skipped=int(file.attrs["skipped"]),
        )


def read_pack_pair(train: Path, val: Path) -> tuple[PackedImages, PackedImages]:
    """The train and the val split of one dataset."""
    pair = read_pack(train), read_pack(val)
    if pair[0].fingerprint != pair[1].fingerprint:
        raise UserError(
            f"{train} and {val} do not belong together: packed from {pair[0].name} ({pair[0].fingerprint[:12]}) and "
            f"{pair[1].name} ({pair[1].fingerprint[:12]}); expected two splits of one dataset"
        )
    for pack, split in zip(pair, ("train", "val"), strict=True):
        require_split(pack.path, pack.split, split)
    return pair


def write_packs(
    splits: Mapping[Path, tuple[str, Split]], *, name: str, source: str, skip_corrupt: int = 0, workers: int = 0
) -> None:
    """Write a dataset's splits, ``{path: (split name, split)}``, all of them or none.

    Every image is decoded once, by ``workers`` processes. Up to ``skip_corrupt`` that do not decode are left out, each
    with a warning; more are an error. All files carry one ``fingerprint``, of all images and labels of all splits: what
    was made from either split can tell whether it belongs to the other.
    """
    fingerprint = hashlib.sha256()
    corrupt: list[str] = []
    with contextlib.ExitStack() as stack:
        files = []
        for path, (split_name, split) in splits.items():
            if not len(split.labels):
                raise UserError(f"dataset {name}: its {split_name} split is empty; expected at least one image")
            file, storage = stack.enter_context(create(stack.enter_context(atomic_with_digest(path)), "dataset"))
            with scratch(path.parent) as room:
                rows = _write_images(file, split, fingerprint, f"packing {name} {split_name}", workers, room)
            _write_labels(file, subset(split, rows), fingerprint)
            storage.check()
            file.attrs.update(name=name, split=split_name, source=source, skipped=len(split.labels) - len(rows))
            corrupt += [_called(split, row) for row in np.setdiff1d(np.arange(len(split.labels)), rows)]
            if len(corrupt) <= skip_corrupt and not len(rows):
                raise UserError(f"dataset {name}: no image of its {split_name} split decodes")
            files.append(file)
        if len(corrupt) > skip_corrupt:
            raise _corrupt(name, corrupt, skip_corrupt)
        for file in files:
            file.attrs["fingerprint"] = fingerprint.hexdigest()


def _write_images(
    file: "h5py.File", split: Split, fingerprint: "hashlib._Hash", what: str, workers: int, room: IO[bytes]
) -> NDArray[np.int64]:
    """Lay the images that decode end to end, in the order of the source; the rows [n] that they have there.

    HDF5 wants to know first how long they are together, which is known when all are read: until then they are in
    ``room``, so that none is read or encoded twice.
    """
    rows, offsets = [], [0]
    images = track(checked(split.images, workers), what, total=len(split.labels), unit="images")
    for row, (image, fault) in enumerate(images):
        if fault:
            logger.warning("%s: does not decode (%s)", _called(split, row), fault)
            continue
        room.write(image)
        fingerprint.update(hashlib.sha256(image).digest())
        rows.append(row)
        offsets.append(offsets[-1] + len(image))
    room.seek(0)
    blob = file.create_dataset("images", shape=(offsets[-1],), dtype=np.uint8)
    for start in range(0, len(blob), SLICE):
        blob[start : start + SLICE] = np.frombuffer(room.read(SLICE), dtype=np.uint8)
    file["offsets"] = np.array(offsets, dtype=np.int64)
    return np.array(rows, dtype=np.int64)


def _write_labels(file: "h5py.File", split: Split, fingerprint: "hashlib._Hash") -> None:
    """All but the images of the split."""
    file["labels"] = split.labels
    file["classes"] = list(split.classes)
    fingerprint.update(split.labels.tobytes())
    for name, values in vars(split.boxes).items() if split.boxes else ():
        file[f"boxes/{name}"] = values
        fingerprint.update(values.tobytes())


def _called(split: Split, row: int) -> str:
    return split.names[row] if split.names else f"image {row}"


def _corrupt(name: str, corrupt: Sequence[str], allowed: int) -> UserError:
    more = f" and {len(corrupt) - NAMED_AT_ONCE} more, all in the log" if len(corrupt) > NAMED_AT_ONCE else ""
    return UserError(
        f"dataset {name}: images that do not decode ({len(corrupt)}, of which {allowed} may be left out): "
        f"{', '.join(corrupt[:NAMED_AT_ONCE])}{more}; mend or remove them, or set skip_corrupt: {len(corrupt)}"
    )

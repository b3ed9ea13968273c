"""Packed datasets: a split's encoded images in one HDF5 file, read through a memory map."""

import contextlib
import dataclasses
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.atomic import atomic_with_digest
from stages.artifacts.hdf5 import create, open_complete
from stages.datasets.sources import Boxes, Split
from stages.errors import UserError
from stages.progress import track

if TYPE_CHECKING:
    import h5py
    import torch
    from PIL import Image


@dataclasses.dataclass(frozen=True)
class PackedImages:
    """A split: image i is the encoded bytes ``blob[offsets[i]:offsets[i + 1]]``, its class or classes ``labels[i]``.

    ``labels`` and ``boxes`` are as in `stages.datasets.sources.Split`.
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

    def __len__(self) -> int:
        return len(self.labels)

    def single_labels(self) -> NDArray[np.int64]:
        """The labels [N] of images of one class each; of others, an error."""
        if self.labels.ndim != 1:
            raise UserError(
                f"{self.path}: the images of {self.name} have several labels each, of {len(self.classes)} classes; "
                "supervised training needs one label an image: choose another dataset, or a method without labels"
            )
        return self.labels.astype(np.int64, copy=False)

    def encoded(self, index: int) -> NDArray[np.uint8]:
        """The bytes of image ``index``'s file."""
        return np.array(self.blob[self.offsets[index] : self.offsets[index + 1]])

    def picture(self, index: int) -> "Image.Image":
        """Image ``index`` decoded, RGB; one that does not decode is an error that names it."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(self.encoded(index).tobytes())) as file:
                return _eight_bit(file).convert("RGB")
        except OSError as error:
            raise UserError(f"{self.path}: image {index} does not decode ({error}); mend it in the source") from error

    def image(self, index: int) -> "torch.Tensor":
        """Image ``index`` decoded, uint8 [3, H, W]."""
        from torchvision.transforms.v2.functional import pil_to_tensor

        return pil_to_tensor(self.picture(index))


def _eight_bit(image: "Image.Image") -> "Image.Image":
    """Pillow would clip the values of a grey image of 16 bits, not scale them."""
    from PIL import Image

    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if image.mode.startswith("I;16") else image


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
        )


def write_packs(splits: Mapping[Path, tuple[str, Split]], *, name: str, source: str) -> None:
    """Write a dataset's splits, ``{path: (split name, split)}``, all of them or none.

    Both files carry one ``fingerprint``, of all images and labels of all splits: what was made from either split can
    tell whether it belongs to the other.
    """
    fingerprint = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        files = []
        for path, (split_name, split) in splits.items():
            if not len(split.labels):
                raise UserError(f"dataset {name}: its {split_name} split is empty; expected at least one image")
            file, storage = stack.enter_context(create(stack.enter_context(atomic_with_digest(path)), "dataset"))
            _write_images(file, split, fingerprint, f"packing {name} {split_name}")
            storage.check()
            file.attrs.update(name=name, split=split_name, source=source)
            files.append(file)
        for file in files:
            file.attrs["fingerprint"] = fingerprint.hexdigest()


def _write_images(file: "h5py.File", split: Split, fingerprint: "hashlib._Hash", what: str) -> None:
    """Lay the images end to end, in the order of the source, and add them to the fingerprint."""
    offsets = np.concatenate([[0], np.cumsum(split.sizes)]).astype(np.int64)
    blob = file.create_dataset("images", shape=(int(offsets[-1]),), dtype=np.uint8)
    file["offsets"] = offsets
    file["labels"] = split.labels
    file["classes"] = list(split.classes)
    fingerprint.update(split.labels.tobytes())
    for name, values in vars(split.boxes).items() if split.boxes else ():
        file[f"boxes/{name}"] = values
        fingerprint.update(values.tobytes())
    for index, image in enumerate(track(split.images, what, total=len(split.labels), unit="images")):
        blob[offsets[index] : offsets[index + 1]] = np.frombuffer(image, dtype=np.uint8)
        fingerprint.update(hashlib.sha256(image).digest())

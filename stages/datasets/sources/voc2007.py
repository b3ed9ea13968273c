"""PASCAL VOC 2007: 9,963 photographs of 20 classes, several an image, with boxes; its test set is the val split.

The train split is trainval. Labels are those of ``ImageSets/Main/<class>_<set>.txt``, whose 1, 0 and -1 (there,
difficult, not there) are 1, -1 and 0 here. Boxes are those of ``Annotations``, whose pixels count from 1 and whose last
pixel belongs to the object: here, x1 and y1 are smaller by 1, and x2 and y2 as they are.
"""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from xml.etree import ElementTree

from stages.datasets.archives import Archive, unpacked
from stages.datasets.encoded import Files
from stages.datasets.sources import Boxes, Split
from stages.errors import UserError, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

LABELS = "several"

SETS = {"train": "trainval", "val": "test"}

MEANINGS = {"1": 1, "0": -1, "-1": 0}
"""Our label of an image and a class, by VOC's."""

LAYOUTS = ("VOCdevkit/VOC2007", "VOC2007", ".")
"""Where a folder may hold ``ImageSets``, ``Annotations`` and ``JPEGImages``."""

FOLDER = ("VOCdevkit/VOC2007", "VOC2007", "ImageSets", "Annotations", "JPEGImages")

IMAGES = (5_011, 4_952)


@dataclasses.dataclass(frozen=True)
class Options:
    path: Annotated[str, "the folder that holds VOCdevkit/VOC2007, or VOC2007 itself; empty: download"] = ""


def download(options: Options, downloads: Path) -> Path:
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    entries = [DATASET_YEAR_DICT[name] for name in ("2007", "2007-test")]
    return unpacked(downloads / "voc2007", [Archive(entry["url"], entry["md5"]) for entry in entries])


def read(options: Options, split: str) -> Split:
    """The split's images in the order of its list, their bytes as they are."""
    root = _root(options)
    names = [words[0] for words in _words(root / "ImageSets" / "Main" / f"{SETS[split]}.txt", 1)]
    files = [root / "JPEGImages" / f"{name}.jpg" for name in names]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such image, but the list {SETS[split]}.txt has it; unpack the dataset anew")
    return Split(
        classes=CLASSES,
        labels=_labels(root, SETS[split], names),
        images=Files([str(file) for file in files]),
        names=[str(file) for file in files],
        boxes=_boxes([root / "Annotations" / f"{name}.xml" for name in names], files),
    )


def _root(options: Options) -> Path:
    """The folder VOC2007."""
    for layout in LAYOUTS:
        if (Path(options.path) / layout / "ImageSets").is_dir():
            return Path(options.path) / layout
    raise UserError(f"{options.path}: holds no VOC2007; expected VOCdevkit/VOC2007/ImageSets in it, or ImageSets")


def _words(path: Path, count: int) -> list[list[str]]:
    """The lines of a list, of ``count`` words each."""
    if not path.is_file():
        raise UserError(f"{path}: no such list; unpack both archives of VOC2007, trainval and test, into one folder")
    lines = [line.split() for line in path.read_text().splitlines()]
    for number, words in enumerate(lines, start=1):
        if len(words) != count:
            raise UserError(f"{path}: line {number} has {len(words)} words; expected {count}")
    return lines


def _labels(root: Path, name: str, images: list[str]) -> "NDArray[np.int8]":
    """Our labels [N, 20] of the images of the set ``name``."""
    import numpy as np

    labels = np.zeros((len(images), len(CLASSES)), dtype=np.int8)
    for column, kind in enumerate(CLASSES):
        path = root / "ImageSets" / "Main" / f"{kind}_{name}.txt"
        values = dict(_words(path, 2))
        for row, image in enumerate(images):
            if values.get(image) not in MEANINGS:
                raise UserError(f"{path}: image {image} is {values.get(image, 'not there')}; expected 1, 0 or -1")
            labels[row, column] = MEANINGS[values[image]]
    return labels


def _boxes(annotations: list[Path], images: list[Path]) -> Boxes:
    import numpy as np

    objects = [list(_objects(*pair)) for pair in zip(annotations, images, strict=True)]
    flat = [each for one in objects for each in one]
    return Boxes(
        offsets=np.cumsum([0, *map(len, objects)], dtype=np.int64),
        corners=np.array([corners for _, corners, _ in flat], dtype=np.float32).reshape(-1, 4),
        classes=np.array([kind for kind, _, _ in flat], dtype=np.int64),
        difficult=np.array([difficult for _, _, difficult in flat], dtype=np.bool_),
    )


def _objects(annotation: Path, image: Path) -> Iterator[tuple[int, tuple[float, ...], bool]]:
    """The class, corners and difficulty of each object of an image."""
    width, height = _size(image)
    for number, found in enumerate(_parsed(annotation).iter("object"), start=1):
        where = f"{annotation}: object {number}"
        name = _text(found, "name", where)
        if name not in CLASSES:
            raise UserError(f"{where}: {unknown('class', name, CLASSES)}")
        sides = [_number(found, f"bndbox/{side}", where) for side in ("xmin", "ymin", "xmax", "ymax")]
        x1, y1, x2, y2 = sides[0] - 1, sides[1] - 1, sides[2], sides[3]
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
            shown = " ".join(f"{side:g}" for side in sides)
            raise UserError(
                f"{where}: the {name}'s box {shown} is empty or not within the image of {width} x {height} pixels; "
                "expected 1 <= xmin <= xmax <= width and so of y"
            )
        yield CLASSES.index(name), (x1, y1, x2, y2), _number(found, "difficult", where) == 1


def _size(image: Path) -> tuple[float, float]:
    """Width and height, from the image's header; of one that has none, no bound: packing names it, or leaves it out."""
    from PIL import Image

    try:
        with Image.open(image) as file:
            return file.size
    except (OSError, Image.DecompressionBombError):
        return math.inf, math.inf


def _parsed(path: Path) -> ElementTree.Element:
    # Whoever wrote the file: ElementTree fetches nothing from outside it, and expat bounds how far entities expand.
    try:
        return ElementTree.fromstring(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such annotation, but a list has its image; unpack the dataset anew") from error
    except ElementTree.ParseError as error:
        raise UserError(f"{path}: line {error.position[0]} is not readable XML ({error}); unpack it anew") from error
    except (ValueError, LookupError) as error:  # of an encoding that expat does not know
        raise UserError(f"{path}: is not readable XML ({error}); save it as UTF-8") from error


def _text(found: ElementTree.Element, name: str, where: str) -> str:
    text = found.findtext(name)
    if text is None:
        raise UserError(f"{where}: has no {name}; expected VOC's name, difficult and bndbox")
    return text.strip()


def _number(found: ElementTree.Element, name: str, where: str) -> float:
    text = _text(found, name, where)
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"{where}: {name} is {text!r}; expected a number") from error

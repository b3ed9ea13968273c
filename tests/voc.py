"""A folder as PASCAL VOC 2007 is unpacked, of a few small pictures with coloured rectangles for objects."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from stages.datasets.sources.voc2007 import CLASSES

COLOURS = {"bus": (220, 30, 30), "car": (30, 220, 30), "person": (30, 30, 220)}


@dataclasses.dataclass(frozen=True)
class Thing:
    """An object: its box as VOC has it, from 1 and with the last pixel."""

    name: str
    box: tuple[int, int, int, int]
    difficult: bool = False


def drawn(seed: int, count: int, width: int = 64, height: int = 48) -> list[list[Thing]]:
    """The things of ``count`` pictures: one on the left in each, of each class in turn, and another in every second."""
    random = np.random.default_rng(seed)
    names = list(COLOURS)
    pictures = []
    for index in range(count):
        things = []
        for place in range(1 + index % 2):
            x, y = random.integers(1, 6, size=2) + np.array([place * width // 2, 0])
            box = (int(x), int(y), int(x) + 21, int(y) + int(random.integers(20, 36)))
            things.append(Thing(names[(index + place) % len(names)], box))
        pictures.append(things)
    return pictures


def write_voc(
    folder: Path, train: Sequence[Sequence[Thing]], val: Sequence[Sequence[Thing]], size: tuple[int, int] = (64, 48)
) -> Path:
    """Write ``VOCdevkit/VOC2007`` under ``folder``: the pictures' lists, annotations and images; returns ``folder``."""
    root = folder / "VOCdevkit" / "VOC2007"
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (root / part).mkdir(parents=True, exist_ok=True)
    number = 0
    for name, pictures in (("trainval", train), ("test", val)):
        members: dict[str, Sequence[Thing]] = {}
        for things in pictures:
            number += 1
            members[f"{number:06}"] = things
            _write_picture(root, f"{number:06}", things, size)
        _write_lists(root / "ImageSets" / "Main", name, members)
    return folder


def _write_picture(root: Path, name: str, things: Sequence[Thing], size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (128, 128, 128))
    for thing in things:
        x1, y1, x2, y2 = thing.box
        ImageDraw.Draw(image).rectangle((x1 - 1, y1 - 1, x2 - 1, y2 - 1), fill=COLOURS[thing.name])
    image.save(root / "JPEGImages" / f"{name}.jpg", quality=95)
    objects = "".join(
        f"<object>\n<name>{thing.name}</name><difficult>{int(thing.difficult)}</difficult><bndbox>"
        + "".join(
            f"<{key}>{side}</{key}>" for key, side in zip(("xmin", "ymin", "xmax", "ymax"), thing.box, strict=True)
        )
        + "</bndbox></object>\n"
        for thing in things
    )
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>\n{objects}</annotation>\n")


def _write_lists(folder: Path, name: str, members: Mapping[str, Sequence[Thing]]) -> None:
    (folder / f"{name}.txt").write_text("".join(f"{image}\n" for image in members))
    for kind in CLASSES:
        lines = [f"{image} {_value(kind, things):>2}\n" for image, things in members.items()]
        (folder / f"{kind}_{name}.txt").write_text("".join(lines))


def _value(kind: str, things: Sequence[Thing]) -> int:
    of_kind = [thing for thing in things if thing.name == kind]
    if not of_kind:
        return -1
    return int(any(not thing.difficult for thing in of_kind))

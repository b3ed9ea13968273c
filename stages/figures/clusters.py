"""Random images of random clusters, not chosen by hand, as in CompRess's Figure 3(c)."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.artifacts.assignments import read_assignments
from stages.datasets.packed import PackedImages, read_pack
from stages.errors import UserError
from stages.figures.style import DPI, WIDTH, drawing
from stages.figures.text import within

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

LABELS, TITLE, EDGE, LINE = 1.05, 0.35, 0.06, 0.17
"""Inches left of the images, above and around them, and of each more line above."""

SPACING = 4
"""Pixels between the images."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of the figure: a cluster, how many images of the split it holds, and those that are shown."""

    cluster: int
    size: int
    shown: tuple[int, ...]


def draw(assignments: Path, images: Path, split: str, path: Path, rows: int, columns: int, seed: int) -> None:
    """Draw ``columns`` images of each of ``rows`` clusters of the first k-means run; empty places stay blank."""
    found, pack = read_assignments(assignments), read_pack(images)
    assigned = (found.train if split == "train" else found.val)[0]
    check_pair(assignments, found.dataset_fingerprint, len(assigned), pack, split)
    lines = chosen(assigned, found.clusters, rows, columns, seed)
    side = (round((WIDTH - LABELS - EDGE) * DPI) + SPACING) // columns - SPACING
    if side < 1:
        raise UserError(f"--columns is {columns}: so many images do not fit beside each other in {WIDTH:g} inches")
    picture = mosaic([[decoded(pack, index, side) for index in line.shown] for line in lines], columns, side)
    what = f"{found.card.name}, {found.dataset} {split}: {len(lines)} of {found.clusters} clusters"
    title = within(f"{what}, random images of each", WIDTH - LABELS - EDGE, size=10)
    above = TITLE + LINE * title.count("\n")
    with drawing(path, picture.shape[0] / DPI + above + EDGE, layout=None) as figure:
        height, width = picture.shape[0] / DPI / figure.get_figheight(), picture.shape[1] / DPI / WIDTH
        axis = figure.add_axes((LABELS / WIDTH, EDGE / figure.get_figheight(), width, height))
        axis.imshow(picture, interpolation="nearest", aspect="auto")
        middles = [index * (side + SPACING) + side / 2 - 0.5 for index in range(len(lines))]
        axis.set_yticks(middles, [f"cluster {line.cluster}\n{line.size} images" for line in lines], fontsize="small")
        axis.set_xticks([])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.set_title(title, loc="left")


def check_pair(assignments: Path, fingerprint: str, length: int, pack: PackedImages, split: str) -> None:
    """Refuse images that are not those that were clustered."""
    pairs = {
        "dataset": (fingerprint, pack.fingerprint),
        "split": (split, pack.split),
        "number of images": (length, len(pack)),
    }
    for what, (expected, there) in pairs.items():
        if expected != there:
            raise UserError(
                f"{assignments} and {pack.path} do not belong together: {what} {expected} and {there}; "
                f"expected the images of the {split} split that was clustered"
            )


def chosen(assigned: "NDArray[np.integer]", clusters: int, rows: int, columns: int, seed: int) -> list[Line]:
    """``rows`` random clusters (all, in random order, if there are no more), and ``columns`` random images of each.

    Args:
        assigned: the cluster of each image [N].
    """
    import numpy as np

    random = np.random.default_rng(seed)
    lines = []
    for cluster in random.permutation(clusters)[:rows]:
        members = np.flatnonzero(assigned == cluster)
        shown = random.permutation(members)[:columns]
        lines.append(Line(int(cluster), len(members), tuple(int(index) for index in shown)))
    return lines


def decoded(pack: PackedImages, index: int, side: int) -> "Image.Image":
    """Image ``index`` in colour, its central square scaled to ``side`` pixels; small ones keep their hard pixels."""
    from PIL import Image, ImageOps

    image = pack.picture(index)
    method = Image.Resampling.NEAREST if min(image.size) < side else Image.Resampling.LANCZOS
    return ImageOps.fit(image, (side, side), method)


def mosaic(images: Sequence[Sequence["Image.Image"]], columns: int, side: int) -> "NDArray[np.uint8]":
    """The rows of ``images``, each ``side`` pixels square, as one white-spaced picture [H, W, 3]."""
    import numpy as np

    step = side + SPACING
    picture = np.full((len(images) * step - SPACING, columns * step - SPACING, 3), 255, dtype=np.uint8)
    for line, row in enumerate(images):
        for column, image in enumerate(row):
            picture[line * step : line * step + side, column * step : column * step + side] = np.asarray(image)
    return picture

"""Embed a dataset's splits with one encoder, once: what every evaluation and every cached teacher reads.

    python -m stages.embed --weights weights.safetensors --augmentation affine-elastic \\
        --images train.h5 val.h5 --embeddings teacher-train.h5 teacher-val.h5

Each image is seen in its evaluation view, without chance, at the encoder's own input size and normalisation. Vectors
are stored as float16, unless that would change the norm of any by over 1% (as for an untrained MobileNet-V2, whose
embeddings are all but zero): then the split is embedded from its start again, and stored as float32.

With --view N it is the N-th view, from 0 on, of those that a student can see as well (stages.distill --teacher-views):
by an augmentation that draws image by image, such as crop-flip.

Several jobs can share the work, each with ``--shard I N``: stages.join_embeddings makes one cache of what they write.
Each shard is stored as float16 or float32 by its own vectors; the cache of both reads as float32.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from stages import gpus
from stages.command_line import output, parser_of, run
from stages.errors import at_least

logger = logging.getLogger("stages")

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.architectures import Encoder
    from stages.datasets.packed import PackedImages
    from stages.datasets.views import CenterViews, NumberedViews


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="the encoder's weights")
    parser.add_argument("--augmentation", required=True, help="the dataset's, of which the evaluation view is used")
    parser.add_argument("--view", type=int, metavar="N", help="the augmentation's N-th view instead, from 0 on")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="the packed splits")
    parser.add_argument("--embeddings", type=output, nargs="+", required=True, help="a file to write for each of them")
    parser.add_argument(
        "--shard", type=int, nargs=2, metavar=("I", "N"), help="only the I-th of N equal parts of each split, from 1 on"
    )
    parser.add_argument("--batch-size", type=int, default=256, help="images at a time (default: 256)")
    parser.add_argument("--workers", type=int, default=0, help="processes that read images ahead (default: 0, none)")
    arguments = parser.parse_args(argv)
    if len(arguments.images) != len(arguments.embeddings):
        parser.error("--images and --embeddings need as many files as each other")
    at_least(1, batch_size=arguments.batch_size)
    at_least(0, workers=arguments.workers, view=arguments.view or 0)

    from stages import architectures
    from stages.artifacts.embeddings import writing_embeddings
    from stages.artifacts.shards import shard_rows
    from stages.artifacts.weights import digest_of
    from stages.datasets import augmentations
    from stages.datasets.packed import read_pack
    from stages.datasets.views import CenterViews, NumberedViews

    encoder, card = architectures.read(arguments.weights)
    encoder.eval().requires_grad_(False).to(gpus.device())
    name, size = arguments.augmentation, card.contract.size
    weights = digest_of(arguments.weights)

    def views_of(pack: "PackedImages") -> CenterViews | NumberedViews:
        if arguments.view is not None:
            return NumberedViews(pack, name, size, arguments.view)
        return CenterViews(pack, augmentations.named(name, size), card.contract.interpolation)

    def write_split(pack: "PackedImages", rows: range, path: Path, dtype: str) -> None:
        views = views_of(pack)
        with writing_embeddings(
            path,
            (len(rows), card.dimension),
            dtype,
            labels=pack.labels[rows.start : rows.stop],
            classes=pack.classes,
            card=card,
            weights=weights,
            dataset=pack.name,
            split=pack.split,
            dataset_fingerprint=pack.fingerprint,
            transform=views.transform,
            skipped=pack.skipped,
            shard=arguments.shard,
        ) as write:

            def keep(start: int, embeddings: "NDArray[np.float32]") -> None:
                if dtype == "float16" and not fits_float16(embeddings):
                    raise OutOfRangeError
                write(start, embeddings)

            # A batch is checked and written while the next is computed; one that could not be stops the split.
            with ThreadPoolExecutor(max_workers=1) as writer:
                start, kept = 0, writer.submit(lambda: None)
                for embeddings in embedded(encoder, views, rows, arguments.batch_size, arguments.workers):
                    kept.result()
                    kept = writer.submit(keep, start, embeddings)
                    start += len(embeddings)
                kept.result()

    for images, path in zip(arguments.images, arguments.embeddings, strict=True):
        pack = read_pack(images)
        rows = shard_rows(len(pack), *arguments.shard) if arguments.shard else range(len(pack))
        try:
            write_split(pack, rows, path, "float16")
        except OutOfRangeError:
            logger.info("%s: embeddings beyond the range of float16: from the start again, as float32", path)
            write_split(pack, rows, path, "float32")


class OutOfRangeError(Exception):
    """float16 does not hold a vector."""


def fits_float16(embeddings: "NDArray[np.float32]") -> bool:
    """Whether float16 keeps every norm of ``embeddings`` [B, D] to 1%: no vector under- or overflows."""
    import numpy as np

    with np.errstate(over="ignore"):
        rounded = embeddings.astype(np.float16).astype(np.float32)
    exact, found = (np.linalg.norm(rows, axis=1) for rows in (embeddings, rounded))
    return bool(np.all(np.abs(found - exact) <= 0.01 * exact))


def embedded(
    encoder: "Encoder", views: "CenterViews | NumberedViews", rows: range, batch_size: int, workers: int
) -> Iterator["NDArray[np.float32]"]:
    """Yield the embeddings [B, D] of the images ``rows`` of the split, batch by batch, in its order."""
    import torch

    from stages.datasets.views import in_batches

    title = f"embedding {views.pack.name}-{views.pack.split}"
    with torch.inference_mode():
        for images in in_batches(views, encoder, rows=rows, batch_size=batch_size, workers=workers, title=title):
            yield encoder(images).float().cpu().numpy()


if __name__ == "__main__":
    run(main)

"""Embed a dataset's splits with one encoder, once: what every evaluation and every cached teacher reads.

    python -m stages.embed --weights weights.safetensors --augmentation crop-flip \\
        --images train.h5 val.h5 --embeddings teacher-train.h5 teacher-val.h5

Each image is seen in its evaluation view, without chance, at the encoder's own input size and normalisation.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.command_line import parser_of, run

if TYPE_CHECKING:
    import torch

    from stages.architectures import Encoder
    from stages.datasets.augmentations import Augmentation
    from stages.datasets.packed import PackedImages


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="the encoder's weights")
    parser.add_argument("--augmentation", required=True, help="the dataset's; only its evaluation view is used")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="the packed splits")
    parser.add_argument("--embeddings", type=Path, nargs="+", required=True, help="a file to write for each of them")
    parser.add_argument(
        "--dtype", choices=("float16", "float32"), default="float16", help="of the stored vectors (default: float16)"
    )
    parser.add_argument("--batch-size", type=int, default=256, help="images at a time (default: 256)")
    parser.add_argument("--workers", type=int, default=0, help="processes that read images ahead (default: 0, none)")
    arguments = parser.parse_args(argv)
    if len(arguments.images) != len(arguments.embeddings):
        parser.error("--images and --embeddings need as many files as each other")

    import torch

    from stages import architectures
    from stages.artifacts.embeddings import writing_embeddings
    from stages.artifacts.weights import digest_of, load_weights
    from stages.datasets import augmentations
    from stages.datasets.packed import read_pack

    state, card = load_weights(arguments.weights)
    encoder = architectures.load(card.architecture, card.contract, state, str(arguments.weights))
    encoder.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")
    augmentation = augmentations.named(arguments.augmentation, card.contract.size)
    weights = digest_of(arguments.weights)

    for images, path in zip(arguments.images, arguments.embeddings, strict=True):
        pack = read_pack(images)
        with writing_embeddings(
            path,
            (len(pack), card.dimension),
            arguments.dtype,
            labels=pack.labels,
            classes=pack.classes,
            card=card,
            weights=weights,
            dataset=pack.name,
            split=pack.split,
            dataset_fingerprint=pack.fingerprint,
            transform=f"{augmentation.transform} at {card.contract.size}",
        ) as write:
            for start, embeddings in embedded(encoder, pack, augmentation, arguments.batch_size, arguments.workers):
                write(start, embeddings.cpu().numpy())


def embedded(
    encoder: "Encoder", pack: "PackedImages", augmentation: "Augmentation", batch_size: int, workers: int
) -> Iterator[tuple[int, "torch.Tensor"]]:
    """Yield (first row, embeddings float32 [B, D]) over the whole split, in its order."""
    import torch
    from torch.utils.data import DataLoader

    from stages.datasets.augmentations import to_float
    from stages.datasets.views import CenterViews
    from stages.progress import track

    loader = DataLoader(CenterViews(pack, augmentation), batch_size=batch_size, num_workers=workers)
    with torch.inference_mode():
        title = f"embedding {pack.name}-{pack.split}"
        for number, images in enumerate(track(loader, title, total=len(loader), unit="batches")):
            yield number * batch_size, encoder(to_float(images.to(encoder.mean.device))).float()


if __name__ == "__main__":
    run(main)

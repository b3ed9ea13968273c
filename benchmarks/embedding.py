"""Time the embed stage against its network's forward passes alone: what reading, decoding, checking and writing add.

    python -m benchmarks.embedding
    python -m benchmarks.embedding --architecture resnet50 --images 20000 --workers 7

The images are scikit-learn's two photographs, of ImageNet's size, again and again; the forward passes are of as many
images that are on the device already. Both take turns in one process. On a GPU it is 20,000
images, 7 GB of temporary files, and readers on all cores but one: fewer would measure how the stage starts.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from sklearn import datasets

from benchmarks.rows import Row, cores, in_turns, on_gpu, parser_of, report, timed
from stages import architectures, embed
from stages.artifacts.weights import EncoderCard, InputContract, save_weights
from stages.datasets.encoded import split_of_files
from stages.datasets.packed import write_packs

GPU = torch.cuda.is_available()
PHOTOS = sorted((Path(datasets.__file__).parent / "images").glob("*.jpg"))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--architecture", default="resnet18", help="(default: resnet18)")
    parser.add_argument("--images", type=int, default=20_000 if GPU else 128, help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="(default: 64)")
    readers = cores() - 1 if GPU else 0
    parser.add_argument("--workers", type=int, default=readers, help="that read ahead (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="(default: 3)")
    arguments = parser.parse_args()

    contract = InputContract(224)
    encoder = architectures.build(arguments.architecture, contract)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        card = EncoderCard("benchmark", arguments.architecture, encoder.dimension, contract, {})
        save_weights(folder / "weights.safetensors", encoder.backbone.state_dict(), card)
        split = split_of_files(("photo",), [(str(PHOTOS[i % len(PHOTOS)]), 0) for i in range(arguments.images)])
        packs = {folder / "train.h5": ("train", split)}
        write_packs(packs, name="photos", source="scikit-learn", workers=arguments.workers)
        stage = ["--weights", f"{folder}/weights.safetensors", "--augmentation", "crop-flip"]
        stage += ["--images", f"{folder}/train.h5", "--embeddings", f"{folder}/embeddings.h5"]
        stage += ["--batch-size", str(arguments.batch_size), "--workers", str(arguments.workers)]
        whole, forward = (lambda: embed.main(stage)), (lambda: forward_only(encoder, arguments))
        forward()  # to warm up
        ours, limit = in_turns(arguments.turns, lambda: timed(whole), lambda: timed(forward))
    what = f"embedding{on_gpu()}, {arguments.architecture}, {arguments.images} photographs, s"
    report([Row(what, ours, limit=limit)], arguments)


def forward_only(encoder: architectures.Encoder, arguments: argparse.Namespace) -> None:
    """The network's passes over as many images, to their end."""
    device = "cuda" if GPU else "cpu"
    encoder.eval().to(device)
    images = torch.rand(arguments.batch_size, 3, 224, 224, device=device)
    with torch.inference_mode():
        for start in range(0, arguments.images, arguments.batch_size):
            found = encoder(images[: arguments.images - start])
        found.sum().item()


if __name__ == "__main__":
    main()

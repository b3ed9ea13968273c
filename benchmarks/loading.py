"""Time what brings images to training and evaluation, side by side with ImageFolder and Pillow.

    python -m benchmarks.loading
    python -m benchmarks.loading --folder photos

Plain is torchvision's `ImageFolder` with the usual transforms on Pillow images, tensors and normalisation included, as
in PyTorch's ImageNet example; ours are the loaders of training and evaluation on a pack, which leave normalisation to
where the model is. Both make batches in this process, on one thread, and what counts is the processor's time, so that
it is a core's whatever else runs. The limit is decoding alone. Without a folder, images are cuttings of two photos that
come with scikit-learn, at 500 x 375 pixels, with noise that gives their JPEGs ImageNet's mean size, 110 KB.
"""

import argparse
import functools
import io
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.rows import Row, in_turns, parser_of, report
from stages.datasets import augmentations
from stages.datasets.encoded import split_of_files
from stages.datasets.packed import PackedImages, read_pack, write_packs
from stages.datasets.resized import resized
from stages.datasets.views import CenterViews
from stages.training.batches import stream
from stages.training.recipe import Recipe

FLOORS = {"train": (1.4, 2.5), "evaluate": (1.3, 2.0)}
"""The least ratios, plain to ours, that `make bench-check` lets pass: of files as they are, and packed small."""
SIZE, SHORT_SIDE = 224, 256
NORMALISED = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
PLAIN = {
    "train": [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), *NORMALISED],
    "evaluate": [transforms.Resize(SHORT_SIDE), transforms.CenterCrop(SIZE), *NORMALISED],
}
NOISE = 22.0
"""The standard deviation of what is added to the photos, in levels of 255."""
NAMES = {"train": "crop and flip", "evaluate": "evaluation view"}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--folder", type=Path, help="photos of your own, in folders one a class")
    parser.add_argument("--images", type=int, default=256, help="of them, or to make (default: 256)")
    parser.add_argument("--batch", type=int, default=64, help="images (default: 64)")
    parser.add_argument("--turns", type=int, default=5, help="of each (default: 5)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or made(Path(temporary) / "photos", arguments.images)
        files = ImageFolder(folder).samples[: arguments.images]
        split = split_of_files(["all"], [(path, 0) for path, _ in files])
        small = resized(split, SHORT_SIDE, "photos")
        packs = []
        for name, images in (("whole", split), ("small", small)):
            path = Path(temporary) / f"{name}.h5"
            write_packs({path: ("train", images)}, name="photos", source="folder")
            packs.append(read_pack(path))
            print(f"{name}: {len(files)} images of {np.diff(packs[-1].offsets).mean() / 1000:.0f} KB")
        rows = rows_of(folder, packs, arguments)
    report(rows, arguments)


def made(folder: Path, images: int) -> Path:
    """A folder of JPEGs of quality 90, cut from scikit-learn's photos."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    (folder / "cuttings").mkdir(parents=True)
    for number in range(images):
        photo = photos[number % len(photos)]
        left, top = int(random.integers(photo.width - 500)), int(random.integers(photo.height - 375))
        pixels = np.asarray(photo.crop((left, top, left + 500, top + 375)))
        noisy = pixels + random.normal(0, NOISE, pixels.shape)
        buffer = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, format="JPEG", quality=90)
        (folder / f"cuttings/{number:04}.jpg").write_bytes(buffer.getvalue())
    return folder


def rows_of(folder: Path, packs: list[PackedImages], arguments: argparse.Namespace) -> list[Row]:
    """The rows, in milliseconds of one core an image."""
    works: dict[tuple[str, str], Callable[[], Iterable[object]]] = {}
    for what, steps in PLAIN.items():
        works[what, "plain"] = functools.partial(plain, folder, transforms.Compose(steps), arguments)
    for pack, name in zip(packs, ("whole", "small"), strict=True):
        works["train", name] = functools.partial(training, pack, arguments)
        works["evaluate", name] = functools.partial(evaluation, pack, arguments)
        works["decode", name] = functools.partial(map, pack.image, range(len(pack)))
    for work in works.values():
        consume(work)  # to warm up
    timers = [functools.partial(milliseconds, work, len(packs[0])) for work in works.values()]
    spent = dict(zip(works, in_turns(arguments.turns, *timers), strict=True))
    return [
        Row(
            f"{NAMES[what]}{form}, ms an image and core",
            spent[what, name],
            spent[what, "plain"],
            limit=spent["decode", name],
            floor=floor,
        )
        for what, floors in FLOORS.items()
        for name, form, floor in zip(("whole", "small"), ("", f", short side {SHORT_SIDE}"), floors, strict=True)
    ]


def plain(folder: Path, transform: transforms.Compose, arguments: argparse.Namespace) -> Iterable[object]:
    images = ImageFolder(folder, transform)
    chosen = range(min(len(images), arguments.images))
    return DataLoader(Subset(images, chosen), batch_size=arguments.batch)


def training(pack: PackedImages, arguments: argparse.Namespace) -> Iterable[object]:
    recipe = Recipe(epochs=1, batch_size=arguments.batch, drop_last=False)
    return stream(pack, augmentations.named("crop-flip", SIZE), recipe, 0, views=1, seed=0, workers=0)


def evaluation(pack: PackedImages, arguments: argparse.Namespace) -> Iterable[object]:
    return DataLoader(CenterViews(pack, augmentations.named("crop-flip", SIZE)), batch_size=arguments.batch)


def milliseconds(work: Callable[[], Iterable[object]], images: int) -> float:
    """The processor's time for an image."""
    start = time.process_time()
    consume(work)
    return (time.process_time() - start) / images * 1000


def consume(work: Callable[[], Iterable[object]]) -> None:
    for _ in work():
        pass


if __name__ == "__main__":
    main()

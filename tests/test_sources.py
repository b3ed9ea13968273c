"""Datasets by their sources: files made in each one's own layout, held against torchvision's own reading of them."""

import gzip
import hashlib
import io
import pickle
import re
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torchvision
from numpy.typing import NDArray
from PIL import Image

from stages import fetch_dataset
from stages.datasets.packed import PackedImages, read_pack
from stages.datasets.sources import cub200
from stages.errors import UserError
from tests.checkpoint_fixtures import FileServer
from tests.conftest import assert_refused, flags, photographs, program
from tests.voc import drawn, write_voc

pytest_plugins = ["tests.checkpoint_fixtures"]

Patch = pytest.MonkeyPatch


def fetched(out: Path, **options: Any) -> tuple[PackedImages, PackedImages]:
    paths = {"train": out / "train.h5", "val": out / "val.h5"}
    fetch_dataset.main(flags({"name": "toy", "downloads": out / "downloads", **paths, **options}))
    return read_pack(paths["train"]), read_pack(paths["val"])


def random_pixels(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(path: Path, content: bytes) -> str:
    """Write the file; its md5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.md5(content).hexdigest()


def write_photo(path: Path, seed: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(random_pixels(seed, 6, 5, 3)).resize((25, 30)).save(buffer, format="JPEG")
    write(path, buffer.getvalue())


# One small dataset of each source, made as its authors make it; torchvision's hashes are set to those of these files.


def make_cifar(root: Path, patch: Patch, dataset: Any, labels: str, classes: int) -> None:
    def batch(seed: int) -> bytes:
        truth = [(seed + row) % classes for row in range(classes)]
        return pickle.dumps({"data": random_pixels(seed, classes, 3072), labels: truth})

    folder = root / dataset.base_folder
    for lists in ("train_list", "test_list"):
        made = [[name, write(folder / name, batch(seed))] for seed, (name, _) in enumerate(getattr(dataset, lists))]
        patch.setattr(dataset, lists, made)
    names = pickle.dumps({dataset.meta["key"]: [f"class {label}" for label in range(classes)]})
    patch.setattr(dataset, "meta", {**dataset.meta, "md5": write(folder / dataset.meta["filename"], names)})


def make_cifar10(root: Path, patch: Patch) -> None:
    make_cifar(root, patch, torchvision.datasets.CIFAR10, "labels", 10)


def make_cifar100(root: Path, patch: Patch) -> None:
    make_cifar(root, patch, torchvision.datasets.CIFAR100, "fine_labels", 100)


def make_stl10(root: Path, patch: Patch) -> None:
    dataset = torchvision.datasets.STL10
    labels = np.arange(1, 11, dtype=np.uint8)
    content = {
        "train_X.bin": random_pixels(0, 10, 3, 96, 96),
        "train_y.bin": labels,
        "unlabeled_X.bin": random_pixels(1, 4, 3, 96, 96),
        "test_X.bin": random_pixels(2, 10, 3, 96, 96),
        "test_y.bin": labels[::-1],
    }
    hashes = {name: write(root / "stl10_binary" / name, array.tobytes()) for name, array in content.items()}
    write(root / "stl10_binary" / "class_names.txt", "\n".join(f"class {n}" for n in range(10)).encode())
    for lists in ("train_list", "test_list"):
        patch.setattr(dataset, lists, [[name, hashes[name]] for name, _ in getattr(dataset, lists)])


def make_fashion_mnist(root: Path, patch: Patch) -> None:
    folder = root / "FashionMNIST/raw"
    labels = np.arange(20, dtype=np.uint8) % 10
    for seed, part in enumerate(("train", "t10k")):
        images = random_pixels(seed, 20, 28, 28)
        write(folder / f"{part}-images-idx3-ubyte", struct.pack(">IIII", 0x803, *images.shape) + images.tobytes())
        write(folder / f"{part}-labels-idx1-ubyte", struct.pack(">II", 0x801, 20) + labels.tobytes())


def make_imagenette(root: Path, patch: Patch) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for label, wnid in enumerate(torchvision.datasets.Imagenette._WNID_TO_CLASS):
            for number in range(count):
                write_photo(root / f"imagenette2-160/{split}/{wnid}/{split}_{number}.JPEG", 10 * label + number)


def make_cars196(root: Path, patch: Patch) -> None:
    base = root / "stanford_cars"
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "BMW X6 SUV 2012"], dtype=object)
    (base / "devkit").mkdir(parents=True)
    scipy.io.savemat(base / "devkit/cars_meta.mat", {"class_names": names})
    for split, path in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = [(f"{number:05d}.jpg", 1 + number * 2 % 3) for number in range(6)]
        annotations = np.array(rows, dtype=[("fname", object), ("class", object)])
        scipy.io.savemat(base / path, {"annotations": annotations})
        for number, (name, _) in enumerate(rows):
            write_photo(base / f"cars_{split}" / name, number)


def make_places365(root: Path, patch: Patch) -> None:
    dataset = torchvision.datasets.Places365
    categories, lists = dataset._CATEGORIES_META[0], dict(dataset._FILE_LIST_META)
    names = ["/a/airfield", "/a/alley", "/b/barn"]
    text = "".join(f"{name} {label}\n" for label, name in enumerate(names))
    patch.setattr(dataset, "_CATEGORIES_META", (categories, write(root / categories, text.encode())))
    files = {
        "train-standard": [(f"{name}/0000000{n}.jpg", label) for label, name in enumerate(names) for n in range(2)],
        "val": [(f"Places365_val_0000000{n}.jpg", (n + 1) % 3) for n in range(4)],
    }
    for split, folder in (("train-standard", "data_256_standard"), ("val", "val_256")):
        name = lists[split][0]
        listed = "".join(f"{file} {label}\n" for file, label in files[split])
        lists[split] = (name, write(root / name, listed.encode()))
        for number, (file, _) in enumerate(files[split]):
            write_photo(root / folder / file.lstrip("/"), number)
    patch.setattr(dataset, "_FILE_LIST_META", lists)


def make_cub200(root: Path, patch: Patch) -> None:
    base = root / "CUB_200_2011"
    names = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
    images = [f"{name}/{name[4:]}_{number:04d}.jpg" for name in names for number in range(4)]
    for number, image in enumerate(images):
        write_photo(base / "images" / image, number)
    rows = {
        "classes.txt": names,
        "images.txt": images,
        "image_class_labels.txt": [1 + number // 4 for number in range(8)],
        "train_test_split.txt": [1, 0, 1, 1, 0, 0, 0, 1],
    }
    for name, values in rows.items():
        lines = [f"{number} {value}\n" for number, value in enumerate(values, start=1)]
        write(base / name, "".join(lines).encode())


def make_voc2007(root: Path, patch: Patch) -> None:
    write_voc(root, drawn(0, 4), drawn(1, 2))


Make = Callable[[Path, Patch], None]

MAKERS: dict[str, tuple[Make, dict[str, str]]] = {
    "cifar10": (make_cifar10, {}),
    "cifar100": (make_cifar100, {}),
    "stl10": (make_stl10, {}),
    "fashion-mnist": (make_fashion_mnist, {}),
    "imagenette": (make_imagenette, {"variant": "160px"}),
    "cars196": (make_cars196, {}),
    "places365": (make_places365, {}),
    "cub200": (make_cub200, {}),
    "voc2007": (make_voc2007, {}),
}

REFERENCES: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    name: (lambda root, d=d, t=train: d(root, **t), lambda root, d=d, v=val: d(root, **v))  # type: ignore[misc]
    for name, d, train, val in (
        ("cifar10", torchvision.datasets.CIFAR10, {"train": True}, {"train": False}),
        ("cifar100", torchvision.datasets.CIFAR100, {"train": True}, {"train": False}),
        ("stl10", torchvision.datasets.STL10, {"split": "train"}, {"split": "test"}),
        ("fashion-mnist", torchvision.datasets.FashionMNIST, {"train": True}, {"train": False}),
        (
            "imagenette",
            torchvision.datasets.Imagenette,
            {"split": "train", "size": "160px"},
            {"split": "val", "size": "160px"},
        ),
        ("cars196", torchvision.datasets.StanfordCars, {"split": "train"}, {"split": "test"}),
        (
            "places365",
            torchvision.datasets.Places365,
            {"split": "train-standard", "small": True},
            {"split": "val", "small": True},
        ),
    )
}
"""What torchvision makes of the same folder: train and val."""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: Patch) -> Callable[[str], dict[str, Any]]:
    """Makes a source's dataset in the folder ``data``; the options that read it."""

    def made(source: str) -> dict[str, Any]:
        maker, options = MAKERS[source]
        maker(tmp_path / "data", monkeypatch)
        return {"source": source, "path": tmp_path / "data", **options}

    return made


@pytest.mark.parametrize("source", REFERENCES)
def test_a_source_gives_what_torchvision_gives(
    source: str, make: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    options = make(source)
    for pack, reference in zip(fetched(tmp_path, **options), REFERENCES[source], strict=True):
        expected = reference(options["path"])
        assert len(pack) == len(expected) > 0
        known = expected.classes
        assert pack.classes == tuple(name[0] if isinstance(name, tuple) else name for name in known)
        for index in range(len(pack)):
            image, label = expected[index]
            assert pack.labels[index] == label
            np.testing.assert_array_equal(np.asarray(pack.picture(index)), np.asarray(image.convert("RGB")))


def test_files_keep_their_bytes(make: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    options = make("imagenette")
    _, val = fetched(tmp_path, **options)
    files = [path for path, _ in torchvision.datasets.Imagenette(options["path"], "val", "160px")._samples]
    assert [val.encoded(index).tobytes() for index in range(len(val))] == [Path(file).read_bytes() for file in files]


def test_birds_are_read_by_the_official_lists(make: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    options = make("cub200")
    train, val = fetched(tmp_path, **options)
    names = "001.Black_footed_Albatross", "002.Laysan_Albatross"
    assert train.classes == val.classes == names
    assert (train.labels.tolist(), val.labels.tolist()) == ([0, 0, 0, 1], [0, 1, 1, 1])
    for pack, files in ((train, [(0, 0), (0, 2), (0, 3), (1, 3)]), (val, [(0, 1), (1, 0), (1, 1), (1, 2)])):
        for index, (label, number) in enumerate(files):
            name = names[label]
            file = options["path"] / f"CUB_200_2011/images/{name}/{name[4:]}_{number:04d}.jpg"
            assert pack.encoded(index).tobytes() == file.read_bytes()


@pytest.mark.parametrize("images", ["unlabeled", "train+unlabeled"])
def test_unlabelled_images_train_and_do_not_evaluate(
    images: str, make: Callable[[str], dict[str, Any]], tmp_path: Path, make_embeddings: Callable[..., Path]
) -> None:
    from stages.artifacts.embeddings import read_embeddings

    options = make("stl10")
    train, val = fetched(tmp_path, **options, train_images=images)
    expected = torchvision.datasets.STL10(options["path"], images)
    assert train.labels.tolist() == expected.labels.tolist()
    assert (train.labels == -1).sum() == 4
    assert train.classes == val.classes
    cache = make_embeddings(
        "train", np.eye(len(train)), train.labels, path=tmp_path / "cache.h5", classes=train.classes
    )
    with pytest.raises(UserError, match=rf"cache\.h5: 4 of {len(train)} images of toy have no label"):
        read_embeddings(cache).single_labels()


# What is missing or other than expected in ``path`` is one line.

NEEDED = {
    "cifar10": ["cifar-10-batches-py/data_batch_3", "cifar-10-batches-py/batches.meta"],
    "cifar100": ["cifar-100-python/test"],
    "stl10": ["stl10_binary/unlabeled_X.bin", "stl10_binary/class_names.txt"],
    "fashion-mnist": ["FashionMNIST/raw/t10k-labels-idx1-ubyte"],
    "imagenette": ["imagenette2-160/val"],
    "cars196": ["stanford_cars/cars_test_annos_withlabels.mat", "stanford_cars/cars_train"],
    "places365": ["places365_val.txt", "val_256", "data_256_standard"],
    "cub200": ["CUB_200_2011/train_test_split.txt", "CUB_200_2011/images"],
}


@pytest.mark.parametrize(("source", "entry"), [(source, entry) for source in NEEDED for entry in NEEDED[source]])
def test_what_is_missing_is_one_line(
    source: str, entry: str, make: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    options = make(source)
    (options["path"] / entry).rename(tmp_path / "elsewhere")
    with pytest.raises(UserError) as refused:
        fetched(tmp_path, **options)
    message = str(refused.value)
    assert message.startswith(f"{options['path'] / entry}: no such file or folder; expected in {options['path']} ")
    assert "http" in message
    assert "\n" not in message
    assert not list(tmp_path.glob("*.h5"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty_a_class(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()


DAMAGE: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "another batch": ("cifar10", "cifar-10-batches-py/data_batch_1", cut),
    "another meta file": ("cifar100", "cifar-100-python/meta", cut),
    "another binary": ("stl10", "stl10_binary/test_X.bin", cut),
    "images cut short": ("fashion-mnist", "FashionMNIST/raw/train-images-idx3-ubyte", cut),
    "labels of another kind": (
        "fashion-mnist",
        "FashionMNIST/raw/t10k-labels-idx1-ubyte",
        lambda path: path.write_bytes(b"<html>not found</html>"),
    ),
    "a class without images": ("imagenette", "imagenette2-160/val/n01440764", empty_a_class),
    "another folder": ("imagenette", "imagenette2-160/val/n01440764", lambda path: path.rename(path.parent / "n0")),
    "not a mat file": ("cars196", "stanford_cars/devkit/cars_meta.mat", lambda path: path.write_text("hello")),
    "another list": ("places365", "places365_val.txt", cut),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_torchvision_cannot_read_is_one_line(
    damage: str, make: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    source, entry, break_it = DAMAGE[damage]
    options = make(source)
    break_it(options["path"] / entry)
    with pytest.raises(UserError, match=r": not what torchvision reads \(.+\); expected the files from ") as refused:
        fetched(tmp_path, **options)
    assert str(refused.value).startswith(str(options["path"]))
    assert "\n" not in str(refused.value)


def test_a_photo_that_is_listed_but_missing_is_one_line(
    make: Callable[[str], dict[str, Any]], tmp_path: Path, monkeypatch: Patch
) -> None:
    options = make("cub200")
    photo = next((options["path"] / "CUB_200_2011/images").rglob("*_0002.jpg"))
    photo.unlink()
    before = set(tmp_path.rglob("*"))
    paths = {"train": tmp_path / "train.h5", "val": tmp_path / "val.h5"}
    done = program("fetch_dataset", *flags({"name": "birds", **options, **paths}))
    assert_refused(done, f"cannot use {photo}: No such file", folder=tmp_path, before=before)


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("images.txt", "9", "images.txt: line 9 is '9'; expected a number, a space and a value"),
        ("images.txt", "9 002.Laysan_Albatross/x.jpg", "train_test_split.txt: has no line of number 9"),
        ("image_class_labels.txt", "1 3", "classes.txt: has no line of number 3"),
    ],
)
def test_lists_of_birds_that_do_not_fit_are_one_line(
    name: str, line: str, message: str, make: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    options = make("cub200")
    file = options["path"] / "CUB_200_2011" / name
    file.write_text(f"{file.read_text()}{line}\n")
    with pytest.raises(UserError, match=re.escape(message)):
        fetched(tmp_path, **options)


def test_cars_have_to_be_brought(tmp_path: Path) -> None:
    paths = {"train": tmp_path / "train.h5", "val": tmp_path / "val.h5"}
    done = program("fetch_dataset", *flags({"source": "cars196", "name": "cars", **paths}))
    assert done.returncode == 2
    assert "the following arguments are required: --path" in done.stderr
    with pytest.raises(UserError, match=r"stanford_cars/devkit/cars_meta\.mat: no such file.*offer no more \(https"):
        fetched(tmp_path, source="cars196", path=tmp_path)


# Downloads, from a server of our own.


def tarred(folder: Path, *names: str, renamed: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name in names:
            file.add(folder / name, arcname=renamed or name)
    return buffer.getvalue()


def offer(server: FileServer, name: str, content: bytes) -> str:
    """Put a file on the server; its md5."""
    server.files[name] = content
    return hashlib.md5(content).hexdigest()


def offer_cifar10(data: Path, server: FileServer, patch: Patch) -> None:
    content = tarred(data, "cifar-10-batches-py")
    patch.setattr(torchvision.datasets.CIFAR10, "url", server.url("cifar.tar.gz"))
    patch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", offer(server, "cifar.tar.gz", content))


def offer_stl10(data: Path, server: FileServer, patch: Patch) -> None:
    patch.setattr(torchvision.datasets.STL10, "url", server.url("stl.tar.gz"))
    patch.setattr(torchvision.datasets.STL10, "tgz_md5", offer(server, "stl.tar.gz", tarred(data, "stl10_binary")))


def offer_fashion_mnist(data: Path, server: FileServer, patch: Patch) -> None:
    resources = []
    for file in sorted((data / "FashionMNIST/raw").iterdir()):
        name = f"{file.name}.gz"
        resources.append((name, offer(server, f"fashion/{name}", gzip.compress(file.read_bytes()))))
    patch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [server.url("fashion/")])
    patch.setattr(torchvision.datasets.FashionMNIST, "resources", resources)


def offer_imagenette(data: Path, server: FileServer, patch: Patch) -> None:
    md5 = offer(server, "imagenette2-160.tgz", tarred(data, "imagenette2-160"))
    archives = {"160px": (server.url("imagenette2-160.tgz"), md5)}
    patch.setattr(torchvision.datasets.Imagenette, "_ARCHIVES", archives)


def offer_places365(data: Path, server: FileServer, patch: Patch) -> None:
    dataset = torchvision.datasets.Places365
    lists = [path.name for path in data.glob("*.txt")]
    archives = {  # the train images' folder is called otherwise in the archive than torchvision reads it
        "lists.tar.gz": tarred(data, *lists),
        "train.tar.gz": tarred(data, "data_256_standard", renamed="data_256"),
        "val.tar.gz": tarred(data, "val_256"),
    }
    hashes = {name: offer(server, f"places/{name}", content) for name, content in archives.items()}
    patch.setattr(dataset, "_BASE_URL", server.url("places/"))
    patch.setattr(dataset, "_DEVKIT_META", {"standard": ("lists.tar.gz", hashes["lists.tar.gz"])})
    images = {(split, True): (f"{name}.tar.gz", hashes[f"{name}.tar.gz"]) for split, name in PLACES}
    patch.setattr(dataset, "_IMAGES_META", images)


PLACES = [("train-standard", "train"), ("val", "val")]


def offer_cub200(data: Path, server: FileServer, patch: Patch) -> None:
    md5 = offer(server, "CUB_200_2011.tgz", tarred(data, "CUB_200_2011"))
    patch.setattr(cub200, "ARCHIVE", cub200.Archive(server.url("CUB_200_2011.tgz"), md5))


def offer_voc2007(data: Path, server: FileServer, patch: Patch) -> None:
    # Like the real ones, each of both archives holds a part of the folder.
    parts = {"2007": ("Annotations", "JPEGImages"), "2007-test": ("ImageSets",)}
    entries = {}
    for name, folders in parts.items():
        content = tarred(data, *(f"VOCdevkit/VOC2007/{folder}" for folder in folders))
        md5 = offer(server, f"voc/{name}.tar.gz", content)
        entries[name] = {"url": server.url(f"voc/{name}.tar.gz"), "md5": md5}
    patch.setattr(torchvision.datasets.voc, "DATASET_YEAR_DICT", entries)


OFFERS = {
    "cifar10": offer_cifar10,
    "stl10": offer_stl10,
    "fashion-mnist": offer_fashion_mnist,
    "imagenette": offer_imagenette,
    "places365": offer_places365,
    "cub200": offer_cub200,
    "voc2007": offer_voc2007,
}


@pytest.mark.parametrize("source", OFFERS)
def test_a_download_gives_what_its_folder_gives(
    source: str, make: Callable[[str], dict[str, Any]], server: FileServer, tmp_path: Path, monkeypatch: Patch
) -> None:
    options = make(source)
    OFFERS[source](tmp_path / "data", server, monkeypatch)
    local = fetched(tmp_path / "local", **options)
    # The first connection breaks, on the way.
    server.faults = [("stop", 100)]
    downloaded = fetched(tmp_path / "downloaded", **{**options, "path": ""})
    assert [pack.fingerprint for pack in local] == [pack.fingerprint for pack in downloaded]
    assert server.requests[1][1] == "bytes=100-"
    # What was unpacked is used again, and archives are not kept beside it.
    requests = len(server.requests)
    again = fetched(tmp_path / "downloaded", **{**options, "path": ""})
    assert [pack.fingerprint for pack in again] == [pack.fingerprint for pack in local]
    assert len(server.requests) == requests
    (place,) = (tmp_path / "downloaded/downloads").iterdir()
    assert sorted(path.name for path in place.iterdir()) == ["lock", "unpacked"]


def test_an_archive_brought_by_hand_is_taken(
    make: Callable[[str], dict[str, Any]], server: FileServer, tmp_path: Path, monkeypatch: Patch
) -> None:
    options = make("cifar10")
    offer_cifar10(tmp_path / "data", server, monkeypatch)
    write(tmp_path / "downloads/cifar10/cifar.tar.gz", server.files["cifar.tar.gz"])
    fetched(tmp_path, **{**options, "path": ""})
    assert not server.requests


def test_another_archive_is_refused_by_its_md5(
    make: Callable[[str], dict[str, Any]], server: FileServer, tmp_path: Path, monkeypatch: Patch
) -> None:
    options = make("cifar10")
    offer_cifar10(tmp_path / "data", server, monkeypatch)
    expected = torchvision.datasets.CIFAR10.tgz_md5
    server.files["cifar.tar.gz"] += b"more"
    found = hashlib.md5(server.files["cifar.tar.gz"]).hexdigest()
    with pytest.raises(UserError, match=rf"cifar\.tar\.gz: not the file.*its md5 is {found}; expected {expected}: del"):
        fetched(tmp_path, **{**options, "path": ""})
    assert not (tmp_path / "downloads/cifar10/unpacked").exists()


def test_without_the_server_the_line_says_what_else_can_be_done(
    make: Callable[[str], dict[str, Any]], server: FileServer, tmp_path: Path, monkeypatch: Patch
) -> None:
    options = make("cifar10")
    offer_cifar10(tmp_path / "data", server, monkeypatch)
    server.files.clear()
    place = tmp_path / "downloads/cifar10/cifar.tar.gz"
    message = rf"answered 404 .*put it at {re.escape(str(place))}, or give the folder of the unpacked files as path"
    with pytest.raises(UserError, match=message):
        fetched(tmp_path, **{**options, "path": ""})


def test_an_unpacking_that_was_killed_is_done_anew(
    make: Callable[[str], dict[str, Any]], server: FileServer, tmp_path: Path, monkeypatch: Patch
) -> None:
    options = make("imagenette")
    offer_imagenette(tmp_path / "data", server, monkeypatch)
    write(tmp_path / "downloads/imagenette-160px/unpacked.partial/imagenette2-160/train/n0/half.JPEG", b"half")
    train, _ = fetched(tmp_path, **{**options, "path": ""})
    assert len(train) == 30
    assert not (tmp_path / "downloads/imagenette-160px/unpacked.partial").exists()


# Real images.


def test_the_real_fashion_mnist_is_torchvisions(tmp_path: Path) -> None:
    root = photographs("fashion-mnist")
    packs = fetched(tmp_path, source="fashion-mnist", path=root, train_fraction=0.02, val_fraction=0.1)
    for pack, images in zip(packs, (1200, 1000), strict=True):
        expected = torchvision.datasets.FashionMNIST(root, train=pack.split == "train")
        assert len(pack) == images
        rows = np.sort(np.random.default_rng(0).permutation(len(expected))[:images])
        np.testing.assert_array_equal(pack.labels, expected.targets.numpy()[rows])
        for index in range(0, images, 97):
            found = np.asarray(pack.picture(index))
            np.testing.assert_array_equal(found, np.repeat(expected.data.numpy()[rows[index], :, :, None], 3, axis=2))


@pytest.mark.parametrize(
    ("name", "classes", "train", "val"),
    [("cifar10-jpeg", 10, 50_000, 10_000), ("imagenette96", 10, 9_469, 3_925), ("cub40-112px", 40, 1_167, 1_200)],
)
def test_real_folders_of_photos_all_decode(name: str, classes: int, train: int, val: int, tmp_path: Path) -> None:
    share = 1.0 if train < 2000 else 0.1
    packs = fetched(tmp_path, source="folder", path=photographs(name), train_fraction=share, val_fraction=share)
    assert [len(pack) for pack in packs] == [round(share * train), round(share * val)]
    assert all(len(pack.classes) == classes and pack.skipped == 0 for pack in packs)
    assert len({pack.fingerprint for pack in packs}) == 1

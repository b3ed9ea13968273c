"""PASCAL VOC 2007 as a source: labels and boxes on made and real images, what is refused, what can be done."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torchvision.datasets import VOCDetection

from stages import cluster, distill, embed, fetch_dataset, knn, pretrain
from stages.artifacts.assignments import read_assignments
from stages.artifacts.embeddings import read_embeddings
from stages.datasets.packed import read_pack
from stages.datasets.sources.voc2007 import CLASSES
from stages.errors import UserError
from tests.conftest import flags, photographs, program
from tests.voc import Thing, drawn, write_voc

ROOT = "VOCdevkit/VOC2007"


def packed(path: Path | str, folder: Path) -> SimpleNamespace:
    """The folder at ``path``, packed into ``folder``."""
    paths = SimpleNamespace(train=folder / "train.h5", val=folder / "val.h5")
    fetch_dataset.main(flags({"source": "voc2007", "path": path, "name": "voc", **vars(paths)}))
    return paths


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Twelve train and six val pictures, packed."""
    folder = tmp_path_factory.mktemp("voc")
    return packed(write_voc(folder / "source", drawn(0, 12), drawn(1, 6)), folder)


# What is read.


def test_labels_and_boxes_are_vocs_in_our_terms(tmp_path: Path) -> None:
    train = [
        [Thing("car", (1, 1, 64, 48)), Thing("bus", (3, 4, 3, 4), difficult=True)],
        [],
        [Thing("person", (10, 20, 30, 40), difficult=True), Thing("person", (11, 21, 31, 41))],
    ]
    pack = read_pack(packed(write_voc(tmp_path / "source", train, drawn(0, 1)), tmp_path).train)
    assert pack.classes == CLASSES
    assert (pack.labels.dtype, pack.labels.shape) == (np.int8, (3, 20))
    expected = np.zeros((3, 20))
    car, bus, person = map(CLASSES.index, ("car", "bus", "person"))
    expected[0, car], expected[0, bus], expected[2, person] = 1, -1, 1
    np.testing.assert_array_equal(pack.labels, expected)
    assert pack.boxes is not None
    np.testing.assert_array_equal(pack.boxes.offsets, [0, 2, 2, 4])
    np.testing.assert_array_equal(pack.boxes.corners, [[0, 0, 64, 48], [2, 3, 3, 4], [9, 19, 30, 40], [10, 20, 31, 41]])
    np.testing.assert_array_equal(pack.boxes.classes, [car, bus, person, person])
    np.testing.assert_array_equal(pack.boxes.difficult, [False, True, True, False])
    # The bus is a single pixel: the third of the fourth row.
    red = pack.image(0).float()[:, 3, 2] - pack.image(0).float()[:, 40, 40]
    assert red.argmax() == 0


@pytest.mark.parametrize("layout", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_the_path_may_lead_to_any_of_the_folders(layout: str, tmp_path: Path) -> None:
    source = write_voc(tmp_path / "source", drawn(0, 2), drawn(1, 1))
    paths = packed(source / layout, tmp_path)
    assert [len(read_pack(path)) for path in (paths.train, paths.val)] == [2, 1]


def test_the_real_slice_is_what_torchvision_reads(tmp_path: Path) -> None:
    paths = packed(photographs("voc2007-slice"), tmp_path)
    for path, name in ((paths.train, "trainval"), (paths.val, "test")):
        pack, reference = read_pack(path), VOCDetection(str(photographs("voc2007-slice")), year="2007", image_set=name)
        assert len(pack) == len(reference) == 287
        assert pack.boxes is not None
        for index in range(len(pack)):
            rows = slice(*pack.boxes.offsets[index : index + 2])
            found = reference[index][1]["annotation"]["object"]
            sides = [[int(each["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax")] for each in found]
            np.testing.assert_array_equal(pack.boxes.corners[rows], np.array(sides) - [1, 1, 0, 0])
            assert [CLASSES[kind] for kind in pack.boxes.classes[rows]] == [each["name"] for each in found]
            assert pack.encoded(index).tobytes() == Path(reference.images[index]).read_bytes()
            for column in range(20):
                difficult = pack.boxes.difficult[rows][pack.boxes.classes[rows] == column]
                assert pack.labels[index, column] == (0 if not len(difficult) else -1 if difficult.all() else 1)


# What is refused.


def without(root: Path, file: str) -> None:
    (root / file).unlink()


def replaced(root: Path, file: str, old: str, new: str) -> None:
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new, 1))


XML = "Annotations/000001.xml"
BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "x" * 100}">' for n in range(10))


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (lambda root: without(root, "JPEGImages/000002.jpg"), ("000002.jpg", "no such image", "trainval.txt")),
        (lambda root: without(root, "Annotations/000003.xml"), ("000003.xml", "no such annotation")),
        (lambda root: without(root, "ImageSets/Main/test.txt"), ("test.txt", "both archives")),
        (lambda root: without(root, "ImageSets/Main/cow_trainval.txt"), ("cow_trainval.txt", "no such list")),
        (lambda root: replaced(root, "ImageSets/Main/cow_test.txt", "000005 -1", ""), ("cow_test.txt", "line 1")),
        (lambda root: replaced(root, "ImageSets/Main/cow_test.txt", "000005", "0005"), ("image 000005 is not there",)),
        (lambda root: replaced(root, "ImageSets/Main/cow_test.txt", "000005 -1", "000005 2"), ("000005 is 2",)),
        (lambda root: replaced(root, XML, "</name>", "</mane>"), (XML, "line 3", "mismatched tag")),
        (
            lambda root: replaced(root, XML, "<annotation>", '<?xml version="1.0" encoding="gbk"?><annotation>'),
            (XML, "is not readable XML", "save it as UTF-8"),
        ),
        (lambda root: replaced(root, XML, "bus", "buss"), (XML, "object 1", "did you mean 'bus'?")),
        (lambda root: replaced(root, XML, "<xmin>", "<xmin>9"), (XML, "object 1", "the bus's box 9", "64 x 48 pixels")),
        (lambda root: replaced(root, XML, "<ymax>", "<ymax>9"), (XML, "object 1", "64 x 48 pixels")),
        (lambda root: replaced(root, XML, "<xmin>", "<xmin>nan</xmin><xmin>"), (XML, "object 1", "the bus's box nan")),
        (lambda root: replaced(root, XML, "<xmin>", "<xmin>left "), (XML, "object 1", "xmin is 'left", "a number")),
        (lambda root: replaced(root, XML, "<difficult>0</difficult>", ""), (XML, "object 1", "has no difficult")),
        (lambda root: (root / "JPEGImages/000001.jpg").write_bytes(b"none"), ("000001.jpg", "do not decode")),
        (
            lambda root: replaced(root, XML, "<annotation>", f"<!DOCTYPE a [{BOMB}]><annotation>&e9;"),
            (XML, "line 1", "amplification"),
        ),
        (
            lambda root: replaced(
                root, XML, "<annotation>", '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>&e;'
            ),
            (XML, "line 1", "undefined entity"),
        ),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(
    damage: Callable[[Path], None], parts: tuple[str, ...], tmp_path: Path
) -> None:
    source = write_voc(tmp_path / "source", drawn(0, 4), drawn(1, 2))
    damage(source / ROOT)
    with pytest.raises(UserError) as error:
        packed(source, tmp_path)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.h5*"))


def test_a_broken_image_may_be_left_out_with_its_boxes(tmp_path: Path) -> None:
    source = write_voc(tmp_path / "source", drawn(0, 4), drawn(1, 2))
    (source / ROOT / "JPEGImages/000002.jpg").write_bytes(b"none")
    paths = {"train": tmp_path / "train.h5", "val": tmp_path / "val.h5"}
    fetch_dataset.main(flags({"source": "voc2007", "path": source, "name": "voc", "skip_corrupt": 1, **paths}))
    pack, whole = (
        read_pack(paths["train"]),
        read_pack(packed(write_voc(tmp_path / "w", drawn(0, 4), drawn(1, 1)), tmp_path).train),
    )
    assert (len(pack), pack.skipped) == (3, 1)
    assert pack.boxes is not None
    assert whole.boxes is not None
    rows = [whole.boxes.corners[slice(*whole.boxes.offsets[image : image + 2])] for image in (0, 2, 3)]
    np.testing.assert_array_equal(pack.boxes.corners, np.concatenate(rows))


def test_a_path_without_the_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no VOC2007"):
        packed(tmp_path / "nowhere", tmp_path)


# What can be done with several labels an image, and what cannot.


def training(voc: SimpleNamespace, folder: Path, **options: object) -> list[str]:
    files = {name: folder / name for name in ("weights", "heads", "history", "checkpoints")}
    shown = {"architecture": "resnet18_x0.125", "augmentation": "crop-flip", "size": 32, "train": voc.train}
    return flags({"name": "small", **shown, **files, **options})


@pytest.fixture(scope="module")
def embedded(voc: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The embeddings of both splits by an untrained encoder."""
    folder = tmp_path_factory.mktemp("embedded")
    pretrain.main(training(voc, folder, method="untrained"))
    paths = SimpleNamespace(train=folder / "train.h5", val=folder / "val.h5")
    embed.main(
        [
            *flags({"weights": folder / "weights", "augmentation": "crop-flip"}),
            *["--images", str(voc.train), str(voc.val), "--embeddings", str(paths.train), str(paths.val)],
        ]
    )
    return paths


def test_embeddings_keep_several_labels(voc: SimpleNamespace, embedded: SimpleNamespace) -> None:
    for split in ("train", "val"):
        found = read_embeddings(getattr(embedded, split)).labels
        assert found.dtype == np.int8
        np.testing.assert_array_equal(found, read_pack(getattr(voc, split)).labels)


@pytest.mark.parametrize("method", ["simclr", "byol"])
def test_pretraining_without_labels_does_not_mind(method: str, voc: SimpleNamespace, tmp_path: Path) -> None:
    pretrain.main(training(voc, tmp_path, method=method, epochs=1, batch_size=4, warmup_epochs=0))
    assert (tmp_path / "weights").exists()


@pytest.mark.parametrize("method", ["compress-2q", "cluster-classification"])
def test_distillation_does_not_mind(
    method: str, voc: SimpleNamespace, embedded: SimpleNamespace, tmp_path: Path
) -> None:
    options: dict[str, object] = {"teacher_embeddings": embedded.train, "queue_length": 8}
    if method == "cluster-classification":
        options = {"teacher_assignments": tmp_path / "clusters.h5", "clusters": 3}
        cluster.main(flags({"train": embedded.train, "clusters": 3, "assignments": tmp_path / "clusters.h5"}))
        assert read_assignments(tmp_path / "clusters.h5").train_labels.shape == (12, 20)
    distill.main(training(voc, tmp_path, method=method, epochs=1, batch_size=4, **options))
    assert (tmp_path / "weights").exists()


def test_the_supervised_baseline_is_refused_in_one_line(voc: SimpleNamespace, tmp_path: Path) -> None:
    done = program("pretrain", *training(voc, tmp_path, method="supervised", epochs=1, batch_size=4))
    assert done.returncode == 1
    last = done.stderr.rstrip("\n").splitlines()[-1]
    assert last.startswith(f"error: {voc.train}: the images of voc have several labels each")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_evaluations_by_one_label_are_refused_before_anything_is_computed(
    embedded: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "kmeans", lambda *_: pytest.fail("clustered before the labels were looked at"))
    pair = {"train": embedded.train, "val": embedded.val}
    with pytest.raises(UserError, match="voc have several labels each, of 20 classes"):
        cluster.main(flags({**pair, "clusters": 3, "assignments": tmp_path / "clusters.h5"}))
    with pytest.raises(UserError, match=r"choose another dataset, .* such as voc-classification"):
        knn.main(flags({**pair, "metrics": tmp_path / "knn.json"}))

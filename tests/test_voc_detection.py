"""VOC detection: the scores by hand and by pycocotools, what is trained, that it learns, what it refuses."""

import dataclasses
import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou

from stages import architectures, fetch_dataset, voc_detection
from stages.architectures.alexnet import AlexNet
from stages.artifacts.metrics import Metrics, read_metrics
from stages.artifacts.weights import InputContract, save_weights
from stages.datasets.packed import read_pack
from stages.datasets.sources import Boxes
from stages.detection import Detections, detector, scores
from stages.detection.detector import Detection, mirrored
from stages.detection.images import detected, stream
from stages.errors import UserError
from stages.training.checkpoint import Checkpoint
from tests.conftest import assert_refused, card, flags, photographs, program
from tests.voc import Thing, drawn, write_voc

ARCHITECTURE = "resnet18_x0.25_cifar"
SMALL = {"epochs": 1, "batch_size": 4, "min_size": 48, "max_size": 64, "anchors": (16, 32), "learning_rate": 0.02}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head of few units that is trained on few regions, for speed."""
    monkeypatch.setattr(detector, "HIDDEN", 64)
    monkeypatch.setattr(detector, "REGIONS", 32)


# The scores.


def boxes_of(*images: list[tuple[tuple[float, ...], int, bool]]) -> Boxes:
    """Boxes of (corners, class, difficult), image by image."""
    flat = [each for image in images for each in image]
    return Boxes(
        np.cumsum([0, *map(len, images)]),
        np.array([corners for corners, _, _ in flat], dtype=np.float32).reshape(-1, 4),
        np.array([kind for _, kind, _ in flat], dtype=np.int64),
        np.array([difficult for _, _, difficult in flat], dtype=np.bool_),
    )


def detections_of(*found: tuple[int, tuple[float, ...], int, float]) -> Detections:
    """Detections of (image, corners, class, score)."""
    return Detections(
        np.array([image for image, _, _, _ in found], dtype=np.int64),
        np.array([corners for _, corners, _, _ in found], dtype=np.float32).reshape(-1, 4),
        np.array([kind for _, _, kind, _ in found], dtype=np.int64),
        np.array([score for _, _, _, score in found], dtype=np.float32),
    )


def test_vocs_curve_is_that_worked_by_hand() -> None:
    truth = boxes_of(
        [((0, 0, 10, 10), 0, False), ((20, 0, 30, 10), 0, True), ((40, 0, 50, 10), 1, False)],
        [((0, 0, 10, 10), 0, False), ((5, 0, 15, 10), 0, False)],
        [],
    )
    found = detections_of(
        (0, (0, 0, 10, 9), 0, 0.95),  # right
        (0, (20, 0, 30, 10), 0, 0.9),  # the difficult one: not counted
        (0, (21, 0, 30, 10), 0, 0.85),  # the same again: not counted
        (0, (0, 1, 10, 10), 0, 0.8),  # the first once more: wrong
        (2, (0, 0, 10, 10), 0, 0.7),  # no object in this image: wrong
        (0, (40, 0, 50, 10), 0, 0.65),  # an object of another class: wrong
        (1, (0, 0, 10, 20), 0, 0.6),  # overlaps by exactly a half: right
        (1, (100, 0, 110, 10), 0, 0.5),  # nowhere: wrong
        (0, (40, 0, 50, 10), 1, 0.4),  # another class
    )
    curve = scores.voc_curve(found, truth, 0)
    assert curve.positives == 3
    # Found 1 of 3 at precision 1, 2 of 3 at 2/5; recalls of 0 to 0.3, and of 0.4 to 0.6.
    assert curve.eleven_points == pytest.approx((4 * 1 + 3 * 2 / 5) / 11)
    assert curve.area == pytest.approx((1 + 2 / 5) / 3)
    assert scores.voc_curve(found, truth, 1).area == 1


def test_an_object_already_found_is_not_exchanged_for_another() -> None:
    truth = boxes_of([((0, 0, 10, 10), 0, False), ((0, 4, 10, 14), 0, False)])
    found = detections_of((0, (0, 0, 10, 10), 0, 0.9), (0, (0, 1, 10, 11), 0, 0.8))
    # The second overlaps the first object by 9/11 and the other by 7/13: VOC counts it as the first one, found twice.
    assert scores.voc_curve(found, truth, 0).area == pytest.approx(1 / 2)


def test_overlap_is_torchvisions() -> None:
    random = np.random.default_rng(0)
    corners = np.sort(random.uniform(0, 20, size=(2, 30, 2)), axis=0).transpose(1, 0, 2).reshape(30, 4)
    corners = corners.astype(np.float32)
    expected = box_iou(torch.from_numpy(corners[:5]).double(), torch.from_numpy(corners).double()).numpy()
    for box, row in zip(corners[:5], expected, strict=True):
        np.testing.assert_allclose(scores.overlap(box, corners), row)


def scattered(seed: int) -> tuple[Boxes, Detections]:
    """Objects that lie apart, and detections near them and elsewhere, of which none overlaps two."""
    random = np.random.default_rng(seed)
    images, found = [], []
    for image in range(12):
        objects = []
        for column, row in itertools.product(range(3), range(3)):
            corner = np.array([column, row]) * 40.0
            corners, kind = (*corner, *(corner + random.uniform(12, 20, 2))), int(random.integers(2))
            if random.random() < 0.7:
                objects.append((corners, kind, False))
            for _ in range(random.integers(3)):
                moved = (*(np.array(corners) + random.normal(scale=2, size=4)),)
                found.append((image, moved, kind if random.random() < 0.8 else 1 - kind, float(random.random())))
        images.append(objects)
    return boxes_of(*images), detections_of(*found)


@pytest.mark.parametrize("seed", range(3))
def test_the_area_under_vocs_curve_is_pycocotools_at_ever_more_recalls(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, found = scattered(seed)
    areas = [scores.voc_curve(found, truth, kind).area for kind in (0, 1)]
    plain = scores.coco_scores(found, truth, (0, 1))["ap50"]
    assert plain == pytest.approx(np.mean(areas), abs=0.02)

    class Fine(COCOeval):  # type: ignore[misc]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.params.recThrs = np.linspace(0, 1, 20_001)

    monkeypatch.setattr("pycocotools.cocoeval.COCOeval", Fine)
    fine = scores.coco_scores(found, truth, (0, 1))["ap50"]
    assert fine == pytest.approx(np.mean(areas), abs=2e-4)
    assert 0.2 < fine < 0.9


def test_cocos_scores_fall_with_the_overlap_that_is_asked_for() -> None:
    truth = boxes_of([((0, 0, 10, 10), 0, False)], [((0, 0, 10, 10), 1, False)])
    # Overlaps of 0.8 and 1: the class 0 is found up to 0.8, at 7 of COCO's 10 overlaps.
    found = detections_of((0, (0, 0, 10, 8), 0, 0.9), (1, (0, 0, 10, 10), 1, 0.9))
    assert scores.coco_scores(found, truth, (0, 1)) == pytest.approx({"ap": (0.7 + 1) / 2, "ap50": 1, "ap75": 1})
    assert scores.coco_scores(found, truth, (0,)) == pytest.approx({"ap": 0.7, "ap50": 1, "ap75": 1})


def test_difficult_objects_count_neither_way_for_coco() -> None:
    truth = boxes_of([((0, 0, 10, 10), 0, False), ((20, 0, 30, 10), 0, True)])
    sure = (0, (20.0, 0.0, 30.0, 10.0), 0, 0.99)
    for others in ([], [sure], [sure, (0, (21, 0, 30, 10), 0, 0.98)]):
        found = detections_of((0, (0, 0, 10, 10), 0, 0.9), *others)
        assert scores.coco_scores(found, truth, (0,))["ap"] == pytest.approx(1)


def test_nothing_found_scores_zero() -> None:
    truth = boxes_of([((0, 0, 10, 10), 0, False)])
    assert set(scores.coco_scores(detections_of(), truth, (0,)).values()) == {0}
    assert scores.voc_curve(detections_of(), truth, 0).eleven_points == 0


def test_the_real_slices_own_boxes_score_100_and_each_others_little(tmp_path: Path) -> None:
    packs = {split: tmp_path / f"{split}.h5" for split in ("train", "val")}
    fetch_dataset.main(flags({"source": "voc2007", "path": photographs("voc2007-slice"), "name": "voc", **packs}))
    truth = read_pack(packs["val"]).boxes
    assert truth is not None
    images = np.repeat(np.arange(len(truth.offsets) - 1), np.diff(truth.offsets))
    own = Detections(images, truth.corners, truth.classes, np.linspace(1, 0.5, len(images), dtype=np.float32))
    kinds = [kind for kind in range(20) if scores.clear(truth, kind)]
    assert set(scores.coco_scores(own, truth, kinds).values()) == {1}
    assert {scores.voc_curve(own, truth, kind).eleven_points for kind in kinds} == {1}
    others = dataclasses.replace(own, images=(images + 1) % images.max())
    assert scores.coco_scores(others, truth, kinds)["ap50"] < 0.1


# The detector.


def detection(architecture: str = ARCHITECTURE) -> Detection:
    torch.manual_seed(0)
    encoder = architectures.build(architecture, InputContract(64))
    objects = boxes_of([((1, 2, 30, 40), 0, False), ((5, 5, 9, 9), 1, True)], [], [((8, 4, 60, 44), 2, False)])
    return Detection(encoder, objects, 3, min_size=64, max_size=96, anchors=(16, 32))


def batch_of(*indices: int) -> Any:
    from stages.training.batches import Batch

    views = tuple(torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8) for _ in indices)
    return Batch(views=views, indices=torch.tensor(indices), labels=torch.empty(0))


def test_a_mirrored_image_keeps_its_objects() -> None:
    image = torch.zeros(3, 20, 30)
    image[:, 4:9, 2:12] = 1
    flipped, target = mirrored(image, {"boxes": torch.tensor([[2.0, 4, 12, 9]]), "labels": torch.tensor([1])})
    ((x1, y1, x2, y2),) = target["boxes"].int().tolist()
    assert flipped[:, y1:y2, x1:x2].min() == 1
    assert flipped.sum() == image.sum()
    again, boxes = mirrored(flipped, target)
    assert torch.equal(again, image)
    assert boxes["boxes"].tolist() == [[2, 4, 12, 9]]


def test_difficult_objects_are_not_trained_on() -> None:
    targets = [detection()._target(index, torch.device("cpu")) for index in range(3)]
    assert [target["boxes"].tolist() for target in targets] == [[[1, 2, 30, 40]], [], [[8, 4, 60, 44]]]
    assert [target["labels"].tolist() for target in targets] == [[1], [], [3]]


@pytest.mark.parametrize("architecture", [ARCHITECTURE, "timm/test_efficientnet"])
def test_all_layers_are_trained_and_batch_norms_keep_their_statistics(architecture: str) -> None:
    objective = detection(architecture).train()
    before = {key: tensor.clone() for key, tensor in objective.state_dict().items()}
    optimizer = torch.optim.SGD(objective.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        objective(batch_of(0, 1, 2)).backward()
        assert all(parameter.grad is not None for parameter in objective.detector.parameters())
        optimizer.step()
    statistics = [key for key in before if "running" in key or "num_batches" in key]
    assert statistics
    assert all(torch.equal(before[key], objective.state_dict()[key]) for key in statistics)
    assert objective.detector.backbone.training


@pytest.mark.parametrize(("overlap", "kept"), [(0.25, 2), (0.35, 1)])
def test_of_two_detections_of_an_object_the_surer_one_stays(overlap: float, kept: int) -> None:
    heads = detection().detector.roi_heads
    aside = 40 * (1 - overlap) / (1 + overlap)
    places = torch.tensor([[0, 0, 40, 40], [aside, 0, 40 + aside, 40]])
    logits = torch.full((2, 5), -9.0)
    logits[:, 3] = torch.tensor([9.0, 8.0])
    boxes, _, labels = heads.postprocess_detections(logits, torch.zeros(2, 4 * 5), [places], [(64, 100)])
    assert labels[0].tolist() == [3] * kept
    torch.testing.assert_close(boxes[0], places[:kept])


def test_alexnets_own_layers_classify_the_regions() -> None:
    objective = detection("alexnet")
    backbone = objective.detector.backbone.backbone
    assert isinstance(backbone, AlexNet)
    head = objective.detector.roi_heads.box_head
    assert {id(parameter) for parameter in head.parameters()} == set(map(id, backbone.classifier.parameters()))
    regions = torch.rand(2, 256, 6, 6)
    torch.testing.assert_close(head(regions), backbone.classifier(regions.flatten(1)))


def test_the_encoders_own_normalisation_is_the_detectors() -> None:
    encoder = architectures.build(ARCHITECTURE, InputContract.named(64, "half"))
    transform = Detection(encoder, boxes_of([]), 3, 64, 96, (16,)).detector.transform
    assert (transform.image_mean, transform.image_std) == ((0.5,) * 3, (0.5,) * 3)


def test_an_architecture_of_one_size_is_refused() -> None:
    with pytest.raises(UserError, match=r"timm/vit_tiny_patch16_224 gives no feature map of 96 x 64 pixels .*any size"):
        detection("timm/vit_tiny_patch16_224")


# The stage.


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Small pictures with coloured rectangles, packed, and the weights of an untrained encoder."""
    folder = tmp_path_factory.mktemp("voc")
    paths = SimpleNamespace(train=folder / "train.h5", val=folder / "val.h5", weights=folder / "weights")
    val = [*drawn(1, 5), [Thing("bus", (2, 2, 30, 30), difficult=True)]]
    source = write_voc(folder / "source", drawn(0, 12), val)
    fetch_dataset.main(
        flags({"source": "voc2007", "path": source, "name": "voc", "train": paths.train, "val": paths.val})
    )
    torch.manual_seed(0)
    encoder = architectures.build(ARCHITECTURE, InputContract(32))
    save_weights(paths.weights, encoder.backbone.state_dict(), card(architecture=ARCHITECTURE, dimension=128))
    return paths


def arguments(voc: SimpleNamespace, folder: Path, **options: object) -> list[str]:
    files = {**vars(voc), "metrics": folder / "voc.json", "checkpoints": folder / "checkpoints"}
    every = {**files, **SMALL, **options}
    listed = {name: value for name, value in every.items() if isinstance(value, tuple)}
    words = flags({name: value for name, value in every.items() if name not in listed})
    return [*words, *(word for name, values in listed.items() for word in (f"--{name}", *map(str, values)))]


def measured(voc: SimpleNamespace, folder: Path, **options: object) -> Metrics:
    voc_detection.main(arguments(voc, folder, **options))
    assert not (folder / "checkpoints").exists()
    return read_metrics(folder / "voc.json")


class Oracle(torch.nn.Module):
    """Says what is in the images of a split that it is shown in their order, sure of the first things."""

    def __init__(self, truth: Boxes) -> None:
        super().__init__()
        self.truth, self.shown = truth, 0

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        assert [(image.dtype, tuple(image.shape)) for image in images] == [(torch.float32, (3, 48, 64))]
        rows = slice(*self.truth.offsets[self.shown : self.shown + 2])
        self.shown += 1
        boxes = torch.from_numpy(self.truth.corners[rows])
        labels = torch.from_numpy(self.truth.classes[rows] + 1)
        return [{"boxes": boxes, "labels": labels, "scores": torch.linspace(1, 0.5, len(labels))}]


def test_a_detector_that_finds_everything_scores_100(voc: SimpleNamespace) -> None:
    pack = read_pack(voc.val)
    assert pack.boxes is not None
    found = detected(Oracle(pack.boxes), pack, torch.device("cpu"), 0)
    kinds = [pack.classes.index(name) for name in ("bus", "car", "person")]
    values = voc_detection.scores(found, pack.boxes, kinds, pack.classes)
    assert set(values.values()) == {100}
    assert len(values) == 4 + 3


def test_the_loss_falls_on_images_seen_again_and_again() -> None:
    objective = detection().train()
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.002)
    batch, losses = batch_of(0, 2), []
    for _ in range(12):
        loss = objective(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-4:]) < 0.8 * losses[0]


def test_metrics_tell_what_was_measured(voc: SimpleNamespace, tmp_path: Path) -> None:
    found = measured(voc, tmp_path, name="voc-1")
    each = [found.values[f"ap50_11point@{name}"] for name in ("bus", "car", "person")]
    assert found.values["ap50_11point"] == pytest.approx(np.mean(each))
    assert {"ap", "ap50", "ap75"} < set(found.values)
    assert found.values["ap"] <= found.values["ap50"] <= 100
    assert (found.evaluation, found.seeds, found.n) == ("voc-1", (0,), {"train": 12, "val": 6})
    assert "aeroplane (no clear object in train and val)" in found.notes["left_out"]
    assert "bus" not in found.notes["left_out"].replace("(", " ").split()


def test_images_that_were_left_out_are_counted(voc: SimpleNamespace, tmp_path: Path) -> None:
    packs = {split: shutil.copy(getattr(voc, split), tmp_path / f"{split}.h5") for split in ("train", "val")}
    for count, path in enumerate(packs.values(), start=2):
        with h5py.File(path, "r+") as file:
            file.attrs["skipped"] = count
    found = measured(SimpleNamespace(**{**vars(voc), **packs}), tmp_path)
    assert found.n == {"train": 12, "train_skipped": 2, "val": 6, "val_skipped": 3}


def test_a_run_that_is_broken_off_ends_as_one_that_is_not(
    voc: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = measured(voc, tmp_path / "unbroken", epochs=2)
    save, steps = Checkpoint.save, []

    def saving(checkpoint: Checkpoint, state: dict[str, Any]) -> None:
        save(checkpoint, state)
        steps.append(state["step"])
        if len(steps) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", saving)
    options = {"epochs": 2, "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        measured(voc, tmp_path / "broken", **options)
    found = measured(voc, tmp_path / "broken", **options)
    assert steps == [1, 2, 3, 4, 5, 6]
    assert found.values == unbroken.values
    assert found.values != measured(voc, tmp_path / "other", epochs=2, seed=1).values


def test_an_epoch_has_every_image_once(voc: SimpleNamespace) -> None:
    pack, options = read_pack(voc.train), voc_detection.Options(epochs=2, batch_size=5)
    batches = list(stream(pack, options, seed=0, workers=0, first=0))
    assert [len(batch.views) for batch in batches] == [5, 5, 2] * 2
    places = [index for batch in batches for index in batch.indices.tolist()]
    assert sorted(places[:12]) == sorted(places[12:]) == list(range(12))
    assert places[:12] != places[12:]
    later = list(stream(pack, options, seed=0, workers=0, first=4))
    assert [batch.indices.tolist() for batch in later] == [batch.indices.tolist() for batch in batches[4:]]
    assert torch.equal(later[0].views[0], pack.image(places[17]))


def test_the_default_recipe_is_fast_r_cnns() -> None:
    options = voc_detection.Options()
    steps = -(-5011 // options.batch_size)
    assert options.epochs * steps == pytest.approx(40_000, rel=0.005)
    assert options.milestones[0] * steps == pytest.approx(30_000, rel=0.005)
    assert (options.learning_rate, options.gamma, options.sgd_momentum) == (0.001, 0.1, 0.9)
    assert (options.weight_decay, options.min_size, options.max_size) == (0.0005, 600, 1000)


def test_a_dataset_without_boxes_is_refused(voc: SimpleNamespace, digits: SimpleNamespace, tmp_path: Path) -> None:
    without = SimpleNamespace(**{**vars(voc), "train": digits.train, "val": digits.val})
    done = program("voc_detection", *arguments(without, tmp_path))
    assert_refused(done, digits.train, "digits have no boxes", "voc2007", folder=tmp_path, before=set())


def test_splits_that_do_not_belong_together_are_refused(voc: SimpleNamespace, tmp_path: Path) -> None:
    swapped = SimpleNamespace(**{**vars(voc), "train": voc.val, "val": voc.train})
    with pytest.raises(UserError, match="holds the val split; expected the train split"):
        measured(swapped, tmp_path)


def test_a_dataset_whose_objects_are_all_difficult_is_refused(voc: SimpleNamespace, tmp_path: Path) -> None:
    hard = [[Thing("bus", (2, 2, 30, 30), difficult=True)]]
    paths = {"train": tmp_path / "train.h5", "val": tmp_path / "val.h5"}
    source = write_voc(tmp_path / "source", hard, hard)
    fetch_dataset.main(flags({"source": "voc2007", "path": source, "name": "voc", **paths}))
    with pytest.raises(UserError, match="no class has an object that is not difficult"):
        measured(SimpleNamespace(**{**vars(voc), **paths}), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"), [({"min_size": 16}, "--min-size is 16"), ({"anchors": ()}, "--anchors")]
)
def test_options_that_cannot_be_are_refused(
    options: dict[str, object], message: str, voc: SimpleNamespace, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        measured(voc, tmp_path, **options)

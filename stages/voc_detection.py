"""Fine-tune an encoder as a detector of objects, and score it on val: VOC detection.

    python -m stages.voc_detection --weights weights.safetensors --train train.h5 --val val.h5 \\
        --metrics voc-detection.json --checkpoints checkpoints/voc-detection

All layers are trained, as in CompRess (section 4.4), which takes Fast R-CNN for it; here the regions are proposed by a
network of the detector's own, as in Faster R-CNN. The recipe is Fast R-CNN's on VOC 2007. Killed or asked to terminate,
it goes on from its last checkpoint when started again with the same arguments.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from stages.command_line import (
    add_metrics_arguments,
    add_options,
    add_run_arguments,
    parser_of,
    read_options,
    run,
)
from stages.errors import UserError, at_least, filled, seeds
from stages.training.recipe import BatchSize, Epochs, Gamma, Milestones, Recipe, WeightDecay

if TYPE_CHECKING:
    from stages.datasets.packed import PackedImages
    from stages.datasets.sources import Boxes
    from stages.detection import Detections


@dataclasses.dataclass(frozen=True)
class Options(Recipe):
    """Fast R-CNN's 40,000 steps on VOC 2007: 16 passes over 5,011 images, by two; the last quarter is slow."""

    epochs: Epochs = 16
    batch_size: BatchSize = 2
    learning_rate: Annotated[float, "at its highest; for 2 images a step, raise it by as much for more"] = 0.001
    weight_decay: WeightDecay = 5e-4
    milestones: Milestones = (12,)
    gamma: Gamma = 0.1
    min_size: Annotated[int, "pixels to which an image's shorter side is scaled"] = 600
    max_size: Annotated[int, "pixels that its longer side does not exceed"] = 1000
    anchors: Annotated[tuple[int, ...], "sides of proposals' first squares, in scaled pixels"] = (32, 64, 128, 256, 512)
    seed: Annotated[int, "of the new layers, the order, the mirroring and the regions trained on"] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(32, min_size=self.min_size, max_size=self.max_size)
        filled(anchors=self.anchors)
        seeds(seed=self.seed)


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="the encoder's weights")
    parser.add_argument("--train", type=Path, required=True, help="the packed train split, with boxes")
    parser.add_argument("--val", type=Path, required=True, help="the packed val split, with boxes")
    add_metrics_arguments(parser, "voc-detection")
    add_run_arguments(parser)
    add_options(parser, Options)
    arguments = parser.parse_args(argv)

    from stages import architectures
    from stages.artifacts.metrics import counts_of, left_out_note, metrics_of, write_metrics
    from stages.artifacts.weights import digest_of
    from stages.datasets.packed import read_pack_pair
    from stages.detection.detector import Detection
    from stages.detection.images import detected, stream
    from stages.training.arguments import run_of
    from stages.training.loop import train
    from stages.training.position import seed_here

    start = time.monotonic()
    options = read_options(Options, arguments)
    packs = read_pack_pair(arguments.train, arguments.val)
    boxes = boxes_of(packs[0]), boxes_of(packs[1])
    reasons = left_out(packs[0], boxes)
    encoder, card = architectures.read(arguments.weights)
    training = run_of(arguments, options, packs[0], digest_of(arguments.weights))

    seed_here(options.seed)
    classes = packs[0].classes
    objective = Detection(encoder, boxes[0], len(classes), options.min_size, options.max_size, options.anchors)
    train(
        objective,
        training,
        lambda first: stream(packs[0], options, seed=options.seed, workers=arguments.workers, first=first),
        lambda batch: batch.to(training.device),
        title=f"detector of {card.name}",
    )
    found = detected(objective.detector, packs[1], training.device, arguments.workers)

    metrics = metrics_of(
        card,
        packs[0].name,
        counts_of(*packs),
        evaluation=arguments.name,
        protocol=f"Faster R-CNN on the encoder's last map, shorter side {options.min_size}, all layers fine-tuned for "
        f"{options.epochs} epochs",
        values=scores(found, boxes[1], [kind for kind in range(len(classes)) if classes[kind] not in reasons], classes),
        seeds=(options.seed,),
        options=dataclasses.asdict(options),
        start=start,
        notes=left_out_note(reasons),
    )
    write_metrics(arguments.metrics, metrics)
    training.checkpoint.remove()


def boxes_of(pack: "PackedImages") -> "Boxes":
    """The objects of a split; one without is an error."""
    if pack.boxes is None:
        raise UserError(
            f"{pack.path}: the images of {pack.name} have no boxes, which voc-detection needs; give it a dataset "
            "that has them, such as voc2007"
        )
    return pack.boxes


def left_out(pack: "PackedImages", boxes: tuple["Boxes", "Boxes"]) -> dict[str, str]:
    """The classes that cannot be trained or scored, with the reason."""
    from stages.detection.scores import clear

    reasons = {}
    for kind, name in enumerate(pack.classes):
        missing = [split for split, one in zip(("train", "val"), boxes, strict=True) if not clear(one, kind)]
        if missing:
            reasons[name] = f"no clear object in {' and '.join(missing)}"
    if len(reasons) == len(pack.classes):
        raise UserError(f"{pack.path}: no class has an object that is not difficult in both splits; give more images")
    return reasons


def scores(found: "Detections", truth: "Boxes", kinds: Sequence[int], classes: Sequence[str]) -> dict[str, float]:
    """COCO's scores and VOC 2007's, in percent, as means over the classes ``kinds``; and VOC's of each class."""
    from stages.detection.scores import coco_scores, voc_curve

    each = {classes[kind]: 100 * voc_curve(found, truth, kind).eleven_points for kind in kinds}
    return {
        **{name: 100 * value for name, value in coco_scores(found, truth, kinds).items()},
        "ap50_11point": sum(each.values()) / len(each),
        **{f"ap50_11point@{name}": value for name, value in each.items()},
    }


if __name__ == "__main__":
    run(main)

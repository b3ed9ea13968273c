"""Train a linear classifier on every intermediate layer of a frozen encoder, and tell which layer is the best.

    python -m stages.layer_probe --weights weights.safetensors --train train.h5 --val val.h5 \\
        --augmentation crop-flip --metrics layers.json --checkpoints checkpoints/layers

The protocol of the field (Zhang et al., "Split-Brain Autoencoders", CVPR 2017; Goyal et al., "Scaling and Benchmarking
Self-Supervised Visual Representation Learning", ICCV 2019): maps are average-pooled to at most 10,000 values, then
standardised channel by channel by a batch norm, then classified by one linear layer. The defaults are those of VISSL
for Places205 and AlexNet. All layers' classifiers are trained at once, on one forward pass a batch, and each as if it
were alone; train images are augmented, val images seen in their evaluation view; the last epoch counts.

Killed or asked to terminate, it goes on from its last checkpoint when started again with the same arguments.
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
from stages.errors import at_least, seeds
from stages.training.recipe import Gamma, Milestones, Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.datasets.augmentations import Augmentation
    from stages.datasets.packed import PackedImages
    from stages.probing.layers import LayerProbes


@dataclasses.dataclass(frozen=True)
class Options(Recipe):
    """VISSL's recipe for linear classifiers on the layers of an AlexNet, for Places205."""

    epochs: Annotated[int, "passes over the train images"] = 14
    weight_decay: Annotated[float, "on weights and biases"] = 5e-4
    milestones: Milestones = (4, 8, 12)
    gamma: Gamma = 0.1
    layers: Annotated[tuple[str, ...], "the layers to probe, such as conv4 or L5; by default all of them"] = ()
    seed: Annotated[int, "of the initialisation, the order and the augmentation"] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, epochs=self.epochs)
        seeds(seed=self.seed)


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="the encoder's weights")
    parser.add_argument("--train", type=Path, required=True, help="the packed train split")
    parser.add_argument("--val", type=Path, required=True, help="the packed val split")
    parser.add_argument("--augmentation", required=True, help="of the train images, such as crop-flip")
    add_metrics_arguments(parser, "layers")
    add_options(parser, Options)
    add_run_arguments(parser)
    arguments = parser.parse_args(argv)

    from stages import architectures
    from stages.artifacts.metrics import counts_of, metrics_of, write_metrics
    from stages.artifacts.weights import digest_of
    from stages.datasets import augmentations
    from stages.datasets.packed import read_pack_pair
    from stages.probing.layers import LayerProbes, Layers
    from stages.training.arguments import run_of
    from stages.training.batches import stream
    from stages.training.loop import train

    start = time.monotonic()
    options = read_options(Options, arguments)
    pack, val = read_pack_pair(arguments.train, arguments.val)
    _, truth = pack.single_labels(), val.single_labels()
    encoder, card = architectures.read(arguments.weights)
    augmentation = augmentations.named(arguments.augmentation, card.contract.size)
    training = run_of(arguments, options, pack, digest_of(arguments.weights))
    probes = LayerProbes(Layers(encoder, options.layers, card.architecture), len(pack.classes), options.seed)
    encoder.to(training.device)

    train(
        probes,
        training,
        lambda first: stream(
            pack, augmentation, options, views=1, seed=options.seed, workers=arguments.workers, first=first
        ),
        lambda batch: batch.augmented(augmentation, training.device),
        title=f"layers of {card.name}",
    )

    predicted = predictions(probes, val, augmentation, options.batch_size, arguments.workers)
    accuracies = {name: 100 * float((rows == truth).mean()) for name, rows in predicted.items()}
    best = max(accuracies, key=accuracies.__getitem__)
    metrics = metrics_of(
        card,
        val.name,
        counts_of(pack, val),
        evaluation=arguments.name,
        protocol="linear classifiers on frozen layers, average-pooled to at most 10,000 values, batch norm, "
        f"{options.epochs} epochs on {arguments.augmentation} views; "
        "top1: best layer by val top1, as the papers report it",
        values={"top1": accuracies[best]} | {f"top1@{name}": accuracy for name, accuracy in accuracies.items()},
        seeds=(options.seed,),
        options=dataclasses.asdict(options),
        start=start,
        notes={"best_layer": best},
    )
    write_metrics(arguments.metrics, metrics)
    training.checkpoint.remove()


def predictions(
    probes: "LayerProbes", pack: "PackedImages", augmentation: "Augmentation", batch_size: int, workers: int
) -> dict[str, "NDArray[np.int64]"]:
    """The class [N] that each layer's classifier gives each image, in its evaluation view."""
    import torch

    from stages.datasets.views import CenterViews, in_batches

    encoder = probes.layers.encoder
    views = CenterViews(pack, augmentation, encoder.contract.interpolation)
    title = f"classifying {pack.name}-{pack.split}"
    probes.eval()
    found = []
    with torch.inference_mode():
        for images in in_batches(views, encoder, batch_size=batch_size, workers=workers, title=title):
            logits = probes.logits(images)
            found.append(torch.stack([layer.argmax(dim=1) for layer in logits]).cpu())
    return dict(zip(probes.layers.names, torch.cat(found, dim=1).numpy(), strict=True))


if __name__ == "__main__":
    run(main)

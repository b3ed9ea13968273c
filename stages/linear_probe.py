"""Train linear classifiers on a frozen encoder: CompRess's linear evaluation, and other published ones.

    python -m stages.linear_probe --train teacher-train.h5 --val teacher-val.h5 --metrics linear.json \\
        --checkpoints checkpoints/linear --weights weights.safetensors --images train.h5

    python -m stages.linear_probe --train teacher-train.h5 --val teacher-val.h5 --metrics linear.json \\
        --checkpoints checkpoints/linear --views cached --presets compress moco --labels 1 10 --subsets 1.txt 10.txt

In every epoch the encoder sees a new augmented view of each train image, as in the papers, which takes its weights and
the images; with --views cached, the classifiers learn from the cached embeddings of the plain ones, in minutes. val is
always the cache. All presets and learning rates learn from the same batches; each share of labels, and each run, has
batches of its own. The last epoch's accuracy is reported, and the best epoch's beside it, which SwAV's code prints and
CompRess's saves: it is chosen on val. Killed or asked to terminate, it goes on from its last checkpoint when started
again with the same arguments.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from stages import gpus
from stages.command_line import (
    add_evaluation_arguments,
    add_options,
    add_run_arguments,
    parser_of,
    read_options,
    run,
)
from stages.errors import UserError, above_zero, at_least, different, filled, percentages, seeds

if TYPE_CHECKING:
    import torch

    from stages.artifacts.embeddings import Embeddings
    from stages.probing.features import Features
    from stages.probing.presets import Preset


@dataclasses.dataclass(frozen=True)
class Options:
    presets: Annotated[
        tuple[Literal["compress", "moco", "swav", "byol", "simdis"], ...], "whose protocols, any of them"
    ] = ("compress",)
    views: Annotated[
        Literal["augmented", "cached"], "augmented: new views in every epoch; cached: the cached embeddings, in minutes"
    ] = "augmented"
    augmentation: Annotated[str, "of augmented views"] = "crop-flip"
    labels: Annotated[tuple[int, ...], "percent of the train labels, by the dataset's stored subsets; 100: all"] = (
        100,
    )
    epochs: Annotated[int, "passes over the labelled images; 0: the preset's; its milestones stay"] = 0
    learning_rates: Annotated[tuple[float, ...], "at their highest; none: the preset's"] = ()
    seed: Annotated[int, "of the first run's initialisation, order and views; the others count up from it"] = 0
    runs: Annotated[int, "each from its own seed"] = 1

    def __post_init__(self) -> None:
        at_least(0, epochs=self.epochs)
        seeds(seed=self.seed)
        at_least(1, runs=self.runs)
        filled(presets=self.presets, labels=self.labels)
        percentages(*self.labels)
        for rate in self.learning_rates:
            above_zero(learning_rates=rate)
        # Rates are told apart as `suffix` shows them.
        different(presets=self.presets, learning_rates=[f"{rate:g}" for rate in self.learning_rates])

    @property
    def rates(self) -> tuple[float | None, ...]:
        """The learning rates to try; None is the preset's."""
        return self.learning_rates or (None,)

    def preset(self, name: str, rate: float | None) -> "Preset":
        """The preset with the epochs and the learning rate that were asked for."""
        from stages.probing.presets import PRESETS

        preset = PRESETS[name]
        recipe = dataclasses.replace(
            preset.recipe,
            epochs=self.epochs or preset.recipe.epochs,
            learning_rate=preset.recipe.learning_rate if rate is None else rate,
        )
        return dataclasses.replace(preset, recipe=recipe)

    @property
    def protocol(self) -> str:
        """What was learned how, in words."""
        presets = [(name, self.preset(name, None)) for name in self.presets]
        parts = [f"{name} linear: {preset.features}, {preset.recipe.epochs} epochs" for name, preset in presets]
        views = "cached views" if self.views == "cached" else f"{self.augmentation} views"
        shares = "" if self.labels == (100,) else f", {'%, '.join(map(str, self.labels))}% of the labels"
        rates = ", ".join(f"{rate:g}" for rate in self.learning_rates)
        return f"{'; '.join(parts)} on {views}{shares}" + (f", learning rate {rates}" if rates else "")

    def suffix(self, preset: str, percent: int, rate: float | None) -> str:
        """What tells a value from the others of its kind: its entry on every axis that has several."""
        axes = [(self.presets, preset), (self.labels, f"{percent}%"), (self.rates, f"{rate:g}" if rate else "")]
        entries = [entry for axis, entry in axes if len(axis) > 1]
        return f"@{','.join(entries)}" if entries else ""


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    add_evaluation_arguments(parser, "linear")
    parser.add_argument("--weights", type=Path, help="the encoder's weights, for augmented views")
    parser.add_argument("--images", type=Path, help="the packed train split, for augmented views")
    parser.add_argument("--subsets", type=Path, nargs="*", default=[], help="lists of labelled images, for --labels")
    add_run_arguments(parser)
    add_options(parser, Options)
    arguments = parser.parse_args(argv)
    options = read_options(Options, arguments)
    at_least(0, workers=arguments.workers)
    if options.views == "augmented" and not (arguments.weights and arguments.images):
        parser.error("augmented views take --weights and --images; --views cached does without")

    import numpy as np

    from stages.artifacts.embeddings import read_pair
    from stages.artifacts.metrics import counts_of, metrics_of, write_metrics
    from stages.artifacts.subsets import labelled_rows
    from stages.training.checkpoint import Checkpoint

    start = time.monotonic()
    train, val = read_pair(arguments.train, arguments.val)
    seeds = tuple(range(options.seed, options.seed + options.runs))
    labelled = {percent: labelled_rows(percent, arguments.subsets, train).tolist() for percent in options.labels}
    for percent, rows in labelled.items():
        if len(rows) < 2:
            raise UserError(f"{train.path}: {percent}% of the labels is one image; a linear probe needs two or more")
    found: dict[str, list[float]] = {}
    for name, value in measured(arguments, options, train, val, labelled, seeds):
        found.setdefault(name, []).append(value)
    metrics = metrics_of(
        val.card,
        val.dataset,
        counts_of(train, val),
        evaluation=arguments.name,
        protocol=options.protocol,
        values={name: float(np.mean(values)) for name, values in found.items()},
        deviations={name: float(np.std(values, ddof=1)) for name, values in found.items() if len(seeds) > 1},
        seeds=seeds,
        options=dataclasses.asdict(options),
        start=start,
        notes={
            "labelled": f"{', '.join(str(len(rows)) for rows in labelled.values())} of {len(train.labels)} train images"
        },
    )
    write_metrics(arguments.metrics, metrics)
    for percent, seed in itertools.product(options.labels, seeds):
        Checkpoint(folder_of(arguments.checkpoints, percent, seed), "").remove()
    with contextlib.suppress(OSError):  # The folder may hold what is not ours.
        arguments.checkpoints.rmdir()


def measured(
    arguments: argparse.Namespace,
    options: Options,
    train: "Embeddings",
    val: "Embeddings",
    labelled: Mapping[int, Sequence[int]],
    seeds: Sequence[int],
) -> Iterator[tuple[str, float]]:
    """Train all heads; each one's values by name, in percent, a run after the other."""
    from stages.probing.heads import statistics_of
    from stages.probing.training import probe
    from stages.training.checkpoint import Checkpoint

    train.single_labels(), val.single_labels()
    device = gpus.device()
    features = features_of(arguments, options, train, device)
    statistics = statistics_of(train)
    for _ in val.unit_slices():
        pass  # A vector without a direction is refused now, not after hours.
    members = list(itertools.product(options.presets, options.rates))
    for percent, seed in itertools.product(options.labels, seeds):
        heads = probe(
            [options.preset(*member) for member in members],
            features,
            labelled[percent],
            statistics,
            val,
            seed=seed,
            device=device,
            checkpoint=Checkpoint(
                folder_of(arguments.checkpoints, percent, seed),
                key_of(arguments.checkpoint_key, dataclasses.replace(options, seed=seed), train, labelled[percent]),
            ),
            checkpoint_seconds=arguments.checkpoint_seconds,
            title=f"linear probe, {percent}% of the labels, seed {seed}",
        )
        for number, (preset, rate) in enumerate(members):
            epochs = options.preset(preset, rate).recipe.epochs
            suffix = options.suffix(preset, percent, rate)
            top1, top5 = (100 * right[number].double().cpu() / len(val.labels) for right in (heads.top1, heads.top5))
            yield f"top1{suffix}", float(top1[epochs - 1])
            if len(val.classes) > 5:
                yield f"top5{suffix}", float(top5[epochs - 1])
            yield f"top1_best_epoch{suffix}", float(top1.max())


def folder_of(checkpoints: Path, percent: int, seed: int) -> Path:
    """Where the state of one run on a share of the labels is."""
    return checkpoints / f"{percent}-{seed}"


def features_of(
    arguments: argparse.Namespace, options: Options, train: "Embeddings", device: "torch.device"
) -> "Features":
    """What the heads learn from, by the option ``views``."""
    from stages import architectures
    from stages.artifacts.weights import digest_of
    from stages.datasets import augmentations
    from stages.datasets.packed import read_pack
    from stages.probing.features import Augmented, Cached

    if options.views == "cached":
        return Cached(train, device)
    encoder, card = architectures.read(arguments.weights)
    if (digest := digest_of(arguments.weights)) != train.weights:
        raise UserError(
            f"{arguments.weights} ({digest[:12]}): not the weights that made {train.path} ({train.weights[:12]}); "
            "embed the images with these weights first"
        )
    augmentation = augmentations.named(options.augmentation, card.contract.size)
    return Augmented(train, read_pack(arguments.images), encoder, augmentation, arguments.workers, device)


def key_of(code: str, options: Options, train: "Embeddings", rows: Sequence[int]) -> str:
    """What a run's checkpoints belong to: its options, code, encoder, images and labels; not the other runs."""
    own = {name: value for name, value in dataclasses.asdict(options).items() if name not in ("labels", "runs")}
    inputs = [train.weights, train.transform, train.dataset_fingerprint, str(train.vectors.dtype)]
    return hashlib.sha256(json.dumps([own, code, inputs, rows]).encode()).hexdigest()


if __name__ == "__main__":
    run(main)

"""Time an epoch of linear probes on cached embeddings as the stage runs them, one head and several at once.

    python -m benchmarks.linear_probe
    python -m benchmarks.linear_probe --images 20000 --heads 4

The heads are of CompRess's protocol, with learning rates of their own. Plain trains the heads one after the other; the
limit is their steps alone, on a batch that lies on the device all along. Val images are classified once. On a GPU it
is a dataset of ImageNet's size.
"""

import dataclasses
import tempfile
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks.caches import add_cache_arguments, random_pair
from benchmarks.rows import Row, in_turns, on_gpu, parser_of, report, timed
from stages import gpus
from stages.artifacts.embeddings import Embeddings
from stages.probing.features import Cached
from stages.probing.heads import Heads, Statistics, statistics_of
from stages.probing.presets import BATCH_SIZE, PRESETS, Preset
from stages.probing.training import probe
from stages.training.checkpoint import Checkpoint

FLOOR = 0.8
"""The least ratio, heads one after the other to ours, that `make bench-check` lets pass."""
SIZES = (1_280_000, 50_000, 2048) if torch.cuda.is_available() else (20_000, 2_000, 512)
"""Train images, val images, dimensions."""


def main() -> None:
    parser = parser_of(__doc__)
    add_cache_arguments(parser, SIZES)
    parser.add_argument("--heads", type=int, default=4, help="of the second row (default: 4)")
    parser.add_argument("--turns", type=int, default=3, help="of each (default: 3)")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, val = random_pair(folder, arguments)
        statistics = statistics_of(train)
        presets = [with_rate(0.01 / 2**number) for number in range(arguments.heads)]
        ones = [[preset] for preset in presets]

        def learn(heads: list[Preset]) -> None:
            learned(heads, train, val, statistics, folder)

        learn(presets)  # to warm up
        several, alone, bare_several, bare_alone = in_turns(
            arguments.turns,
            lambda: timed(lambda: learn(presets)),
            lambda: timed(lambda: learn(ones[0])),
            lambda: timed(lambda: bare(presets, train, val, statistics)),
            lambda: timed(lambda: bare(ones[0], train, val, statistics)),
        )
    what = f"linear probe{on_gpu()}, an epoch of {arguments.images} x {arguments.dimension}"
    one_by_one = [arguments.heads * each for each in alone]
    report(
        [
            Row(f"{what}, s", alone, limit=bare_alone),
            Row(f"{what}, {arguments.heads} heads, s", several, one_by_one, limit=bare_several, floor=FLOOR),
        ],
        arguments,
    )


def with_rate(rate: float) -> Preset:
    """CompRess's protocol, of one epoch, with another learning rate."""
    preset = PRESETS["compress"]
    return dataclasses.replace(preset, recipe=dataclasses.replace(preset.recipe, epochs=1, learning_rate=rate))


def learned(presets: list[Preset], train: Embeddings, val: Embeddings, statistics: Statistics, folder: Path) -> Heads:
    """What the stage does with two caches."""
    device = gpus.device()
    checkpoint = Checkpoint(folder / "checkpoints", "benchmark")
    heads = probe(
        presets,
        Cached(train, device),
        range(len(train.labels)),
        statistics,
        val,
        seed=0,
        device=device,
        checkpoint=checkpoint,
        checkpoint_seconds=1e9,
        title="linear probe",
    )
    checkpoint.remove()
    return heads


def bare(presets: list[Preset], train: Embeddings, val: Embeddings, statistics: Statistics) -> None:
    """As many steps of as many linear layers, on one batch."""
    device = gpus.device()
    heads = Heads(presets, statistics, val, seed=0).to(device)
    optimizer = heads.optimizer(presets[0].recipe)
    batch = torch.randn(BATCH_SIZE, train.vectors.shape[1], device=device)
    labels = torch.zeros(BATCH_SIZE, dtype=torch.int64, device=device)
    for _ in range(len(train.labels) // BATCH_SIZE):
        optimizer.zero_grad(set_to_none=True)
        torch.stack([F.cross_entropy(head(batch), labels) for head in heads.classifiers]).sum().backward()
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()

"""Train a linear classifier on frozen embeddings: CompRess's linear evaluation.

    python -m stages.linear_probe --train teacher-train.h5 --val teacher-val.h5 --metrics linear.json

Embeddings are l2-normalised, then shifted and scaled to zero mean and unit variance by the statistics of the whole
train split (section 4.1), then classified by one linear layer, trained with SGD on the cached evaluation views. The
last epoch's accuracy is reported, and the best epoch's beside it: the authors' code prints the best, chosen on val.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from stages.command_line import add_evaluation_arguments, add_options, parser_of, read_options, run
from stages.errors import at_least

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Options:
    epochs: Annotated[int, "passes over the train embeddings"] = 40
    batch_size: Annotated[int, "embeddings a step"] = 256
    learning_rate: Annotated[float, "of SGD, at its highest"] = 0.01
    momentum: Annotated[float, "of SGD"] = 0.9
    weight_decay: Annotated[float, "on weights and bias"] = 1e-4
    milestones: Annotated[tuple[int, ...], "epochs after which the learning rate is lowered"] = (15, 30)
    gamma: Annotated[float, "by this factor"] = 0.1
    seed: Annotated[int, "of the initialisation and the order"] = 0

    def __post_init__(self) -> None:
        at_least(1, epochs=self.epochs, batch_size=self.batch_size)


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    add_evaluation_arguments(parser)
    add_options(parser, Options)
    arguments = parser.parse_args(argv)

    from stages.artifacts.embeddings import read_pair
    from stages.artifacts.metrics import metrics_of, write_metrics

    start = time.monotonic()
    options = read_options(Options, arguments)
    train, val = read_pair(arguments.train, arguments.val)
    features, queries = standardised(train.unit(), val.unit())
    accuracies = probe(features, train.single_labels(), queries, val.single_labels(), len(train.classes), options)
    metrics = metrics_of(
        train,
        val,
        evaluation=arguments.name or "linear",
        protocol=f"compress linear: l2-normalised, standardised by train, {options.epochs} epochs on cached views",
        values={"top1": 100 * accuracies[-1], "top1_best_epoch": 100 * max(accuracies)},
        deviations={},
        seeds=(options.seed,),
        options=options,
        wall_time_s=time.monotonic() - start,
    )
    write_metrics(arguments.metrics, metrics)


def standardised(
    train: "NDArray[np.float32]", val: "NDArray[np.float32]"
) -> tuple["NDArray[np.float32]", "NDArray[np.float32]"]:
    """Both with the mean and the unbiased variance (plus 1e-5) of ``train`` [N, D], dimension by dimension."""
    import torch

    variance, mean = torch.var_mean(torch.from_numpy(train), dim=0, correction=1)
    scale = torch.rsqrt(variance + 1e-5)
    first, second = (torch.from_numpy(rows).sub(mean).mul_(scale).numpy() for rows in (train, val))
    return first, second


def probe(
    features: "NDArray[np.float32]",
    labels: "NDArray[np.int64]",
    queries: "NDArray[np.float32]",
    truth: "NDArray[np.int64]",
    classes: int,
    options: Options,
) -> list[float]:
    """Train the classifier on ``features`` [N, D]; the accuracy on ``queries`` [M, D] after each epoch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    from stages.progress import track

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(options.seed)
    classifier = nn.Linear(features.shape[1], classes).to(device)
    optimizer = torch.optim.SGD(
        classifier.parameters(), options.learning_rate, options.momentum, weight_decay=options.weight_decay
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(options.milestones), options.gamma)
    inputs, targets = torch.from_numpy(features), torch.from_numpy(labels)
    accuracies = []
    for _ in track(range(options.epochs), "linear probe", total=options.epochs, unit="epochs"):
        for rows in torch.randperm(len(inputs)).split(options.batch_size):
            loss = F.cross_entropy(classifier(inputs[rows].to(device)), targets[rows].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        accuracies.append(_accuracy(classifier, torch.from_numpy(queries), torch.from_numpy(truth), device))
    return accuracies


def _accuracy(
    classifier: "torch.nn.Module", queries: "torch.Tensor", truth: "torch.Tensor", device: "torch.device"
) -> float:
    import torch

    with torch.inference_mode():
        right = sum(
            int(torch.count_nonzero(classifier(rows.to(device)).argmax(dim=1).cpu() == labels))
            for rows, labels in zip(queries.split(8192), truth.split(8192), strict=True)
        )
    return right / len(truth)


if __name__ == "__main__":
    run(main)

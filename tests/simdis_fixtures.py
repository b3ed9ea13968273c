"""What the tests of SimDis's two methods share: the paper's combinations of views, and the loss by hand."""

import torch
from torch import Tensor

from stages.prediction.simdis import SimDis
from stages.training.batches import Batch
from stages.training.networks import Networks

VIEWS = ("s-dv", "sema-sv", "sema-dv", "t-sv", "t-dv", "tema-sv", "tema-dv")
# The rows of the paper's Table 2, of which the first is BYOL; then each view alone.
TABLE_2 = [
    ("sema-dv",),
    ("sema-dv", "t-sv"),
    ("sema-dv", "t-dv"),
    ("sema-dv", "tema-sv"),
    ("sema-dv", "tema-dv"),
    ("sema-dv", "t-sv", "t-dv"),
    ("sema-dv", "tema-sv", "tema-dv"),
    ("sema-dv", "t-sv", "t-dv", "tema-sv", "tema-dv"),
    VIEWS,
]
COMBINATIONS = [*TABLE_2, *((view,) for view in VIEWS if view != "sema-dv")]


def doubled(batch: Batch) -> Batch:
    return Batch(tuple(view.double() for view in batch.views), batch.indices, batch.labels)


def naive_loss(found: SimDis, networks: Networks, batch: Batch) -> Tensor:
    """The authors' loss, a view, a direction and an image at a time; of ``found`` only its modules are used."""
    own = [found.projector(found.student(view)) for view in batch.views]
    targets: dict[str, list[Tensor]] = {"s": own}
    if found.average is not None:
        targets["sema"] = [found.average.projector(found.average.encoder(view)) for view in batch.views]
    for name, network in (("t", networks.online), ("tema", networks.target)):
        targets[name] = [network.projector(network.encoder(view)) for view in batch.views]
    losses = []
    for view in found.options.views:
        name, kind = view.split("-")
        total = torch.zeros((), dtype=torch.float64)
        for direction in (0, 1):
            predicted = found.predictors[view](own[direction])
            goal = targets[name][direction if kind == "sv" else 1 - direction].detach()
            for one, other in zip(predicted, goal, strict=True):
                total = total + 2 - 2 * torch.dot(one, other) / (one.norm() * other.norm())
        losses.append(total / len(batch.indices))
    return sum(losses, torch.zeros((), dtype=torch.float64)) / len(losses)

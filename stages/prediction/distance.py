"""How far predictions are from what they predict."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def squared_distance(predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """That of unit vectors, 2 - 2 cos, mean over the batch, summed over the views (BYOL, equation 2).

    Args:
        predictions: [B, D] for each view.
        targets: of each, [B, D]; no gradient flows to them.

    Returns:
        A scalar, 0 to 4 for each view.
    """
    cosines = [F.cosine_similarity(one, other.detach()) for one, other in zip(predictions, targets, strict=True)]
    return torch.stack([2 - 2 * cosine.mean() for cosine in cosines]).sum()

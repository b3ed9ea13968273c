"""The part of their options that methods share whose papers train in batches of thousands."""

import dataclasses
from typing import Annotated, Literal

from stages.training.recipe import BatchSize, ExcludeNormAndBias, Schedule, TrainingRecipe


@dataclasses.dataclass(frozen=True)
class LargeBatchRecipe(TrainingRecipe):
    """LARS with a warm-up and a cosine, for batches of 4096, over all of which batch norms see."""

    batch_size: BatchSize = 4096
    drop_last: Annotated[bool, "leave out the last, smaller batch of an epoch"] = True
    optimizer: Annotated[Literal["sgd", "lars"], "sgd, or lars: sgd with layer-wise trust ratios"] = "lars"
    exclude_norm_and_bias: ExcludeNormAndBias = True
    schedule: Schedule = "cosine"
    warmup_epochs: Annotated[int, "epochs of linear increase from 0 to the learning rate"] = 10
    sync_batch_norm: Annotated[bool, "on several GPUs, batch norms of encoders see the images of all"] = True

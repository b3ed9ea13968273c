"""The part of their options that methods share whose papers train in batches of thousands."""

import dataclasses

from stages.training.recipe import (
    BatchSize,
    DropLast,
    ExcludeNormAndBias,
    Optimizer,
    Schedule,
    SyncBatchNorm,
    TrainingRecipe,
    WarmupEpochs,
)


@dataclasses.dataclass(frozen=True)
class LargeBatchRecipe(TrainingRecipe):
    """LARS with a warm-up and a cosine, for batches of 4096, over all of which batch norms see."""

    batch_size: BatchSize = 4096
    drop_last: DropLast = True
    optimizer: Optimizer = "lars"
    exclude_norm_and_bias: ExcludeNormAndBias = True
    schedule: Schedule = "cosine"
    warmup_epochs: WarmupEpochs = 10
    sync_batch_norm: SyncBatchNorm = True

"""The part of their options that methods share whose papers train in batches of thousands."""

import dataclasses
from typing import Annotated, Literal

from stages.training.recipe import TrainingRecipe


@dataclasses.dataclass(frozen=True)
class LargeBatchRecipe(TrainingRecipe):
    """LARS with a warm-up and a cosine, for batches of 4096, over all of which batch norms see."""

    batch_size: Annotated[int, "images a step"] = 4096
    drop_last: Annotated[bool, "leave out the last, smaller batch of an epoch"] = True
    optimizer: Annotated[Literal["sgd", "lars"], "sgd, or lars: sgd with layer-wise trust ratios"] = "lars"
    exclude_norm_and_bias: Annotated[bool, "leave vectors, as of batch norms, out of weight decay and trust ratios"] = (
        True
    )
    schedule: Annotated[
        Literal["step", "cosine"], "step: times gamma after each milestone; cosine: to 0 over all steps"
    ] = "cosine"
    warmup_epochs: Annotated[int, "epochs of linear increase from 0 to the learning rate"] = 10
    sync_batch_norm: Annotated[bool, "on several GPUs, batch norms of encoders see the images of all"] = True

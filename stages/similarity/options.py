"""The options of CompRess's two methods: its own settings, and what its ablations change."""

import dataclasses
from typing import Annotated, Literal

from stages.errors import above_zero
from stages.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class SimilarityOptions(Recipe):
    """Similarity to which anchors, and how the student's are compared with the teacher's."""

    temperature: Annotated[float, "of both softmaxes; the paper uses 0.04, and 0.007 for SwAV teachers"] = 0.04
    queue_length: Annotated[int, "anchors in a memory bank"] = 128_000
    anchors: Annotated[
        Literal["queue", "minibatch"], "queue: those of the memory bank; minibatch: the other images of the batch"
    ] = "queue"
    divergence: Annotated[
        Literal["kl", "squared"], "kl: of the softmaxes; squared: mean squared difference of the cosine similarities"
    ] = "kl"
    warm_start: Annotated[bool, "leave out slots of the memory bank that no image has been written to yet"] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(temperature=self.temperature)

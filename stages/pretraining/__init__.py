"""Ways to train an encoder without a teacher, one module a method, each with ``Options`` and a `Pretraining`."""

from typing import Any

from stages.architectures import Encoder
from stages.training.objective import Objective


class Pretraining(Objective):
    """An objective built from a fresh encoder, the method's options and the number of classes in the dataset."""

    supervised = False
    """Whether it learns from the images' labels, of which there has to be one each."""

    def __init__(self, encoder: Encoder, options: Any, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.options = options

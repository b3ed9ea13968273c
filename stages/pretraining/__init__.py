"""Ways to train an encoder without a teacher, one module a method, each with ``Options`` and a `Pretraining`.

A method that learns from labels, of which each image has to have one, says ``LABELS = "one"``. One whose paper has an
augmentation of its own names it, ``AUGMENTATION = "simclr"``: images are varied by it unless the config says otherwise.
What of its `heads` a student may learn from, it says by ``HEADS``: a ``"projector"``, or ``"networks"``.
"""

from typing import Any

from stages.architectures import Encoder
from stages.training.objective import Objective


class Pretraining(Objective):
    """An objective built from a fresh encoder, the method's options and the number of classes in the dataset."""

    def __init__(self, encoder: Encoder, options: Any, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.options = options

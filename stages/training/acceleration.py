"""How an encoder's passes are computed: in bfloat16, or compiled. What they compute stays the same but for rounding."""

from torch import nn

from stages.architectures import encoders_in
from stages.training.recipe import TrainingRecipe


def accelerate(module: nn.Module, recipe: TrainingRecipe) -> None:
    """Run all encoders in ``module`` as the ``recipe`` says; their weights and the names of these stay as they are."""
    for encoder in encoders_in(module):
        encoder.autocast = recipe.bfloat16
        if recipe.compile:
            # By default a second size, as of an epoch's last batch, makes sizes symbolic, and from then on that slower
            # graph serves the first as well.
            encoder.backbone.compile(dynamic=False)

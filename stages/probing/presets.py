"""The linear evaluations of the literature, each by its authors' settings; all in batches of 256."""

import dataclasses

from stages.training.recipe import Recipe

BATCH_SIZE = 256

EPOCHS = {"compress": 40, "moco": 100, "swav": 100, "byol": 80, "simdis": 80}
"""Each preset's, apart from the others of its settings: the plan of a run reads them from this source."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """How a linear classifier is initialised and trained, and on what.

    ``standardised`` embeddings are l2-normalised, then shifted and scaled to zero mean and unit variance by the
    statistics of the train split's centre views; others are taken as they are. ``deviation`` is that of the weights'
    normal initialisation, with a bias of zero; without, it is torch's own. ``logits_normalised`` puts a batch norm
    after the classifier.
    """

    recipe: Recipe
    standardised: bool = False
    deviation: float | None = None
    logits_normalised: bool = False

    @property
    def features(self) -> str:
        """What the classifier sees and gives, in words."""
        seen = "l2-normalised, standardised by train" if self.standardised else "raw embeddings"
        return f"{seen}, batch norm on the logits" if self.logits_normalised else seen


PRESETS = {
    # CompRess (NeurIPS 2020), section 4.1; how the statistics are computed is from its eval_linear.py.
    "compress": Preset(
        Recipe(epochs=EPOCHS["compress"], batch_size=BATCH_SIZE, learning_rate=0.01, milestones=(15, 30), gamma=0.1),
        standardised=True,
    ),
    # MoCo's main_lincls.py.
    "moco": Preset(
        Recipe(
            epochs=EPOCHS["moco"],
            batch_size=BATCH_SIZE,
            learning_rate=30.0,
            weight_decay=0.0,
            milestones=(60, 80),
            gamma=0.1,
        ),
        deviation=0.01,
    ),
    # SwAV's eval_linear.py, 8 times 32 images a step; its cosine falls with every epoch, this one with every step.
    "swav": Preset(
        Recipe(epochs=EPOCHS["swav"], batch_size=BATCH_SIZE, learning_rate=0.3, weight_decay=1e-6, schedule="cosine"),
        deviation=0.01,
    ),
    # BYOL's configs/eval.py: 0.2 times the batch size over 256. It starts from a truncated normal of 1 / sqrt(D), here
    # from torch's uniform of 1 / sqrt(3 D).
    "byol": Preset(
        Recipe(
            epochs=EPOCHS["byol"],
            batch_size=BATCH_SIZE,
            learning_rate=0.2,
            nesterov=True,
            weight_decay=0.0,
            schedule="cosine",
        ),
    ),
    # SimDis's run_SimDis.py and linear_eval_exp_simDis.py, on one GPU: it multiplies the rate by their number.
    "simdis": Preset(
        Recipe(
            epochs=EPOCHS["simdis"], batch_size=BATCH_SIZE, learning_rate=0.001, weight_decay=0.0, schedule="cosine"
        ),
        deviation=0.01,
        logits_normalised=True,
    ),
}

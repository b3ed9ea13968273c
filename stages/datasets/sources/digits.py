"""scikit-learn's handwritten digits: 1,797 real images of 8 x 8 pixels, shipped with the package."""

import dataclasses
import io
from typing import TYPE_CHECKING, Annotated

from stages.datasets.sources import Split
from stages.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Options:
    val_images: Annotated[int, "images of the stratified val split; the others are the train split"] = 450
    split_seed: Annotated[int, "seed of the split"] = 0


def read(options: Options, split: str) -> Split:
    """The ``train`` or ``val`` part of a fixed stratified split, as grey-scale PNG files."""
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    classes, images = len(digits.target_names), len(digits.target)
    if not classes <= options.val_images <= images - classes:
        raise UserError(f"--val-images is {options.val_images}; expected {classes} to {images - classes}")
    train, val = train_test_split(
        np.arange(len(digits.target)),
        test_size=options.val_images,
        stratify=digits.target,
        random_state=options.split_seed,
    )
    rows = train if split == "train" else val
    files = [_png(digits.images[row]) for row in rows]
    return Split(
        classes=tuple(str(name) for name in digits.target_names),
        labels=digits.target[rows].astype(np.int64),
        sizes=np.array([len(file) for file in files]),
        images=iter(files),
    )


def _png(image: "NDArray[np.float64]") -> bytes:
    """An 8 x 8 image with values 0 to 16, as the bytes of a PNG file."""
    import numpy as np
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.rint(image * 255 / 16).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()

"""Random changes of colour and sharpness on a whole batch at once, where the model is, each image with its own draws.

The operations are torchvision's (`torchvision.transforms.v2.functional`), which takes one factor for all images; here
every image has its own. Chance is drawn on the CPU, so that it is the same whatever device the images are on.
"""

import dataclasses
import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from stages import processes


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Images [B, 3, H, W] in 0..1 times ``factor`` [B, 1, 1, 1]."""
    return (images * factor).clamp(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Images stretched by ``factor`` about their mean grey."""
    return grey(images).mean(dim=(1, 2, 3), keepdim=True).lerp(images, factor).clamp(0, 1)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Images stretched by ``factor`` about each pixel's grey."""
    return grey(images).lerp(images, factor).clamp(0, 1)


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Images with their hue turned by ``shift``, in whole turns; value and saturation stay."""
    value, largest = images.max(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    red, green, blue = images.split(1, dim=1)
    differences = torch.cat([green - blue, blue - red, red - green], dim=1)
    # In sixths of a turn from red; grey pixels have no chroma, and so whatever hue.
    sixths = differences.gather(1, largest) / torch.where(chroma > 0, chroma, 1) + 2 * largest
    distance = (_channels(images.device, 5.0, 3.0, 1.0) + sixths + 6 * shift).remainder(6)
    return value - chroma * torch.minimum(distance, 4 - distance).clamp(0, 1)


def grey(images: Tensor) -> Tensor:
    """The luma of images [B, 3, H, W], on three channels."""
    return (images * _channels(images.device, 0.2989, 0.587, 0.114)).sum(dim=1, keepdim=True).expand_as(images)


@functools.cache
def _channels(device: torch.device, *values: float) -> Tensor:
    """A number a channel [1, 3, 1, 1], copied to the device once: it is waited for in such a copy."""
    return torch.tensor(values, device=device).view(1, 3, 1, 1)


def blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Images under a Gaussian of ``sigma`` [B, 1, 1, 1] pixels, cut off at ``radius``; reflected at the borders."""
    count, channels, height, width = images.shape
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernels = torch.softmax(-0.5 * (offsets / sigma.view(-1, 1)) ** 2, dim=1)
    kernels = kernels.repeat_interleave(channels, dim=0)[:, None, None]
    padded = F.pad(images, [radius] * 4, mode="reflect").reshape(1, count * channels, height + 2 * radius, -1)
    rows = F.conv2d(padded, kernels, groups=count * channels)
    return F.conv2d(rows, kernels.transpose(2, 3), groups=count * channels).view(count, channels, height, width)


def solarize(images: Tensor) -> Tensor:
    """Images with all that is brighter than one half inverted."""
    return torch.where(images < 0.5, images, 1 - images)


@dataclasses.dataclass(frozen=True)
class Photometric:
    """Colour jitter, then greyscale, blur and solarisation, each with its probability.

    Factors are uniform, in 1 +- ``brightness`` (at least 0) and so on, shifts of hue in +- ``hue``; the four parts of
    the jitter come in random order.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    blur_radius: int
    jitter_probability: float = 0.8
    grey_probability: float = 0.2
    blur_probability: float = 0.5
    solarize_probability: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in 0..1 to changed ones."""
        changed, count = images.clone(), processes.whole(len(images))
        self._jitter(changed, _chosen(count, self.jitter_probability))
        _change(changed, _chosen(count, self.grey_probability), grey)
        blurred = _chosen(count, self.blur_probability)
        _change(changed, blurred, functools.partial(blur, radius=self.blur_radius), _uniform(blurred, *self.sigma))
        _change(changed, _chosen(count, self.solarize_probability), solarize)
        return changed

    def _jitter(self, images: Tensor, rows: Tensor) -> None:
        """Jitter the images in the whole batch's ``rows``, in place."""
        parts = [
            (brightness, _uniform(rows, max(0.0, 1 - self.brightness), 1 + self.brightness)),
            (contrast, _uniform(rows, max(0.0, 1 - self.contrast), 1 + self.contrast)),
            (saturation, _uniform(rows, max(0.0, 1 - self.saturation), 1 + self.saturation)),
            (hue, _uniform(rows, -self.hue, self.hue)),
        ]
        order = torch.rand(len(rows), len(parts)).argsort(dim=1)
        for place in range(len(parts)):
            for number, (part, factor) in enumerate(parts):
                now = order[:, place] == number
                _change(images, rows[now], part, factor[now])


def _chosen(count: int, probability: float) -> Tensor:
    """The rows, of ``count``, that something with this probability happens to."""
    return torch.nonzero(torch.rand(count) < probability)[:, 0]


def _uniform(rows: Tensor, low: float, high: float) -> Tensor:
    """A draw between ``low`` and ``high`` for each row."""
    return torch.rand(len(rows)) * (high - low) + low


def _change(images: Tensor, rows: Tensor, change: Callable[..., Tensor], *settings: Tensor) -> None:
    """Change the images in the whole batch's ``rows``, those that are here, in place, by ``settings`` [len(rows)]."""
    own = processes.own_rows(len(images))
    here = (rows >= own.start) & (rows < own.stop)
    if here.any():
        # Nothing is waited for: of small tensors in pageable memory, CUDA has a copy of its own when it returns.
        where = (rows[here] - own.start).to(images.device, non_blocking=True)
        chosen = (setting[here].to(images.device, non_blocking=True).view(-1, 1, 1, 1) for setting in settings)
        images[where] = change(images[where], *chosen)

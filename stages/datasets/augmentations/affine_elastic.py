"""Random affine maps, a smooth elastic warp and changes of ink: what handwriting varies in, on the whole batch at once.

For images without background, such as digits, where crops, flips and colour jitter destroy what is to be learned. The
elastic warp follows Simard et al., "Best Practices for Convolutional Neural Networks" (ICDAR 2003), with a coarse grid
of random shifts, smoothly interpolated.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from stages import processes
from stages.datasets.augmentations import Augmentation, squashed


class AffineElastic(Augmentation):
    """Rotation, scale, shear, shift, elastic warp, gamma, contrast and noise, one draw an image; outside is black."""

    sample_is_random = False
    transform = "resize"

    degrees = 20.0
    scale = (0.75, 1.25)
    shear = 0.2
    shift = 0.2
    """The largest shift, in image sides."""
    warp = 0.12
    """The largest elastic shift of a grid node, in half image sides."""
    warp_nodes = 4
    gamma = (0.6, 1.6)
    contrast = (0.6, 1.2)
    noise = 0.03
    """The largest standard deviation of the noise."""

    def sample(self, image: Tensor, view: int = 0) -> Tensor:
        return self.center(image)

    def center(self, image: Tensor, interpolation: str = "bilinear") -> Tensor:
        return squashed(image, self.size, interpolation)

    def batch(self, images: Tensor, view: int = 0) -> Tensor:
        moved = F.grid_sample(images, self._grid(images), mode="bilinear", padding_mode="zeros", align_corners=False)
        return self._inked(moved)

    def _grid(self, images: Tensor) -> Tensor:
        """Where each output pixel is read from, [B, S, S, 2] in -1..1."""
        angle = _uniform(images, -math.radians(self.degrees), math.radians(self.degrees))
        inverse_scale = 1 / _uniform(images, *self.scale)
        shear = _uniform(images, -self.shear, self.shear)
        shift = [_uniform(images, -2 * self.shift, 2 * self.shift) for _ in range(2)]
        cosine, sine = angle.cos() * inverse_scale, angle.sin() * inverse_scale
        rows = [
            torch.stack([cosine, shear * cosine - sine, shift[0]], dim=1),
            torch.stack([sine, shear * sine + cosine, shift[1]], dim=1),
        ]
        grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
        nodes = _uniform(images, -self.warp, self.warp, 2, self.warp_nodes, self.warp_nodes)
        warp = F.interpolate(nodes, size=images.shape[-2:], mode="bicubic", align_corners=True)
        return grid + warp.permute(0, 2, 3, 1)

    def _inked(self, images: Tensor) -> Tensor:
        """Random gamma, contrast and noise."""
        each = (1, 1, 1)
        curved = images.clamp(min=1e-4).pow(_uniform(images, *self.gamma, *each))
        scaled = curved * _uniform(images, *self.contrast, *each)
        noisy = scaled + _uniform(images, 0, self.noise, *each) * _drawn(torch.randn, images, *images.shape[1:])
        return noisy.clamp(0, 1)


def _uniform(like: Tensor, low: float, high: float, *shape: int) -> Tensor:
    """Draws between ``low`` and ``high``, [B, *shape]."""
    return _drawn(torch.rand, like, *shape) * (high - low) + low


def _drawn(draw: Callable[..., Tensor], like: Tensor, *shape: int) -> Tensor:
    """Draws for the images ``like``, [B, *shape]: made for the whole batch, of which these images' are taken."""
    whole = draw((processes.whole(len(like)), *shape), device=like.device, dtype=like.dtype)
    return whole[processes.own_rows(len(like))]

"""``timm/<name>``: any model of timm, as in ``timm/vit_small_patch14_dinov2``, with or without a tag after the name.

The model is without its classifier; the embedding is timm's own pooled one, such as a ViT's class token after the last
norm. Key names are timm's, and so is the initialisation. A model that is made for one input size is made for ours. Its
intermediate layers are those of timm's ``feature_info``, by timm's names: ``blocks.0`` of a ViT, ``stages.3`` of a
ConvNeXt.
"""

import difflib
import functools
from typing import Any

import timm
import torch
from torch import Tensor

from stages.architectures import Backbone
from stages.errors import UserError

PREFIX = "timm/"


def build(name: str, size: int) -> Backbone:
    model = name.removeprefix(PREFIX)
    if model == name or model not in {*timm.list_models(), *timm.list_models(include_tags=True)}:
        raise _unknown(name, model)
    cfg: Any = timm.get_pretrained_cfg(model)
    sized: dict[str, Any] = {"img_size": size} if cfg and cfg.fixed_input_size else {}
    try:
        backbone: Any = timm.create_model(model, num_classes=0, **sized)
        backbone.dimension, backbone.layer_paths = _dimension(backbone, size), _layer_paths(backbone)
        backbone.feature_map = functools.partial(_feature_map, backbone, name)
    except (ArithmeticError, AssertionError, IndexError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{name} cannot see images of {size} pixels ({reason}); choose another size") from error
    return backbone


@torch.no_grad()
def _dimension(backbone: Backbone, size: int) -> int:
    """The embeddings' length, tried on one black image: some sizes fail only here."""
    backbone.eval()
    (embedding,) = backbone(torch.zeros(1, 3, size, size))
    backbone.train()
    return len(embedding)


def _layer_paths(backbone: Any) -> dict[str, str]:
    """What timm calls the model's features; none of a model whose channels come last, where nobody looks for them."""
    if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        return {}
    modules = dict(backbone.named_modules())
    paths = [info["module"] for info in getattr(backbone, "feature_info", [])]
    return {path: path for path in paths if path in modules}


def _feature_map(backbone: Any, name: str, images: Tensor) -> Tensor:
    """timm's features before pooling, channels first, or a transformer's patch tokens laid out as they were cut."""
    height, width = images.shape[-2:]
    try:
        features: Tensor = backbone.forward_features(images)
        if features.ndim == 3:
            grid = backbone.patch_embed.dynamic_feat_size((height, width))
            features = features[:, backbone.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid)
    except (AssertionError, AttributeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{name} gives no feature map of {width} x {height} pixels ({reason}); choose one that takes any size"
        ) from error
    return features.permute(0, 3, 1, 2) if getattr(backbone, "output_fmt", "NCHW") == "NHWC" else features


def _unknown(name: str, model: str) -> UserError:
    """The error for a model that timm does not have, with the nearest ones named: all would be over a thousand."""
    known = timm.list_models(include_tags="." in model)
    nearest = difflib.get_close_matches(model.removeprefix("timm_"), known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(repr(PREFIX + each) for each in nearest)}? " if nearest else ""
    return UserError(
        f"unknown architecture {name!r}: {hint}expected {PREFIX}NAME with a NAME of timm {timm.__version__}, as "
        f"timm.list_models() lists them"
    )

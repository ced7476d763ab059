"""An optional frozen vision model from a local folder, whose patch features the region network sees beside its own.

Any model of transformers' `AutoModel` that answers pixel values with a `last_hidden_state` of square patches: ViT,
DINOv2, SigLIP's vision tower. Nothing is downloaded, and its weights are neither trained nor saved with the reward.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.checkpoint import model_files
from pipeline.models.revisions import revision_of
from schemas.errors import BadInput, MissingPackage

_MIDDLE_GRAY = [0.5, 0.5, 0.5]


class FrozenBackbone:
    """Patch features of a model in `folder`. channels: how many; revision: of its files.

    No `nn.Module`, so that its weights stay out of the reward's. Raises: BadInput where the folder holds no such model;
    MissingPackage without transformers.
    """

    def __init__(self, folder: Path) -> None:
        settings = _settings(folder)
        self.revision = revision_of(model_files(folder))
        self.model: nn.Module = _load(folder).eval().requires_grad_(False)
        shape: Any = self.model.config
        if not hasattr(shape, "image_size") or not hasattr(shape, "hidden_size"):
            raise BadInput(str(folder), "holds no vision model with image_size and hidden_size", "give a ViT or alike")
        self.side_px, self.channels = int(shape.image_size), int(shape.hidden_size)
        self._mean = torch.tensor(settings.get("image_mean", _MIDDLE_GRAY)).view(1, 3, 1, 1)
        self._std = torch.tensor(settings.get("image_std", _MIDDLE_GRAY)).view(1, 3, 1, 1)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """images (B, 3, S, S) in [0, 1] -> (B, channels, h, w), h = w patches a side."""
        size = (self.side_px, self.side_px)
        fitted = functional.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
        tokens: Tensor = self.model((fitted - self._mean) / self._std).last_hidden_state
        side = int(tokens.shape[1] ** 0.5)  # class and register tokens come first
        return tokens[:, -side * side :].transpose(1, 2).reshape(len(images), -1, side, side)


def _settings(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise BadInput(str(folder), "holds no config.json", "give the folder of a downloaded vision model")
    file = folder / "preprocessor_config.json"
    return dict(json.loads(file.read_bytes())) if file.is_file() else {}


def _load(folder: Path) -> nn.Module:
    try:
        from transformers import AutoModel  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise MissingPackage(
            "backbone", "needs transformers, which is not installed", "pip install transformers"
        ) from None
    try:
        model: nn.Module = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise BadInput(str(folder), f"holds no model that can be loaded: {error}", "give another folder") from None
    return model

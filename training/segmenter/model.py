"""A small Sam as training needs it: a sensible start, one decode for all prompts of a batch, the loss.

`Sam.forward` takes no gradients and the package's mask decoder takes one picture a call; `decode` does the same sums on
many pictures at once. Nothing is added to the model, so `SamPredictor` runs the result unchanged.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.sam_architectures import SamSizes, build_sam
from training.segmenter.batches import PromptBatch

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

#: Share of the loss that goes to the best of the three masks; the rest goes to all three, so that none is left behind.
BEST_SHARE = 0.8
_IOU_WEIGHT = 0.5
#: A thing's cross-entropy is counted by the area of its box, but not of a smaller one than this share of the picture.
_LEAST_BOX_SHARE = 0.02


def new_sam(sizes: SamSizes, seed: int) -> "Sam":
    """A Sam to be trained. Its positions start as waves: from zero, as the package has them, masks stay empty long."""
    torch.manual_seed(seed)
    sam = build_sam(sizes)
    with torch.no_grad():
        sam.image_encoder.pos_embed.copy_(0.1 * _waves(sizes.grid_cells, sizes.encoder_dim))
    return sam.train()


def _waves(cells: int, channels: int) -> Tensor:
    """Sines and cosines of the row and of the column: (1, cells, cells, channels)."""
    rates = torch.exp(torch.arange(channels // 4) * (-math.log(cells) / (channels // 4))) * math.pi
    angles = torch.arange(cells)[:, None] * rates
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = line[:, None].expand(-1, cells, -1), line[None].expand(cells, -1, -1)
    return torch.cat([rows, columns], dim=2)[None]


def sparse_prompts(sam: "Sam", boxes: Tensor, is_point: Tensor) -> Tensor:
    """Embedded prompts (N, 2, C), as the package embeds a box, or a point with its padding."""
    encoder = sam.prompt_encoder
    as_boxes, _ = encoder(points=None, boxes=boxes, masks=None)
    points = (boxes[:, None, :2], torch.ones(len(boxes), 1))
    as_points, _ = encoder(points=points, boxes=None, masks=None)
    return torch.where(is_point[:, None, None], as_points, as_boxes)


def decode(sam: "Sam", embeddings: Tensor, sparse: Tensor) -> tuple[Tensor, Tensor]:
    """(mask logits (B * P, 4, m, m), predicted IoU (B * P, 4)); mask 0 is the one for a single answer.

    embeddings: (B, C, h, w); sparse: (B * P, n, C), a picture's P prompts in a row.
    Source: segment_anything/modeling/mask_decoder.py, `predict_masks`, there for the prompts of one picture.
    """
    decoder = sam.mask_decoder
    answers = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([answers.expand(len(sparse), -1, -1), sparse], dim=1)
    dense = sam.prompt_encoder.no_mask_embed.weight[:, :, None, None]
    with torch.autocast("cpu", enabled=False):  # bf16 would blur where things are
        places = sam.prompt_encoder.get_dense_pe()
    pixels = (embeddings + dense).to(embeddings.dtype).repeat_interleave(len(sparse) // len(embeddings), dim=0)
    places = places.to(embeddings.dtype).expand(len(sparse), -1, -1, -1)
    tokens, attended = decoder.transformer(pixels, places, tokens)
    maps = decoder.output_upscaling(attended.transpose(1, 2).reshape(pixels.shape))
    networks = decoder.output_hypernetworks_mlps
    filters = torch.stack([network(tokens[:, 1 + index]) for index, network in enumerate(networks)], dim=1)
    masks = (filters @ maps.flatten(2)).unflatten(2, maps.shape[2:])
    return masks, decoder.iou_prediction_head(tokens[:, 0])


class Parts(NamedTuple):
    """The loss and what it is made of, each a mean over the prompts. iou: of the mask that the model rates best."""

    total: Tensor
    cross_entropy: Tensor
    dice: Tensor
    iou_error: Tensor
    iou: Tensor


def objective(masks: Tensor, rated: Tensor, targets: Tensor, dice_weight: float) -> Parts:
    """masks: (N, 4, m, m) logits; rated: (N, 4) predicted IoU; targets: (N, m, m) in [0, 1]. All fp32."""
    truth = targets[:, None].expand_as(masks)
    raw = functional.binary_cross_entropy_with_logits(masks, truth, reduction="none").sum(dim=(2, 3))
    cross_entropy = raw / _box_cells(targets)[:, None]
    shares = masks.sigmoid()
    common, both = (shares * truth).sum(dim=(2, 3)), shares.sum(dim=(2, 3)) + truth.sum(dim=(2, 3))
    dice = 1 - (2 * common + 1) / (both + 1)
    each = cross_entropy + dice_weight * dice
    best = each[:, 1:].min(dim=1).values
    shape = each[:, 0] + BEST_SHARE * best + (1 - BEST_SHARE) * each[:, 1:].mean(dim=1)
    ious = mask_ious(masks.detach(), targets)
    iou_error = (rated - ious).square().mean()
    chosen = ious[:, 1:].gather(1, rated[:, 1:].argmax(dim=1, keepdim=True)).mean()
    total = shape.mean() + _IOU_WEIGHT * iou_error
    return Parts(total, cross_entropy.mean(), dice.mean(), iou_error, chosen)


def mask_ious(masks: Tensor, targets: Tensor) -> Tensor:
    """IoU (N, 4) of the masks at 0 with the targets at one half; 1 where both are empty."""
    found, wanted = masks > 0, (targets >= 0.5)[:, None]
    union = (found | wanted).sum(dim=(2, 3))
    return torch.where(union > 0, (found & wanted).sum(dim=(2, 3)) / union.clamp(min=1), 1.0)


def _box_cells(targets: Tensor) -> Tensor:
    """The area (N,) in cells of each target's tight box, at least `_LEAST_BOX_SHARE` of the picture."""
    present = targets > 0
    height, width = present.any(dim=2).sum(dim=1), present.any(dim=1).sum(dim=1)
    return (height * width).clamp(min=_LEAST_BOX_SHARE * targets[0].numel())


def forward(sam: "Sam", batch: PromptBatch, *, bf16: bool) -> tuple[Tensor, Tensor]:
    """(mask logits (B * P, 4, m, m), predicted IoU (B * P, 4)), both fp32, of a batch's prompts."""
    sparse = sparse_prompts(sam, batch.boxes, batch.is_point)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        masks, rated = decode(sam, sam.image_encoder(batch.images), sparse)
    return masks.float(), rated.float()


def parameter_groups(sam: "Sam", weight_decay: float) -> list[dict[str, Any]]:
    """Matrices with weight decay; vectors, embeddings and positions without."""
    kept: list[Tensor] = []
    plain: list[Tensor] = []
    for name, parameter in sam.named_parameters():
        if name.startswith("prompt_encoder.mask_downscaling"):
            continue  # mask prompts are not used: these stay as they were drawn
        is_matrix = parameter.ndim >= 2 and "embed" not in name and "token" not in name and "rel_pos" not in name
        (kept if is_matrix or name.startswith("image_encoder.patch_embed.proj.weight") else plain).append(parameter)
    return [{"params": kept, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]

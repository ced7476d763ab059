"""The forward pass of segment-anything's Sam over several images and all their prompts at once, on its own modules.

The package encodes one image a call and decodes the prompts of one image a call. Here a batch of images goes through
the encoder, its attention computed blockwise instead of as one matrix, and prompts of several images go through prompt
encoder and mask decoder together. The figures are the package's up to rounding.

Notation: B images, P prompts, T tokens of a prompt, C prompt dimension, g grid cells a side, S pixels a side of the
encoder's input, m = 4 g. This module needs torch; `pipeline.models.sam` imports it only when a segmenter is made.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from segment_anything.modeling.image_encoder import (
    get_rel_pos,
    window_partition,
    window_unpartition,
)
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


def normalised(sam: "Sam", canvas_u8: Tensor, sizes_hw: Sequence[tuple[int, int]]) -> Tensor:
    """(B, 3, S, S) uint8 with the images in the upper left corner -> the encoder's input, zero outside the images."""
    images: Tensor = (canvas_u8 - sam.pixel_mean) / sam.pixel_std
    for image, (height, width) in zip(images, sizes_hw, strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
    return images


class ImageEncoder:
    """Sam's image encoder with blockwise attention: no matrix of all cells by all cells is ever in memory."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self._positions = [_relative_positions(block) for block in encoder.blocks]

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> embeddings (B, C, g, g)."""
        cells = self._encoder.patch_embed(images) + self._encoder.pos_embed  # (B, g, g, dim)
        for block, positions in zip(self._encoder.blocks, self._positions, strict=True):
            cells = _block(block, cells, positions)
        embeddings: Tensor = self._encoder.neck(cells.permute(0, 3, 1, 2))
        return embeddings


def _relative_positions(block: Any) -> tuple[Tensor, Tensor]:
    """Position embeddings (n, n, head dim) of every row for every row, and of every column for every column."""
    rows = (block.attn.rel_pos_h.shape[0] + 1) // 2
    columns = (block.attn.rel_pos_w.shape[0] + 1) // 2
    return get_rel_pos(rows, rows, block.attn.rel_pos_h), get_rel_pos(columns, columns, block.attn.rel_pos_w)


def _block(block: Any, cells: Tensor, positions: tuple[Tensor, Tensor]) -> Tensor:
    """One block of the encoder, (B, g, g, dim) -> the same shape."""
    height, width = cells.shape[1:3]
    attended = block.norm1(cells)
    if block.window_size > 0:
        attended, padded = window_partition(attended, block.window_size)
        attended = _attend(block.attn, attended, positions)
        attended = window_unpartition(attended, block.window_size, padded, (height, width))
    else:
        attended = _attend(block.attn, attended, positions)
    cells = cells + attended
    mixed: Tensor = cells + block.mlp(block.norm2(cells))
    return mixed


def _attend(attention: Any, cells: Tensor, positions: tuple[Tensor, Tensor]) -> Tensor:
    """Attention with decomposed relative positions as one scaled dot product, (B, h, w, dim) -> the same shape.

    q.k + row(q, k) + column(q, k) is the dot product of [q, row(q, .), column(q, .)] with [k, one-hot row of k, one-hot
    column of k]: with longer queries and keys the fused kernels need no bias matrix.
    """
    count, height, width, dim = cells.shape
    heads = attention.num_heads
    qkv = attention.qkv(cells).reshape(count, height * width, 3, heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = qkv.unbind(0)  # (B, heads, h w, head dim)
    at = query.reshape(count, heads, height, width, -1)
    by_row = torch.einsum("bnhwc,hkc->bnhwk", at, positions[0]).flatten(2, 3)
    by_column = torch.einsum("bnhwc,wkc->bnhwk", at, positions[1]).flatten(2, 3)
    places = _one_hot_places(height, width, key).expand(count, heads, -1, -1)
    long_query = torch.cat([query * attention.scale, by_row, by_column], dim=-1)
    long_key = torch.cat([key, places], dim=-1)
    long_value = functional.pad(value, (0, height + width))  # fused kernels want one length for all three
    out = functional.scaled_dot_product_attention(long_query, long_key, long_value, scale=1.0)[..., : value.shape[-1]]
    projected: Tensor = attention.proj(out.transpose(1, 2).reshape(count, height, width, dim))
    return projected


def _one_hot_places(height: int, width: int, like: Tensor) -> Tensor:
    """(h w, h + w): for each cell a one at its row and a one at its column."""
    rows = torch.eye(height, dtype=like.dtype, device=like.device).repeat_interleave(width, 0)
    columns = torch.eye(width, dtype=like.dtype, device=like.device).repeat(height, 1)
    return torch.cat([rows, columns], dim=-1)


def decode(sam: "Sam", embeddings: Tensor, image_of: Tensor, sparse: Tensor) -> tuple[Tensor, Tensor]:
    """Mask logits (P, 4, m, m) and predicted IoU (P, 4) of prompts of several images.

    embeddings: (B, C, g, g). image_of: (P,), the image of each prompt. sparse: (P, T, C) from the prompt encoder.
    The first mask is the one for prompts that are not ambiguous, the other three are for those that are.
    Source: segment_anything/modeling/mask_decoder.py, which takes the prompts of one image.
    """
    decoder, prompts = sam.mask_decoder, sparse.shape[0]
    queries = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])  # (1 + 4, C)
    tokens = torch.cat([queries.expand(prompts, -1, -1), sparse], dim=1)
    dense = sam.prompt_encoder.no_mask_embed.weight[..., None, None]  # (1, C, 1, 1)
    found, cells = decoder.transformer((embeddings + dense)[image_of], sam.prompt_encoder.get_dense_pe(), tokens)
    grid = embeddings.shape[-2:]
    upscaled = decoder.output_upscaling(cells.transpose(1, 2).unflatten(2, grid))  # (P, C / 8, m, m)
    weights = torch.stack(
        [network(found[:, 1 + mask]) for mask, network in enumerate(decoder.output_hypernetworks_mlps)], dim=1
    )
    logits = (weights @ upscaled.flatten(2)).unflatten(2, upscaled.shape[-2:])
    return logits, decoder.iou_prediction_head(found[:, 0])


def full_size(sam: "Sam", logits: Tensor, input_hw: tuple[int, int], image_hw: tuple[int, int]) -> Tensor:
    """Masks (P, H, W) bool at the image's size from logits (P, m, m) over the encoder's square input.

    Source: `Sam.postprocess_masks`, which does the same for three masks where one is wanted.
    """
    side = sam.image_encoder.img_size
    scaled = functional.interpolate(logits[:, None], (side, side), mode="bilinear", align_corners=False)
    scaled = scaled[..., : input_hw[0], : input_hw[1]]
    if input_hw != image_hw:
        scaled = functional.interpolate(scaled, image_hw, mode="bilinear", align_corners=False)
    masks: Tensor = scaled[:, 0] > sam.mask_threshold
    return masks


def to_host(tensor: Tensor) -> Tensor:
    """`tensor` on the CPU; from a GPU through page-locked memory, which is several times as fast."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return host

"""Masks of regions on the policy's token grid: the source's way through resize and crop, then shares of every token.

| symbol | here | meaning |
|---|---|---|
| N | `n_tokens` | target tokens of one image, row-major |
| K, R | | edit regions of a request; R = K + 1, the background is the last row |
| M | `masks` | (R, N), the share of each token that belongs to each region, 0..1 |
| n_r | `effective_tokens` | (sum M)^2 / sum M^2 |

Where edit regions overlap they share the token; the background is what they leave. A region without mass after the
crop is dropped and named. An edit of everything is one region over all tokens, and the background's row is empty.
Not here: the masks of a move are the union of the old and the new place, of something added its target box (the
request's business).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from runtime.masks import MaskBool
from schemas.errors import BadInput

#: Masses up to this, in tokens, are rounding and no region.
_NO_MASS = 1e-6
#: What FLUX.2 takes.
_MIN_SIDE_PX, _MAX_ASPECT = 64, 8


@dataclass(frozen=True)
class TokenGrid:
    """How a source comes to the policy's token grid: resized, then centre-cropped, then cut into square tokens.

    All in pixels: source_*: as it is; resized_*: after the resize; left, top: the crop's corner in the resized source;
    width, height: of the crop, multiples of `token_px`, and the size of what the policy makes.
    """

    source_width_px: int
    source_height_px: int
    resized_width_px: int
    resized_height_px: int
    left_px: int
    top_px: int
    width_px: int
    height_px: int
    token_px: int

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.height_px // self.token_px, self.width_px // self.token_px

    @property
    def n_tokens(self) -> int:
        """Tokens of the grid."""
        return math.prod(self.grid_hw)


def flux2_grid(width: int, height: int, token_px: int = 16, max_area: int = 1024**2) -> TokenGrid:
    """The grid of FLUX.2 for a source of `width` x `height` px.

    token_px: the side of a token, VAE scale times patch; max_area: in px, larger sources are scaled down to it.
    Raises: BadInput for a source that FLUX.2 refuses: a side under 64 px, or more than 8 times as long as wide.
    Source: diffusers, Flux2KleinPipeline.__call__ with Flux2ImageProcessor.
    """
    thing, sides = f"source of {width} x {height} px", (min(width, height), max(width, height))
    if sides[0] < _MIN_SIDE_PX:
        raise BadInput(thing, f"has a side under {_MIN_SIDE_PX} px", "use a larger source")
    if sides[1] > _MAX_ASPECT * sides[0]:
        raise BadInput(thing, f"is more than {_MAX_ASPECT} times as long as wide", "crop it")
    resized_width, resized_height = width, height
    if width * height > max_area:
        scale = math.sqrt(max_area / (width * height))
        resized_width, resized_height = int(width * scale), int(height * scale)
    kept_width, kept_height = resized_width // token_px * token_px, resized_height // token_px * token_px
    left, top = (resized_width - kept_width) // 2, (resized_height - kept_height) // 2
    return TokenGrid(width, height, resized_width, resized_height, left, top, kept_width, kept_height, token_px)


@dataclass(frozen=True)
class TokenMasks:
    """The regions of one request on its token grid.

    keys: K planned region ids, in the order they were given; masks: (K + 1, N) float32, rows as keys, then the
    background; grid_hw: rows and columns of tokens; dropped: keys of regions that have no mass there.
    """

    keys: tuple[str, ...]
    masks: Float32[Tensor, "R N"]
    grid_hw: tuple[int, int]
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class RegionBatch:
    """The regions of B rollouts, padded to the most regions and the most tokens among them.

    masks: (B, R, N) float32, 0 for padding; the last of the R rows is the background of every rollout, so row r is
    edit region r. tokens: (B, N) bool, False for padding tokens.
    """

    masks: Float[Tensor, "B R N"]
    tokens: Bool[Tensor, "B N"]

    @property
    def mass(self) -> Float[Tensor, "B R"]:
        """(B, R): tokens of each region, sum_N M."""
        return self.masks.sum(dim=-1)

    @property
    def valid(self) -> Bool[Tensor, "B R"]:
        """(B, R) bool: False where a rollout has no such region, or no background."""
        return self.mass > _NO_MASS

    @property
    def edit_share(self) -> Float[Tensor, "B N"]:
        """(B, N): the share of each token that belongs to edit regions."""
        return self.masks[:, :-1].sum(dim=1)

    def to(self, device: torch.device | str) -> "RegionBatch":
        """The same on another device."""
        return RegionBatch(self.masks.to(device), self.tokens.to(device))


def token_masks(masks: Mapping[str, MaskBool], grid: TokenGrid) -> TokenMasks:
    """The token masks of edit regions.

    masks: planned region id -> (H, W) bool in the source frame, at the source's own size.
    Raises: BadInput where there is no mask, or one is not bool or of another size than the source.
    """
    if not masks:
        raise BadInput("token masks", "no region is given", "give one; an edit of everything is a mask of everything")
    for key, mask in masks.items():
        _check(key, mask, grid)
    shares = torch.stack([area_average(mask, grid).flatten() for mask in masks.values()])
    kept = shares.sum(dim=1) > _NO_MASS
    edits = shares[kept] / shares.sum(dim=0).clamp(min=1)
    background = (1 - edits.sum(dim=0)).clamp(0, 1)
    if background.sum() <= _NO_MASS:
        background = torch.zeros_like(background)
    keys = tuple(key for key, has_mass in zip(masks, kept.tolist(), strict=True) if has_mass)
    dropped = tuple(key for key in masks if key not in keys)
    return TokenMasks(keys, torch.cat([edits, background[None]]).float(), grid.grid_hw, dropped)


def area_average(mask: MaskBool, grid: TokenGrid) -> Float64[Tensor, "rows columns"]:
    """The share of every token that the mask covers: (rows, columns) float64, 0..1.

    Exact areas: a token's square is taken back through crop and resize to the source, where the mask is. The policy's
    own resampling filter would smear the mask beyond its edge, and make shares below 0 and above 1.
    """
    rows, columns = grid.grid_hw
    tall = _shares(rows, grid.top_px, grid.token_px, grid.source_height_px, grid.resized_height_px)
    wide = _shares(columns, grid.left_px, grid.token_px, grid.source_width_px, grid.resized_width_px)
    return tall @ torch.from_numpy(mask).double() @ wide.T


def batched(samples: Sequence[TokenMasks]) -> RegionBatch:
    """The regions of several rollouts, one entry a rollout, padded with empty rows and empty tokens."""
    n_edits = max(len(sample.keys) for sample in samples)
    n_tokens = max(sample.masks.shape[1] for sample in samples)
    masks, tokens = torch.zeros(len(samples), n_edits + 1, n_tokens), torch.zeros(len(samples), n_tokens)
    for i, sample in enumerate(samples):
        own = sample.masks.shape[1]
        masks[i, : len(sample.keys), :own] = sample.masks[:-1]
        masks[i, -1, :own] = sample.masks[-1]
        tokens[i, :own] = 1
    return RegionBatch(masks, tokens.bool())


def effective_tokens(masks: Float[Tensor, "*S N"]) -> Float[Tensor, "*S"]:
    """n_r = (sum M)^2 / sum M^2 of every region; 0 where it is empty. Shapes: (..., N) -> (...)."""
    return masks.sum(dim=-1).square() / masks.square().sum(dim=-1).clamp(min=_NO_MASS)


def _shares(
    n: int, start_px: int, token_px: int, source_px: int, resized_px: int
) -> Float64[Tensor, "{n} {source_px}"]:
    """(n, source_px): what share of each of n tokens along one axis each source pixel fills; rows sum to 1."""
    edges = (start_px + token_px * torch.arange(n + 1, dtype=torch.float64)) * (source_px / resized_px)
    pixels = torch.arange(source_px, dtype=torch.float64)
    ends = torch.minimum(edges[1:, None], pixels + 1)
    overlaps = (ends - torch.maximum(edges[:-1, None], pixels)).clamp(min=0)
    return overlaps / (edges[1:] - edges[:-1])[:, None]


def _check(key: str, mask: MaskBool, grid: TokenGrid) -> None:
    """Raises: BadInput where the mask is not what `token_masks` says."""
    expected = (grid.source_height_px, grid.source_width_px)
    if mask.dtype != bool:
        raise BadInput(f"mask of region {key}", f"is {mask.dtype}, not bool", "compare it with a threshold first")
    if mask.shape != expected:
        raise BadInput(f"mask of region {key}", f"is {mask.shape}, not {expected}", "give it in the source frame")

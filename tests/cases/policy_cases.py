"""Made-up rollouts and regions that the tests of the policy's losses share."""

import numpy as np
import torch

from runtime.masks import MaskBool
from training.policy.token_masks import RegionBatch, TokenGrid, TokenMasks, batched, flux2_grid, token_masks

#: A grid of 8 x 8 tokens of 8 px.
GRID = flux2_grid(64, 64, token_px=8)


def box(x1: int, y1: int, x2: int, y2: int, grid: TokenGrid = GRID) -> MaskBool:
    """A filled box in the grid's source, in pixels."""
    mask = np.zeros((grid.source_height_px, grid.source_width_px), dtype=np.bool_)
    mask[y1:y2, x1:x2] = True
    return mask


def two_regions() -> TokenMasks:
    """A region of 2 x 3 tokens and one of 1 x 1, that fill their tokens, and the background."""
    return token_masks({"a": box(8, 8, 32, 24), "b": box(48, 48, 56, 56)}, GRID)


def everything(n_rollouts: int) -> RegionBatch:
    """One region over all tokens, for each of so many rollouts."""
    return batched([token_masks({"all": box(0, 0, 64, 64)}, GRID)] * n_rollouts)


def random(seed: int, *shape: int) -> torch.Tensor:
    """Standard normal float32, the same every time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

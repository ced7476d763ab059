"""The interface of a policy to the training loop: an editing model that samples a flow from noise to the edited image.

| symbol | meaning |
|---|---|
| x | noisy latents of the target, tokens (B, N, C) |
| sigma | noise level, 1 at the start, 0 at the end |
| v | velocity, noise minus clean latents, (B, N, C) |
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from runtime.images import ImageU8
from training.policy.edit_cases import PolicyCase
from training.policy.token_masks import TokenGrid

#: What `Conditioning` has a row of for each request.
_BY_REQUEST = ("text", "text_at", "source", "source_at", "target_at")


@dataclass(frozen=True)
class Conditioning:
    """What a policy sees besides the noisy latents, encoded once for each of G requests of one token grid.

    text: (G, L, D); source: (G, S, C), the source's tokens; text_at, target_at, source_at: (G, tokens, 4), positions;
    no_text: (1, L, D), the empty instruction for guidance, or None; grid: how a source is cropped and tokenised.
    """

    text: Tensor
    text_at: Tensor
    source: Tensor
    source_at: Tensor
    target_at: Tensor
    no_text: Tensor | None
    grid: TokenGrid

    @property
    def tokens(self) -> int:
        """Target tokens a sample, N."""
        return self.target_at.shape[1]

    @property
    def channels(self) -> int:
        """Channels of a token, C."""
        return self.source.shape[2]

    def take(self, rows: Tensor) -> "Conditioning":
        """The requests at these rows (B,), which may repeat: one row for each rollout."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _BY_REQUEST})


def joined(parts: Sequence[Conditioning]) -> Conditioning:
    """Concatenates requests of one token grid that were encoded in parts."""
    if len(parts) == 1:
        return parts[0]
    rows: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in _BY_REQUEST}
    return replace(parts[0], **rows)


class Policy(Protocol):
    """An editing model in training. name, revision: what its candidates are recorded with; synthetic: a toy."""

    name: str
    revision: str
    synthetic: bool

    def token_grid(self, width_px: int, height_px: int) -> TokenGrid:
        """How a source of this size is scaled and cropped, and its token grid. Raises: BadInput where it is refused."""
        ...

    def sigmas(self, steps: int, tokens: int) -> Tensor:
        """The noise levels of a sampling with `steps` steps: (steps + 1,) float32, 1 first, 0 last."""
        ...

    def encode(self, cases: Sequence[PolicyCase]) -> Conditioning:
        """What the policy sees of requests whose sources share one token grid; no gradient flows into it."""
        ...

    def velocity(self, x: Tensor, sigma: Tensor, seen: Conditioning) -> Tensor:
        """The guidance-combined velocity (B, N, C) float32. x: (B, N, C) float32; sigma: (B,); seen: B rows."""
        ...

    def decode(self, x: Tensor, grid: TokenGrid) -> list[ImageU8]:
        """Clean latents (B, N, C) as images, HWC uint8 RGB, in the size of the grid's crop."""
        ...

    def reference(self) -> AbstractContextManager[None]:
        """Context in which `velocity` is that of the policy before training; no second copy is held."""
        ...

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name."""
        ...

"""Parts of the region network: encoders of images and instruction, attention across images, pooling on masks."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.reward.text_encoding import BUCKETS


def as_cells(maps: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C), a view where the maps are channels-last."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


def pooled(cells: Tensor, weights: Tensor) -> Tensor:
    """The mean of each channel under each weight: (B, N, C) from cells (B, h * w, C) and weights (B, N, h, w) >= 0.

    A weight without mass gives 0.
    """
    flat = weights.flatten(2)
    share = flat / flat.sum(dim=2, keepdim=True).clamp(min=1e-6)
    return torch.bmm(share, cells)


def spread(cells: Tensor, weights: Tensor, mean: Tensor) -> Tensor:
    """The standard deviation of each channel under each weight, about its `mean` there; shapes as `pooled`."""
    return (pooled(cells.square(), weights) - mean.square()).clamp(min=1e-6).sqrt()


def conv_block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution, group normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.GroupNorm(4, outputs), nn.ReLU(inplace=True)
    )


class SharedEncoder(nn.Module):
    """One image to features at 1/4 and 1/8 of its side; the same weights for source and edited."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.near = conv_block(12, channels, stride=2)
        self.deep = conv_block(channels, channels, stride=2)

    def forward(self, unshuffled: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 12, S/2, S/2) -> (B, C, S/4, S/4), (B, C, S/8, S/8)."""
        near = self.near(unshuffled)
        return near, self.deep(near)


class CrossAttention(nn.Module):
    """Every place of the edited image looks for its like in the source, wherever that is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.out = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, edited: Tensor, source: Tensor) -> Tensor:
        """edited, source (B, C, h, w) -> (B, C, h, w)."""
        query, key, value = (
            layer(x).flatten(2).transpose(1, 2)
            for layer, x in ((self.query, edited), (self.key, source), (self.value, source))
        )
        found = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(edited.shape)
        return functional.relu(self.out(torch.cat([edited, found - edited], dim=1)))


class InstructionEncoder(nn.Module):
    """Hashed words to features: each word itself, and its context from both sides."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(BUCKETS, size, mode="sum", padding_idx=0)
        self.context = nn.GRU(size, size, batch_first=True, bidirectional=True)

    def forward(self, words: Tensor) -> Tensor:
        """words (B, T, PARTS) -> (B, T, 3 * size)."""
        batch, length, parts = words.shape
        own = self.table(words.reshape(-1, parts)).view(batch, length, -1)
        return torch.cat([own, self.context(own)[0]], dim=-1)


def upsampled_twice(cells: Tensor, shape: torch.Size) -> Tensor:
    """Cells of a grid of `shape` (h, w), each repeated to 2 x 2."""
    height, width = shape
    grid = cells.reshape(len(cells), height, 1, width, 1, -1)
    return grid.expand(-1, -1, 2, -1, 2, -1).reshape(len(cells), 4 * height * width, -1)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two linear layers with a GELU between them."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))

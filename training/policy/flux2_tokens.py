"""FLUX.2's tokens: latents packed two by two, their positions, and the batch statistics that they are scaled by.

One token is one position of the latent grid, row by row. Target tokens come first, then those of the source (their
first position is 10). Same numbers as diffusers' `Flux2KleinPipeline`, which a test holds to.
"""

import torch
from diffusers import AutoencoderKLFlux2
from torch import Tensor

#: The first of the four positions of a token of the first reference image; the target's is 0.
REFERENCE_TIME = 10


def pack(latents: Tensor) -> Tensor:
    """Latents (B, C, 2h, 2w) as tokens (B, h*w, 4C), row by row."""
    batch, channels, height, width = latents.shape
    folded = latents.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return folded.reshape(batch, (height // 2) * (width // 2), 4 * channels)


def unpack(tokens: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Tokens (B, h*w, 4C) as latents (B, C, 2h, 2w)."""
    (height, width), batch, channels = grid_hw, tokens.shape[0], tokens.shape[2] // 4
    folded = tokens.reshape(batch, height, width, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return folded.reshape(batch, channels, 2 * height, 2 * width)


def image_positions(grid_hw: tuple[int, int], time: int = 0) -> Tensor:
    """Positions (h*w, 4) of the tokens of one image: time, row, column, 0."""
    height, width = grid_hw
    return torch.cartesian_prod(torch.tensor([time]), torch.arange(height), torch.arange(width), torch.tensor([0]))


def text_positions(length: int) -> Tensor:
    """Positions (length, 4) of the tokens of a text: 0, 0, 0, place."""
    zero = torch.tensor([0])
    return torch.cartesian_prod(zero, zero, zero, torch.arange(length))


def encode_images(vae: AutoencoderKLFlux2, pixels: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1] as scaled tokens (B, N, 4C): the posterior's mean, nothing random."""
    tokens = pack(vae.encode(pixels.to(vae.dtype)).latent_dist.mode())
    mean, std = token_scale(vae)
    return (tokens - mean.to(tokens.dtype)) / std.to(tokens.dtype)


def decode_tokens(vae: AutoencoderKLFlux2, tokens: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Scaled tokens (B, N, 4C) as images (B, 3, H, W), about [-1, 1], not clipped."""
    mean, std = token_scale(vae)
    tokens = tokens.to(vae.dtype)
    shown: Tensor = vae.decode(unpack(tokens * std.to(tokens.dtype) + mean.to(tokens.dtype), grid_hw)).sample
    return shown


def token_scale(vae: AutoencoderKLFlux2) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of a packed latent, (4C,) each, as its batch norm keeps them."""
    mean = vae.bn.running_mean
    std = torch.sqrt(vae.bn.running_var + vae.config.batch_norm_eps)
    return mean, std

"""Trains the tiny VAE on plain scenes: FLUX.2's autoencoder with 16 latent channels, one latent per 8 px.

The mean error alone leaves a flat colour for minutes (15 dB): the latents start out as noise that the decoder learns to
ignore. So there is next to no pull towards the unit Gaussian (`KL_WEIGHT`), the posterior's mean is decoded with a
little fixed noise, and the batch statistics of the packed latents are measured at the end, as FLUX.2 keeps them.
"""

import logging
import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2
from torch import Tensor
from torch.nn import functional

from runtime.images import ImageU8
from training.policy.edit_cases import plain_case

log = logging.getLogger(__name__)

LATENT_CHANNELS = 16
LATENT_NOISE = 0.05
LATENT_PULL = 1e-4


def new_vae() -> AutoencoderKLFlux2:
    """An untrained tiny VAE, about a million parameters."""
    return AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def as_pixels(images: Sequence[ImageU8]) -> Tensor:
    """HWC uint8 images of one size as (B, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def psnr_db(images: Tensor, others: Tensor) -> float:
    """Mean over images of the peak signal-to-noise ratio, both (B, 3, H, W) in [-1, 1], in dB."""
    mse = ((images - others.clamp(-1, 1)) / 2).square().flatten(1).mean(1)
    return float((-10 * torch.log10(mse.clamp_min(1e-10))).mean())


def train_vae(
    images: Tensor, held_out: Tensor, steps: int, batch: int, lr: float, seed: int, *, bf16: bool = True
) -> AutoencoderKLFlux2:
    """A VAE fitted to uint8 images (N, 3, H, W); logs the PSNR on `held_out` (the same) as it goes.

    bf16: under autocast, which pays only where the processor has bfloat16; elsewhere a convolution takes 30 times as
    long.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    vae = new_vae().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    started = time.monotonic()
    for step in range(steps):
        picked = torch.randint(len(images), (batch,), generator=generator)
        pixels = (images[picked].float() / 127.5 - 1).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            mean = vae.encode(pixels).latent_dist.mean
            noisy = mean + LATENT_NOISE * torch.randn(mean.shape, generator=generator)
            shown = vae.decode(noisy).sample
        shown = shown.float()
        loss = functional.mse_loss(shown, pixels) + 0.2 * functional.l1_loss(shown, pixels)
        loss = loss + LATENT_PULL * mean.float().square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            log.info(
                "vae step %d loss %.5f held out %.2f dB %.0f s",
                step, loss.item(), held_out_psnr_db(vae, held_out), time.monotonic() - started,
            )  # fmt: skip
    return vae.eval()


def held_out_psnr_db(vae: AutoencoderKLFlux2, images: Tensor) -> float:
    """PSNR of the reconstruction of uint8 images (N, 3, H, W), in dB."""
    pixels = images.float() / 127.5 - 1
    with torch.inference_mode():
        shown = vae.decode(vae.encode(pixels).latent_dist.mean).sample
    return psnr_db(pixels, shown)


def _rate(step: int, steps: int) -> float:
    """A short warm-up, then half a cosine down to a fiftieth."""
    return min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def scene_pixels(seed: int, start: int, count: int) -> Tensor:
    """Sources and goals of plain scenes as uint8 (2 x count, 3, H, W)."""
    images: list[ImageU8] = []
    for index in range(start, start + count):
        case = plain_case(seed, index)
        images += [case.source, case.source if case.wanted is None else case.wanted]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()

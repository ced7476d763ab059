"""Pretrains the tiny policy on plain scenes: `python -m training.policy.tiny.pretrain --out FOLDER`.

First the VAE, then transformer and text encoder together by flow matching: from noise to the latents of the goal, given
the latents of the source and the instruction. Positions inside an asked region count more (`EDIT_WEIGHT`), for they are
few and all the rest is copying. A VAE that is there is not trained again. Not trained to perfection, on purpose:
reinforcement learning shall have something to improve.
"""

import argparse
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2
from torch import Tensor
from transformers import Qwen2TokenizerFast, Qwen3ForCausalLM

from runtime.files import write_whole
from training.policy.edit_cases import PolicyCase, plain_case
from training.policy.flux2 import flux2_velocity
from training.policy.flux2_tokens import REFERENCE_TIME, encode_images, image_positions, pack, text_positions
from training.policy.protocol import Conditioning
from training.policy.tiny.model import as_pipeline, new_transformer
from training.policy.tiny.text import TEXT_LAYERS, TEXT_TOKENS, new_text_encoder, new_tokenizer
from training.policy.tiny.vae import as_pixels, held_out_psnr_db, scene_pixels, train_vae
from training.policy.token_masks import flux2_grid

log = logging.getLogger(__name__)

#: Seeds of scenes: the VAE's, the flow's, and those that both are measured on.
VAE_SEED, TRAIN_SEED, HELD_OUT_SEED = 1, 31, 32
#: Scenes of the flow's that the VAE's batch statistics are taken from.
SCALE_SCENES = 256
EDIT_WEIGHT = 4.0
_GRID = (8, 8)


@dataclass(frozen=True)
class PretrainSettings:
    """Sizes of a pretraining. scenes: requests to learn from; steps and batch of the VAE and of the flow.

    held_out_scenes: to measure with, half of them for the VAE; tokenizer_scenes: whose words the tokenizer reads.
    bf16: whether the VAE computes in bfloat16 while weights stay float32.
    """

    scenes: int = 12_000
    held_out_scenes: int = 64
    tokenizer_scenes: int = 1_000
    vae_scenes: int = 2_000
    vae_steps: int = 1_500
    vae_batch: int = 16
    vae_learning_rate: float = 2.5e-3
    flow_steps: int = 7_000
    flow_batch: int = 32
    flow_learning_rate: float = 1.5e-3
    bf16: bool = True
    seed: int = 0


@dataclass(frozen=True)
class FlowData:
    """Plain scenes as numbers. source, goal: (n, N, C) tokens; words: (n, L) ids; in_region: (n, N) in [0, 1]."""

    source: Tensor
    goal: Tensor
    words: Tensor
    in_region: Tensor


def flow_data(
    vae: AutoencoderKLFlux2, tokenizer: Qwen2TokenizerFast, seed: int, start: int, count: int, *, bf16: bool = True
) -> FlowData:
    """Encodes `count` plain scenes of a seed."""
    parts = []
    for first in range(start, start + count, 64):
        cases = [plain_case(seed, index) for index in range(first, min(first + 64, start + count))]
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            source = encode_images(vae, as_pixels([case.source for case in cases]))
            goal = encode_images(vae, as_pixels([case.wanted for case in cases if case.wanted is not None]))
        parts.append((source, goal, word_ids(tokenizer, cases), torch.stack([_in_region(case) for case in cases])))
    source, goal, words, in_region = (torch.cat(part).clone() for part in zip(*parts, strict=True))
    return FlowData(source.float(), goal.float(), words, in_region)


def word_ids(tokenizer: Qwen2TokenizerFast, cases: list[PolicyCase]) -> Tensor:
    """Ids (n, L) of the instructions, padded at their ends."""
    texts = [case.request.instruction for case in cases]
    read = tokenizer(texts, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt")
    ids: Tensor = read["input_ids"]
    return ids


def _in_region(case: PolicyCase) -> Tensor:
    """Share of each token (N,) that an asked region covers."""
    union = torch.zeros(case.source.shape[:2])
    for mask in case.masks.values():
        union = torch.maximum(union, torch.from_numpy(mask).float())
    return torch.nn.functional.adaptive_avg_pool2d(union[None], _GRID).flatten()


def text_states(text_encoder: Qwen3ForCausalLM, words: Tensor, end: int) -> Tensor:
    """Hidden states (B, L, D) as klein's pipeline takes them, with their gradient."""
    lengths = (words != end).sum(dim=1, keepdim=True)
    real = torch.arange(words.shape[1]) < lengths
    out = text_encoder(input_ids=words, attention_mask=real.long(), output_hidden_states=True, use_cache=False)
    return torch.cat([out.hidden_states[k] for k in TEXT_LAYERS], dim=-1)


def measure_token_scale(vae: AutoencoderKLFlux2, images: Tensor) -> None:
    """Fills the VAE's batch statistics with those of the packed latents of uint8 images (N, 3, H, W)."""
    with torch.inference_mode():
        batches = [images[first : first + 64] for first in range(0, len(images), 64)]
        tokens = torch.cat([pack(vae.encode(part.float() / 127.5 - 1).latent_dist.mean) for part in batches])
    flat = tokens.flatten(0, 1)
    vae.bn.running_mean.copy_(flat.mean(0))
    vae.bn.running_var.copy_(flat.var(0))


def positions(rows: int) -> dict[str, Any]:
    """Everything of a `Conditioning` but its text and source, for `rows` plain scenes."""
    side_px = 16 * _GRID[0]
    return {
        "text_at": text_positions(TEXT_TOKENS).expand(rows, -1, -1),
        "target_at": image_positions(_GRID).expand(rows, -1, -1),
        "source_at": image_positions(_GRID, REFERENCE_TIME).expand(rows, -1, -1),
        "no_text": None,
        "grid": flux2_grid(side_px, side_px, token_px=16),
    }


def train_flow(
    data: FlowData,
    held_out: FlowData,
    tokenizer: Qwen2TokenizerFast,
    settings: PretrainSettings,
    on_step: Callable[[int, Any, Any], None] = lambda *_: None,
) -> tuple[Any, Qwen3ForCausalLM]:
    """Transformer and text encoder fitted to `data` by flow matching; logs the held-out loss as it goes."""
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    transformer, text_encoder = new_transformer().train(), new_text_encoder(tokenizer).train()
    parameters = [*transformer.parameters(), *text_encoder.parameters()]
    rate = settings.flow_learning_rate
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings.flow_steps))
    end = int(tokenizer.convert_tokens_to_ids(tokenizer.pad_token))
    started = time.monotonic()
    for step in range(settings.flow_steps):
        rows = torch.randint(len(data.goal), (settings.flow_batch,), generator=generator)
        loss = flow_loss(transformer, text_encoder, data, rows, generator, end).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        on_step(step + 1, transformer, text_encoder)
        if step % 250 == 0 or step == settings.flow_steps - 1:
            with torch.inference_mode():
                fixed = torch.Generator().manual_seed(0)
                rows = torch.arange(min(64, len(held_out.goal)))
                seen = flow_loss(transformer, text_encoder, held_out, rows, fixed, end)
            inside = (seen * held_out.in_region[rows]).sum() / held_out.in_region[rows].sum() / EDIT_WEIGHT
            log.info(
                "flow step %d loss %.4f held out %.4f inside %.4f %.0f s",
                step, loss.item(), seen.mean().item(), inside.item(), time.monotonic() - started,
            )  # fmt: skip
    return transformer.eval(), text_encoder.eval()


def flow_loss(
    transformer: Any, text_encoder: Any, data: FlowData, rows: Tensor, generator: torch.Generator, end: int
) -> Tensor:
    """Weighted squared error of the velocity at every position, (B, N). Noise levels: more of the high ones."""
    goal = data.goal[rows]
    noise = torch.randn(goal.shape, generator=generator)
    sigma = torch.rand(len(rows), generator=generator).sqrt()
    at = sigma[:, None, None]
    text = text_states(text_encoder, data.words[rows], end)
    seen = Conditioning(text=text, source=data.source[rows], **positions(len(rows)))
    v = flux2_velocity(transformer, (1 - at) * goal + at * noise, sigma, seen, text)
    weight = 1 + (EDIT_WEIGHT - 1) * data.in_region[rows]
    return (v - (noise - goal)).square().mean(dim=-1) * weight


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def pretrain(out: Path, settings: PretrainSettings) -> dict[str, Any]:
    """Trains what is not there yet and writes the policy's folder; returns how it was made."""
    out.mkdir(parents=True, exist_ok=True)
    held_out_images = scene_pixels(HELD_OUT_SEED, 0, settings.held_out_scenes // 2)
    if (out / "vae" / "config.json").is_file():
        vae = AutoencoderKLFlux2.from_pretrained(str(out / "vae")).eval()
    else:
        images = scene_pixels(VAE_SEED, 0, settings.vae_scenes)
        vae = train_vae(
            images,
            held_out_images,
            settings.vae_steps,
            settings.vae_batch,
            settings.vae_learning_rate,
            settings.seed,
            bf16=settings.bf16,
        )
        measure_token_scale(vae, scene_pixels(TRAIN_SEED, 0, min(SCALE_SCENES, settings.scenes)))
        vae.save_pretrained(str(out / "vae"))
    psnr_db = held_out_psnr_db(vae, held_out_images)
    tokenizer = new_tokenizer(TRAIN_SEED, settings.tokenizer_scenes)
    started = time.monotonic()
    data = flow_data(vae, tokenizer, TRAIN_SEED, 0, settings.scenes, bf16=settings.bf16)
    held_out = flow_data(vae, tokenizer, HELD_OUT_SEED, 0, settings.held_out_scenes, bf16=settings.bf16)
    log.info("%d scenes in %.0f s, VAE %.2f dB", settings.scenes, time.monotonic() - started, psnr_db)
    transformer, text_encoder = train_flow(data, held_out, tokenizer, settings)
    as_pipeline(vae, text_encoder, tokenizer, transformer).save_pretrained(str(out))
    made = {"vae_held_out_psnr_db": round(psnr_db, 2), "settings": vars(settings)}
    write_whole(out / "made.json", json.dumps(made, indent=1, sort_keys=True) + "\n")
    return made


def main() -> None:
    """Pretrains the tiny policy."""
    parser = argparse.ArgumentParser(prog="python -m training.policy.tiny.pretrain", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(json.dumps(pretrain(parser.parse_args().out, PretrainSettings())))


if __name__ == "__main__":
    main()

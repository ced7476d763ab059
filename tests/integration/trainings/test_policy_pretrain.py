"""The pretraining of the tiny policy, in minimal sizes: what it is made of, and that it learns at all."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from training.policy.edit_cases import plain_case
from training.policy.flux2 import flux2_velocity
from training.policy.protocol import Conditioning
from training.policy.registry import make_policy
from training.policy.tiny.model import new_transformer
from training.policy.tiny.pretrain import PretrainSettings, flow_data, positions, pretrain, text_states, train_flow
from training.policy.tiny.text import new_text_encoder, new_tokenizer
from training.policy.tiny.vae import held_out_psnr_db, new_vae, psnr_db, scene_pixels, train_vae

MINIMAL = PretrainSettings(
    scenes=2, held_out_scenes=2, tokenizer_scenes=20, vae_scenes=1, vae_steps=1, vae_batch=1, flow_steps=2,
    flow_batch=2, bf16=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def minimal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pretraining in minimal sizes."""
    folder = tmp_path_factory.mktemp("minimal")
    pretrain(folder, MINIMAL)
    return folder


def test_a_pretraining_ends_in_a_policy_that_can_be_loaded(minimal: Path, tmp_path: Path) -> None:
    made = json.loads((minimal / "made.json").read_bytes())
    shutil.copytree(minimal, tmp_path, dirs_exist_ok=True)
    assert made["settings"] == asdict(MINIMAL)
    policy = make_policy(f"tiny:{tmp_path}", rank=2, alpha=4)
    case = plain_case(31, 0)
    seen = policy.encode([case])
    assert (seen.tokens, seen.channels) == (64, 64)
    assert seen.text.shape == (1, 32, 192)
    (image,) = policy.decode(seen.source, seen.grid)
    assert image.shape == case.source.shape == (128, 128, 3)
    vae = (tmp_path / "vae/diffusion_pytorch_model.safetensors").read_bytes()
    again = pretrain(tmp_path, MINIMAL)
    assert (tmp_path / "vae/diffusion_pytorch_model.safetensors").read_bytes() == vae
    assert again == made


def test_the_tiny_policy_is_tiny_and_its_regions_have_tokens() -> None:
    tokenizer = new_tokenizer(0, 20)
    sizes = [
        sum(parameter.numel() for parameter in model.parameters())
        for model in (new_transformer(), new_vae(), new_text_encoder(tokenizer))
    ]
    assert sizes[0] < 1_050_000
    assert sum(sizes) * 2 < 12 * 2**20, "in half precision"
    for index in range(8):
        case = plain_case(31, index)
        assert all(mask.sum() >= 4 * 16 * 16 * 0.75 for mask in case.masks.values())
        assert tokenizer.decode(tokenizer(case.request.instruction)["input_ids"]) == case.request.instruction


def test_the_vae_learns_one_batch() -> None:
    images = scene_pixels(31, 0, 1)[:, :, 48:80, 48:80]
    fresh, trained = (train_vae(images, images, steps, 1, 4e-3, 0, bf16=False) for steps in (1, 20))
    before, after = held_out_psnr_db(fresh, images), held_out_psnr_db(trained, images)
    assert after > before + 4
    assert after > 13


def test_psnr_is_of_full_scale() -> None:
    black, white = -torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    assert abs(psnr_db(black, white)) < 1e-5
    assert abs(psnr_db(black, black + 0.2) - 20) < 1e-3


def test_the_flow_learns_a_few_scenes(minimal: Path) -> None:
    policy = make_policy(f"tiny:{minimal}", rank=1, alpha=1)
    data = flow_data(policy.vae, policy.tokenizer, 31, 0, 2, bf16=False)
    assert data.source.shape == data.goal.shape == (2, 64, 64)
    assert [(0 < share.mean() < 0.5 and share.max() == 1) for share in data.in_region] == [True, True]
    losses = []
    settings = PretrainSettings(flow_steps=30, flow_batch=2, flow_learning_rate=2e-2)

    def keep(step: int, transformer: Any, text_encoder: Any) -> None:
        if step in (1, 30):
            losses.append(loss_of(transformer, text_encoder))

    def loss_of(transformer: Any, text_encoder: Any) -> float:
        """How far from the goal the way of the velocity leads, from half noise on."""
        noise = torch.randn(data.goal.shape, generator=torch.Generator().manual_seed(0))
        half, sigma = (data.goal + noise) / 2, torch.full((2,), 0.5)
        end = int(policy.tokenizer.convert_tokens_to_ids(policy.tokenizer.pad_token))
        with torch.no_grad():
            seen = Conditioning(text=text_states(text_encoder, data.words, end), source=data.source, **positions(2))
            return float((half - 0.5 * flux2_velocity(transformer, half, sigma, seen, seen.text) - data.goal).std())

    train_flow(data, data, policy.tokenizer, settings, keep)
    assert losses[1] < 0.9 * losses[0]

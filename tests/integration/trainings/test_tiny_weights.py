"""The tiny policy that comes with the product: what `made.json` says is so, and it is good enough to start from."""

import json
from pathlib import Path

import pytest
import torch

from training.policy.edit_cases import plain_case
from training.policy.files import WEIGHTS
from training.policy.flux2 import Flux2Policy
from training.policy.flux2_tokens import decode_tokens, encode_images
from training.policy.held_out_evaluation import edited, judged, summary
from training.policy.registry import make_policy
from training.policy.rewards import OracleReward
from training.policy.tiny.proof import PROOF_SEED, STEPS
from training.policy.tiny.ship import MAX_BYTES
from training.policy.tiny.vae import as_pixels, psnr_db

MADE = json.loads((WEIGHTS / "made.json").read_bytes())


@pytest.fixture(scope="module")
def policy() -> Flux2Policy:
    torch.set_num_threads(1)
    return make_policy("tiny", rank=2, alpha=2)


def test_the_weights_are_small_and_name_no_place_on_a_machine():
    files = [file for file in WEIGHTS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= MAX_BYTES
    for file in files:
        if file.suffix == ".json":
            assert str(Path.home()) not in file.read_text()
            assert "_name_or_path" not in file.read_text()
    assert MADE["synthetic"] is True


def test_the_vae_gives_back_scenes_that_it_never_saw(policy):
    pixels = as_pixels([plain_case(PROOF_SEED, 5_000 + index).source for index in range(8)])
    with torch.inference_mode():
        shown = decode_tokens(policy.vae, encode_images(policy.vae, pixels), (8, 8))
    assert psnr_db(pixels, shown) >= 28
    assert psnr_db(pixels, shown.flip(0)) < 20, "another scene is no reconstruction"
    assert MADE["vae_held_out_psnr_db"] >= 28


def test_half_of_the_single_regions_are_right_and_another_instruction_does_not_do(policy):
    single = MADE["held_out"]["1 regions"]
    assert single["region_right"] >= 0.5
    assert single["region_right"] > 2 * single["region_right_other_instruction"]
    assert single["region_right_untouched"] == 0
    cases = [case for index in range(48) if len((case := plain_case(PROOF_SEED, index)).masks) == 1]
    found = summary(judged(policy, cases, edited(policy, cases, STEPS, 32), OracleReward(), batch=32, timeout_s=600))
    assert abs(found["region_right"] - single["region_right"]) < 0.2
    assert found["region_right"] > 0.4


def test_it_has_about_a_million_parameters_and_64_target_tokens(policy):
    own = sum(p.numel() for name, p in policy.transformer.named_parameters() if ".policy." not in name)
    assert own <= 1_100_000
    assert policy.encode([plain_case(PROOF_SEED, 0)]).tokens == 64

"""FLUX.2-klein's architecture with random weights, small: what must hold whatever the checkpoint."""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from schemas.errors import BadInput
from tests.cases.policy_loop_cases import (
    Bright,
    boxed,
    klein_pipeline,
    photo_case,
    pipelines_read_once,
    random_pipeline,
    small,
    stir,
)
from training.policy.config import PolicyConfig
from training.policy.edit_cases import PolicyCase
from training.policy.flux2 import Flux2Policy, Flux2Settings, with_guidance
from training.policy.protocol import Conditioning
from training.policy.registry import make_policy
from training.policy.rewards import RewardQueue
from training.policy.rollouts import advantages_of, batch_of, region_table, roll_out_requests
from training.policy.sampling import drawn, noise_of
from training.policy.update import PolicyBatch, accumulate, first_step_gap, log_prob_now, with_recomputed_log_probs


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("klein")
    klein_pipeline().save_pretrained(str(folder))
    return folder


@pytest.fixture(autouse=True, scope="module")
def read_once() -> Iterator[None]:
    with pipelines_read_once():
        yield


@pytest.fixture(scope="module")
def policy(klein: Path) -> Flux2Policy:
    """In bfloat16, with an adapter that does something; tests leave it as it is.

    Its VAE is in float32: convolutions in bfloat16 take thirty times as long where the processor has none.
    """
    made = quick(klein, dtype="bfloat16", seed=1)
    assert made.vae.dtype == torch.bfloat16
    made.vae.to(torch.float32)
    stir(made)
    return made


def quick(klein: Path, **settings: Any) -> Flux2Policy:
    """The policy with texts of 64 tokens instead of 512: these tests wait for little else."""
    made = make_policy(f"klein:{klein}", **{"rank": 4, "alpha": 8} | settings)
    made.settings = replace(made.settings, text_tokens=64)
    return made


def case() -> PolicyCase:
    return photo_case(64, 96, boxed(64, 96, (8, 8, 40, 40), (40, 60, 64, 96)))


def settings(folder: Path, **changes: object) -> PolicyConfig:
    fields: dict[str, object] = {"dtype": "bfloat16", "requests": 1, "group": 4}
    return small(Path("none"), folder, **fields | changes)


def batch(policy: Flux2Policy, config: PolicyConfig) -> PolicyBatch:
    """A rollout of one request with its advantages."""
    queue = RewardQueue(Bright(), threads=1, timeout_s=60)
    (rollout,) = roll_out_requests(policy, [case()], [0], config, 0, queue)
    tables = region_table(rollout, queue.collect(), 3)
    queue.close()
    told = advantages_of(*tables, torch.tensor(rollout.places), config, 0)
    return batch_of(rollout, told.advantages, 3)


@cache
def encoded(policy: Flux2Policy) -> Conditioning:
    return policy.encode([case()])


def velocity(policy: Flux2Policy, seen: Conditioning | None = None, *, reference: bool = False) -> Tensor:
    seen = seen or encoded(policy)
    x = drawn([noise_of(0, 0, "x", 0)], (seen.tokens, seen.channels))
    with torch.no_grad():
        if reference:
            with policy.reference():
                return policy.velocity(x, torch.tensor([0.7]), seen)
        return policy.velocity(x, torch.tensor([0.7]), seen)


def gradient(policy: Flux2Policy, config: PolicyConfig, learnt: PolicyBatch) -> dict[str, Tensor]:
    for parameter in policy.trained().values():
        parameter.grad = None
    accumulate(policy, learnt, config, 1.0)
    return {name: p.grad.clone() for name, p in policy.trained().items() if p.grad is not None}


def test_the_architecture_is_kleins(klein: Path) -> None:
    policy = make_policy(f"klein:{klein}", rank=4, alpha=8)
    seen = policy.encode([case()])
    assert policy.token_px == 16
    assert seen.grid.grid_hw == (6, 4)
    assert seen.source.shape == (1, 24, 128)
    assert seen.text.shape == (1, 512, 48)
    assert seen.no_text is not None
    assert policy.settings == Flux2Settings(4.0, 512, (9, 18, 27), "flux2", False)
    assert policy.synthetic is False


def test_a_distilled_model_is_refused(tmp_path: Path) -> None:
    klein_pipeline(distilled=True).save_pretrained(str(tmp_path))
    with pytest.raises(BadInput, match=r"^policy klein: is a distilled model; train the base model"):
        make_policy(f"klein:{tmp_path}", rank=1, alpha=1)


def test_bfloat16_keeps_the_adapter_and_the_log_probs_in_float32(policy: Flux2Policy, klein: Path) -> None:
    kept = {name: p.dtype for name, p in policy.transformer.named_parameters()}
    assert {dtype for name, dtype in kept.items() if name in policy.trained()} == {torch.float32}
    assert {dtype for name, dtype in kept.items() if name not in policy.trained()} == {torch.bfloat16}
    assert {name for name, p in policy.transformer.named_parameters() if p.requires_grad} == set(policy.trained())
    learnt = batch(policy, settings(klein))
    assert learnt.samples.x.dtype == learnt.samples.x_next.dtype == torch.bfloat16
    assert learnt.samples.log_prob.dtype == torch.float32
    now, mean, _ = log_prob_now(policy, learnt, settings(klein), 0)
    assert now.dtype == mean.dtype == velocity(policy).dtype == torch.float32
    assert all(grad.dtype == torch.float32 for grad in gradient(policy, settings(klein), learnt).values())


def test_every_linear_layer_of_a_block_has_its_adapter_and_no_other(policy: Flux2Policy) -> None:
    linear = {
        name.removesuffix(".base_layer")
        for name, module in policy.transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and "transformer_blocks." in name and ".lora_" not in name
    }
    adapted = {name.split(".lora_")[0] for name in policy.trained()}
    assert adapted == linear
    assert len(policy.trained()) == 2 * len(linear) == 2 * (12 + 2)


def test_alpha_over_rank_scales_the_adapter(klein: Path) -> None:
    changes = []
    for alpha in (4, 8):
        policy = quick(klein, alpha=alpha, guidance=1.0)
        stir(policy, size=0.01)
        changes.append(velocity(policy) - velocity(policy, reference=True))
        assert {len(p) for name, p in policy.trained().items() if ".lora_A." in name} == {4}
    largest = float(changes[0].abs().max())
    assert largest > 1e-5
    torch.testing.assert_close(changes[1], 2 * changes[0], atol=0.1 * largest, rtol=0)


def test_a_fresh_adapter_changes_nothing(klein: Path) -> None:
    policy = quick(klein)
    assert torch.equal(velocity(policy), velocity(policy, reference=True))


def test_the_reference_is_the_model_without_its_adapter_and_holds_no_copy(policy: Flux2Policy, klein: Path) -> None:
    bare = quick(klein, rank=1, alpha=1, dtype="bfloat16")
    own = velocity(policy)
    before = {id(tensor): tensor.data_ptr() for tensor in (*policy.transformer.parameters(), *policy.vae.parameters())}
    with policy.reference():
        inside = {id(t): t.data_ptr() for t in (*policy.transformer.parameters(), *policy.vae.parameters())}
        found = velocity(policy)
    assert inside == before
    assert torch.equal(found, velocity(bare, encoded(policy)))
    assert not torch.equal(found, own)
    assert torch.equal(velocity(policy), own)


def test_the_reference_ends_as_it_began_nested_and_after_an_error(policy: Flux2Policy) -> None:
    own, bare = velocity(policy), velocity(policy, reference=True)
    with policy.reference():
        with policy.reference():
            assert torch.equal(velocity(policy), bare)
        assert torch.equal(velocity(policy), bare)
        with pytest.raises(RuntimeError, match="inner"), policy.reference():
            raise RuntimeError("inner")
        assert torch.equal(velocity(policy), bare)
    assert torch.equal(velocity(policy), own)
    with pytest.raises(RuntimeError, match="outer"), policy.reference():
        raise RuntimeError("outer")
    assert torch.equal(velocity(policy), own)
    assert all(parameter.requires_grad for parameter in policy.trained().values())


def test_guidance_takes_the_empty_instruction_away(klein: Path) -> None:
    found = []
    for guidance in (1.0, 2.0, 3.0):
        policy = quick(klein, guidance=guidance)
        assert (policy.encode([case()]).no_text is None) == (guidance == 1.0)
        found.append(velocity(policy))
    assert with_guidance(Flux2Settings(), None) == Flux2Settings()
    assert float((found[1] - found[0]).abs().max()) > 1e-4
    torch.testing.assert_close(found[2] - found[1], found[1] - found[0], atol=1e-5, rtol=1e-4)


def test_gradient_checkpointing_gives_the_same_gradient(klein: Path) -> None:
    found = []
    config = settings(klein, dtype="float32", beta_edit=0.1, beta_background=0.2)
    for checkpointing in (False, True):
        policy = quick(klein, checkpointing=checkpointing, guidance=1.0)
        stir(policy)
        assert policy.transformer.gradient_checkpointing is checkpointing
        found.append(gradient(policy, config, batch(policy, config)))
    assert found[0].keys() == found[1].keys()
    assert all(float(grad.abs().max()) > 0 for grad in found[0].values())
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad, atol=1e-7, rtol=1e-5)


def test_the_penalty_moves_the_adapter_as_its_own_derivative_says(klein: Path) -> None:
    """The adapter is off while the reference is asked, between forward and backward: its gradient must be whole."""
    config = settings(klein, dtype="float32", beta_edit=3.0, beta_background=3.0, guidance=1.0)
    policy = quick(klein, rank=2, alpha=4, guidance=1.0)
    stir(policy, size=0.4)
    learnt = batch(policy, config)
    learnt = replace(learnt, advantages=torch.zeros_like(learnt.advantages))
    grads = gradient(policy, config, learnt)
    directions = torch.Generator().manual_seed(0)
    way = {name: torch.randn(grad.shape, generator=directions) for name, grad in grads.items()}
    slope = sum(float((grads[name] * way[name]).sum()) for name in grads)
    losses = []
    for step in (3e-3, -3e-3):
        with torch.no_grad():
            for name, parameter in policy.trained().items():
                parameter.add_(step * way[name])
        losses.append(sum(piece.weight * piece.loss for piece in accumulate(policy, learnt, config, 1.0)))
        with torch.no_grad():
            for name, parameter in policy.trained().items():
                parameter.sub_(step * way[name])
    assert abs(slope) > 1e-3
    assert (losses[0] - losses[1]) / 6e-3 == pytest.approx(slope, rel=0.02)


def test_log_probs_that_other_kernels_made_are_seen_and_taken_again(policy: Flux2Policy, klein: Path) -> None:
    config = settings(klein, clip=1e-3, train_batch=2)
    learnt = batch(policy, config)
    off = torch.zeros_like(learnt.samples.log_prob)
    off[1, 1, :6] = 0.02  # in some places of one sample: a region sees more of it than the image
    moved = replace(learnt, samples=replace(learnt.samples, log_prob=learnt.samples.log_prob + off))
    gap = first_step_gap(policy, moved, config)
    share = (learnt.regions.masks[1] * off[1, 1]).sum(1) / learnt.regions.masks[1].sum(1)
    assert gap == pytest.approx(float(share.max()), rel=0.2)
    assert gap > 1.2 * float(off[1, 1].mean()) > config.clip / 10
    worst = max(float(piece.figures.clip_fraction.max()) for piece in accumulate(policy, moved, config, 1.0))
    assert worst > 0
    again = with_recomputed_log_probs(policy, moved, config)
    assert first_step_gap(policy, again, config) < 1e-6
    for piece in accumulate(policy, again, config, 1.0):
        assert float(piece.figures.clip_fraction.max()) == 0
        assert float(piece.figures.ratio_max.max()) == pytest.approx(1, abs=1e-6)
    assert torch.equal(again.samples.x, moved.samples.x)


def test_the_tiny_policy_is_the_same_code(tmp_path: Path) -> None:
    random_pipeline().save_pretrained(str(tmp_path))
    tiny = make_policy(f"tiny:{tmp_path}", rank=2, alpha=4)
    assert type(tiny) is Flux2Policy
    assert (tiny.synthetic, tiny.name, tiny.encode([case()]).no_text) == (True, "tiny", None)
    assert re.fullmatch("sha256:[0-9a-f]{16}", tiny.revision)

"""One update of the loop, piece by piece: rollouts, rewards by region, advantages, gradients."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from schemas.record import short_hash
from tests.cases.policy_loop_cases import Bright, boxed, photo_case, random_pipeline, scene_case, small, tiny_policy
from training.policy.config import PolicyConfig
from training.policy.edit_cases import PolicyCase
from training.policy.flux2 import Flux2Policy
from training.policy.loss_metrics import clip_fractions, mean_figures
from training.policy.objective import Figures
from training.policy.protocol import Conditioning
from training.policy.rewards import RewardQueue, cropped
from training.policy.rollouts import Rollout, UpdateAdvantages, advantages_of, batch_of, region_table, roll_out_requests
from training.policy.token_masks import flux2_grid, token_masks
from training.policy.train import cases_of_update
from training.policy.update import Logged, PolicyBatch, accumulate, first_step_gap

COLUMNS = 4


@pytest.fixture(scope="module")
def policy(random_policy: Path) -> Flux2Policy:
    return tiny_policy(random_policy)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Flux2Policy:
    """The same at the tiny policy's full depth: how far a step moves it hangs on that. Tests may change its adapter."""
    folder = tmp_path_factory.mktemp("deep")
    random_pipeline().save_pretrained(str(folder))
    return tiny_policy(folder)


def settings(**changes: object) -> PolicyConfig:
    return small(Path("none"), Path("none"), **changes)


def slow_order(count: int, config: PolicyConfig, update: int) -> list[int]:
    """The requests of an update by the definition: a permutation for each one that is picked."""
    chosen = []
    for number in range(update * config.requests, (update + 1) * config.requests):
        turn, place = divmod(number, count)
        seed = int(short_hash("order", config.seed, turn), 16)
        chosen.append(int(np.random.default_rng(seed).permutation(count)[place]))
    return chosen


@pytest.mark.parametrize("count", [1, 2, 3, 7, 24])
def test_requests_are_asked_round_after_round_in_the_order_of_their_definition(count: int) -> None:
    for seed in (0, 5):
        config = settings(seed=seed)
        found = [cases_of_update(range(count), config, update) for update in range(9)]
        assert found == [slow_order(count, config, update) for update in range(9)]
        asked = [number for chosen in found for number in chosen]
        for first in range(0, len(asked) - count + 1, count):
            assert sorted(asked[first : first + count]) == list(range(count))


def rolled(policy: Flux2Policy, cases: Sequence[PolicyCase], config: PolicyConfig, update: int = 0) -> list[Rollout]:
    queue = RewardQueue(Bright(), threads=1, timeout_s=60)
    rollouts = roll_out_requests(policy, list(cases), list(range(len(cases))), config, update, queue)
    queue.collect()
    queue.close()
    return rollouts


def update_advantages(rollouts: list[Rollout], config: PolicyConfig, update: int = 0) -> UpdateAdvantages:
    """The advantages of rollouts by the reward of these tests."""
    tables = [
        region_table(rollout, Bright().score([shown(c, rollout) for c in rollout.cases], rollout.images), COLUMNS)
        for rollout in rollouts
    ]
    rewards, areas, phis = (torch.cat(table) for table in zip(*tables, strict=True))
    places = torch.tensor([place for rollout in rollouts for place in rollout.places])
    return advantages_of(rewards, areas, phis, places, config, update)


def shown(case: PolicyCase, rollout: Rollout) -> PolicyCase:
    return cropped(case, rollout.conditioning.grid)


def batches(policy: Flux2Policy, cases: Sequence[PolicyCase], config: PolicyConfig) -> list[PolicyBatch]:
    rollouts = rolled(policy, cases, config)
    told, first, made = update_advantages(rollouts, config), 0, []
    for rollout in rollouts:
        made.append(batch_of(rollout, told.advantages[first : first + len(rollout.cases)], COLUMNS))
        first += len(rollout.cases)
    return made


def learnt(
    policy: Flux2Policy, parts: Sequence[PolicyBatch], config: PolicyConfig
) -> tuple[dict[str, Tensor], list[Logged]]:
    """(the gradient of all parts together, what was logged)."""
    for parameter in policy.trained().values():
        parameter.grad = None
    samples = sum(len(part) for part in parts)
    logged = [piece for part in parts for piece in accumulate(policy, part, config, len(part) / samples)]
    return {name: p.grad.clone() for name, p in policy.trained().items() if p.grad is not None}, logged


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """Gradients that differ by less than `tolerance` of their largest entry: float32 sums in another order."""
    largest = max(float(grad.abs().max()) for grad in theirs.values())
    assert largest > 0
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - grad).abs().max()) for name, grad in theirs.items()) < tolerance * largest


def together(rollouts: list[Rollout], what: str) -> Tensor:
    return torch.cat([getattr(rollout.samples, what) for rollout in rollouts], dim=0 if what == "latents" else 1)


def test_rollouts_are_the_same_in_any_batch(policy: Flux2Policy) -> None:
    cases = [scene_case(0), scene_case(1)]
    whole = rolled(policy, cases, settings(sample_batch=64))
    assert len(whole) == 1
    assert whole[0].places == [0, 0, 0, 1, 1, 1]
    for size in (1, 4):
        parts = rolled(policy, cases, settings(sample_batch=size))
        assert [place for part in parts for place in part.places] == whole[0].places
        for what in ("latents", "x", "x_next", "log_prob"):
            torch.testing.assert_close(together(parts, what), together(whole, what), atol=2e-5, rtol=1e-5)
        images = [image for part in parts for image in part.images]
        assert max(np.abs(a.astype(int) - b).max() for a, b in zip(images, whole[0].images, strict=True)) <= 1


def test_no_more_requests_are_encoded_at_once_than_are_sampled(
    policy: Flux2Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, encode = list[int](), policy.encode

    def counted(cases: Sequence[PolicyCase]) -> Conditioning:
        at_once.append(len(cases))
        return encode(cases)

    monkeypatch.setattr(policy, "encode", counted)
    rolled(policy, [scene_case(0), scene_case(1), scene_case(5)], settings(sample_batch=2))
    assert at_once == [2, 1]


def test_samples_differ_by_number_update_seed_and_request_and_by_nothing_else(policy: Flux2Policy) -> None:
    case, config = scene_case(0), settings()
    (first,) = rolled(policy, [case], config)
    (again,) = rolled(policy, [case], config)
    assert torch.equal(first.samples.latents, again.samples.latents)
    others = [
        rolled(policy, [case], config, update=1)[0].samples.x[0],
        rolled(policy, [case], settings(seed=4))[0].samples.x[0],
        rolled(policy, [scene_case(1)], config)[0].samples.x[0],
        rolled(policy, [scene_case(1), case], config)[0].samples.x[0][3:],
    ]
    noises = torch.cat([first.samples.x[0], *others]).flatten(1)
    assert len(torch.unique(noises, dim=0)) == 15


def test_a_request_that_an_update_asks_twice_gets_samples_of_its_own_each_time(policy: Flux2Policy) -> None:
    (rollout,) = rolled(policy, [scene_case(0), scene_case(0)], settings())
    assert rollout.places == [0, 0, 0, 1, 1, 1]
    assert len(torch.unique(rollout.samples.latents.flatten(1), dim=0)) == 6


def test_images_that_share_an_instruction_are_groups_of_their_own(policy: Flux2Policy) -> None:
    cases = [photo_case(64, 64, boxed(64, 64, (8, 8, 56, 56)), seed=seed) for seed in (1, 2)]
    assert cases[0].request.instruction == cases[1].request.instruction
    rollouts, config = rolled(policy, cases, settings(group=4)), settings(group=4, advantages="floor", floor=0.0)
    for method in ("spatial", "global"):
        advantages = update_advantages(
            rollouts, PolicyConfig.model_validate(config.model_dump() | {"method": method})
        ).advantages
        own = advantages.reshape(2, 4, -1)
        assert float(own.abs().max()) > 0.5
        torch.testing.assert_close(own.sum(1), torch.zeros_like(own.sum(1)), atol=1e-5, rtol=0)


def test_a_source_is_encoded_once_for_all_its_samples(policy: Flux2Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, texts = list[int](), list[int]()
    encode, read = policy.vae.encode, policy.text_encoder.forward

    def counted(pixels: Tensor, *more: Any, **named: Any) -> Any:
        sources.append(len(pixels))
        return encode(pixels, *more, **named)

    def counted_text(*more: Any, **named: Any) -> Any:
        texts.append(len(named["input_ids"]))
        return read(*more, **named)

    monkeypatch.setattr(policy.vae, "encode", counted)
    monkeypatch.setattr(policy.text_encoder, "forward", counted_text)
    parts = batches(policy, [scene_case(0), scene_case(1)], settings(group=4, sample_batch=3))
    learnt(policy, parts, settings(group=4))
    assert (sum(sources), sum(texts)) == (2, 2)


@pytest.mark.parametrize("method", ["spatial", "global"])
def test_the_first_inner_step_has_ratio_one_and_clips_nothing(policy: Flux2Policy, method: str) -> None:
    config = settings(method=method, clip=1e-4, train_batch=4)
    (batch,) = batches(policy, [scene_case(0), scene_case(1)], config)
    assert first_step_gap(policy, batch, config) < 1e-5
    _, logged = learnt(policy, [batch], config)
    for piece in logged:
        assert float(piece.figures.clip_fraction.max()) == 0
        assert float(piece.figures.ratio_max.max()) == pytest.approx(1, abs=1e-5)


def test_the_second_inner_step_has_other_ratios(deep: Flux2Policy) -> None:
    config = settings(clip=1e-4)
    parts = batches(deep, [scene_case(0)], config)
    grads, _ = learnt(deep, parts, config)
    with torch.no_grad():
        for name, parameter in deep.trained().items():
            parameter.add_(grads[name].sign(), alpha=-1e-3)
    _, logged = learnt(deep, parts, config)
    assert max(float(piece.figures.clip_fraction.max()) for piece in logged) > 0
    assert first_step_gap(deep, parts[0], config) > config.clip / 10


@pytest.mark.parametrize("changes", [{}, {"method": "global"}, {"beta_edit": 0.5, "beta_background": 2.0}])
def test_gradients_add_up_over_pieces(deep: Flux2Policy, changes: dict[str, object]) -> None:
    cases, config = [scene_case(0), scene_case(1), scene_case(5)], settings(**changes)
    parts = batches(deep, cases, config)
    whole, all_at_once = learnt(deep, parts, settings(**changes, train_batch=64))
    ones, one_by_one = learnt(deep, parts, settings(**changes, train_batch=1))
    fours, _ = learnt(deep, parts, settings(**changes, train_batch=4))
    assert_same(ones, whole)
    assert_same(fours, whole)
    figures = [mean_figures(logged, Accelerator(cpu=True)) for logged in (all_at_once, one_by_one)]
    assert figures[1]["loss"] == pytest.approx(figures[0]["loss"], abs=1e-7)
    for name in ("kl/inside", "kl/outside") if changes.get("beta_edit") else ():
        assert figures[1][name] == pytest.approx(
            figures[0][name], rel=0.02
        )  # by area within a piece, by samples beyond


def test_the_kl_to_the_reference_is_told_of_the_pieces_where_it_was_measured(policy: Flux2Policy) -> None:
    config = settings(train_batch=1)
    parts = batches(policy, [scene_case(0)], config)
    _, logged = learnt(policy, parts, config)
    measured = [piece for piece in logged if piece.kl_weight > 0]
    assert len(logged) == 6
    assert len(measured) == 2
    of_first = [float(piece.figures.kl_inside.mean()) for piece in measured]
    told = mean_figures(logged, Accelerator(cpu=True))["kl/inside"]
    assert told == pytest.approx(sum(of_first) / 2, rel=1e-5)
    assert told > 0


def test_clip_fractions_are_told_of_regions_and_of_the_whole_image_alike() -> None:
    ones = torch.ones(1)
    spatial = Figures(torch.tensor([[0.5, 1.0, 0.25]]), torch.tensor([4, 0, 4]), ones, ones, ones, ones, ones)
    whole = Figures(torch.tensor([[0.75]]), torch.tensor([4]), ones, ones, 0 * ones, ones, ones)
    found = [mean_figures([Logged(0, 1.0, 0.0, figures, 2.0)], Accelerator(cpu=True)) for figures in (spatial, whole)]
    named = [(each["clip_fraction/regions"], each["clip_fraction/background"], each["loss"]) for each in found]
    assert named == [(0.5, 0.25, 2.0), (0.75, 0.0, 2.0)]


def test_clip_fractions_are_told_by_step_and_region() -> None:
    ones, accelerator = torch.ones(1), Accelerator(cpu=True)

    def piece(place: int, clipped: list[float], counted: list[int], weight: float = 1.0) -> Logged:
        figures = Figures(torch.tensor([clipped]), torch.tensor(counted), ones, ones, ones, ones, ones)
        return Logged(place, weight, 0.0, figures, 0.0)

    pieces = [
        piece(0, [0.5, 0.0, 0.25], [4, 0, 4]),
        piece(0, [1.0, 1.0, 0.75], [4, 2, 4], weight=3.0),
        piece(1, [0.0, 0.0, 1.0], [4, 0, 4]),
    ]
    assert clip_fractions(pieces, (2, 5), 3, accelerator) == {
        "clip_at_step_2/region_0": 0.875,
        "clip_at_step_2/region_1": 1.0,
        "clip_at_step_2/background": 0.625,
        "clip_at_step_5/region_0": 0.0,
        "clip_at_step_5/background": 1.0,
    }
    assert clip_fractions([piece(0, [0.5], [4])], (0,), 1, accelerator) == {"clip_at_step_0/image": 0.5}


def test_permuted_masks_change_the_masks_of_the_loss_and_nothing_that_was_sampled_or_scored(
    policy: Flux2Policy,
) -> None:
    cases = [scene_case(0), scene_case(1)]
    (own,), (arm,) = (rolled(policy, cases, settings(control=control)) for control in ("none", "permuted-masks"))
    for what in ("latents", "x", "x_next", "log_prob"):
        assert torch.equal(getattr(own.samples, what), getattr(arm.samples, what))
    given = Bright().score([shown(case, own) for case in own.cases], own.images)
    for ours, theirs in zip(region_table(own, given, COLUMNS), region_table(arm, given, COLUMNS), strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0, equal_nan=True)
    assert not torch.equal(own.masks[0].masks, arm.masks[0].masks)
    assert torch.equal(arm.masks[0].masks, arm.masks[2].masks)


def test_permuted_advantages_shuffle_within_a_request_and_leave_the_rest(policy: Flux2Policy) -> None:
    rollouts = rolled(policy, [scene_case(0), scene_case(1)], settings(group=4))
    own, arm = (
        update_advantages(rollouts, settings(group=4, lam=1.0, control=control))
        for control in ("none", "permuted-advantages")
    )
    assert own.figures == arm.figures
    assert not torch.equal(own.advantages, arm.advantages)
    for place in (0, 1):
        rows = slice(4 * place, 4 * place + 4)
        ours, theirs = (told.advantages[rows].flatten().sort().values for told in (own, arm))
        torch.testing.assert_close(ours, theirs)
        assert torch.equal(own.advantages[rows] == 0, arm.advantages[rows] == 0)
    wholly = [
        update_advantages(rollouts, settings(group=4, lam=0.0, control=c)).advantages
        for c in ("none", "permuted-advantages")
    ]
    assert torch.equal(*wholly)


def test_advantages_hang_on_no_order_of_processes(policy: Flux2Policy) -> None:
    rollouts = rolled(policy, [scene_case(0), scene_case(1), scene_case(2)], settings(sample_batch=3))
    turned = [rollouts[2], rollouts[0], rollouts[1]]
    for control in ("none", "permuted-advantages"):
        config = settings(control=control)
        own, other = update_advantages(rollouts, config).advantages, update_advantages(turned, config).advantages
        assert torch.equal(torch.cat([other[3:], other[:3]]), own)


def test_an_edit_of_everything_has_no_background_and_moves_the_policy(policy: Flux2Policy) -> None:
    case, config = photo_case(64, 64, [np.ones((64, 64), dtype=np.bool_)]), settings()
    (batch,) = batches(policy, [case], config)
    assert batch.regions.valid.tolist() == [[True, False, False, False]] * 3
    grads, logged = learnt(policy, [batch], config)
    assert max(float(grad.abs().max()) for grad in grads.values()) > 0
    alone = replace(batch, advantages=batch.advantages[:, 0])
    assert_same(grads, learnt(policy, [alone], settings(method="global"))[0], 1e-5)
    assert all(np.isfinite(piece.loss) for piece in logged)


def test_sources_of_different_aspects_are_learnt_from_in_one_update(policy: Flux2Policy) -> None:
    cases = [
        photo_case(96, 64, boxed(96, 64, (8, 8, 56, 56)), seed=1),
        scene_case(0),
        photo_case(70, 140, boxed(70, 140, (8, 8, 56, 56), (30, 70, 60, 130)), seed=2),
        photo_case(96, 64, boxed(96, 64, (40, 0, 90, 30)), seed=3),
    ]
    config = settings(beta_edit=0.1, beta_background=0.1)
    rollouts = rolled(policy, cases, config)
    assert [rollout.conditioning.grid.grid_hw for rollout in rollouts] == [(4, 6), (4, 4), (8, 4)]
    assert [rollout.places for rollout in rollouts] == [[0, 0, 0, 3, 3, 3], [1, 1, 1], [2, 2, 2]]
    assert [rollout.images[0].shape for rollout in rollouts] == [(64, 96, 3), (64, 64, 3), (128, 64, 3)]
    parts = batches(policy, cases, config)
    whole, _ = learnt(policy, parts, config)
    summed = {name: torch.zeros_like(grad) for name, grad in whole.items()}
    for part in parts:
        for name, grad in learnt(policy, [part], config)[0].items():
            summed[name] += grad * len(part) / 12
    assert_same(summed, whole, 1e-5)


def test_twenty_regions_are_learnt_from_beside_one(policy: Flux2Policy) -> None:
    places = [(12 * (n % 5), 16 * (n // 5), 12 * (n % 5) + 10, 16 * (n // 5) + 14) for n in range(20)]
    cases = [photo_case(64, 64, boxed(64, 64, *places), seed=1), photo_case(64, 64, boxed(64, 64, places[0]), seed=2)]
    config = settings()
    (rollout,) = rolled(policy, cases, config)
    given = Bright().score([shown(case, rollout) for case in rollout.cases], rollout.images)
    tables = region_table(rollout, given, 21)
    told = advantages_of(*tables, torch.tensor(rollout.places), config, 0)
    batch = batch_of(rollout, told.advantages, 21)
    assert batch.regions.valid.sum(1).tolist() == [21] * 3 + [2] * 3
    assert float(told.advantages[batch.regions.valid].abs().min()) > 0
    grads, _ = learnt(policy, [batch], config)
    assert all(bool(torch.isfinite(grad).all()) for grad in grads.values())


def test_a_region_that_the_crop_leaves_nothing_of_is_dropped_and_counted(policy: Flux2Policy) -> None:
    lost, kept = (0, 0, 70, 1), (8, 8, 56, 56)
    case = photo_case(70, 70, boxed(70, 70, lost, kept))
    (rollout,) = rolled(policy, [case], settings())
    assert rollout.dropped == 1
    assert rollout.masks[0].keys == (list(case.masks)[1],)
    assert list(shown(case, rollout).masks) == [list(case.masks)[1]]
    told = update_advantages([rollout], settings())
    (batch,) = batches(policy, [case], settings())
    assert torch.equal(batch.regions.valid, torch.tensor([[True, False, False, True]] * 3))
    assert told.figures["missing_share"] == 0
    nowhere = photo_case(70, 70, boxed(70, 70, lost))
    (bare,) = rolled(policy, [nowhere], settings())
    assert bare.masks[0].keys == ()
    grads, _ = learnt(policy, batches(policy, [nowhere], settings()), settings())
    assert all(bool(torch.isfinite(grad).all()) for grad in grads.values())


def test_a_thin_region_of_a_large_source_stays_in_the_picture_that_is_scored() -> None:
    from training.policy.rewards import cropped

    case = photo_case(4096, 1152, boxed(4096, 1152, (600, 600, 1400, 601)))
    grid = flux2_grid(4096, 1152)
    small_case = cropped(case, grid)
    assert small_case.source.shape == (528, 1920, 3)
    assert list(small_case.masks) == list(token_masks(case.masks, grid).keys)
    assert next(iter(small_case.masks.values())).sum() in range(300, 900)

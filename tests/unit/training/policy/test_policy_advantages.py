"""Advantages: what every group's must obey, and cases worked out by hand."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from training.policy.advantages import (
    area_weighted_mean,
    group_advantages,
    mixed_advantages,
    zero_std_ratio,
)

NAN = math.nan

#: Rewards that floats hold exactly, so that adding a shift is exact, too.
GRID = st.integers(0, 1024).map(lambda k: k / 1024)
GROUPS = st.lists(st.tuples(st.sampled_from("abc"), st.one_of(GRID, st.just(NAN))), min_size=1, max_size=24)


def sample_groups(samples: Sequence[str]) -> torch.Tensor:
    return torch.tensor([ord(sample) - ord("a") for sample in samples])


def of(rewards: list[float], samples: str, **options: object) -> torch.Tensor:
    return group_advantages(torch.tensor(rewards), sample_groups(list(samples)), **options)  # type: ignore[arg-type]


def test_an_advantage_by_hand() -> None:
    # mean .5, std^2 = .04 * 2 / 4 = .02, floor^2 = .0004: .2 / sqrt(.0204)
    expected = [-1.400280, 1.400280, 0, 0]
    assert of([0.3, 0.7, 0.5, 0.5], "aaaa").tolist() == pytest.approx(expected, abs=1e-5)


def test_one_point_lost_by_one_of_twelve_is_no_catastrophe() -> None:
    rewards = [1.0] * 11 + [0.96]
    assert of(rewards, "a" * 12, floor=0.0)[-1].item() == pytest.approx(-3.317, abs=1e-3)
    # mean lies .04 * 11 / 12 above it, std .04 sqrt(11) / 12 = .011055: .036667 / sqrt(.011055^2 + .02^2)
    assert of(rewards, "a" * 12)[-1].item() == pytest.approx(-1.6045, abs=1e-3)


def test_the_published_forms_by_hand() -> None:
    rewards = [0.0, 1.0, 0.5, 0.7]
    # group a: std .5; group b: std .1; all: mean .55, std^2 = (.3025 + .2025 + .0025 + .0225) / 4 = .1325
    assert of(rewards, "aabb", form="group").tolist() == pytest.approx(
        [-0.5 / 0.5001, 0.5 / 0.5001, -0.1 / 0.1001, 0.1 / 0.1001], abs=1e-5
    )
    std = math.sqrt(0.1325) + 1e-4
    assert of(rewards, "aabb", form="global").tolist() == pytest.approx(
        [-0.5 / std, 0.5 / std, -0.1 / std, 0.1 / std], abs=1e-5
    )


@given(drawn=GROUPS, form=st.sampled_from(["floor", "group", "global"]))
def test_advantages_sum_to_0_in_every_group(drawn: list[tuple[str, float]], form: str) -> None:
    samples, rewards = zip(*drawn, strict=True)
    groups = sample_groups(samples)
    found = group_advantages(torch.tensor(rewards), groups, form)
    sums = torch.zeros(3).index_add(0, groups, found)
    assert sums.abs().max() < 1e-3
    assert torch.isfinite(found).all()
    assert (found[torch.isnan(torch.tensor(rewards))] == 0).all()


@given(drawn=GROUPS, shift=st.integers(-(2**40), 2**40), form=st.sampled_from(["floor", "group", "global"]))
@example(drawn=[("a", 0.0), ("a", 4 / 1024), ("a", 1.0)], shift=2**40 - 1, form="floor")
def test_a_shift_changes_no_bit(drawn: list[tuple[str, float]], shift: int, form: str) -> None:
    samples, rewards = zip(*drawn, strict=True)
    here = torch.tensor(rewards, dtype=torch.float64)
    there = here + shift / 1024  # exact: at most 30 bits before the point and 10 behind it
    groups = sample_groups(samples)
    assert torch.equal(group_advantages(here, groups, form), group_advantages(there, groups, form))


@given(drawn=GROUPS, scale=st.floats(0.01, 100))
def test_a_scale_changes_nothing_without_a_floor(drawn: list[tuple[str, float]], scale: float) -> None:
    samples, rewards = zip(*drawn, strict=True)
    here, groups = torch.tensor(rewards, dtype=torch.float64), sample_groups(samples)
    plain, scaled = (group_advantages(values, groups, floor=0.0) for values in (here, here * scale))
    assert torch.allclose(plain, scaled, atol=1e-4)


@pytest.mark.parametrize("form", ["floor", "group", "global"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_equal_rewards_teach_nothing(form: str, value: float) -> None:
    assert of([value] * 7, "a" * 7, form=form).tolist() == [0.0] * 7
    # In double precision the mean of three times .1 is not .1; a spread of 1e-17 must not become an advantage of 1.
    three = group_advantages(torch.full((3,), value, dtype=torch.float64), sample_groups("aaa"), form, floor=0.0)
    assert three.tolist() == [0.0] * 3


def test_integer_rewards_are_no_integer_division() -> None:
    whole = group_advantages(torch.tensor([0, 1, 1, 2]), sample_groups("aaaa"))
    assert torch.equal(whole, of([0.0, 1.0, 1.0, 2.0], "aaaa"))
    assert whole[3].item() == pytest.approx(1 / math.sqrt(0.5 + 0.0004), abs=1e-5)


@pytest.mark.parametrize("form", ["floor", "group", "global"])
def test_a_missing_reward_leaves_mean_and_spread(form: str) -> None:
    with_it, without = of([0.2, NAN, 0.6, 0.9], "aaaa", form=form), of([0.2, 0.6, 0.9], "aaa", form=form)
    assert with_it[1].item() == 0
    assert torch.equal(with_it[[0, 2, 3]], without)
    assert of([NAN, NAN, 0.2, 0.4], "aabb", form=form)[:2].tolist() == [0, 0]


def test_groups_go_by_sample_not_by_neighbours() -> None:
    mixed = of([0.1, 0.8, 0.3, 0.4], "abab")
    assert torch.equal(mixed[[0, 2]], of([0.1, 0.3], "aa"))
    assert torch.equal(mixed[[1, 3]], of([0.8, 0.4], "bb"))


def test_regions_are_compared_with_the_same_planned_region_alone() -> None:
    rewards = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.9, 0.7], [0.8, NAN, 0.2]])
    groups = torch.tensor([[0, 1, 2], [0, 1, 2], [3, -1, 4]])
    found = group_advantages(rewards, groups)
    pair = of([0.1, 0.3], "aa")
    assert torch.allclose(found[:2, 0], pair)
    assert found[:2, 1].tolist() == [0, 0]
    assert torch.allclose(found[:2, 2], of([0.5, 0.7], "aa"))
    assert found[2].tolist() == [0, 0, 0]


def test_zero_std_ratio_counts_groups_that_teach_nothing() -> None:
    # a: equal; b: differs; c: all missing; d: one alone. Padding is no group.
    rewards = torch.tensor([0.1, 0.1, 0.2, 0.3, NAN, NAN, 0.5, NAN])
    groups = torch.tensor([0, 0, 1, 1, 2, 2, 3, -1])
    assert zero_std_ratio(rewards, groups) == 0.75
    assert zero_std_ratio(rewards[2:4], groups[2:4]) == 0
    assert zero_std_ratio(rewards[-1:], groups[-1:]) == 0


def test_the_mix_is_clipped_after_mixing() -> None:
    region, whole = torch.tensor([[10.0, -1.0, -12.0]]), torch.tensor([2.0])
    # .7 * 10 + .3 * 2 = 7.6; -.7 + .6; -8.4 + .6
    assert mixed_advantages(region, whole, 0.7).tolist()[0] == pytest.approx([5, -0.1, -5])
    assert mixed_advantages(region, whole, 0.0).tolist()[0] == pytest.approx([2, 2, 2])


def test_the_global_reward_is_weighted_by_area() -> None:
    rewards = torch.tensor([[0.2, 0.8, NAN], [0.5, NAN, 0.5]])
    areas = torch.tensor([[1.0, 3.0, 0.0], [1.0, 1.0, 2.0]])
    found = area_weighted_mean(rewards, areas)
    assert found[0].item() == pytest.approx(0.65)  # (.2 + 2.4) / 4: no third region there
    assert math.isnan(found[1].item())  # a region nobody could score

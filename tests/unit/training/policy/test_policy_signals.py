"""Signs of reward hacking: figures by hand and on damaged pictures, and a rule that stops for each sign alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from runtime.images import ImageU8
from schemas.errors import BadInput
from training.policy.reward_hacking import (
    Signals,
    StopRule,
    high_frequency_share,
    reward_gap,
    saturation,
    sharpness,
    signals_of,
)

START = Signals(
    sharpness=0.02, high_frequency=0.1, saturation=0.4, clipped=0.05, kl=0.0, training_reward=0.5, held_out_reward=0.4
)


def picture() -> ImageU8:
    """A made-up picture: soft blobs of colour, nothing clipped."""
    noise = np.random.default_rng(0).random((64, 64, 3))
    soft = gaussian_filter(noise, (2, 2, 0))
    return (40 + 170 * (soft - soft.min()) / np.ptp(soft)).astype(np.uint8)


def grey(values: list[list[int]]) -> ImageU8:
    return np.repeat(np.array(values, dtype=np.uint8)[..., None], 3, axis=2)


def noisy(image: ImageU8) -> ImageU8:
    noise = np.random.default_rng(1).normal(0, 8, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def test_sharpness_by_hand() -> None:
    # Inner pixels: one of 255 beside three of 0: Laplacians -4, 1, 1, 0 with mean -.5, squares 18, variance 4.25.
    dot = grey([[0, 0, 0, 0], [0, 255, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert sharpness(dot) == pytest.approx(4.25)
    ramp = grey([[0, 10, 20, 30]] * 4)
    assert sharpness(ramp) == pytest.approx(0, abs=1e-12)


def test_noise_and_blur_show_in_sharpness_and_frequencies() -> None:
    image = picture()
    blurred = gaussian_filter(image, (2, 2, 0))
    assert sharpness(noisy(image)) > 2 * sharpness(image) > 4 * sharpness(blurred)
    assert high_frequency_share(noisy(image)) > 2 * high_frequency_share(image)


def test_frequencies_are_told_apart() -> None:
    x = np.arange(64)
    for cycles_px, share in ((1 / 16, 0.0), (1 / 8, 0.0), (3 / 8, 1.0), (1 / 2, 1.0)):
        wave = np.rint(127 + 100 * np.cos(2 * np.pi * cycles_px * x)).astype(np.uint8)
        image = np.repeat(np.broadcast_to(wave, (64, 64))[..., None], 3, axis=2)
        assert high_frequency_share(image) == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize("value", [0, 7, 128, 255])
def test_a_flat_image_has_neither(value: int) -> None:
    flat = np.full((32, 48, 3), value, dtype=np.uint8)
    assert high_frequency_share(flat) == 0
    assert sharpness(flat) == pytest.approx(0, abs=1e-20)
    assert saturation(flat) == (0, float(value in (0, 255)))


def test_saturation_by_hand() -> None:
    # Saturations 1, .5, 0, 0; a red of 200 has two channels at 0, white is clipped, grey is not.
    image = np.array([[[200, 0, 0], [100, 50, 100]], [[255, 255, 255], [90, 90, 90]]], dtype=np.uint8)
    assert saturation(image) == pytest.approx((0.375, 0.5))


def test_the_gap_is_between_gains() -> None:
    assert reward_gap(0.9, 0.5, 0.45, 0.4) == pytest.approx(0.35)
    assert reward_gap(0.6, 0.5, 0.7, 0.4) == pytest.approx(-0.2)


def test_an_evaluation_is_the_mean_of_its_images_and_of_rewards_that_are_there() -> None:
    images = [picture(), noisy(picture()) // 200 * 255]  # the second: channels all off or on
    found = signals_of(images, np.array([[0.2, np.nan], [0.4, 0.6]]), np.array([np.nan]), kl=0.5)
    assert found.sharpness == pytest.approx((sharpness(images[0]) + sharpness(images[1])) / 2)
    assert found.high_frequency == pytest.approx(np.mean([high_frequency_share(image) for image in images]))
    assert (found.saturation, found.clipped) == pytest.approx(np.mean([saturation(image) for image in images], axis=0))
    assert found.training_reward == pytest.approx(0.4)
    assert found.held_out_reward is None
    assert found.kl == 0.5
    assert signals_of(images, np.array([0.2]), np.array([0.3, np.nan]), kl=0).held_out_reward == pytest.approx(0.3)
    assert signals_of(images, np.array([0.2]), None, kl=0).held_out_reward is None


SIGNS = [
    ({"sharpness": 0.0302}, "1.51 times as sharp", {"sharpness": 0.0298}),
    ({"sharpness": 0.0132}, "0.66 times as sharp", {"sharpness": 0.0135}),
    ({"high_frequency": 0.16}, "high frequencies is 1.60 times", {"high_frequency": 0.14}),
    ({"saturation": 0.49}, "saturation rose by 0.090", {"saturation": 0.47}),
    ({"clipped": 0.16}, "clipped pixels rose by 0.110", {"clipped": 0.14}),
    ({"training_reward": 0.61}, "gained 0.110 more", {"training_reward": 0.59}),
    ({"held_out_reward": 0.29}, "gained 0.110 more", {"training_reward": 0.8, "held_out_reward": 0.71}),
    ({"kl": 0.21}, "KL to the reference is 0.21", {"kl": 0.19}),
]


@pytest.mark.parametrize(("beyond", "said", "within"), SIGNS)
def test_each_sign_stops_beyond_its_limit_alone(beyond: dict[str, float], said: str, within: dict[str, float]) -> None:
    rule = StopRule(max_kl=0.2, patience=2)
    reason = rule.reason([START, replace(START, **beyond), replace(START, **beyond)])
    assert reason is not None
    assert said in reason
    assert reason.endswith("in the last 2 evaluations")
    assert rule.reason([START, replace(START, **within), replace(START, **within)]) is None


def test_a_sign_must_stand_for_the_whole_patience() -> None:
    rule, loud, noisy_too = StopRule(), replace(START, saturation=0.6), replace(START, high_frequency=0.5)
    assert rule.reason([]) is None
    assert rule.reason([START, loud, loud]) is None
    assert rule.reason([START, loud, START, loud, loud]) is None
    assert rule.reason([START, loud, loud, noisy_too]) is None
    assert rule.reason([START, START, loud, loud, loud]) is not None
    assert rule.reason([loud, loud, loud, loud, loud]) is None  # that is how it began
    assert StopRule(patience=1).reason([START, loud]) == "saturation rose by 0.200 since the start (limit 0.08)"


@given(rewards=st.lists(st.one_of(st.none(), st.just(float("nan"))), min_size=4, max_size=4))
def test_what_is_missing_is_no_sign(rewards: list[float | None]) -> None:
    assert StopRule().reason([replace(START, held_out_reward=reward) for reward in rewards]) is None
    assert StopRule().reason([START, *[replace(START, training_reward=float("nan"))] * 3]) is None


def test_without_a_limit_on_the_kl_it_is_no_sign() -> None:
    assert StopRule(patience=1).reason([START, replace(START, kl=1e9)]) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"sharpness_ratio": 1.0},
        {"high_frequency_ratio": 0.5},
        {"saturation_rise": 0.0},
        {"clipped_rise": -1.0},
        {"max_reward_gap": float("nan")},
        {"max_kl": 0.0},
        {"patience": 0},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        StopRule(**wrong)  # type: ignore[arg-type]

"""Figures that warn of reward hacking, and the rule that stops a training for them.

A policy that pleases its reward by other means than better edits shows it in its pictures first: noise, too much
sharpening or blur, loud colours; or its reward rises where a second one, which it does not train on, does not follow.
All are compared with what the policy showed at the start, on the same requests. Not here: the KL to the reference
(`objective.Figures`), which the rule takes as it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.images import ImageU8
from schemas.errors import BadInput

Floats = NDArray[np.float64]

_LUMINANCE = np.array([0.299, 0.587, 0.114])
#: Cycles per pixel from which a frequency is high: half of the highest there is along an axis.
_HIGH_FREQUENCY = 0.25
#: Energy per pixel (lightness of 1, squared) that is rounding, no structure.
_NO_ENERGY = 1e-12


class Saturation(NamedTuple):
    """mean: of HSV's saturation, 0..1; clipped: share of pixels with a channel at 0 or 255."""

    mean: float
    clipped: float


@dataclass(frozen=True)
class Signals:
    """The figures of one evaluation, each a mean over its images.

    sharpness, high_frequency, saturation, clipped: as the functions here; kl: to the reference, in the unit of its
    form; training_reward, held_out_reward: in [0, 1], the second by a reward that is not trained on, None without one.
    """

    sharpness: float
    high_frequency: float
    saturation: float
    clipped: float
    kl: float
    training_reward: float
    held_out_reward: float | None = None


def sharpness(image: ImageU8) -> float:
    """Variance of the Laplacian of lightness (0..1) over inner pixels. image: HWC uint8 RGB, at least 3 x 3 px."""
    light = _lightness(image)
    sides = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:]
    return float((sides - 4 * light[1:-1, 1:-1]).var())


def high_frequency_share(image: ImageU8) -> float:
    """The share of the energy of lightness, its mean apart, at or above half the highest frequency; 0 for a flat image.

    image: HWC uint8 RGB. Under a Hann window, so that opposite edges of the image make no frequency.
    """
    light = _lightness(image)
    height, width = light.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    centred = light - (light * window).sum() / window.sum()
    energy = np.abs(np.fft.fft2(centred * window)) ** 2
    if energy.sum() <= _NO_ENERGY * light.size**2:
        return 0.0
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    return float(energy[frequency >= _HIGH_FREQUENCY].sum() / energy.sum())


def saturation(image: ImageU8) -> Saturation:
    """How loud the colours are. image: HWC uint8 RGB."""
    highest, lowest = image.max(axis=-1).astype(np.float64), image.min(axis=-1).astype(np.float64)
    clipped = (highest == 255) | (lowest == 0)
    return Saturation(float(((highest - lowest) / np.maximum(highest, 1)).mean()), float(clipped.mean()))


def reward_gap(training: float, training_start: float, held_out: float, held_out_start: float) -> float:
    """By how much the training reward gained more than the held-out one since the start; both in [0, 1]."""
    return (training - training_start) - (held_out - held_out_start)


def signals_of(
    images: Sequence[ImageU8], training_rewards: Floats, held_out_rewards: Floats | None, kl: float
) -> Signals:
    """The figures of one evaluation. rewards: of any shape, in [0, 1], NaN where one is missing.

    A reward that is missing everywhere is NaN (training) or None (held out).
    """
    colours = [saturation(image) for image in images]
    held_out = math.nan if held_out_rewards is None else _mean(held_out_rewards)
    return Signals(
        sharpness=float(np.mean([sharpness(image) for image in images])),
        high_frequency=float(np.mean([high_frequency_share(image) for image in images])),
        saturation=float(np.mean([colour.mean for colour in colours])),
        clipped=float(np.mean([colour.clipped for colour in colours])),
        kl=kl,
        training_reward=_mean(training_rewards),
        held_out_reward=None if math.isnan(held_out) else held_out,
    )


def mean_signals(parts: Sequence[Signals]) -> Signals:
    """The signals of several evaluations of as many images each as one; figures that are missing are left out."""
    names = [field.name for field in fields(Signals)]
    means = {name: _mean(np.array([getattr(part, name) for part in parts], dtype=np.float64)) for name in names}
    held_out = means.pop("held_out_reward")
    return Signals(**means, held_out_reward=None if math.isnan(held_out) else held_out)


def signals_to_json(signals: Signals) -> dict[str, float | None]:
    """Signals for a JSON file, which has no NaN."""
    return {name: None if value is None or math.isnan(value) else value for name, value in asdict(signals).items()}


def signals_from_json(document: Mapping[str, Any]) -> Signals:
    """The signals of a JSON file; a training reward that was missing everywhere is NaN again."""
    reward = document["training_reward"]
    return Signals(**dict(document) | {"training_reward": math.nan if reward is None else reward})


@dataclass(frozen=True)
class StopRule:
    """When a training stops for signs of reward hacking: a sign must stand in `patience` evaluations in a row.

    sharpness_ratio, high_frequency_ratio: so many times the start, or for sharpness so many times less (blur).
    saturation_rise, clipped_rise: above the start, 0..1. max_reward_gap: of `reward_gap`. max_kl: no limit where None:
    its unit hangs on the form of the KL and on the schedule.

    Why these: measured on four photographs at 256 and at 64 px. Beyond the limits lie half an unsharp mask (sharpness
    1.9 to 2.0, high frequencies 1.6 to 1.9), a blur of half a pixel (sharpness .40 to .43), colours 1.3 times as strong
    (saturation +.08) and contrast 1.5 times (clipped +.43); within them noise of 4 levels, JPEG of quality 50, colours
    1.15 times as strong. Noise of 8 levels shows at 256 px (1.6, 1.7), not at 64 (1.2). A gap of .1 is 2.5 points of
    25, and two to three standard errors of the mean of 64 rewards that spread by .25.
    """

    sharpness_ratio: float = 1.5
    high_frequency_ratio: float = 1.5
    saturation_rise: float = 0.08
    clipped_rise: float = 0.1
    max_reward_gap: float = 0.1
    max_kl: float | None = None
    patience: int = 3

    def __post_init__(self) -> None:
        for name in ("sharpness_ratio", "high_frequency_ratio"):
            if not getattr(self, name) > 1:
                raise BadInput(name, f"is {getattr(self, name)}", "give a number above 1: times the start")
        for name in ("saturation_rise", "clipped_rise", "max_reward_gap", "max_kl"):
            if (limit := getattr(self, name)) is not None and not limit > 0:
                raise BadInput(name, f"is {limit}", "give a number above 0")
        if self.patience < 1:
            raise BadInput("patience", f"is {self.patience}", "give 1 or more evaluations")

    def reason(self, history: Sequence[Signals]) -> str | None:
        """Why to stop, in a sentence, or None. history: evaluations in order, the first is the start."""
        if len(history) <= self.patience:
            return None
        start, signs = history[0], [self._signs(history[0], now) for now in history[-self.patience :]]
        for name, sentence in self._signs(start, history[-1]).items():
            if all(name in sign for sign in signs):
                return f"{sentence}, in the last {self.patience} evaluations" if self.patience > 1 else sentence
        return None

    def _signs(self, start: Signals, now: Signals) -> dict[str, str]:
        """The signs of one evaluation, each with its sentence. A figure that is NaN is no sign."""
        found = {}
        sharper = now.sharpness / max(start.sharpness, _NO_ENERGY)
        if sharper > self.sharpness_ratio:
            found["sharp"] = f"images are {sharper:.2f} times as sharp as at the start (limit {self.sharpness_ratio:g})"
        if sharper < (least := 1 / self.sharpness_ratio):
            found["blurred"] = f"images are {sharper:.2f} times as sharp as at the start (at least {least:g})"
        noisier = now.high_frequency / max(start.high_frequency, _NO_ENERGY)
        if noisier > self.high_frequency_ratio:
            limit = f"limit {self.high_frequency_ratio:g}"
            found["noisy"] = f"the share of high frequencies is {noisier:.2f} times that at the start ({limit})"
        if (rise := now.saturation - start.saturation) > self.saturation_rise:
            found["saturated"] = f"saturation rose by {rise:.3f} since the start (limit {self.saturation_rise:g})"
        if (rise := now.clipped - start.clipped) > self.clipped_rise:
            found["clipped"] = f"the share of clipped pixels rose by {rise:.3f} (limit {self.clipped_rise:g})"
        if now.held_out_reward is not None and start.held_out_reward is not None:
            rewards = now.training_reward, start.training_reward, now.held_out_reward, start.held_out_reward
            if (gap := reward_gap(*rewards)) > self.max_reward_gap:
                limit = f"limit {self.max_reward_gap:g}"
                found["gap"] = f"the training reward gained {gap:.3f} more than the held-out one ({limit})"
        if self.max_kl is not None and now.kl > self.max_kl:
            found["far"] = f"the KL to the reference is {now.kl:.3g} (limit {self.max_kl:g})"
        return found


def _lightness(image: ImageU8) -> Floats:
    """(H, W), 0..1."""
    return np.asarray(image @ _LUMINANCE / 255, dtype=np.float64)


def _mean(rewards: Floats) -> float:
    """The mean of what is not missing; NaN where all is."""
    known = rewards[~np.isnan(rewards)]
    return float(known.mean()) if known.size else math.nan

"""What a rollout is worth: scores per planned region by any reward behind `training.reward_protocol`, or by an oracle.

| spec | reward |
|---|---|
| `oracle` | `pixel_oracle` against the goal of a request that the embedded editor can carry out |
| `constant:SCORE` | the same score everywhere, 0..25: nothing to learn from |
| else | as `training.reward_registry.make_reward`: region network, a judge behind an API, rivals that compare pixels |

A reward may be remote and die: what it does not answer is missing, counted, and takes no part.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from math import isfinite, nan
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.editors.oracle import pixel_oracle
from runtime.exits import LEFT
from runtime.images import ImageU8
from runtime.masks import MaskBool
from runtime.specs import parse_spec
from schemas.errors import BadInput, RegionwiseError
from schemas.score import SCORE_MAX, region_reward
from training.policy.edit_cases import PolicyCase
from training.policy.token_masks import TokenGrid
from training.reward_protocol import Prediction, Reward, RewardQuery

log = logging.getLogger(__name__)

OWN = ("oracle", "constant")


@dataclass(frozen=True)
class RegionRewards:
    """What one edited image is worth; NaN where a score is missing.

    phi: planned region id -> min(success, preserve), 0..25; background: its score, 0..25; aesthetics: AES, 0..25.
    """

    phi: Mapping[str, float]
    background: float
    aesthetics: float

    def reward(self, key: str | None) -> float:
        """R_r of a region, or of the background (None): sqrt(phi * AES) / 25, in [0, 1] or NaN."""
        parts = self.background if key is None else self.phi[key], self.aesthetics
        reward = region_reward(*(part if isfinite(part) else None for part in parts))
        return nan if reward is None else reward


class CaseReward(Protocol):
    """Scores rollouts. name: what stands in the log; synthetic: whether it is an oracle or a toy."""

    name: str
    synthetic: bool

    def score(self, cases: Sequence[PolicyCase], images: Sequence[ImageU8]) -> list[RegionRewards]:
        """What each image is worth as an edit of its case; the image has the size of the case's source."""
        ...


class OracleReward:
    """The pixel oracle. Raises: BadInput, when asked, for a case without a goal."""

    name, synthetic = "oracle", True

    def score(self, cases: Sequence[PolicyCase], images: Sequence[ImageU8]) -> list[RegionRewards]:
        """As `CaseReward`."""
        return [self._one(case, image) for case, image in zip(cases, images, strict=True)]

    def _one(self, case: PolicyCase, image: ImageU8) -> RegionRewards:
        if case.wanted is None:
            raise BadInput(f"request {case.id}", "has no goal that an oracle could know", "choose another reward")
        scored = pixel_oracle(case.source, case.wanted, image, case.masks, candidate_id=case.id)
        phi = {region.region: _least(region.success, region.preserve) for region in scored.regions}
        return RegionRewards(phi, _known(scored.background), _least(scored.naturalness, scored.artifacts))


class ConstantReward:
    """The same score everywhere, 0..25."""

    name, synthetic = "constant", True

    def __init__(self, points: float) -> None:
        self._points = points

    def score(self, cases: Sequence[PolicyCase], images: Sequence[ImageU8]) -> list[RegionRewards]:
        """As `CaseReward`."""
        return [RegionRewards(dict.fromkeys(case.masks, self._points), self._points, self._points) for case in cases]


class ModelReward:
    """A reward of `training.reward`."""

    synthetic = False

    def __init__(self, reward: Reward) -> None:
        self.name, self._reward = reward.name, reward

    def score(self, cases: Sequence[PolicyCase], images: Sequence[ImageU8]) -> list[RegionRewards]:
        """As `CaseReward`."""
        queries = [
            RewardQuery(case.source, image, case.request.instruction, case.masks)
            for case, image in zip(cases, images, strict=True)
        ]
        return [_of_prediction(p, c) for p, c in zip(self._reward.score(queries), cases, strict=True)]


def make_case_reward(spec: str) -> CaseReward:
    """The reward of a spec. Raises: BadInput for one that is not known or cannot be had."""
    if spec.partition(":")[0] not in OWN:
        from training.reward_registry import make_reward

        return ModelReward(make_reward(spec))
    name, place = parse_spec(spec, OWN, "reward")
    if name == "oracle":
        return OracleReward()
    try:
        points = float(place or "")
    except ValueError:
        points = nan
    if not 0 <= points <= SCORE_MAX:
        raise BadInput(f"reward {spec!r}", "gives no score from 0 to 25", "write constant:SCORE")
    return ConstantReward(points)


def _of_prediction(prediction: Prediction, case: PolicyCase) -> RegionRewards:
    phi = dict.fromkeys(case.masks, nan)
    for key, scores in prediction.regions.items():
        if key in phi:
            phi[key] = _least(scores.success.mean, scores.preserve.mean)
    aesthetics = _least(prediction.naturalness.mean, prediction.artifacts.mean)
    return RegionRewards(phi, _known(prediction.background.mean), aesthetics)


def _known(score: float | None) -> float:
    """The score where it is there and in range, else NaN: never imputed."""
    return float(score) if score is not None and isfinite(score) and 0 <= score <= SCORE_MAX else nan


def _least(a: float | None, b: float | None) -> float:
    first, second = _known(a), _known(b)
    return min(first, second) if isfinite(first) and isfinite(second) else nan


def nothing_known(case: PolicyCase) -> RegionRewards:
    """The rewards of an image that was not scored."""
    return RegionRewards(dict.fromkeys(case.masks, nan), nan, nan)


def cropped(case: PolicyCase, grid: TokenGrid) -> PolicyCase:
    """The case as the policy sees it: source, masks and goal scaled and cropped as its preprocessing does it.

    Regions that the crop leaves nothing of are gone, the same that `token_masks` drops.
    """
    if case.source.shape[:2] == (grid.height_px, grid.width_px):
        return case
    return replace(
        case,
        source=_cropped_image(case.source, grid),
        masks={key: cut for key, mask in case.masks.items() if (cut := _cropped_mask(mask, grid)).any()},
        wanted=None if case.wanted is None else _cropped_image(case.wanted, grid),
    )


def _cropped_image(image: ImageU8, grid: TokenGrid) -> ImageU8:
    size = grid.resized_width_px, grid.resized_height_px
    shrinks = size[0] < image.shape[1]
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.ascontiguousarray(_window(resized, grid))


def _cropped_mask(mask: MaskBool, grid: TokenGrid) -> MaskBool:
    covered = cv2.resize(
        mask.astype(np.float32), (grid.resized_width_px, grid.resized_height_px), interpolation=cv2.INTER_AREA
    )
    window = _window(covered, grid)
    return np.ascontiguousarray(window >= min(0.5, max(float(window.max()), 1e-6)))  # a thin thing stays a thing


def _window(image: NDArray[Any], grid: TokenGrid) -> NDArray[Any]:
    return image[grid.top_px : grid.top_px + grid.height_px, grid.left_px : grid.left_px + grid.width_px]


def _checked(cases: Sequence[PolicyCase], given: Sequence[RegionRewards]) -> list[RegionRewards]:
    """What a reward answered. Raises: ValueError where it is not of these cases: all after it would be another's."""
    if len(given) != len(cases):
        raise ValueError(f"answered {len(given)} scores for {len(cases)} images")
    for case, one in zip(cases, given, strict=True):
        if lacking := sorted(case.masks.keys() - one.phi.keys()):
            raise ValueError(f"answered no score for region {lacking[0]} of request {case.id}")
    return list(given)


@dataclass(frozen=True)
class _Asked:
    """A batch of rollouts on its way to the reward, and the answer to come."""

    cases: list[PolicyCase]
    images: list[ImageU8]
    answer: "Future[list[RegionRewards]]"


class RewardQueue:
    """Scores rollouts on threads while the next are sampled. timeout_s: how long one batch may take, once waited for.

    failures: what the reward did wrong, a line each, and how many images went unscored for it.
    The threads are daemons: those of a ThreadPoolExecutor would keep the process from ending while one waits for good.
    """

    def __init__(self, reward: CaseReward, *, threads: int, timeout_s: float) -> None:
        self._reward, self._timeout_s, self._threads = reward, timeout_s, threads
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._waiting: list[_Asked] = []
        self.failures: list[str] = []
        for _ in range(threads):
            Thread(target=self._work, name=f"{LEFT}reward", daemon=True).start()

    def submit(self, cases: list[PolicyCase], images: list[ImageU8]) -> None:
        """Asks for the rewards of a batch."""
        asked = _Asked(cases, images, Future())
        self._waiting.append(asked)
        self._asked.put(asked)

    def collect(self) -> list[RegionRewards]:
        """The rewards of everything submitted since the last call, in order; missing where the reward failed.

        Raises: BadInput where the reward says that its input is at fault: no later batch would do better.
        """
        waiting, self._waiting = self._waiting, []
        return [rewards for asked in waiting for rewards in self._answer(asked)]

    def close(self) -> None:
        """Lets go of the threads; what is still under way is not waited for."""
        for asked in self._waiting:
            asked.answer.cancel()
        for _ in range(self._threads):
            self._asked.put(None)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            if asked.answer.set_running_or_notify_cancel():
                try:
                    asked.answer.set_result(_checked(asked.cases, self._reward.score(asked.cases, asked.images)))
                except BaseException as error:  # raised where the answer is waited for
                    asked.answer.set_exception(error)

    def _answer(self, asked: _Asked) -> list[RegionRewards]:
        try:
            return asked.answer.result(self._timeout_s)
        except BadInput:
            raise
        except (RegionwiseError, OSError, ValueError, RuntimeError) as error:
            late = isinstance(error, TimeoutError) and not asked.answer.done()
            fault = f"did not answer within {self._timeout_s:g} s" if late else f"failed: {error}"
        asked.answer.cancel()  # not begun yet: it would only keep the next ones waiting
        self.failures.append(f"reward {self._reward.name} {fault}; {len(asked.cases)} images unscored")
        log.warning(self.failures[-1])
        return [nothing_known(case) for case in asked.cases]

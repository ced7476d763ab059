"""How well a policy carries out requests for several regions at once, region by region.

    benchmark = build_benchmark(folder, "scenes", scene_requests())
    result = score_edits(benchmark, edits, OracleScorer(), policy="klein")
    compare(start, result)

Per region phi_r and R_r as in `schemas.score`; a region is right from `RIGHT_FROM` on, a request where all of its
regions are. The scorer is the pixel oracle, for what the procedural editor can carry out, or any reward. A missing
score, and every score of a missing edit, is left out of the means and counted. Intervals: bootstrap over sources.

As commands: `training.evaluation.benchmark`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from pipeline.requests.files import read_outside_image
from runtime.bootstrap import Floats, Ints, group_index, resamples
from runtime.images import BadImage, ImageU8
from schemas.edit_benchmarks import (
    MultiEditAnswer,
    MultiEditFigures,
    MultiEditResult,
    PairedFigure,
    PolicyEvaluation,
    RegionResult,
)
from schemas.errors import BadInput
from schemas.reward import BACKGROUND
from schemas.score import LEVEL_SCORES, SCORE_MAX, minimum, region_reward
from training.evaluation.intervals import mean_interval, number
from training.evaluation.multi_edit_items import Benchmark, Item
from training.evaluation.multi_edit_scorers import Scorer
from training.predictions import MISSING, count_missing, in_chunks, phi_of, usable
from training.reward_protocol import Prediction, RewardQuery

#: The phi from which a region, and the background score from which a background, is right: what a person says with the
#: level 3 of 0..4 (19 of 25), and a judge's prompt calls "well, with visible flaws"; so the bar is the same for a
#: person, a judge and the oracle. Just under it lies halfway (13).
RIGHT_FROM = float(LEVEL_SCORES[3])
BOOTSTRAP_SAMPLES = 1000
CHUNK = 16
Compared = Literal["region_reward", "region_phi", "region_right", "all_right", "background"]


def score_edits(
    benchmark: Benchmark,
    edits: Mapping[str, ImageU8] | Callable[[Item], ImageU8 | None],
    scorer: Scorer,
    *,
    policy: str,
    right_from: float = RIGHT_FROM,
    bootstrap_samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
) -> MultiEditResult:
    """The figures of a policy's edits. edits: by request id, or what makes one; without one all its scores are missing.

    Raises: BadInput for an edit of another size than its source, one of a request that is not in the benchmark, or as
    the scorer; ValueError where the scorer answers more or fewer than it is asked.
    """
    known = {item.request.id for item in benchmark.manifest.items}
    for key in () if callable(edits) else edits:
        if key not in known:
            raise BadInput(f"edit {key}", f"is of no request of {benchmark.manifest.name}", "name edits by request id")
    edit = edits if callable(edits) else lambda item: edits.get(item.id)
    answers: list[MultiEditAnswer] = []
    predictions: list[Prediction] = []
    queries: list[RewardQuery] = []
    for items in in_chunks(benchmark.items(), CHUNK):
        images = [_edited(item, edit) for item in items]
        predicted = _ask(scorer, items, images)
        answers += [
            _answer(item, image is not None, found) for item, image, found in zip(items, images, predicted, strict=True)
        ]
        predictions += predicted
        queries += [RewardQuery(_NO_PIXELS, _NO_PIXELS, "", dict.fromkeys(item.masks, _NO_MASK)) for item in items]
    coverage, missing = count_missing(predictions, queries)
    figures = _FigureSettings(right_from, bootstrap_samples, seed)
    numbers = sorted({len(answer.regions) for answer in answers})
    return MultiEditResult(
        benchmark=benchmark.manifest.name,
        benchmark_sha256=benchmark.sha256,
        policy=policy,
        scorer=scorer.name,
        synthetic=scorer.synthetic or benchmark.manifest.synthetic > 0,
        right_from=right_from,
        overall=figures.of(answers),
        by_regions={n: figures.of([answer for answer in answers if len(answer.regions) == n]) for n in numbers},
        coverage=coverage,
        missing=missing,
        not_edited=sum(not answer.edited for answer in answers),
        bootstrap_samples=bootstrap_samples,
        answers=tuple(answers),
    )


_NO_PIXELS, _NO_MASK = np.zeros((1, 1, 3), dtype=np.uint8), np.zeros((1, 1), dtype=np.bool_)


def _edited(item: Item, edit: Callable[[Item], ImageU8 | None]) -> ImageU8 | None:
    image = edit(item)
    if image is not None and (image.shape != item.source.shape or image.dtype != np.uint8):
        fault = f"is {image.dtype} {list(image.shape)}, its source uint8 {list(item.source.shape)}"
        raise BadInput(f"edit {item.id}", fault, "give edited images in their source's size")
    return image


def _ask(scorer: Scorer, items: Sequence[Item], images: Sequence[ImageU8 | None]) -> list[Prediction]:
    """One prediction per item, all missing where there is no image."""
    there = [(item, image) for item, image in zip(items, images, strict=True) if image is not None]
    answers = scorer.score([item for item, _ in there], [image for _, image in there]) if there else []
    if len(answers) != len(there):
        raise ValueError(f"scorer {scorer.name} gave {len(answers)} answers to {len(there)} edits")
    rest = iter(answers)
    nothing = Prediction({}, MISSING, MISSING, MISSING, MISSING, MISSING)
    return [nothing if image is None else next(rest) for image in images]


def _answer(item: Item, edited: bool, found: Prediction) -> MultiEditAnswer:
    aesthetics = minimum(usable(found.naturalness).mean, usable(found.artifacts).mean)
    phi = {key: phi_of(found, key).mean for key in item.masks}
    return MultiEditAnswer(
        request=item.id,
        group=item.record.group,
        edited=edited,
        regions=tuple(
            RegionResult(region=key, phi=points, reward=region_reward(points, aesthetics))
            for key, points in phi.items()
        ),
        background=phi_of(found, BACKGROUND).mean,
    )


@dataclass(frozen=True)
class _Columns:
    """Answers as columns, NaN where missing. group: index of the source, of each item and of each region."""

    item_group: Ints
    region_group: Ints
    phi: Floats
    reward: Floats
    right: Floats
    all_right: Floats
    background: Floats
    background_right: Floats

    @property
    def by_name(self) -> dict[Compared, tuple[Floats, Ints]]:
        """What is compared: values and the source of each."""
        return {
            "region_reward": (self.reward, self.region_group),
            "region_phi": (self.phi / SCORE_MAX, self.region_group),
            "region_right": (self.right, self.region_group),
            "all_right": (self.all_right, self.item_group),
            "background": (self.background, self.item_group),
        }


def _columns(answers: Sequence[MultiEditAnswer], right_from: float) -> _Columns:
    groups = group_index([answer.group for answer in answers])
    phi = [[number(region.phi) for region in answer.regions] for answer in answers]
    flat = np.array([points for one in phi for points in one])
    background = np.array([number(answer.background) for answer in answers])
    return _Columns(
        item_group=groups,
        region_group=np.repeat(groups, [len(answer.regions) for answer in answers]),
        phi=flat,
        reward=np.array([number(region.reward) for answer in answers for region in answer.regions]),
        right=_reaches(flat, right_from),
        all_right=np.array([_reaches(np.array(one), right_from).min() for one in phi]),
        background=background,
        background_right=_reaches(background, right_from),
    )


def _reaches(values: Floats, bar: float) -> Floats:
    """1 where `values` reach the bar, 0 where not, NaN where missing."""
    return np.where(np.isnan(values), np.nan, (values >= bar).astype(np.float64))


@dataclass(frozen=True)
class _FigureSettings:
    """What every table of figures is made with."""

    right_from: float
    samples: int
    seed: int

    def of(self, answers: Sequence[MultiEditAnswer]) -> MultiEditFigures:
        """The figures of some answers (at least one)."""
        columns = _columns(answers, self.right_from)
        weights = resamples(int(columns.item_group.max()) + 1, self.samples, self.seed)
        named = {name: mean_interval(values, weights[:, group]) for name, (values, group) in columns.by_name.items()}
        kept = mean_interval(columns.background_right, weights[:, columns.item_group])
        return MultiEditFigures(
            n_items=len(answers),
            n_regions=len(columns.phi),
            n_known_regions=int((~np.isnan(columns.phi)).sum()),
            n_known_items=int((~np.isnan(columns.all_right)).sum()),
            n_known_backgrounds=int((~np.isnan(columns.background)).sum()),
            background_right=kept,
            **named,
        )


def compare(
    first: MultiEditResult, second: MultiEditResult, *, bootstrap_samples: int = BOOTSTRAP_SAMPLES, seed: int = 0
) -> PolicyEvaluation:
    """Both policies and the difference, over what has a score in both; one draw of the sources serves both sides.

    Raises: BadInput where the results are of different benchmarks, scorers or bars.
    """
    for what in ("benchmark_sha256", "scorer", "right_from"):
        one, other = getattr(first, what), getattr(second, what)
        if one != other:
            raise BadInput("the two results", f"differ in {what}: {one} and {other}", "compare like with like")
    regions = [[(a.request, [r.region for r in a.regions]) for a in result.answers] for result in (first, second)]
    if regions[0] != regions[1]:
        raise BadInput("the two results", "are of other requests or regions", "score both on the whole benchmark")
    columns = _columns(first.answers, first.right_from), _columns(second.answers, first.right_from)
    weights = resamples(int(columns[0].item_group.max()) + 1, bootstrap_samples, seed)
    return PolicyEvaluation(
        first=first.policy,
        second=second.policy,
        benchmark=first.benchmark,
        scorer=first.scorer,
        synthetic=first.synthetic or second.synthetic,
        right_from=first.right_from,
        figures=tuple(_paired(what, columns, weights) for what in get_args(Compared)),
        n_requests=len(first.answers),
        bootstrap_samples=bootstrap_samples,
    )


def _paired(what: Compared, columns: tuple[_Columns, _Columns], weights: Floats) -> PairedFigure:
    (one, group), (other, _) = (column.by_name[what] for column in columns)
    both = ~np.isnan(one) & ~np.isnan(other)
    drawn = weights[:, group[both]]
    return PairedFigure(
        what=what,
        first=mean_interval(one[both], drawn),
        second=mean_interval(other[both], drawn),
        difference=mean_interval(other[both] - one[both], drawn),
        n=int(both.sum()),
    )


def saved_edits(folder: Path) -> Callable[[Item], ImageU8 | None]:
    """Edits that lie in `folder` as `<request id>.png`; None for one that is not there. Raises: BadInput."""

    def read(item: Item) -> ImageU8 | None:
        try:
            return read_outside_image(folder, item.place)
        except BadImage as error:
            if error.reason == "missing_file":
                return None
            raise BadInput(item.place, error.detail, "edit this request anew") from None

    return read

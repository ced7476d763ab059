"""Does a reward look where it should? Its score of each place against what is known of that place.

(a) without a twin: over (candidate, place) pairs, the AUROC of the place's own phi against "this place is flawed".
    Flawed regions are compared with sound regions, flawed backgrounds with sound backgrounds, all of them of flawed
    candidates: a reward that scores a whole image gets nothing for seeing that an image is bad.
(b) with the clean twin: does the flawed place's score fall most of all places?
(c) named: is the flawed place's score the lowest of all places?

Macro is the mean over kinds of defects. Intervals: bootstrap over sources. Missing scores are left out and counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from runtime.bootstrap import Bools, Floats, Ints, estimate, group_index, mean_over, shares_above, weighted_means
from schemas.reward import BACKGROUND, AurocRow, Band, GapRow, Place, TwinRow
from training.evaluation.localisation_cases import BANDS, DefectCase
from training.predictions import phi_of
from training.reward_protocol import Prediction

MACRO = "macro"


@dataclass(frozen=True)
class Pairs:
    """(candidate, place) pairs with a verdict, N of them. score: phi, NaN where missing; band: '' for sound pairs.

    source, case: index (N,); defect, band: of the pair's candidate.
    """

    case: Ints
    source: Ints
    background: Bools
    defective: Bools
    defect: tuple[str, ...]
    band: tuple[Band, ...]
    score: Floats


def source_index(cases: Sequence[DefectCase]) -> Ints:
    """The index (len(cases),) of each case's source, in the order of their first appearance."""
    return group_index([case.source for case in cases])


Verdicts = Mapping[str, bool | None]


def pairs_of(
    cases: Sequence[DefectCase],
    predictions: Sequence[Prediction],
    sources: Ints,
    verdicts: Sequence[Verdicts] | None = None,
) -> Pairs:
    """All pairs of `cases` that have a verdict. verdicts: instead of the cases' own. sources: index of each case."""
    rows = [
        (number, key, flawed)
        for number, case in enumerate(cases)
        for key, flawed in (verdicts[number] if verdicts is not None else case.verdicts).items()
        if flawed is not None
    ]
    phi = [phi_of(predictions[number], key).mean for number, key, _ in rows]
    number = np.array([row[0] for row in rows], dtype=np.int64)
    return Pairs(
        case=number,
        source=sources[number],
        background=np.array([key == BACKGROUND for _, key, _ in rows], dtype=np.bool_),
        defective=np.array([flawed for *_, flawed in rows], dtype=np.bool_),
        defect=tuple(cases[i].defect.kind for i in number),
        band=tuple(cases[i].band for i in number),
        score=np.array([np.nan if value is None else value for value in phi], dtype=np.float64),
    )


@dataclass(frozen=True)
class Localisation:
    """The AUROCs of one reward, in every resample at once. weights: (B, sources), row 0 ones."""

    pairs: Pairs
    weights: Floats

    @cached_property
    def known(self) -> Bools:
        """Which pairs have a score."""
        return ~np.isnan(self.pairs.score)

    @cached_property
    def above(self) -> Floats:
        """(B, N): for a flawed pair the share of sound places of its sort that score above it; NaN for the rest."""
        pairs = self.pairs
        result = np.full((len(self.weights), len(pairs.score)), np.nan)
        for background in (False, True):
            here = self.known & (pairs.background == background)
            flawed, sound = np.flatnonzero(here & pairs.defective), np.flatnonzero(here & ~pairs.defective)
            if len(flawed) and len(sound):
                weights = self.weights[:, pairs.source[sound]]
                result[:, flawed] = shares_above(pairs.score[flawed], pairs.score[sound], weights)
        return result

    def chosen(self, defect: str | None = None, band: Band = "all", place: Place = "all") -> Bools:
        """Which flawed pairs are of a kind, band and place."""
        pairs = self.pairs
        found = pairs.defective.copy()
        if defect is not None:
            found &= np.array([kind == defect for kind in pairs.defect], dtype=np.bool_)
        if band != "all":
            found &= np.array([one == band for one in pairs.band], dtype=np.bool_)
        if place != "all":
            found &= pairs.background == (place == "background")
        return found

    def auroc(self, flawed: Bools) -> Floats:
        """AUROC (B,) of these flawed pairs against the sound places of their sort."""
        return weighted_means(self.above[:, flawed], self.weights[:, self.pairs.source[flawed]])

    @property
    def defects(self) -> tuple[str, ...]:
        """The kinds of defects that are there, in order of name."""
        return tuple(sorted(set(self.pairs.defect)))

    def macro(self, band: Band = "all", place: Place = "all", without: str | None = None) -> Floats:
        """The mean (B,) of the AUROCs over kinds of defects."""
        chosen = [self.chosen(defect, band, place) for defect in self.defects if defect != without]
        return mean_over([self.auroc(flawed) for flawed in chosen if flawed.any()])

    def row(self, reward: str, defect: str, band: Band = "all", place: Place = "all") -> AurocRow:
        """A row of the table; `macro` as defect for the mean over kinds."""
        flawed = self.chosen(None if defect == MACRO else defect, band, place)
        figures = self.macro(band, place) if defect == MACRO else self.auroc(flawed)
        found = estimate(figures)
        kinds = {bool(value) for value in self.pairs.background[flawed]}
        sound = self.known & ~self.pairs.defective & np.isin(self.pairs.background, list(kinds))
        counts = {"n_defective": int((flawed & self.known).sum()), "n_sound": int(sound.sum())}
        return AurocRow(
            reward=reward,
            defect=defect,
            band=band,
            place=place,
            auroc=found.value,
            low=found.low,
            high=found.high,
            **counts,
        )

    def table(self, reward: str) -> list[AurocRow]:
        """Macro and every kind: over all strengths, each band, and each sort of place that a kind sits in."""
        rows = []
        for defect in (MACRO, *self.defects):
            rows += [self.row(reward, defect, band) for band in ("all", *BANDS)]
            rows += [self.row(reward, defect, "all", place) for place in ("region", "background")]
        return [row for row in rows if row.n_defective]


def gaps(reward: Localisation, rival: Localisation, name: str) -> list[GapRow]:
    """The reward's AUROC less the rival's, macro and by kind; both from the same cases and resamples."""
    rows = []
    for defect in (MACRO, *reward.defects):
        figures = (
            reward.macro() - rival.macro()
            if defect == MACRO
            else reward.auroc(reward.chosen(defect)) - rival.auroc(rival.chosen(defect))
        )
        found = estimate(figures)
        rows.append(GapRow(rival=name, defect=defect, gap=found.value, low=found.low, high=found.high))
    return rows


def falls(case: DefectCase, flawed: Prediction, twin: Prediction) -> dict[str, float | None]:
    """place -> how far its phi lies below its clean twin's, 0..25; missing where either is."""
    found: dict[str, float | None] = {}
    for key in _judged(case):
        now, then = phi_of(flawed, key).mean, phi_of(twin, key).mean
        found[key] = None if now is None or then is None else then - now
    return found


def lownesses(case: DefectCase, flawed: Prediction) -> dict[str, float | None]:
    """place -> how far its phi lies below 0; only their order matters."""
    scores = {key: phi_of(flawed, key).mean for key in _judged(case)}
    return {key: None if score is None else -score for key, score in scores.items()}


def _judged(case: DefectCase) -> list[str]:
    return [key for key, flawed in case.verdicts.items() if flawed is not None]


def share_of_first(values: Mapping[str, float | None], place: str) -> float:
    """1 where `place` has the largest value of all, 1/n where n places share it, else 0; NaN where one is missing."""
    known = {key: value for key, value in values.items() if value is not None}
    if len(known) < len(values) or len(values) < 2:
        return float("nan")
    largest = max(known.values())
    first = [key for key, value in known.items() if value == largest]
    return 1 / len(first) if place in first else 0.0


def first_rows(
    reward: str,
    cases: Sequence[DefectCase],
    values: Sequence[Mapping[str, float | None]],
    sources: Ints,
    weights: Floats,
) -> list[TwinRow]:
    """How often the flawed place has the largest of `values` (by place), over all cases and by kind of defect."""
    right = np.array([share_of_first(found, case.place) for case, found in zip(cases, values, strict=True)])
    chance = np.array([1 / len(found) for found in values])
    rows = []
    for defect in ("all", *sorted({case.defect.kind for case in cases})):
        chosen = np.array([defect in ("all", case.defect.kind) for case in cases]) & ~np.isnan(right)
        found = estimate(weighted_means(right[chosen], weights[:, sources[chosen]]))
        rows.append(
            TwinRow(
                reward=reward,
                defect=defect,
                n=int(chosen.sum()),
                share_right=found.value,
                low=found.low,
                high=found.high,
                chance=float(chance[chosen].mean()) if chosen.any() else None,
            )
        )
    return rows

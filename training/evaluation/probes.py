"""Probes: what becomes of a reward's scores when what it sees is tampered with.

| probe | what is done | a reward that looks |
|---|---|---|
| source_swapped | another request's source | loses much |
| source_dropped | a grey source | loses what needs the source: missed edits, spill, drift |
| instruction_swapped | another request's instruction | loses wrong attributes |
| masks_permuted | the regions' masks change places | its scores follow the masks |
| mirrored | both images and all masks flipped, left and right exchanged in the words | loses nothing |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from runtime.bootstrap import Floats, Ints, estimate
from schemas.reward import BACKGROUND, ProbeRow
from training.evaluation.localisation import Localisation, pairs_of
from training.evaluation.localisation_cases import DefectCase
from training.predictions import ask, phi_of
from training.reward.augmentation import mirrored_words, shows_lettering
from training.reward_protocol import Prediction, Reward, RewardQuery

GREY = 128


def drop_source(query: RewardQuery) -> RewardQuery:
    """`query` with a grey source."""
    return replace(query, source=np.full_like(query.source, GREY))


def mirror(query: RewardQuery) -> RewardQuery:
    """`query` with both images and all masks flipped left to right, and its words with them."""
    return RewardQuery(
        source=np.ascontiguousarray(query.source[:, ::-1]),
        edited=np.ascontiguousarray(query.edited[:, ::-1]),
        instruction=mirrored_words(query.instruction),
        masks={key: np.ascontiguousarray(mask[:, ::-1]) for key, mask in query.masks.items()},
    )


def permute_masks(query: RewardQuery) -> tuple[RewardQuery, dict[str, str]] | None:
    """(`query` with each planned region's mask given to the next, region -> whose mask it has); None for one."""
    keys = [key for key in query.masks if not key.startswith("extra-")]
    if len(keys) < 2:
        return None
    origin = dict(zip(keys, keys[1:] + keys[:1], strict=True))
    return replace(query, masks=dict(query.masks) | {key: query.masks[origin[key]] for key in keys}), origin


@dataclass(frozen=True)
class Tampered:
    """A probe's queries. index: the cases they belong to. moved: region -> whose mask it has, for permuted masks."""

    index: list[int]
    queries: list[RewardQuery]
    moved: list[Mapping[str, str]] | None = None


def _each(cases: Sequence[DefectCase], change: Callable[[RewardQuery], RewardQuery]) -> Tampered:
    return Tampered(list(range(len(cases))), [change(case.query) for case in cases])


def _swapped(cases: Sequence[DefectCase], change: Callable[[DefectCase, DefectCase], RewardQuery | None]) -> Tampered:
    """Each case with a part of the next case, in a circle, that has another source and fits."""
    index, queries = [], []
    for number, case in enumerate(cases):
        for step in range(1, len(cases)):
            other = cases[(number + step) % len(cases)]
            query = change(case, other) if other.source != case.source else None
            if query is not None:
                index.append(number)
                queries.append(query)
                break
    return Tampered(index, queries)


def _other_source(case: DefectCase, other: DefectCase) -> RewardQuery | None:
    if other.query.source.shape != case.query.source.shape:
        return None
    return replace(case.query, source=other.query.source)


def _other_instruction(case: DefectCase, other: DefectCase) -> RewardQuery | None:
    if other.query.instruction == case.query.instruction:
        return None
    return replace(case.query, instruction=other.query.instruction)


def _mirrored(cases: Sequence[DefectCase]) -> Tampered:
    index = [number for number, case in enumerate(cases) if not shows_lettering(case.query.instruction)]
    return Tampered(index, [mirror(cases[number].query) for number in index])


def _permuted(cases: Sequence[DefectCase]) -> Tampered:
    found = [(number, made) for number, case in enumerate(cases) if (made := permute_masks(case.query))]
    return Tampered([n for n, _ in found], [made[0] for _, made in found], [made[1] for _, made in found])


PROBES: dict[str, Callable[[Sequence[DefectCase]], Tampered]] = {
    "source_swapped": lambda cases: _swapped(cases, _other_source),
    "source_dropped": lambda cases: _each(cases, drop_source),
    "instruction_swapped": lambda cases: _swapped(cases, _other_instruction),
    "masks_permuted": _permuted,
    "mirrored": _mirrored,
}


def probe(
    name: str,
    reward: Reward,
    cases: Sequence[DefectCase],
    untouched: Sequence[Prediction],
    sources: Ints,
    weights: Floats,
) -> ProbeRow:
    """One probe: macro AUROC before and after on the cases that it can be done to. untouched: their predictions."""
    tampered = PROBES[name](cases)
    chosen = [cases[number] for number in tampered.index]
    index = sources[tampered.index]
    before = [untouched[number] for number in tampered.index]
    after = ask(reward, tampered.queries)
    macro_before = Localisation(pairs_of(chosen, before, index), weights).macro()
    macro_after = Localisation(pairs_of(chosen, after, index), weights).macro()
    change = estimate(macro_after - macro_before)
    follows = None
    if tampered.moved is not None:
        verdicts = [_moved(case, moved) for case, moved in zip(chosen, tampered.moved, strict=True)]
        follows = estimate(Localisation(pairs_of(chosen, after, index, verdicts), weights).macro()).value
    return ProbeRow(
        probe=name,
        n_candidates=len(chosen),
        before=estimate(macro_before).value,
        auroc=estimate(macro_after).value,
        change=change.value,
        low=change.low,
        high=change.high,
        follows=follows,
        score_change=_mean_change(chosen, before, after),
    )


def _moved(case: DefectCase, moved: Mapping[str, str]) -> dict[str, bool | None]:
    """The verdict of each region's mask, wherever it went; the background keeps its own."""
    return {key: case.verdicts[moved.get(key, key)] for key in case.verdicts}


def _mean_change(
    cases: Sequence[DefectCase], before: Sequence[Prediction], after: Sequence[Prediction]
) -> float | None:
    changes = []
    for case, old, new in zip(cases, before, after, strict=True):
        for key in (*case.query.masks, BACKGROUND):
            then, now = phi_of(old, key).mean, phi_of(new, key).mean
            if then is not None and now is not None:
                changes.append(abs(now - then))
    return float(np.mean(changes)) if changes else None

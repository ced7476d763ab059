"""Which regions of several annotators are one and the same, on one candidate.

A planned region is known by its id. An unplanned one (`extra-n`) is numbered by each annotator alone, so it is known by
its pixels: every two annotators' masks are paired by the Hungarian method, and pairs join into groups from the greatest
overlap down. A group has at most one region of an annotator. Neither the order of annotators nor of regions matters.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from annotation.raters.masks import area_px, overlaps
from schemas.region import ObservedMask
from schemas.score import Annotation, RegionScore

#: From this IoU on two masks show the same region.
SAME_REGION_IOU = 0.5
MAX_EXTRAS = 1_000


@dataclass(frozen=True)
class Group:
    """One region as several annotators saw it. scores, masks: by rater; who has neither did not see it.

    key: the planned region's id, or `extra-n` numbered over the candidate's groups.
    """

    key: str
    scores: Mapping[str, RegionScore] = field(default_factory=dict)
    masks: Mapping[str, ObservedMask] = field(default_factory=dict)


#: (rater, that rater's key)
_Member = tuple[str, str]


def match_regions(annotations: Sequence[Annotation]) -> list[Group]:
    """The regions of one candidate's submitted annotations, planned ones first, each with who saw it.

    annotations: as `annotation.raters.consensus.current` gives them, one a rater. Unplanned regions without a mask are
    known by their key. More than 1,000 unplanned regions are not told apart: the rest is left out.
    """
    submitted = [annotation for annotation in annotations if annotation.state == "submitted"]
    scores = {(a.scores.rater, score.region): score for a in submitted for score in a.scores.regions}
    masks = {(a.scores.rater, mask.region): mask for a in submitted for mask in a.masks}
    members = sorted({*scores, *masks})
    planned = sorted({key for _, key in members if not _is_extra(key)})
    groups: dict[str, list[_Member]] = {key: [member for member in members if member[1] == key] for key in planned}
    groups |= _extras([member for member in members if _is_extra(member[1])], masks)
    return [
        Group(
            key,
            {member[0]: scores[member] for member in joined if member in scores},
            {member[0]: masks[member] for member in joined if member in masks},
        )
        for key, joined in groups.items()
    ]


def _is_extra(key: str) -> bool:
    return key.startswith("extra-")


def extra_number(key: str) -> int:
    """n of `extra-n`."""
    return int(key.removeprefix("extra-"))


def _extras(members: Sequence[_Member], masks: Mapping[_Member, ObservedMask]) -> dict[str, list[_Member]]:
    outlined = [member for member in members if member in masks and area_px(masks[member].mask)]
    joined = _named(_join(outlined, masks))
    for member in sorted(set(members) - set(outlined), key=lambda member: (extra_number(member[1]), member)):
        there = joined.setdefault(member[1], [])
        if all(rater != member[0] for rater, _ in there):
            there.append(member)
    return {key: sorted(joined[key]) for key in sorted(joined, key=extra_number)}


def _join(members: Sequence[_Member], masks: Mapping[_Member, ObservedMask]) -> list[list[_Member]]:
    """Groups of members, at most one of a rater, that overlap on average by `SAME_REGION_IOU`."""
    pairs = _pairs(members, masks)
    group_of: dict[_Member, list[_Member]] = {member: [member] for member in members}
    for one, other in sorted(pairs, key=lambda pair: (-pairs[pair], _content(pair, masks), pair)):
        first, second = group_of[one], group_of[other]
        if first is second or {rater for rater, _ in first} & {rater for rater, _ in second}:
            continue
        across = overlaps([masks[member].mask for member in first], [masks[member].mask for member in second])
        if float(across.mean()) >= SAME_REGION_IOU:
            first += second
            group_of |= dict.fromkeys(second, first)
    return list({id(group): group for group in group_of.values()}.values())


def _pairs(members: Sequence[_Member], masks: Mapping[_Member, ObservedMask]) -> dict[tuple[_Member, _Member], float]:
    """The pairs of every two raters, each region in at most one pair with each other rater, with their IoU."""
    from scipy.optimize import linear_sum_assignment

    by_rater: dict[str, list[_Member]] = {}
    for member in members:
        by_rater.setdefault(member[0], []).append(member)
    found = {}
    for first, second in combinations(sorted(by_rater), 2):
        left, right = by_rater[first], by_rater[second]
        ious = overlaps([masks[member].mask for member in left], [masks[member].mask for member in right])
        fitting = np.where(ious >= SAME_REGION_IOU, ious, 0.0)
        for i, j in zip(*linear_sum_assignment(fitting, maximize=True), strict=True):
            if fitting[i, j]:
                found[left[i], right[j]] = float(fitting[i, j])
    return found


def _content(pair: tuple[_Member, _Member], masks: Mapping[_Member, ObservedMask]) -> list[str]:
    """Decides between equal overlaps by the masks, not by who drew them."""
    return sorted(masks[member].mask.counts for member in pair)


def _named(groups: Sequence[list[_Member]]) -> dict[str, list[_Member]]:
    """Keys for groups: the key that most of its raters gave, the largest group first, else the next free number."""
    named: dict[str, list[_Member]] = {}
    waiting = []
    for group in sorted(groups, key=lambda group: (-len(group), sorted(extra_number(key) for _, key in group), group)):
        counts = Counter(key for _, key in group)
        key = min(counts, key=lambda key: (-counts[key], extra_number(key)))
        if key in named:
            waiting.append(group)
        else:
            named[key] = group
    free = (key for n in range(MAX_EXTRAS) if (key := f"extra-{n}") not in named)
    return named | dict(zip(free, waiting, strict=False))

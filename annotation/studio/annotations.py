"""An annotation of a candidate's task in Label Studio's JSON as a record: scores, masks, comment.

A question that was not answered is a missing score, never a middle one. An annotator sees a region by its name, and the
label of what is drawn says which region it is: a mask that was deleted and drawn anew is still that region, and several
pieces of one name are one region. What bears `new region` is each an unplanned region of that candidate, `extra-n` with
a new n. The per-region answers carry the id of a piece of theirs. Relations between regions, which nobody asks for, are
left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np
from pydantic import ValidationError

from annotation.client import SentRegion, SentTask
from annotation.raters.answers import IMAGE_SCORES
from annotation.studio.brush_rle import decode_brush
from annotation.studio.controls import Control
from annotation.studio.interface import NEW_REGION
from annotation.studio.items import (
    Item,
    Received,
    Unreadable,
    box_px,
    check_item,
    comment_of,
    is_drawn,
    lead_time_s,
    read_received,
    utc,
    words,
)
from runtime.masks import MaskBool, mask_box, mask_to_rle
from schemas.errors import BadInput
from schemas.record import first_fault
from schemas.region import ObservedMask
from schemas.score import LEVEL_SCORES, Annotation, CandidateScore, Issue, RegionScore

LEVELS = {str(level): score for level, score in enumerate(LEVEL_SCORES)}
ISSUES: tuple[Issue, ...] = get_args(Issue)
MAX_EXTRAS = 1_000


def read_annotation(
    raw: Any, sent: SentTask, task: str, project: str, controls: Mapping[str, Control], rater: str
) -> Annotation:
    """The annotation in Label Studio's JSON `raw`, of a task that was sent. rater: the pseudonym that it gets.

    Raises: Unreadable.
    """
    received, items = read_received(raw, task)
    names = frozenset(region.name for region in sent.regions)
    for item in items:
        check_item(item, controls, names)
    answers = _Answers(items, sent, controls)
    try:
        return Annotation(
            id=f"{project}/{received.id}",
            task=task,
            scores=answers.scores(rater),
            masks=tuple(answers.masks()),
            state=_state(received, answers),
            comment=answers.comment(),
            lead_time_s=lead_time_s(received),
            created_at=utc(received.created_at),
            updated_at=utc(received.updated_at),
        )
    except ValidationError as error:
        raise Unreadable("malformed", first_fault(error)) from None


class _Answers:
    """The checked items of one annotation, by region. Raises: Unreadable wherever they do not make one whole."""

    def __init__(self, items: Sequence[Item], sent: SentTask, controls: Mapping[str, Control]) -> None:
        self._sent = sent
        self._pieces = _by_region([item for item in items if is_drawn(item, controls)], sent)
        keys = {region.region: region.region for region in sent.regions}
        keys |= {item.id: key for key, pieces in self._pieces.items() for item in pieces}
        self._given: dict[tuple[str, str], list[str]] = {}
        self._words: list[str] = []
        for item in items:
            if controls[item.from_name].kind == "textarea":
                self._words += words(item)
            elif not is_drawn(item, controls):
                self._keep(item, keys, controls[item.from_name])

    def _keep(self, item: Item, keys: Mapping[str, str], control: Control) -> None:
        if control.per_region and item.id not in keys:
            raise Unreadable("no_region", f"{item.from_name} is about region {item.id!r}, which is not there")
        place = keys[item.id] if control.per_region else "", item.from_name
        chosen = sorted(item.value[control.kind])
        if self._given.setdefault(place, chosen) != chosen:
            raise Unreadable("answered_twice", f"{item.from_name} has two different answers")

    def _score(self, region: str, name: str) -> int | None:
        """0..25, or None where it was not answered."""
        chosen = self._given.get((region, name), [])
        return LEVELS[chosen[0]] if chosen else None

    def scores(self, rater: str) -> CandidateScore:
        """All scores; every region of the task is there, answered or not."""
        keys = [*(region.region for region in self._sent.regions)]
        keys += [key for key in self._pieces if key not in keys]
        regions = tuple(
            RegionScore(
                region=key,
                success=self._score(key, "region_success"),
                preserve=self._score(key, "region_preserve"),
                issues=tuple(issue for issue in ISSUES if issue in self._given.get((key, "region_issues"), [])),
            )
            for key in keys
        )
        image = {name: self._score("", name) for name in IMAGE_SCORES}
        return CandidateScore(candidate=self._sent.candidate, rater=rater, synthetic=False, regions=regions, **image)

    def masks(self) -> Iterator[ObservedMask]:
        """The annotator's mask of every region that is drawn, its pieces together."""
        known = {region.region: region for region in self._sent.regions}
        for key, pieces in self._pieces.items():
            mask = np.logical_or.reduce([_drawn_mask(item, self._sent) for item in pieces])
            yield _observed(key, mask, known.get(key), self._sent.candidate)

    @property
    def cannot_judge(self) -> bool:
        """Whether the annotator says so."""
        return bool(self._given.get(("", "cannot_judge")))

    def comment(self) -> str:
        """What the annotator wrote."""
        return comment_of(self._words)


def _by_region(drawn: Sequence[Item], sent: SentTask) -> dict[str, list[Item]]:
    """The drawn items of every region by its key: by their names, and new ones as the next free `extra-n`."""
    if len({item.id for item in drawn}) < len(drawn) or any(not item.id for item in drawn):
        raise Unreadable("malformed", "has two regions of one id, or one without")
    keys = {region.name: region.region for region in sent.regions}
    pieces: dict[str, list[Item]] = {}
    for item in drawn:
        if (name := _name(item)) != NEW_REGION:
            pieces.setdefault(keys[name], []).append(item)
    free = (f"extra-{n}" for n in range(MAX_EXTRAS) if f"extra-{n}" not in keys.values())
    for item in drawn:
        if _name(item) == NEW_REGION:
            key = next(free, None)
            if key is None:
                raise Unreadable("malformed", f"has more than {MAX_EXTRAS} regions")
            pieces[key] = [item]
    return pieces


def _name(item: Item) -> str:
    """The one label of a drawn item, checked before."""
    return str(item.value[item.type][0])


def _drawn_mask(item: Item, sent: SentTask) -> MaskBool:
    """The mask of a brush, or the filled box, in the candidate's size."""
    if sent.size_hw is None:
        raise Unreadable("unknown_task", "is of a task whose size nobody wrote down")
    height, width = sent.size_hw
    if (item.original_height, item.original_width) != (height, width):
        fault = f"has a region on an image of {item.original_width} x {item.original_height} px, not {width} x {height}"
        raise Unreadable("wrong_size", fault)
    if item.type == "rectanglelabels":
        x1, y1, x2, y2 = box_px(item, height, width)
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[y1:y2, x1:x2] = True
        return mask
    try:
        return decode_brush(item.value.get("rle"), height, width, f"mask of region {item.id}")
    except BadInput as error:
        raise Unreadable("bad_mask", f"{error.thing} {error.fault}") from None


def _observed(key: str, mask: MaskBool, region: SentRegion | None, candidate: str) -> ObservedMask:
    return ObservedMask(
        candidate=candidate,
        region=key,
        origin="annotator",
        status=region.status if region else "unplanned",
        mask=mask_to_rle(mask),
        box=mask_box(mask),
        area_px=int(mask.sum()),
        confidence=1.0,
    )


def _state(received: Received, answers: _Answers) -> Any:
    if received.was_cancelled:
        return "skipped"
    return "cannot_judge" if answers.cannot_judge else "submitted"

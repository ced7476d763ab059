"""An annotation of a candidate's task in Label Studio's JSON as a record: scores, masks, comment.

A question that was not answered is a missing score, never a middle one. An annotator sees a region by its name, and the
label of what is drawn says which region it is: a mask that was deleted and drawn anew is still that region, and several
pieces of one name are one region. What bears `new region` is each an unplanned region of that candidate, `extra-n` with
a new n. The per-region answers carry the id of a piece of theirs. Relations between regions, which nobody asks for, are
left out.

An item that cannot be used is left out with its reason, and with it what would say something else without it: a mask of
which a piece is missing, answers about a new region that nobody can see, two different answers to one question, answers
by an id that two regions have.
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
    DECIDING,
    Dropped,
    Item,
    Received,
    Unreadable,
    box_px,
    check_drawn,
    check_item,
    comment_of,
    is_drawn,
    lead_time_s,
    once,
    part_of,
    read_received,
    usable,
    utc,
)
from runtime.masks import MaskBool, mask_box, mask_to_rle
from schemas.errors import BadInput
from schemas.record import first_fault
from schemas.region import ObservedMask
from schemas.score import LEVEL_SCORES, Annotation, CandidateScore, Issue, RegionScore

LEVELS = {str(level): score for level, score in enumerate(LEVEL_SCORES)}
ISSUES: tuple[Issue, ...] = get_args(Issue)
MAX_EXTRAS = 1_000
DRAWN = ("brushlabels", "rectanglelabels")


def read_annotation(
    raw: Any, sent: SentTask, task: str, project: str, controls: Mapping[str, Control], rater: str
) -> tuple[Annotation, list[Dropped]]:
    """The annotation in Label Studio's JSON `raw`, of a task that was sent, and what of it cannot be used.

    rater: the pseudonym that it gets. Raises: Unreadable where nothing of it can be used.
    """
    dropped: list[Dropped] = []
    received, items = read_received(raw, task, dropped)
    names = frozenset(region.name for region in sent.regions)
    items = once(items, dropped)
    repeated = {drop.part for drop in dropped if drop.reason == "doubled_id"}
    items = usable(items, lambda item: check_item(item, controls, names), dropped)
    read = repeated | {item.part for item in items}
    unknown = [
        place
        for place, one in enumerate(received.result)
        if part_of(place) not in read and _may_be_new(one, controls, sent)
    ]
    answers = _Answers(items, unknown, sent, controls, dropped)
    texts = [item for item in items if controls[item.from_name].kind == "textarea"]
    try:
        annotation = Annotation(
            id=f"{project}/{received.id}",
            task=task,
            scores=answers.scores(rater),
            masks=answers.masks,
            state=_state(received, answers),
            comment=comment_of(texts, dropped),
            lead_time_s=lead_time_s(received, dropped),
            created_at=utc(received.created_at),
            updated_at=utc(received.updated_at),
        )
    except ValidationError as error:
        raise Unreadable("malformed", first_fault(error)) from None
    return annotation, dropped


class _Answers:
    """The checked items of one annotation, by region. What does not make one whole goes to `dropped`.

    unknown: places of items that may have been new regions. masks: of every region that is drawn.
    Raises: Unreadable where it is not clear whether it can be judged.
    """

    def __init__(
        self,
        items: Sequence[Item],
        unknown: Sequence[int],
        sent: SentTask,
        controls: Mapping[str, Control],
        dropped: list[Dropped],
    ) -> None:
        self._sent, self._dropped = sent, dropped
        drawn = [item for item in items if is_drawn(item, controls)]
        pieces = _by_region(drawn, unknown, sent, dropped)
        self.masks = tuple(self._masks(pieces))
        seen = {mask.region for mask in self.masks} | {region.region for region in sent.regions}
        self._keys = _keys_by_id({key: found for key, found in pieces.items() if key in seen}, sent)
        questions: dict[tuple[str, str], list[Item]] = {}
        for item in items:
            if controls[item.from_name].kind == "choices" and self._is_placed(item, controls[item.from_name]):
                place = self._keys[item.id] if controls[item.from_name].per_region else ""
                questions.setdefault((place, item.from_name), []).append(item)
        self._given = {place: found for place, given in questions.items() if (found := self._agreed(given)) is not None}

    def _is_placed(self, item: Item, control: Control) -> bool:
        """Whether it is clear which region an answer is about; else it is dropped."""
        if not control.per_region or item.id in self._keys:
            return True
        fault = f"{item.from_name} is about region {item.id!r}, which is not there once"
        self._dropped.append(item.dropped(Unreadable("no_region", fault)))
        return False

    def _agreed(self, given: Sequence[Item]) -> list[str] | None:
        """What the answers to one question say, sorted; None where they differ: all are dropped."""
        answers = [sorted(item.value["choices"]) for item in given]
        if all(answer == answers[0] for answer in answers):
            return answers[0]
        fault = Unreadable("answered_twice", f"{given[0].from_name} has two different answers")
        if given[0].from_name == DECIDING:
            raise fault
        self._dropped += [item.dropped(fault) for item in given]
        return None

    def _score(self, region: str, name: str) -> int | None:
        """0..25, or None where it was not answered."""
        chosen = self._given.get((region, name), [])
        return LEVELS[chosen[0]] if chosen else None

    def scores(self, rater: str) -> CandidateScore:
        """All scores; every region of the task is there, answered or not."""
        keys = [*(region.region for region in self._sent.regions)]
        keys += [mask.region for mask in self.masks if mask.region not in keys]
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

    def _masks(self, pieces: Mapping[str, Sequence[Item]]) -> Iterator[ObservedMask]:
        """The annotator's mask of every region that is drawn, its pieces together."""
        known = {region.region: region for region in self._sent.regions}
        for key, items in pieces.items():
            mask = self._joined(items)
            if mask is not None:
                yield _observed(key, mask, known.get(key), self._sent.candidate)

    def _joined(self, pieces: Sequence[Item]) -> MaskBool | None:
        """The pixels of pieces together; None where one cannot be read, for what is left would be another mask."""
        masks: list[MaskBool] = []
        read, is_whole = list[Item](), True
        for item in pieces:
            try:
                masks.append(_drawn_mask(item, self._sent))
                read.append(item)
            except Unreadable as fault:
                self._dropped.append(item.dropped(fault))
                is_whole = is_whole and fault.reason == "empty_box"
        if is_whole:
            return np.logical_or.reduce(masks) if masks else None
        missing = Unreadable("piece_missing", "is drawn in pieces, of which another cannot be read")
        self._dropped += [item.dropped(missing) for item in read]
        return None

    @property
    def cannot_judge(self) -> bool:
        """Whether the annotator says so."""
        return bool(self._given.get(("", "cannot_judge")))


def _may_be_new(raw: Any, controls: Mapping[str, Control], sent: SentTask) -> bool:
    """Whether an item that was left out may have been a new region: those behind it keep their number."""
    if not isinstance(raw, dict) or raw.get("id") in [region.region for region in sent.regions]:
        return False
    name = raw.get("from_name")
    control = controls.get(name) if isinstance(name, str) else None
    return (control.kind if control else raw.get("type")) in DRAWN


def _by_region(
    drawn: Sequence[Item], unknown: Sequence[int], sent: SentTask, dropped: list[Dropped]
) -> dict[str, list[Item]]:
    """The drawn items of every region by its key: by their names, and new ones as the next free `extra-n`."""
    keys = {region.name: region.region for region in sent.regions}
    pieces: dict[str, list[Item]] = {}
    for item in drawn:
        if (name := _name(item)) != NEW_REGION:
            pieces.setdefault(keys[name], []).append(item)
    free = (f"extra-{n}" for n in range(MAX_EXTRAS) if f"extra-{n}" not in keys.values())
    new = {item.place: item for item in drawn if _name(item) == NEW_REGION}
    for place in sorted({*new, *unknown}):
        key, found = next(free, None), new.get(place)
        if key is not None and found is not None:
            pieces[key] = [found]
        elif found is not None:
            dropped.append(found.dropped(Unreadable("too_many", f"is beyond the first {MAX_EXTRAS} new regions")))
    return pieces


def _keys_by_id(pieces: Mapping[str, Sequence[Item]], sent: SentTask) -> dict[str, str]:
    """Which region an id stands for. Of several that one whose own id it is; without one it says nothing."""
    drawn: dict[str, set[str]] = {}
    for key, items in pieces.items():
        for item in items:
            drawn.setdefault(item.id, set()).add(key)
    found = {region.region: region.region for region in sent.regions if region.region not in drawn}
    for id_, keys in drawn.items():
        if id_ and (len(keys) == 1 or id_ in keys):
            found[id_] = id_ if id_ in keys else min(keys)
    return found


def _name(item: Item) -> str:
    """The one label of a drawn item, checked before."""
    return str(item.value[item.type][0])


def _drawn_mask(item: Item, sent: SentTask) -> MaskBool:
    """The mask of a brush, or the filled box, in the candidate's size. Raises: Unreadable."""
    check_drawn(item)
    if sent.size_hw is None:
        raise Unreadable("unknown_task", "is of a task whose size nobody wrote down")
    height, width = sent.size_hw
    if (item.original_height, item.original_width) != (height, width):
        shown = " x ".join(str(side)[:20] for side in (item.original_width, item.original_height))
        fault = f"has a region on an image of {shown} px, not {width} x {height}"
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

"""Tasks to Label Studio's JSON and its annotations back to records, checked both ways.

What a server hands out is untrusted: Label Studio keeps whatever it is sent. An annotation is taken as a whole or is
`Unreadable` with its reason; a question that was not answered is a missing score, never a middle one.

An annotator sees a region by its name, and the label of what is drawn says which region it is: a mask that was deleted
and drawn anew is still that region, and several pieces of one name are one region. What bears `new region` is each an
unplanned region of that candidate, `extra-n` with a new n. The per-region answers carry the id of a piece of theirs.
Relations between regions, which nobody asks for, are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from annotation.client import SentRegion, SentTask, Task, TaskRegion, sent_task
from annotation.studio.brush_rle import decode_brush, encode_brush
from annotation.studio.controls import Control
from annotation.studio.interface import NEW_REGION, region_boxes, region_labels
from runtime.masks import MaskBool, mask_box, mask_to_rle, rle_to_mask
from schemas.errors import BadInput
from schemas.record import first_fault
from schemas.region import ObservedMask
from schemas.score import LEVEL_SCORES, Annotation, CandidateScore, Issue, RegionScore

TASK_SCHEMA = "studio-task/1"
MODEL_VERSION = "regionwise"
LEVELS = {str(level): score for level, score in enumerate(LEVEL_SCORES)}
IMAGE_SCORES = ("background", "success", "overedit", "naturalness", "artifacts")
ISSUES: tuple[Issue, ...] = get_args(Issue)
MAX_ITEMS = 5_000
MAX_COMMENT_CHARS = 10_000
MAX_EXTRAS = 1_000
#: How far beyond 0..100 % a box may lie by rounding.
PERCENT_SLACK = 1e-6


class Unreadable(ValueError):
    """An annotation that cannot be used. reason: the code of the reject."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Item(BaseModel):
    """One item of an annotation's result."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    id: Annotated[str, Field(max_length=100)] = ""
    type: Annotated[str, Field(max_length=40)]
    from_name: Annotated[str, Field(max_length=100)] = ""
    to_name: Annotated[str, Field(max_length=100)] = ""
    value: dict[str, Any] = {}
    original_width: int | None = None
    original_height: int | None = None
    image_rotation: float | None = 0


class Received(BaseModel):
    """The parts of an annotation that are read."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    id: int
    task: int
    result: Annotated[list[Item], Field(max_length=MAX_ITEMS)]
    was_cancelled: bool = False
    lead_time: float | None = None
    created_at: Annotated[str, Field(max_length=40)]
    updated_at: Annotated[str, Field(max_length=40)]


def studio_task(task: Task, source_image: str, edited_image: str, controls: Mapping[str, Control]) -> dict[str, Any]:
    """The task and its prediction as Label Studio imports them. Images: URLs that the annotator's browser can read.

    Raises: BadInput for a task without a size, with masks of another size or of another candidate, regions that come
    twice, or a prediction that does not fit `controls`.
    """
    thing = f"task of candidate {task.candidate}"
    if task.size_hw is None:
        raise BadInput(thing, "does not say how large its image is", "build the run anew")
    names = [region.name for region in sent_task(task).regions]
    items = [_region_item(region, name, task.size_hw, thing) for region, name in zip(task.regions, names, strict=True)]
    if len({item["id"] for item in items}) < len(items):
        raise BadInput(thing, "has a region twice", "build the run anew")
    if any(region.mask.candidate != task.candidate for region in task.regions):
        raise BadInput(thing, "has the mask of another candidate", "build the run anew")
    check_prediction(items, controls, frozenset(names), thing)
    regions = [
        {"region": region.mask.region, "label": region.label, "role": region.role, "origin": region.mask.origin}
        for region in task.regions
    ]
    labels = [region.label for region in task.regions]
    data = {
        "schema": TASK_SCHEMA,
        "candidate": task.candidate,
        "instruction": task.instruction,
        "source_image": source_image,
        "edited_image": edited_image,
        "regions": regions,
        "region_labels": region_labels(labels),
        "region_boxes": region_boxes(labels),
    }
    return {"data": data, "predictions": [{"model_version": MODEL_VERSION, "result": items}]}


def _region_item(region: TaskRegion, name: str, size_hw: tuple[int, int], thing: str) -> dict[str, Any]:
    """A region as an editable brush mask; its numbers are read back and must give the same mask."""
    key, height, width = region.mask.region, *size_hw
    if region.mask.mask.size != size_hw:
        fault = f"has a mask of {list(region.mask.mask.size)} for region {key}, its image is {list(size_hw)}"
        raise BadInput(thing, fault, "build the run anew")
    try:
        mask = rle_to_mask(region.mask.mask)
    except ValueError as error:
        raise BadInput(f"{thing}, region {key}", str(error), "build the run anew") from None
    rle = encode_brush(mask)
    if not np.array_equal(decode_brush(rle, height, width), mask):
        raise BadInput(f"{thing}, region {key}", "does not come back from its brush mask", "report it")
    return {
        "id": key,
        "from_name": "mask",
        "to_name": "edited",
        "type": "brushlabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": rle, "brushlabels": [name]},
    }


def check_prediction(
    items: Sequence[Mapping[str, Any]], controls: Mapping[str, Control], names: frozenset[str], thing: str
) -> None:
    """Raises: BadInput where an item of a prediction does not fit the controls or has coordinates beyond 0..100 %."""
    for item in items:
        try:
            check_item(Item.model_validate(item), controls, names)
        except (Unreadable, ValidationError) as error:
            fault = first_fault(error) if isinstance(error, ValidationError) else str(error)
            remedy = "put annotation/studio/labels.xml back as it was"
            raise BadInput(f"{thing}, region {str(item.get('id'))[:80]}", fault, remedy) from None


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


def read_received(raw: Any, task: str) -> tuple[Received, list[Item]]:
    """The parts of an annotation that are read, and its answers. Raises: Unreadable, also for one of another task."""
    try:
        received = Received.model_validate(raw)
    except (ValidationError, RecursionError) as error:
        detail = first_fault(error) if isinstance(error, ValidationError) else "is nested too deeply"
        raise Unreadable("malformed", detail) from None
    if str(received.task) != task:
        raise Unreadable("other_task", f"says task {received.task}, and lies at task {task}")
    return received, [item for item in received.result if item.type != "relation"]


def control_of(item: Item, controls: Mapping[str, Control]) -> Control:
    """The control that an item is of. Raises: Unreadable where there is none, or it is of another type."""
    control = controls.get(item.from_name)
    if control is None:
        raise Unreadable("unknown_control", f"has an answer of control {item.from_name!r}, which nobody asks")
    if item.type != control.kind or item.to_name != control.to:
        fault = f"{item.from_name} is a {item.type} about {item.to_name!r}, not a {control.kind} about {control.to!r}"
        raise Unreadable("wrong_type", fault)
    return control


def check_item(item: Item, controls: Mapping[str, Control], names: frozenset[str]) -> None:
    """Raises: Unreadable where an item is of no control, of another type, or has a value that cannot be chosen.

    names: of the task's regions, which the controls with dynamic labels take, too.
    """
    control = control_of(item, controls)
    if item.image_rotation:
        raise Unreadable("rotated", f"{item.from_name} was given on an image turned by {item.image_rotation:g} degrees")
    if control.kind == "rectanglelabels":
        _box_px(item, 1, 1)
    if control.kind == "textarea":
        return
    chosen = item.value.get(control.kind)
    if not isinstance(chosen, list) or not all(isinstance(value, str) for value in chosen):
        raise Unreadable("bad_value", f"{item.from_name} holds no list of its values")
    allowed = control.values | (names if control.names else frozenset())
    unknown = [value for value in chosen if value not in allowed]
    if unknown or (control.single and len(chosen) > 1) or (_is_drawn(item, controls) and len(chosen) != 1):
        shown = ", ".join(repr(value[:40]) for value in (unknown or chosen)[:3])
        raise Unreadable("bad_value", f"{item.from_name} is {shown}, which cannot be chosen")


def _box_px(item: Item, height: int, width: int) -> tuple[int, int, int, int]:
    """[x1, y1, x2, y2] in whole pixels of a box in per cent. Raises: Unreadable for one that leaves the image."""
    numbers = [item.value.get(name) for name in ("x", "y", "width", "height")]
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and isfinite(n) for n in numbers):
        raise Unreadable("bad_box", f"{item.from_name} has a box without four numbers")
    x, y, w, h = (float(n) for n in numbers if n is not None)
    if item.value.get("rotation"):
        raise Unreadable("bad_box", f"{item.from_name} has a box that is turned")
    if min(x, y) < -PERCENT_SLACK or min(w, h) <= 0 or max(x + w, y + h) > 100 + PERCENT_SLACK:
        raise Unreadable(
            "bad_box", f"{item.from_name} has x {x:g}, y {y:g}, width {w:g}, height {h:g}, beyond 0..100 %"
        )
    x1, y1 = min(round(x * width / 100), width - 1), min(round(y * height / 100), height - 1)
    return x1, y1, max(round((x + w) * width / 100), x1 + 1), max(round((y + h) * height / 100), y1 + 1)


class _Answers:
    """The checked items of one annotation, by region. Raises: Unreadable wherever they do not make one whole."""

    def __init__(self, items: Sequence[Item], sent: SentTask, controls: Mapping[str, Control]) -> None:
        self._sent = sent
        self._pieces = _by_region([item for item in items if _is_drawn(item, controls)], sent)
        keys = {region.region: region.region for region in sent.regions}
        keys |= {item.id: key for key, pieces in self._pieces.items() for item in pieces}
        self._given: dict[tuple[str, str], list[str]] = {}
        self._words: list[str] = []
        for item in items:
            if controls[item.from_name].kind == "textarea":
                self._words += words(item)
            elif not _is_drawn(item, controls):
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


def _is_drawn(item: Item, controls: Mapping[str, Control]) -> bool:
    return controls[item.from_name].kind in ("brushlabels", "rectanglelabels")


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


def words(item: Item) -> list[str]:
    """The lines of a text field. Raises: Unreadable."""
    text = item.value.get("text", [])
    lines = [text] if isinstance(text, str) else text
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise Unreadable("bad_value", f"{item.from_name} holds no text")
    return lines


def _drawn_mask(item: Item, sent: SentTask) -> MaskBool:
    """The mask of a brush, or the filled box, in the candidate's size."""
    if sent.size_hw is None:
        raise Unreadable("unknown_task", "is of a task whose size nobody wrote down")
    height, width = sent.size_hw
    if (item.original_height, item.original_width) != (height, width):
        fault = f"has a region on an image of {item.original_width} x {item.original_height} px, not {width} x {height}"
        raise Unreadable("wrong_size", fault)
    if item.type == "rectanglelabels":
        x1, y1, x2, y2 = _box_px(item, height, width)
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


def comment_of(lines: Sequence[str]) -> str:
    """What was written, as one text. Raises: Unreadable for more than fits."""
    text = "\n".join(lines)
    if len(text) > MAX_COMMENT_CHARS:
        raise Unreadable("long_comment", f"has a comment of {len(text):,} characters, {MAX_COMMENT_CHARS:,} fit")
    return text


def lead_time_s(received: Received) -> float | None:
    """How long it took, None where nobody says. Raises: Unreadable."""
    lead = received.lead_time
    if lead is not None and not (isfinite(lead) and lead >= 0):
        raise Unreadable("bad_value", f"has a lead time of {lead:g} s")
    return lead


def utc(text: str) -> str:
    """A time as records hold it: UTC, microseconds, `+00:00`. Raises: Unreadable for a text that is no time."""
    try:
        return moment(text).isoformat(timespec="microseconds")
    except ValueError:
        raise Unreadable("malformed", f"has the time {text[:40]!r}") from None


def moment(text: str) -> datetime:
    """The time in an ISO 8601 text; without a zone it is UTC. Raises: ValueError."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)

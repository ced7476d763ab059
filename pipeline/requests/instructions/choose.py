"""From what an instruction names to boxes: the phrases a detector is asked, which of its answers are meant, and where
something to be added goes. Pure functions over boxes; no pixels, no masks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.models.protocols import Detection
from pipeline.requests.instructions.named import Named, Parsed, Phrase

BoxF = tuple[float, float, float, float]
#: Boxes that overlap more than this are one thing found twice.
DOUBLE_IOU = 0.8
#: A thing found for an except-phrase is taken out of what it overlaps this much.
SAME_IOU = 0.5
#: A thing belongs to its owner when this share of it lies in the owner's box.
INSIDE_SHARE = 0.5
EVERYTHING = "everything"
#: no_detection: nothing found. too_few: fewer than the instruction counts on. nothing_left: all of it was excepted.
ChoiceFault = Literal[
    "no_detection", "too_few", "nothing_left", "except_not_found", "owner_not_found", "anchor_not_found"
]


class CannotChoose(ValueError):
    """What was found does not fit what the instruction names; `reason` is the code of the reject."""

    def __init__(self, reason: ChoiceFault, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Choice:
    """What is meant. whole: the image itself, less `left_out`; else `things`, best match first."""

    things: tuple[Detection, ...]
    left_out: tuple[Detection, ...] = ()
    whole: bool = False


def phrases_for(parsed: Parsed) -> tuple[str, ...]:
    """What to ask a detector, each phrase once, in the order of the instruction."""
    heads = (head for named in parsed.targets for head in _heads(named))
    return tuple(dict.fromkeys(head for head in heads if head != EVERYTHING))


def _heads(named: Named) -> Iterator[str]:
    if named.phrase is not None and named.role != "add":
        yield named.phrase.head
        yield from (phrase.head for phrase in named.excluded)
        if named.of is not None:
            yield named.of.head
    if named.where is not None and named.where.anchor is not None:
        yield named.where.anchor.head


def choose(named: Named, phrases: Sequence[str], found: Sequence[Detection], size_px: tuple[int, int]) -> Choice:
    """The things among `found` that `named`, which is there already, means.

    phrases: what the detector was asked, as `Detection.phrase` counts; size_px: (width, height) of the image.
    Raises: CannotChoose; ValueError for something that is yet to be added (`place_for` has its box).
    """
    if named.role == "add":
        raise ValueError(f"{named.label} is to be added; ask place_for")
    left_out = tuple(thing for phrase in named.excluded for thing in _excepted(phrase, phrases, found, size_px))
    if named.phrase is None or named.phrase.head == EVERYTHING:
        return Choice((), left_out, whole=True)
    things = _found(named.phrase.head, phrases, found)
    if not things:
        raise CannotChoose("no_detection", f"no {named.phrase.head!r} was found")
    if named.of is not None:
        things = _owned(things, named, phrases, found, size_px)
    rest = [thing for thing in things if all(iou(thing.box, other.box) < SAME_IOU for other in left_out)]
    if not rest:
        raise CannotChoose("nothing_left", f"every {named.phrase.head!r} that was found is excepted")
    return Choice(tuple(pick(named.phrase, rest, size_px)), left_out)


def _excepted(
    phrase: Phrase, phrases: Sequence[str], found: Sequence[Detection], size_px: tuple[int, int]
) -> list[Detection]:
    things = _found(phrase.head, phrases, found)
    if not things:
        raise CannotChoose("except_not_found", f"no {phrase.head!r} was found, which is to be left out")
    return pick(phrase, things, size_px)


def _owned(
    things: list[Detection], named: Named, phrases: Sequence[str], found: Sequence[Detection], size_px: tuple[int, int]
) -> list[Detection]:
    assert named.of is not None
    owners = _found(named.of.head, phrases, found)
    if not owners:
        raise CannotChoose("owner_not_found", f"no {named.of.head!r} was found, whose {named.label} is meant")
    boxes = [owner.box for owner in pick(named.of, owners, size_px)]
    owned = [thing for thing in things if any(_share_inside(thing.box, box) >= INSIDE_SHARE for box in boxes)]
    if not owned:
        raise CannotChoose("no_detection", f"no {named.label} was found in the {named.of.head}")
    return owned


def _found(head: str, phrases: Sequence[str], found: Sequence[Detection]) -> list[Detection]:
    """The things found for a phrase, best first, each once."""
    kept: list[Detection] = []
    for thing in sorted(found, key=lambda thing: -thing.score):
        if phrases[thing.phrase] == head and all(iou(thing.box, other.box) < DOUBLE_IOU for other in kept):
            kept.append(thing)
    return kept


def pick(phrase: Phrase, things: Sequence[Detection], size_px: tuple[int, int]) -> list[Detection]:
    """Those of `things` that position, rank and count of a phrase mean. Raises: CannotChoose where there are too few.

    All on a side of the image: those with their centre in that half. One without a position: the best found.
    """
    order = _order(phrase.position, size_px)
    ranked = sorted(things, key=order)
    if phrase.count == "all":
        if phrase.position is None or phrase.position not in _HALVES:
            return ranked
        ranked = [thing for thing in ranked if _HALVES[phrase.position](_centre_share(thing.box, size_px))]
        if not ranked:
            raise CannotChoose("too_few", f"no {phrase.head!r} is at the {phrase.position}")
        return ranked
    last = phrase.rank - 1 + phrase.count
    if last > len(ranked):
        raise CannotChoose("too_few", f"{len(ranked)} of {phrase.head!r} found, the instruction counts to {last}")
    return ranked[phrase.rank - 1 : last]


_HALVES: dict[str, Callable[[tuple[float, float]], bool]] = {
    "left": lambda centre: centre[0] < 0.5,
    "right": lambda centre: centre[0] >= 0.5,
    "top": lambda centre: centre[1] < 0.5,
    "bottom": lambda centre: centre[1] >= 0.5,
}


def _centre_share(box: BoxF, size_px: tuple[int, int]) -> tuple[float, float]:
    return (box[0] + box[2]) / (2 * size_px[0]), (box[1] + box[3]) / (2 * size_px[1])


def _order(position: str | None, size_px: tuple[int, int]) -> Callable[[Detection], float]:
    """Smaller is nearer to the position; without one, better found."""
    if position is None:
        return lambda thing: -thing.score
    if position in ("largest", "smallest"):
        sign = -1 if position == "largest" else 1
        return lambda thing: sign * (thing.box[2] - thing.box[0]) * (thing.box[3] - thing.box[1])
    if position in ("front", "back"):  # what stands nearer reaches lower in the picture
        sign = -1 if position == "front" else 1
        return lambda thing: sign * thing.box[3]
    if position == "middle":
        return lambda thing: sum((share - 0.5) ** 2 for share in _centre_share(thing.box, size_px))
    signs = [(0, 1 if word == "left" else -1) for word in position.split() if word in ("left", "right")]
    signs += [(1, 1 if word == "top" else -1) for word in position.split() if word in ("top", "bottom")]
    if not signs:
        raise ValueError(f"position {position!r} is not known")
    return lambda thing: sum(sign * _centre_share(thing.box, size_px)[axis] for axis, sign in signs)


def iou(a: BoxF, b: BoxF) -> float:
    """Intersection over union of two boxes; 0 where both are empty."""
    meet = _meet_area(a, b)
    union = _area(a) + _area(b) - meet
    return meet / union if union > 0 else 0.0


def _area(box: BoxF) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _meet_area(a: BoxF, b: BoxF) -> float:
    return _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def _share_inside(box: BoxF, outer: BoxF) -> float:
    area = _area(box)
    return _meet_area(box, outer) / area if area > 0 else 0.0


#: Relation -> (left, top, right, bottom) of the place, in widths and heights of the anchor from its upper left corner.
_BESIDE: dict[str, BoxF] = {
    "on": (0.15, -0.35, 0.85, 0.35),
    "in": (0.2, 0.2, 0.8, 0.8),
    "at": (0.0, 0.0, 1.0, 1.0),
    "around": (-0.25, -0.25, 1.25, 1.25),
    "between": (0.0, 0.0, 1.0, 1.0),
    "in front of": (0.1, 0.4, 0.9, 1.2),
    "behind": (0.1, -0.4, 0.9, 0.6),
    "above": (0.0, -1.1, 1.0, -0.1),
    "under": (0.0, 0.9, 1.0, 1.9),
    "near": (1.0, 0.0, 2.0, 1.0),
    "left of": (-1.05, 0.0, -0.05, 1.0),
    "right of": (1.05, 0.0, 2.05, 1.0),
}


def place_for(named: Named, phrases: Sequence[str], found: Sequence[Detection], size_px: tuple[int, int]) -> BoxF:
    """The box, inside the image, that something to be added shall fill: a rule of thumb from its relation alone.

    Without a place it is the middle third. Raises: CannotChoose where its anchor was not found.
    """
    width, height = size_px
    if named.where is None or named.where.anchor is None:
        position = (named.where.relation if named.where else "middle").split()
        column = 0 if "left" in position else 2 if "right" in position else 1
        row = 0 if "top" in position or "back" in position else 2 if "bottom" in position or "front" in position else 1
        return column * width / 3, row * height / 3, (column + 1) * width / 3, (row + 1) * height / 3
    anchor = named.where.anchor
    things = _found(anchor.head, phrases, found)
    if not things:
        raise CannotChoose("anchor_not_found", f"no {anchor.head!r} was found, where {named.label} shall go")
    x1, y1, x2, y2 = pick(anchor, things, size_px)[0].box
    left, top, right, bottom = _BESIDE[named.where.relation]
    if named.where.relation == "near" and x2 + (x2 - x1) / 2 > width:
        left, right = -1.0, 0.0
    box = (x1 + left * (x2 - x1), y1 + top * (y2 - y1), x1 + right * (x2 - x1), y1 + bottom * (y2 - y1))
    return _inside(box, size_px)


def _inside(box: BoxF, size_px: tuple[int, int]) -> BoxF:
    """`box` cut to the image; where less than an eighth of it is left, its size is shifted in."""
    cut = (max(0.0, box[0]), max(0.0, box[1]), min(float(size_px[0]), box[2]), min(float(size_px[1]), box[3]))
    if _area(cut) * 8 >= _area(box):
        return cut
    (x1, x2), (y1, y2) = (_shifted(box[k], box[k + 2], size_px[k]) for k in (0, 1))
    return x1, y1, x2, y2


def _shifted(low: float, high: float, limit: int) -> tuple[float, float]:
    length = min(high - low, float(limit))
    start = min(max(low, 0.0), limit - length)
    return start, start + length

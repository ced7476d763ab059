"""The items of an annotation's result in Label Studio's JSON, each checked against the control it belongs to.

What a server hands out is untrusted: Label Studio keeps whatever it is sent. An item that cannot be used is left out
with its reason (`Dropped`), and the rest of its annotation stays. An annotation whose frame cannot be used (whose, of
which task, when) is `Unreadable`, and so is one whose word on whether it can be judged is of no use: what the rest
counts for hangs on it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from annotation.studio.controls import Control
from schemas.record import first_fault

MAX_ITEMS = 5_000
MAX_COMMENT_CHARS = 10_000
MAX_ID_CHARS = 100
#: How far beyond 0..100 % a box may lie, from rounding or a hasty hand, before it means another place; it is cut there.
PERCENT_SLACK = 0.05
#: The control whose answer says what the others count for.
DECIDING = "cannot_judge"


class Unreadable(ValueError):
    """An annotation that cannot be used. reason: the code of the reject."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def part_of(place: int) -> str:
    """The item at that place of a result, among the parts of its annotation."""
    return f"result[{place}]"


@dataclass(frozen=True)
class Dropped:
    """A part of an annotation that cannot be used. part: `result[N]` or the name of a field; reason: as of a reject."""

    part: str
    reason: str
    detail: str


def _id(given: object) -> str:
    return given if isinstance(given, str) and len(given) <= MAX_ID_CHARS and _is_text(given) else ""


class Item(BaseModel):
    """One item of an annotation's result. place: where it stands there, from 0; sizes: as they came, 32.0 is 32.

    id: '' where it has none that is one; what is drawn is known by its label all the same.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    place: int = 0
    id: Annotated[str, BeforeValidator(_id)] = ""
    type: Annotated[str, Field(max_length=40)]
    from_name: Annotated[str, Field(max_length=100)] = ""
    to_name: Annotated[str, Field(max_length=100)] = ""
    value: dict[str, Any] = {}
    original_width: Any = None
    original_height: Any = None
    image_rotation: float | None = 0

    def dropped(self, fault: Unreadable) -> Dropped:
        """What is kept of it where it is left out."""
        return Dropped(self.part, fault.reason, str(fault))

    @property
    def part(self) -> str:
        """What it is called among the parts of its annotation."""
        return part_of(self.place)


class Received(BaseModel):
    """The parts of an annotation that are read."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    id: int
    task: int
    result: Annotated[list[Any], Field(max_length=MAX_ITEMS)]
    was_cancelled: bool = False
    lead_time: Any = None
    created_at: Annotated[str, Field(max_length=40)]
    updated_at: Annotated[str, Field(max_length=40)]


def read_received(raw: Any, task: str, dropped: list[Dropped]) -> tuple[Received, list[Item]]:
    """The parts of an annotation that are read, and its answers; items that are none go to `dropped`.

    Raises: Unreadable, also for one of another task.
    """
    try:
        received = Received.model_validate(raw)
    except (ValidationError, RecursionError) as error:
        raise _malformed(error) from None
    if str(received.task) != task:
        raise Unreadable("other_task", f"says task {received.task}, and lies at task {task}")
    items = []
    for place, one in enumerate(received.result):
        try:
            items.append(Item.model_validate({**one, "place": place} if isinstance(one, dict) else one))
        except (ValidationError, RecursionError) as error:
            fault = _malformed(error)
            dropped.append(Dropped(part_of(place), fault.reason, str(fault)))
    return received, [item for item in items if item.type != "relation" or item.from_name]


def _malformed(error: ValidationError | RecursionError) -> Unreadable:
    return Unreadable("malformed", first_fault(error) if isinstance(error, ValidationError) else "is nested too deeply")


def usable(items: Sequence[Item], check: Callable[[Item], object], dropped: list[Dropped]) -> list[Item]:
    """The items that pass `check`; the others go to `dropped`. Raises: Unreadable for one of the control `DECIDING`."""
    found = []
    for item in items:
        try:
            check(item)
        except Unreadable as fault:
            if item.from_name == DECIDING:
                raise
            dropped.append(item.dropped(fault))
        else:
            found.append(item)
    return found


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

    names: of the task's regions, which the controls with dynamic labels take, too. Where a thing was drawn is not
    looked at (`check_drawn`): an answer about a region stands, wherever the region's outline went.
    """
    control = control_of(item, controls)
    if control.kind == "textarea":
        words(item)
        return
    chosen = item.value.get(control.kind)
    if not isinstance(chosen, list) or not all(isinstance(value, str) for value in chosen):
        raise Unreadable("bad_value", f"{item.from_name} holds no list of its values")
    allowed = control.values | (names if control.names else frozenset())
    unknown = [value for value in chosen if value not in allowed]
    if unknown or (control.single and len(chosen) > 1) or (is_drawn(item, controls) and len(chosen) != 1):
        shown = ", ".join(repr(value[:40]) for value in (unknown or chosen)[:3])
        raise Unreadable("bad_value", f"{item.from_name} is {shown}, which cannot be chosen")


def check_drawn(item: Item) -> None:
    """Raises: Unreadable where a drawn item stands on a turned image, or is a box that leaves it."""
    if item.image_rotation:
        raise Unreadable("rotated", f"{item.from_name} was drawn on an image turned by {item.image_rotation:g} degrees")
    if item.type == "rectanglelabels":
        box_px(item, 1, 1)


def box_px(item: Item, height: int, width: int) -> tuple[int, int, int, int]:
    """[x1, y1, x2, y2] in whole pixels of a box in per cent; by `PERCENT_SLACK` over the edge it is cut there.

    Raises: Unreadable for one that leaves the image, is turned, or (`empty_box`) holds nothing.
    """
    numbers = [finite(item.value.get(name)) for name in ("x", "y", "width", "height")]
    if None in numbers:
        raise Unreadable("bad_box", f"{item.from_name} has a box without four numbers")
    x, y, w, h = (number for number in numbers if number is not None)
    if item.value.get("rotation"):
        raise Unreadable("bad_box", f"{item.from_name} has a box that is turned")
    shown = f"{item.from_name} has x {x:g}, y {y:g}, width {w:g}, height {h:g}"
    if min(x, y) < -PERCENT_SLACK or min(w, h) < 0 or max(x + w, y + h) > 100 + PERCENT_SLACK:
        raise Unreadable("bad_box", f"{shown}, beyond 0..100 %")
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, 100.0), min(y + h, 100.0)
    if left >= right or top >= bottom:
        raise Unreadable("empty_box", f"{shown}, which holds nothing")
    x1, y1 = min(round(left * width / 100), width - 1), min(round(top * height / 100), height - 1)
    return x1, y1, max(round(right * width / 100), x1 + 1), max(round(bottom * height / 100), y1 + 1)


def finite(number: object) -> float | None:
    """A number of JSON, None for what is none or has no end."""
    if not isinstance(number, int | float) or isinstance(number, bool):
        return None
    try:
        found = float(number)
    except OverflowError:  # JSON's whole numbers may be of any length
        return None
    return found if isfinite(found) else None


def is_drawn(item: Item, controls: Mapping[str, Control]) -> bool:
    return controls[item.from_name].kind in ("brushlabels", "rectanglelabels")


def words(item: Item) -> list[str]:
    """The lines of a text field. Raises: Unreadable."""
    text = item.value.get("text", [])
    lines = [text] if isinstance(text, str) else text
    if not isinstance(lines, list) or not all(isinstance(line, str) and _is_text(line) for line in lines):
        raise Unreadable("bad_value", f"{item.from_name} holds no text")
    return lines


def _is_text(line: str) -> bool:
    """Whether it can be written: JSON may hold one half of a letter of two."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def once(items: Sequence[Item], dropped: list[Dropped]) -> list[Item]:
    """The items without those that repeat another of their id word for word, which go to `dropped`."""
    found: list[Item] = []
    by_id: dict[str, list[Item]] = {}
    for item in items:
        same_id = by_id.setdefault(item.id, [])
        if any(other.model_copy(update={"place": item.place}) == item for other in same_id):
            dropped.append(item.dropped(Unreadable("doubled_id", f"is {item.from_name} of {item.id!r} once more")))
        else:
            same_id.append(item)
            found.append(item)
    return found


def comment_of(items: Sequence[Item], dropped: list[Dropped]) -> str:
    """What was written in text fields, checked before, as one text; what does not fit goes to `dropped`."""
    text = ""
    for item in items:
        longer = "\n".join([*([text] if text else []), *words(item)])
        if len(longer) <= MAX_COMMENT_CHARS:
            text = longer
        else:
            fault = f"makes a comment of {len(longer):,} characters, {MAX_COMMENT_CHARS:,} fit"
            dropped.append(item.dropped(Unreadable("long_comment", fault)))
    return text


def lead_time_s(received: Received, dropped: list[Dropped]) -> float | None:
    """How long it took, None where nobody says; a time that is none goes to `dropped`."""
    lead = received.lead_time
    found = finite(lead)
    if lead is None or (found is not None and found >= 0):
        return found
    dropped.append(Dropped("lead_time", "bad_value", f"has a lead time of {str(lead)[:40]}, which is no time in s"))
    return None


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

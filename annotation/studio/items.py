"""The items of an annotation's result in Label Studio's JSON, each checked against the control it belongs to.

What a server hands out is untrusted: Label Studio keeps whatever it is sent. An annotation is taken as a whole or is
`Unreadable` with its reason.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from annotation.studio.controls import Control
from schemas.record import first_fault

MAX_ITEMS = 5_000
MAX_COMMENT_CHARS = 10_000
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
        box_px(item, 1, 1)
    if control.kind == "textarea":
        return
    chosen = item.value.get(control.kind)
    if not isinstance(chosen, list) or not all(isinstance(value, str) for value in chosen):
        raise Unreadable("bad_value", f"{item.from_name} holds no list of its values")
    allowed = control.values | (names if control.names else frozenset())
    unknown = [value for value in chosen if value not in allowed]
    if unknown or (control.single and len(chosen) > 1) or (is_drawn(item, controls) and len(chosen) != 1):
        shown = ", ".join(repr(value[:40]) for value in (unknown or chosen)[:3])
        raise Unreadable("bad_value", f"{item.from_name} is {shown}, which cannot be chosen")


def box_px(item: Item, height: int, width: int) -> tuple[int, int, int, int]:
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


def is_drawn(item: Item, controls: Mapping[str, Control]) -> bool:
    return controls[item.from_name].kind in ("brushlabels", "rectanglelabels")


def words(item: Item) -> list[str]:
    """The lines of a text field. Raises: Unreadable."""
    text = item.value.get("text", [])
    lines = [text] if isinstance(text, str) else text
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise Unreadable("bad_value", f"{item.from_name} holds no text")
    return lines


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

"""Targets for requests that came without: the instruction is read, a detector looks for its things, boxes are chosen.

A request that names targets keeps them as they are. An id hangs on what the user gave, so it is the same before and
after. Whatever cannot be read, found or told apart is a reject with its reason. Where something moves or how much it
grows is said in words alone; the box for it is a rule of thumb.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.models.protocols import Detection, Detector
from pipeline.requests.instructions import CannotParse, Named, Parsed, parse_instruction
from pipeline.requests.instructions.choose import BoxF, CannotChoose, Choice, choose, phrases_for, place_for
from pipeline.requests.instructions.parse import TARGETS_MAX
from runtime.images import ImageU8, box_mask
from runtime.masks import mask_to_rle
from schemas.errors import BadInput
from schemas.geometry import Box
from schemas.record import Scalar
from schemas.request import EditRequest, Target
from schemas.sample import Rejection, Sample

STAGE = "requests"
#: Rows that a detector sees in one call, and the bytes of their images (32 of 1,024 px), held until it has answered.
CHUNK_ROWS = 32
CHUNK_BYTES = 96 * 1024**2
#: Sides of something that shall grow or shrink, as a multiple of what they were.
GROWTH = {"bigger": 1.4, "smaller": 0.7}
#: How far something goes that shall move that way, in its own widths and heights.
STEP = 1.1


@dataclass(frozen=True)
class _Reading:
    """The instructions of a request (one a turn) as read, and what to look for on its source."""

    parsed: tuple[Parsed, ...]
    phrases: tuple[str, ...]


def name_targets(
    rows: Iterable[tuple[Sample | Rejection, ImageU8 | None]], get_detector: Callable[[], Detector]
) -> Iterator[Sample | Rejection]:
    """The rows in their order, those without targets with the boxes that a detector finds for their instruction.

    rows: each with the source that is edited (HWC uint8 RGB), None for a reject. get_detector: called when the first
    row has something to look for.
    Raises: BadInput where the detector answers a box that is none.
    """
    for chunk in _chunks(rows):
        read = [_read(row) for row, _ in chunk]
        jobs = [
            (image, reading.phrases)
            for (_, image), reading in zip(chunk, read, strict=True)
            if isinstance(reading, _Reading) and reading.phrases and image is not None
        ]
        answers = iter(_found(jobs, get_detector()) if jobs else [])
        for (row, _), reading in zip(chunk, read, strict=True):
            if isinstance(reading, _Reading) and isinstance(row, Sample):
                yield _named(row, reading, next(answers) if reading.phrases else [])
            else:
                yield reading if isinstance(reading, Rejection) else row


def _found(jobs: Sequence[tuple[ImageU8, tuple[str, ...]]], detector: Detector) -> list[list[Detection]]:
    answers = detector.detect([image for image, _ in jobs], [phrases for _, phrases in jobs])
    for found in answers:
        _check_boxes(detector, found)
    return answers


def _chunks(
    rows: Iterable[tuple[Sample | Rejection, ImageU8 | None]],
) -> Iterator[list[tuple[Sample | Rejection, ImageU8 | None]]]:
    """The rows in lists of at most `CHUNK_ROWS` and, beyond one image, `CHUNK_BYTES`."""
    chunk, used = list[tuple[Sample | Rejection, ImageU8 | None]](), 0
    for row, image in rows:
        size = image.nbytes if image is not None else 0
        if chunk and (len(chunk) == CHUNK_ROWS or used + size > CHUNK_BYTES):
            yield chunk
            chunk, used = [], 0
        chunk.append((row, image))
        used += size
    if chunk:
        yield chunk


def _read(row: Sample | Rejection) -> _Reading | Rejection | None:
    """The reading of a row without targets, or why there is none; None for a row that stays as it is."""
    if isinstance(row, Rejection) or row.request.targets:
        return None
    parsed: list[Parsed] = []
    for instruction in _turns(row.request):
        try:
            parsed.append(parse_instruction(instruction))
        except CannotParse as error:
            return _rejection(row, error.reason, f"{_quoted(instruction)} {error.detail}")
        if unread := parsed[-1].unread:  # what it asks would count as changed but not named
            detail = f"has a part that is not understood ({unread[0]!r}); say it otherwise, or give targets"
            return _rejection(row, "unread_part", f"{_quoted(instruction)} {detail}")
    return _Reading(tuple(parsed), tuple(dict.fromkeys(phrase for one in parsed for phrase in phrases_for(one))))


def _named(row: Sample, reading: _Reading, found: Sequence[Detection]) -> Sample | Rejection:
    source, targets = row.request.sources[0], []
    size_px = (source.width_px, source.height_px)
    for turn, (instruction, parsed) in enumerate(zip(_turns(row.request), reading.parsed, strict=True)):
        try:
            for named in parsed.targets:
                targets += targets_of(named, reading.phrases, found, size_px, turn)
        except CannotChoose as error:
            return _rejection(row, error.reason, f"{error.detail}; asked by {_quoted(instruction)}")
    if len(targets) > TARGETS_MAX:
        detail = f"{len(targets)} things are meant, at most {TARGETS_MAX} are taken; asked by"
        return _rejection(row, "too_many_targets", f"{detail} {_quoted(row.request.instruction)}")
    operations = {target.operation for target in targets}
    edit_type = row.request.edit_type
    if edit_type == "other":  # what stands there where neither the user nor a target said more
        edit_type = operations.pop() if len(operations) == 1 else "multi"
    request = row.request.model_copy(update={"targets": tuple(targets), "edit_type": edit_type})
    return row.model_copy(update={"request": EditRequest.model_validate(request.model_dump())})


def targets_of(
    named: Named, phrases: Sequence[str], found: Sequence[Detection], size_px: tuple[int, int], turn: int = 0
) -> list[Target]:
    """The targets that one named thing comes to: one a thing that is meant, with boxes in whole pixels of the source.

    The whole image has no box; with exceptions it has the mask of the rest. phrases, found, size_px: as for `choose`.
    Raises: CannotChoose.
    """
    target = named.target().model_copy(update={"turn": turn})
    if named.role == "add":
        return [target.model_copy(update={"box": whole_pixels(place_for(named, phrases, found, size_px), size_px)})]
    choice = choose(named, phrases, found, size_px)
    if choice.whole:
        return [_all_but(target, choice, size_px)]
    return [_placed(target, named, thing.box, phrases, found, size_px) for thing in choice.things]


def _all_but(target: Target, choice: Choice, size_px: tuple[int, int]) -> Target:
    if not choice.left_out:
        return target
    rest = np.ones((size_px[1], size_px[0]), dtype=np.bool_)
    for thing in choice.left_out:
        rest &= ~box_mask(whole_pixels(thing.box, size_px), *rest.shape)
    if not rest.any():
        raise CannotChoose("nothing_left", "what is excepted fills the whole image")
    return target.model_copy(update={"mask": mask_to_rle(rest)})


def _placed(
    target: Target,
    named: Named,
    box: BoxF,
    phrases: Sequence[str],
    found: Sequence[Detection],
    size_px: tuple[int, int],
) -> Target:
    """`target` at `box`, moved or resized to where its instruction says; the words for that become the destination."""
    where = None
    if named.operation == "move" and named.where is not None:
        x1, y1, x2, y2 = place_for(named, phrases, found, size_px)
        where = _moved(box, (x1 + x2 - box[0] - box[2]) / 2, (y1 + y2 - box[1] - box[3]) / 2)
    elif named.operation == "move" and (way := str(named.parameters.get("way") or "")):
        right, down = ("right" in way) - ("left" in way), ("down" in way) - ("up" in way)
        where = _moved(box, right * STEP * (box[2] - box[0]), down * STEP * (box[3] - box[1]))
    elif named.operation == "resize" and named.parameters.get("size") in GROWTH:
        share = (GROWTH[str(named.parameters["size"])] - 1) / 2
        wide, high = share * (box[2] - box[0]), share * (box[3] - box[1])
        where = (box[0] - wide, box[1] - high, box[2] + wide, box[3] + high)
    fields: dict[str, object] = {"box": whole_pixels(box, size_px)}
    if where is not None:
        said: dict[str, Scalar] = {
            name: value for name, value in target.parameters.items() if name not in ("way", "size")
        }
        fields |= {"destination": whole_pixels(_shifted_inside(where, size_px), size_px), "parameters": said}
    return target.model_copy(update=fields)


def _moved(box: BoxF, right_px: float, down_px: float) -> BoxF:
    return box[0] + right_px, box[1] + down_px, box[2] + right_px, box[3] + down_px


def _shifted_inside(box: BoxF, size_px: tuple[int, int]) -> BoxF:
    """`box` shifted into the image, as far as it fits."""
    (x1, x2), (y1, y2) = (
        (
            low := min(max(box[axis], 0.0), max(0.0, size_px[axis] - (box[axis + 2] - box[axis]))),
            low + box[axis + 2] - box[axis],
        )
        for axis in (0, 1)
    )
    return x1, y1, x2, y2


def whole_pixels(box: BoxF, size_px: tuple[int, int]) -> Box:
    """`box` rounded outwards to whole pixels of an image of `size_px` (width, height), at least one pixel a side."""
    (x1, x2), (y1, y2) = (
        (
            low := min(max(0, int(np.floor(box[axis]))), size_px[axis] - 1),
            min(max(low + 1, int(np.ceil(box[axis + 2]))), size_px[axis]),
        )
        for axis in (0, 1)
    )
    return x1, y1, x2, y2


def _check_boxes(detector: Detector, found: Sequence[Detection]) -> None:
    numbers = [number for thing in found for number in (*thing.box, thing.score)]
    if not np.isfinite(numbers).all():
        raise BadInput(
            f"detector {detector.name} {detector.revision}",
            "answered a box or a score that is NaN or infinite",
            "check its checkpoint with another tool",
        )


def _turns(request: EditRequest) -> tuple[str, ...]:
    return request.turns or (request.instruction,)


def _quoted(instruction: str) -> str:
    words = " ".join(instruction.split())
    return f"instruction {words[:160] + ('...' if len(words) > 160 else '')!r}"


def _rejection(row: Sample, reason: str, detail: str) -> Rejection:
    printable = "".join(character if character.isprintable() else " " for character in detail)[:500]
    return Rejection(key=row.key, name=row.request.name, stage=STAGE, reason=reason, detail=printable, sample=row)

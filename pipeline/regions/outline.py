"""Outlines of planned regions by a prompted segmenter: on the source, on the edited image, and back again.

| | prompt on the source | prompt on the edited image | outline |
|---|---|---|---|
| something added | | its box | what is there now |
| something removed | its box | | what was there |
| moved or resized | its box | its destination | both |
| anything else | its box | its box | both |

A mask that comes with the request is taken for the one on the source. Where both images were asked, the box of the new
mask, brought back to the old place, is asked on the source once more: a thing that is the same in both comes back as
the mask it began with (`cycle_iou`). Where it does not, the new mask is of something else and is left out.

It makes no regions: `pipeline.regions.fuse` joins outlines with what changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.models.protocols import Prompt, PromptSegmenter, Segment
from runtime.images import ImageU8, box_mask, resize_mask, scale_box
from runtime.masks import MaskBool, mask_box, rle_to_mask
from schemas.errors import BadInput
from schemas.geometry import Box
from schemas.request import EditRequest, Target


@dataclass(frozen=True)
class OutlineSettings:
    """Which masks of a segmenter are believed."""

    margin_share: float = 0.1
    """A mask may leave its box by this share of the box's longer side, and at least 2 px; the rest is cut off."""
    min_inside_share: float = 0.5
    """A mask with less of its area than this within the grown box is of something else (the whole image, for one)."""
    min_cycle_iou: float = 0.5
    """Below this the masks on source and edited image are not taken for the same thing."""
    unbelieved: float = 0.5
    """What the confidence of a region is multiplied with where no mask is believed and its box has to do."""


DEFAULT = OutlineSettings()


@dataclass(frozen=True)
class Pair:
    """A request's source and one edited image of it, both (H, W, 3) uint8 RGB of one size."""

    request: EditRequest
    source: ImageU8
    edited: ImageU8


@dataclass(frozen=True)
class Outline:
    """A region's outline in the edited frame. mask: (H, W); None where no mask was believed.

    confidence: 0..1, the least predicted IoU of its masks, less where the way back failed. cycle_iou: None where the
    way back was not asked.
    """

    mask: MaskBool | None
    confidence: float
    cycle_iou: float | None = None


@dataclass(frozen=True)
class _PromptBoxes:
    """The prompts for one target. before: on the source; after: on the edited image; box: its old place."""

    box: Box
    before: Box | None
    after: Box | None
    given: MaskBool | None


@dataclass(frozen=True)
class _Mask:
    mask: MaskBool
    confidence: float


_Found = dict[int, _Mask | None]


def outline(
    pairs: Sequence[Pair], segmenter: PromptSegmenter, settings: OutlineSettings = DEFAULT
) -> list[dict[int, Outline]]:
    """For each pair the outlines of its targets by their index; a target without a place in the image has none.

    The prompts of a source go through the segmenter together, once for all pairs of its request.
    Raises: BadInput where the segmenter answers NaN or a mask of another size.
    """
    prompt_boxes = [_prompt_boxes(pair) for pair in pairs]
    first = {pair.request.id: index for index, pair in reversed(list(enumerate(pairs)))}
    befores = _masks_on_sources(pairs, prompt_boxes, first, segmenter, settings)
    afters = _masks(
        segmenter,
        [pair.edited for pair in pairs],
        [{number: boxes.after for number, boxes in one.items() if boxes.after} for one in prompt_boxes],
        settings,
    )
    backs = _cycle_ious(pairs, prompt_boxes, befores, afters, first, segmenter, settings)
    return [
        {
            number: _joined(boxes, old.get(number), new.get(number), back.get(number), settings)
            for number, boxes in one.items()
        }
        for one, old, new, back in zip(prompt_boxes, befores, afters, backs, strict=True)
    ]


def _prompt_boxes(pair: Pair) -> dict[int, _PromptBoxes]:
    height, width = pair.edited.shape[:2]
    canvas = pair.request.sources[0]
    prompt_boxes = {}
    for number, target in enumerate(pair.request.targets):
        given = None if target.mask is None else resize_mask(rle_to_mask(target.mask), width, height)
        place = target.box or (None if target.mask is None else mask_box(rle_to_mask(target.mask)))
        if place is None or (given is not None and not given.any()):
            continue
        size = (canvas.width_px, canvas.height_px)
        box = scale_box(place, size, (width, height))
        there = None if target.destination is None else scale_box(target.destination, size, (width, height))
        if given is None or there is not None:
            prompt_boxes[number] = _boxes_of_target(target, box, there, given)
    return prompt_boxes


def _boxes_of_target(target: Target, box: Box, destination: Box | None, given: MaskBool | None) -> _PromptBoxes:
    before = None if target.role == "add" or given is not None else box
    after = None if target.role == "remove" else destination or box
    return _PromptBoxes(box, before, after, given)


def _masks(
    segmenter: PromptSegmenter,
    images: Sequence[ImageU8],
    boxes: Sequence[dict[int, Box]],
    settings: OutlineSettings,
) -> list[_Found]:
    """For each image the masks of its boxes, None for one that is not believed."""
    prompts = [[Prompt(box=_floats(box)) for box in asked.values()] for asked in boxes]
    if not any(prompts):
        return [{} for _ in images]
    answers = segmenter.segment(images, prompts)
    return [
        {
            number: _accepted(_checked(segment, image, segmenter), box, settings)
            for (number, box), segment in zip(asked.items(), segments, strict=True)
        }
        for image, asked, segments in zip(images, boxes, answers, strict=True)
    ]


def _masks_on_sources(
    pairs: Sequence[Pair],
    prompt_boxes: Sequence[dict[int, _PromptBoxes]],
    first: dict[str, int],
    segmenter: PromptSegmenter,
    settings: OutlineSettings,
) -> list[_Found]:
    """For each pair the masks of its targets on its source. first: the first pair of each request, which is asked."""
    asked = sorted(first.values())
    boxes = [{number: own.before for number, own in prompt_boxes[index].items() if own.before} for index in asked]
    found = _masks(segmenter, [pairs[index].source for index in asked], boxes, settings)
    by_pair = dict(zip(asked, found, strict=True))
    return [by_pair[first[pair.request.id]] for pair in pairs]


def _cycle_ious(
    pairs: Sequence[Pair],
    prompt_boxes: Sequence[dict[int, _PromptBoxes]],
    befores: Sequence[_Found],
    afters: Sequence[_Found],
    first: dict[str, int],
    segmenter: PromptSegmenter,
    settings: OutlineSettings,
) -> list[dict[int, float]]:
    """For each pair the `cycle_iou` of its targets with masks on both images."""
    wanted: dict[int, dict[tuple[int, int], Box]] = {}
    for index, pair in enumerate(pairs):
        for number, boxes in prompt_boxes[index].items():
            new = afters[index].get(number)
            if befores[index].get(number) is not None and new is not None and boxes.after is not None:
                box = _moved_back(mask_box(new.mask), boxes.after, boxes.box, pair.source)
                wanted.setdefault(first[pair.request.id], {})[index, number] = box
    order = sorted(wanted)
    cycles: list[dict[int, float]] = [{} for _ in pairs]
    if not order:
        return cycles
    prompts = [[Prompt(box=_floats(box)) for box in wanted[index].values()] for index in order]
    answers = segmenter.segment([pairs[index].source for index in order], prompts)
    for source, segments in zip(order, answers, strict=True):
        for (index, number), segment in zip(wanted[source], segments, strict=True):
            old = befores[index][number]
            assert old is not None
            box = prompt_boxes[index][number].box
            back = _checked(segment, pairs[source].source, segmenter).mask & _grown_mask(box, old.mask.shape, settings)
            cycles[index][number] = _iou(old.mask, back)
    return cycles


def _moved_back(box: Box | None, there: Box, here: Box, image: ImageU8) -> Box:
    """`box`, which lies about `there`, at the same place about `here`, inside the image."""
    assert box is not None
    sides = []
    for axis in (0, 1):
        scale = (here[axis + 2] - here[axis]) / (there[axis + 2] - there[axis])
        low, high = (here[axis] + (box[axis + end] - there[axis]) * scale for end in (0, 2))
        limit = image.shape[1 - axis]
        start = min(max(0, round(low)), limit - 1)
        sides.append((start, min(max(start + 1, round(high)), limit)))
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


def _joined(
    boxes: _PromptBoxes, old: _Mask | None, new: _Mask | None, cycle: float | None, settings: OutlineSettings
) -> Outline:
    """The outline from the masks on both images, as the table above has it."""
    if old is None and boxes.given is not None and boxes.before is None:
        old = _Mask(boxes.given, 1.0)
    same = cycle is None or cycle >= settings.min_cycle_iou
    used = [one for one in (old, new if same or old is None else None) if one is not None]
    if not used:
        return Outline(None, settings.unbelieved, cycle)
    mask = np.logical_or.reduce([one.mask for one in used])
    confidence = min(one.confidence for one in used)
    if boxes.after is not None and boxes.after != boxes.box and (new is None or not same):
        mask |= box_mask(boxes.after, *mask.shape)  # where it went there is a box only
        confidence *= settings.unbelieved
    return Outline(mask, confidence * (1.0 if same or cycle is None else cycle / settings.min_cycle_iou), cycle)


def _checked(segment: Segment, image: ImageU8, segmenter: PromptSegmenter) -> Segment:
    if not np.isfinite(segment.confidence):
        fault = f"answered the predicted IoU {segment.confidence}"
    elif segment.mask.shape != image.shape[:2]:
        fault = f"answered a mask of {segment.mask.shape} for an image of {image.shape[:2]}"
    else:
        return segment
    thing = f"segmenter {segmenter.name} {segmenter.revision}"
    raise BadInput(thing, fault, "check its checkpoint with another tool, or run it in fp32")


def _accepted(segment: Segment, box: Box, settings: OutlineSettings) -> _Mask | None:
    mask = segment.mask & _grown_mask(box, segment.mask.shape, settings)
    area, all_of_it = int(mask.sum()), int(segment.mask.sum())
    if not area or area < settings.min_inside_share * all_of_it:
        return None
    return _Mask(mask, min(max(segment.confidence, 0.0), 1.0))


def _grown_mask(box: Box, shape: tuple[int, ...], settings: OutlineSettings) -> MaskBool:
    margin = max(2, round(settings.margin_share * max(box[2] - box[0], box[3] - box[1])))
    grown = (max(0, box[0] - margin), max(0, box[1] - margin), box[2] + margin, box[3] + margin)
    return box_mask(grown, shape[0], shape[1])


def _iou(one: MaskBool, other: MaskBool) -> float:
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def _floats(box: Box) -> tuple[float, float, float, float]:
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])

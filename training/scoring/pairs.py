"""Pairs to score from files: source, edited image, instruction, and regions given as masks or boxes, or found.

Without masks and boxes the regions are what the pipeline's `difference` segmenter sees changed, near parts together.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from pipeline.regions.alignment import expected_maps
from pipeline.regions.difference import DifferenceSegmenter
from pipeline.regions.framing import MIN_AGREEMENT, frame
from pipeline.requests.files import read_outside_image
from pipeline.requests.scaling import scale_to_cover
from runtime.images import BadImage, ImageU8, box_mask, decode_image, fit_size_px, resize_image, resize_mask, scale_box
from runtime.masks import MaskBool, mask_box
from schemas.errors import BadInput
from schemas.geometry import box_in_image
from schemas.reward import ScoreLine
from training.reward_protocol import RewardQuery

#: Changed parts nearer than this (px at 256 px) are one region; regions below this share of the image are left out.
JOIN_PX, MIN_SHARE, MOST_FOUND = 5, 0.001, 8


@dataclass(frozen=True)
class Pair:
    """A query with what its regions are called, and whether they were `given` or `found`."""

    id: str
    query: RewardQuery
    labels: dict[str, str]
    origin: Literal["given", "found"]


def read_lines(path: Path) -> Iterator[ScoreLine]:
    """The pairs that a JSONL file lists. Raises: BadInput, naming file and line; an id twice is one."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(str(path), f"cannot be read: {type(error).__name__}", "give a JSONL file") from None
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            found = ScoreLine.from_json(line, thing=f"{path.name} line {number}")
            if found.id in seen:
                raise BadInput(f"{path.name} line {number}", f"has the id {found.id} again", "give every pair its own")
            seen.add(found.id)
            yield found
    if not seen:
        raise BadInput(str(path), "lists no pair", "write one JSON object a line, see docs/schemas/score-line.json")


def open_pair(line: ScoreLine, root: Path, size_px: int) -> Pair:
    """The pair of a line, its paths below `root`, both images at most `size_px` a side and of one size.

    Raises: BadInput for an image, mask or box that cannot be used.
    """
    source = _read(root, line.source)
    edited = _read(root, line.edited)
    masks = [_read(root, path) for path in line.masks]
    return make_pair(line, source, edited, masks, size_px)


def _read(root: Path, path: str) -> ImageU8:
    try:
        return read_outside_image(root, path)
    except BadImage as error:
        raise BadInput(path, error.detail, "give an image file in the list's folder") from None


def read_image_file(path: Path) -> ImageU8:
    """An image that the command line names, wherever it is. Raises: BadInput."""
    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        raise BadInput(str(path), error.strerror or type(error).__name__, "give an image file") from None
    except BadImage as error:
        raise BadInput(str(path), error.detail, "give an image file") from None


def make_pair(line: ScoreLine, source: ImageU8, edited: ImageU8, mask_images: Sequence[ImageU8], size_px: int) -> Pair:
    """A pair from its images; the edited one is brought into the source's frame. Raises: as `open_pair`."""
    height, width = source.shape[:2]
    size = fit_size_px(width, height, size_px)
    before = resize_image(source, *size)
    framed = frame(before, scale_to_cover(edited, *size))
    unlike = framed.alignment.agreement is None or framed.alignment.agreement < MIN_AGREEMENT
    if unlike and len(list(expected_maps((height, width), (edited.shape[0], edited.shape[1])))) > 1:
        fault = (
            f"is {edited.shape[1]} x {edited.shape[0]} px, the source {width} x {height} px, and no part of it is found"
        )
        raise BadInput(line.edited, fault, "give two images of one shape")
    after = framed.image
    given = [*_given_masks(line, mask_images, source, size), *_given_boxes(line, (width, height), size)]
    if len(line.labels) not in (0, len(given)):
        raise BadInput(line.id, f"has {len(line.labels)} labels for {len(given)} regions", "give one label a region")
    found = given or found_regions(before, after, framed.unseen)
    masks = {f"region-{number}": mask for number, mask in enumerate(found, 1)}
    labels = dict(zip(masks, line.labels or [f"region {number}" for number in range(1, len(masks) + 1)], strict=False))
    return Pair(line.id, RewardQuery(before, after, line.instruction, masks), labels, "given" if given else "found")


def _given_masks(
    line: ScoreLine, images: Sequence[ImageU8], source: ImageU8, size: tuple[int, int]
) -> Iterator[MaskBool]:
    for path, image in zip(line.masks, images, strict=True):
        if image.shape[:2] != source.shape[:2]:
            fault = f"is {image.shape[1]} x {image.shape[0]} px, the source {source.shape[1]} x {source.shape[0]} px"
            raise BadInput(path, fault, "give a mask of the source's size, white inside")
        mask = image.max(axis=2) > 127
        small, box = resize_mask(mask, *size), mask_box(mask)
        if box is None:
            raise BadInput(path, "is black all over", "give a mask that is white inside")
        whole = (source.shape[1], source.shape[0])
        yield small if small.any() else box_mask(scale_box(box, whole, size), size[1], size[0])


def _given_boxes(line: ScoreLine, source: tuple[int, int], size: tuple[int, int]) -> Iterator[MaskBool]:
    for box in line.boxes:
        if not box_in_image(box, *source):
            raise BadInput(line.id, f"box {list(box)} leaves {source[0]} x {source[1]} px", "give pixels of the source")
        yield box_mask(scale_box(box, source, size), size[1], size[0])


def found_regions(source: ImageU8, edited: ImageU8, unseen: MaskBool | None = None) -> list[MaskBool]:
    """What changed, as masks (H, W): connected parts, near ones together, the largest eight, largest first."""
    changed = DifferenceSegmenter().changed(source, edited, unseen)
    reach = max(1, round(JOIN_PX * max(changed.shape) / 256))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    count, labels = cv2.connectedComponents(cv2.dilate(changed.astype(np.uint8), kernel), connectivity=8)
    parts: list[MaskBool] = [np.asarray((labels == label) & changed, dtype=np.bool_) for label in range(1, count)]
    large = [part for part in parts if part.sum() >= MIN_SHARE * changed.size]
    return sorted(large, key=lambda part: -int(part.sum()))[:MOST_FOUND]


def one_line(source: Path, edited: Path, instruction: str, masks: Sequence[Path], boxes: Sequence[str]) -> ScoreLine:
    """The line of a pair that the command line gives. Raises: BadInput."""
    fields = {
        "id": "pair",
        "source": str(source),
        "edited": str(edited),
        "instruction": instruction,
        "masks": [str(path) for path in masks],
        "boxes": [_parsed_box(text) for text in boxes],
    }
    return ScoreLine.from_json(json.dumps(fields), thing="the pair")


def _parsed_box(text: str) -> list[int]:
    parts = text.replace(",", " ").split()
    if len(parts) != 4 or not all(part.lstrip("-").isdecimal() for part in parts):
        raise BadInput(f"box {text!r}", "is not four whole numbers", "write --box x1,y1,x2,y2")
    return [int(part) for part in parts]

"""Candidates as editing models answer: brought into the frame of their source, or a reject that says why not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from pipeline.editors.procedural import ProceduralEditor
from pipeline.gates.measures import GateSettings
from pipeline.run.plan import PlannedLine
from pipeline.stages.candidates import make_candidates
from pipeline.stages.gates import apply_gates
from pipeline.stages.regions import find_regions
from pipeline.stages.requests import open_requests
from runtime.images import ImageU8, box_mask
from runtime.masks import rle_to_mask
from schemas.region import ObservedMask
from schemas.sample import Rejection, Sample
from tests.cases.part_images import InMemory

WIDTH, HEIGHT = 256, 192
BOX = (100, 70, 150, 130)
EDIT = box_mask(BOX, HEIGHT, WIDTH)
Change = Callable[[ImageU8], ImageU8]


@pytest.fixture
def source() -> ImageU8:
    return np.array(Image.fromarray(data.astronaut()).resize((WIDTH, HEIGHT)))


def edited(source: ImageU8) -> ImageU8:
    image = source.copy()
    image[EDIT] = 255 - image[EDIT]
    return image


def zoomed(image: ImageU8, scale: float, shift_px: tuple[float, float] = (0, 0)) -> ImageU8:
    there = cv2.getRotationMatrix2D(((WIDTH - 1) / 2, (HEIGHT - 1) / 2), 0, scale)
    there[:, 2] += shift_px
    return np.asarray(cv2.warpAffine(image, there, (WIDTH, HEIGHT), flags=cv2.INTER_LANCZOS4))


def built(
    folder: Path, source: ImageU8, candidate: ImageU8, instruction: str = "Make the badge green", **target: Any
) -> tuple[Sample | Rejection, InMemory]:
    """The row of one candidate after all stages, and the images that were kept."""
    Image.fromarray(source).save(folder / "a.png")
    Image.fromarray(candidate).save(folder / "b.png")
    line = {"id": "a", "sources": ["a.png"], "instruction": instruction, "candidates": [{"path": "b.png"}]}
    line["targets"] = [{"label": "badge", "box": list(BOX)} | target]
    images, gates = InMemory(), GateSettings(max_misplaced_share=0.1)
    planned = [PlannedLine(place="r:1", root=str(folder), line=json.loads(json.dumps(line)))]
    rows = (row for row in open_requests(planned, images, size_px=WIDTH, gates=gates) if isinstance(row, Sample))
    (made,) = make_candidates(rows, images, editor=ProceduralEditor, k=1, seed=0, gates=gates)
    if isinstance(made, Rejection):
        return made, images
    (gated,) = apply_gates(find_regions([made], images, gates=gates), images, gates=gates)
    return gated, images


def iou(one: ObservedMask, other: ObservedMask) -> float:
    first, second = rle_to_mask(one.mask), rle_to_mask(other.mask)
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("scale", [0.95, 1.02, 1.1])
def test_a_zoom_is_undone_and_only_the_edit_is_found(tmp_path: Path, source: ImageU8, scale: float) -> None:
    row, images = built(tmp_path, source, zoomed(edited(source), scale))
    assert isinstance(row, Sample), row.detail
    assert row.alignment is not None
    assert row.alignment.scale == pytest.approx(scale, abs=0.002)
    (region,) = row.observed
    (tmp_path / "still").mkdir()
    still, _ = built(tmp_path / "still", source, edited(source))
    assert isinstance(still, Sample)
    assert iou(region, still.observed[0]) > 0.95
    assert row.original is not None
    assert row.edited is not None
    assert images.read(row.original).shape == images.read(row.edited).shape == source.shape
    assert not np.array_equal(images.read(row.original), images.read(row.edited))
    assert row.unseen is not None
    assert not (rle_to_mask(row.unseen) & EDIT).any()


def test_what_lies_right_stays_as_it_came(tmp_path: Path, source: ImageU8) -> None:
    row, images = built(tmp_path, source, edited(source))
    assert isinstance(row, Sample), row.detail
    assert (row.original, row.unseen) == (None, None)
    assert row.edited is not None
    assert np.array_equal(images.read(row.edited), edited(source))


def test_another_size_is_the_same_candidate_once_more(tmp_path: Path, source: ImageU8) -> None:
    large = np.array(Image.fromarray(edited(source)).resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.LANCZOS))
    row, _ = built(tmp_path, source, np.ascontiguousarray(large[:, WIDTH // 2 : -WIDTH // 2]))  # its middle, a portrait
    assert isinstance(row, Sample), row.detail
    assert row.unseen is not None
    unseen = rle_to_mask(row.unseen)
    assert unseen[:, :60].all()
    assert unseen[:, -60:].all()
    (tmp_path / "still").mkdir()
    still, _ = built(tmp_path / "still", source, edited(source))
    assert isinstance(still, Sample)
    assert iou(row.observed[0], still.observed[0]) > 0.9


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda image: np.ascontiguousarray(image[:, ::-1]), "not_aligned"),
        (lambda image: np.array(Image.fromarray(data.coffee()).resize((WIDTH, HEIGHT))), "not_aligned"),
        (lambda image: zoomed(image, 1.1, (9, 6)), "misaligned"),
        (np.zeros_like, "blank"),
    ],
    ids=["mirrored", "another picture", "far off", "black"],
)
def test_what_does_not_show_its_source_is_a_reject_with_its_reason(
    tmp_path: Path, source: ImageU8, change: Change, reason: str
) -> None:
    row, _ = built(tmp_path, source, change(edited(source)))
    assert isinstance(row, Rejection)
    assert row.reason == reason
    assert row.measure is not None


@pytest.mark.parametrize("instruction", ["Mirror the photo.", "Zoom in on the badge", "rotate the image by 3 degrees"])
def test_what_was_asked_for_is_not_undone(tmp_path: Path, source: ImageU8, instruction: str) -> None:
    mirrored = np.ascontiguousarray(source[:, ::-1])
    row, images = built(tmp_path, source, mirrored, instruction, box=None)
    assert isinstance(row, Sample), row.detail
    assert (row.alignment, row.original, row.unseen) == (None, None, None)
    assert row.edited is not None
    assert np.array_equal(images.read(row.edited), mirrored)


def test_an_edit_of_the_whole_image_need_not_agree(tmp_path: Path, source: ImageU8) -> None:
    painted = np.array(Image.fromarray(data.coffee()).resize((WIDTH, HEIGHT)))
    row, _ = built(tmp_path, source, painted, "Turn it into an oil painting", box=None)
    assert isinstance(row, Sample), row.detail

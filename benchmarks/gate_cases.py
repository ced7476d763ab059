"""Procedural cases for the gates, each labelled by how it was made: what a gate shall drop and what it shall keep.

Images as in `benchmarks.edit_cases`: scenes and photographs by turns, `tune` and `test` apart. Kept on purpose: every
candidate as the procedural editor grades it, up to its gross ones. Dropped on purpose:

| gate | what shall be dropped |
|---|---|
| blank | one colour, with noise of up to one level |
| unchanged | the source itself, recompressed (quality 75 and better), moved by up to 1 px, drifted by up to 1 level |
| changed_all_over | another image, the image's tiles shuffled, a background that is another image's |
| preservation | background drift of 35..60 Delta E, noise of sigma 90..120, the background's negative |
| near_duplicate | a candidate recompressed (quality 75 and better) or moved by up to 1 px |
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from benchmarks.edit_cases import (
    PHOTOS,
    SCENE_SEEDS,
    TEXTURES,
    Part,
    case_rng,
    photo_window,
    random_box,
)
from benchmarks.gate_images import COPIES, GROSS, as_u8
from pipeline.editors.procedural import ProceduralEditor
from pipeline.editors.protocol import CannotEdit
from pipeline.editors.shapes import COLOURS, SHAPES
from pipeline.gates.measures import (
    GateResult,
    GateSettings,
    aspect,
    blank,
    judge,
    measure,
    near_duplicates,
    size,
)
from pipeline.regions.difference import changed_mask, compare
from pipeline.regions.framing import frame
from pipeline.regions.fuse import explained_mask, fuse
from pipeline.regions.planned import plan_regions, planned_mask
from pipeline.requests.scenes import scene_at
from runtime.images import ImageU8, pixels_sha256
from runtime.masks import MaskBool
from schemas.candidate import Defect
from schemas.request import EditRequest, Source, Target, request_id

SIZE_PX = 256
#: A target missed by less is a faint edit, by more is none; in between is no case.
FAINT, NONE = 0.8, 0.97


@dataclass(frozen=True)
class GateCase:
    """One case of one gate. dropped: whether the gate shall drop it."""

    kind: str
    dropped: bool
    result: GateResult


@dataclass(frozen=True)
class Edited:
    """A request with its source and one candidate. masks: of the planned targets' edits (H, W)."""

    request: EditRequest
    source: ImageU8
    candidate: ImageU8
    defects: tuple[Defect, ...]

    def results(self, settings: GateSettings) -> dict[str, GateResult]:
        """gate -> result, as the gates stage computes them."""
        shape = (self.source.shape[0], self.source.shape[1])
        candidate = frame(self.source, self.candidate).image
        pair = compare(self.source, candidate)
        changed = changed_mask(pair, settings.difference)
        regions = plan_regions(self.request, shape[1], shape[0])
        observed = fuse(self.request, "0" * 16, regions, changed, shape)
        found = judge(measure(candidate, pair, changed, explained_mask(regions, observed, shape), settings), settings)
        return {result.gate: result for result in found}

    def background(self) -> MaskBool:
        """Mask (H, W) outside the planned boxes, with 8 px around them left out."""
        shape = (self.source.shape[0], self.source.shape[1])
        return ~planned_mask(plan_regions(self.request, shape[1], shape[0]), shape, 8)


def sources(part: Part, count: int) -> Iterator[tuple[EditRequest, ImageU8]]:
    """`count` requests with their source images, on scenes and photographs by turns."""
    for index in range(count):
        if index % 2 == 0:
            line, image = scene_at(SCENE_SEEDS[part], 500 + index // 2, SIZE_PX)
            targets = line.targets
        else:
            rng = case_rng("gate-case", part, index)
            image = photo_window(PHOTOS[part][index // 2 % len(PHOTOS[part])], rng, SIZE_PX)
            targets = (_photo_target(rng),)
        yield _request(image, targets), image


def candidates(part: Part, count: int) -> Iterator[Edited]:
    """The four graded candidates of each of `count` requests."""
    editor = ProceduralEditor()
    for request, image in sources(part, count):
        for index in range(4):
            try:
                edit = editor.edit(request, [image], index, index)
            except CannotEdit:
                continue
            yield Edited(request, image, edit.image, edit.defects)


def edit_gate_cases(part: Part, count: int, settings: GateSettings) -> dict[str, list[GateCase]]:
    """gate -> cases of the three gates that compare a candidate with its source, from `count` requests."""
    cases: dict[str, list[GateCase]] = {"unchanged": [], "changed_all_over": [], "preservation": []}
    others = [image for _, image in sources(part, 9)][1:]
    for number, edited in enumerate(candidates(part, count)):
        undone = _undone(edited)
        for gate, result in edited.results(settings).items():
            if gate != "unchanged" or undone is not None:
                cases[gate].append(GateCase("graded candidate", gate == "unchanged" and bool(undone), result))
        rng = case_rng("gross", part, number)
        for gate, makers in GROSS.items():
            kind, maker = list(makers.items())[number % len(makers)]
            different = [other for other in others if not np.array_equal(other, edited.source)]
            image = maker(edited, different[number % len(different)], rng)
            result = Edited(edited.request, edited.source, image, ()).results(settings)[gate]
            cases[gate].append(GateCase(kind, True, result))
    return cases


def near_duplicate_cases(part: Part, count: int, settings: GateSettings) -> list[GateCase]:
    """Pairs of candidates: graded ones of one request against each other, and each against a copy of itself."""
    cases = []
    groups: dict[str, list[Edited]] = {}
    for edited in candidates(part, count):
        groups.setdefault(edited.request.id, []).append(edited)
    for number, group in enumerate(groups.values()):
        clean = next(edited for edited in group if not edited.defects)
        for other in group:
            rng = case_rng("copy", part, number)
            kind, copy = list(COPIES.items())[number % len(COPIES)]
            copied = frame(other.source, copy(other.candidate, rng)).image
            twin = near_duplicates([other.candidate, copied], settings)[1]
            cases.append(GateCase(kind, True, twin))
            if other is not clean:
                result = near_duplicates([clean.candidate, other.candidate], settings)[1]
                cases.append(GateCase("graded candidate", False, result))
    return cases


def blank_cases(part: Part, count: int, settings: GateSettings) -> list[GateCase]:
    """Images of one colour, against scenes and photographs, some of them dark or faded."""
    cases = []
    for number, (_, image) in enumerate(sources(part, count)):
        rng = case_rng("blank", part, number)
        flat = np.full(image.shape, rng.integers(0, 256, 3), dtype=np.float64)
        noisy = flat + rng.normal(0, rng.uniform(0, 1), image.shape)
        cases.append(GateCase("one colour", True, blank(as_u8(noisy), settings)))
        faded = image * rng.uniform(0.1, 1.0) + rng.uniform(0, 100)
        cases.append(GateCase("faded image", False, blank(as_u8(faded), settings)))
    return cases


def size_cases(part: Part, count: int, settings: GateSettings) -> dict[str, list[GateCase]]:
    """gate -> cases by definition: sizes drawn on both sides of the thresholds."""
    cases: dict[str, list[GateCase]] = {"size": [], "aspect": []}
    for number in range(count):
        rng = case_rng("size", part, number)
        width, height = (int(rng.integers(16, 400)) for _ in range(2))
        cases["size"].append(GateCase("size", min(width, height) < 64, size(width, height, settings)))
        longest, shortest = max(width, height), min(width, height)
        cases["aspect"].append(GateCase("aspect", longest > 4 * shortest, aspect(width, height, settings)))
    return cases


def _undone(edited: Edited) -> bool | None:
    """Whether nothing at all was done: every target missed, no other defect; None where that is a matter of taste."""
    missed = [defect.strength for defect in edited.defects if defect.kind == "missed"]
    if len(missed) < len(edited.request.targets) or len(missed) < len(edited.defects) or min(missed) < FAINT:
        return False
    return True if min(missed) >= NONE else None


def _request(image: ImageU8, targets: tuple[Target, ...]) -> EditRequest:
    digest = pixels_sha256(image)
    return EditRequest(
        id=request_id((digest,), "edit", (), targets),
        name="case",
        kind="single",
        sources=(
            Source(
                name="case",
                origin_sha256=digest,
                pixels_sha256=digest,
                width_px=image.shape[1],
                height_px=image.shape[0],
            ),
        ),
        instruction="edit",
        targets=targets,
        edit_type="case",
        synthetic=True,
    )


def _photo_target(rng: Generator) -> Target:
    colours = list(COLOURS)
    colour, shape = colours[int(rng.integers(len(colours)))], SHAPES[int(rng.integers(len(SHAPES)))]
    orders: tuple[Target, ...] = (
        Target(label="thing", operation="recolour", parameters={"color": colour}),
        Target(label="thing", operation="replace", parameters={"shape": shape, "color": colour}),
        Target(label="thing", operation="insert", role="add", parameters={"shape": shape, "color": colour}),
        Target(label="thing", operation="texture", parameters={"texture": TEXTURES[int(rng.integers(len(TEXTURES)))]}),
        Target(label="thing", operation="relight", parameters={"gain": 0.5}),
    )
    order = orders[int(rng.integers(len(orders)))]
    return order.model_copy(update={"box": random_box(rng, SIZE_PX)})

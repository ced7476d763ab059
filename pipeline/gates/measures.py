"""Gates: each measures one thing on a source or a candidate and says whether it passes, against which threshold.

Plain functions without weights. A gate drops what nobody should rate: images that are no images, edits that did
nothing or tore everything down, and copies. It does not judge how *good* an edit is: a candidate that missed its
target, spilled over or drifted a little is what reward data needs, and stays.

Dropped on purpose: a candidate that equals its source apart from noise (so: every target missed, nothing else done),
one that is another image outside its planned regions, and one whose background is off grossly (drift of 35 Delta E,
say; the editor's own ends at 22).
Kept on purpose: every defect that the procedural editor grades, up to full strength, alone or together.

An image that cannot be decoded is dropped earlier, with the code `unreadable` (`runtime.images.BadImage.reason`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np

from pipeline.regions.difference import Comparison, DifferenceSettings, changed_mask, compare
from pipeline.regions.framing import MIN_AGREEMENT
from pipeline.regions.registration import Float32
from runtime.images import ImageU8
from runtime.masks import MaskBool
from schemas.sample import PixelMeasures, Rejection, Sample

#: Candidates of which so many cells (of 32 x 32) have mean colours so far apart are no twins, and are not compared.
TWIN_CELLS, TWIN_LEVELS = 6, 12.0


@dataclass(frozen=True)
class GateResult:
    """What a gate found. gate: also the code of the reject; value and threshold: same unit, said in `detail`."""

    gate: str
    value: float
    threshold: float
    passed: bool
    detail: str


@dataclass(frozen=True)
class GateSettings:
    """Every threshold of the gates."""

    min_side_px: int = 64
    """Shortest side that still shows an edit and fills a few latent tokens (16 px each)."""
    max_aspect: float = 4.0
    """Longest over shortest side: beyond it a policy's crop loses most of the image."""
    min_spread_levels: float = 8.0
    """Levels (0..255) between the 1st and 99th percentile of the widest channel: below it the image is blank."""
    min_agreement: float = MIN_AGREEMENT
    """Share of the source's cells with texture whose detail a candidate has to show, wherever it shows it, or else
    `min_layout`; 0 lets every candidate through."""
    min_layout: float = 0.8
    """How its lightness has to correlate with its source's in 16 x 16 cells: below .7 for other pictures."""
    max_misplaced_share: float = 0.2
    """How far a corner of a candidate may lie off, over the longest side: .12 for a zoom by a tenth with a shift by a
    twentieth."""
    min_change: float = 1.0
    """Multiples of the smallest visible change: the largest of the next three, each over what it is a multiple of."""
    min_changed_share: float = 0.0009
    """Share of the area, found as changed, that is one smallest visible change."""
    min_drift: float = 3.0
    """Whole-image drift of colour, mean levels (0..255) of Y'CbCr, that is one smallest visible change."""
    min_roughness: float = 4.0
    """Noise, levels of lightness in its worst 16 px cell, that is one; JPEG of quality 75 and better stays below."""
    max_replaced_outside: float = 0.25
    """Share of the area outside the regions that may change which may show something else than the source. Defects of
    the procedural editor reach 0.18 (on tuning cases), other images 0.2 to 1."""
    min_replaced_levels: float = 18.0
    """Distance of coarse colour (levels of Y'CbCr, drift left out) from which a cell shows something else."""
    min_outside_share: float = 0.05
    """Where less than this share of the image lies outside those regions, there is nothing to preserve."""
    max_preservation_error: float = 46.0
    """Mean distance (levels of Y'CbCr) outside the regions that may change. Graded defects of the procedural editor,
    up to full strength and together, reach 39 (on tuning cases); drift of 35 Delta E begins at 54."""
    difference: DifferenceSettings = field(default_factory=DifferenceSettings)
    """How two images are compared."""

    def __post_init__(self) -> None:
        if self.min_side_px < 1 or self.max_aspect < 1:
            raise ValueError("min_side_px and max_aspect must be at least 1")
        if not self.min_layout > 0:
            raise ValueError("min_layout must be above 0")


DEFAULT = GateSettings()


def size(width_px: int, height_px: int, settings: GateSettings = DEFAULT) -> GateResult:
    """Drops an image whose shortest side (px) is too short."""
    value = min(width_px, height_px)
    return _at_least("size", value, settings.min_side_px, f"{width_px} x {height_px} px")


def aspect(width_px: int, height_px: int, settings: GateSettings = DEFAULT) -> GateResult:
    """Drops an image that is too long for its width."""
    value = max(width_px, height_px) / min(width_px, height_px)
    return _at_most("aspect", value, settings.max_aspect, f"{width_px} x {height_px} px, longest over shortest side")


def size_and_aspect(width_px: int, height_px: int, settings: GateSettings = DEFAULT) -> GateResult:
    """`size` and, where it passes, `aspect`."""
    first = size(width_px, height_px, settings)
    return aspect(width_px, height_px, settings) if first.passed else first


def blank(image: ImageU8, settings: GateSettings = DEFAULT) -> GateResult:
    """Drops an image of one flat colour."""
    return _blank(spread_levels(image), settings)


def _blank(spread: float, settings: GateSettings) -> GateResult:
    return _at_least("blank", spread, settings.min_spread_levels, "levels between 1st and 99th percentile")


def spread_levels(image: ImageU8) -> float:
    """Levels between the 1st and 99th percentile of the widest channel of an image (HWC uint8 RGB)."""
    return max(_percentile(image, channel, 0.99) - _percentile(image, channel, 0.01) for channel in range(3))


def _percentile(image: ImageU8, channel: int, share: float) -> float:
    """As `np.percentile` of a channel, which sorts what a count of 256 levels says."""
    counts = sum(
        cv2.calcHist([image[top : top + 1024]], [channel], None, [256], [0, 256])[:, 0].astype(np.int64)
        for top in range(0, image.shape[0], 1024)  # its counts are float32, exact up to 2**24
    )
    last = image.shape[0] * image.shape[1] - 1
    place = share * last
    low, high = np.searchsorted(np.cumsum(counts), [int(place), min(int(place) + 1, last)], side="right").tolist()
    rest = place - int(place)
    return float(high - (high - low) * (1 - rest) if rest >= 0.5 else low + (high - low) * rest)


def source_fault(image: ImageU8, settings: GateSettings = DEFAULT) -> GateResult | None:
    """The first gate that a source image (HWC uint8 RGB) does not pass, of its size, its aspect and blankness."""
    results = (size_and_aspect(image.shape[1], image.shape[0], settings), blank(image, settings))
    return next((result for result in results if not result.passed), None)


def aligned(agreement: float | None, layout: float, settings: GateSettings = DEFAULT) -> GateResult:
    """Drops a candidate in which its source is not to be found: another picture, or one mirrored or torn apart.

    agreement: share of the cells with texture that agree, None where nothing has texture; layout: how alike both are
    laid out. Gross defects leave nothing of the one and all of the other.
    """
    found = 1.0 if agreement is None else agreement
    value = max(found / settings.min_agreement, layout / settings.min_layout) if settings.min_agreement > 0 else 1.0
    detail = f"of the least: {found:.0%} of the source's detail is found, layouts agree by {layout:.2f}"
    return _at_least("not_aligned", value, 1.0, detail)


def misaligned(misplaced_share: float, settings: GateSettings = DEFAULT) -> GateResult:
    """Drops a candidate that lies too far from its source. misplaced_share: of its farthest corner, see `Framed`."""
    detail = "how far its farthest corner lies off, over the longest side"
    return _at_most("misaligned", misplaced_share, settings.max_misplaced_share, detail)


def measure(
    edited: ImageU8, pair: Comparison, changed: MaskBool, explained: MaskBool, settings: GateSettings = DEFAULT
) -> PixelMeasures:
    """Everything that the gates judge a candidate by.

    edited: HWC uint8 RGB; pair: of source and candidate; changed: mask (H, W) of what differs in it; explained: of
    what may change (`pipeline.regions.fuse.explained_mask`; all ones for a global edit) or is not seen. Unplanned
    changes are none of it, or a gross change would explain itself.
    """
    outside = _outside(explained, settings)
    return PixelMeasures(
        spread_levels=spread_levels(edited),
        changed_share=float(changed.mean()),
        drift_levels=pair.drift,
        roughness_levels=pair.roughness(),
        outside_share=float(outside.mean()),
        replaced_share=pair.replaced_share(outside, settings.min_replaced_levels),
        distance_levels=float(pair.distance()[outside].mean()) if outside.any() else 0.0,
    )


def judge(found: PixelMeasures, settings: GateSettings = DEFAULT) -> list[GateResult]:
    """The gates of one candidate, in the order in which they drop it."""
    gates = (unchanged, changed_all_over, preservation)
    return [_blank(found.spread_levels, settings), *(gate(found, settings) for gate in gates)]


def unchanged(found: PixelMeasures, settings: GateSettings = DEFAULT) -> GateResult:
    """Drops a candidate that equals its source apart from noise: no edit anywhere, no drift of colour, no grain."""
    share, drift, roughness = found.changed_share, found.drift_levels, found.roughness_levels
    value = _visible_change(share, drift, roughness, settings)
    detail = f"smallest visible changes: {share:.2%} of the area, drift {drift:.2f} and noise {roughness:.2f} levels"
    return _at_least("unchanged", value, settings.min_change, detail)


def changed_all_over(found: PixelMeasures, settings: GateSettings = DEFAULT) -> GateResult:
    """Drops a candidate that shows something else than its source outside the regions that may change."""
    detail = f"share with other colours of the {found.outside_share:.0%} of the image outside the regions"
    return _at_most("changed_all_over", found.replaced_share, settings.max_replaced_outside, detail)


def preservation(found: PixelMeasures, settings: GateSettings = DEFAULT) -> GateResult:
    """Drops a candidate whose untouched part differs grossly from the source, by drift and noise too."""
    detail = f"mean distance in levels over the {found.outside_share:.0%} of the image outside the regions"
    return _at_most("preservation", found.distance_levels, settings.max_preservation_error, detail)


def _outside(explained: MaskBool, settings: GateSettings) -> MaskBool:
    """What has to be preserved (H, W); nothing where too little is left of the image to judge by."""
    outside = ~explained
    return outside if outside.mean() >= settings.min_outside_share else np.zeros_like(outside)


def near_duplicates(images: Sequence[ImageU8], settings: GateSettings = DEFAULT) -> tuple[GateResult, ...]:
    """One result per candidate of one request, in order: it fails where it equals an earlier one that passed.

    Value: the smallest visible difference to those (as in `unchanged`); images of another size are no duplicates. Those
    whose small copies differ far more than twins may are not compared: of them the differing cells are the value.
    """
    kept: list[tuple[ImageU8, Float32]] = []
    results: list[GateResult] = []
    for image in images:
        cells = _cells(image)
        values = [
            far if (far := _far_apart(its_cells, cells, settings)) else _difference(other, image, settings)
            for other, its_cells in kept
            if other.shape == image.shape
        ]
        value = min(values, default=float(settings.min_change))
        detail = "smallest visible changes from its nearest twin"
        result = _at_least("near_duplicate", value, settings.min_change, detail)
        results.append(result)
        if result.passed:
            kept.append((image, cells))
    return tuple(results)


def _far_apart(first: Float32, second: Float32, settings: GateSettings) -> float:
    """Smallest visible changes between small copies (32, 32, 3) that are surely of different images; else 0."""
    apart = first - second
    apart -= np.median(apart, axis=(0, 1))
    count = int((np.abs(apart).max(axis=2) > TWIN_LEVELS).sum())
    value = count / first[..., 0].size / settings.min_changed_share
    return value if count >= TWIN_CELLS and value >= settings.min_change else 0.0


def _cells(image: ImageU8) -> Float32:
    """The mean colours (32, 32, 3) of an image's cells."""
    return cast(Float32, cv2.resize(image.astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA))


def _difference(first: ImageU8, second: ImageU8, settings: GateSettings) -> float:
    if np.array_equal(first, second):
        return 0.0
    pair = compare(first, second)
    share = float(changed_mask(pair, settings.difference).mean())
    return _visible_change(share, pair.drift, pair.roughness(), settings)


def _visible_change(share: float, drift: float, roughness: float, settings: GateSettings) -> float:
    return max(share / settings.min_changed_share, drift / settings.min_drift, roughness / settings.min_roughness)


def _at_least(gate: str, value: float, threshold: float, detail: str) -> GateResult:
    return GateResult(gate, float(value), float(threshold), value >= threshold, detail)


def _at_most(gate: str, value: float, threshold: float, detail: str) -> GateResult:
    return GateResult(gate, float(value), float(threshold), value <= threshold, detail)


def rejection(sample: Sample, stage: str, failed: GateResult) -> Rejection:
    """The reject of a sample that did not pass a gate."""
    return Rejection(
        key=sample.key,
        name=sample.request.name,
        stage=stage,
        reason=failed.gate,
        detail=failed.detail[:500],
        measure=failed.value,
        threshold=failed.threshold,
        sample=sample,
    )

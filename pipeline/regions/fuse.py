"""Explicit targets and the difference mask, fused into one observed mask per planned region.

Every pixel has at most one owner among the targets. A target's *core* is its mask (else its box) with its destination;
its *reach* is its boxes and its core, grown by a margin. A pixel belongs to the target whose reach holds it and whose
core is nearest; inside several cores to the smallest core; then to the first target. Targets of one place, as two
words for one thing, own it together and have one mask. A target over the whole image owns what no other region took.
Changed pixels without an owner become `extra-0`, `extra-1`, ... of their candidate.

It does not look at pixels: what changed comes from a `pipeline.models.protocols.Segmenter`, and where a prompted
segmenter outlined a target (`pipeline.regions.outline`), its outline is the target's exact mask.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.regions.outline import Outline
from pipeline.regions.planned import grown_box, planned_mask, target_boxes
from pipeline.requests.instructions.choose import iou
from runtime.images import box_mask, resize_mask
from runtime.masks import MaskBool, mask_box, mask_to_rle, rle_to_mask
from schemas.geometry import Box
from schemas.region import MaskOrigin, ObservedMask, PlannedRegion, RegionStatus
from schemas.request import EditRequest

#: `extra-n` has at most three digits.
MAX_EXTRAS = 999


@dataclass(frozen=True)
class FusionSettings:
    """How masks are fused; lengths in pixels at 256 px (longest side), scaled with the image."""

    margin_px: float = 6.0
    """Spill this far around a target's box still belongs to the target: edits feather and shadows fall."""
    margin_share: float = 0.06
    """The same as a share of the box's longer side; the larger of the two counts."""
    min_changed_share: float = 0.01
    """A target counts as changed when this share of its core's area changed: less is noise that came through."""
    min_changed_px: int = 6
    """The same in pixels, for very small targets."""
    fill_px: float = 2.0
    """Gaps up to twice this width inside a target's change are closed."""
    complete_share: float = 0.6
    """Where at least this share of a target's exact mask changed, the whole mask is taken as its region."""
    min_extra_share: float = 0.001
    """Unplanned changes below this share of the image's area are left to the background."""
    max_extras: int = 8
    """At most so many unplanned regions a candidate, biggest first."""
    same_place_iou: float = 0.9
    """Targets whose boxes and cores overlap at least so far (IoU) have one place."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_extras <= MAX_EXTRAS:
            raise ValueError(f"max_extras is {self.max_extras}, must be 0..{MAX_EXTRAS}")


DEFAULT = FusionSettings()


@dataclass(frozen=True)
class _Place:
    """Where one target lies in the edited frame. core, reach: masks (H, W). whole: it covers the whole image.

    outline: what a prompted segmenter made of it, where one was asked.
    """

    region: PlannedRegion
    core: MaskBool
    exact: MaskBool | None
    reach: MaskBool
    whole: bool
    outline: Outline | None = None


def fuse(
    request: EditRequest,
    candidate_id: str,
    planned: tuple[PlannedRegion, ...],
    changed_mask: MaskBool,
    shape: tuple[int, int],
    *,
    image_changed: bool = False,
    outlines: Mapping[int, Outline] = MappingProxyType({}),
    settings: FusionSettings = DEFAULT,
) -> tuple[ObservedMask, ...]:
    """One observed mask per planned region, then the unplanned ones, biggest first; all in the edited frame.

    Status `changed` (origin `fusion`), `unchanged` (origin `target`: the target's own mask or box; `segmenter`: its
    outline) or `unplanned` (origin `difference`). The masks are disjoint, except that an unchanged target that lies
    wholly under other targets keeps its own place, and targets of one place or over the whole image share a mask.

    shape: (H, W) of the candidate. outlines: of targets by their index, in the edited frame; the confidence of a region
    is that of the change times that of its outline. image_changed: the image as a whole differs from the source,
    by drift for one, which a difference mask leaves out; it makes a target over the whole image `changed`.
    Raises: ValueError where `changed_mask` has another shape.
    """
    if changed_mask.shape != shape:
        raise ValueError(f"changed_mask is {changed_mask.shape}, the candidate {shape}")
    places = [_place(request, region, shape, settings, outlines.get(region.target)) for region in planned]
    first = _first_of_place(places, settings.same_place_iou)
    owner = _owners([places[index] for index in first], first, shape)
    found: dict[int, ObservedMask] = {}
    taken = np.zeros(shape, dtype=np.bool_)
    for index, sharing in first.items():
        mask, status, confidence = _settle(places[index], owner == index, changed_mask, settings)
        taken |= mask
        for one in sharing:
            region, outline = places[one].region.id, places[one].outline
            found[one] = _observed(candidate_id, region, status, mask, changed_mask, confidence, outline)
    for index, place in enumerate(places):
        if place.whole:
            mask = ~taken if not taken.all() else place.core
            share = float(changed_mask[mask].mean())
            status = "changed" if image_changed or share >= settings.min_changed_share else "unchanged"
            found[index] = _observed(candidate_id, place.region.id, status, mask, changed_mask, 1.0)
    regions = [found[index] for index in range(len(places))]
    if any(place.whole for place in places):
        return tuple(regions)
    unexplained = changed_mask & (owner < 0) & ~taken
    return (*regions, *_extras(candidate_id, unexplained, changed_mask, settings))


def background_mask(observed: tuple[ObservedMask, ...], shape: tuple[int, int]) -> MaskBool:
    """Mask (H, W) of everything outside the observed regions, planned and unplanned."""
    background = np.ones(shape, dtype=np.bool_)
    for region in observed:
        background &= ~rle_to_mask(region.mask)
    return background


def explained_mask(
    planned: tuple[PlannedRegion, ...], observed: tuple[ObservedMask, ...], shape: tuple[int, int]
) -> MaskBool:
    """Mask (H, W) of what the request explains: the planned boxes and what was observed of planned regions."""
    of_planned = tuple(region for region in observed if region.status != "unplanned")
    return planned_mask(planned, shape) | ~background_mask(of_planned, shape)


def _margin_px(box: Box, shape: tuple[int, int], settings: FusionSettings) -> int:
    longest = max(box[2] - box[0], box[3] - box[1])
    return round(max(settings.margin_px * max(shape) / 256, settings.margin_share * longest))


def _place(
    request: EditRequest,
    region: PlannedRegion,
    shape: tuple[int, int],
    settings: FusionSettings,
    outline: Outline | None = None,
) -> _Place:
    height, width = shape
    target = request.targets[region.target]
    boxes = target_boxes(request, target, (width, height))
    exact = None if target.mask is None else resize_mask(rle_to_mask(target.mask), width, height)
    exact = None if exact is None or not exact.any() else exact
    outlined = outline.mask if outline is not None else None
    exact = exact if outlined is None else outlined
    whole = exact is None and region.box == (0, 0, width, height)
    core = np.zeros(shape, dtype=np.bool_) if exact is None else exact.copy()
    reach = core.copy()
    for box in (boxes or [region.box]) if exact is None else boxes[1:] if outlined is None else []:
        core |= box_mask(box, height, width)
    for box in boxes or [region.box]:
        reach |= box_mask(grown_box(box, _margin_px(box, shape, settings)), height, width)
    return _Place(region, core, exact, reach, whole, outline)


def _by_size(places: list[_Place]) -> list[int]:
    """The indices of places, the smallest core first; then the first of them."""
    return sorted(range(len(places)), key=lambda index: (int(places[index].core.sum()), index))


def _first_of_place(places: list[_Place], least_iou: float) -> dict[int, list[int]]:
    """The smallest target of each place -> all of that place, itself too; without those over the whole image."""
    first: dict[int, list[int]] = {}
    for index in _by_size(places):
        if not places[index].whole:
            same = next((one for one in first if _same_place(places[one], places[index], least_iou)), index)
            first.setdefault(same, []).append(index)
    return first


def _same_place(one: _Place, other: _Place, least_iou: float) -> bool:
    """Whether two targets lie in one place; where the exact pixels of one alone are known, its box says."""
    if iou(one.region.box, other.region.box) < least_iou:
        return False
    if (one.exact is None) != (other.exact is None):
        return True
    return int((one.core & other.core).sum()) >= least_iou * int((one.core | other.core).sum())


def _owners(places: list[_Place], indices: Iterable[int], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Which target owns each pixel (H, W), by its index in `indices`, -1 for none; the module's docstring has the rule.

    places: the smallest core first.
    """
    owner = np.full(shape, -1, dtype=np.int32)
    nearest = np.full(shape, np.inf, dtype=np.float64)
    for index, place in zip(indices, places, strict=True):
        window = _window(place.reach)
        reach = place.reach[window]
        if not any(other is not place and (other.reach[window] & reach).any() for other in places):
            owner[window][reach] = index  # no other could be nearer
            continue
        # Exact, so that ties go to the first: OpenCV's differs in its last bit with where the mask lies in memory.
        distance = ndimage.distance_transform_edt(~place.core[window])
        closer = reach & (distance < nearest[window])
        owner[window][closer], nearest[window][closer] = index, distance[closer]
    return owner


def _window(mask: MaskBool, margin_px: int = 0) -> tuple[slice, slice]:
    """The rows and columns that hold all of a mask, and `margin_px` more on every side; none of an empty one."""
    left, top, right, bottom = grown_box(mask_box(mask) or (0, 0, 0, 0), margin_px)
    return slice(top, bottom), slice(left, right)


def _settle(
    place: _Place, owned: MaskBool, changed: MaskBool, settings: FusionSettings
) -> tuple[MaskBool, RegionStatus, float]:
    """(mask, status, confidence) of one target from the changed pixels that it owns.

    Confidence: changed: the share of the change that lies in the core, halved as the change covers less of the core;
    unchanged: the share of the core that did not change, halved where only a box is known.
    """
    core = place.core & owned
    core = core if core.any() else place.core
    claimed = changed & owned
    needed = max(settings.min_changed_px, settings.min_changed_share * int(core.sum()))
    coverage = float(changed[core].mean())
    if claimed.sum() < min(needed, core.sum()):
        return core, "unchanged", (1 - coverage) * (0.5 if place.exact is None else 1.0)
    inside = float((claimed & place.core).sum() / claimed.sum())
    mask = _filled(claimed, settings.fill_px * max(changed.shape) / 256) & owned
    if place.exact is not None and changed[place.exact].mean() >= settings.complete_share:
        mask |= place.exact & owned
    return mask, "changed", inside * (0.5 + 0.5 * min(1.0, coverage / 0.3))


def _filled(mask: MaskBool, radius_px: float) -> MaskBool:
    """`mask` with gaps up to twice `radius_px` closed.

    Only about the mask: the time grows with the square of the radius. What a closing sees of a pixel is 2 radii around.
    """
    side = 2 * round(radius_px) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    filled, window = np.zeros_like(mask), _window(mask, side - 1)
    if mask.any():
        part = mask[window].astype(np.uint8)
        filled[window] = cv2.morphologyEx(part, cv2.MORPH_CLOSE, kernel).astype(np.bool_)
    return filled


def _extras(
    candidate_id: str, unexplained: MaskBool, changed: MaskBool, settings: FusionSettings
) -> list[ObservedMask]:
    """The connected unplanned changes (8-neighbourhood), biggest first, then from top left; small ones left out."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(unexplained.astype(np.uint8), connectivity=8)
    areas, tops = stats[:, cv2.CC_STAT_AREA], stats[:, cv2.CC_STAT_TOP]
    smallest = max(1.0, settings.min_extra_share * unexplained.size)
    kept = [label for label in range(1, len(areas)) if areas[label] >= smallest]

    def order(label: int) -> tuple[int, int, int]:
        top = int(tops[label])
        return -int(areas[label]), top, int(np.argmax(labels[top] == label))

    kept = sorted(kept, key=order)[: settings.max_extras]
    return [
        _observed(
            candidate_id, f"extra-{n}", "unplanned", labels == label, changed, float(1 - smallest / (2 * areas[label]))
        )
        for n, label in enumerate(kept)
    ]


def _observed(
    candidate_id: str,
    region: str,
    status: RegionStatus,
    mask: MaskBool,
    changed: MaskBool,
    confidence: float,
    outline: Outline | None = None,
) -> ObservedMask:
    place: MaskOrigin = "target" if outline is None or outline.mask is None else "segmenter"
    origins: dict[RegionStatus, MaskOrigin] = {"changed": "fusion", "unchanged": place, "unplanned": "difference"}
    confidence *= 1.0 if outline is None else outline.confidence
    cycle_iou = None if outline is None else outline.cycle_iou
    fields: dict[str, Any] = {"candidate": candidate_id, "region": region, "status": status}
    return ObservedMask(
        **fields,
        origin=origins[status],
        mask=mask_to_rle(mask),
        box=mask_box(mask),
        area_px=int(mask.sum()),
        confidence=round(min(1.0, max(0.0, confidence)), 4),
        source_change_share=round(float(changed[mask].mean()), 4) if mask.any() else None,
        cycle_iou=None if cycle_iou is None else round(cycle_iou, 4),
    )

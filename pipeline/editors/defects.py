"""The graded flaws that the procedural editor puts into an edit on purpose, each in a named region or the background.

A strength is a share of what can be seen, 0 to 1: for `missed`, `wrong_attribute` and `half_done` the share of the
edit's own change that is lacking or wrong; for the others an amplitude that grows with it (constants below, in CIE Lab
or pixels at 256 px). Where an amplitude's effect hangs on the content (compression, warp) it is fitted to the pixels.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.editors.operations import compose, from_lab, soft, to_lab
from pipeline.editors.orders import wrong_order
from pipeline.editors.plan import BORDER_PX, Plan, Step, carry_out, grown
from pipeline.editors.protocol import CannotEdit
from pipeline.editors.shapes import ImageF32
from runtime.images import ImageU8, MaskBool, mask_box
from schemas.candidate import Defect

REFERENCE_PX = 256
SPILL_PX = (4.0, 18.0)
SPILL_OPACITY = 0.8
OTHER_OBJECT_LAB = (10.0, 40.0)
PLANNED_OBJECT_LAB = (8.0, 60.0)
#: At strength 1 a wrong attribute is at least this far off, however little the asked edit changes.
WRONG_LAB = 25.0
DRIFT_LAB = (3.0, 19.0)
SEAM_LIGHTNESS = (12.0, 40.0)
SEAM_PX = (1.0, 1.2)
NOISE_RGB = (4.0, 28.0)
COMPRESSION_LAB = (2.5, 10.0)
WARP_LAB = (3.0, 11.0)
WARP_PX = (1.5, 6.0)

#: Full-size colour: blocks and ringing show, not a soft bleeding of colour.
_JPEG_SAMPLING = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
#: Mean change (CIE Lab) in its place below which a defect cannot be seen, where the kind has no aim of its own.
_VISIBLE_LAB = {"spill": 4.5, "seam": 5.0, "missed": 10.0, "wrong_attribute": 10.0, "half_done": 6.0}
#: A wrong attribute lies within these shares of what its strength aims at; from this strength on it may be any further.
_WRONG_RANGE = (0.6, 1.5)
_PLAINLY_WRONG = 0.7
_AROUND = ("spill", "seam")
_VISIBLE_SHARE_OF_AIM = 0.7

_Apply = Callable[[ImageU8, Plan, Defect, np.random.Generator], ImageU8]


def apply_defect(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """`image` (a rendering of `plan`) with `defect` put in.

    Raises: CannotEdit with reason `no_place` where the region or the background that it names has no pixel.
    """
    return _APPLY[defect.kind](image, plan, defect, rng)


def defect_place(plan: Plan, defect: Defect) -> MaskBool:
    """The pixels that a defect may change, (H, W, bool); its soft border included. Raises: as `apply_defect`."""
    if defect.target is None:
        place = plan.background
    elif defect.kind in _AROUND:
        reach = round(_px(plan, defect, SPILL_PX if defect.kind == "spill" else SEAM_PX)) + BORDER_PX + 1
        place = grown(plan.step(defect.target).region, reach)
    else:
        place = grown(plan.step(defect.target).region, BORDER_PX)
    if not place.any():
        raise CannotEdit("no_place", f"defect {defect.kind} has no pixel to sit in")
    return place


def is_visible(plan: Plan, defect: Defect, flawed: ImageU8) -> bool:
    """Whether `defect`, put into the wanted image of `plan` to give `flawed`, can be seen as its strength says."""
    place = defect_place(plan, defect)
    if defect.kind in _AROUND:
        place = place & ~grown(plan.step(_target(defect)).region, 0 if defect.kind == "seam" else 1)
    if not place.any():
        return False
    if defect.kind == "wrong_attribute":
        return _is_about_as_wrong(plan, defect, _distance(flawed, plan.wanted, plan.step(_target(defect)).region))
    aims = {"compression": COMPRESSION_LAB, "warp": WARP_LAB}
    least = _VISIBLE_LAB.get(defect.kind, 1.2)
    if defect.kind in aims:
        least = _VISIBLE_SHARE_OF_AIM * _grade(aims[defect.kind], defect.strength)
    return _distance(flawed, plan.wanted, place) >= least


def _is_about_as_wrong(plan: Plan, defect: Defect, off_lab: float) -> bool:
    """Whether something was found that is wrong as the strength says; from `_PLAINLY_WRONG` on, or more so."""
    aim = _wrong_aim(plan.step(_target(defect)), plan, defect)
    too_far = off_lab > _WRONG_RANGE[1] * aim and defect.strength < _PLAINLY_WRONG
    return off_lab >= max(_VISIBLE_LAB["wrong_attribute"], _WRONG_RANGE[0] * aim) and not too_far


def _grade(span: tuple[float, float], strength: float) -> float:
    return span[0] + span[1] * strength


def _px(plan: Plan, defect: Defect, span: tuple[float, float]) -> float:
    return max(1.0, _grade(span, defect.strength) * max(plan.wanted.shape[:2]) / REFERENCE_PX)


def _opacity(plan: Plan, defect: Defect) -> ImageF32:
    """A soft mask of the place, which for the background stays clear of the regions."""
    if defect.target is None:
        return np.asarray(soft(plan.background) * plan.background, dtype=np.float32)
    return soft(plan.step(defect.target).region)


def _distance(first: ImageU8, second: ImageU8, where: MaskBool) -> float:
    """Mean CIE Lab distance of two images inside a mask."""
    return float(np.linalg.norm(to_lab(first) - to_lab(second), axis=-1)[where].mean())


def _target(defect: Defect) -> int:
    if defect.target is None:
        raise CannotEdit("no_place", f"defect {defect.kind} sits in a region, not in the background")
    return defect.target


def missed(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """The edit is fainter than asked; at strength 1 it is not there at all."""
    step = plan.step(_target(defect))
    own = grown(step.region, BORDER_PX) & ~plan.others(step.target)
    return compose(image, step.before, soft(own) * np.float32(defect.strength))


def half_done(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """On one side of a straight cut the edit is not there; strength: the share of the change that lies on that side."""
    step = plan.step(_target(defect))
    ys, xs = np.nonzero(step.region)
    angle = rng.uniform(0, 2 * np.pi)
    across = xs * np.cos(angle) + ys * np.sin(angle)
    change = np.linalg.norm(to_lab(step.before)[ys, xs] - plan.wanted_lab[ys, xs], axis=-1) + 1e-3
    order = np.argsort(across, kind="stable")
    done = np.cumsum(change[order]) / change.sum()
    last = across[order][min(int(np.searchsorted(done, defect.strength)), len(order) - 1)]
    grid_y, grid_x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    undone = grid_x * np.cos(angle) + grid_y * np.sin(angle) <= last
    own = grown(step.region, BORDER_PX) & ~plan.others(step.target)
    return compose(image, step.before, soft(own & undone))


def wrong_attribute(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """Something else than asked was done, and done whole: no mixture that would give itself away.

    The strength chooses what: one about as far from the asked result as that share of the asked change is large.
    """
    step = plan.step(_target(defect))
    wrong = wrong_order(step.order, _wrong_aim(step, plan, defect), rng)
    moves = step.order.operation in ("move", "resize", "remove", "insert", "replace")
    instead = wrong.operation != step.order.operation
    base, thing = (plan.wanted, _new_place(step)) if moves and instead else (step.before, step.thing)
    made = carry_out(wrong, base, thing, plan.sources)[0]
    return compose(image, made, soft(step.region & ~plan.others(step.target)))


def _wrong_aim(step: Step, plan: Plan, defect: Defect) -> float:
    return defect.strength * max(WRONG_LAB, _distance(step.before, plan.wanted, step.region))


def _new_place(step: Step) -> MaskBool:
    """Where a thing is after its edit: the region without the place that it left."""
    new = step.region & ~step.thing
    return new if new.sum() >= 0.2 * step.thing.sum() else step.region


def spill(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """The edit leaks over its border: the colours inside glow outwards, fainter and fainter, by a number of pixels."""
    step = plan.step(_target(defect))
    core = cv2.erode(step.region.astype(np.uint8), np.ones((3, 3), dtype=np.uint8))
    core = core if core.any() else step.region.astype(np.uint8)
    distance, labels = cv2.distanceTransformWithLabels(1 - core, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    colours = np.zeros((int(labels.max()) + 1, 3), dtype=np.float32)
    colours[labels[core > 0]] = cv2.blur(plan.wanted, (3, 3))[core > 0]
    left = np.clip(1 - (distance - 1) / _px(plan, defect, SPILL_PX), 0, 1)
    clear = soft(~plan.others(step.target) | step.region) * ~plan.others(step.target) * ~step.region
    opacity = np.float32(SPILL_OPACITY) * left * clear
    return compose(image, colours[labels], np.asarray(opacity, dtype=np.float32))


def other_object(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """Something that nobody named (None), or another planned target, takes on another colour.

    In a planned target the strength is the share of that target's own change, as for `wrong_attribute`.
    """
    if defect.target is None:
        mask, size = _nearby_blob(plan, rng), _grade(OTHER_OBJECT_LAB, defect.strength)
    else:
        step = plan.step(defect.target)
        mask, asked = step.region, _distance(step.before, plan.wanted, step.region)
        size = defect.strength * float(np.clip(asked, *PLANNED_OBJECT_LAB))
    shift = _lab_shift(size, to_lab(image)[mask].mean(axis=0), rng, 0.35)
    return compose(image, from_lab(to_lab(image) + shift), soft(mask))


def background_drift(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """Colour and brightness of the whole background shift."""
    place = defect_place(plan, defect)
    shift = _lab_shift(_grade(DRIFT_LAB, defect.strength), to_lab(image)[place].mean(axis=0), rng, 0.6)
    return compose(image, from_lab(to_lab(image) + shift), _opacity(plan, defect))


def seam(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """A visible line along the region's border, lighter or darker than what lies there."""
    region = plan.step(_target(defect)).region.astype(np.uint8)
    inwards, outwards = cv2.distanceTransform(region, cv2.DIST_L2, 3), cv2.distanceTransform(1 - region, cv2.DIST_L2, 3)
    line = (inwards + outwards) <= _px(plan, defect, SEAM_PX)
    lab = to_lab(image)
    sign = -1.0 if float(lab[..., 0][line].mean()) > 50 else 1.0
    lab[..., 0] = np.clip(lab[..., 0] + sign * _grade(SEAM_LIGHTNESS, defect.strength), 0, 100)
    return compose(image, from_lab(lab), np.minimum(soft(line) * np.float32(1.4), 1))


def noise(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """Grainy noise, independent in every pixel."""
    grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(_grade(NOISE_RGB, defect.strength))
    return compose(image, np.clip(image + grain, 0, 255), _opacity(plan, defect))


def compression(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """JPEG artefacts, at the quality that does the visible damage that the strength stands for."""
    place = defect_place(plan, defect)
    aim = _grade(COMPRESSION_LAB, defect.strength)
    low, high = 1, 50
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _distance(_jpeg(image, place, middle), image, place) >= aim else (low, middle - 1)
    return compose(image, _jpeg(image, place, low), _opacity(plan, defect))


def _jpeg(image: ImageU8, place: MaskBool, quality: int) -> ImageU8:
    """`image` with the box around `place` sent through JPEG."""
    x1, y1, x2, y2 = mask_box(place) or (0, 0, 1, 1)
    data = cv2.imencode(".jpg", image[y1:y2, x1:x2, ::-1], [*_JPEG_SAMPLING, cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    result = image.copy()
    result[y1:y2, x1:x2] = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
    return result


def warp(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """The geometry is bent in waves that die out at the border of the place."""
    place = defect_place(plan, defect)
    field = _wave_field(place, rng)
    amplitude = _px(plan, defect, WARP_PX)
    seen = _distance(_bent(image, field, amplitude), image, place)
    amplitude *= float(np.clip(_grade(WARP_LAB, defect.strength) / max(seen, 1e-3), 0.4, 2.5))
    return compose(image, _bent(image, field, amplitude), _opacity(plan, defect))


def _wave_field(place: MaskBool, rng: np.random.Generator) -> NDArray[np.float32]:
    """Displacements (H, W, 2) of up to 1, faded out towards the border of `place`."""
    x1, y1, x2, y2 = mask_box(place) or (0, 0, 1, 1)
    wave_px = max(12.0, min(x2 - x1, y2 - y1) / 1.3)
    ys, xs = np.mgrid[0 : place.shape[0], 0 : place.shape[1]].astype(np.float32) * np.float32(2 * np.pi / wave_px)
    phases = rng.uniform(0, 2 * np.pi, 4)
    dx = np.sin(ys + phases[0]) * 0.7 + np.sin(0.6 * xs + 0.5 * ys + phases[1]) * 0.3
    dy = np.sin(xs + phases[2]) * 0.7 + np.sin(0.5 * xs - 0.6 * ys + phases[3]) * 0.3
    depth = cv2.distanceTransform(place.astype(np.uint8), cv2.DIST_L2, 3)
    fade = np.clip(depth / max(2.0, 0.12 * min(x2 - x1, y2 - y1)), 0, 1)
    return np.asarray(np.stack([dx, dy], axis=-1) * fade[..., None], dtype=np.float32)


def _bent(image: ImageU8, field: NDArray[np.float32], amplitude_px: float) -> ImageU8:
    ys, xs = np.mgrid[0 : image.shape[0], 0 : image.shape[1]].astype(np.float32)
    map_x, map_y = xs + np.float32(amplitude_px) * field[..., 0], ys + np.float32(amplitude_px) * field[..., 1]
    bent = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(bent, dtype=np.uint8)


def _lab_shift(size: float, here: NDArray[np.float32], rng: np.random.Generator, light: float) -> NDArray[np.float32]:
    """A shift of length `size` in CIE Lab: a share `light` of it lightness, away from the nearer end, the rest hue."""
    angle = rng.uniform(0, 2 * np.pi)
    chroma = np.sqrt(1 - light**2)
    up = -1.0 if here[0] > 55 else 1.0
    return np.array([up * light, chroma * np.cos(angle), chroma * np.sin(angle)], dtype=np.float32) * np.float32(size)


def _nearby_blob(plan: Plan, rng: np.random.Generator) -> MaskBool:
    """A round patch of background, as near to the regions as it fits, of some five per cent of the image."""
    free = plan.background.astype(np.uint8)
    room = cv2.distanceTransform(np.pad(free, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    radius = min(0.13 * float(np.sqrt(free.size)), float(room.max()) - 1)
    if radius < 2:
        raise CannotEdit("no_place", "the background has no room for another object")
    ys, xs = np.nonzero(room >= radius)
    pick = int(rng.integers(len(ys)))
    grid_y, grid_x = np.mgrid[0 : free.shape[0], 0 : free.shape[1]]
    return np.asarray(np.hypot(grid_x - xs[pick], grid_y - ys[pick]) <= radius, dtype=np.bool_)


_APPLY: dict[str, _Apply] = {
    "missed": missed,
    "wrong_attribute": wrong_attribute,
    "half_done": half_done,
    "spill": spill,
    "other_object": other_object,
    "background_drift": background_drift,
    "warp": warp,
    "seam": seam,
    "noise": noise,
    "compression": compression,
}
#: All kinds of defects, in the order in which they are put in: what is shown first, then how well it is shown.
DEFECT_KINDS = tuple(_APPLY)

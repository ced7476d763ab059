"""Defects in what was asked: left out, half done, done wrongly, spilt over the border, or done to another thing."""

import cv2
import numpy as np

from pipeline.editors.defect_strength import (
    OTHER_OBJECT_LAB,
    PLANNED_OBJECT_LAB,
    SPILL_OPACITY,
    SPILL_PX,
    grade,
    lab_distance,
    lab_shift,
    length_px,
    target_of,
    wrong_aim_lab,
)
from pipeline.editors.operations import compose, from_lab, soft, to_lab
from pipeline.editors.orders import wrong_order
from pipeline.editors.plan import BORDER_PX, Plan, Step, carry_out, grown
from pipeline.editors.protocol import CannotEdit
from runtime.images import ImageU8
from runtime.masks import MaskBool
from schemas.candidate import Defect


def missed(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """The edit is fainter than asked; at strength 1 it is not there at all."""
    step = plan.step(target_of(defect))
    own = grown(step.region, BORDER_PX) & ~plan.others(step.target)
    return compose(image, step.before, soft(own) * np.float32(defect.strength))


def half_done(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """On one side of a straight cut the edit is not there; strength: the share of the change that lies on that side."""
    step = plan.step(target_of(defect))
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
    step = plan.step(target_of(defect))
    wrong = wrong_order(step.order, wrong_aim_lab(step, plan, defect), rng)
    moves = step.order.operation in ("move", "resize", "remove", "insert", "replace")
    instead = wrong.operation != step.order.operation
    base, thing = (plan.wanted, _new_place(step)) if moves and instead else (step.before, step.thing)
    made = carry_out(wrong, base, thing, plan.sources)[0]
    return compose(image, made, soft(step.region & ~plan.others(step.target)))


def _new_place(step: Step) -> MaskBool:
    """Where a thing is after its edit: the region without the place that it left."""
    new = step.region & ~step.thing
    return new if new.sum() >= 0.2 * step.thing.sum() else step.region


def spill(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """The edit leaks over its border: the colours inside glow outwards, fainter and fainter, by a number of pixels."""
    step = plan.step(target_of(defect))
    core = cv2.erode(step.region.astype(np.uint8), np.ones((3, 3), dtype=np.uint8))
    core = core if core.any() else step.region.astype(np.uint8)
    distance, labels = cv2.distanceTransformWithLabels(1 - core, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    colours = np.zeros((int(labels.max()) + 1, 3), dtype=np.float32)
    colours[labels[core > 0]] = cv2.blur(plan.wanted, (3, 3))[core > 0]
    left = np.clip(1 - (distance - 1) / length_px(plan, defect, SPILL_PX), 0, 1)
    clear = soft(~plan.others(step.target) | step.region) * ~plan.others(step.target) * ~step.region
    opacity = np.float32(SPILL_OPACITY) * left * clear
    return compose(image, colours[labels], np.asarray(opacity, dtype=np.float32))


def other_object(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """Something that nobody named (None), or another planned target, takes on another colour.

    In a planned target the strength is the share of that target's own change, as for `wrong_attribute`.
    """
    if defect.target is None:
        mask, size = _nearby_blob(plan, rng), grade(OTHER_OBJECT_LAB, defect.strength)
    else:
        step = plan.step(defect.target)
        mask, asked = step.region, lab_distance(step.before, plan.wanted, step.region)
        size = defect.strength * float(np.clip(asked, *PLANNED_OBJECT_LAB))
    shift = lab_shift(size, to_lab(image)[mask].mean(axis=0), rng, 0.35)
    return compose(image, from_lab(to_lab(image) + shift), soft(mask))


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

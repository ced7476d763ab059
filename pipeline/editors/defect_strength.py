"""Where a defect of the procedural editor sits, and how strong its strength makes it, in CIE Lab or pixels."""

import numpy as np
from numpy.typing import NDArray

from pipeline.editors.operations import soft, to_lab
from pipeline.editors.plan import BORDER_PX, Plan, Step, grown
from pipeline.editors.protocol import CannotEdit
from pipeline.editors.shapes import ImageF32
from runtime.images import ImageU8
from runtime.masks import MaskBool
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
#: Kinds that change what lies around their region.
AROUND = ("spill", "seam")


def defect_place(plan: Plan, defect: Defect) -> MaskBool:
    """The pixels that a defect may change, (H, W, bool); its soft border included.

    Raises: CannotEdit with reason `no_place` where there is none.
    """
    if defect.target is None:
        place = plan.background
    elif defect.kind in AROUND:
        reach = round(length_px(plan, defect, SPILL_PX if defect.kind == "spill" else SEAM_PX)) + BORDER_PX + 1
        place = grown(plan.step(defect.target).region, reach)
    else:
        place = grown(plan.step(defect.target).region, BORDER_PX)
    if not place.any():
        raise CannotEdit("no_place", f"defect {defect.kind} has no pixel to sit in")
    return place


def target_of(defect: Defect) -> int:
    """The target that a defect of a region names. Raises: CannotEdit, reason `no_place`, where it names none."""
    if defect.target is None:
        raise CannotEdit("no_place", f"defect {defect.kind} sits in a region, not in the background")
    return defect.target


def grade(span: tuple[float, float], strength: float) -> float:
    """An amplitude: `span` is what it is at strength 0 and how much more at strength 1."""
    return span[0] + span[1] * strength


def length_px(plan: Plan, defect: Defect, span: tuple[float, float]) -> float:
    """`grade` of a length at 256 px (longest side), in pixels of the image; at least one."""
    return max(1.0, grade(span, defect.strength) * max(plan.wanted.shape[:2]) / REFERENCE_PX)


def opacity(plan: Plan, defect: Defect) -> ImageF32:
    """A soft mask of the place, which for the background stays clear of the regions."""
    if defect.target is None:
        return np.asarray(soft(plan.background) * plan.background, dtype=np.float32)
    return soft(plan.step(defect.target).region)


def lab_distance(first: ImageU8, second: ImageU8, where: MaskBool) -> float:
    """Mean CIE Lab distance of two images inside a mask."""
    return float(np.linalg.norm(to_lab(first) - to_lab(second), axis=-1)[where].mean())


def wrong_aim_lab(step: Step, plan: Plan, defect: Defect) -> float:
    """How far (mean CIE Lab distance) a wrong attribute of this strength should be from the asked result."""
    return defect.strength * max(WRONG_LAB, lab_distance(step.before, plan.wanted, step.region))


def lab_shift(size: float, here: NDArray[np.float32], rng: np.random.Generator, light: float) -> NDArray[np.float32]:
    """A shift of length `size` in CIE Lab: a share `light` of it lightness, away from the nearer end, the rest hue."""
    angle = rng.uniform(0, 2 * np.pi)
    chroma = np.sqrt(1 - light**2)
    up = -1.0 if here[0] > 55 else 1.0
    return np.array([up * light, chroma * np.cos(angle), chroma * np.sin(angle)], dtype=np.float32) * np.float32(size)

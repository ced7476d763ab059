"""The graded flaws that the procedural editor puts into an edit on purpose, each in a named region or the background.

A strength is a share of what can be seen, 0 to 1: for `missed`, `wrong_attribute` and `half_done` the share of the
edit's own change that is lacking or wrong; for the others an amplitude that grows with it (constants of
`defect_strength.py`, in CIE Lab or pixels at 256 px). Where an amplitude's effect hangs on the content (compression,
warp) it is fitted to the pixels.
"""

from collections.abc import Callable

import numpy as np

from pipeline.editors.defect_strength import (
    AROUND,
    COMPRESSION_LAB,
    WARP_LAB,
    defect_place,
    grade,
    lab_distance,
    target_of,
    wrong_aim_lab,
)
from pipeline.editors.defects_of_edits import half_done, missed, other_object, spill, wrong_attribute
from pipeline.editors.defects_of_pixels import background_drift, compression, noise, seam, warp
from pipeline.editors.plan import Plan, grown
from runtime.images import ImageU8
from schemas.candidate import Defect

#: Mean change (CIE Lab) in its place below which a defect cannot be seen, where the kind has no aim of its own.
_VISIBLE_LAB = {"spill": 4.5, "seam": 5.0, "missed": 10.0, "wrong_attribute": 10.0, "half_done": 6.0}
#: A wrong attribute lies within these shares of what its strength aims at; from this strength on it may be any further.
_WRONG_RANGE = (0.6, 1.5)
_PLAINLY_WRONG = 0.7
_VISIBLE_SHARE_OF_AIM = 0.7

_Apply = Callable[[ImageU8, Plan, Defect, np.random.Generator], ImageU8]

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


def apply_defect(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """`image` (a rendering of `plan`) with `defect` put in.

    Raises: CannotEdit with reason `no_place` where the region or the background that it names has no pixel.
    """
    return _APPLY[defect.kind](image, plan, defect, rng)


def is_visible(plan: Plan, defect: Defect, flawed: ImageU8) -> bool:
    """Whether `defect`, put into the wanted image of `plan` to give `flawed`, can be seen as its strength says."""
    place = defect_place(plan, defect)
    if defect.kind in AROUND:
        place = place & ~grown(plan.step(target_of(defect)).region, 0 if defect.kind == "seam" else 1)
    if not place.any():
        return False
    if defect.kind == "wrong_attribute":
        return _is_about_as_wrong(plan, defect, lab_distance(flawed, plan.wanted, plan.step(target_of(defect)).region))
    aims = {"compression": COMPRESSION_LAB, "warp": WARP_LAB}
    least = _VISIBLE_LAB.get(defect.kind, 1.2)
    if defect.kind in aims:
        least = _VISIBLE_SHARE_OF_AIM * grade(aims[defect.kind], defect.strength)
    return lab_distance(flawed, plan.wanted, place) >= least


def _is_about_as_wrong(plan: Plan, defect: Defect, off_lab: float) -> bool:
    """Whether something was found that is wrong as the strength says; from `_PLAINLY_WRONG` on, or more so."""
    aim = wrong_aim_lab(plan.step(target_of(defect)), plan, defect)
    too_far = off_lab > _WRONG_RANGE[1] * aim and defect.strength < _PLAINLY_WRONG
    return off_lab >= max(_VISIBLE_LAB["wrong_attribute"], _WRONG_RANGE[0] * aim) and not too_far

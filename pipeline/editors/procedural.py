"""The embedded editor: carries out requests with plain image processing, and flaws its candidates on purpose.

No model and no weights. What was done and what is wrong with it is known by construction, so every candidate has an
exact oracle score. Everything it makes is marked synthetic.
"""

import zlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from pipeline.editors.defects import DEFECT_KINDS, apply_defect, is_visible
from pipeline.editors.plan import Plan, make_plan
from pipeline.editors.protocol import CannotEdit, Edit
from runtime.images import ImageU8
from runtime.masks import MaskBool
from schemas.candidate import Defect
from schemas.errors import BadInput
from schemas.record import Scalar, short_hash
from schemas.request import EditRequest

#: (fewest, most) defects and (least, greatest) strength for each level of quality; candidates go through all levels.
LEVELS = (((0, 0), (0.0, 0.0)), ((1, 1), (0.15, 0.45)), ((1, 2), (0.3, 0.75)), ((2, 3), (0.5, 1.0)))
IN_REGION_ONLY = ("missed", "wrong_attribute", "half_done", "spill", "seam")
CONTENT = ("missed", "wrong_attribute", "half_done")
_TRIES = 8
#: Plans that are kept, and the pixels of all their canvases: four of 512 px, or one of 1,024 px, which takes 30 MB.
_PLANS_KEPT, _PLANS_PIXELS = 4, 4 * 512 * 512


class ProceduralEditor:
    """An `Editor` of plain image processing. leave_out: kinds of defects that it never draws by itself."""

    name = "procedural"
    revision = "3"
    synthetic = True

    def __init__(self, leave_out: Sequence[str] = ()) -> None:
        unknown = sorted(set(leave_out) - set(DEFECT_KINDS))
        if unknown:
            raise BadInput(f"defect {unknown[0]!r}", "is not known", f"choose from {', '.join(DEFECT_KINDS)}")
        self.kinds = tuple(kind for kind in DEFECT_KINDS if kind not in leave_out)
        if leave_out:
            self.revision = f"3 without {', '.join(sorted(set(leave_out)))}"
        self._plans: OrderedDict[tuple[str, int], Plan] = OrderedDict()

    def edit(self, request: EditRequest, sources: list[ImageU8], index: int, seed: int) -> Edit:
        """Candidate `index`: of every four in a row one is clean and three are worse and worse, in shuffled order.

        Raises: CannotEdit where the request names no usable target or asks for what the vocabulary lacks.
        """
        plan = self.plan(request, sources)
        chance_seed = int(short_hash("candidate", index, seed), 16)
        defects = self._drawn(plan, quality_level(request.id, index), chance_seed)
        return _edit(plan, defects, seed, chance_seed, {"index": index})

    def wanted(self, request: EditRequest, sources: list[ImageU8], seed: int = 0) -> ImageU8:
        """The clean rendering, HWC uint8; the same for every candidate and seed. Raises: as `edit`."""
        return self.plan(request, sources).wanted

    def region_masks(self, request: EditRequest, sources: list[ImageU8]) -> dict[str, MaskBool]:
        """Planned region id -> exactly what its edit means to change (old place and new). Raises: as `edit`."""
        return self.plan(request, sources).masks()

    def render(self, request: EditRequest, sources: list[ImageU8], seed: int, defects: Sequence[Defect]) -> Edit:
        """The clean rendering with exactly these defects put in.

        Raises: as `edit`; CannotEdit with reason `no_place` for a defect that has no pixel; ValueError for a target
        that the request does not have.
        """
        listed = ", ".join(f"{d.kind} {d.target} {d.strength}" for d in defects)
        return _edit(self.plan(request, sources), tuple(defects), seed, seed, {"defects": listed})

    def plan(self, request: EditRequest, sources: list[ImageU8]) -> Plan:
        """The clean edit of a request with its masks, computed once for its candidates. Raises: as `edit`."""
        if not sources:
            raise CannotEdit("no_source", "the request came without its canvas")
        key = request.id, zlib.crc32(b"".join(np.ascontiguousarray(s[::3]).tobytes() for s in sources))
        if key not in self._plans:
            self._make_room(sources[0])
            self._plans[key] = make_plan(request, sources)
        return self._plans[key]

    def _make_room(self, canvas: ImageU8) -> None:
        """Drops the oldest plans, so that one for `canvas` may be kept beside the others."""
        allowed = _PLANS_PIXELS - canvas[..., 0].size
        while len(self._plans) >= _PLANS_KEPT or sum(one.wanted[..., 0].size for one in self._plans.values()) > allowed:
            if not self._plans:
                break
            self._plans.popitem(last=False)

    def _drawn(self, plan: Plan, level: int, seed: int) -> tuple[Defect, ...]:
        """The defects of a level of quality: drawn, tried one by one, and kept where they can be seen."""
        rng = np.random.default_rng(int(short_hash("defects", plan.request, seed), 16))
        (fewest, most), strengths = LEVELS[level]
        number = int(rng.integers(fewest, most + 1))
        drawn: list[Defect] = []
        for _ in range(_TRIES * number):
            if len(drawn) == number:
                break
            defect = self._draw(plan, strengths, rng)
            if defect is not None and _fits(defect, drawn) and _visible(plan, defect, seed):
                drawn.append(defect)
        return tuple(drawn)

    def _draw(self, plan: Plan, strengths: tuple[float, float], rng: np.random.Generator) -> Defect | None:
        if not self.kinds:
            return None
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        targets: list[int | None] = [step.target for step in plan.steps]
        places = targets if kind in IN_REGION_ONLY else [*targets, None]
        if kind == "background_drift" or (kind == "other_object" and len(targets) < 2):
            places = [None]
        strength = round(float(rng.uniform(*strengths)), 2)
        return Defect(kind=kind, target=places[int(rng.integers(len(places)))], strength=strength)


def quality_level(request: str, index: int) -> int:
    """Which of `LEVELS` candidate `index` of a request has: a permutation of its own for every four candidates."""
    block, place = divmod(index, len(LEVELS))
    rng = np.random.default_rng(int(short_hash("levels", request, block), 16))
    return int(rng.permutation(len(LEVELS))[place])


def _fits(defect: Defect, drawn: list[Defect]) -> bool:
    """No kind twice in one place, and one defect at most that says what was done to a region."""
    same_place = [other for other in drawn if other.target == defect.target]
    if any(other.kind == defect.kind for other in same_place):
        return False
    return defect.kind not in CONTENT or not any(other.kind in CONTENT for other in same_place)


def _visible(plan: Plan, defect: Defect, seed: int) -> bool:
    try:
        return is_visible(plan, defect, apply_defect(plan.wanted, plan, defect, _rng(plan, defect, seed)))
    except CannotEdit:
        return False


def _rng(plan: Plan, defect: Defect, seed: int) -> np.random.Generator:
    """Chance inside a defect hangs on kind and place, not on strength: a stronger one is the same, but more so."""
    return np.random.default_rng(int(short_hash("defect", plan.request, seed, defect.kind, defect.target), 16))


def _edit(plan: Plan, defects: tuple[Defect, ...], seed: int, chance_seed: int, parameters: dict[str, Scalar]) -> Edit:
    image = plan.wanted
    for defect in sorted(defects, key=lambda d: (DEFECT_KINDS.index(d.kind), -1 if d.target is None else d.target)):
        image = apply_defect(image, plan, defect, _rng(plan, defect, chance_seed))
    edits = tuple(step.applied() for step in sorted(plan.steps, key=lambda step: step.target))
    return Edit(image=image, seed=seed, parameters=parameters, edits=edits, defects=defects)

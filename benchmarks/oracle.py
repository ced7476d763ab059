"""How well the pixel oracle agrees with the construction oracle: Spearman's rho on candidates of held-out scenes.

Headline: every (candidate, region) phi and every candidate's background score, pooled, over candidates as the
procedural editor draws them. Beside it: each part and dimension alone, the mean region reward of the whole image, the
pooled figure over flawed places only (the many clean ones tie), and each kind of defect alone in every dimension that
it lowers, at strengths from .1 to 1. The scenes' seed was not used when the oracles' constants were set.
Peer: minus the mean absolute difference from the wanted image in the same place.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.stats import spearmanr

from benchmarks.result import row, write_result
from pipeline.editors.defects import DEFECT_KINDS, is_visible
from pipeline.editors.oracle import LOWERS, construction_score, pixel_oracle
from pipeline.editors.procedural import ProceduralEditor
from pipeline.editors.protocol import CannotEdit, Edit, candidate_record
from pipeline.requests.scenes import scene_at, scene_edit_request
from runtime.images import ImageU8
from runtime.masks import MaskBool
from schemas.candidate import Defect
from schemas.region import region_id
from schemas.request import EditRequest
from schemas.score import CandidateScore, aesthetics, phi, region_reward

HELD_OUT_SEED = 9_001
SCENES = 160
K = 4
SIZES_PX = (128, 256)
SINGLE_DEFECT_SCENES = 48

Pairs = dict[str, list[tuple[float, float, float]]]


@dataclass(frozen=True)
class Case:
    """One candidate with what both oracles and the peer need to score it."""

    request: EditRequest
    source: ImageU8
    wanted: ImageU8
    masks: dict[str, MaskBool]
    edit: Edit
    index: int

    def both(self) -> tuple[CandidateScore, CandidateScore]:
        """(construction, pixels): the scores of the two oracles."""
        candidate = candidate_record(
            self.request, self.edit, index=self.index, editor="procedural", revision="1", synthetic=True
        )
        seen = pixel_oracle(self.source, self.wanted, self.edit.image, self.masks, candidate_id=candidate.id)
        return construction_score(self.request, candidate), seen

    def nearness(self, mask: MaskBool) -> float:
        """The peer: minus the mean absolute difference from the wanted image inside `mask`."""
        if not mask.any():
            return 0.0
        return -float(cv2.absdiff(self.edit.image, self.wanted)[mask].mean())


def scene_case(index: int, size_px: int) -> tuple[EditRequest, ImageU8]:
    """A held-out scene as a checked request with its source image."""
    line, image = scene_at(HELD_OUT_SEED, index, size_px)
    return scene_edit_request(line, image), image


def collect(case: Case, pairs: Pairs) -> None:
    """Adds (construction, pixels, peer) of everything that the two oracles score of one candidate."""
    built, seen = case.both()
    outside = ~np.any(list(case.masks.values()), axis=0)
    everywhere = np.ones_like(outside)
    found = {score.region: score for score in seen.regions}
    for score in built.regions:
        near, other = case.nearness(case.masks[score.region]), found[score.region]
        pairs["phi of regions"].append((phi(score) or 0, phi(other) or 0, near))
        pairs["success of regions"].append((score.success or 0, other.success or 0, near))
        pairs["preserve of regions"].append((score.preserve or 0, other.preserve or 0, near))
    pairs["background"].append((built.background or 0, seen.background or 0, case.nearness(outside)))
    near = case.nearness(everywhere)
    for name in ("success", "overedit", "naturalness", "artifacts"):
        pairs[f"{name} of the image"].append((getattr(built, name), getattr(seen, name), near))
    pairs["reward of the image"].append((mean_reward(built), mean_reward(seen), near))


def mean_reward(score: CandidateScore) -> float:
    """Mean of the region rewards R_r over all regions and the background, in [0, 1]."""
    phis = [*(phi(region) for region in score.regions), score.background]
    rewards = [region_reward(value, aesthetics(score)) for value in phis]
    return float(np.mean([value for value in rewards if value is not None]))


def drawn_cases() -> Iterator[Case]:
    """Candidates as a build makes them."""
    editor = ProceduralEditor()
    for scene in range(SCENES):
        request, image = scene_case(scene, SIZES_PX[scene % len(SIZES_PX)])
        wanted, masks = editor.wanted(request, [image]), editor.region_masks(request, [image])
        for index in range(K):
            yield Case(request, image, wanted, masks, editor.edit(request, [image], index, index), index)


def single_defects() -> dict[tuple[str, str, str], list[tuple[float, float]]]:
    """(kind, place, dimension) -> (construction, pixels) over candidates with that one visible defect."""
    editor, rng = ProceduralEditor(), np.random.default_rng(HELD_OUT_SEED)
    pairs: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for scene in range(SCENES, SCENES + SINGLE_DEFECT_SCENES):
        request, image = scene_case(scene, SIZES_PX[scene % len(SIZES_PX)])
        plan = editor.plan(request, [image])
        for kind, in_region in LOWERS:
            target = int(rng.integers(len(request.targets))) if in_region else None
            for strength in np.round(rng.uniform(0.1, 1.0, 3), 2):
                defect = Defect(kind=kind, target=target, strength=float(strength))
                try:
                    edit = editor.render(request, [image], scene, [defect])
                except CannotEdit:
                    continue
                if is_visible(plan, defect, edit.image):
                    _collect_single(Case(request, image, plan.wanted, plan.masks(), edit, 0), defect, pairs)
    return pairs


def _collect_single(case: Case, defect: Defect, pairs: dict[tuple[str, str, str], list[tuple[float, float]]]) -> None:
    built, seen = case.both()
    place = "background" if defect.target is None else "region"
    for dimension in LOWERS[defect.kind, defect.target is not None]:
        first, second = (_value(score, case.request.id, defect, dimension) for score in (built, seen))
        pairs[defect.kind, place, dimension].append((first, second))


def _value(score: CandidateScore, request: str, defect: Defect, dimension: str) -> float:
    if dimension not in ("success", "preserve") or defect.target is None:
        return float(getattr(score, dimension))
    key = region_id(request, defect.target)
    return float(next(getattr(region, dimension) for region in score.regions if region.region == key))


def rho(pairs: list[tuple[float, ...]], column: int = 1) -> float | None:
    """Spearman's rho of the first column with another; None where one of them is constant."""
    first, second = [pair[0] for pair in pairs], [pair[column] for pair in pairs]
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(spearmanr(first, second).statistic)


def main() -> None:
    """Measures, prints and writes `benchmarks/results/oracle.json`."""
    cv2.setNumThreads(1)
    pairs: Pairs = defaultdict(list)
    candidates = 0
    for case in drawn_cases():
        collect(case, pairs)
        candidates += 1
    pooled = [*pairs["phi of regions"], *pairs["background"]]
    flawed = [pair for pair in pooled if pair[0] < 25]
    named = {"HEADLINE phi of regions and background, pooled": pooled, "the same, flawed places only": flawed, **pairs}
    rows = []
    for name, values in named.items():
        ours, peer = rho([*values]), rho([*values], 2)
        rows.append(row(f"{name} (n={len(values)})", "rho", ours, peer, "-|candidate - wanted|", limit=1.0))
    for (kind, place, dimension), single in sorted(single_defects().items(), key=_by_kind):
        ours = rho([*single])
        why = None if ours is not None else "one of the two is constant"
        rows.append(row(f"{kind} in {place}: {dimension} (n={len(single)})", "rho", ours, limit=1.0, why=why))
    write_result("oracle", rows, candidates=candidates, scenes=SCENES, seed=HELD_OUT_SEED, sizes_px=SIZES_PX)


def _by_kind(item: tuple[tuple[str, str, str], list[tuple[float, float]]]) -> tuple[int, str, str]:
    kind, place, dimension = item[0]
    return DEFECT_KINDS.index(kind), place, dimension


if __name__ == "__main__":
    main()

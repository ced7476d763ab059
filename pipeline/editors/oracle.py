"""Two oracles for edited images, on the score scale 0..25: one from how an edit was made, one from its pixels.

`construction_score` knows what the procedural editor did and which defects it put in; it never looks at a pixel.
`pixel_oracle` knows nothing of that; it looks at source, wanted image and candidate, so it scores any image at all.
That the two agree is measured by `python -m benchmarks.oracle`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.editors.pixel_measures import PlaceLoss, measure
from runtime.images import ImageU8
from runtime.masks import MaskBool
from schemas.candidate import Candidate, Defect
from schemas.region import region_id
from schemas.request import EditRequest
from schemas.score import SCORE_MAX, CandidateScore, Issue, RegionScore

CONSTRUCTION_RATER = "oracle:construction"
PIXEL_RATER = "oracle:pixels"


@dataclass(frozen=True)
class Lowers:
    """What a defect takes off a dimension: `at_full` (share of 25 at strength 1) times strength ** `power`."""

    at_full: float
    power: float = 1.0

    def loss(self, strength: float) -> float:
        """The share of the full score that is lost, 0..1."""
        return float(self.at_full * strength**self.power)


#: (defect, whether it sits in a region) -> what it lowers. `preserve` and `success` are those of the region where it
#: sits; `background`, `overedit`, `naturalness`, `artifacts` are the image's. Fitted on tuning scenes: a strength
#: means about the same visible damage for every kind; the benchmark uses other scenes.
LOWERS: dict[tuple[str, bool], dict[str, Lowers]] = {
    ("missed", True): {"success": Lowers(1.0, 1.1)},
    ("wrong_attribute", True): {"success": Lowers(0.88, 1.1)},
    ("half_done", True): {"success": Lowers(1.0, 1.0)},
    ("spill", True): {
        "preserve": Lowers(0.85, 0.75),
        "background": Lowers(0.40, 0.5),
        "overedit": Lowers(0.92, 0.6),
    },
    ("other_object", True): {"success": Lowers(0.82, 1.1), "preserve": Lowers(0.12)},
    ("other_object", False): {"background": Lowers(0.44, 0.45), "overedit": Lowers(0.55, 0.45)},
    ("background_drift", False): {"background": Lowers(0.58, 0.85), "overedit": Lowers(0.78, 0.8)},
    ("warp", True): {
        "success": Lowers(0.24, 0.8),
        "preserve": Lowers(0.58, 0.4),
        "naturalness": Lowers(0.50, 0.35),
    },
    ("warp", False): {
        "background": Lowers(0.71, 0.5),
        "overedit": Lowers(0.36, 0.3),
        "naturalness": Lowers(0.46, 0.65),
    },
    ("seam", True): {
        "success": Lowers(0.15, 0.6),
        "preserve": Lowers(0.75, 0.6),
        "naturalness": Lowers(0.58, 0.6),
        "artifacts": Lowers(0.98, 0.55),
    },
    ("noise", True): {"preserve": Lowers(0.87, 0.8), "artifacts": Lowers(0.87, 0.8)},
    ("noise", False): {"background": Lowers(0.98, 0.75), "artifacts": Lowers(0.98, 0.75)},
    ("compression", True): {
        "success": Lowers(0.22, 1.4),
        "preserve": Lowers(0.39, 0.7),
        "artifacts": Lowers(0.37, 0.7),
    },
    ("compression", False): {
        "background": Lowers(0.63, 0.77),
        "overedit": Lowers(0.25, 0.85),
        "artifacts": Lowers(0.47, 0.75),
    },
}
#: How much of it `wrong_attribute` costs where the operation is mostly right all the same: a thing of another colour
#: in the right place, another pattern or other words.
WRONG_SHARE = {"move": 0.5, "resize": 0.45, "text": 0.6, "texture": 0.65}
_ISSUES: dict[str, Issue] = {
    "missed": "missed",
    "half_done": "missed",
    "wrong_attribute": "wrong_attribute",
    "spill": "spill",
    "other_object": "other",
    "warp": "artefact",
    "seam": "artefact",
    "noise": "artefact",
    "compression": "artefact",
}


def construction_score(request: EditRequest, candidate: Candidate) -> CandidateScore:
    """Scores (0..25) of a candidate of the procedural editor, from its edits and defects alone.

    A score is 25 times the product of `1 - loss` over the defects that lower it, with the losses of `LOWERS`; so it is
    25 without a defect and falls with every strength. What lowers what, at strength 1:

    | defect | in a region | in the background |
    |---|---|---|
    | missed, half_done | success 1 | |
    | wrong_attribute | success .88 (move, resize, text, texture: about half of it) | |
    | spill | preserve .85, background .40, overedit .92 | |
    | other_object | success .82, preserve .12 | background .44, overedit .55 |
    | background_drift | | background .58, overedit .78 |
    | warp | preserve .58, success .24, naturalness .50 | background .71, overedit .36, naturalness .46 |
    | seam | preserve .75, success .15, naturalness .58, artifacts .98 | |
    | noise | preserve .87, artifacts .87 | background .98, artifacts .98 |
    | compression | preserve .39, success .22, artifacts .37 | background .63, overedit .25, artifacts .47 |

    The whole image's success is the mean of its regions'. Raises: ValueError for a candidate without edits.
    """
    if not candidate.edits:
        raise ValueError(f"candidate {candidate.id} says nothing of how it was made")
    operations = {edit.target: edit.operation for edit in candidate.edits}
    regions, successes = [], []
    for target in sorted(operations):
        own = [defect for defect in candidate.defects if defect.target == target]
        success = _left(_loss(defect, "success", operations) for defect in own)
        preserve = _left(_loss(defect, "preserve", operations) for defect in own)
        issues = tuple(dict.fromkeys(_ISSUES[defect.kind] for defect in own))
        regions.append(_region(region_id(request.id, target), success, preserve, issues))
        successes.append(success)
    image = {
        name: _points(_left(_loss(defect, name, operations) for defect in candidate.defects))
        for name in ("background", "overedit", "naturalness", "artifacts")
    }
    success = _points(sum(successes) / len(successes))
    return CandidateScore(
        candidate=candidate.id,
        rater=CONSTRUCTION_RATER,
        synthetic=True,
        regions=tuple(regions),
        success=success,
        **image,
    )


def _loss(defect: Defect, dimension: str, operations: Mapping[int, str]) -> float:
    lowers = LOWERS[defect.kind, defect.target is not None].get(dimension)
    if lowers is None:
        return 0.0
    loss = lowers.loss(defect.strength)
    if defect.kind == "wrong_attribute" and defect.target is not None:
        loss *= WRONG_SHARE.get(operations.get(defect.target, ""), 1.0)
    return loss


def _left(losses: Iterable[float]) -> float:
    """What is left of 1 when every loss takes its share."""
    left = 1.0
    for loss in losses:
        left *= 1 - min(max(loss, 0.0), 1.0)
    return left


def _points(left: float) -> int:
    return round(SCORE_MAX * left)


def _region(key: str, success: float, preserve: float, issues: tuple[Issue, ...] = ()) -> RegionScore:
    return RegionScore(region=key, success=_points(success), preserve=_points(preserve), issues=issues)


def pixel_oracle(
    source: ImageU8, wanted: ImageU8, candidate: ImageU8, masks: Mapping[str, MaskBool], *, candidate_id: str
) -> CandidateScore:
    """Scores (0..25) of any image at all, from pixels: how near it is to `wanted`, and what is wrong besides.

    source, wanted, candidate: HWC uint8 RGB of one size; masks: planned region id -> (H, W, bool), where it belongs.
    Per region: success is the share of the way from source to wanted; preserve falls with noise, blocks, bent structure
    and another tint inside, a seam on the border and a leak around it. The background's score falls with any change
    there; overedit with leaks and changed background colour; naturalness with bent structure and seams; artifacts with
    noise, blocks and seams, in the worst place. Raises: ValueError where the sizes differ or there is no mask.
    """
    if not masks:
        raise ValueError("no mask: nothing says where the edit belongs")
    losses, background = measure(source, wanted, candidate, masks)
    regions = tuple(_region(key, 1 - loss.undone, _preserved(loss)) for key, loss in losses.items())
    places = [*losses.values(), background]
    leak = max(loss.leak for loss in losses.values())
    return CandidateScore(
        candidate=candidate_id,
        rater=PIXEL_RATER,
        synthetic=True,
        regions=regions,
        background=_points(
            _left((max(background.grain, min(background.mottle + background.geometry, 1)), background.tint))
        ),
        success=_points(sum(1 - loss.undone for loss in losses.values()) / len(losses)),
        overedit=_points(_left((leak, 1.5 * background.tint * (1 - min(background.mottle + background.geometry, 1))))),
        naturalness=_points(min(_left((loss.geometry, 0.6 * loss.seam)) for loss in places)),
        artifacts=_points(min(_left((_dirty(loss), loss.seam)) for loss in places)),
    )


def _preserved(loss: PlaceLoss) -> float:
    done = 1 - loss.undone
    dirt = max(loss.grain, min(done * loss.mottle + loss.geometry, 1))
    return _left((dirt, 0.3 * done * loss.tint, loss.leak, 0.6 * loss.seam))


def _dirty(loss: PlaceLoss) -> float:
    """Noise, blocks and ringing; where the edit itself is wrong, that is charged to success already."""
    return max(loss.grain, (1 - loss.undone) * loss.mottle)

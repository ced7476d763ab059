"""Made-up truths and tasks that the tests of raters, store and consensus share."""

import numpy as np

from annotation.client import Task
from schemas.ranking import Ranking
from schemas.record import short_hash
from schemas.sample import ImageRef
from schemas.score import Annotation, CandidateScore, RegionScore

IMAGE = ImageRef(tar="images/sources/part-00000.tar", offset=0, length=1, sha256="0" * 64, format="png")
AT = "2026-01-02T03:04:05+00:00"


def truth(score: int | None, candidate: str = "0" * 16, n_regions: int = 1) -> CandidateScore:
    """The oracle's scores, all the same."""
    keys = [short_hash("region", candidate, n) for n in range(n_regions)]
    return scores(score, candidate, keys, rater="oracle:construction")


def scores(score: int | None, candidate: str, keys: list[str], rater: str) -> CandidateScore:
    """Scores that are all the same."""
    names = ("background", "success", "overedit", "naturalness", "artifacts")
    regions = tuple(RegionScore(region=key, success=score, preserve=score) for key in keys)
    image = dict.fromkeys(names, score)
    return CandidateScore(candidate=candidate, rater=rater, synthetic=True, regions=regions, **image)


def truths(n: int, seed: int = 0) -> list[CandidateScore]:
    """`n` candidates with scores drawn at random, each its own."""
    drawn = np.random.default_rng(seed)
    found = []
    for number in range(n):
        blank = truth(0, short_hash("candidate", number))
        points = [int(point) for point in drawn.integers(0, 26, 7)]
        region = RegionScore(region=blank.regions[0].region, success=points[5], preserve=points[6])
        image = dict(zip(("background", "success", "overedit", "naturalness", "artifacts"), points, strict=False))
        found.append(blank.model_copy(update={**image, "regions": (region,)}))
    return found


def task(candidate: str, index: int = 0) -> Task:
    """A task without regions to show."""
    return Task(candidate=candidate, index=index, instruction="x", sources=(IMAGE,), edited=IMAGE, regions=())


def annotation(found: CandidateScore, **fields: object) -> Annotation:
    """An annotation with these scores."""
    settled: dict[str, object] = {"id": f"{found.rater}/{found.candidate}", "task": "t", "state": "submitted"}
    settled |= {"lead_time_s": None, "created_at": AT, "updated_at": AT, "scores": found}
    return Annotation.model_validate(settled | fields)


def ranking(order: str, request: str = "f" * 16, rater: str = "rater-1", **fields: object) -> Ranking:
    """A ranking of candidates of one hex digit each, best first: `ba` puts bbbb... before aaaa..."""
    settled: dict[str, object] = {"id": f"{rater}/{request}", "task": "t", "request": request, "rater": rater}
    settled |= {"synthetic": False, "candidates": tuple(digit * 16 for digit in order), "state": "submitted"}
    settled |= {"lead_time_s": None, "created_at": AT, "updated_at": AT}
    return Ranking.model_validate(settled | fields)


def numbered(number: int, score: int = 13) -> Annotation:
    """The answer number `number`, of its own rater, on one of seven candidates."""
    return annotation(scores(score, short_hash("candidate", number % 7), [], f"rater-{number}"))

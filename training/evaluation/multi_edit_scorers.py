"""Who scores the edits of a multi-region benchmark: the pixel oracle, or any reward."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.editors.oracle import PIXEL_RATER, pixel_oracle
from pipeline.editors.procedural import ProceduralEditor
from pipeline.editors.protocol import CannotEdit
from runtime.images import ImageU8
from schemas.errors import BadInput
from schemas.score import IMAGE_SCORES, CandidateScore
from training.evaluation.multi_edit_items import Item
from training.reward_protocol import Predicted, Prediction, RegionPrediction, Reward, RewardQuery


class Scorer(Protocol):
    """Scores edits of a benchmark's items. name: what stands in the result; synthetic: no real judge."""

    name: str
    synthetic: bool

    def score(self, items: Sequence[Item], edited: Sequence[ImageU8]) -> list[Prediction]:
        """One prediction per item, in order; edited images are HWC uint8 of the source's size."""
        ...


class OracleScorer:
    """The pixel oracle, against the procedural editor's own clean rendering."""

    name, synthetic = PIXEL_RATER, True

    def __init__(self) -> None:
        self._editor = ProceduralEditor()

    def score(self, items: Sequence[Item], edited: Sequence[ImageU8]) -> list[Prediction]:
        """As `Scorer.score`. Raises: BadInput for a request that the procedural editor cannot carry out."""
        return [self._score(item, image) for item, image in zip(items, edited, strict=True)]

    def _score(self, item: Item, edited: ImageU8) -> Prediction:
        try:
            wanted = self._editor.plan(item.record.request, [item.source]).wanted
        except CannotEdit as error:
            fault = f"is nothing that the pixel oracle knows: {error.detail}"
            raise BadInput(f"item {item.id}", fault, "score this benchmark by a reward") from None
        return prediction_of(pixel_oracle(item.source, wanted, edited, item.masks, candidate_id=item.id))


class RewardScorer:
    """Any reward. synthetic: whether it is an embedded stand-in."""

    def __init__(self, reward: Reward, *, synthetic: bool) -> None:
        self._reward, self.synthetic = reward, synthetic
        self.name = f"{reward.name}@{reward.revision}"

    def score(self, items: Sequence[Item], edited: Sequence[ImageU8]) -> list[Prediction]:
        """As `Scorer.score`."""
        queries = [
            RewardQuery(item.source, image, item.record.request.instruction, item.masks)
            for item, image in zip(items, edited, strict=True)
        ]
        return self._reward.score(queries)


def prediction_of(score: CandidateScore) -> Prediction:
    """One rater's scores as a prediction without uncertainty."""
    whole = {name: Predicted(_float(getattr(score, name))) for name in IMAGE_SCORES}
    regions = {
        region.region: RegionPrediction(Predicted(_float(region.success)), Predicted(_float(region.preserve)))
        for region in score.regions
    }
    return Prediction(regions=regions, **whole)


def _float(points: int | None) -> float | None:
    return None if points is None else float(points)

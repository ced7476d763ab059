"""What a reward is unsure about: the figures by hand, and the candidates of a run that are asked about."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.run.folder import read_build_info, read_kept
from tests.cases.mask_cases import box_rle, outlined
from training.reward_protocol import Predicted, Prediction, RegionPrediction, RewardQuery
from training.scoring.uncertainty import mask_doubt, reward_std, values_of_run


def _prediction(*stds: float | None, background: float | None = None) -> Prediction:
    """Regions with these deviations of success; their preservation, and the whole image's scores, are wild or known."""
    regions = {str(n): RegionPrediction(Predicted(10.0, std), Predicted(10.0, 0.5)) for n, std in enumerate(stds)}
    wild = Predicted(10.0, 99.0)
    return Prediction(regions, Predicted(10.0, background), wild, wild, wild, wild)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (_prediction(2.0, 3.0, background=1.0), 3.0),
        (_prediction(2.0, background=4.0), 4.0),
        (_prediction(0.1), 0.5),
        (_prediction(float("nan"), -1.0, background=0.25), 0.5),
        (_prediction(), None),
        (_prediction(background=0.0), 0.0),
    ],
)
def test_the_largest_deviation_of_regions_and_background(prediction: Prediction, expected: float | None) -> None:
    assert reward_std(prediction) == expected


def test_the_least_sure_mask_decides() -> None:
    masks = [mask.model_copy(update={"confidence": sure}) for mask in _masks() for sure in (0.9, 0.25)]
    assert mask_doubt(masks) == pytest.approx(0.75)
    assert mask_doubt([]) is None


def _masks():  # type: ignore[no-untyped-def]
    return outlined("a", {"a" * 16: box_rle(0, 0, 10, 10)}).masks


class Doubtful:
    """A reward that is the less sure, the more regions it sees, and says nothing of how sure without any."""

    name, revision = "doubtful", "1"

    def __init__(self) -> None:
        self.asked: list[RewardQuery] = []

    def score(self, queries: Sequence[RewardQuery]) -> list[Prediction]:
        """See `Reward.score`."""
        self.asked += queries
        return [_prediction(*[1.0 + len(query.masks)] * len(query.masks)) for query in queries]


def test_every_kept_candidate_is_asked_about_with_its_masks(small_run: Path) -> None:
    kept = [row for part in range(read_build_info(small_run).n_parts) for row in read_kept(small_run, "gates", part)]
    reward = Doubtful()
    lines = list(values_of_run(small_run, reward))
    assert [line["candidate"] for line in lines] == [row.candidate.id for row in kept if row.candidate]
    for line, query, row in zip(lines, reward.asked, kept, strict=True):
        assert set(query.masks) == {mask.region for mask in row.observed}
        assert query.source.shape == query.edited.shape
        assert all(mask.shape == query.edited.shape[:2] for mask in query.masks.values())
        assert query.instruction == row.request.instruction
        assert line["reward_std"] == 1.0 + len(row.observed)
        assert line["mask_doubt"] == 1 - min(mask.confidence for mask in row.observed)

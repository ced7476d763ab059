"""Cases of a policy, read from a dataset's tars: the same places and goals as the requests they were built from."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.shards import read_dataset
from pipeline.editors.plan import make_plan
from runtime.images import decode_image
from runtime.masks import mask_to_rle
from schemas.errors import BadInput
from schemas.region import region_id
from schemas.score import CandidateScore, RegionScore, aesthetics, phi, region_reward
from tests.cases.dataset_cases import Fields, rewritten
from tests.cases.policy_loop_cases import boxed
from training.policy.data import _request, load_cases
from training.policy.edit_cases import plain_case
from training.policy.rewards import ModelReward, OracleReward, make_case_reward
from training.reward_protocol import Predicted, Prediction, RegionPrediction, RewardQuery


def test_cases_are_the_same_whenever_they_are_asked_for(plain_dataset: Path) -> None:
    cases, _ = load_cases(plain_dataset, "train")
    first, again = cases[0], cases[0]
    assert first.request == again.request
    assert np.array_equal(first.source, again.source)
    assert np.array_equal(first.wanted, again.wanted)
    assert all(np.array_equal(first.masks[key], again.masks[key]) for key in again.masks)
    assert [case.id for case in cases[1:3]] == [cases[1].id, cases[2].id]
    assert cases[-1].id == list(cases)[-1].id
    with pytest.raises(IndexError):
        cases[len(cases)]


def test_cases_are_chosen_by_their_regions(plain_dataset: Path) -> None:
    cases, _ = load_cases(plain_dataset, "train")
    counts = [len(case.masks) for case in cases]
    assert cases.most_regions == max(counts)
    assert min(counts) < 2 <= max(counts)
    assert [case.id for case in cases.of_regions(2)] == [c.id for c, n in zip(cases, counts, strict=True) if n >= 2]
    assert len(cases.of_regions(max(counts) + 1)) == 0
    assert cases.of_regions(max(counts) + 1).most_regions == 0


@pytest.mark.parametrize("scenes", ["plain", "rich"])
def test_cases_are_the_requests_of_the_tars(plain_dataset: Path, built_run: Path, scenes: str) -> None:
    """Rich scenes are moved and resized, too, where the region is more than the thing."""
    dataset = plain_dataset if scenes == "plain" else built_run / "dataset"
    for split in ("train", "validation") if scenes == "plain" else ("train",):
        cases, left_out = load_cases(dataset, split)
        rows = {row.request: (row, members) for _, row, members in read_dataset(dataset, split)}
        assert [case.id for case in cases] == list(rows)
        assert left_out == Counter()
        for case in cases:
            row, members = rows[case.id]
            source = next(data for name, data in members.items() if name.startswith("source."))
            assert np.array_equal(case.source, decode_image(source))
            assert (case.request.instruction, case.request.targets) == (row.instruction, row.targets)
            assert list(case.masks) == [region_id(row.request, n) for n in range(len(row.targets))]
            assert list(case.masks) == [region.region for region in row.regions if region.status != "unplanned"]
            plan = make_plan(case.request, [case.source])
            assert all(np.array_equal(mask, plan.masks()[key]) for key, mask in case.masks.items())
            assert case.wanted is not None
            assert np.array_equal(case.wanted, plan.wanted)
            assert not np.array_equal(case.wanted, case.source)


def test_a_request_is_read_as_it_was_made_up_to_where_its_source_came_from(plain_dataset: Path) -> None:
    """The scenes of the build are those of `plain_case`, so instruction, targets, masks and goal are, too."""
    made = {plain_case(3, index, 64).request.name: plain_case(3, index, 64) for index in range(16)}
    for split in ("train", "validation"):
        for case in load_cases(plain_dataset, split)[0]:
            original = made[case.request.name]
            assert np.array_equal(case.source, original.source)
            assert case.request.instruction == original.request.instruction
            assert [m.sum() for m in case.masks.values()] == [m.sum() for m in original.masks.values()]


def spoilt(dataset: Path, out: Path, change: dict[int, Fields]) -> Path:
    """The dataset with some requests, by their number in the split train, changed."""
    numbers: dict[str, int] = {row.request: n for n, (_, row, _) in enumerate(read_dataset(dataset, "train"))}

    def write(row: Fields) -> None:
        row |= change.get(numbers.get(row["request"], -1), {})

    return rewritten(dataset, out, write)


def test_requests_of_several_sources_or_turns_and_without_a_place_are_counted(
    plain_dataset: Path, tmp_path: Path
) -> None:
    n_requests = len(load_cases(plain_dataset, "train")[0])
    wordless = {"label": "the dog", "operation": "recolour"}
    dataset = spoilt(
        plain_dataset,
        tmp_path / "some",
        {0: {"kind": "multi_turn"}, 1: {"targets": [wordless]}, 2: {"targets": []}, 3: {"kind": "composition"}},
    )
    cases, left_out = load_cases(dataset, "train")
    assert left_out == {"multi_turn": 1, "no_place": 1, "no_target": 1, "composition": 1}
    assert len(cases) == n_requests - 4
    none = spoilt(plain_dataset, tmp_path / "none", {number: {"kind": "multi_turn"} for number in range(16)})
    with pytest.raises(BadInput, match=r"has no request of the split 'train' .* \(multi_turn\); build it from"):
        load_cases(none, "train")


def test_what_the_editor_cannot_carry_out_has_places_and_no_goal(plain_dataset: Path, tmp_path: Path) -> None:
    mask = boxed(64, 64, (10, 10, 30, 30))[0]
    targets = [
        {"label": "coat", "operation": "other", "mask": mask_to_rle(mask).model_dump(mode="json")},
        {"label": "sign", "operation": "move", "box": [2, 2, 12, 12], "destination": [40, 40, 60, 50]},
    ]
    dataset = spoilt(plain_dataset, tmp_path / "words", {0: {"targets": targets}})
    cases, left_out = load_cases(dataset, "train")
    case = cases[0]
    assert left_out == Counter()
    assert case.wanted is None
    first, second = case.masks.values()
    assert np.array_equal(first, mask)
    assert second[45, 50]
    assert second[40:50, 40:60].all()
    assert not second[20:39, :].any()
    line = rf"^request {case.id}: has no goal that an oracle could know; choose another reward$"
    with pytest.raises(BadInput, match=line):
        OracleReward().score([case], [case.source])
    assert make_case_reward("pixel-change").score([case], [case.source])[0].phi.keys() == case.masks.keys()


def test_the_oracle_gives_full_marks_to_the_goal_and_none_to_the_source(plain_dataset: Path) -> None:
    case = load_cases(plain_dataset, "train")[0][0]
    assert case.wanted is not None
    done, undone = OracleReward().score([case, case], [case.wanted, case.source])
    assert {done.reward(key) for key in (*case.masks, None)} == {1.0}
    assert set(undone.phi.values()) == {0.0}
    assert undone.background == 25


class Says:
    """A reward that answers whatever it was made with."""

    name = "says"

    def __init__(self, *answers: Prediction) -> None:
        self.answers = list(answers)

    def score(self, queries: Sequence[RewardQuery]) -> list[Prediction]:
        return self.answers[: len(queries)]


def test_rewards_are_those_of_the_score_records() -> None:
    case = plain_case(7, 0)
    key = next(iter(case.masks))
    region = RegionScore(region=key, success=13, preserve=19)
    whole = {"background": 25, "success": 13, "overedit": 25, "naturalness": 16, "artifacts": 20}
    record = CandidateScore(candidate="c" * 16, rater="model:test", synthetic=True, regions=(region,), **whole)
    told = {name: Predicted(float(score)) for name, score in whole.items()}
    answer = Prediction({key: RegionPrediction(Predicted(13.0), Predicted(19.0))}, **told)
    (found,) = ModelReward(Says(answer)).score([case], [case.source])
    assert found.reward(key) == pytest.approx(region_reward(phi(region), aesthetics(record)))
    assert found.reward(None) == pytest.approx(region_reward(25, aesthetics(record)))
    assert (found.phi[key], found.background, found.aesthetics) == (13, 25, 16)


@pytest.mark.parametrize("bad", [None, math.nan, -1.0, 25.5, math.inf])
def test_a_score_that_is_missing_or_out_of_range_makes_its_rewards_missing(bad: float | None) -> None:
    case = plain_case(7, 0)
    key = next(iter(case.masks))

    def rewards(**changed: Predicted) -> tuple[float, float]:
        scores = {"success": Predicted(20.0), "preserve": Predicted(20.0)}
        whole = {name: Predicted(20.0) for name in ("background", "success", "overedit", "naturalness", "artifacts")}
        region = RegionPrediction(**{name: changed.get(f"region_{name}", score) for name, score in scores.items()})
        whole |= {name: score for name, score in changed.items() if name in whole}
        (found,) = ModelReward(Says(Prediction({key: region}, **whole))).score([case], [case.source])
        return found.reward(key), found.reward(None)

    missing = Predicted(bad)
    assert rewards() == pytest.approx((0.8, 0.8))
    for name in ("region_success", "region_preserve"):
        assert rewards(**{name: missing}) == pytest.approx((math.nan, 0.8), nan_ok=True)
    assert rewards(background=missing) == pytest.approx((0.8, math.nan), nan_ok=True)
    for name in ("naturalness", "artifacts"):
        assert rewards(**{name: missing}) == pytest.approx((math.nan, math.nan), nan_ok=True)


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("constant:26", "reward 'constant:26': gives no score from 0 to 25; write constant:SCORE"),
        ("constant", "reward 'constant': gives no score from 0 to 25; write constant:SCORE"),
        ("constant:nan", "reward 'constant:nan': gives no score from 0 to 25; write constant:SCORE"),
        ("endpoint", "reward 'endpoint': does not say where it is; write endpoint:URL"),
    ],
)
def test_a_reward_that_says_too_little_is_one_clear_line(spec: str, line: str) -> None:
    with pytest.raises(BadInput) as caught:
        make_case_reward(spec)
    assert str(caught.value) == line


def test_a_row_keeps_its_size_and_whether_its_source_is_synthetic(plain_dataset: Path) -> None:
    _, row, _ = next(iter(read_dataset(plain_dataset, "train")))
    request = _request(row)
    assert (request.sources[0].width_px, request.sources[0].height_px) == (64, 64)
    assert request.synthetic is True
    assert request.split == "train"

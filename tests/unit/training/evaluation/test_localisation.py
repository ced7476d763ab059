"""The localisation tests give known rewards what they deserve, and the cases are what they say."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from pipeline.config import BuildConfig
from pipeline.requests.scenes import TEXTURES
from schemas.reward import BACKGROUND, RewardMetrics, TwinRow
from tests.cases.builds import build
from tests.cases.reward_cases import Constant, Known, WholeImage, prediction
from training.evaluation.localisation import share_of_first
from training.evaluation.localisation_cases import (
    BANDS,
    DEVELOPMENT_SEED,
    HELD_OUT_TEXTURES,
    DefectCase,
    all_kinds,
    photo_cases,
    photos,
    scene_cases,
)
from training.evaluation.probes import PROBES, drop_source, mirror, permute_masks
from training.evaluation.ranking_calibration import calibration, ranking, reliability
from training.evaluation.reward_metrics import evaluate, photo_row, write_metrics
from training.predictions import ask, mean_reward, phi_of, usable
from training.reward.augmentation import mirrored_words
from training.reward.pixel_difference import PixelDifference
from training.reward_protocol import Predicted, Prediction, RegionPrediction, RewardQuery


@pytest.fixture(scope="module")
def cases() -> list[DefectCase]:
    return scene_cases(24, 3, size_px=96)[0]


@pytest.fixture(scope="module")
def oracle(cases: list[DefectCase]) -> RewardMetrics:
    rivals = {"untrained": Constant(), "reversed": Known(cases, turned=True), "whole": WholeImage(cases)}
    return evaluate(Known(cases), cases, rivals, left_out="warp", bootstrap_samples=200).metrics


def _all(rows: tuple[TwinRow, ...], reward: str) -> TwinRow:
    return next(row for row in rows if row.reward == reward and row.defect == "all")


def test_cases_are_the_same_again_and_cover_kinds_and_bands(cases: list[DefectCase]) -> None:
    again = scene_cases(5, 3, size_px=96)[0]
    assert [case.key for case in again] == [case.key for case in cases[: len(again)]]
    assert all((a.query.edited == b.query.edited).all() for a, b in zip(again, cases, strict=False))
    other = scene_cases(5, 3, size_px=96, seed=DEVELOPMENT_SEED)[0]
    assert not {case.source for case in other} & {case.source for case in cases}
    assert len({(case.defect.kind, case.defect.target is None) for case in cases}) == len(all_kinds()) / len(BANDS)
    assert {case.band for case in cases} == set(BANDS)
    assert all(BANDS[case.band][0] <= case.defect.strength <= BANDS[case.band][1] for case in cases)
    assert TEXTURES[-4:] == HELD_OUT_TEXTURES


def test_a_case_has_one_flawed_place_and_a_twin_without_a_flaw(cases: list[DefectCase]) -> None:
    for case in cases:
        assert [flawed for flawed in case.verdicts.values()].count(True) == 1
        assert case.verdicts[case.place] is True
        assert (case.query.edited != case.twin.edited).any()
        assert set(case.query.masks) == set(case.twin.masks) == set(case.verdicts) - {BACKGROUND}
        assert all((case.query.masks[key] == mask).all() for key, mask in case.twin.masks.items())
        assert all(mask.any() for mask in case.query.masks.values())
        assert len(case.query.masks) == len(case.request.targets)
    spilled = [case for case in cases if case.defect.kind == "spill"]
    assert spilled
    assert all(case.verdicts[BACKGROUND] is None for case in spilled)


def test_known_rewards_get_what_they_deserve(oracle: RewardMetrics) -> None:
    assert oracle.localisation_auroc == 1.0
    assert oracle.rivals["untrained"] == 0.5
    assert oracle.rivals["reversed"] == 0.0
    assert oracle.ranking_accuracy == 1.0
    assert oracle.coverage == 1.0
    assert oracle.missing == {}
    assert oracle.reliability_error == 0.0
    assert set(oracle.localisation_auroc_by_defect.values()) == {1.0}
    assert oracle.left_out is not None
    assert (oracle.left_out.defect, oracle.left_out.auroc) == ("warp", 1.0)


def test_seeing_that_an_image_is_bad_is_no_localisation(oracle: RewardMetrics) -> None:
    whole = oracle.rivals["whole"]
    assert whole is not None
    assert 0.4 <= whole <= 0.6
    assert _all(oracle.twins, "whole").share_right == pytest.approx(_all(oracle.twins, "whole").chance)


class DislikesBackgrounds(Constant):
    """Few points for every background, full points for every region, whatever is seen."""

    def score(self, queries: list[RewardQuery]) -> list[Prediction]:
        return [prediction(dict.fromkeys(query.masks, 25.0), 1.0) for query in queries]


def test_flawed_backgrounds_are_compared_with_sound_backgrounds_alone(cases: list[DefectCase]) -> None:
    found = evaluate(DislikesBackgrounds(), cases, {}, bootstrap_samples=20).metrics
    assert found.localisation_auroc == 0.5
    assert set(found.localisation_auroc_by_defect.values()) == {0.5}


def test_unplanned_regions_are_shown_on_demand(cases: list[DefectCase]) -> None:
    """The same candidates; `extra-n` stands among the masks, has no verdict, and keeps its place in the mask probe."""
    shown = scene_cases(10, 3, size_px=96, extras=True)[0]
    plain = cases[: len(shown)]
    assert [case.key for case in shown] == [case.key for case in plain]
    with_extras = [case for case in shown if set(case.query.masks) > set(case.verdicts) - {BACKGROUND}]
    assert with_extras
    assert all(one.verdicts == other.verdicts for one, other in zip(shown, plain, strict=True))
    for case in with_extras:
        made = permute_masks(case.query)
        assert made is None or not [key for key in made[1] if key.startswith("extra-")]
    assert evaluate(PixelDifference(), shown, {}, bootstrap_samples=20).metrics.coverage == 1.0


def test_counts_and_gaps(oracle: RewardMetrics, cases: list[DefectCase]) -> None:
    labelled = sum(flawed is not None for case in cases for flawed in case.verdicts.values())
    assert (oracle.n_pairs, oracle.n_candidates, oracle.n_defective) == (labelled, len(cases), len(cases))
    macro = {row.rival: row for row in oracle.gaps if row.defect == "macro"}
    assert (macro["untrained"].gap, macro["reversed"].gap) == (0.5, 1.0)
    row = next(
        row
        for row in oracle.table
        if (row.reward, row.defect, row.band, row.place) == ("reward", "noise", "all", "all")
    )
    by_place = [row for row in oracle.table if row.reward == "reward" and row.defect == "noise" and row.place != "all"]
    assert row.n_defective == sum(one.n_defective for one in by_place)
    bands = [row for row in oracle.table if row.reward == "reward" and row.defect == "macro" and row.band in BANDS]
    assert [row.band for row in bands] == list(BANDS)


def test_the_twin_test(oracle: RewardMetrics) -> None:
    assert _all(oracle.twins, "reward").share_right == 1.0
    assert _all(oracle.named, "reward").share_right == 1.0
    assert _all(oracle.twins, "reversed").share_right == 0.0
    chance = _all(oracle.twins, "untrained")
    assert chance.share_right == pytest.approx(chance.chance)
    assert chance.chance is not None
    assert 0.25 <= chance.chance <= 0.5


def test_share_of_first_by_hand() -> None:
    assert share_of_first({"a": 3.0, "b": 1.0}, "a") == 1
    assert share_of_first({"a": 3.0, "b": 3.0, "c": 1.0}, "a") == 0.5
    assert share_of_first({"a": 2.0, "b": 3.0}, "a") == 0
    assert np.isnan(share_of_first({"a": 2.0, "b": None}, "a"))
    assert np.isnan(share_of_first({"a": 2.0}, "a"))


class Half:
    """The oracle, silent about every second query, and about one region with a score that is no score."""

    name, revision = "half", "1"

    def __init__(self, cases: list[DefectCase]) -> None:
        self._oracle, self._silent = Known(cases), Constant(None)

    def score(self, queries: list[RewardQuery]) -> list[Prediction]:
        told, silent = self._oracle.score(queries), self._silent.score(queries)
        return [silent[i] if i % 2 else told[i] for i in range(len(queries))]


def test_missing_scores_are_counted_and_left_out(cases: list[DefectCase]) -> None:
    found = evaluate(Half(cases), cases, {}, bootstrap_samples=20).metrics
    assert found.localisation_auroc == 1.0
    assert found.coverage == pytest.approx(0.5, abs=0.06)
    assert found.missing["background"] == len(cases) // 2
    assert (
        sum(
            row.n_defective
            for row in found.table
            if row.defect == "macro" and row.band == "all" and row.place == "all" and row.reward == "reward"
        )
        == len(cases) - len(cases) // 2
    )
    silent = evaluate(Constant(None), cases, {}, bootstrap_samples=20).metrics
    assert (silent.localisation_auroc, silent.coverage, silent.ranking_accuracy) == (None, 0.0, None)


@pytest.mark.parametrize("mean", [float("nan"), float("inf"), -0.1, 25.1, None])
def test_what_is_no_score_is_missing(mean: float | None) -> None:
    assert usable(Predicted(mean, 1.0)).mean is None


def test_phi_takes_the_lower_score_with_its_own_std() -> None:
    one = prediction({"a": 9.0}, 20.0)
    one = replace(one, regions={"a": RegionPrediction(Predicted(9.0, 2.0), Predicted(4.0, 3.0))})
    assert phi_of(one, "a") == Predicted(4.0, 3.0)
    assert phi_of(one, "b").mean is None
    assert usable(Predicted(3.0, float("nan"))) == Predicted(3.0)
    assert mean_reward(prediction({"a": 16.0}, 4.0, (25.0, 25.0, 25.0, 9.0)), ["a", BACKGROUND]) == pytest.approx(
        (12 / 25 + 6 / 25) / 2
    )


def test_a_reward_that_answers_too_little_is_refused(cases: list[DefectCase]) -> None:
    class Short(Constant):
        def score(self, queries: list[RewardQuery]) -> list[Prediction]:
            return super().score(queries)[1:]

    with pytest.raises(ValueError, match=r"constant gave 71 answers to 72|gave \d+ answers to \d+"):
        ask(Short(), [case.query for case in cases])


def test_ranking_by_hand(cases: list[DefectCase]) -> None:
    """Two cases and the twin: 3 pairs. The reward that turns all round gets none, ties get none."""
    request = cases[0].request.id
    own = [case for case in cases if case.request.id == request][:2]
    sources, weights = np.zeros(2, dtype=np.int64), np.ones((3, 1))
    for reward, right in ((Known(own), 1.0), (Known(own, turned=True), None), (Constant(), 0.0)):
        flawed, twins = ask(reward, [c.query for c in own]), ask(reward, [c.twin for c in own])
        found, number = ranking(own, flawed, twins, sources, weights)
        assert number in (2, 3)
        assert right is None or found.value == right


def test_calibration_by_hand() -> None:
    """|error| 2 everywhere, std so that E|error| is 2: no error; twice that std: 2 off."""
    exact = 2 / np.sqrt(2 / np.pi)
    scores = np.array([[10.0, exact, 12.0], [14.0, exact, 12.0]] * 10)
    assert calibration(scores)[0] == pytest.approx(0)
    doubled = scores * np.array([1.0, 2.0, 1.0])
    assert calibration(doubled)[0] == pytest.approx(2)
    assert calibration(np.array([[10.0, np.nan, 12.0]]))[0] is None
    assert reliability(np.array([[10.0, 1.0, 13.0]] * 4))[0] == pytest.approx(3)
    assert reliability(np.zeros((0, 3)))[0] is None


def test_probes_do_what_they_say(cases: list[DefectCase]) -> None:
    query = cases[0].query
    for name, make in PROBES.items():
        tampered = make(cases)
        assert len(tampered.index) == len(tampered.queries) > 0, name
        for number, changed in zip(tampered.index, tampered.queries, strict=True):
            case = cases[number]
            source = (changed.source != case.query.source).any()
            words = changed.instruction != case.query.instruction
            edited = (changed.edited != case.query.edited).any()
            wanted = {
                "source_swapped": (True, False, False),
                "source_dropped": (True, False, False),
                "instruction_swapped": (False, True, False),
                "masks_permuted": (False, False, False),
                "mirrored": (True, mirrored_words(case.query.instruction) != case.query.instruction, True),
            }[name]
            assert (source, words, edited) == wanted, name
    assert (drop_source(query).source == 128).all()
    assert (mirror(mirror(query)).edited == query.edited).all()
    assert (mirror(query).edited[:, 0] == query.edited[:, -1]).all()
    assert mirror(replace(query, instruction="Left, then right")).instruction == "Right, then left"
    written = [replace(cases[0], query=replace(query, instruction='write "HI"')), cases[1]]
    assert PROBES["mirrored"](written).index == [1]


def test_permuted_masks_go_round() -> None:
    masks = {key: np.eye(4, k=k, dtype=bool) for k, key in enumerate("abc")}
    made = permute_masks(RewardQuery(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8), "x", masks))
    assert made is not None
    query, origin = made
    assert origin == {"a": "b", "b": "c", "c": "a"}
    assert all((query.masks[key] == masks[origin[key]]).all() for key in "abc")
    assert permute_masks(RewardQuery(query.source, query.edited, "x", {"a": masks["a"]})) is None


def test_probe_figures_tell_looking_from_remembering(cases: list[DefectCase]) -> None:
    """The pixel rival follows the masks and needs the source; the oracle that knows regions by name does neither."""
    pixels = {row.probe: row for row in evaluate(PixelDifference(), cases, {}, bootstrap_samples=50).metrics.probes}
    assert pixels["masks_permuted"].follows == pytest.approx(pixels["masks_permuted"].before)
    assert pixels["mirrored"].change == pytest.approx(0, abs=1e-9)
    assert pixels["mirrored"].score_change == pytest.approx(0, abs=1e-4)
    assert pixels["instruction_swapped"].change == 0
    assert (pixels["source_dropped"].score_change or 0) > 1
    known = {row.probe: row for row in evaluate(Known(cases), cases, {}, bootstrap_samples=50).metrics.probes}
    assert known["source_swapped"].change == 0
    assert (known["masks_permuted"].follows or 0) < 0.8
    for row in (*pixels.values(), *known.values()):
        assert row.auroc is not None
        assert row.before is not None
        assert row.change == pytest.approx(row.auroc - row.before)


def test_metrics_have_the_promised_keys_and_are_read_back(oracle: RewardMetrics, tmp_path) -> None:
    path = write_metrics(tmp_path, oracle)
    assert RewardMetrics.from_json(path.read_bytes(), thing="metrics.json") == oracle
    assert {"pixel_difference", "untrained"} <= set(oracle.rivals)
    assert set(oracle.intervals) == {"localisation_auroc", "ranking_accuracy"}


def test_a_photo_row_counts_its_pairs(cases: list[DefectCase]) -> None:
    row = photo_row(Known(cases), "a.png", cases)
    assert row.auroc == 1.0
    assert row.n_pairs == sum(flawed is not None for case in cases for flawed in case.verdicts.values())


@pytest.fixture(scope="module")
def photo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build on two photographs with two requests each, one of a whole image, which has no background."""
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(data.coffee()).save(folder / "coffee.png")
    Image.fromarray(data.astronaut()).save(folder / "astronaut.png")
    red, dark = {"color": "red"}, {"gain": 0.5}
    boxes = {"coffee.png": ([230, 120, 400, 260], [20, 20, 120, 120])}
    boxes["astronaut.png"] = ([170, 60, 290, 210], [20, 206, 120, 400])
    lines = []
    for name, (one, two) in boxes.items():
        targets = [
            {"label": "first thing", "operation": "recolour", "box": one, "parameters": red},
            {"label": "second thing", "operation": "relight", "box": two, "parameters": dark},
        ]
        base = {"sources": [name], "instruction": "Make one thing red and darken another."}
        lines.append(base | {"id": f"{name}-1", "targets": targets})
        lines.append(
            base | {"id": f"{name}-2", "targets": [targets[1] | {"box": None}], "instruction": "Darken it all."}
        )
    (folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = folder / "run"
    build(run, BuildConfig(requests=(str(folder / "requests.jsonl"),), size_px=128, k=1, part_requests=8))
    return run


def test_cases_of_one_photograph(photo_run: Path) -> None:
    assert photos(photo_run) == ("astronaut.png", "coffee.png")
    coffee, _ = photo_cases(photo_run, "coffee.png", 6)
    again, _ = photo_cases(photo_run, "coffee.png", 6)
    assert [case.key for case in coffee] == [case.key for case in again]
    assert len(coffee) == 6
    assert {case.request.sources[0].name for case in coffee} == {"coffee.png"}
    assert len({case.source for case in coffee}) == 1
    row = photo_row(Known(coffee), "coffee.png", coffee)
    assert row.auroc == 1.0
    assert row.n_pairs >= 12
    assert photo_cases(photo_run, "nobody.png")[0] == []

"""What `benchmarks.reward` makes of figures, by hand, and its parts in a tiny form: nothing here is a measurement."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr
from skimage import data

from benchmarks.result import once
from benchmarks.reward import is_of, main
from benchmarks.reward_photos import (
    PhotoTest,
    as_photo_rows,
    leave_one_photo_out,
    mean_over_photos,
    photo_groups,
    photo_rows,
)
from benchmarks.reward_supervision import (
    ORDER,
    PLACE,
    REGION,
    Share,
    multi_region_cases,
    shares_of,
    supervision_rows,
    textures_seen,
)
from benchmarks.reward_uncertainty import (
    NAMES,
    Spreads,
    correlation,
    measure,
    of_prediction,
    of_row,
    rank_correlation,
    uncertainty_rows,
)
from pipeline.config import BuildConfig
from pipeline.dataset.shards import read_dataset
from schemas.dataset_row import ScoreSpread
from schemas.errors import BadInput
from schemas.request import EditRequest, Source
from schemas.reward import PhotoRow
from tests.cases.builds import build
from tests.cases.reward_cases import Constant, Known, prediction
from training.evaluation.localisation_cases import HELD_OUT_TEXTURES, DefectCase
from training.evaluation.reward_metrics import read_photos, write_photos
from training.reward.config import RewardConfig, load_config
from training.reward.region_reward import untrained

TINY = {"side_px": 32, "channels": 8, "text": 8, "hidden": 16, "steps": 1, "batch_requests": 1, "threads": 1}


def tiny(dataset: Path) -> RewardConfig:
    return load_config(None, {"dataset": str(dataset), **TINY})


def request(*names: str, group: str | None = None, pixels: str | None = None) -> EditRequest:
    sources = [
        Source(name=name, origin_sha256="0" * 64, pixels_sha256=pixels or f"{name:0>64}", width_px=9, height_px=9)
        for name in (f"{ord(name):x}" for name in names)
    ]
    return EditRequest(
        id="0" * 16,
        name="r",
        kind="single" if len(sources) == 1 else "composition",
        sources=tuple(sources),
        instruction="Do it.",
        edit_type="other",
        source_group=group,
        synthetic=False,
    )


def _hex(*names: str) -> tuple[str, ...]:
    return tuple(f"{ord(name):x}" for name in names)


def test_photographs_that_belong_together_are_left_out_together() -> None:
    requests = [
        request("a"),
        request("b", group="pair"),
        request("c", group="pair"),
        request("d", "a"),
        request("e", pixels="f" * 64),
        request("f", pixels="f" * 64),
        request("g"),
    ]
    found = photo_groups(requests, _hex("a", "b", "c", "d", "e"))
    assert found == [_hex("a"), _hex("b", "c"), _hex("d"), _hex("e", "f")]


def test_the_mean_over_photographs_leaves_out_what_has_no_figure() -> None:
    found = mean_over_photos([0.6, None, 0.9])
    assert found.value == pytest.approx(0.75)
    assert (found.low, found.high) == (pytest.approx(0.6), pytest.approx(0.9))
    assert mean_over_photos([None]).value is None


def test_photograph_rows_say_how_many_and_how_sure() -> None:
    tested = [
        PhotoTest("a", 20, 8, 4, 0.9, 0.7),
        PhotoTest("b and c", 30, 9, 6, 0.7, 0.6),
        PhotoTest("d", 0, 0, 2, None, None),
    ]
    mean, gap, *photos = photo_rows(tested)
    assert (mean["ours"], mean["peer"]) == (pytest.approx(0.8), pytest.approx(0.65))
    assert (mean["n"], mean["n_pairs"], mean["not_tested"]) == (2, 50, 1)
    assert (mean["low"], mean["high"]) == (pytest.approx(0.7), pytest.approx(0.9))
    assert (gap["ours"], gap["low"], gap["high"]) == (pytest.approx(0.15), pytest.approx(0.1), pytest.approx(0.2))
    assert [(row["n"], row["ours"], row["n_left_out"]) for row in photos] == [(20, 0.9, 4), (30, 0.7, 6), (0, None, 2)]
    assert as_photo_rows(tested)[2] == PhotoRow(photo="d", n_pairs=0, auroc=None)


def test_photographs_reach_the_metrics_by_a_file(tmp_path: Path) -> None:
    rows = (PhotoRow(photo="a.png", n_pairs=3, auroc=0.5),)
    assert read_photos(tmp_path) == ()
    write_photos(tmp_path, rows)
    assert read_photos(tmp_path) == rows
    (tmp_path / "photos.json").write_text('[{"photo": "a.png", "n_pairs": 3, "auroc": 1.5}]')
    with pytest.raises(BadInput, match=r"photos\.json: .*auroc"):
        read_photos(tmp_path)


def test_what_was_measured_is_measured_once(tmp_path: Path) -> None:
    def never() -> dict[str, int]:
        raise AssertionError("measured again")

    assert once(tmp_path / "kept.json", {"of": [1]}, lambda: {"found": 1}) == {"found": 1}
    assert once(tmp_path / "kept.json", {"of": [1]}, never) == {"found": 1}
    assert once(tmp_path / "kept.json", {"of": [2]}, lambda: {"found": 2}) == {"found": 2}


@pytest.fixture(scope="module")
def cases() -> list[DefectCase]:
    return multi_region_cases(12, 3)


def test_an_oracle_orders_and_names_and_a_constant_guesses(cases: list[DefectCase]) -> None:
    assert len(cases) > 5
    assert all(len(case.request.targets) >= 2 for case in cases)
    known, reverse, same = (
        shares_of(reward, cases, 50) for reward in (Known(cases), Known(cases, turned=True), Constant())
    )
    assert [known[name].value for name in (ORDER, REGION, PLACE)] == [1, 1, 1]
    assert [reverse[name].value for name in (REGION, PLACE)] == [0, 0]
    assert same[ORDER].value == 0
    for name in (REGION, PLACE):
        assert same[name].value == pytest.approx(same[name].chance)
    assert same[REGION].chance > same[PLACE].chance > 0
    assert known[REGION].n < known[PLACE].n <= len(cases)


def test_rows_over_seeds_by_hand() -> None:
    def figures(value: float) -> dict[str, Share]:
        return dict.fromkeys((ORDER, REGION, PLACE), Share(value, value - 0.1, value + 0.1, 40, 0.5))

    found = {"regions": [figures(0.8), figures(0.9)], "image": [figures(0.6), figures(0.5)]}
    mean, gap, *seeds = supervision_rows(found, [0, 1])[:4]
    assert (mean["ours"], mean["peer"], mean["chance"]) == (pytest.approx(0.85), pytest.approx(0.55), 0.5)
    assert mean["spread"] == pytest.approx(0.1 / 2**0.5)
    assert (gap["ours"], gap["least"], gap["most"]) == (pytest.approx(0.3), pytest.approx(0.2), pytest.approx(0.4))
    assert [(row["ours"], row["peer"], row["n"]) for row in seeds] == [(0.8, 0.6, 40), (0.9, 0.5, 40)]
    assert len(supervision_rows(found, [0, 1])) == 12


def test_a_result_says_whether_the_test_textures_were_trained_on(built_run: Path) -> None:
    assert textures_seen(built_run) == sorted(HELD_OUT_TEXTURES)


def test_rank_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, 60).astype(float), rng.integers(0, 9, 60).astype(float)
    assert rank_correlation(first, second + first) == pytest.approx(spearmanr(first, second + first).statistic)
    assert rank_correlation(first, -first) == pytest.approx(-1)
    assert np.isnan(rank_correlation(first, np.ones(60)))
    assert np.isnan(rank_correlation(first[:2], first[:2]))


def test_its_interval_is_over_sources_and_not_over_scores() -> None:
    rng = np.random.default_rng(1)
    per_source = rng.normal(size=(8, 2))
    few = correlation(*per_source.T, np.arange(8), 300)
    repeated = np.repeat(per_source, 50, axis=0)
    many = correlation(*repeated.T, np.repeat(np.arange(8), 50), 300)
    assert many.value == pytest.approx(few.value, abs=0.02)
    assert many.high - many.low == pytest.approx(few.high - few.low, abs=0.15)
    assert correlation(*repeated.T, np.arange(400), 300).high - many.value < (many.high - many.value) / 2


def spreads(name: str, number: int, *, std: float, other: float | None) -> Spreads:
    return Spreads(name, f"s{number % 4}", std=std, mean=12.5 + number, spread=float(number), other=other)


def test_uncertainty_rows_by_hand() -> None:
    scores = [spreads(NAMES[0], n, std=0.1 * n, other=float(n)) for n in range(8)]
    scores += [spreads(NAMES[3], n, std=-0.1 * n, other=None if n < 2 else -float(n)) for n in range(8)]
    pooled, mean, *by_name = uncertainty_rows(scores, 5, 20)
    rows = dict(zip(NAMES, by_name, strict=True))
    first, second = rows[NAMES[0]], rows[NAMES[3]]
    assert (first["ours"], first["peer"], first["limit"]) == (pytest.approx(1), pytest.approx(-1), pytest.approx(1))
    assert (second["ours"], second["limit"], second["n_limit"]) == (pytest.approx(-1), pytest.approx(-1), 6)
    assert rows[NAMES[1]]["ours"] is None
    assert mean["ours"] == pytest.approx(0)
    assert (pooled["n"], pooled["n_sources"], pooled["n_limit"]) == (16, 4, 14)


def test_spreads_and_predictions_meet_by_their_places(built_run: Path) -> None:
    _, row, _ = next(iter(read_dataset(built_run / "dataset", "test")))
    spread = ScoreSpread(spread=2.5, n_raters=5, n_missing=0)
    region = row.regions[0].model_copy(update={"spreads": {"success": spread}})
    nobody = ScoreSpread(spread=None, n_raters=1, n_missing=4)
    row = row.model_copy(update={"regions": (region,), "spreads": {"artifacts": spread, "background": nobody}})
    assert of_row(row) == {("region.success", region.region): 2.5, ("image.artifacts", ""): 2.5}
    places = of_prediction(prediction({region.region: 20.0}, 3.0))
    assert set(of_row(row)) < set(places)
    assert places["image.background", ""].mean == 3
    assert {name for name, _ in places} == set(NAMES)


def test_it_rates_trains_and_compares(built_run: Path, tmp_path: Path) -> None:
    rows = measure(built_run, tiny(built_run / "dataset"), tmp_path / "work", 3, 20)
    assert rows[0]["n"] == rows[0]["n_limit"] == sum(row["n"] for row in rows[2:]) > 20
    assert -1 <= rows[0]["ours"] <= 1
    assert rows == measure(built_run, tiny(built_run / "dataset"), tmp_path / "work", 3, 20)
    kept = next((tmp_path / "work").glob("*/tested.json"))
    assert len(json.loads(kept.read_bytes())["made"]["scores"]) == rows[0]["n"]


def test_each_photograph_is_tested_by_a_reward_that_never_saw_it(tmp_path: Path) -> None:
    lines = []
    for name, image in (("coffee.png", data.coffee()), ("cat.png", data.chelsea())):
        Image.fromarray(image).save(tmp_path / name)
        targets = [
            {"label": "a thing", "operation": "recolour", "box": [40, 40, 160, 160], "parameters": {"color": "red"}}
        ]
        lines.append({"id": name, "sources": [name], "instruction": "Make it red.", "targets": targets})
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = tmp_path / "run"
    build(run, BuildConfig(requests=(str(tmp_path / "requests.jsonl"),), scenes=6, scene_size_px=64, size_px=64, k=2))
    rows = [row for split in ("train", "validation", "test") for _, row, _ in read_dataset(run / "dataset", split)]
    tested = leave_one_photo_out(run, tiny(run / "dataset"), tmp_path / "work", 3)
    assert [one.photo for one in tested] == ["cat.png", "coffee.png"]
    for one in tested:
        mine = [row for row in rows if one.photo in row.source_names and row.split != "test"]
        assert one.n_left_out == len(mine)
        assert one.n_cases == 3
        assert one.n_pairs >= 3
    assert any(one.n_left_out for one in tested)
    assert tested == leave_one_photo_out(run, tiny(run / "dataset"), tmp_path / "work", 3)


def test_photographs_go_to_a_reward_of_the_same_settings_alone(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    assert not is_of(tmp_path, config)
    untrained(config.model_copy(update={"threads": 2})).save(tmp_path)
    assert is_of(tmp_path, config)
    assert not is_of(tmp_path, config.model_copy(update={"steps": 2}))


def test_a_part_that_cannot_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["photos", "--run", str(tmp_path), "--steps", "1"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"regionwise: {tmp_path}/dataset: has no manifest.json")

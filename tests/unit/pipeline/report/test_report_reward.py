"""The report's section on a reward: made from files alone, there only when they are, and hostile text stays text."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.report import write_report
from pipeline.report.images import Pictures
from pipeline.report.plots import against_diagonal, curves, interval
from pipeline.report.reward import reward_data
from schemas.errors import BadInput, DamagedFile
from schemas.reward import RewardExample, RewardMetrics
from tests.cases.reward_cases import Constant, Known
from training.evaluation.examples import example, write_examples
from training.evaluation.localisation_cases import DefectCase, scene_cases
from training.evaluation.reward_metrics import Examined, evaluate, write_metrics

HISTORY = [{"step": 20, "total": 3.0, "region": 1.0}, {"step": 40, "total": 2.0, "region": -0.5}]


@pytest.fixture(scope="module")
def cases() -> list[DefectCase]:
    return scene_cases(8, 3, size_px=64)[0]


@pytest.fixture(scope="module")
def tested(cases: list[DefectCase]) -> Examined:
    rivals = {"untrained": Constant(), "source_blind": Known(cases, turned=True)}
    return evaluate(Known(cases, std=2.0), cases, rivals, left_out="seam", bootstrap_samples=50)


@pytest.fixture(scope="module")
def reward(cases: list[DefectCase], tested: Examined, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files of a reward; never changed."""
    folder = tmp_path_factory.mktemp("reward")
    write_metrics(folder, tested.metrics)
    write_examples(folder, cases, tested.flawed)
    (folder / "curves.json").write_text(json.dumps({"history": HISTORY, "calibration": {}, "later": 1}))
    return folder


@pytest.fixture
def run(small_run: Path, reward: Path) -> Path:
    """A run with a copy of them, to damage."""
    shutil.copytree(reward, small_run / "reward")
    return small_run


def test_a_run_without_a_reward_has_no_section(small_run: Path) -> None:
    assert reward_data(small_run, Pictures()) is None
    assert 'id="reward"' not in write_report(small_run).read_text()


def test_the_section_says_what_the_files_say(run: Path, tested: Examined) -> None:
    text = write_report(run).read_text()
    assert 'id="reward"' in text
    numbers = {number.what: number.value for number in (reward_data(run, Pictures()) or {})["numbers"]}
    assert numbers["localisation AUROC"] == "1.000"
    assert numbers["candidates put in order"] == "100.0 %"
    assert numbers["scores given"] == "100.0 %"
    assert numbers["test pairs"] == str(tested.metrics.n_pairs)
    assert "unseen in training" in text
    for words in (
        "without the source",
        "untrained network",
        "a grey source",
        "Training loss",
        "Where it is most wrong",
    ):
        assert words in text, words


def test_each_part_is_there_when_its_file_is(run: Path) -> None:
    for name in ("metrics.json", "predictions.jsonl"):
        (run / "reward" / name).unlink()
    data = reward_data(run, Pictures())
    assert data is not None
    assert [chart.title for chart in data["charts"]] == ["Training loss", "Loss: region"]
    assert (data["numbers"], data["defects"], data["best"]) == ([], [], [])
    assert "Training loss" in write_report(run).read_text()


def test_rows_of_the_table(run: Path) -> None:
    data = reward_data(run, Pictures())
    assert data is not None
    first, *others = data["defects"]
    assert first.own.text == "1.00"
    assert [view.left_out for view in others].count(True) == 1
    rivals = dict(zip(data["rivals"], first.rivals, strict=True))
    assert (rivals["untrained network"].text, rivals["untrained network"].beaten) == ("0.50", True)
    assert "ahead by 0.50" in rivals["untrained network"].note
    assert (rivals["without the source"].text, rivals["without the source"].grade) == ("0.00", 0)


def test_examples_are_the_ends_of_the_margins(run: Path, cases: list[DefectCase]) -> None:
    data = reward_data(run, Pictures())
    assert data is not None
    lines = (run / "reward" / "predictions.jsonl").read_bytes().splitlines()
    margins = [RewardExample.from_json(line, thing="line").margin for line in lines]
    known = sorted(margin for margin in margins if margin is not None)
    best, worst = ([view.example.margin for view in data[name]] for name in ("best", "worst"))
    assert len(lines) == len(cases)
    assert len(best) == len(worst) == 6
    assert (best[0], worst[0]) == (known[-1], known[0])
    assert best == sorted(best, reverse=True)
    assert worst == sorted(worst)


def test_margin_by_hand(cases: list[DefectCase]) -> None:
    """The oracle's sound places have 25, so the margin is 25 less the flawed place's true phi."""
    case = cases[0]
    found = example(case, Known(cases).score([case.query])[0])
    true = case.true_phi[case.place]
    assert true is not None
    assert found.margin == 25 - true > 0
    assert example(case, Known(cases, turned=True).score([case.query])[0]).margin == true - 25
    assert example(case, Constant(None).score([case.query])[0]).margin is None
    masks = {place.key: place.mask for place in found.places}
    assert set(masks) == set(case.verdicts)


def test_a_reward_that_began_with_shipped_weights_says_so(run: Path) -> None:
    words = "from weights that come with the product"
    assert words not in write_report(run).read_text()
    shipped = {"history": HISTORY, "start": "shipped"}
    (run / "reward" / "curves.json").write_text(json.dumps(shipped))
    assert words in write_report(run).read_text()


def test_hostile_labels_are_text(run: Path) -> None:
    path = run / "reward" / "predictions.jsonl"
    hostile = "<script>x()</script>\"'><img src=x>"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["instruction"] = hostile
        for place in line["places"]:
            place["label"] = hostile
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    curves_file = run / "reward" / "curves.json"
    curves_file.write_text(json.dumps({"history": [{"step": 1, hostile: 2.0}]}))
    text = write_report(run).read_text()
    assert text.count("<script>") == 1
    assert "<img" not in text
    assert "&lt;script&gt;x()" in text


@pytest.mark.parametrize("picture", ["../secret.png", "/etc/passwd", "pictures/../../x.png", "pictures/a b.png"])
def test_a_picture_path_cannot_leave_the_folder(run: Path, picture: str) -> None:
    path = run / "reward" / "predictions.jsonl"
    line = json.loads(path.read_text().splitlines()[0]) | {"source_picture": picture, "edited_picture": picture}
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(BadInput, match="line 1"):
        write_report(run)


def test_bad_files_are_named(run: Path) -> None:
    next((run / "reward" / "pictures").iterdir()).unlink()
    with pytest.raises(DamagedFile, match="is missing"):
        write_report(run)
    (run / "reward" / "metrics.json").write_text("{")
    with pytest.raises(BadInput, match=r"metrics\.json: is not JSON"):
        write_report(run)


def test_metrics_without_figures_are_shown_as_absent(run: Path, cases: list[DefectCase]) -> None:
    write_metrics(run / "reward", evaluate(Constant(None), cases, {}, bootstrap_samples=5).metrics)
    text = write_report(run).read_text()
    assert "\u2013" in text
    assert "nan" not in re.sub(r"data:image[^\"]+", "", text).lower().replace("finance", "")


def test_plots_put_points_where_they_belong() -> None:
    line = str(curves({"a": [(0.0, 4.0), (100.0, 0.0)]}, "steps"))
    (x0, y0), (x1, y1) = (map(float, pair.split(",")) for pair in re.findall(r"[\d.]+,[\d.]+", line))
    assert x0 < x1
    assert y0 < y1
    below = str(curves({"a": [(0.0, 1.0), (1.0, -3.0)]}, "steps"))
    assert ">-4<" in below
    dots = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', str(against_diagonal([(0, 0, 1), (10, 10, 9)], 10, "x", "y")))
    ends = re.findall(
        r'<line class="diagonal" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"',
        str(against_diagonal([(0, 0, 1)], 10, "x", "y")),
    )
    assert [*dots[0], *dots[1]] == list(ends[0])
    whisker = re.search(r'whisker" x1="([\d.]+)" x2="([\d.]+)"', str(interval(0.5, 0.25, 0.75)))
    assert whisker
    assert np.mean([float(end) for end in whisker.groups()]) == pytest.approx(75)
    assert "none" in str(curves({}, "steps"))
    assert "none" in str(against_diagonal([], 1, "x", "y"))
    assert "whisker" not in str(interval(0.5, None, None))


def test_files_are_read_back_by_their_records(run: Path, tested: Examined) -> None:
    path = run / "reward" / "metrics.json"
    assert RewardMetrics.from_json(path.read_bytes(), thing="metrics") == tested.metrics

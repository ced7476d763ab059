"""The report's section on policies: from files alone, there only when they are, and hostile text stays text."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.report import write_report
from pipeline.report.policy import WIDEST_PX, policy_data
from runtime.images import encode_image
from schemas.edit_benchmarks import Interval, PairedFigure, PolicyEvaluation
from schemas.errors import BadInput, DamagedFile

HOSTILE = "<script>x()</script>\"'><img src=x>"


def interval(value: float | None, low: float | None = None, high: float | None = None) -> Interval:
    return Interval(value=value, low=low, high=high)


def evaluation(**fields: object) -> PolicyEvaluation:
    rows = (
        ("region_reward", interval(0.4), interval(0.55), interval(0.15, 0.1, 0.2)),
        ("all_right", interval(0.25), interval(0.2), interval(-0.05, -0.09, -0.01)),
        ("background", interval(0.9), interval(0.91), interval(0.01, -0.02, 0.04)),
        ("region_phi", interval(None), interval(None), interval(None)),
    )
    figures = tuple(
        PairedFigure(what=what, first=first, second=second, difference=difference, n=64)  # type: ignore[arg-type]
        for what, first, second, difference in rows
    )
    told = {"first": "start", "second": "update 40", "benchmark": "scenes", "scorer": "oracle:pixels"}
    told |= {"synthetic": True, "right_from": 19.0, "figures": figures, "n_requests": 64, "bootstrap_samples": 100}
    return PolicyEvaluation.model_validate(told | fields)


def picture(width: int = 40, height: int = 20) -> bytes:
    return encode_image(np.full((height, width, 3), 90, dtype=np.uint8), "png")


@pytest.fixture
def run(small_run: Path) -> Path:
    """A run with all files of a policy."""
    folder = small_run / "policy" / "tiny"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(evaluation().model_dump_json())
    (folder / "figures.jsonl").write_text('{"update": 1, "loss": 0.5}\n{"update": 2}\n{"upd')
    (folder / "curves.png").write_bytes(picture(3000, 600))
    for update in (2, 10, 40):
        (folder / f"sheet-{update:05d}.png").write_bytes(picture())
    return small_run


def test_a_run_without_a_policy_has_no_section(small_run: Path) -> None:
    assert policy_data(small_run) is None
    (small_run / "policy" / "empty").mkdir(parents=True)
    assert policy_data(small_run) is None
    assert 'id="policy"' not in write_report(small_run).read_text()


def test_the_section_says_what_the_files_say(run: Path) -> None:
    (view,) = (policy_data(run) or {})["policies"]
    rows = {row.name: row for row in view.figures}
    reward, right = rows["region reward R, 0 to 1"], rows["requests with all regions right"]
    assert (reward.first, reward.second, reward.change) == ("0.400", "0.550", "+0.150")
    assert (reward.between, reward.verdict) == ("+0.100 to +0.200", "better")
    assert (right.first, right.change, right.verdict) == ("25.0 %", "\u22125.0 %", "worse")
    assert rows["background"].verdict == "no change beyond chance"
    missing = rows["region φ / 25, 0 to 1"]
    assert (missing.first, missing.change, missing.verdict) == ("\u2013", "\u2013", "not known")
    assert view.updates == 2
    assert [sheet.caption for sheet in view.sheets] == ["after 2 updates", "after 40 updates"]
    assert (view.curves.width, view.curves.height) == (WIDEST_PX, 340)
    text = write_report(run).read_text()
    for words in ('id="policy"', "2 updates", "64 requests", "oracle:pixels", "synthetic, no person", "+0.150"):
        assert words in text, words
    assert text.count('<img src="data:image/') == 3


def test_each_part_is_there_when_its_file_is(run: Path) -> None:
    folder = run / "policy" / "tiny"
    for name in ("evaluation.json", "curves.png", "figures.jsonl"):
        (folder / name).unlink()
    (view,) = (policy_data(run) or {})["policies"]
    assert (view.evaluation, view.updates, view.curves, view.figures) == (None, None, None, ())
    assert len(view.sheets) == 2
    assert "Samples and advantages" in write_report(run).read_text()


def test_what_is_real_is_not_called_synthetic(run: Path) -> None:
    path = run / "policy" / "tiny" / "evaluation.json"
    path.write_text(evaluation(synthetic=False).model_dump_json())
    assert "synthetic, no person" not in write_report(run).read_text()


def test_hostile_text_stays_text(run: Path) -> None:
    path = run / "policy" / "tiny" / "evaluation.json"
    path.write_text(evaluation(first=HOSTILE, second=HOSTILE, scorer=HOSTILE, benchmark=HOSTILE[:30]).model_dump_json())
    (run / "policy" / "tiny").rename(run / "policy" / "<b>tiny")
    text = write_report(run).read_text()
    assert text.count("<script>") == 1
    assert "<img src=x>" not in text
    assert "<b>tiny" not in text
    assert "&lt;script&gt;x()" in text


def test_bad_files_are_named(run: Path) -> None:
    folder = run / "policy" / "tiny"
    (folder / "sheet-00040.png").write_bytes(b"no picture")
    with pytest.raises(DamagedFile, match=r"sheet-00040\.png: is no picture"):
        write_report(run)
    (folder / "sheet-00040.png").unlink()
    (folder / "figures.jsonl").write_text("[1]\n")
    with pytest.raises(BadInput, match=r"figures\.jsonl line 1: is no JSON object"):
        write_report(run)
    (folder / "figures.jsonl").unlink()
    (folder / "evaluation.json").write_text(json.dumps(evaluation().model_dump(mode="json") | {"right_from": "much"}))
    with pytest.raises(BadInput, match="right_from"):
        write_report(run)


def test_other_files_are_not_sheets(run: Path) -> None:
    folder = run / "policy" / "tiny"
    (folder / "sheet-x.png").write_bytes(b"no picture")
    (folder / "sheet-99999.png").mkdir()
    (view,) = (policy_data(run) or {})["policies"]
    assert [sheet.caption for sheet in view.sheets] == ["after 2 updates", "after 40 updates"]

"""The report's section on raters: from agreement.json alone, there only when it is, and hostile text stays text."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.report import write_report
from pipeline.report.agreement import agreement_data
from pipeline.report.plots import interval
from schemas.agreement import Agreement, CopiedAnswers, DimensionAgreement, Figure, GoldSummary, RaterSummary
from schemas.errors import BadInput

NONE = Figure(value=None, reason="fewer than two raters answered the same question")
ALPHA = Figure(value=0.61, low=0.5, high=0.7)


def _agreement(snapshot: str = "first", **changes: Any) -> Agreement:
    rows = {"n_questions": 40, "n_answers": 80, "n_raters": 2, "icc_questions": 0, "icc_raters": 0, "kappa_pairs": 1}
    fields: dict[str, Any] = {
        "snapshot": snapshot,
        "method": "latent-1",
        "synthetic": True,
        "n_annotations": 80,
        "n_candidates": 40,
        "n_used": 40,
        "n_not_judged": 3,
        "bootstrap": "sources",
        "n_resamples": 1000,
        "dimensions": (
            DimensionAgreement(dimension="region.success", alpha=ALPHA, icc=NONE, kappa=Figure(value=-0.2), **rows),
        ),
        "issues": (),
        "mask_iou": NONE,
        "n_mask_pairs": 0,
        "raters": (_rater("p-1", bias=2.0, bias_error=0.5, random_share=0.02), _rater("p-2", random_share=0.9)),
    }
    return Agreement(**(fields | changes))


def _rater(name: str, **figures: float) -> RaterSummary:
    return RaterSummary(rater=name, n_annotations=40, n_answers=80, n_missing=0, n_not_judged=0, **figures)


def _write(run: Path, found: Agreement) -> Path:
    path = run / "consensus" / found.snapshot / "agreement.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found.model_dump_json())
    return path


def test_a_run_without_agreement_has_no_section(small_run: Path) -> None:
    assert agreement_data(small_run, "oracle") is None
    assert 'id="agreement"' not in write_report(small_run).read_text()


def test_the_section_says_what_the_file_says(small_run: Path) -> None:
    _write(small_run, _agreement())
    data = agreement_data(small_run, "consensus:first")
    assert data is not None
    (view,) = data["snapshots"]
    (row,) = view.dimensions
    assert (row.alpha.text, row.alpha.note, row.alpha.grade) == ("0.61", "0.50 to 0.70", 3)
    assert (row.icc.text, row.icc.note, row.icc.grade) == ("\u2013", NONE.reason, None)
    assert (row.kappa.text, row.kappa.grade) == ("-0.20", 0)
    assert {number.what: number.value for number in view.numbers}["mean alpha"] == "0.61"
    assert view.in_dataset
    mild, wild = view.raters
    assert (mild.bias, mild.random, mild.notes) == ("+2.0 ± 0.5", "2 %", ())
    assert (wild.bias, wild.notes) == ("\u2013", ("answers at random",))
    text = write_report(small_run).read_text()
    for words in ('id="agreement"', "region: success", "+2.0 ± 0.5", "answers at random", "latent-1"):
        assert words in text, words


def test_gold_and_copies_are_shown(small_run: Path) -> None:
    gold = GoldSummary(rater="p-2", n_answers=20, exact=0.2, near=0.5, error=Figure(value=1, low=0, high=2),
                       drift=Figure(value=-3.0, low=-4, high=-2), random=True, found_after=9, evidence=7.0,
                       threshold=3.7)  # fmt: skip
    copied = CopiedAnswers(first="p-1", second="p-2", same=0.97, n_off=50)
    _write(small_run, _agreement(gold=(gold,), copies=(copied,)))
    text = write_report(small_run).read_text()
    assert "random by gold, after 9 answers" in text
    assert "50 % near of 20, drift -3.0" in text
    assert "97 % of 50 questions" in text


def test_the_datasets_snapshot_comes_first_and_four_are_shown(small_run: Path) -> None:
    for name in ("a", "b", "c", "d", "z"):
        _write(small_run, _agreement(name))
    data = agreement_data(small_run, "consensus:z")
    assert data is not None
    assert [view.found.snapshot for view in data["snapshots"]] == ["z", "a", "b", "c"]
    assert data["more"] == 1


def test_hostile_names_are_text(small_run: Path) -> None:
    hostile = "<script>x()</script>\"'><img src=x>"
    _write(small_run, _agreement(raters=(_rater(hostile),), raters_reason=hostile, method=hostile))
    text = write_report(small_run).read_text()
    assert text.count("<script>") == 1
    assert "<img" not in text
    assert "&lt;script&gt;x()" in text


@pytest.mark.parametrize("damage", ["{", "[]", '{"schema": "agreement/2"}', '{"schema": "agreement/1", "x": 1}'])
def test_a_bad_file_is_named(small_run: Path, damage: str) -> None:
    path = _write(small_run, _agreement())
    path.write_text(damage)
    with pytest.raises(BadInput, match=r"agreement\.json"):
        write_report(small_run)


def test_a_figure_that_is_not_a_number_is_refused(small_run: Path) -> None:
    path = _write(small_run, _agreement())
    document = json.loads(path.read_text())
    document["dimensions"][0]["alpha"]["value"] = float("nan")
    path.write_text(json.dumps(document))
    with pytest.raises(BadInput, match="finite"):
        write_report(small_run)


def test_the_line_of_chance_and_what_lies_outside() -> None:
    text = str(interval(-0.4, -1.0, 1.5, chance=0))
    dot, chance = re.search(r'cx="([\d.]+)"', text), re.search(r'diagonal" x1="([\d.]+)"', text)
    whisker = re.search(r'whisker" x1="([\d.]+)" x2="([\d.]+)"', text)
    assert dot
    assert chance
    assert whisker
    assert (float(dot.group(1)), float(chance.group(1))) == (4, 4)
    assert [float(end) for end in whisker.groups()] == [4, 146]

"""The report's section on a reward in a real Chromium: drawn, readable on a desk and a phone, silent."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from pipeline.report import write_report
from tests.cases.hostile_run import build_hostile_run
from tests.cases.reward_cases import Constant, Known
from training.evaluation.examples import write_examples
from training.evaluation.localisation_cases import scene_cases
from training.evaluation.reward_metrics import evaluate, write_metrics

SIZES = ((1440, 900), (390, 844))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    run = build_hostile_run(folder)
    cases = scene_cases(12, 3, size_px=64)[0]
    rivals = {name: Constant() for name in ("untrained", "source_blind", "instruction_blind")}
    examined = evaluate(Known(cases, std=3.0), cases, rivals, left_out="seam", bootstrap_samples=50)
    write_metrics(run / "reward", examined.metrics)
    write_examples(run / "reward", cases, examined.flawed)
    (run / "reward" / "curves.json").write_text('{"history": [{"step": 20, "total": 2}, {"step": 40, "total": 1}]}')
    return write_report(run, folder / "page.html")


@pytest.fixture(params=SIZES)
def page(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The report at one size; whatever it logs fails the test at its end."""
    context = browser.new_context(viewport={"width": request.param[0], "height": request.param[1]})
    page = context.new_page()
    logged: list[str] = []
    page.on("console", lambda message: logged.append(message.text))
    page.on("pageerror", lambda error: logged.append(str(error)))
    page.goto(report.as_uri())
    yield page
    assert logged == []
    context.close()


def test_the_section_is_drawn(page: Page) -> None:
    pictures = "#reward .judged svg.picture use"
    widths = page.eval_on_selector_all(pictures, "uses => uses.map(use => use.getBoundingClientRect().width)")
    assert len(widths) >= 24
    assert min(widths) > 100
    fills = page.eval_on_selector_all(
        "#reward .mask path:not(.casing)", "paths => paths.map(path => getComputedStyle(path).stroke)"
    )
    assert len(set(fills)) > 1
    frame = page.locator("#reward rect.frame").first
    assert frame.evaluate("frame => getComputedStyle(frame).stroke") not in ("none", "")
    assert page.locator("#reward polyline.curve").count() == 1


def test_nothing_sticks_out_but_in_tables_that_scroll(page: Page) -> None:
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") == width
    wide = page.evaluate(
        "width => [...document.querySelectorAll('#reward *')].filter(e => e.getBoundingClientRect().right > width + 1"
        " && !e.closest('svg') && !e.closest('.scroll')).map(e => e.outerHTML.slice(0, 80))",
        width,
    )
    assert wide == []
    first = page.locator("#reward .localisation td.q4, #reward .localisation td.q0").first
    box = first.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= width

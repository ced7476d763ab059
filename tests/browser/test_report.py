"""The report in a real Chromium: it opens from a file, asks for nothing, filters, and keeps hostile text as text."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from pipeline.report import write_report
from tests.cases.hostile_run import BREAK_OUT, INSTRUCTION, SCRIPT, build_hostile_run

DESKTOP, PHONE = (1440, 900), (390, 844)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return write_report(build_hostile_run(folder), folder / "page.html")


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The report, opened; whatever it logs or asks for beyond itself fails the test at its end."""
    context = browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
    page = context.new_page()
    logged: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: logged.append(message.text))
    page.on("pageerror", lambda error: logged.append(str(error)))
    page.on("dialog", lambda dialog: logged.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    yield page
    assert logged == []
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert [url for url in asked if url.startswith("file:")] == [report.as_uri()]
    context.close()


def _shown(page: Page) -> list[str]:
    return page.eval_on_selector_all(".request:not([hidden])", "cards => cards.map(card => card.dataset.split)")


def test_every_picture_is_drawn(page: Page) -> None:
    boxes = page.eval_on_selector_all(
        ".request svg.picture use", "uses => uses.map(use => use.getBoundingClientRect().width)"
    )
    assert len(boxes) > 40
    assert min(boxes) > 40


def test_hostile_text_is_seen_and_does_nothing(page: Page) -> None:
    instruction = page.locator(".request .instruction", has_text=SCRIPT).first
    assert instruction.is_visible()
    assert instruction.inner_text().startswith(INSTRUCTION)
    assert page.get_by_text(BREAK_OUT).count() > 0
    assert page.evaluate("window.hacked") is None
    assert page.locator("script").count() == 1
    assert page.locator("img").count() == 0


def test_filters_hide_the_others_and_count(page: Page) -> None:
    every = _shown(page)
    assert set(every) == {"train", "validation", "test"}
    page.select_option("select[name=split]", "test")
    assert set(_shown(page)) == {"test"}
    count = len(_shown(page))
    assert page.locator("#shown").inner_text() == f"showing {count} of {len(every)} requests"
    page.fill("input[name=text]", "no such words anywhere")
    assert _shown(page) == []
    assert page.locator("#nothing").is_visible()
    page.get_by_role("button", name="clear").click()
    page.wait_for_function(
        "count => document.querySelectorAll('.request:not([hidden])').length === count", arg=len(every)
    )


def test_search_edit_type_source_and_defect(page: Page) -> None:
    page.fill("input[name=text]", "request 4")
    assert len(_shown(page)) == 1
    page.fill("input[name=text]", "")
    page.select_option("select[name=type]", index=1)
    chosen = page.input_value("select[name=type]")
    types = page.eval_on_selector_all(".request:not([hidden])", "cards => cards.map(card => card.dataset.type)")
    assert set(types) == {chosen}
    page.select_option("select[name=type]", index=0)
    page.select_option("select[name=origin]", "scene")
    assert 0 < len(_shown(page)) <= 5
    page.select_option("select[name=origin]", index=0)
    page.select_option("select[name=defect]", index=1)
    kind = page.input_value("select[name=defect]").replace("_", " ")
    cards = page.locator(".request:not([hidden])")
    assert cards.count() > 0
    assert all(
        kind in " ".join(cards.nth(number).locator(".defects").all_inner_texts()) for number in range(cards.count())
    )


def test_orders(page: Page) -> None:
    page.select_option("select[name=order]", "worst")
    worst = page.eval_on_selector_all(".request", "cards => cards.map(card => Number(card.dataset.worst || 2))")
    assert worst == sorted(worst)
    page.select_option("select[name=order]", "best")
    best = page.eval_on_selector_all(".request", "cards => cards.map(card => Number(card.dataset.best || -1))")
    assert best == sorted(best, reverse=True)


def test_masks_go_and_come_by_button_and_key(page: Page) -> None:
    mask = page.locator(".request .mask").first
    button = page.locator("#overlay")
    assert mask.is_visible()
    button.click()
    assert not mask.is_visible()
    assert button.get_attribute("aria-pressed") == "false"
    page.locator("h1").click()
    page.keyboard.press("o")
    assert mask.is_visible()
    page.locator("input[name=text]").press("o")
    assert mask.is_visible()


def test_pointing_at_a_region_singles_out_its_mask(page: Page) -> None:
    row = page.locator("tr[data-region='1']").first
    row.hover()
    figure = page.locator("figure.focused")
    assert figure.count() == 1
    assert figure.locator(".mask.focus").count() == 1


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_sideways_scroll(page: Page, size: tuple[int, int], scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    wide = page.evaluate(
        "width => [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > width + 1"
        " && !e.closest('svg') && getComputedStyle(e).position !== 'absolute').map(e => e.outerHTML.slice(0, 80))",
        size[0],
    )
    assert wide == []


def test_text_can_be_read_on_its_background(page: Page) -> None:
    """Contrast of at least 4.5 of the soft text, light and dark (WCAG AA)."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for selector, behind in ((".lead", "body"), (".request .quiet", ".request"), (".notice", ".notice")):
            assert _contrast(page, selector, behind) >= 4.5, (scheme, selector)


def _contrast(page: Page, selector: str, behind: str) -> float:
    ink = page.evaluate("s => getComputedStyle(document.querySelector(s)).color", selector)
    ground = page.evaluate("s => getComputedStyle(document.querySelector(s)).backgroundColor", behind)
    light, dark = sorted((_luminance(ink), _luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    levels = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

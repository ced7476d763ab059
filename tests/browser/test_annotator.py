"""An annotator in a real Chromium at a real Label Studio: rate, correct a mask with the brush, submit, read back."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page

from annotation.client import RankedImage, RankingTask, Task, TaskRegion, region_name, sent_record
from annotation.exchange import collect, send
from annotation.store import MAX_SEQ, open_store, store_path
from annotation.studio.client import open_studio
from annotation.studio.controls import RANKING, read_controls
from annotation.studio.http import StudioSettings
from annotation.studio.image_urls import Ask, LocalImages
from annotation.studio.interface import labels_config, ranking_config
from annotation.studio.items import Unreadable
from annotation.studio.project_setup import open_project
from annotation.studio.rankings import ranking_task, read_ranking
from annotation.studio.server import Studio, asker
from runtime.masks import rle_to_mask
from schemas.score import LEVEL_SCORES
from tests.cases.studio import HEIGHT_PX, WIDTH_PX, MadeUp, Mask, alpha, disc, iou, picture, task
from tests.cases.studio_cases import observed

DESKTOP = {"width": 1440, "height": 900}
SCRIPT = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
INSTRUCTION = f"Make the left ball red {SCRIPT} and remove the right one"
REGIONS = {"a" * 16: (f"left ball {SCRIPT}", disc(70, 90, 30)), "b" * 16: ("right ball", disc(180, 90, 25))}
#: Level by scale as the keys of `KEYS` enter them.
ENTERED = {
    "region_success": "3",
    "region_preserve": "1",
    "background": "4",
    "success": "2",
    "overedit": "0",
    "naturalness": "1",
    "artifacts": "3",
}
KEYS = ("4", "7", "s", "Shift+T", "Shift+D", "Shift+Z", "Shift+U", "Shift+9")
#: The brush's width on the screen when nobody changed it.
BRUSH_PX = 15


@dataclass(frozen=True)
class Project:
    """A project with one task. ask: asks the server."""

    number: int
    task: int
    ask: Ask


@pytest.fixture
def project(running_studio: Studio) -> Project:
    ask = asker(running_studio)
    made_up = MadeUp({})
    masks = [mask for _, mask in REGIONS.values()]
    images = LocalImages(made_up.read, running_studio.documents, "browser")
    number = open_project(ask, f"<b>project</b> {uuid4().hex}", images)
    source = images.url(made_up.add(picture(masks, ["#1a73e8", "#188038"])))
    edited = images.url(made_up.add(picture(masks[:1], ["#d93025"])))
    ask("POST", f"/api/projects/{number}/import", task(INSTRUCTION, REGIONS, source, edited))
    (found,) = ask("GET", f"/api/tasks/?project={number}", None)["tasks"]
    return Project(number, found["id"], ask)


@pytest.fixture
def page(browser: Browser, running_studio: Studio) -> Iterator[Page]:
    """Logged in by the form; only loopback answers; a dialog or a script of the task's text fails the test."""
    context = browser.new_context(viewport=DESKTOP)  # type: ignore[arg-type]
    page = context.new_page()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    local = (running_studio.url, "data:", "blob:")
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(local) else route.abort())
    page.goto(f"{running_studio.url}/user/login/")
    page.fill("input[name=email]", running_studio.account.user)
    page.fill("input[name=password]", running_studio.account.password)
    page.click("button[type=submit]")
    page.wait_for_function("() => !location.pathname.includes('login')")
    yield page
    assert dialogs == []
    assert page.evaluate("window.hacked") is None
    context.close()


def _open(page: Page, running: Studio, project: Project) -> None:
    """The project's task as annotators get their tasks; the guidelines are put away."""
    page.goto(f"{running.url}/projects/{project.number}/data?labeling=1")
    page.locator(".lsf-outliner-item__title").first.wait_for(timeout=60_000)
    page.get_by_label("Close modal").click()
    page.wait_for_timeout(1500)


def _image(page: Page) -> dict[str, float]:
    """Where the edited image is on the screen."""
    box = page.locator(".lsf-image").nth(1).bounding_box()
    assert box is not None
    return dict(box)


def _stroke(page: Page, begin: tuple[float, float], end: tuple[float, float]) -> Mask:
    """Drags the mouse between two places (shares of the image) and returns what the brush should cover, HW."""
    box = _image(page)
    (x1, y1), (x2, y2) = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (begin, end)]
    page.mouse.move(x1, y1)
    page.mouse.down()
    page.mouse.move(x2, y2, steps=12)
    page.mouse.up()
    page.wait_for_timeout(500)
    scale, fine = WIDTH_PX / box["width"], 8
    image = Image.new("1", (WIDTH_PX * fine, HEIGHT_PX * fine))
    draw, radius = ImageDraw.Draw(image), BRUSH_PX / 2 * scale * fine
    ends = [(x * WIDTH_PX * fine, y * HEIGHT_PX * fine) for x, y in (begin, end)]
    draw.line(ends, fill=1, width=round(2 * radius))
    for x, y in ends:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    return np.asarray(image).reshape(HEIGHT_PX, fine, WIDTH_PX, fine).mean(axis=(1, 3)) >= 0.5


def _submit(page: Page, project: Project) -> list[dict[str, Any]]:
    """Submits and returns what the server stored."""
    path = f"/api/tasks/{project.task}/annotations"
    with page.expect_response(lambda answer: path in answer.url and answer.request.method == "POST") as sent:
        page.get_by_test_id("bottombar-submit-button").click()
    assert sent.value.ok
    (annotation,) = project.ask("GET", f"/api/tasks/{project.task}/annotations/", None)
    return list(annotation["result"])


def _choices(result: list[dict[str, Any]]) -> dict[str, str]:
    return {item["from_name"]: ",".join(item["value"]["choices"]) for item in result if item["type"] == "choices"}


def test_everything_is_on_one_page_and_no_image_is_cut_off(
    page: Page, running_studio: Studio, project: Project
) -> None:
    _open(page, running_studio, project)
    page.locator(".lsf-outliner-item__title").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == DESKTOP["width"]
    wide = page.evaluate(
        "width => [...document.querySelectorAll('.lsf-main-view *, .lsf-choices, .lsf-labels')]"
        ".filter(e => e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 80))",
        DESKTOP["width"],
    )
    assert wide == []
    for name in (*ENTERED, "region_issues", "cannot_judge"):
        assert page.evaluate("name => Htx.annotationStore.selected.names.get(name).isVisible !== false", name), name
    radios = page.locator(".lsf-choices:visible input[type=radio]")
    assert radios.count() == 7 * 5
    for number in range(radios.count()):
        box = radios.nth(number).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < DESKTOP["height"] - 40
    shown = page.eval_on_selector_all(
        ".lsf-image", "all => all.map(e => [e, e.querySelector('img')].map(x => x.getBoundingClientRect().width))"
    )
    assert len(shown) == 2
    for frame, image in shown:
        assert frame > 400
        assert image <= frame + 2


def test_text_of_the_task_stays_text(page: Page, running_studio: Studio, project: Project) -> None:
    _open(page, running_studio, project)
    assert page.get_by_text(INSTRUCTION).first.is_visible()
    names = page.locator(".lsf-outliner-item__title").all_inner_texts()
    assert [name.replace("\n", " ") for name in names] == [
        region_name(index, label) for index, (label, _) in enumerate(REGIONS.values())
    ]
    assert page.locator("img[src=x]").count() == 0


def test_numbers_and_the_brushed_mask_come_back(page: Page, running_studio: Studio, project: Project) -> None:
    _open(page, running_studio, project)
    page.locator(".lsf-outliner-item__title").first.click()
    for key in KEYS:
        page.keyboard.press(key)
    page.keyboard.press("b")
    stroke = _stroke(page, (0.2, 0.85), (0.7, 0.85))
    page.get_by_placeholder("Comment, if any").fill("a <b>comment</b>")
    result = _submit(page, project)
    assert _choices(result) == {**ENTERED, "region_issues": "spill"}
    assert next(item["value"]["text"] for item in result if item["from_name"] == "comment") == ["a <b>comment</b>"]
    masks = {item["id"]: item for item in result if item["from_name"] == "mask"}
    assert list(masks) == list(REGIONS)
    corrected, before = alpha(masks["a" * 16]) >= 128, REGIONS["a" * 16][1]
    assert (corrected & before).sum() == before.sum()
    assert iou(corrected & ~before, stroke & ~before) >= 0.9
    assert np.array_equal(alpha(masks["b" * 16]) > 0, REGIONS["b" * 16][1])


def test_from_push_to_collect(
    page: Page, running_studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that was pushed is rated and corrected in the browser; collected, it says what was entered and drawn."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", running_studio.account.token)
    ask, made_up = asker(running_studio), MadeUp({})
    images = LocalImages(made_up.read, running_studio.documents, "push")
    number = open_project(ask, f"push {uuid4().hex}", images)
    masks = [mask for _, mask in REGIONS.values()]
    pushed = Task(
        candidate="c" * 16,
        index=0,
        instruction=INSTRUCTION,
        sources=(made_up.add(picture(masks, ["#1a73e8", "#188038"])),),
        edited=made_up.add(picture(masks[:1], ["#d93025"])),
        size_hw=(HEIGHT_PX, WIDTH_PX),
        regions=tuple(
            TaskRegion(label=label, role="change", mask=observed("c" * 16, key, mask))
            for key, (label, mask) in REGIONS.items()
        ),
    )
    settings = StudioSettings(url=running_studio.url, project=number)
    with open_store(store_path(tmp_path), create=True) as store:
        client = open_studio(settings, store, labels_config(), images.url)
        assert send(client, store, [pushed]).new == 1
        project = Project(number, int(store.tasks(client.project)["c" * 16]), ask)
        _open(page, running_studio, project)
        page.locator(".lsf-outliner-item__title").first.click()
        for key in KEYS:
            page.keyboard.press(key)
        page.keyboard.press("b")
        stroke = _stroke(page, (0.2, 0.85), (0.7, 0.85))
        stored = {item["id"]: item for item in _submit(page, project) if item["from_name"] == "mask"}
        assert collect(client, store).annotations == 1
        (found,) = store.annotations("c" * 16, MAX_SEQ)
    points = {name: LEVEL_SCORES[int(level)] for name, level in ENTERED.items()}
    first, second = found.scores.regions
    assert (first.success, first.preserve) == (points["region_success"], points["region_preserve"])
    assert first.issues == ("spill",)
    assert (second.success, second.preserve) == (None, None)
    image = ("background", "success", "overedit", "naturalness", "artifacts")
    assert {name: getattr(found.scores, name) for name in image} == {name: points[name] for name in image}
    collected = {mask.region: rle_to_mask(mask.mask) for mask in found.masks}
    for region in REGIONS:
        assert np.array_equal(collected[region], alpha(stored[region]) >= 128)
    before = REGIONS["a" * 16][1]
    assert iou(collected["a" * 16] & ~before, stroke & ~before) >= 0.9


def test_a_new_region_and_an_erased_one(page: Page, running_studio: Studio, project: Project) -> None:
    _open(page, running_studio, project)
    for key in KEYS[3:]:
        page.keyboard.press(key)
    page.keyboard.press("n")
    stroke = _stroke(page, (0.3, 0.15), (0.8, 0.15))
    page.keyboard.press("Escape")
    page.locator(".lsf-outliner-item__title").nth(1).click()
    page.keyboard.press("e")
    gone = _stroke(page, (0.55, 90 / HEIGHT_PX), (0.85, 90 / HEIGHT_PX))
    masks = [item for item in _submit(page, project) if item["from_name"] == "mask"]
    new = next(item for item in masks if item["value"]["brushlabels"] == ["new region"])
    assert new["id"] not in REGIONS
    assert iou(alpha(new) >= 128, stroke) >= 0.9
    erased = next(item for item in masks if item["id"] == "b" * 16)
    left = REGIONS["b" * 16][1] & ~gone
    assert iou(alpha(erased) >= 128, left) >= 0.9
    assert (alpha(erased) >= 128).sum() < 0.95 * REGIONS["b" * 16][1].sum()


def test_nothing_goes_out_half_rated_unless_it_cannot_be_judged(
    page: Page, running_studio: Studio, project: Project
) -> None:
    _open(page, running_studio, project)
    page.get_by_test_id("bottombar-submit-button").click()
    page.get_by_text("Answer all five questions on the whole image").wait_for(timeout=10_000)
    page.keyboard.press("Escape")
    page.locator(".ant-modal").wait_for(state="hidden")
    page.keyboard.press("j")
    assert _choices(_submit(page, project)) == {"cannot_judge": "cannot judge"}


RED, BLUE, YELLOW = ("a" * 16, "b" * 16, "c" * 16)
COLOURS = {RED: "#d93025", BLUE: "#1a73e8", YELLOW: "#e69f00"}


def _ranking_project(running: Studio, title: str) -> tuple[Project, RankingTask]:
    """A project with one request of three candidates to rank, as a push sends it."""
    ask, made_up = asker(running), MadeUp({})
    balls = [mask for _, mask in REGIONS.values()]
    images = LocalImages(made_up.read, running.documents, "browser")
    number = open_project(ask, title, images, "ranking")
    edited = [
        RankedImage(candidate=one, edited=made_up.add(picture(balls, [colour, "#188038"])))
        for one, colour in COLOURS.items()
    ]
    source = made_up.add(picture(balls, ["#9aa0a6", "#188038"]))
    asked = RankingTask(request="f" * 16, instruction=INSTRUCTION, sources=(source,), candidates=tuple(edited))
    task = ranking_task(asked, images.url(source), [images.url(one.edited) for one in edited])
    ask("POST", f"/api/projects/{number}/import", [task])
    (found,) = ask("GET", f"/api/tasks/?project={number}", None)["tasks"]
    return Project(number, found["id"], ask), asked


def _rank_on_top(page: Page, candidate: str) -> None:
    """Drags a candidate to the top of the ranked ones."""
    item = page.locator(f".htx-ranker-item[data-ranker-id='{candidate}']").bounding_box()
    ranked = page.locator(".htx-ranker-column").nth(1).bounding_box()
    assert item is not None
    assert ranked is not None
    x, y = item["x"] + item["width"] / 2, item["y"] + item["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 3, y + 8, steps=3)
    page.mouse.move(ranked["x"] + ranked["width"] / 2, ranked["y"] + 70, steps=15)
    page.wait_for_timeout(300)
    page.mouse.up()
    page.wait_for_timeout(700)


@pytest.mark.parametrize("dragged", [(RED, YELLOW, BLUE), (RED, BLUE)], ids=["all", "not all"])
def test_what_was_dragged_into_order_is_the_ranking(
    page: Page, running_studio: Studio, dragged: tuple[str, ...]
) -> None:
    project, asked = _ranking_project(running_studio, f"ranking {uuid4().hex}")
    page.goto(f"{running_studio.url}/projects/{project.number}/data?labeling=1")
    page.locator(".htx-ranker-column").first.wait_for(timeout=60_000)
    page.get_by_label("Close modal").click()
    page.wait_for_timeout(1500)
    widths = page.eval_on_selector_all(".htx-ranker-item img", "all => all.map(image => image.naturalWidth)")
    assert widths == [WIDTH_PX] * 3
    for candidate in dragged:
        _rank_on_top(page, candidate)
    _submit(page, project)
    (raw,) = project.ask("GET", f"/api/tasks/{project.task}/annotations/", None)
    controls = read_controls(ranking_config(), RANKING, RANKING)
    arguments = (sent_record(asked), str(project.task), "p", controls, "person:x")
    if len(dragged) == len(COLOURS):
        assert read_ranking(raw, *arguments)[0].candidates == tuple(reversed(dragged))
    else:
        with pytest.raises(Unreadable, match="1 of 3 candidates"):
            read_ranking(raw, *arguments)

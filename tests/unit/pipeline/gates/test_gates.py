"""Gates: each drops what it is for, keeps what it must, and says by which measure."""

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from pipeline.gates import measures as gates
from pipeline.gates.measures import GateResult, GateSettings
from pipeline.regions.difference import changed_mask, compare
from pipeline.regions.framing import frame
from pipeline.requests.scenes import render_scene
from runtime.images import ImageU8, box_mask
from runtime.masks import MaskBool
from schemas.sample import PixelMeasures

SIDE = 160
EDIT = box_mask((50, 60, 100, 110), SIDE, SIDE)
NOTHING = np.zeros((SIDE, SIDE), dtype=np.bool_)


@pytest.fixture(scope="module", params=["photograph", "scene"])
def source(request: pytest.FixtureRequest) -> ImageU8:
    if request.param == "scene":
        return render_scene(11, 2, SIDE).image_hwc_u8
    return np.array(Image.fromarray(data.astronaut()).resize((SIDE, SIDE)))


def edited_of(image: ImageU8) -> ImageU8:
    edited = image.copy()
    edited[EDIT] = 255 - edited[EDIT]
    return edited


def noisy(image: ImageU8, sigma: float, where: MaskBool | None = None) -> ImageU8:
    grain = np.random.default_rng(1).normal(0, sigma, image.shape)
    return np.clip(image + grain * (1 if where is None else where[..., None]), 0, 255).astype(np.uint8)


def jpeg(image: ImageU8, quality: int) -> ImageU8:
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1].copy()


def looked_at(source: ImageU8, edited: ImageU8, explained: MaskBool = NOTHING) -> PixelMeasures:
    pair = compare(source, frame(source, edited).image)
    return gates.measure(edited, pair, changed_mask(pair), explained)


def test_size_is_that_of_the_shortest_side() -> None:
    assert gates.size(640, 64) == GateResult("size", 64.0, 64.0, True, "640 x 64 px")
    assert not gates.size(63, 640).passed


def test_aspect_is_longest_over_shortest() -> None:
    assert gates.aspect(100, 400).passed
    assert gates.aspect(401, 100).value == 4.01
    assert not gates.aspect(401, 100).passed


def test_size_and_aspect_names_the_first_that_fails() -> None:
    assert gates.size_and_aspect(40, 400).gate == "size"
    assert gates.size_and_aspect(100, 500).gate == "aspect"
    assert gates.size_and_aspect(256, 256).passed


def test_a_candidate_shows_its_source_and_near_its_place() -> None:
    assert gates.aligned(None, 0.0).passed
    assert gates.aligned(0.5, 0.0).passed
    assert gates.aligned(0.02, 0.95).passed
    other = gates.aligned(0.02, 0.3)
    assert (other.gate, other.passed) == ("not_aligned", False)
    assert gates.aligned(0.0, -0.3, GateSettings(min_agreement=0)).passed
    assert gates.misaligned(0.12).passed
    assert (gates.misaligned(0.3).gate, gates.misaligned(0.3).passed) == ("misaligned", False)


def test_one_colour_is_blank_and_a_faded_image_is_not(source: ImageU8) -> None:
    assert not gates.blank(np.full((64, 64, 3), (10, 200, 90), np.uint8)).passed
    assert not gates.blank(noisy(np.full((64, 64, 3), 128, np.uint8), 1.0)).passed
    assert gates.blank((source * 0.15 + 100).astype(np.uint8)).passed


def test_the_source_again_is_unchanged(source: ImageU8) -> None:
    for copy in (source.copy(), jpeg(source, 85), np.roll(source, 1, axis=1)):
        assert not gates.unchanged(looked_at(source, copy)).passed
    assert gates.unchanged(looked_at(source, source.copy())).value == pytest.approx(0, abs=1e-6)


def test_an_edit_a_drift_or_noise_is_a_change(source: ImageU8) -> None:
    drifted = np.clip(source + np.array([8.0, 0.0, -8.0]), 0, 255).astype(np.uint8)
    for candidate in (edited_of(source), drifted, noisy(source, 15)):
        assert gates.unchanged(looked_at(source, candidate)).passed


def test_another_image_is_changed_all_over_and_an_edit_is_not(source: ImageU8) -> None:
    other = np.array(Image.fromarray(data.coffee()).resize((SIDE, SIDE)))
    assert not gates.changed_all_over(looked_at(source, other, EDIT)).passed
    assert gates.changed_all_over(looked_at(source, edited_of(source), EDIT)).passed


def test_an_edit_that_nobody_planned_counts_by_its_area(source: ImageU8) -> None:
    half = box_mask((0, 0, SIDE, SIDE // 2), SIDE, SIDE)
    painted = source.copy()
    painted[half] = (255, 0, 255)
    result = gates.changed_all_over(looked_at(source, painted, NOTHING))
    assert not result.passed
    assert 0.3 < result.value < 0.6
    assert gates.changed_all_over(looked_at(source, painted, half)).passed


def test_a_global_edit_has_nothing_to_preserve(source: ImageU8) -> None:
    negative = 255 - source
    assert gates.changed_all_over(looked_at(source, negative, ~NOTHING)).passed
    assert gates.preservation(looked_at(source, negative, ~NOTHING)).passed
    assert not gates.preservation(looked_at(source, negative, EDIT)).passed


def test_preservation_measures_levels_outside_the_regions() -> None:
    grey = np.full((SIDE, SIDE, 3), 100, np.uint8)
    grey[::2] = 104
    lighter = grey + 30
    lighter[EDIT] = 255
    result = gates.preservation(looked_at(grey, lighter, EDIT))
    assert result.value == pytest.approx(30, abs=0.5)
    assert result.passed
    assert not gates.preservation(looked_at(grey, lighter, EDIT), GateSettings(max_preservation_error=29)).passed


def test_moderate_drift_and_noise_are_kept(source: ImageU8) -> None:
    darker = np.clip(source * 0.85, 0, 255).astype(np.uint8)
    for candidate in (darker, noisy(source, 25)):
        found = looked_at(source, candidate)
        assert gates.preservation(found).passed
        assert gates.changed_all_over(found).passed


def test_the_second_of_two_equal_candidates_is_dropped(source: ImageU8) -> None:
    edited = edited_of(source)
    results = gates.near_duplicates([edited, jpeg(edited, 90), source, edited.copy()])
    assert [result.passed for result in results] == [True, False, True, False]
    assert all(result.gate == "near_duplicate" for result in results)


def test_candidates_that_differ_in_quality_are_both_kept(source: ImageU8) -> None:
    edited = edited_of(source)
    half_done = edited.copy()
    half_done[:, 75:] = source[:, 75:]
    assert all(result.passed for result in gates.near_duplicates([edited, half_done, noisy(edited, 15)]))


def test_candidates_of_different_sizes_are_no_duplicates(source: ImageU8) -> None:
    assert all(result.passed for result in gates.near_duplicates([source, source[:-2]]))
    assert gates.near_duplicates([]) == ()


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        GateSettings(min_side_px=0)


def test_candidates_that_lie_far_apart_are_not_compared(source: ImageU8, monkeypatch: pytest.MonkeyPatch) -> None:
    other = edited_of(source)
    in_full = gates._difference(source, other, GateSettings())
    assert in_full > 1
    monkeypatch.setattr(gates, "compare", None)
    first, second = gates.near_duplicates([source, other])
    assert (first.passed, second.passed) == (True, True)
    assert second.value > 1
    with pytest.raises(TypeError):
        gates.near_duplicates([source, jpeg(source, 90)])  # these are near

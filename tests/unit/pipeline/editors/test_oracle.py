"""The two oracles: clean is full marks, every defect costs what the table says, more costs more, and they agree."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from pipeline.editors.defects import DEFECT_KINDS
from pipeline.editors.oracle import LOWERS, construction_score, pixel_oracle
from pipeline.editors.procedural import ProceduralEditor
from runtime.images import decode_image, encode_image
from schemas.candidate import Defect
from schemas.region import region_id
from schemas.score import phi
from tests.cases.editor_cases import (
    block,
    block_target,
    candidate_of,
    disc_target,
    picture,
    request_of,
    scene_request_of,
)

REQUEST = request_of((disc_target(parameters={"color": "blue"}), block_target("replace", parameters={
    "shape": "star", "color": "red"})), [picture()])  # fmt: skip
EDITOR = ProceduralEditor()
IMAGE_DIMENSIONS = ("background", "success", "overedit", "naturalness", "artifacts")


def seen(image, request=REQUEST, source=None):
    source = picture() if source is None else source
    wanted, masks = EDITOR.wanted(request, [source]), EDITOR.region_masks(request, [source])
    return pixel_oracle(source, wanted, image, masks, candidate_id="0" * 16)


def rendered(*defects, request=REQUEST, source=None):
    source = picture() if source is None else source
    return EDITOR.render(request, [source], 1, defects)


def built(edit, request=REQUEST):
    return construction_score(request, candidate_of(request, edit))


def value(score, dimension, target):
    if target is not None and dimension in ("success", "preserve"):
        return getattr(score.regions[target], dimension)
    return getattr(score, dimension)


def all_scores(score):
    regions = [value for region in score.regions for value in (region.success, region.preserve)]
    return regions + [getattr(score, name) for name in IMAGE_DIMENSIONS]


def test_a_clean_edit_has_full_marks_from_both():
    edit = rendered()
    assert set(all_scores(built(edit))) == {25}
    assert set(all_scores(seen(edit.image))) == {25}
    assert [r.region for r in built(edit).regions] == [region_id(REQUEST.id, 0), region_id(REQUEST.id, 1)]
    assert [r.region for r in seen(edit.image).regions] == [r.region for r in built(edit).regions]


def test_the_source_itself_has_no_success_but_a_whole_background():
    score = seen(picture())
    assert [region.success for region in score.regions] == [0, 0]
    assert score.success == 0
    assert score.background == 25
    assert score.overedit == 25


def test_codec_noise_costs_next_to_nothing():
    wanted = rendered().image
    jitter = np.random.default_rng(0).integers(-2, 3, wanted.shape)
    shaken = np.clip(wanted + jitter, 0, 255).astype(np.uint8)
    assert min(all_scores(seen(shaken))) >= 22
    for scene in range(3):
        request, source = scene_request_of(scene)
        image = EDITOR.wanted(request, [source])
        coded = decode_image(encode_image(image, "jpeg"))
        assert min(all_scores(seen(coded, request, source))) >= 22


def test_every_kind_is_in_the_table():
    assert {kind for kind, _ in LOWERS} == set(DEFECT_KINDS)
    with pytest.raises(ValueError, match="says nothing"):
        construction_score(REQUEST, candidate_of(REQUEST, rendered()).model_copy(update={"edits": ()}))


@pytest.mark.parametrize(("kind", "in_region"), LOWERS)
def test_construction_lowers_exactly_what_the_table_says_and_more_with_strength(kind, in_region):
    target = 1 if in_region else None
    scores = [built(rendered(Defect(kind=kind, target=target, strength=s))) for s in (0.2, 0.6, 1.0)]
    for dimension in LOWERS[kind, in_region]:
        weak, middle, strong = (value(score, dimension, target) for score in scores)
        assert 25 >= weak >= middle >= strong
        assert strong < 25
    untouched = set(IMAGE_DIMENSIONS) - set(LOWERS[kind, in_region])
    assert all(getattr(scores[2], name) == 25 for name in untouched - {"success"})
    assert (scores[2].regions[0].success, scores[2].regions[0].preserve) == (25, 25)


@pytest.mark.parametrize(("kind", "in_region"), LOWERS)
def test_pixels_show_what_construction_knows(kind, in_region):
    """Each dimension that loses a third or more at full strength is seen to fall, and to fall further with strength."""
    target = 0 if in_region else None
    images = [rendered(Defect(kind=kind, target=target, strength=s)).image for s in (0.3, 1.0)]
    weak, strong = (seen(image) for image in images)
    for dimension, lowers in LOWERS[kind, in_region].items():
        if lowers.at_full >= 0.35:
            assert value(strong, dimension, target) < 22
            assert value(strong, dimension, target) <= value(weak, dimension, target)
    other = strong.regions[1]
    assert min(other.success, other.preserve) >= 23


def test_one_regions_defect_lowers_that_region_alone():
    for target in (0, 1):
        score = seen(rendered(Defect(kind="missed", target=target, strength=0.8)).image)
        assert phi(score.regions[target]) <= 8
        assert phi(score.regions[1 - target]) == 25
        mean = (25 + score.regions[target].success) / 2
        assert abs(score.success - mean) <= 1  # the image's score is rounded by itself


def test_a_faint_edit_is_charged_to_success_alone():
    request = request_of((block_target("texture", parameters={"texture": "checker"}),), [picture()])
    score = seen(rendered(Defect(kind="missed", target=0, strength=0.5), request=request).image, request)
    assert 11 <= score.regions[0].success <= 14  # half the way, up to the strokes that the pattern's phase cuts
    assert min(score.regions[0].preserve, score.artifacts, score.naturalness, score.overedit) == 25


def test_a_thin_leak_is_no_seam():
    leak, line = (seen(rendered(Defect(kind=k, target=0, strength=0.2)).image) for k in ("spill", "seam"))
    assert leak.artifacts >= 20
    assert line.artifacts <= 18
    assert leak.overedit < line.overedit


def test_any_image_at_all_can_be_scored():
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, picture().shape).astype(np.uint8)
    score = seen(noise)
    assert max(score.background, score.artifacts, *(phi(r) for r in score.regions)) <= 3
    assert seen(np.zeros_like(picture())).background == 0


def test_an_edit_that_changes_nothing_is_scored_by_staying_near():
    request = request_of((block_target("relight", parameters={"gain": 1.0}),), [picture()])
    assert seen(picture(), request).regions[0].success == 25
    spoilt = picture()
    spoilt[block()] = 255 - spoilt[block()]
    assert seen(spoilt, request).regions[0].success < 5


def test_sizes_must_agree_and_a_mask_is_needed():
    image = picture()
    with pytest.raises(ValueError, match="same height and width"):
        pixel_oracle(image, image, image[:-1], {"extra-0": block()}, candidate_id="0" * 16)
    with pytest.raises(ValueError, match="no mask"):
        pixel_oracle(image, image, image, {}, candidate_id="0" * 16)


def test_a_mask_over_everything_leaves_the_background_whole():
    everything = np.ones(block().shape, dtype=np.bool_)
    image = picture()
    score = pixel_oracle(image, 255 - image, 255 - image, {"extra-0": everything}, candidate_id="0" * 16)
    assert (score.background, score.regions[0].success, score.regions[0].preserve) == (25, 25, 25)


def test_the_two_oracles_agree_on_scenes():
    """The full measurement with its many parts is `python -m benchmarks.oracle`; this is a small one."""
    pairs = []
    for index in range(8):
        request, source = scene_request_of(index, 96, seed=4_242)
        for number in range(4):
            edit = EDITOR.edit(request, [source], number, number)
            known, found = built(edit, request), seen(edit.image, request, source)
            pairs += [(phi(a), phi(b)) for a, b in zip(known.regions, found.regions, strict=True)]
            pairs.append((known.background, found.background))
    assert spearmanr(*zip(*pairs, strict=True)).statistic >= 0.9

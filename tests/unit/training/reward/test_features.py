"""What the network is shown: places, measures, sizes."""

import numpy as np
import pytest

from schemas.errors import BadInput
from training.reward.features import (
    DETAILS,
    PLACES,
    detail_maps,
    features_of,
    geometry,
    measured,
    places_of,
    structure_lost,
)
from training.reward_protocol import RewardQuery

SIDE = 64


def square(x1: int, y1: int, x2: int, y2: int, side: int = SIDE) -> np.ndarray:
    mask = np.zeros((side, side), dtype=np.bool_)
    mask[y1:y2, x1:x2] = True
    return mask


def query(**changes: object) -> RewardQuery:
    rng = np.random.default_rng(0)
    source = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    fields = {
        "source": source,
        "edited": source.copy(),
        "instruction": "Blur it.",
        "masks": {"a": square(8, 8, 24, 24)},
    }
    return RewardQuery(**(fields | changes))  # type: ignore[arg-type]


def test_places_lie_where_they_say() -> None:
    valid = np.ones((SIDE, SIDE), dtype=np.bool_)
    inside, core, rim, around, near = places_of(square(20, 20, 40, 40), valid)
    assert inside.sum() == 400
    assert core.sum() == 14 * 14
    assert rim.sum() == 400 - 14 * 14
    assert around.sum() == 26 * 26 - 400
    assert near.sum() == 38 * 38 - 26 * 26
    assert not (inside & around).any()
    assert not (around & near).any()


def test_places_end_where_the_image_does() -> None:
    valid = np.ones((SIDE, SIDE), dtype=np.bool_)
    valid[:, 40:] = False
    *_, around, near = places_of(square(20, 20, 40, 40), valid)
    assert not (around | near)[:, 40:].any()


def test_measures_are_means_and_spreads_by_hand() -> None:
    details = np.zeros((2, 2, 1), dtype=np.float32)
    details[0, :, 0] = (1, 3)
    places = np.array([[[[True, True], [False, False]], [[False, False], [False, False]]]])
    means, spreads = measured(details, places)
    assert means[0, :, 0].tolist() == [2, 0]
    assert spreads[0, :, 0].tolist() == [1, 0]


def test_a_pixels_noise_is_seen_where_it_is_and_nowhere_else() -> None:
    flat = np.full((SIDE, SIDE, 3), 120, dtype=np.uint8)
    noisy = flat.copy()
    noisy[8:24, 8:24] += np.random.default_rng(1).integers(0, 20, (16, 16, 3), dtype=np.uint8)
    features = features_of(
        query(source=flat, edited=noisy, masks={"a": square(8, 8, 24, 24), "b": square(40, 40, 56, 56)}), SIDE
    )
    differs = features.means[:, 0, 11]
    assert differs[0] > 0.02
    assert differs[1] == 0


def test_rows_are_the_regions_and_the_background_they_leave() -> None:
    masks = {"a": square(0, 0, 32, 32), "extra-0": square(40, 40, 48, 48)}
    features = features_of(query(masks=masks), SIDE)
    assert features.places.shape == (3, PLACES, SIDE // 4, SIDE // 4)
    assert features.means.shape == features.spreads.shape == (3, PLACES, DETAILS)
    background = features.places[2, 0].astype(float)
    assert background[:8, :8].sum() == 0
    assert background[10:12, 10:12].min() == 1, "what nobody planned belongs to the background"


def test_a_view_without_the_source_holds_no_trace_of_it() -> None:
    first = features_of(query(source=np.zeros((SIDE, SIDE, 3), dtype=np.uint8)), SIDE, use_source=False)
    second = features_of(query(), SIDE, use_source=False)
    for name in ("source", "edited", "maps", "places", "means", "spreads", "geometry"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name


def test_a_large_image_is_scaled_and_a_tiny_mask_survives() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    mask = np.zeros((300, 400), dtype=np.bool_)
    mask[100, 200] = True
    features = features_of(RewardQuery(image, image, "Blur it.", {"a": mask}), SIDE)
    assert features.edited.shape == (SIDE, SIDE, 3)
    assert features.edited[48:].max() == 0
    assert features.places[0, 0].astype(float).sum() > 0
    assert features.places[:, :, 12:].max() == 0


@pytest.mark.parametrize(
    ("changes", "thing"),
    [
        ({"masks": {"a": square(0, 0, 4, 4, side=32)}}, "mask of region a"),
        ({"masks": {"a": np.zeros((SIDE, SIDE), dtype=np.uint8)}}, "mask of region a"),
        ({"source": np.zeros((32, 32, 3), dtype=np.uint8)}, "source image"),
        ({"edited": np.zeros((SIDE, SIDE), dtype=np.uint8)}, "edited image"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, object], thing: str) -> None:
    with pytest.raises(BadInput) as error:
        features_of(query(**changes), SIDE)
    assert error.value.thing == thing


def test_geometry_by_hand() -> None:
    x, y, *_, area, _ = geometry(square(32, 0, 64, 64))
    assert x == pytest.approx(0.5)
    assert y == pytest.approx(0)
    assert area == pytest.approx(0.5**0.5)
    assert geometry(square(0, 0, 0, 0)).tolist() == [0] * 6


def test_details_are_signed_and_scaled_as_they_say() -> None:
    source, edited = np.zeros((8, 8, 3), dtype=np.uint8), np.full((8, 8, 3), 51, dtype=np.uint8)
    details = detail_maps(source, edited, np.ones((8, 8), dtype=np.bool_))
    assert details[4, 4, 6:9] == pytest.approx(0.2, abs=1e-6)
    assert details[4, 4, 20] == pytest.approx(0.8, abs=1e-5)
    assert detail_maps(edited, source, np.ones((8, 8), dtype=np.bool_))[4, 4, 20] == pytest.approx(-0.8, abs=1e-5)


def test_structure_is_lost_by_bending_and_noise_and_not_by_light() -> None:
    ys, xs = np.mgrid[0:32, 0:32].astype(np.float32)
    image = (0.5 + 0.3 * np.sin(xs / 2) * np.sin(ys / 2)).astype(np.float32)
    kept = structure_lost(image, 0.4 * image + 0.3)
    bent = structure_lost(image, np.roll(image, 3, axis=1))
    assert kept[8:24, 8:24].mean() < 0.01
    assert bent[8:24, 8:24].mean() > 0.3
    assert structure_lost(image, 1 - image)[8:24, 8:24].mean() > 0.99

"""What is computed about a mask alone, in place or from counts is what the plain formula gives, bit for bit."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage

from pipeline.gates.measures import _percentile
from pipeline.regions.difference import _outside_range, norm
from pipeline.regions.fuse import DEFAULT, _extras, _filled, _owners, _Place
from pipeline.regions.registration import Float32, local_contrast
from runtime.images import box_mask
from runtime.masks import MaskBool, mask_to_rle, rle_to_mask
from schemas.region import PlannedRegion

SEEDS = range(6)


def blobs(rng: np.random.Generator, height: int, width: int, level: float = 0.7) -> MaskBool:
    """Islands of all sizes, some at the border."""
    smooth = cv2.GaussianBlur(rng.random((height, width)).astype(np.float32), (0, 0), 2.0)
    return np.asarray(smooth > np.quantile(smooth, level))


def picture(rng: np.random.Generator, height: int, width: int) -> Float32:
    return cv2.GaussianBlur(rng.random((height, width)).astype(np.float32) * 255, (0, 0), 1.5)


@pytest.mark.parametrize("seed", SEEDS)
def test_gaps_are_closed_as_over_the_whole_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for radius_px in (1.0, 3.0, 8.0):
        mask = blobs(rng, 50, 70) & box_mask((int(rng.integers(0, 30)), 3, 62, int(rng.integers(20, 50))), 50, 70)
        side = 2 * round(radius_px) + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        whole = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel).astype(np.bool_)
        assert np.array_equal(_filled(mask, radius_px), whole)
    assert not _filled(np.zeros((9, 9), dtype=np.bool_), 2.0).any()


def place_of(core: MaskBool, reach: MaskBool) -> _Place:
    region = PlannedRegion(id="0" * 16, target=0, label="a", role="change", box=(0, 0, 1, 1))
    return _Place(region, core, None, reach | core, whole=False)


@pytest.mark.parametrize("seed", SEEDS)
def test_pixels_are_owned_as_by_distances_over_the_whole_image(seed: int) -> None:
    rng, shape = np.random.default_rng(seed), (60, 80)
    places = [place_of(box_mask((70, 50, 75, 55), *shape), box_mask((69, 49, 80, 60), *shape))]  # alone, mostly
    for _ in range(4):
        left, top = (int(value) for value in rng.integers(0, 40, 2))
        box = box_mask((left, top, left + 30, top + 25), *shape)
        places.append(place_of(blobs(rng, *shape) & box, box_mask((left, top, left + 38, top + 30), *shape)))
    owner, nearest = np.full(shape, -1, dtype=np.int32), np.full(shape, np.inf)
    for index, place in enumerate(places):
        distance = ndimage.distance_transform_edt(~place.core)
        closer = place.reach & (distance < nearest)
        owner[closer], nearest[closer] = index, distance[closer]
    assert np.array_equal(_owners(places, range(5), shape), owner)


@pytest.mark.parametrize("seed", SEEDS)
def test_unplanned_changes_come_biggest_first_and_those_of_one_size_from_top_left(seed: int) -> None:
    rng = np.random.default_rng(seed)
    left = blobs(rng, 64, 96, 0.8)
    for x, y in rng.integers(0, 60, (6, 2)):
        left[y : y + 2, x : x + 3] = True
    labels, count = ndimage.label(left, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel())
    order = sorted(range(1, count + 1), key=lambda label: (-areas[label], label))
    kept = [label for label in order if areas[label] >= DEFAULT.min_extra_share * left.size][: DEFAULT.max_extras]
    found = _extras("c" * 16, left, left, DEFAULT)
    assert [one.area_px for one in found] == [areas[label] for label in kept]
    assert all(np.array_equal(rle_to_mask(one.mask), labels == label) for one, label in zip(found, kept, strict=True))


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (64, 64), (33, 128)])
def test_percentiles_are_those_of_the_sorted_levels(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[1])
    for levels in (256, 3):
        image = rng.integers(0, levels, (*shape, 3)).astype(np.uint8)
        for share in (0.01, 0.5, 0.99):
            plain = np.percentile(image.reshape(-1, 3), 100 * share, axis=0)
            assert [_percentile(image, channel, share) for channel in range(3)] == plain.tolist()


def test_what_is_computed_in_place_is_what_new_arrays_would_hold() -> None:
    rng = np.random.default_rng(1)
    one, other = picture(rng, 40, 56), picture(rng, 40, 56)
    kernel, share = np.ones((3, 3), dtype=np.uint8), 0.34
    low, high = other + share * (cv2.erode(other, kernel) - other), other + share * (cv2.dilate(other, kernel) - other)
    plain = np.maximum(np.maximum(low - one, one - high), 0)
    assert np.array_equal(_outside_range(one, other, share), plain)
    mean, squares = (
        cv2.GaussianBlur(values, (0, 0), 1.0, borderType=cv2.BORDER_REFLECT_101) for values in (one, one * one)
    )
    assert np.array_equal(local_contrast(one, 1.0), np.sqrt(np.maximum(squares - mean * mean, 0)))
    colours = np.stack([one, other, one], axis=2)
    assert np.array_equal(norm(colours), np.sqrt(np.einsum("hwc,hwc->hw", colours, colours)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (33, 20), (64, 64)])
def test_a_mask_is_encoded_as_its_columns(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(3).random(shape) > 0.5
    for given in (mask, mask[::-1, ::-1], np.asfortranarray(mask)):
        plain = coco_mask.encode(np.asfortranarray(given, dtype=np.uint8))["counts"].decode()
        assert mask_to_rle(given).counts == plain


def test_pixels_as_near_to_two_targets_are_the_firsts_wherever_masks_lie_in_memory() -> None:
    rng, shape, found, kept = np.random.default_rng(0), (41, 61), set[bytes](), list[object]()
    cores = [np.asarray(blobs(rng, *shape, level=0.95)) for _ in range(2)]
    whole = np.ones(shape, dtype=np.bool_)
    for _ in range(100):
        kept.append(np.empty(int(rng.integers(1, 5000)), dtype=np.uint8))
        places = [place_of(core.copy(), whole.copy()) for core in (cores[0], cores[1], cores[1][::-1])]
        found.add(_owners(places, range(3), shape).tobytes())
    assert len(found) == 1

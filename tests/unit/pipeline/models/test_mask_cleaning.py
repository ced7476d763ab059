"""Small holes and islands go, large ones stay."""

import numpy as np
import pytest
from segment_anything.utils.amg import remove_small_regions

from pipeline.models.mask_cleaning import without_specks
from runtime.masks import MaskBool


def disc_with_specks() -> MaskBool:
    """A block of 40 x 40 with holes of 4 and 100 px, and islands of 4 and 100 px beside it."""
    mask = np.zeros((100, 100), dtype=np.bool_)
    mask[10:50, 10:50] = True
    mask[12:14, 12:14] = False
    mask[20:30, 20:30] = False
    mask[60:62, 60:62] = True
    mask[70:80, 70:80] = True
    return mask


def test_small_holes_are_filled_and_small_islands_left_out() -> None:
    mask = disc_with_specks()
    cleaned = without_specks(mask, 0.01, 0.01)
    assert cleaned[12:14, 12:14].all()
    assert not cleaned[20:30, 20:30].any()
    assert not cleaned[60:62, 60:62].any()
    assert cleaned[70:80, 70:80].all()
    assert cleaned.sum() == 1600


def test_a_share_of_zero_leaves_them() -> None:
    mask = disc_with_specks()
    assert (without_specks(mask, 0, 0) == mask).all()
    assert not np.shares_memory(without_specks(mask, 0, 0), mask)
    assert without_specks(mask, 0.01, 0).sum() == mask.sum() + 4
    assert without_specks(mask, 0, 0.01).sum() == mask.sum() - 4


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_the_package_does(seed: int) -> None:
    noise = np.random.default_rng(seed).random((60, 60))
    mask = noise < (0.2, 0.4, 0.6, 0.8)[seed]
    holes, _ = remove_small_regions(mask, 0.02 * mask.sum(), "holes")
    wanted, _ = remove_small_regions(holes, 0.05 * holes.sum(), "islands")
    assert (without_specks(mask, 0.02, 0.05) == wanted).all()


def test_of_specks_alone_the_largest_stays() -> None:
    mask = np.zeros((50, 50), dtype=np.bool_)
    mask[::5, ::5] = True
    mask[10, 10:12] = True
    cleaned = without_specks(mask, 0, 0.1)
    assert cleaned.sum() == 2
    assert cleaned[10, 10:12].all()


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_of_nothing_or_everything_stays(value: bool) -> None:
    mask = np.full((30, 20), value, dtype=np.bool_)
    assert (without_specks(mask, 0.01, 0.01) == mask).all()


def test_one_pixel_stays() -> None:
    mask = np.zeros((30, 20), dtype=np.bool_)
    mask[3, 4] = True
    assert (without_specks(mask, 0.01, 0.01) == mask).all()

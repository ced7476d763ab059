"""Token masks: the grid against diffusers' own preprocessing, areas against counting pixels, and hostile requests."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from schemas.errors import BadInput
from tests.cases.policy_cases import GRID, box
from training.policy.token_masks import (
    TokenGrid,
    area_average,
    batched,
    effective_tokens,
    flux2_grid,
    token_masks,
)


def diffusers_prepared(image: Image.Image, max_area: int, token_px: int) -> torch.Tensor:
    """What Flux2KleinPipeline does with a reference image, by diffusers' own processor: (3, H, W), 0..1."""
    from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor

    processor = Flux2ImageProcessor(vae_scale_factor=token_px)
    processor.check_image_input(image)
    image = processor._resize_if_exceeds_area(image, max_area)
    width, height = (side // token_px * token_px for side in image.size)
    return processor.preprocess(image, height=height, width=width, resize_mode="crop")[0] / 2 + 0.5


SIZES = [
    (64, 64),
    (512, 512),
    (1024, 1024),
    (1600, 1200),
    (1201, 1599),
    (333, 517),
    (64, 512),
    (3000, 377),
    (1023, 1031),
]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_frame_is_that_of_diffusers(width: int, height: int) -> None:
    # Every pixel tells its own place, so the crop shows where it was taken.
    ramps = np.zeros((height, width, 3), dtype=np.uint8)
    ramps[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    ramps[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    image = Image.fromarray(ramps)
    grid = flux2_grid(width, height)
    theirs = diffusers_prepared(image, 1024**2, 16)
    if (grid.resized_width_px, grid.resized_height_px) != image.size:
        image = image.resize((grid.resized_width_px, grid.resized_height_px), Image.Resampling.LANCZOS)
    left, top = grid.left_px, grid.top_px
    ours = np.asarray(image)[top : top + grid.height_px, left : left + grid.width_px]
    assert theirs.shape[1:] == (grid.height_px, grid.width_px) == (grid.grid_hw[0] * 16, grid.grid_hw[1] * 16)
    assert torch.allclose(theirs, torch.from_numpy(ours.copy()).permute(2, 0, 1) / 255, atol=1e-3)


@given(width=st.integers(64, 4000), height=st.integers(64, 4000))
def test_a_frame_lies_within_its_source(width: int, height: int) -> None:
    if max(width, height) > 8 * min(width, height):
        with pytest.raises(BadInput, match="times as long as wide"):
            flux2_grid(width, height)
        return
    grid = flux2_grid(width, height)
    assert grid.width_px * grid.height_px <= 1024**2
    assert 0 <= grid.resized_width_px - grid.width_px - 2 * grid.left_px <= 1
    assert 0 <= grid.resized_height_px - grid.height_px - 2 * grid.top_px <= 1
    assert grid.width_px % 16 == grid.height_px % 16 == 0
    assert grid.n_tokens == grid.width_px * grid.height_px // 256


def test_a_source_that_flux2_refuses_is_refused() -> None:
    with pytest.raises(BadInput, match="a side under 64 px"):
        flux2_grid(63, 100)
    with pytest.raises(ValueError, match="too small"):
        diffusers_prepared(Image.new("RGB", (63, 100)), 1024**2, 16)


def test_without_a_resize_shares_are_counted_pixels() -> None:
    grid = flux2_grid(75, 70, token_px=8)  # cropped by 1 at the left, 3 at the top
    mask = np.random.default_rng(0).random((70, 75)) < 0.4
    counted = mask[3:67, 1:73].reshape(8, 8, 9, 8).mean(axis=(1, 3))
    assert np.allclose(area_average(mask, grid).numpy(), counted, atol=1e-12)


def test_a_whole_factor_is_counted_pixels_too() -> None:
    grid = flux2_grid(128, 192, token_px=8, max_area=64 * 96)
    assert (grid.resized_width_px, grid.resized_height_px) == (64, 96)
    mask = np.random.default_rng(0).random((192, 128)) < 0.4
    counted = mask.reshape(12, 16, 8, 16).mean(axis=(1, 3))
    assert np.allclose(area_average(mask, grid).numpy(), counted, atol=1e-12)


@pytest.mark.parametrize(("width", "height"), [(1600, 1200), (700, 2100), (333, 517)])
def test_a_source_of_another_aspect_keeps_its_mask_in_place(width: int, height: int) -> None:
    grid = flux2_grid(width, height, max_area=256**2)
    mask = box(width // 4, height // 3, width // 2, height // 2, grid)
    # The same mask through diffusers as a picture; its filter smears an edge over its own width.
    picture = Image.fromarray(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2))
    through = diffusers_prepared(picture, 256**2, 16)[0]
    rows, columns = grid.grid_hw
    theirs = through.reshape(rows, 16, columns, 16).mean(dim=(1, 3)).double()
    ours = area_average(mask, grid)
    assert (ours - theirs).abs().max() < 0.02
    assert ours.min() >= 0
    assert ours.max() <= 1 + 1e-12


def test_overlapping_regions_share_and_the_background_is_the_rest() -> None:
    # One token wide each, half of the second covered by both.
    found = token_masks({"a": box(0, 0, 16, 8), "b": box(8, 0, 12, 8)}, GRID)
    a, b, background = found.masks.reshape(3, 8, 8)[:, 0, :3]
    assert a.tolist() == pytest.approx([1, 1 / 1.5, 0])
    assert b.tolist() == pytest.approx([0, 0.5 / 1.5, 0])
    assert background.tolist() == pytest.approx([0, 0, 1])


@given(seed=st.integers(0, 10_000), n=st.integers(1, 25))
def test_shares_fill_every_token(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    grid = flux2_grid(*(int(side) for side in rng.integers(64, 160, 2)), token_px=8, max_area=96**2)
    masks = {}
    for i in range(n):
        (x1, x2), (y1, y2) = (np.sort(rng.integers(0, side + 1, 2)) for side in source_sides(grid))
        masks[f"{i:016x}"] = box(int(x1), int(y1), int(x2), int(y2), grid)
    found = token_masks(masks, grid)
    assert set(found.keys) | set(found.dropped) == set(masks)
    assert not set(found.keys) & set(found.dropped)
    assert found.masks.shape == (len(found.keys) + 1, grid.n_tokens)
    assert found.masks.min() >= 0
    assert torch.allclose(found.masks.sum(dim=0), torch.ones(grid.n_tokens), atol=1e-6)
    assert (found.masks[:-1].sum(dim=1) > 0).all()


def source_sides(grid: TokenGrid) -> tuple[int, int]:
    return grid.source_width_px, grid.source_height_px


def test_a_region_without_a_token_is_dropped_and_named() -> None:
    grid = flux2_grid(79, 64, token_px=16)  # the crop takes 7 px at the left, 8 at the right
    found = token_masks(
        {"gone": box(0, 0, 7, 64, grid), "empty": box(0, 0, 0, 0, grid), "a": box(7, 0, 23, 16, grid)}, grid
    )
    assert found.keys == ("a",)
    assert found.dropped == ("gone", "empty")
    assert found.masks.sum(dim=1).tolist() == [1, 15]


def test_when_every_region_is_dropped_the_background_is_all() -> None:
    found = token_masks({"empty": box(0, 0, 0, 0)}, GRID)
    assert found.keys == ()
    assert found.masks.tolist() == [[1.0] * 64]


def test_an_edit_of_everything_has_no_background() -> None:
    whole = token_masks({"r": box(0, 0, 64, 64)}, GRID)
    assert whole.masks.tolist() == [[1.0] * 64, [0.0] * 64]
    assert whole.grid_hw == (8, 8)
    assert batched([whole]).valid.tolist() == [[True, False]]


def test_an_edit_of_everything_has_no_background_after_a_resize_either() -> None:
    grid = flux2_grid(777, 611, max_area=300**2)
    covered = token_masks({"r": box(0, 0, 777, 611, grid)}, grid)
    found = batched([covered])
    assert found.valid.tolist() == [[True, False]]  # what rounding leaves of the background is none
    assert torch.allclose(found.mass, torch.tensor([[grid.n_tokens, 0.0]]))


def test_twenty_regions_beside_one() -> None:
    many = {f"{i:016x}": box(8 * (i % 8), 8 * (i // 8), 8 * (i % 8) + 8, 8 * (i // 8) + 8) for i in range(20)}
    batch = batched([token_masks(many, GRID), token_masks({"a": box(0, 0, 64, 32)}, GRID)])
    assert batch.masks.shape == (2, 21, 64)
    assert batch.valid.sum(dim=1).tolist() == [21, 2]
    assert batch.mass[0].tolist() == [1.0] * 20 + [44.0]
    assert batch.mass[1, [0, -1]].tolist() == [32, 32]
    assert batch.edit_share[1].tolist() == [1.0] * 32 + [0.0] * 32


def test_padding_tokens_belong_to_nothing() -> None:
    wide = flux2_grid(128, 64, token_px=8)
    batch = batched([token_masks({"r": box(0, 0, 64, 64)}, GRID), token_masks({"a": box(0, 0, 8, 8, wide)}, wide)])
    assert batch.tokens.sum(dim=1).tolist() == [64, 128]
    assert batch.masks[0, :, 64:].sum() == 0
    assert batch.mass.tolist() == [[64, 0], [1, 127]]


def test_effective_tokens_by_hand() -> None:
    # (1 + 1 + .5)^2 / (1 + 1 + .25) = 6.25 / 2.25
    assert effective_tokens(torch.tensor([1.0, 1, 0.5, 0])).item() == pytest.approx(2.777778, abs=1e-5)
    assert effective_tokens(torch.zeros(4)).item() == 0


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInput, match="mask of region r: is uint8, not bool"):
        token_masks({"r": box(0, 0, 8, 8).astype(np.uint8)}, GRID)  # type: ignore[dict-item]
    with pytest.raises(BadInput, match=r"is \(64, 63\), not \(64, 64\)"):
        token_masks({"r": box(0, 0, 8, 8)[:, 1:]}, GRID)
    with pytest.raises(BadInput, match="no region is given"):
        token_masks({}, GRID)

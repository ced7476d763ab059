"""What a judge is told and shown."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.checkout import CHECKOUT
from schemas.errors import BadInput
from training.judge.prompt import calls, data_block, guide_text, response_format
from training.judge.prompt_images import at_size, close_ups, outlined, shown_size_px
from training.reward_protocol import RewardQuery

GUIDE = CHECKOUT / "docs" / "judge.md"


def mask(height: int = 40, width: int = 60, box: tuple[int, int, int, int] = (10, 5, 30, 25)) -> np.ndarray:
    inside = np.zeros((height, width), dtype=bool)
    inside[box[1] : box[3], box[0] : box[2]] = True
    return inside


@given(st.text(max_size=200))
def test_no_instruction_leaves_its_json_string(instruction: str) -> None:
    text = data_block(instruction, {"R1": mask(box=(10, 5, 31, 26))})["text"]
    assert text.isascii()
    assert text.count("<") == text.count(">") == 2
    decoded = json.loads(text.removeprefix("<data>\n").removesuffix("\n</data>"))
    assert decoded == {"instruction": instruction, "regions": {"R1": {"box_0_1000": [166, 125, 517, 650]}}}


def test_blind_is_the_same_prompt_without_the_images() -> None:
    image = np.full((40, 60, 3), 90, dtype=np.uint8)
    query = RewardQuery(image, image, "Make it red", {"a" * 16: mask()})
    seeing, blind = (
        calls(query, {"R1": "a" * 16}, blind=blind, upscale_to_px=96, longest_side_px=96) for blind in (False, True)
    )
    for with_images, without, images in zip(seeing, blind, (4, 3), strict=True):
        assert with_images is not None
        assert without is not None
        assert with_images.system == without.system
        assert [part for part in with_images.user if part["type"] == "text"] == without.user
        assert sum(part["type"] == "image_url" for part in with_images.user) == images


def test_without_regions_there_is_one_call_with_two_images() -> None:
    image = np.full((40, 60, 3), 90, dtype=np.uint8)
    regions, whole = calls(RewardQuery(image, image, "x", {}), {}, blind=False, upscale_to_px=96, longest_side_px=96)
    assert regions is None
    assert sum(part["type"] == "image_url" for part in whole.user) == 2


def test_the_schema_asks_for_exactly_the_places_and_words_come_before_scores() -> None:
    schema = response_format({"R1": ("success", "preserve"), "R2": ("success", "preserve")})["json_schema"]["schema"]
    assert schema["required"] == ["R1", "R2"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["R2"]["required"] == ["seen", "success", "preserve"]
    assert schema["$defs"]["score"]["enum"] == list(range(26))


@pytest.mark.parametrize(
    ("size", "shown"),
    [((60, 40), (768, 512)), ((900, 300), (900, 300)), ((3000, 1500), (1024, 512)), ((5000, 1), (1024, 1))],
)
def test_small_images_are_shown_larger_and_large_ones_smaller(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert shown_size_px(*size, 768, 1024) == shown


def test_an_outline_hides_nothing_of_its_mask_and_marks_its_surroundings() -> None:
    image, inside = np.full((200, 300, 3), 90, dtype=np.uint8), mask(200, 300, (100, 60, 180, 140))
    picture = outlined(image, {"R1": inside})
    assert (picture[inside] == 90).all()
    ring = mask(200, 300, (96, 56, 184, 144)) & ~inside
    assert (picture[ring] != 90).any(axis=-1).mean() > 0.6
    assert (image == 90).all()


def test_a_mask_over_everything_is_outlined_along_the_border() -> None:
    picture = outlined(np.full((200, 300, 3), 90, dtype=np.uint8), {"R1": np.ones((200, 300), dtype=bool)})
    assert (picture[0] != 90).any(axis=-1).all()
    assert (picture[40:, 60:-20][:-20] == 90).all()


@pytest.mark.parametrize("side", [1, 2, 7])
def test_tiny_images_can_be_shown(side: int) -> None:
    image, whole = np.full((side, side, 3), 90, dtype=np.uint8), np.ones((side, side), dtype=bool)
    assert outlined(image, {"R1": whole}).shape == image.shape
    assert close_ups(image, image, {"R1": whole}).shape[1] == 656


def test_close_ups_of_forty_regions_fit_on_a_sheet_and_keep_left_and_right() -> None:
    source, edited = np.full((80, 80, 3), 10, dtype=np.uint8), np.full((80, 80, 3), 200, dtype=np.uint8)
    masks = {f"R{n}": mask(80, 80, (n, n, n + 10, n + 10)) for n in range(1, 41)}
    sheet = close_ups(source, edited, masks)
    assert max(sheet.shape) <= 2048
    assert (sheet[36 + 96, 96] == 10).all()
    assert (sheet[36 + 96, 196 + 96] == 200).all()


def test_scaling_down_loses_no_region() -> None:
    one = np.zeros((100, 100), dtype=bool)
    one[51, 51] = True
    assert at_size(one, 10, 10).sum() == 1


def test_the_guide_quotes_the_prompts_as_they_are() -> None:
    text = GUIDE.read_text()
    assert guide_text(text) == text, "run python -m training.judge.prompt docs/judge.md"


def test_a_guide_without_its_marks_is_one_clear_line() -> None:
    with pytest.raises(BadInput, match="no place for the regions prompt"):
        guide_text("# Judge\n")

"""SAM 2 and SAM 3 as prompted segmenters: as transformers' own processor has them, for prompts of every kind.

The models are small random ones of the real classes: what is asked here is whether the way to them and back is right.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.models import sam_transformers
from pipeline.models.protocols import Prompt
from pipeline.models.sam_transformers import FAMILIES, SegmentSettings, TransformersSegmenter, prompt_arrays
from schemas.errors import BadInput
from tests.cases.model_cases import picture, write_sam2, write_sam3, write_sam3_tracker

WRITERS: dict[str, Callable[[Path], Path]] = {"sam2": write_sam2, "sam3": write_sam3_tracker}
BOX = Prompt(box=(8, 4, 50, 44))
POINTS = Prompt(points=((20, 20, True), (3, 40, False)))
BOTH = Prompt(box=(8, 4, 50, 44), points=((20, 20, True),))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family; never changed."""
    torch.set_num_threads(1)
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in WRITERS.items()}


@pytest.fixture(scope="module", params=["sam2", "sam3"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def segmenter(family: str, folders: dict[str, Path]) -> TransformersSegmenter:
    """One for all tests of a family; never changed."""
    return sam_transformers.load(FAMILIES[family], folders[family])


@pytest.fixture
def own_segmenter(family: str, folders: dict[str, Path]) -> TransformersSegmenter:
    """One to change."""
    return sam_transformers.load(FAMILIES[family], folders[family])


@pytest.mark.parametrize("prompt", [BOX, POINTS, BOTH], ids=["box", "points", "both"])
def test_masks_are_those_of_transformers_own_processor(
    segmenter: TransformersSegmenter, family: str, folders: dict[str, Path], prompt: Prompt
) -> None:
    from transformers import Sam2Processor, Sam3TrackerProcessor

    processor: Any = {"sam2": Sam2Processor, "sam3": Sam3TrackerProcessor}[family](segmenter._processor)
    image = picture(80, 60)
    asked: dict[str, Any] = {}
    if prompt.box:
        asked["input_boxes"] = [[list(prompt.box)]]
    if prompt.points:
        asked["input_points"] = [[[[x, y] for x, y, _ in prompt.points]]]
        asked["input_labels"] = [[[int(inside) for _, _, inside in prompt.points]]]
    inputs = processor(images=image, return_tensors="pt", **asked)
    sizes = inputs.pop("original_sizes")
    with torch.inference_mode():
        answer = segmenter._model(**inputs)
    masks = processor.post_process_masks(answer.pred_masks, sizes)[0][0].numpy()
    best = int(answer.iou_scores[0, 0].argmax())
    ((ours,),) = segmenter.segment([image], [[prompt]])
    assert ours.mask.shape == (60, 80)
    assert 0.01 < ours.mask.mean() < 0.99
    assert (ours.mask == masks[best]).all()
    assert ours.confidence == pytest.approx(float(answer.iou_scores[0, 0, best]), abs=1e-4)


def test_prompts_of_all_kinds_come_back_in_their_order(segmenter: TransformersSegmenter) -> None:
    images, prompts = (
        [picture(80, 60), picture(30, 40, 1), picture(64, 64, 2)],
        [[BOX, POINTS, BOTH, BOX], [], [POINTS]],
    )
    together = segmenter.segment(images, prompts)
    assert [len(segments) for segments in together] == [4, 0, 1]
    assert (together[0][0].mask == together[0][3].mask).all()
    assert (together[0][0].mask != together[0][1].mask).any()
    for image, asked, segments in zip(images, prompts, together, strict=True):
        for prompt, segment in zip(asked, segments, strict=True):
            ((alone,),) = segmenter.segment([image], [[prompt]])
            assert (alone.mask == segment.mask).mean() > 0.999
            assert alone.confidence == pytest.approx(segment.confidence, abs=1e-4)


def test_of_several_masks_the_one_of_the_highest_predicted_iou_is_taken(segmenter: TransformersSegmenter) -> None:
    asked = [Prompt(box=(x, 4, x + 20, 44)) for x in range(0, 50, 7)]
    ours = segmenter.segment([picture(80, 60)], [asked])[0]
    arrays = {
        name: torch.from_numpy(values[None])
        for name, values in prompt_arrays(asked, (60, 80), segmenter._side_px).items()
    }
    pixels = segmenter._processor(images=[picture(80, 60)], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        ious = segmenter._model(pixel_values=pixels, **arrays).iou_scores[0]
    assert ious.shape == (len(asked), 3)
    assert [one.confidence for one in ours] == pytest.approx(ious.max(dim=1).values.clamp(0, 1).tolist(), abs=1e-4)


@pytest.mark.parametrize(
    "box",
    [(3, 4, 4, 5), (0, 0, 80, 60), (-20, -20, 900, 900), (79, 59, 80, 60), (200, 200, 300, 300), (50, 40, 10, 10)],
)
def test_any_box_gives_a_mask_of_the_image(
    segmenter: TransformersSegmenter, box: tuple[float, float, float, float]
) -> None:
    ((segment,),) = segmenter.segment([picture(80, 60)], [[Prompt(box=box)]])
    assert segment.mask.shape == (60, 80)
    assert segment.mask.dtype == np.bool_
    assert 0 <= segment.confidence <= 1


@pytest.mark.parametrize("size", [(1, 1), (20, 20), (1, 900), (2000, 30)])
def test_images_of_any_size_are_looked_at(segmenter: TransformersSegmenter, size: tuple[int, int]) -> None:
    ((segment,),) = segmenter.segment([picture(*size)], [[Prompt(box=(0, 0, 1, 1))]])
    assert segment.mask.shape == size[::-1]


def test_300_prompts_go_through_in_batches(segmenter: TransformersSegmenter) -> None:
    asked = [Prompt(box=(n % 60, n % 40, n % 60 + 15, n % 40 + 15)) for n in range(300)]
    assert len(segmenter.segment([picture(80, 60)], [asked])[0]) == 300


def test_out_of_memory_halves_the_prompts_and_the_masks_stay(
    own_segmenter: TransformersSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [Prompt(box=(n, n, n + 25, n + 25)) for n in range(9)]
    whole = own_segmenter.segment([picture(80, 60)], [asked])[0]
    sizes: list[int] = []
    decode = own_segmenter._decode

    def short_of_memory(levels: Any, size: tuple[int, int], part: Any) -> Any:
        sizes.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError("tried to allocate")
        return decode(levels, size, part)

    monkeypatch.setattr(own_segmenter, "_decode", short_of_memory)
    halved = own_segmenter.segment([picture(80, 60)], [asked])[0]
    assert sizes == [9, 5, 3, 3, 3]
    sizes.clear()
    own_segmenter.segment([picture(80, 60)], [asked])
    assert sizes == [3, 3, 3]
    assert all((one.mask == other.mask).mean() > 0.999 for one, other in zip(whole, halved, strict=True))


def test_nan_from_the_model_names_it(own_segmenter: TransformersSegmenter) -> None:
    for weight in own_segmenter._model.mask_decoder.parameters():
        weight.data.fill_(float("nan"))
    with pytest.raises(
        BadInput, match=rf"^{own_segmenter.name} sha256:[0-9a-f]{{16}}: answered \d+ of \d+ ious that are NaN"
    ):
        own_segmenter.segment([picture(80, 60)], [[BOX]])


@pytest.mark.parametrize(
    "prompt", [Prompt(), Prompt(box=(0, 0, float("nan"), 5)), Prompt(points=((float("inf"), 0, True),))]
)
def test_a_prompt_that_points_at_nothing_is_no_prompt(segmenter: TransformersSegmenter, prompt: Prompt) -> None:
    with pytest.raises(ValueError, match="prompt"):
        segmenter.segment([picture(9, 9)], [[prompt]])


def test_batches_of_images_give_the_same_masks(family: str, folders: dict[str, Path]) -> None:
    images, prompts = [picture(64, 64, seed) for seed in range(5)], [[BOX, POINTS]] * 5
    answers = [
        sam_transformers.load(FAMILIES[family], folders[family], settings=SegmentSettings(images=n)).segment(
            images, prompts
        )
        for n in (1, 4)
    ]
    for one, other in zip(*answers, strict=True):
        assert all((a.mask == b.mask).mean() > 0.999 for a, b in zip(one, other, strict=True))


def fault(family: str, folder: Path) -> str:
    with pytest.raises(BadInput) as error:
        sam_transformers.load(FAMILIES[family], folder)
    return str(error.value)


def test_what_is_missing_is_named_with_its_page(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    page = FAMILIES[family].page
    assert f"{tmp_path}/none: does not exist; download the folder from {page}" in fault(family, tmp_path / "none")
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        copy = shutil.copytree(folders[family], tmp_path / name)
        (copy / name).unlink()
        message = fault(family, copy)
        assert page in message
        assert name in message or "holds no image processor" in message


def test_a_corrupt_checkpoint_is_refused(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(folders[family], tmp_path / "copy")
    whole = (copy / "model.safetensors").read_bytes()
    for broken in (b"", b"x" * 100, whole[: len(whole) // 2]):
        (copy / "model.safetensors").write_bytes(broken)
        assert f"{copy}: holds no model that can be loaded" in fault(family, copy)


def test_a_pickle_in_place_of_weights_is_not_looked_at(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(folders[family], tmp_path / "copy")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "model.safetensors: does not exist" in fault(family, copy)


def test_the_wrong_architecture_is_refused(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    other = {"sam2": "sam3", "sam3": "sam2"}[family]
    assert "holds a model of type" in fault(family, folders[other])
    copy = shutil.copytree(folders[other], tmp_path / "copy")
    (copy / "config.json").write_text((folders[family] / "config.json").read_text())
    assert "has not the weights of its" in fault(family, copy)


def test_a_folder_that_only_searches_is_no_prompted_segmenter(tmp_path: Path) -> None:
    assert "holds a model of type 'sam3', expected sam3_tracker" in fault("sam3", write_sam3(tmp_path))


def test_the_revision_is_of_the_files(
    segmenter: TransformersSegmenter, family: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    revision = segmenter.revision
    copy = shutil.copytree(folders[family], tmp_path / "copy")
    assert sam_transformers.load(FAMILIES[family], copy).revision == revision
    config = json.loads((copy / "preprocessor_config.json").read_text()) | {"image_mean": [0.5, 0.4, 0.3]}
    (copy / "preprocessor_config.json").write_text(json.dumps(config))
    assert sam_transformers.load(FAMILIES[family], copy).revision != revision

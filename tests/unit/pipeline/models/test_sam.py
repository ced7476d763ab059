"""The `sam` segmenter: the package's own masks from the batched path, and a clear end for whatever does not fit."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from pipeline.models.protocols import Prompt
from pipeline.models.sam import SamSettings, load_sam
from pipeline.models.sam_architectures import SamSizes
from pipeline.models.sam_checkpoint import read_checkpoint, write_checkpoint
from pipeline.models.sam_files import TINY_WEIGHTS
from pipeline.requests.scenes import render_scene
from runtime.images import BadImage, ImageU8
from schemas.errors import BadInput, OutOfMemory
from tests.cases.sam_cases import (
    AS_IT_IS,
    SMALL,
    images_with_prompts,
    iou,
    package_logits,
    package_masks,
    random_sam,
    segmenter,
)  # fmt: skip

BOX = Prompt(box=(10, 10, 40, 50))


@pytest.fixture
def sam() -> Sam:
    return random_sam()


def scene(index: int, size_px: int = 64) -> ImageU8:
    return render_scene(9, index, size_px).image_hwc_u8


def sams() -> list[Any]:
    """The small random Sam, and the shipped one where it has been trained."""
    return ["random", *(["shipped"] if TINY_WEIGHTS.is_file() else [])]


def sam_of(kind: str) -> tuple[Sam, SamSizes]:
    if kind == "random":
        return random_sam(), SMALL
    checkpoint = read_checkpoint(TINY_WEIGHTS)
    return checkpoint.sam, checkpoint.sizes


@pytest.mark.parametrize("count", [4, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", sams())
def test_prompts_of_every_kind_give_the_masks_of_the_package(kind: str, count: int) -> None:
    """Ten prompts each on images of every size; slow are the 500."""
    sam, sizes = sam_of(kind)
    images, prompts = images_with_prompts(count, 10)
    wanted = package_logits(sam, images, prompts)
    figures = {}
    for precision, step in (("fp32", 1), ("bf16", 3)):  # bf16 is slow on most processors
        part = slice(None, None, step)
        found = segmenter(sam, replace(AS_IT_IS, precision=precision), sizes).segment(images[part], prompts[part])
        pairs = [pair for row in zip(wanted[part], found, strict=True) for pair in zip(*row, strict=True)]
        figures[precision] = [iou(logits > sam.mask_threshold, segment.mask) for (logits, _), segment in pairs]
        if precision == "fp32":
            for (logits, score), segment in pairs:
                mask = logits > sam.mask_threshold
                # Batched sums are taken in another order: a pixel on the threshold itself may fall to either side.
                sure = np.abs(logits - sam.mask_threshold) > 1e-4
                assert np.array_equal(mask & sure, segment.mask & sure)
                assert sure.mean() >= 0.99  # else nothing would be compared
                assert segment.confidence == pytest.approx(min(max(score, 0), 1) if mask.any() else 0, abs=1e-4)
    assert len(figures["fp32"]) == 10 * count
    # The package's own loop under autocast differs from its fp32 loop just as much: a mask of a few pixels can be
    # another one altogether, so that only the mean says something.
    assert np.mean(figures["bf16"]) >= 0.99
    assert min(figures["bf16"]) < 1, "bf16 was not used"


def test_the_best_of_three_masks_is_taken_by_predicted_iou(sam: Sam) -> None:
    images, prompts = images_with_prompts(3, 10, seed=1)
    for multimask, setting in ((True, "always"), (False, "never")):
        wanted = package_masks(sam, images, prompts, multimask)
        found = segmenter(sam, replace(AS_IT_IS, multimask=setting)).segment(images, prompts)
        for row, segments in zip(wanted, found, strict=True):
            assert min(iou(mask, one.mask) for (mask, _), one in zip(row, segments, strict=True)) >= 0.999


def test_prompts_keep_their_order_and_an_image_without_any_is_not_even_read(sam: Sam) -> None:
    class Lazy(Sequence[ImageU8]):
        asked: list[tuple[int, str]] = []

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: Any) -> Any:
            self.asked.append((index, threading.current_thread().name))
            return scene(index)

    images, point, box = Lazy(), Prompt(points=((5, 5, True),)), Prompt(box=(3, 20, 60, 30))
    segments = segmenter(sam).segment(images, [[BOX, point, box], [], [point, BOX]])
    assert [len(row) for row in segments] == [3, 0, 2]
    for index, number, prompt in ((0, 0, BOX), (0, 1, point), (0, 2, box), (2, 0, point), (2, 1, BOX)):
        (alone,) = segmenter(sam).segment([scene(index)], [[prompt]])[0]
        assert iou(segments[index][number].mask, alone.mask) >= 0.999
    assert iou(segments[0][0].mask, segments[0][2].mask) < 0.999
    assert [index for index, _ in sorted(images.asked)] == [0, 2]
    assert threading.current_thread().name not in {name for _, name in images.asked}


@pytest.mark.parametrize("shape", [(20, 20), (20, 33), (8000, 300), (300, 8000)])
def test_very_small_and_very_large_images_get_masks_of_their_size(sam: Sam, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    boxes = [Prompt(box=(2, 2, 18, 15)), Prompt(box=(5, 5, 6, 6)), Prompt(box=(0, 0, shape[1], shape[0]))]
    (segments,) = segmenter(sam).segment([image], [boxes])
    for segment, (mask, _) in zip(segments, package_masks(sam, [image], [boxes])[0], strict=True):
        assert segment.mask.shape == shape
        assert segment.mask.dtype == np.bool_
        assert iou(segment.mask, mask) >= 0.999


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((8000, 20, 3), np.uint8), "too_narrow"),
        (np.zeros((0, 20, 3), np.uint8), "unreadable"),
        (np.zeros((20, 20), np.uint8), "unreadable"),
        (np.zeros((20, 20, 3), np.float32), "unreadable"),
    ],
)
def test_what_is_no_image_for_it_is_named(sam: Sam, image: Any, reason: str) -> None:
    with pytest.raises(BadImage, match="image 1 is") as raised:
        segmenter(sam).segment([scene(0), image], [[BOX], [Prompt(box=(0, 0, 9, 9))]])
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(),
        Prompt(box=(5, 5, 5, 9)),
        Prompt(box=(9, 5, 5, 9)),
        Prompt(box=(5, 5, float("nan"), 9)),
        Prompt(box=(5, 5, float("inf"), 9)),
        Prompt(box=(70, 5, 80, 9)),
        Prompt(box=(-9, 5, 0, 9)),
        Prompt(points=((5, 65, True),)),
        Prompt(points=((float("nan"), 5, True),)),
        Prompt(box=(5, 5, 9, 9), points=((-1, 5, True),)),
    ],
)
def test_a_prompt_that_points_at_nothing_is_named(sam: Sam, prompt: Prompt) -> None:
    with pytest.raises(BadInput, match=r"prompt 1 of image 0: has .*; give pixels of the image"):
        segmenter(sam).segment([scene(0)], [[BOX, prompt]])


def test_a_mask_of_everything_and_a_mask_of_nothing(sam: Sam) -> None:
    cleaned = replace(AS_IT_IS, hole_share=0.01, island_share=0.01)
    sam.mask_threshold = -1e9
    (everything,) = segmenter(sam, cleaned).segment([scene(0)], [[BOX]])[0]
    assert everything.mask.all()
    sam.mask_threshold = 1e9
    (nothing,) = segmenter(sam, cleaned).segment([scene(0)], [[BOX]])[0]
    assert not nothing.mask.any()
    assert nothing.confidence == 0


@pytest.mark.parametrize("bias", [3.0, -3.0])
def test_confidence_stays_in_0_to_1(sam: Sam, bias: float) -> None:
    sam.mask_decoder.iou_prediction_head.layers[-1].bias.fill_(bias)
    (segment,) = segmenter(sam).segment([scene(0)], [[BOX]])[0]
    assert segment.confidence == (1 if bias > 0 else 0)


@pytest.mark.parametrize("part", ["image_encoder.neck.0.weight", "mask_decoder.iou_prediction_head.layers.2.bias"])
def test_a_model_that_gives_nan_is_an_error(sam: Sam, part: str) -> None:
    sam.get_parameter(part).fill_(float("nan"))
    with pytest.raises(BadInput, match=r"segmenter sam:custom: gave no number for prompt 0 of image 0"):
        segmenter(sam).segment([scene(0)], [[BOX]])


class Cramped(torch.nn.Module):
    """A module with memory for `most` items; it counts what went through."""

    def __init__(self, module: torch.nn.Module, most: int, error: Exception) -> None:
        super().__init__()
        self.module, self.most, self.error, self.seen = module, most, error, 0

    def forward(self, *arguments: Any) -> Any:
        if len(arguments[0]) > self.most:
            raise self.error
        self.seen += len(arguments[0])
        return self.module(*arguments)


NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


def test_on_the_cpu_each_image_is_encoded_by_itself(sam: Sam) -> None:
    """So that an embedding hangs on its image alone, and not on which other ones were known already."""
    alone = Cramped(sam.image_encoder.patch_embed, 1, RuntimeError("two at once"))
    sam.image_encoder.patch_embed = alone
    segmenter(sam).segment([scene(index) for index in range(3)], [[BOX]] * 3)
    assert alone.seen == 3


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["image_encoder.patch_embed", "mask_decoder.transformer"])
def test_out_of_memory_halves_the_batch_and_goes_on(sam: Sam, where: str, error: Exception) -> None:
    images, prompts = [scene(index) for index in range(7)], [[BOX, Prompt(box=(1, 1, 60, 60))]] * 7
    wanted = segmenter(sam).segment(images, prompts)
    parent, _, name = where.partition(".")
    cramped = Cramped(sam.get_submodule(where), 2, error)
    setattr(sam.get_submodule(parent), name, cramped)
    small = segmenter(sam)
    small._alone = False  # as on a GPU, where images are encoded together
    found = small.segment(images, prompts)
    assert small.batch_size == (2 if where == "image_encoder.patch_embed" else 8)
    assert cramped.seen == (7 if where == "image_encoder.patch_embed" else 14)
    for row, segments in zip(wanted, found, strict=True):
        assert all(iou(one.mask, other.mask) >= 0.999 for one, other in zip(row, segments, strict=True))


def test_a_device_without_room_for_one_image_is_an_error(sam: Sam) -> None:
    sam.image_encoder.patch_embed = Cramped(sam.image_encoder.patch_embed, 0, NO_MEMORY[0])
    with pytest.raises(OutOfMemory, match=r"^segmenter sam:custom: runs out of memory on one image; take a smaller"):
        segmenter(sam).segment([scene(0)], [[BOX]])


def test_another_error_of_the_model_is_not_taken_for_memory(sam: Sam) -> None:
    sam.image_encoder.patch_embed = Cramped(sam.image_encoder.patch_embed, 0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        segmenter(sam).segment([scene(0)], [[BOX]])


def test_a_source_is_encoded_once_for_its_candidates(sam: Sam) -> None:
    sam.image_encoder.patch_embed = counter = Cramped(sam.image_encoder.patch_embed, 99, MemoryError())
    cached = segmenter(sam, replace(AS_IT_IS, cached_images=2))
    cached.segment([scene(0), scene(0).copy(), scene(1), scene(0)], [[BOX]] * 4)
    assert counter.seen == 2
    cached.segment([scene(1), scene(0)], [[BOX]] * 2)
    assert counter.seen == 2
    cached.segment([scene(2), scene(3)], [[BOX]] * 2)  # now the cache holds these two
    cached.segment([scene(0)], [[BOX]])
    assert counter.seen == 5
    found = cached.segment([scene(0), scene(3)], [[BOX]] * 2)
    wanted = segmenter(random_sam()).segment([scene(0), scene(3)], [[BOX]] * 2)
    assert [iou(one[0].mask, other[0].mask) for one, other in zip(found, wanted, strict=True)] == [1, 1]
    uncached = segmenter(sam, replace(AS_IT_IS, cached_images=0))
    counter.seen = 0
    uncached.segment([scene(0), scene(0)], [[BOX]] * 2)
    uncached.segment([scene(0)], [[BOX]])
    assert counter.seen == 2


def test_masks_beyond_the_memory_that_is_allowed_are_refused(sam: Sam) -> None:
    with pytest.raises(BadInput, match="the masks that are asked for: would take more than"):
        segmenter(sam, replace(AS_IT_IS, max_answer_bytes=3 * 64 * 64)).segment([scene(0)] * 2, [[BOX] * 2] * 2)


def test_as_many_rows_of_prompts_as_images(sam: Sam) -> None:
    with pytest.raises(ValueError, match="1 images and prompts for 2"):
        segmenter(sam).segment([scene(0)], [[BOX], [BOX]])


@pytest.mark.parametrize(
    "setting",
    [
        {"precision": "fp8"},
        {"multimask": "often"},
        {"batch_size": 0},
        {"batch_size": "many"},
        {"hole_share": 1.0},
        {"island_share": -0.1},
        {"workers": 0},
        {"cached_images": -1},
    ],
)
def test_a_setting_out_of_its_range_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        SamSettings(**setting)


def test_a_device_that_is_not_there_is_refused(sam: Sam) -> None:
    with pytest.raises(BadInput, match=r"^segmenter sam: cannot use device 'cuda:99': there is cpu"):
        segmenter(sam, replace(AS_IT_IS, device="cuda:99"))


def test_what_makes_other_masks_is_another_revision(sam: Sam) -> None:
    revisions = {
        segmenter(sam, replace(AS_IT_IS, **change)).revision
        for change in ({}, {"precision": "bf16"}, {"multimask": "always"}, {"hole_share": 0.1}, {"island_share": 0.1})
    }
    assert len(revisions) == 5
    assert segmenter(sam, replace(AS_IT_IS, workers=1, batch_size=3)).revision in revisions


def test_a_segmenter_is_made_of_its_checkpoint(sam: Sam, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    write_checkpoint(path, sam, SMALL)
    first = load_sam(str(path), AS_IT_IS)
    (segment,) = first.segment([scene(0)], [[BOX]])[0]
    assert (segment.mask == segmenter(sam).segment([scene(0)], [[BOX]])[0][0].mask).all()
    write_checkpoint(path, random_sam(seed=1), SMALL)
    assert load_sam(str(path), AS_IT_IS).revision != first.revision

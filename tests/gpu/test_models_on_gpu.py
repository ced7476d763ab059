"""Segmenters and detectors on a GPU: what they answer on the CPU, and halved batches where its memory runs out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.models import groundingdino, groundingdino_transformers, sam_transformers
from pipeline.models.detections import DetectSettings
from pipeline.models.protocols import Prompt
from pipeline.models.registry import make_prompt_segmenter
from pipeline.models.sam_checkpoint import read_checkpoint
from pipeline.models.sam_files import TINY_WEIGHTS
from pipeline.models.sam_transformers import FAMILIES
from pipeline.requests.scenes import render_scene
from tests.cases.model_cases import (
    picture,
    write_grounding_dino,
    write_groundingdino,
    write_sam2,
    write_sam3_tracker,
)
from tests.cases.sam_cases import AS_IT_IS, images_with_prompts, iou, package_logits, random_sam, segmenter

ON_GPU = replace(AS_IT_IS, device="cuda")
ALL = DetectSettings(box_threshold=0, score_threshold=0, nms_iou=1, max_detections=1000)
MIB = 2**20


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in whole float32: else they round to ten bits (TF32), and nothing can be compared closely."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.usefixtures("exact")
def test_a_sam_outlines_on_a_gpu_what_its_package_outlines_on_the_cpu() -> None:
    images, prompts = images_with_prompts(6, 10)
    sam = random_sam()
    wanted = package_logits(sam, images, prompts)
    found = segmenter(random_sam(), ON_GPU).segment(images, prompts)
    for row, segments in zip(wanted, found, strict=True):
        for (logits, score), segment in zip(row, segments, strict=True):
            mask = logits > sam.mask_threshold
            sure = np.abs(logits - sam.mask_threshold) > 1e-3  # sums in another order
            assert sure.mean() >= 0.9  # else nothing would be compared
            assert np.array_equal(mask & sure, segment.mask & sure)
            assert segment.confidence == pytest.approx(min(max(score, 0), 1) if mask.any() else 0, abs=1e-3)


def test_on_a_gpu_a_sam_encodes_in_bf16_says_so_and_outlines_nearly_the_same() -> None:
    images = [render_scene(3, index, 128).image_hwc_u8 for index in range(4)]
    prompts = [[Prompt(box=(20, 20, 100, 90)), Prompt(points=((64, 64, True),))]] * 4
    checkpoint = read_checkpoint(TINY_WEIGHTS)
    on_cpu = segmenter(checkpoint.sam, AS_IT_IS, checkpoint.sizes)
    wanted = on_cpu.segment(images, prompts)
    on_gpu = segmenter(read_checkpoint(TINY_WEIGHTS).sam, replace(ON_GPU, precision="auto"), checkpoint.sizes)
    assert on_gpu.revision != on_cpu.revision
    found = on_gpu.segment(images, prompts)
    alike = [
        iou(one.mask, other.mask)
        for row, others in zip(wanted, found, strict=True)
        for one, other in zip(row, others, strict=True)
    ]
    print(f"\nIoU of bf16 on the GPU with fp32 on the CPU: mean {np.mean(alike):.4f}, least {min(alike):.4f}")
    assert np.mean(alike) > 0.95


def test_where_the_memory_of_a_gpu_runs_out_the_batch_is_halved_and_the_masks_stay() -> None:
    """The allocator may take 48 MiB more than the model; 512 pictures of 128 px are 100 MiB as float32."""
    images = [render_scene(9, index, 64).image_hwc_u8 for index in range(8)] * 64
    prompts = [[Prompt(box=(10, 10, 40, 50))]] * len(images)
    wanted = segmenter(random_sam()).segment(images[:8], prompts[:8])
    on_gpu = segmenter(random_sam(), replace(ON_GPU, batch_size=len(images)))
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 48 * MIB) / total)
    try:
        found = on_gpu.segment(images, prompts)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= on_gpu.batch_size < len(images)
    for number, (segment,) in enumerate(found):
        assert iou(segment.mask, wanted[number % 8][0].mask) >= 0.99


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("family", ["sam2", "sam3"])
def test_the_sams_of_transformers_outline_on_a_gpu_what_they_outline_on_the_cpu(tmp_path: Path, family: str) -> None:
    write: Callable[[Path], Path] = {"sam2": write_sam2, "sam3": write_sam3_tracker}[family]
    folder = write(tmp_path)
    prompts = [[Prompt(box=(8, 4, 50, 44)), Prompt(points=((20, 20, True), (3, 40, False)))]]
    on_cpu, on_gpu = (
        sam_transformers.load(FAMILIES[family], folder, device).segment([picture(80, 60)], prompts)[0]
        for device in ("cpu", "cuda")
    )
    for one, other in zip(on_cpu, on_gpu, strict=True):
        assert (one.mask == other.mask).mean() > 0.99
        assert other.confidence == pytest.approx(one.confidence, abs=1e-3)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("package", ["groundingdino", "transformers"])
def test_a_groundingdino_finds_on_a_gpu_what_it_finds_on_the_cpu(tmp_path: Path, package: str) -> None:
    place, load = write_groundingdino(tmp_path / "package"), groundingdino.load
    if package == "transformers":
        place, load = write_grounding_dino(place, tmp_path / "folder"), groundingdino_transformers.load
    images, phrases = [picture(80, 60), picture(40, 40, 1)], [["red cup", "dog"], ["cat", "dog"]]
    on_cpu, on_gpu = (load(place, device, ALL).detect(images, phrases) for device in ("cpu", "cuda"))
    for ours, theirs in zip(on_cpu, on_gpu, strict=True):
        assert len(ours) == len(theirs) == 20
        assert sorted(one.score for one in ours) == pytest.approx(sorted(one.score for one in theirs), abs=1e-3)
        for one in ours[:5]:  # the order of equal scores may differ
            assert any(one.box == pytest.approx(other.box, abs=0.2) for other in theirs)  # px


def test_auto_takes_the_gpu() -> None:
    images, prompts = [render_scene(3, 0, 128).image_hwc_u8], [[Prompt(box=(20, 20, 100, 90))]]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    ((segment,),) = make_prompt_segmenter("sam:tiny", "auto").segment(images, prompts)
    assert segment.mask.any()
    assert torch.cuda.max_memory_allocated() > before

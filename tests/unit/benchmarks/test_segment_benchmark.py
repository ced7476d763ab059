"""The segmenter's benchmark: what it counts, and that it does not time masks that are not the package's."""

from dataclasses import replace

import pytest
import torch

from benchmarks import segment, segment_cases
from benchmarks.gpu_measures import covered
from benchmarks.segment import empty_gpu_rows, encoder_tflop, gpu_rows
from benchmarks.segment_cases import check_masks, make_cases
from pipeline.models.sam_architectures import ARCHITECTURES, build_sam
from schemas.errors import RegionwiseError
from tests.cases.sam_cases import AS_IT_IS, SMALL


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called tiny is smaller still: what is compared and counted is the same."""
    monkeypatch.setitem(ARCHITECTURES, "tiny", SMALL)


def test_the_time_that_spans_cover() -> None:
    assert covered([(5, 6), (0, 2), (1, 3), (5, 5.5), (5.2, 5.4)]) == pytest.approx(4)
    assert covered([]) == 0


def test_the_arithmetic_of_the_encoder_is_what_its_sizes_say() -> None:
    """Multiplications of one image, written down: projections, MLP, attention in windows of 14 and over all cells."""
    sizes = ARCHITECTURES["vit_b"]
    cells, dim, out = sizes.grid_cells**2, sizes.encoder_dim, sizes.prompt_dim
    padded = (-(-sizes.grid_cells // 14) * 14) ** 2
    windowed, whole = sizes.encoder_depth - len(sizes.global_blocks), len(sizes.global_blocks)
    products = cells * dim * 3 * 16**2 + cells * (dim * out + 9 * out * out)
    products += windowed * (padded * (4 * dim * dim + 2 * 14**2 * dim + 2 * 14 * dim) + 8 * cells * dim * dim)
    products += whole * (cells * (4 * dim * dim + 2 * cells * dim + 2 * 64 * dim) + 8 * cells * dim * dim)
    assert encoder_tflop("vit_b") * 1e12 / 2 == pytest.approx(products, rel=1e-3)


@pytest.mark.usefixtures("small")
def test_masks_of_other_weights_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    sam, cases = build_sam("tiny"), make_cases(1, 64)
    assert check_masks(sam, cases, AS_IT_IS)["cpu_fp32_mask_iou_min"] >= 0.999
    torch.manual_seed(1)
    wrong = segment_cases.our_stage(build_sam("tiny"), cases, AS_IT_IS)
    monkeypatch.setattr(segment_cases, "our_stage", lambda *_: wrong)
    for precision in ("fp32", "bf16"):
        with pytest.raises(RegionwiseError, match="the masks are not the package's"):
            check_masks(sam, cases, replace(AS_IT_IS, precision=precision))


@pytest.mark.usefixtures("small")
def test_without_a_gpu_the_rows_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU's rows, but for the three that only a GPU can have, run on the CPU here."""
    monkeypatch.setattr(segment, "GPU_IMAGES", 1)
    monkeypatch.setattr(segment, "GPU_SIZE_PX", 64)
    monkeypatch.setattr(segment, "ROUNDS", 1)
    monkeypatch.setattr(segment_cases, "BOXES_EACH", 2)
    rows, _ = gpu_rows(torch.device("cpu"), "tiny")
    empty = empty_gpu_rows("tiny", "no GPU")
    names = [(figures["what"], figures["unit"], figures["peer_name"]) for figures in rows]
    assert names == [(figures["what"], figures["unit"], figures["peer_name"]) for figures in empty][: len(rows)]
    assert all(figures["ours"] > 0 and figures["peer"] > 0 for figures in rows)
    assert all(figures["ours"] is None and figures["why"] == "no GPU" for figures in empty)
    assert len(empty) == len(rows) + 3

"""`python -m benchmarks.segment`: images/s and regions/s of the `sam` segmenter, beside a plain loop over the package.

The loop is what a user would write: decode, `set_image`, `predict` per box. Both sides get the same encoded images, the
same boxes and the same weights (random: time does not depend on them) in one run, in turns; the figure is the median of
the rounds. Before any timing the masks of both sides are compared, and a difference ends the run.

On the CPU `tiny` is measured, both sides with the same number of torch threads. With a GPU (`--device cuda`)
`--architecture` is measured on it, too: fp32 and bf16 autocast, the share of the measured bf16 matrix peak, and the
time that the GPU is idle. Without one those rows are empty and say why.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from benchmarks.difference import iou
from benchmarks.result import row, write_result
from pipeline.models.devices import choose_device
from pipeline.models.protocols import Prompt
from pipeline.models.sam import SamSegmenter, SamSettings
from pipeline.models.sam_architectures import ARCHITECTURES, build_sam
from pipeline.models.sam_checkpoint import SamCheckpoint
from pipeline.requests.scenes import render_scene
from runtime.images import ImageU8, MaskBool, decode_image, encode_image
from schemas.errors import RegionwiseError

SEED = 4
BOXES_EACH = 8
CANDIDATES = 4
ROUNDS = 3
CPU_THREADS = 2
CPU_IMAGES, CPU_SIZE_PX = 8, 256
GPU_IMAGES, GPU_SIZE_PX = 64, 1024
CHECKED_IMAGES = 4
LOOP = "set_image, predict per box"
NO_GPU = "no GPU could be had for this run"
#: Random weights make masks of noise, on which bf16 costs the package, too, more than 0.01: then ours may differ from
#: its figure by this much.
BF16_MARGIN = 0.005
Precision = Literal["fp32", "bf16"]
Masks = list[list[MaskBool]]


class Decoded(Sequence[ImageU8]):
    """Encoded images that are decoded by whoever asks for one: here, the segmenter's threads."""

    def __init__(self, encoded: Sequence[bytes]) -> None:
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: Any) -> Any:
        return decode_image(self.encoded[index])


@dataclass(frozen=True)
class Cases:
    """Encoded images and the boxes on each."""

    encoded: list[bytes]
    boxes: list[list[tuple[float, float, float, float]]]

    @property
    def prompts(self) -> list[list[Prompt]]:
        return [[Prompt(box=box) for box in boxes] for boxes in self.boxes]

    def first(self, count: int) -> "Cases":
        """The first `count` images."""
        return Cases(self.encoded[:count], self.boxes[:count])

    def repeated(self, times: int) -> "Cases":
        """Every fourth image, `times` times in a row: a source with its candidates."""
        return Cases(
            [data for data in self.encoded[::times] for _ in range(times)],
            [boxes for boxes in self.boxes[::times] for _ in range(times)],
        )


def make_cases(count: int, size_px: int) -> Cases:
    """Procedural scenes as JPEG, and boxes of 0.1 to 0.6 of their side anywhere on them."""
    rng = np.random.default_rng(SEED)
    encoded, boxes = [], []
    for index in range(count):
        encoded.append(encode_image(render_scene(SEED, index, size_px).image_hwc_u8, "jpeg"))
        sides = rng.uniform(0.1, 0.6, (BOXES_EACH, 2)) * size_px
        corners = rng.uniform(0, 1, (BOXES_EACH, 2)) * (size_px - sides)
        boxes.append(
            [(float(x), float(y), float(x + w), float(y + h)) for (x, y), (w, h) in zip(corners, sides, strict=True)]
        )
    return Cases(encoded, boxes)


def plain_loop(sam: Sam, cases: Cases, precision: Precision) -> Masks:
    """The loop over the package; bf16 is autocast around the encoder (`predict` itself cannot return bf16)."""
    predictor, masks = SamPredictor(sam), []
    bf16 = torch.autocast(sam.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    for data, boxes in zip(cases.encoded, cases.boxes, strict=True):
        with bf16:
            predictor.set_image(decode_image(data))
        masks.append([predictor.predict(box=np.array(box), multimask_output=False)[0][0] for box in boxes])
    return masks


def our_stage(sam: Sam, cases: Cases, settings: SamSettings) -> Masks:
    """The segmenter, made anew, so that nothing is cached from a round before."""
    segmenter = SamSegmenter(SamCheckpoint(sam, ARCHITECTURES["tiny"], "0" * 64), settings)
    found = segmenter.segment(Decoded(cases.encoded), cases.prompts)
    return [[segment.mask for segment in row] for row in found]


def check_masks(sam: Sam, cases: Cases, settings: SamSettings) -> dict[str, float]:
    """IoU of our masks with the package's in fp32: the smallest in fp32, means in bf16, the package's own beside them.

    Raises: RegionwiseError where fp32 falls below 0.999, or bf16 below 0.99 and below what the package's bf16 reaches.
    """
    truth = plain_loop(sam, cases, "fp32")
    figures = _ious(truth, our_stage(sam, cases, settings))
    if settings.precision == "fp32":
        same, wanted, named = min(figures), 0.999, {"fp32_mask_iou_min": min(figures)}
    else:
        theirs = float(np.mean(_ious(truth, plain_loop(sam, cases, "bf16"))))
        same, wanted = float(np.mean(figures)), min(0.99, theirs - BF16_MARGIN)
        named = {"bf16_mask_iou_mean": same, "bf16_mask_iou_mean_of_the_package": theirs}
    if same < wanted:
        raise RegionwiseError("benchmark segment", f"the masks are not the package's: IoU {same:.4f} < {wanted:.4f}")
    return {f"{sam.device.type}_{name}": figure for name, figure in named.items()}


def _ious(some: Masks, others: Masks) -> list[float]:
    return [iou(*pair) for both in zip(some, others, strict=True) for pair in zip(*both, strict=True)]


def medians_s(works: Sequence[Callable[[], object]], device: torch.device, rounds: int = ROUNDS) -> list[float]:
    """Median seconds of each work, all of them in turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for seconds, work in zip(times, works, strict=True):
            seconds.append(_seconds(work, device))
    return [statistics.median(seconds) for seconds in times]


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def speed_rows(where: str, cases: Cases, ours_s: float, loop_s: float, ours: str, loop: str) -> list[dict[str, Any]]:
    """images/s and regions/s of both sides."""
    images, regions = len(cases.encoded), sum(len(boxes) for boxes in cases.boxes)
    return [
        row(f"{where}: {what}, {ours}", f"{what}/s", count / ours_s, count / loop_s, f"{LOOP}, {loop}")
        for what, count in (("images", images), ("regions", regions))
    ]


def cpu_rows() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """`tiny` on the CPU: distinct images, sources with their candidates, and what cleaning masks costs."""
    torch.set_num_threads(CPU_THREADS)
    cpu = torch.device("cpu")
    torch.manual_seed(SEED)
    sam, cases = build_sam("tiny"), make_cases(CPU_IMAGES, CPU_SIZE_PX)
    plain = SamSettings(
        device="cpu", precision="fp32", hole_share=0, island_share=0, workers=CPU_THREADS, cached_images=0
    )
    cleaned = replace(plain, hole_share=SamSettings.hole_share, island_share=SamSettings.island_share)
    cached = replace(plain, cached_images=SamSettings.cached_images)
    same = check_masks(sam, cases.first(CHECKED_IMAGES), plain)
    again = cases.repeated(CANDIDATES)
    ours_s, loop_s, cleaned_s, again_s, loop_again_s = medians_s(
        [
            lambda: our_stage(sam, cases, plain),
            lambda: plain_loop(sam, cases, "fp32"),
            lambda: our_stage(sam, cases, cleaned),
            lambda: our_stage(sam, again, cached),
            lambda: plain_loop(sam, again, "fp32"),
        ],
        cpu,
    )
    where = f"CPU, tiny, {CPU_SIZE_PX} px"
    return [
        *speed_rows(where, cases, ours_s, loop_s, "fp32", "fp32"),
        *speed_rows(where, cases, cleaned_s, loop_s, "fp32, holes and islands removed", "fp32, nothing removed")[1:],
        *speed_rows(where, again, again_s, loop_again_s, f"fp32, a source {CANDIDATES} times", "fp32")[1:],
    ], same


def gpu_rows(device: torch.device, architecture: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The three comparisons on a GPU, the share of its bf16 matrix peak, and its idle share."""
    torch.manual_seed(SEED)
    sam = build_sam(architecture).to(device)
    cases = make_cases(GPU_IMAGES, GPU_SIZE_PX)
    fp32 = SamSettings(device=str(device), precision="fp32", hole_share=0, island_share=0, workers=8, cached_images=0)
    bf16 = replace(fp32, precision="bf16")
    some = cases.first(CHECKED_IMAGES)
    same = check_masks(sam, some, fp32) | check_masks(sam, some, bf16)  # and everything is warm
    bf16_s, fp32_s, loop_bf16_s, loop_fp32_s = medians_s(
        [
            lambda: our_stage(sam, cases, bf16),
            lambda: our_stage(sam, cases, fp32),
            lambda: plain_loop(sam, cases, "bf16"),
            lambda: plain_loop(sam, cases, "fp32"),
        ],
        device,
    )
    where = f"GPU, {architecture}, {GPU_SIZE_PX} px"
    rows = [
        *speed_rows(where, cases, bf16_s, loop_fp32_s, "bf16", "fp32"),
        *speed_rows(where, cases, bf16_s, loop_bf16_s, "bf16", "bf16 autocast"),
        *speed_rows(where, cases, fp32_s, loop_fp32_s, "fp32", "fp32"),
    ]
    if device.type == "cuda":
        peak = bf16_peak_tflops(device)
        used = encoder_tflop(architecture) * len(cases.encoded) / bf16_s
        loop_used = encoder_tflop(architecture) * len(cases.encoded) / loop_bf16_s
        idle = idle_share(lambda: our_stage(sam, cases, bf16), device)
        loop_idle = idle_share(lambda: plain_loop(sam, cases, "bf16"), device)
        beside = f"{LOOP}, bf16 autocast"
        rows += [
            row(f"{where}: encoder arithmetic in the bf16 stage", "TFLOP/s", used, loop_used, beside, limit=peak),
            row(f"{where}: share of the measured bf16 matrix peak", "share", used / peak, loop_used / peak, beside),
            row(f"{where}: GPU idle in the bf16 stage", "share", idle, loop_idle, beside, higher_is_better=False),
        ]
    return rows, same


def empty_gpu_rows(architecture: str, why: str) -> list[dict[str, Any]]:
    """What `gpu_rows` would have measured."""
    where = f"GPU, {architecture}, {GPU_SIZE_PX} px"
    pairs = (("bf16", "fp32"), ("bf16", "bf16 autocast"), ("fp32", "fp32"))
    return [
        *(
            row(f"{where}: {what}, {ours}", f"{what}/s", None, None, f"{LOOP}, {loop}", why=why)
            for ours, loop in pairs
            for what in ("images", "regions")
        ),
        row(f"{where}: encoder arithmetic in the bf16 stage", "TFLOP/s", None, why=why),
        row(f"{where}: share of the measured bf16 matrix peak", "share", None, why=why),
        row(f"{where}: GPU idle in the bf16 stage", "share", None, why=why),
    ]


def encoder_tflop(architecture: str) -> float:
    """10^12 operations (a multiplication and an addition are two) of the package's own encoder for one image."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        encoder = build_sam(architecture).image_encoder
        image = torch.empty(1, 3, encoder.img_size, encoder.img_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(image)
    return float(counter.get_total_flops()) / 1e12


def bf16_peak_tflops(device: torch.device, side: int = 8192, repeats: int = 30) -> float:
    """10^12 operations a second of a large bf16 matrix product, measured."""
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        one @ other
    seconds = _seconds(lambda: [one @ other for _ in range(repeats)], device)
    return 2 * side**3 * repeats / seconds / 1e12


def idle_share(work: Callable[[], object], device: torch.device) -> float:
    """Share of the time of `work` in which the GPU neither computes nor copies, from its profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        seconds = _seconds(work, device)
    events = [event for event in profiler.events() or [] if event.device_type.name == "CUDA"]
    return 1 - covered((event.time_range.start, event.time_range.end) for event in events) / 1e6 / seconds


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of spans (start, end)."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def main() -> None:
    """Measures and writes `benchmarks/results/segment.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="the GPU: cuda, cuda:1; cpu for none; auto where there is one")
    parser.add_argument("--architecture", default="vit_h", choices=list(ARCHITECTURES), help="what the GPU runs")
    options = parser.parse_args()
    device = choose_device(options.device, "benchmark segment")
    has_gpu = device.type == "cuda"
    load = os.getloadavg()[0]
    rows, same = cpu_rows()
    notes: dict[str, Any] = {"weights": "random", "cpu_threads": CPU_THREADS, "rounds": ROUNDS}
    notes |= {"load_average_before": load, "cpu_images": CPU_IMAGES, "gpu_images": GPU_IMAGES, "boxes_each": BOXES_EACH}
    notes |= {"omp_wait_policy": os.environ.get("OMP_WAIT_POLICY")}
    if has_gpu:
        on_gpu, same_on_gpu = gpu_rows(device, options.architecture)
        rows, same, notes = [*rows, *on_gpu], same | same_on_gpu, notes | {"gpu": torch.cuda.get_device_name(device)}
    else:
        rows, notes = [*rows, *empty_gpu_rows(options.architecture, NO_GPU)], notes | {"gpu": None, "gpu_why": NO_GPU}
    write_result("segment", rows, **notes, same_masks=same, torch=torch.__version__)


if __name__ == "__main__":
    main()

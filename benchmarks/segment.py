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
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.gpu_measures import bf16_peak_tflops, idle_share, seconds_of
from benchmarks.result import row, write_result
from benchmarks.segment_cases import BOXES_EACH, SEED, Cases, check_masks, make_cases, our_stage, plain_loop
from pipeline.models.devices import choose_device
from pipeline.models.sam import SamSettings
from pipeline.models.sam_architectures import ARCHITECTURES, build_sam

CANDIDATES = 4
ROUNDS = 3
CPU_THREADS = 2
CPU_IMAGES, CPU_SIZE_PX = 8, 256
GPU_IMAGES, GPU_SIZE_PX = 64, 1024
CHECKED_IMAGES = 4
LOOP = "set_image, predict per box"
NO_GPU = "no GPU could be had for this run"


def medians_s(works: Sequence[Callable[[], object]], device: torch.device, rounds: int = ROUNDS) -> list[float]:
    """Median seconds of each work, all of them in turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for seconds, work in zip(times, works, strict=True):
            seconds.append(seconds_of(work, device))
    return [statistics.median(seconds) for seconds in times]


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
        ROUNDS,
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

"""How long work takes on a device, what a GPU could do at best, and how much of the time it does nothing."""

import time
from collections.abc import Callable, Iterable

import torch


def seconds_of(work: Callable[[], object], device: torch.device | str) -> float:
    """Wall time of a piece of work, in s; a GPU is waited for before and after it."""
    where = torch.device(device)
    _wait(where)
    started = time.perf_counter()
    work()
    _wait(where)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bf16_peak_tflops(device: torch.device, side: int = 8192, repeats: int = 30) -> float:
    """10^12 operations a second of a large bf16 matrix product, measured."""
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        one @ other
    seconds = seconds_of(lambda: [one @ other for _ in range(repeats)], device)
    return 2 * side**3 * repeats / seconds / 1e12


def idle_share(work: Callable[[], object], device: torch.device) -> float:
    """Share of the time of `work` in which the GPU neither computes nor copies, from its profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        seconds = seconds_of(work, device)
    events = [event for event in profiler.events() or [] if event.device_type.name == "CUDA"]
    return 1 - covered((event.time_range.start, event.time_range.end) for event in events) / 1e6 / seconds


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of spans (start, end)."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total

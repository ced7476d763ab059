"""Batches that memory limits: what counts as running out of it, how they shrink, and the end where one item is left."""

from collections.abc import Sequence

import pytest
import torch

from pipeline.models import batches
from pipeline.models.batches import ShrinkingBatches
from runtime.memory import is_out_of_memory
from schemas.errors import BadInput, OutOfMemory


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


class CudaOutOfMemoryError(torch.OutOfMemoryError):
    """A kind of torch's, under another name."""


#: As the libraries word them.
NO_MEMORY = [
    MemoryError(),
    OutOfMemory("sam2", "runs out of memory on one image"),
    OutOfMemoryError("x"),
    torch.OutOfMemoryError("x"),
    CudaOutOfMemoryError("x"),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.80 GiB"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.10 GB, max allowed: 9.07 GB)"),
    RuntimeError("Invalid buffer size: 24.00 GB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried to allo"
                 "cate 8589934592 bytes."),
    RuntimeError("unable to mmap 4096 bytes from file <x>: Cannot allocate memory (12)"),
    RuntimeError("std::bad_alloc"),
]  # fmt: skip
OTHER_FAULTS = [
    RuntimeError("shapes differ"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: f"{type(error).__name__} {error}"[:60])
def test_out_of_memory_halves_the_batch_and_goes_on(error: Exception) -> None:
    sizes: list[int] = []

    def work(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise error
        return [-item for item in batch]

    assert is_out_of_memory(error)
    shrinking = ShrinkingBatches(8, "model")
    assert list(shrinking.run(range(7), work)) == [0, -1, -2, -3, -4, -5, -6]
    assert sizes == [7, 4, 2, 2, 2, 1]
    sizes.clear()
    assert list(shrinking.run(range(4), work)) == [0, -1, -2, -3]
    assert sizes == [2, 2]
    assert shrinking.size == 2


@pytest.mark.parametrize("error", OTHER_FAULTS, ids=lambda error: str(error)[:60])
def test_another_error_of_the_model_is_not_swallowed(error: Exception) -> None:
    def work(batch: Sequence[int]) -> list[int]:
        raise error

    assert not is_out_of_memory(error)
    with pytest.raises(RuntimeError) as raised:
        list(ShrinkingBatches(2, "sam2").run([1, 2], work))
    assert raised.value is error


def test_a_refusal_of_ours_is_passed_on() -> None:
    def work(batch: Sequence[int]) -> list[int]:
        raise BadInput("out of memory.pth", "is damaged")

    with pytest.raises(BadInput):
        list(ShrinkingBatches(2, "sam2").run([1, 2], work))


def test_one_image_beyond_memory_is_a_clear_error() -> None:
    def work(batch: Sequence[int]) -> list[int]:
        raise MemoryError

    with pytest.raises(OutOfMemory, match="sam2: runs out of memory on one image; take a smaller model"):
        list(ShrinkingBatches(2, "sam2").run([1, 2], work))


def test_batches_within_batches_halve_the_outer_one_where_the_inner_cannot() -> None:
    outer, inner = ShrinkingBatches(8, "sam3"), ShrinkingBatches(8, "sam3")
    outer_sizes: list[int] = []
    inner_sizes: list[int] = []

    def ask(batch: Sequence[int]) -> list[int]:
        inner_sizes.append(len(batch))
        if outer_sizes[-1] > 1:
            raise MemoryError
        return [-item for item in batch]

    def work(batch: Sequence[int]) -> list[int]:
        outer_sizes.append(len(batch))
        return [sum(inner.run([*batch, *batch], ask)) for _ in batch]

    assert list(outer.run([1, 2, 3], work)) == [-2, -4, -6]
    assert outer_sizes == [3, 2, 1, 1, 1]
    assert inner_sizes == [6, 3, 2, 1, 4, 2, 1, 2, 2, 2]  # the inner one is not held small by what the outer one held


def test_what_a_failed_batch_held_is_given_back_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caches are emptied when the error, whose frames hold the failed batch's tensors, is gone."""
    freed: list[bool] = []

    class Tensors:
        alive = 0

        def __init__(self) -> None:
            Tensors.alive += 1

        def __del__(self) -> None:
            Tensors.alive -= 1

    def work(batch: Sequence[int]) -> list[int]:
        held = Tensors()
        if len(batch) > 1:
            raise MemoryError(held is None)
        return list(batch)

    monkeypatch.setattr(batches, "_free_caches", lambda: freed.append(Tensors.alive == 0))
    assert list(ShrinkingBatches(2, "sam2").run([1, 2], work)) == [1, 2]
    assert freed == [True]


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_the_caches_of_a_device_that_is_there_are_emptied(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[str] = []
    for name, backend in (("cuda", torch.cuda), ("mps", torch.backends.mps)):
        monkeypatch.setattr(backend, "is_available", lambda name=name: name == device)
    for name, module in (("cuda", torch.cuda), ("mps", torch.mps)):
        monkeypatch.setattr(module, "empty_cache", lambda name=name: emptied.append(name))
    batches._free_caches()
    assert emptied == [device]

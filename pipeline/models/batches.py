"""Batches of what a model is given, halved where memory runs out; and how the libraries say that it did.

No torch is imported here: only where something else has, it keeps memory that can be given back.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from schemas.errors import OutOfMemory

Item = TypeVar("Item")
Answer = TypeVar("Answer")

#: What the message of a RuntimeError says, in lower case, where an allocation failed. Not among them is
#: CUDNN_STATUS_NOT_SUPPORTED: an operation that the library does not have, whatever the memory.
_OUT_OF_MEMORY = (
    "out of memory",  # CUDA's and MPS's allocators, the CUDA driver
    "can't allocate memory",  # DefaultCPUAllocator on Linux
    "not enough memory: you tried to allocate",  # DefaultCPUAllocator elsewhere
    "cannot allocate memory",  # the operating system: mmap, page-locked memory
    "_alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED and their kin
    "bad_alloc",  # C++, passed on in words
    "invalid buffer size",  # MPS, for one tensor beyond the largest buffer
)


class ShrinkingBatches:
    """Cuts work into batches of at most `size` items; where memory runs out, `size` is halved for all that follows."""

    def __init__(self, size: int, model: str) -> None:
        self.size = size
        self._model = model

    def run(self, items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Answer]]) -> Iterator[Answer]:
        """One answer of `work` per item, in their order; a batch is worked on when its first answer is asked for.

        Raises: OutOfMemory, naming the model, where memory runs out on a single item. The size is then what it was
        before: other things fill the memory, and a caller that halves its own batch asks again.
        """
        size_before, done = self.size, 0
        while done < len(items):
            batch = items[done : done + self.size]
            answers = _unless_out_of_memory(work, batch)
            if answers is not None:
                yield from answers
                done += len(batch)
            elif len(batch) == 1:
                self.size = size_before
                raise out_of_memory(self._model)
            else:
                self.size = (len(batch) + 1) // 2


def out_of_memory(model: str) -> OutOfMemory:
    """The error for a model that has not the memory for a single image."""
    return OutOfMemory(model, "runs out of memory on one image", "take a smaller model, or --device cpu")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the host or on a device."""
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    message = str(error).lower()
    return any(words in message for words in _OUT_OF_MEMORY)


def _unless_out_of_memory(
    work: Callable[[Sequence[Item]], Sequence[Answer]], batch: Sequence[Item]
) -> Sequence[Answer] | None:
    try:
        return work(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    _free_caches()  # behind the except block: inside, the error's frames still hold the tensors of the failed batch
    return None


def _free_caches() -> None:
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()

"""Batches of what a model is given, halved where memory runs out.

No torch is imported here: only where something else has, it keeps memory that can be given back.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from runtime.memory import is_out_of_memory
from schemas.errors import OutOfMemory

Item = TypeVar("Item")
Answer = TypeVar("Answer")


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

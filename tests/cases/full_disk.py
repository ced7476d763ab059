"""A disk that is full, for this process."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def room(size_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """While it is open no file grows beyond `size_bytes`, as on a disk that is full; None: until it is told a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    if size_bytes is not None:
        limit(size_bytes)
    try:
        yield limit
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

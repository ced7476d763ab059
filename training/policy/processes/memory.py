"""The memory allocator of a training on CPUs."""

import ctypes
import sys


def keep_memory() -> bool:
    """Makes glibc reuse freed tensor memory instead of returning it; returns whether it does. No effect elsewhere.

    Otherwise a fifth of a training's time on CPUs goes into returning and requesting pages; results are equal.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
    return mallopt is not None and all(mallopt(option, size) == 1 for option, size in ((-3, 1 << 30), (-1, 2**31 - 1)))

"""How the system and the libraries say that memory ran out, which is never a fault of the file that was being read."""

from errno import ENOMEM

#: What the message of an error says, in lower case, where an allocation failed. Not among them is
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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the host or on a device."""
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    if isinstance(error, OSError) and error.errno == ENOMEM:
        return True
    message = str(error).lower()
    return any(words in message for words in _OUT_OF_MEMORY)

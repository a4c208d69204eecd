"""Memory of this process."""

import ctypes

# glibc keeps freed memory in a heap for each thread; other C libraries have no such function.
_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_memory_back() -> None:
    """Give memory that was freed back to the system."""
    if _TRIM is not None:
        _TRIM(0)

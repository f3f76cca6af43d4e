"""Memory that was freed, given back: what allocators keep for later adds up where large histories come and go."""

import ctypes
from contextlib import suppress

import pyarrow

__all__ = ["return_freed_memory"]


def return_freed_memory() -> None:
    """Give back what Arrow's pool and the C library keep of freed memory.

    The latter is a function of GNU's C library; other systems go without.
    """
    pyarrow.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

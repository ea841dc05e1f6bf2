"""Memory that a step frees stays with the process: else the system takes it, and hands it out page by page in the next step."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3)."""
HEAP_BYTES = 64 * 2**20
"""Of a heap of glibc's; a thread's empty heap goes back to the system where less than this is to stay."""
CHOSEN = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""How the names of variables begin by which somebody has chosen otherwise, or another allocator."""


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, in all threads; return whether it was told to. Of a thread it keeps no block larger than a heap.

    A step on the CPU allocates and frees the same tensors again and again, and the larger they are the more of them come fresh from
    the system. The process stays at least as large as it was at its peak, and grows where sizes vary and do not fit what was freed.
    Nothing changes where the environment has a variable of `CHOSEN`.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith(CHOSEN) for name in os.environ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(TRIM_THRESHOLD, -1), mallopt(TOP_PAD, HEAP_BYTES), mallopt(MMAP_MAX, 0)])

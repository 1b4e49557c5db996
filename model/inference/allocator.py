"""How the C library treats memory that the engine frees.

A forward pass on a CPU takes and frees the same tens of megabytes hundreds of times a second. By default glibc hands
each such block back to the kernel, which has to clear it page by page when it is taken again: a quarter of the time of
a MobileNetV2 pass.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
MMAP_BYTES = 128 * 2**20
"""Larger blocks, those of very large pictures, still go back to the kernel as soon as they are freed."""
TRIM_BYTES = 512 * 2**20
"""The heap keeps this much free memory at its end."""


def keep_freed_memory() -> bool:
    """Have this process keep freed blocks for their next use; tells whether the C library took the advice.

    One arena for all threads: the others are made of pieces too small for the engine's blocks.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    advice = ((_M_MMAP_THRESHOLD, MMAP_BYTES), (_M_TRIM_THRESHOLD, TRIM_BYTES), (_M_ARENA_MAX, 1))
    return all(mallopt(option, ctypes.c_int(value)) for option, value in advice)

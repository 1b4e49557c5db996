"""Settings of the C library's memory allocator. Imports no torch.

A forward pass on a CPU allocates and frees the same tens of megabytes hundreds of times a second. By default glibc
returns each such block to the kernel, which clears it page by page when it is allocated again: a quarter of the time of
a MobileNetV2 pass.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
MMAP_BYTES = 128 * 2**20
"""Larger blocks, those of very large pictures, still return to the kernel as soon as they are freed."""
TRIM_BYTES = 512 * 2**20
"""The heap keeps at most this much free memory at its end."""


def keep_freed_memory() -> bool:
    """Make this process keep freed blocks for reuse; returns whether the C library accepted the settings.

    All threads use one arena: further arenas are too small for the engine's blocks.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    advice = ((_M_MMAP_THRESHOLD, MMAP_BYTES), (_M_TRIM_THRESHOLD, TRIM_BYTES), (_M_ARENA_MAX, 1))
    return all(mallopt(option, ctypes.c_int(value)) for option, value in advice)

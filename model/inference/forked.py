"""The guard against computing after a fork: the new process has none of the threads that torch waits for."""

import os

_process = 0
"""The process that computes; 0 before the first computation."""


def check() -> None:
    """Check that no other process has computed here before a fork; from now on this one has.

    Raises:
        RuntimeError: One has. Without this error the computation would never end.
    """
    global _process
    own = os.getpid()
    if _process not in (0, own):
        raise RuntimeError(
            "this process was forked from one that had computed scores, and has none of its threads: start processes "
            "by multiprocessing's method 'spawn' in the place of 'fork', or compute in the forked ones alone"
        )
    _process = own

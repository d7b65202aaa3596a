"""Gives memory that is free back to the operating system.

On a CPU each batch has a length of its own, so that what one leaves in glibc's heap seldom fits the next, and what lies
on top of a hole keeps it: trainings of the embedded model were seen with 3.3 and 3.6 GiB of heap, all but
a tenth of it in the process's first arena, so that fewer arenas would change nothing.
"""

import ctypes
import time

_EVERY_S = 60.0


class Spare:
    """Belongs to one loop, which calls `give_back` as often as it likes."""

    def __init__(self, every_s: float = _EVERY_S) -> None:
        self._every_s, self._given_at = every_s, time.monotonic()

    def give_back(self) -> None:
        """Once in a while; it takes milliseconds. Where the C library has no way to do so, nothing."""
        if time.monotonic() - self._given_at < self._every_s:
            return
        self._given_at = time.monotonic()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

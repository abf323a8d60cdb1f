"""Memory that every batch frees and asks for again stays with the process in between."""

import ctypes
from contextlib import suppress

# glibc's numbers (malloc.h), and bytes. A batch of 64 makes activations of up to 8 MB, of 33 MB in networks four times
# as wide; what is larger than the threshold goes back to the system when it is freed, as arrays of all images should.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_IN_ALL, _KEPT_EACH = 512 << 20, (256 << 20, 32 << 20)  # an older glibc takes no more than the latter


def keep_freed_memory() -> None:
    """Has this process keep freed memory, up to 512 MB at a time; does nothing with another C library than glibc.

    By default glibc gives an activation back to the system as soon as it is freed, and the next batch waits for every
    page of it to be made anew: on 2 cores that was a tenth of a training step, and a fifth of encoding.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        # Either setting ends glibc's own adaptation of the other, so the second without the first is worse than none.
        if any(mallopt(_M_MMAP_THRESHOLD, kept) for kept in _KEPT_EACH):
            mallopt(_M_TRIM_THRESHOLD, _KEPT_IN_ALL)

"""Keep freed memory in the process while training on the CPU.

glibc gives every large block back to the kernel when a tensor is freed and faults it in anew for the next one. A
training step frees and allocates hundreds of megabytes, so page faults can cost more than the arithmetic: on a 2-core
virtual machine the step of `benchmarks/train_step.py` took several times as long without this.
"""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1  # mallopt takes an int


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed blocks. Does nothing elsewhere; returns whether it took effect."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has no mallopt
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 30) and mallopt(_M_TRIM_THRESHOLD, _NEVER))

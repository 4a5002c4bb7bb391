"""The peak memory of a block of code, as the device counts it."""

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path

import torch


class PeakMemory:
    """`with PeakMemory() as memory: ...` then `memory.bytes`.

    On CUDA the allocator's peak. On Linux's CPU the process's peak resident set, reset at the start of the block, when
    what was freed before goes back to the system (glibc keeps it: gigabytes after a training); elsewhere the peak since
    the process began.
    """

    bytes: int = 0

    def __enter__(self) -> "PeakMemory":
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        elif (reset := Path("/proc/self/clear_refs")).exists():
            gc.collect()
            with contextlib.suppress(AttributeError):  # another C library
                ctypes.CDLL(None).malloc_trim(0)
            with contextlib.suppress(OSError):  # not ours to reset in some containers: the peak is the process's
                reset.write_text("5")
        return self

    def __exit__(self, *_) -> None:
        if torch.cuda.is_available():
            self.bytes = torch.cuda.max_memory_allocated()
            return
        status = Path("/proc/self/status")
        if status.exists():
            line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            self.bytes = int(line.split()[1]) * 1024
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            self.bytes = peak if sys.platform == "darwin" else peak * 1024

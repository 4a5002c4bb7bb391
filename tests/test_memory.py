import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
import torch
from kd_bench.memory import PeakMemory

with PeakMemory() as clean:
    torch.ones(1)
kept = []
for _ in range(4000):  # 400 MB in pieces that malloc does not give back, each before one that stays
    freed = torch.ones(25_000)
    kept.append(torch.ones(1_000))
    globals().setdefault("held", []).append(freed)
del held, freed
with PeakMemory() as before:
    pass
with PeakMemory() as after:
    torch.ones(50_000_000)
print(before.bytes - clean.bytes, after.bytes - before.bytes)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be reset on Linux only")
def test_the_peak_is_the_blocks_own():
    """Without what the process had freed before, and with what the block takes."""
    command = [sys.executable, "-c", MEASURE]
    freed, taken = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert freed < 100_000_000  # 16 MB stay
    assert 150_000_000 < taken < 300_000_000

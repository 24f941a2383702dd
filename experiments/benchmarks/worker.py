"""A process that runs training steps on request, so that frameworks can be timed in turn."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from experiments.environment import peak_memory


def resident() -> float:
    """Resident memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def serve(run: Callable[[int], None], first_step_seconds: float, **facts) -> None:
    """Answers each line `n` on standard input with one of JSON: seconds that `run(n)` took, resident MiB, and the most
    that was resident at any time. facts: what else the record is to hold of the worker."""
    print(json.dumps({"first_step_seconds": first_step_seconds, **facts}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        run(int(line))
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "resident_mib": resident(), "peak_mib": peak_memory()}), flush=True)

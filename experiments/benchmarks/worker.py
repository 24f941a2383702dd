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


def _peak() -> int:
    """Most memory at any time so far, MiB: an accelerator's, where JAX computes on one, else this process's."""
    if jax := sys.modules.get("jax"):
        stats = jax.devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in stats:
            return stats["peak_bytes_in_use"] // 2**20
    return peak_memory()


def serve(run: Callable[[int], None], first_step_seconds: float, **facts) -> None:
    """Answers each line `n` on standard input with one of JSON: seconds that `run(n)` took, resident MiB, and the most
    at any time. facts: what else the record is to hold of the worker."""
    print(json.dumps({"first_step_seconds": first_step_seconds, **facts}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        run(int(line))
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "resident_mib": resident(), "peak_mib": _peak()}), flush=True)

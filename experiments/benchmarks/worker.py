"""A process that runs training steps on request, so that frameworks can be timed in turn."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from experiments import cli
from experiments.environment import peak_memory

Run = Callable[[int], None]
"""Runs so many training steps."""


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


def main(worker: str, kind: str, of_jax: Callable[[str], Run], of_torch: Callable[[str, bool], Run]) -> None:
    """Serves the training steps of one framework, `jax`, `torch eager` or `torch compiled`, on work of one kind."""
    began = time.perf_counter()
    cli.keep_freed_memory()
    run = of_jax(kind) if worker == "jax" else of_torch(kind, worker == "torch compiled")
    run(1)
    serve(run, time.perf_counter() - began)


def serve(run: Run, first_step_seconds: float, **facts) -> None:
    """Answers each line `n` on standard input with one of JSON: seconds that `run(n)` took, resident MiB, and the most
    at any time. facts: what else the record is to hold of the worker."""
    print(json.dumps({"first_step_seconds": first_step_seconds, **facts}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        run(int(line))
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "resident_mib": resident(), "peak_mib": _peak()}), flush=True)

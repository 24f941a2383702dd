"""Where a result was measured: package versions, devices, machine, commit."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets", "jieba"),
    *("sentencepiece", "sacremoses", "scikit-learn"),
)


def environment() -> dict:
    """The `environment` entry of `result.json`. `dirty` is None where there is no git checkout."""
    import jax

    return {
        "python": platform.python_version(),
        **{name.replace("-", "_"): version(name) for name in PACKAGES},
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "cpu": _cpu(),
        "cores": _cores(),
        "peak_memory_mib": peak_memory(),
        **_commit(),
    }


def version(package: str) -> str | None:
    """Of an installed package, None where there is none of this name."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # installed under another name, tfds-nightly say
        return None


def _cores() -> int | None:
    """Those that this process may use, which `taskset` or a scheduler may have made fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak_memory() -> int | None:
    """Most resident memory of this process so far, MiB (Linux; getrusage would count a parent's before exec)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def _commit() -> dict:
    def git(*arguments: str) -> str | None:
        try:
            root = Path(__file__).resolve().parents[1]
            done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}

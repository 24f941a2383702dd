"""The same numbers on 1 or 8 devices, 1 or 2 hosts, by jit or pmap, replicas together or not."""

import functools
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

RUNS = {
    1: ["classification/jit/1", "classification/jit/2", "annealed/jit/2", "translation/jit/1"],
    3: ["classification/jit/1/4", "classification/pmap/1/4"],
    4: ["annealed/jit/2", "annealed/pmap/2", "translation/jit/1", "translation/pmap/1"],
    6: ["classification/jit/2", "classification/pmap/2"],
    8: [f"classification/{mode}/1{stop}" for mode in ("jit", "pmap") for stop in ("", "/1/10")],
}
"""Devices -> what is trained on them, in one process: to start one takes as long as to train."""


def start(folder: Path, runs: Sequence[str], devices: int, *hosts: int) -> subprocess.Popen:
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    words = [sys.executable, "-m", "tests.parallel_worker", str(folder), ",".join(runs), *map(str, hosts)]
    return subprocess.Popen(words, env=os.environ | {"XLA_FLAGS": flags}, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]


def load(folder: Path, runs: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    return {run: dict(np.load(folder / f"{number}.npz")) for number, run in enumerate(runs)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """trained(devices): what each of its runs gives, parameters and progress, by name."""

    @functools.cache
    def trained(devices: int) -> dict[str, dict[str, np.ndarray]]:
        folder = tmp_path_factory.mktemp(f"devices{devices}")
        finish(start(folder, RUNS[devices], devices))
        found = load(folder, RUNS[devices])
        assert all(one["devices"] == devices for one in found.values())
        return found

    return trained


def same(found, wanted) -> None:
    assert set(found) == set(wanted)
    for name in set(wanted) - {"devices", "processes"}:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("mode", "replicas"), [("jit", 1), ("jit", 2), ("pmap", 1), ("pmap", 2)])
def test_eight_devices(trained, mode, replicas):
    """Batches of 8 over 3 devices (2 replicas on 6) do not divide evenly: rows without weight fill them up."""
    found = trained(8 if replicas == 1 else 6)[f"classification/{mode}/{replicas}"]
    same(found, trained(1)[f"classification/jit/{replicas}"])


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_resuming_on_eight_devices_is_exact(trained, mode):
    """Interrupted within an epoch, the run ends with the very bits of one that was not."""
    whole, resumed = (trained(8)[f"classification/{mode}/1{stop}"] for stop in ("", "/1/10"))
    assert set(whole) == set(resumed)
    for name in whole:
        np.testing.assert_array_equal(whole[name], resumed[name], err_msg=name)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_micro_batches_on_several_devices(trained, mode):
    """Neither 3 devices nor 4 parts divide 8 rows times the other."""
    same(trained(3)[f"classification/{mode}/1/4"], trained(1)["classification/jit/1"])


def test_two_hosts(trained, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runs = ["classification/jit/1"]
    for process in [start(tmp_path, runs, 2, number, 2, port) for number in range(2)]:
        finish(process)
    (found,) = load(tmp_path, runs).values()
    assert found["processes"] == 2 and found["devices"] == 4
    same(found, trained(1)["classification/jit/1"])


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_rates_are_cut_on_several_devices(trained, mode):
    """Nesterov's method, of two replicas whose rates are cut at different evaluations."""
    wanted = trained(1)["annealed/jit/2"]
    assert wanted["cuts"].tolist() == [3, 3] and len(set(wanted["steps"])) == 2
    same(trained(4)[f"annealed/{mode}/2"], wanted)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_translation_on_several_devices(trained, mode):
    """Token-weighted loss with label smoothing, batches by tokens, dropout: 5 and 10 rows over 4 devices."""
    same(trained(4)[f"translation/{mode}/1"], trained(1)["translation/jit/1"])

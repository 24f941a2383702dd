"""The same numbers on 1 or 8 devices, 1 or 2 hosts, by jit or pmap, replicas together or not."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest


def start(out, mode, replicas, devices, *hosts) -> subprocess.Popen:
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    words = [sys.executable, "-m", "tests.parallel_worker", str(out), mode, str(replicas), *map(str, hosts)]
    return subprocess.Popen(words, env=os.environ | {"XLA_FLAGS": flags}, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Final parameters on one device, by number of replicas."""
    found = {}
    for replicas in (1, 2):
        out = tmp_path_factory.mktemp("alone") / "run.npz"
        finish(start(out, "classification/jit", replicas, 1))
        found[replicas] = dict(np.load(out))
    return found


def same(found, wanted) -> None:
    assert set(found) == set(wanted)
    for name in set(wanted) - {"devices", "processes"}:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("mode", "replicas"), [("jit", 1), ("jit", 2), ("pmap", 1), ("pmap", 2)])
def test_eight_devices(tmp_path, alone, mode, replicas):
    """Batches of 8 over 3 devices do not divide evenly: rows without weight fill them up."""
    devices = 8 if replicas == 1 else 6
    finish(start(tmp_path / "run.npz", f"classification/{mode}", replicas, devices))
    found = dict(np.load(tmp_path / "run.npz"))
    assert found["devices"] == devices
    same(found, alone[replicas])


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_resuming_on_eight_devices_is_exact(tmp_path, mode):
    """Interrupted within an epoch, the run ends with the very bits of one that was not."""
    outs = [tmp_path / "whole.npz", tmp_path / "resumed.npz"]
    for out, stop in zip(outs, (0, 10)):
        finish(start(out, f"classification/{mode}/1/{stop}", 1, 8))
    whole, resumed = (dict(np.load(out)) for out in outs)
    assert set(whole) == set(resumed) and whole["devices"] == 8
    for name in whole:
        np.testing.assert_array_equal(whole[name], resumed[name], err_msg=name)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_micro_batches_on_several_devices(tmp_path, alone, mode):
    """Neither 3 devices nor 4 parts divide 8 rows times the other."""
    finish(start(tmp_path / "run.npz", f"classification/{mode}/4", 1, 3))
    same(dict(np.load(tmp_path / "run.npz")), alone[1])


def test_two_hosts(tmp_path, alone):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "run.npz"
    processes = [start(out, "classification/jit", 1, 2, number, 2, port) for number in range(2)]
    for process in processes:
        finish(process)
    found = dict(np.load(out))
    assert found["processes"] == 2 and found["devices"] == 4
    same(found, alone[1])


def test_rates_are_cut_on_several_devices(tmp_path):
    """Nesterov's method, of two replicas whose rates are cut at different evaluations."""
    outs = {words: tmp_path / f"{number}.npz" for number, words in enumerate([("jit", 1), ("jit", 4), ("pmap", 4)])}
    for (mode, devices), out in outs.items():
        finish(start(out, f"annealed/{mode}", 2, devices))
    wanted, *found = (dict(np.load(out)) for out in outs.values())
    assert wanted["cuts"].tolist() == [3, 3] and len(set(wanted["steps"])) == 2
    for one in found:
        assert one["devices"] == 4
        same(one, wanted)


def test_translation_on_several_devices(tmp_path):
    """Token-weighted loss with label smoothing, batches by tokens, dropout: 5 and 10 rows over 4 devices."""
    outs = {words: tmp_path / f"{number}.npz" for number, words in enumerate([("jit", 1), ("jit", 4), ("pmap", 4)])}
    for (mode, devices), out in outs.items():
        finish(start(out, f"translation/{mode}", 1, devices))
    wanted, *found = (dict(np.load(out)) for out in outs.values())
    for one in found:
        assert one["devices"] == 4
        same(one, wanted)

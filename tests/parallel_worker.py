"""One training run for test_parallel.py:
`python -m tests.parallel_worker OUT.npz MODE[/MICRO_BATCHES[/STOP]] REPLICAS [PROCESS COUNT PORT]`.
With STOP the run is interrupted after that many steps and resumed.

The number of devices comes from XLA_FLAGS; COUNT processes on the loopback address share one run."""

import contextlib
import dataclasses
import functools
import sys
import tempfile
from pathlib import Path

import jax


def main(out: str, mode: str, replicas: str, *hosts: str) -> None:
    jax.config.update("jax_platforms", "cpu")
    if hosts:
        process, count, port = (int(word) for word in hosts)
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=count, process_id=process)

    import numpy as np

    from research.fit import Stopped
    from tests.test_fit import SETTINGS, fit, member, stop_after

    # every host writes to the same folder, as on a shared file system
    folder = Path(out).with_suffix(".checkpoints") if hosts else Path(tempfile.mkdtemp())
    given = mode.split("/")
    mode, parts, stop = given + ["jit", "1", "0"][len(given) :]
    settings = dataclasses.replace(SETTINGS, micro_batches=int(parts))
    members = [member(r, 2 * r) for r in range(int(replicas))]
    train = functools.partial(fit, folder, members, mode=mode, settings=settings, parts=settings.micro_batches)
    if int(stop):
        with contextlib.suppress(Stopped):
            train(should_stop=stop_after(int(stop)))
    variables, progress = train()
    local = lambda x: np.asarray(x.addressable_data(0) if hosts else x)
    leaves = {jax.tree_util.keystr(path): local(x) for path, x in jax.tree_util.tree_leaves_with_path(variables)}
    if jax.process_index() == 0:
        best = np.array(progress.best)
        np.savez(out, best=best, devices=jax.device_count(), processes=jax.process_count(), **leaves)


if __name__ == "__main__":
    main(*sys.argv[1:])

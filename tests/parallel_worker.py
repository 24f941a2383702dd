"""Training runs for test_parallel.py, one after another:
`python -m tests.parallel_worker FOLDER RUN,RUN,... [PROCESS COUNT PORT]` writes FOLDER/<number>.npz for each.

A run is TASK/MODE/REPLICAS[/MICRO_BATCHES[/STOP]]; with STOP it is interrupted after that many steps and resumed. The
number of devices comes from XLA_FLAGS; COUNT processes on the loopback address share the runs."""

import contextlib
import dataclasses
import functools
import sys
from pathlib import Path

import jax


def main(folder: str, runs: str, *hosts: str) -> None:
    jax.config.update("jax_platforms", "cpu")
    if hosts:
        process, count, port = (int(word) for word in hosts)
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=count, process_id=process)
    for number, run in enumerate(runs.split(",")):
        train(Path(folder) / f"{number}.npz", *run.split("/"))


def train(out: Path, task: str, mode: str, replicas: str, parts: str = "1", stop: str = "0") -> None:
    import numpy as np

    from research.fit import Stopped
    from tests.test_fit import ANNEALED, SETTINGS, annealed, fit, member, stop_after

    settings, make = SETTINGS, {}
    members = [member(r, 2 * r) for r in range(int(replicas))]
    if task == "translation":
        settings, members, make = *translation(settings), {"make": translator}
    if task == "annealed":
        settings, members, make = ANNEALED, [member(r, 5 * r) for r in range(int(replicas))], {"make": annealed}
    folder = out.with_suffix(".checkpoints")  # of all hosts, as on a shared file system
    run = functools.partial(fit, folder, members, settings, mode=mode, parts=int(parts), **make)
    if int(stop):
        with contextlib.suppress(Stopped):
            run(should_stop=stop_after(int(stop)))
    variables, progress = run()
    local = lambda x: np.asarray(x.addressable_data(0) if jax.process_count() > 1 else x)
    leaves = {jax.tree_util.keystr(path): local(x) for path, x in jax.tree_util.tree_leaves_with_path(variables)}
    if jax.process_index() == 0:
        found = {name: np.array(getattr(progress, name)) for name in ("best", "cuts", "steps")}
        np.savez(out, **found, devices=jax.device_count(), processes=jax.process_count(), **leaves)


def translation(settings):
    """Settings with batches by tokens, and a member: pairs of two lengths, whose weights, tokens, differ."""
    import numpy as np

    from research.batches import Table
    from research.fit import Member

    random = np.random.default_rng(3)
    draw = lambda: [[*random.integers(4, 20, random.integers(1, 8)).tolist(), 3] for _ in range(50)]
    texts = {"source": draw(), "target": draw()}
    table = Table.build(texts, [0] * 50, pairs()[-1])
    splits = {"train": np.arange(40), "dev": np.arange(40, 50)}
    changes = {"batch_tokens": 40, "epochs": 2, "monitor": "loss", "average": 1}
    return dataclasses.replace(settings, **changes), [Member((0,), table, splits)]


def pairs():
    """The lengths of pairs."""
    from research.batches import make_buckets

    return make_buckets((4, 8), ("source", "target"))


def translator(*, replicas: int, **placing):
    """A trainer of a small Transformer with dropout and label smoothing."""
    import optax

    from research.fit import Trainer
    from research.parallel import Placement
    from research.tasks import Translation
    from research.transformer import Shape, Transformer

    shape = Shape(d_model=16, d_ff=16, heads=2, d_k=8, d_v=8, dropout=0.2)
    task = Translation(Transformer(20, 20, 8, shape, layers=1), smoothing=0.1)
    return Trainer(task, optax.sgd(0.1), pairs(), Placement(replicas, **placing), eval_batch_size=16)


if __name__ == "__main__":
    main(*sys.argv[1:])

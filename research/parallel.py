"""Where a step runs: one program over all devices by `jit` over sharded arrays, or by `pmap`, for one or more replicas.

A mesh has the axes (replica, data). R replicas train in one program: the state carries a leading axis of R, the step is
`vmap`ped over it and sharded over the devices; what is left of the devices shares each replica's batch. With R = 1
there is no such axis. Both modes, and any number of devices, compute the same sums and divide them once.
"""

import math
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from research.batches import Batch, Slots, Table, fill, gather
from research.errors import ConfigError


class Placement:
    """Puts state, tables and batches on the devices and compiles functions of them.

    stream: batches are put together on the host instead of being gathered from a table on the device. parts: a batch's
    rows on a device are filled up to a multiple of it (micro-batches)."""

    def __init__(self, replicas: int = 1, mode: str = "jit", stream: bool = False, parts: int = 1):
        if mode not in ("jit", "pmap"):
            raise ConfigError(f"train.parallel: '{mode}' is neither jit nor pmap")
        if mode == "pmap" and jax.process_count() > 1:
            raise ConfigError("train.parallel = pmap runs on one host; use jit on several")
        self.replicas, self.mode, self.stream = replicas, mode, stream
        devices = np.array(jax.devices())
        split = math.gcd(replicas, len(devices)) if mode == "jit" else 1
        self.shards = len(devices) // split  # of each replica's batch
        self.parts = parts
        self.mesh = Mesh(devices.reshape(split, self.shards), ("replica", "data"))
        self.axis_name = "data" if mode == "pmap" else None  # over which a step has to sum
        self._copy = jax.pmap(lambda device, x: x, in_axes=(0, None)) if mode == "pmap" else None

    def _sharding(self, *axes: str) -> NamedSharding:
        lead = ("replica",) if self.replicas > 1 else ()
        return NamedSharding(self.mesh, PartitionSpec(*lead, *axes))

    def _put(self, tree: PyTree, sharding: NamedSharding) -> PyTree:
        """Arrays that every host holds whole, as global arrays."""

        def put(x):
            if jax.process_count() == 1:
                return jax.device_put(x, sharding)
            x = np.asarray(x)
            return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

        return jax.tree.map(put, tree)

    def put(self, tree: PyTree) -> PyTree:
        """State, keys or a table (with the replica axis, where there is one), whole for every shard of the batch."""
        if self.mode == "pmap":
            return self._copy(np.arange(self.shards), tree)
        return self._put(tree, self._sharding())

    def take(self, tree: PyTree) -> PyTree:
        """The inverse of `put`: one copy."""
        first = lambda x: x.addressable_shards[0].data[0]  # x[0] is a program of its own over all devices
        return jax.tree.map(first, tree) if self.mode == "pmap" else tree

    def stack(self, trees: Sequence[PyTree]) -> PyTree:
        """One tree a replica -> one tree with the replica axis."""
        return trees[0] if self.replicas == 1 else jax.tree.map(lambda *x: np.stack(x), *trees)

    def load(self, tables: Sequence[Table], slots: Sequence[Slots]) -> PyTree:
        """The transfer of one batch to the devices: a table and `Slots`, of one bucket, for each replica. What comes
        back is for a compiled function's `loaded`: the examples' places in the table, or (streaming) the batch."""
        unit = self.shards * self.parts
        size = -(-len(slots[0].indices) // unit) * unit
        loaded = []
        for table, slot in zip(tables, slots):
            slot = fill(slot, size)
            place = (slot.indices.astype(np.int32), slot.weights, np.arange(size, dtype=np.int32))
            loaded.append(gather(table, *place, bucket=slot.bucket) if self.stream else place)
        arrays = self.stack(loaded)
        if self.mode == "jit":
            return self._put(arrays, self._sharding("data"))
        axis = 0 if self.replicas == 1 else 1  # the rows, cut into one part a device, which goes first
        cut = lambda x: np.moveaxis(x.reshape(*x.shape[:axis], self.shards, -1, *x.shape[axis + 1 :]), axis, 0)
        return jax.tree.map(cut, arrays)

    def _over_replicas(self, function: Callable) -> Callable:
        """`function(*arguments, batch)` as `run(*arguments, table, loaded, bucket)`, over all replicas."""

        def run(*values):
            *values, bucket = values

            def one(*values):
                *values, table, loaded = values
                batch = loaded if isinstance(loaded, Batch) else gather(table, *loaded, bucket=bucket)
                return function(*values, batch)

            return (one if self.replicas == 1 else jax.vmap(one))(*values)

        return run

    def compile_step(self, step: Callable) -> Callable:
        """`step(state, sums, key, batch) -> (state, sums)` as `run(state, sums, keys, table, loaded, bucket)`.

        `state` is donated; the bucket is static. Under pmap `step` sums over `axis_name`."""
        run = self._over_replicas(step)
        if self.mode == "pmap":
            return jax.pmap(run, axis_name="data", static_broadcasted_argnums=5, donate_argnums=0)
        return jax.jit(run, static_argnums=5, donate_argnums=0, out_shardings=self._sharding())

    def compile_evaluation(self, evaluate: Callable) -> Callable:
        """`evaluate(variables, batch)` as `run(variables, table, loaded, bucket)`; the result is whole everywhere."""
        whole = NamedSharding(self.mesh, PartitionSpec())
        return jax.jit(self._over_replicas(evaluate), static_argnums=3, out_shardings=whole)

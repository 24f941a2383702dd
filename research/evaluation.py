"""Predictions and scores of a whole split, every example once, whatever the batch size."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import PyTree

from research.batches import Slots, Table, align, plan
from research.parallel import Placement


class Evaluator:
    """A task's `predict`, compiled once a bucket length, over one or more replicas."""

    def __init__(self, task, buckets: Sequence[int], batch_size: int, replicas: int = 1):
        self.task, self.buckets, self.batch_size = task, tuple(buckets), batch_size
        self.placement = Placement(replicas, stream=True)
        self._predict = self.placement.compile_evaluation(task.predict)

    def predict(
        self, variables: PyTree, tables: Sequence[Table], chosen: Sequence[np.ndarray | None]
    ) -> list[np.ndarray]:
        """Predictions for the examples `chosen` (None: all) from each replica's table, in their order."""
        parts = [t if i is None else jax.tree.map(lambda x, i=i: x[i], t) for t, i in zip(tables, chosen)]
        options = {"buckets": self.buckets, "batch_size": self.batch_size, "seed": None}
        found: list[np.ndarray | None] = [None] * len(parts)
        waiting: list[tuple[Sequence[Slots], jax.Array]] = []

        def collect(slots: Sequence[Slots], values: jax.Array) -> None:
            values = np.asarray(values) if len(parts) > 1 else np.asarray(values)[None]
            for r, slot in enumerate(slots):
                if found[r] is None:
                    found[r] = np.zeros((len(parts[r].labels), *values.shape[2:]), values.dtype)
                real = slot.weights > 0
                found[r][slot.indices[real]] = values[r, : len(real)][real]

        for slots in align([plan(p.longest(), np.arange(len(p.labels)), **options) for p in parts]):
            loaded = self.placement.load(parts, slots)
            waiting.append((slots, self._predict(variables, None, loaded, slots[0].length)))
            if len(waiting) > 1:  # one batch behind, so that the device is never idle
                collect(*waiting.pop(0))
        for entry in waiting:
            collect(*entry)
        return found

    def score(self, variables: PyTree, tables: Sequence[Table], chosen: Sequence[np.ndarray]) -> list[dict[str, float]]:
        """Each replica's metrics on the examples `chosen` from its table."""
        labels = [table.labels[i] for table, i in zip(tables, chosen)]
        return [self.task.score(p, y) for p, y in zip(self.predict(variables, tables, chosen), labels)]

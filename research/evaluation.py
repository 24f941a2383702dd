"""A function of every example, and the scores of a whole split, whatever the batch size."""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import PyTree

from research.batches import Lengths, Slots, Table, align, plan
from research.parallel import Placement


class EachExample:
    """`function(variables, batch)`, whose results begin with the batch axis, compiled once a bucket, over one or more
    replicas. Fewer examples than `batch_size` make batches of the next power of two. Shorter examples go first: a
    search for translations lasts as long as that of the longest in its batch."""

    def __init__(self, function: Callable, buckets: Sequence[Lengths], batch_size: int, replicas: int = 1):
        self.buckets, self.batch_size = tuple(buckets), batch_size
        self.placement = Placement(replicas, stream=True)
        self._run = self.placement.compile_evaluation(function)

    def __call__(
        self,
        variables: PyTree,
        tables: Sequence[Table],
        chosen: Sequence[np.ndarray | None],
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[list[PyTree]]:
        """For each replica the results for the examples `chosen` (None: all) from its table, in their order.

        progress: called with the number of examples done since the last call."""
        parts = [t if i is None else jax.tree.map(lambda x, i=i: x[i], t) for t, i in zip(tables, chosen)]
        most = max((len(part.labels) for part in parts), default=0)
        rows = min(self.batch_size, 1 << max(0, most - 1).bit_length())  # a line that is typed is not computed 64 times
        options = {"buckets": self.buckets, "rows": rows, "seed": None}
        shorter_first = lambda part: np.argsort(sum(part.lengths.values()), kind="stable")
        found: list[list] = [[None] * len(part.labels) for part in parts]
        waiting: list[tuple[Sequence[Slots], PyTree]] = []

        def collect(slots: Sequence[Slots], values: PyTree) -> None:
            values = jax.tree.map(np.asarray, values)
            for r, slot in enumerate(slots):
                real = np.flatnonzero(slot.weights)
                for row in real:
                    place = (row,) if len(parts) == 1 else (r, row)
                    found[r][slot.indices[row]] = jax.tree.map(lambda x, place=place: x[place], values)
                progress(len(real))

        for slots in align([plan(p.lengths, shorter_first(p), **options) for p in parts]):
            waiting.append((slots, self._run(variables, None, self.placement.load(parts, slots), slots[0].bucket)))
            if len(waiting) > 1:  # one batch behind, so that the device is never idle
                collect(*waiting.pop(0))
        for entry in waiting:
            collect(*entry)
        return found


class Evaluator:
    """A task's predictions and scores."""

    def __init__(self, task, buckets: Sequence[Lengths], batch_size: int, replicas: int = 1):
        self.task = task
        self._predict = EachExample(task.predict, buckets, batch_size, replicas)
        self.placement = self._predict.placement

    def predict(
        self,
        variables: PyTree,
        tables: Sequence[Table],
        chosen: Sequence[np.ndarray | None],
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[np.ndarray]:
        """Predictions for the examples `chosen` from each replica's table, in their order; arguments: `EachExample`."""
        return [np.stack(rows) for rows in self._predict(variables, tables, chosen, progress)]

    def final(
        self, variables: PyTree, tables: Sequence[Table], splits: Sequence[Mapping[str, np.ndarray]]
    ) -> list[dict[str, dict[str, float]]]:
        """Each replica's metrics on its splits, `dev` and others, with a threshold of the decision from `dev`."""
        found = {s: self.predict(variables, tables, [mine[s] for mine in splits]) for s in splits[0]}
        records = []
        for r, (table, mine) in enumerate(zip(tables, splits)):
            labels = {s: table.labels[chosen] for s, chosen in mine.items()}
            threshold = self.task.threshold(found["dev"][r], labels["dev"])
            records.append({s: self.task.score(found[s][r], labels[s], threshold) for s in mine})
        return records

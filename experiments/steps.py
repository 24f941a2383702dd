"""A run's training step by itself, without its loop, corpus and files: what timing and counting need."""

import jax
import numpy as np
import optax

from research.batches import Lengths, Slots, Table
from research.fit import Member
from research.parallel import Placement
from research.tasks import Task
from research.train import init_state, train_step


class Steps:
    """A fresh model and the step that a run makes: gathered from a table on the device, compiled by its placement."""

    def __init__(
        self,
        task: Task,
        optimizer: optax.GradientTransformation,
        table: Table,
        bucket: Lengths,
        *,
        row_decay: float | None = None,
        seed: int = 0,
    ):
        self._table, self._bucket, self._placement = table, bucket, Placement()
        init, dropout = Member((seed,), table, {}).keys()
        fresh = jax.jit(lambda key: init_state(task, optimizer, key, bucket=bucket, by_rows=row_decay is not None))
        self.state = self._placement.put(fresh(init))
        self.sums = self._placement.put({"loss": np.float32(0), "weight": np.float32(0)})
        self._fixed = (self._placement.put(dropout), self._placement.put(table))
        options = {"task": task, "optimizer": optimizer, "row_decay": row_decay}
        self._step = self._placement.compile_step(lambda s, u, k, b: train_step(s, u, k, b, **options))

    def __call__(self, chosen: np.ndarray) -> None:
        """One step on the table's rows `chosen`; done when `state` is ready."""
        self.state, self.sums = self._step(*self._arguments(chosen))

    def flops(self, chosen: np.ndarray) -> float:
        """Floating-point operations of such a step, as XLA counts them."""
        return self._step.lower(*self._arguments(chosen)).compile().cost_analysis()["flops"]

    def _arguments(self, chosen: np.ndarray) -> tuple:
        slots = Slots(chosen, np.ones(len(chosen), np.float32), self._bucket)
        return self.state, self.sums, *self._fixed, self._placement.load([self._table], [slots]), self._bucket

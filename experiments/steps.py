"""A run's training step by itself, without its loop, corpus and files: what timing and counting need."""

import math

import jax
import numpy as np
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr

from research.batches import Lengths, Slots, Table
from research.fit import Member, Trainer
from research.parallel import Placement
from research.tasks import Task


def operations(jaxpr: Jaxpr) -> float:
    """Floating-point operations of the matrix products and convolutions, two for a multiplication with its addition.

    A scan's body counts as often as it runs (XLA's own count takes it once), a while loop's once."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2.0 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            kernel, numbers = equation.invars[1].aval, equation.params["dimension_numbers"]
            total += 2.0 * equation.outvars[0].aval.size * kernel.size / kernel.shape[numbers.rhs_spec[0]]
        else:
            inner = [getattr(x, "jaxpr", x) for x in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr)]
            inside = sum(operations(x) for x in inner if isinstance(x, Jaxpr))
            total += inside * equation.params.get("length", 1) if inside else 0.0
    return total


def _is_jaxpr(x) -> bool:
    return isinstance(x, Jaxpr | ClosedJaxpr)


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
        trainer = Trainer(task, optimizer, (bucket,), self._placement, eval_batch_size=1, row_decay=row_decay)
        init, dropout = Member((seed,), table, {}).keys()
        self.state, self.sums = self._placement.put(trainer.init(init, None)), trainer.no_sums()
        self._fixed = (self._placement.put(dropout), self._placement.put(table))
        self._step = trainer.step

    def __call__(self, chosen: np.ndarray) -> None:
        """One step on the table's rows `chosen`; done when `state` is ready."""
        self.state, self.sums = self._step(*self._arguments(chosen))

    def flops(self, chosen: np.ndarray) -> float:
        """Floating-point operations of such a step's matrix products and convolutions."""
        return operations(self._step.trace(*self._arguments(chosen)).jaxpr.jaxpr)

    def _arguments(self, chosen: np.ndarray) -> tuple:
        slots = Slots(chosen, np.ones(len(chosen), np.float32), self._bucket)
        return self.state, self.sums, *self._fixed, self._placement.load([self._table], [slots]), self._bucket

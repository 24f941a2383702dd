"""TrainState and the pure training step; `fit.py` runs it.

Loss and gradients travel as sums and are divided once by the batch's sum of weights, so that devices, hosts and
micro-batches only change where the terms of a sum are computed.
"""

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree, UInt32

from research.batches import Batch, Lengths
from research.optimizers import TABLE, gather_rows, scatter_rows, touched_rows


@flax.struct.dataclass
class TrainState:
    """What a step changes. touched: the step up to which each table row's optimiser state has been brought (None where
    every step updates the whole table)."""

    step: Int[Array, ""]
    params: PyTree
    constants: PyTree
    opt_state: PyTree
    touched: Int[Array, " V"] | None

    @property
    def variables(self) -> PyTree:
        return {"params": self.params, **self.constants}


Sums = dict[str, Float[Array, ""]]
"""Sum of losses and of weights since the last evaluation."""


def init_state(
    task,
    optimizer: optax.GradientTransformation,
    key: UInt32[Array, "2"],
    *,
    bucket: Lengths,
    vectors=None,
    by_rows=False,
) -> TrainState:
    """A fresh state. vectors: pre-trained word vectors, which replace every random table of the model."""
    variables = task.init(jax.random.wrap_key_data(key), bucket)
    if vectors is not None:
        is_table = lambda path: getattr(path[-1], "key", None) == TABLE
        replace = lambda path, x: jnp.asarray(vectors) if is_table(path) else x
        variables = jax.tree_util.tree_map_with_path(replace, variables)
    params = variables.pop("params")
    by_rows = by_rows and TABLE in params
    touched = jnp.zeros(params[TABLE].shape[0], jnp.int32) if by_rows else None
    return TrainState(jnp.zeros((), jnp.int32), params, variables, optimizer.init(params), touched)


def train_step(
    state: TrainState,
    sums: Sums,
    key: UInt32[Array, "2"],
    batch: Batch,
    *,
    task,
    optimizer: optax.GradientTransformation,
    row_decay: float = 1.0,
    micro_batches: int = 1,
    axis_name: str | None = None,
) -> tuple[TrainState, Sums]:
    """One update, θ ← θ + optimiser(Σ ∇ℓ_i / Σ w_i), and the sums with this batch added.

    A batch without weight changes nothing. row_decay: factor by which the optimiser's accumulators of an idle table row
    shrink a step; used where `state.touched` asks for updates of the touched rows alone. micro_batches: parts whose
    gradients are computed one after another. axis_name: the pmap axis over which the batch is split."""
    whole, rows = state, None
    if state.touched is not None:
        everywhere = batch.tokens if axis_name is None else jax.lax.all_gather(batch.tokens, axis_name)
        ids = jnp.concatenate([x.ravel() for x in jax.tree.leaves(everywhere)])
        rows = touched_rows(ids, state.touched.shape[0])
        missed = state.step - state.touched.at[rows].get(mode="fill", fill_value=0)
        state = state.replace(
            params=gather_rows(state.params, rows),
            constants=gather_rows(state.constants, rows),
            opt_state=gather_rows(state.opt_state, rows, row_decay ** missed.astype(jnp.float32)),
        )
        batch = batch.replace(tokens={name: jnp.searchsorted(rows, x) for name, x in batch.tokens.items()})

    dropout_key = jax.random.fold_in(jax.random.wrap_key_data(key), state.step)

    def loss(params, part: Batch):
        return task.loss({"params": params, **state.constants}, part, dropout_key)

    def terms(part: Batch):
        (total, (weight, changed)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, part)
        return (total, weight, gradient), changed

    if micro_batches == 1:
        (total, weight, gradient), changed = terms(batch)
    else:  # every so many-th row, so that each part lies on all devices; a scan, so that one gradient is kept at a time
        parts = jax.tree.map(lambda x: x.reshape(-1, micro_batches, *x.shape[1:]).swapaxes(0, 1), batch)

        def add(sums, part: Batch):
            found, changed = terms(part)
            return jax.tree.map(jnp.add, sums, found), changed

        zero = jnp.zeros((), jnp.float32)
        none = (zero, zero, jax.tree.map(jnp.zeros_like, state.params))
        (total, weight, gradient), changed = jax.lax.scan(add, none, parts)
        changed = jax.tree.map(lambda x: x[-1], changed)
    if axis_name is not None:
        total, weight, gradient = jax.lax.psum((total, weight, gradient), axis_name)
    gradient = jax.tree.map(lambda g: g / jnp.maximum(weight, 1.0), gradient)

    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    stepped = (optax.apply_updates(state.params, updates), opt_state, {**state.constants, **changed})
    params, opt_state, constants = jax.tree.map(
        lambda new, old: jnp.where(weight > 0, new, old), stepped, (state.params, state.opt_state, state.constants)
    )
    step = state.step + (weight > 0)
    if rows is None:
        new = state.replace(step=step, params=params, constants=constants, opt_state=opt_state)
    else:
        new = whole.replace(
            step=step,
            params=scatter_rows(whole.params, params, rows),
            opt_state=scatter_rows(whole.opt_state, opt_state, rows),
            touched=whole.touched.at[rows].set(step, mode="drop"),
        )
    return new, {"loss": sums["loss"] + total, "weight": sums["weight"] + weight}

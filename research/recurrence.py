"""LSTMs over sequences and over binary trees, with gradients written out.

A step of a recurrence is small, so what can be done for all steps at once is done outside of the loop: the product of
the inputs with their weights before it, and in the backward pass the gradient of the recurrent weights, a sum over all
steps, as one matrix product after it. Automatic differentiation would add a product of a few rows in every step.

Dimension letters: N sequences, T positions (of a tree: nodes), D features of an input, H of a state.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.experimental import rnn
from jaxtyping import Array, Bool, Float, Int

from research.layers import flat_dot_general

Pair = tuple[Float[Array, "..."], Float[Array, "..."]]


def _rows(x: Float[Array, "T N D"]) -> Float[Array, "T*N D"]:
    return x.reshape(-1, x.shape[-1])


def _gates(x: Float[Array, "N 4H"]) -> tuple[Float[Array, "N H"], ...]:
    """Input, forget and output gate, and the candidate g, from their sums in this order: i, f, o, g."""
    i, f, o, g = jnp.split(x, 4, axis=-1)
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jax.nn.sigmoid(o), jnp.tanh(g)


@jax.custom_vjp
def lstm(
    x: tuple[Float[Array, "T N 4H"], ...],
    weights: tuple[Float[Array, "H 4H"], ...],
    mask: tuple[Bool[Array, "T N"], ...],
) -> tuple[Float[Array, "T N H"], ...]:
    """Hidden states of several LSTMs of one length, one step of each at a time; states begin at zero.

    x: sums of the gates without their recurrent part. weights: of the states. Where `mask` is False the state is set to
    zero, so a sequence whose padding comes first (one that is read backwards) begins with its first real position."""
    return _lstm_forward(x, weights, mask)[0]


def _lstm_forward(x, weights, mask):
    def cell(state: Pair, x, weight, mask):
        h, c = state
        i, f, o, g = _gates(x + h @ weight)
        c = jnp.where(mask[:, None], f * c + i * g, 0.0)
        h = jnp.where(mask[:, None], o * jnp.tanh(c), 0.0)
        return (h, c), (h, c, jnp.concatenate([i, f, o, g], axis=-1))

    def step(states, now):
        both = [cell(state, *each) for state, *each in zip(states, now[0], weights, now[1])]
        return tuple(state for state, _ in both), tuple(kept for _, kept in both)

    zero = lambda w, x: jnp.zeros((x.shape[1], w.shape[0]), x.dtype)
    states = tuple((zero(*pair), zero(*pair)) for pair in zip(weights, x))
    _, kept = jax.lax.scan(step, states, (x, mask))
    return tuple(h for h, _, _ in kept), (kept, weights, mask)


def _lstm_backward(saved, d_outputs):
    kept, weights, mask = saved
    before = lambda x: jnp.pad(x[:-1], ((1, 0), (0, 0), (0, 0)))
    cells = tuple((c, before(c), gates) for _, c, gates in kept)

    def cell(slopes: Pair, d_output, values, weight, mask):
        """d_h, d_c: gradients of the state after the step, then of the one before it."""
        c, c_before, gates = values
        i, f, o, g = jnp.split(gates, 4, axis=-1)
        d_h, d_c = slopes
        d_h = jnp.where(mask[:, None], d_h + d_output, 0.0)
        top = jnp.tanh(c)
        d_c = jnp.where(mask[:, None], d_c + d_h * o * (1 - top * top), 0.0)
        parts = (d_c * g * i * (1 - i), d_c * c_before * f * (1 - f), d_h * top * o * (1 - o), d_c * i * (1 - g * g))
        d_x = jnp.concatenate(parts, axis=-1)
        return (d_x @ weight.T, d_c * f), d_x

    def step(slopes, now):
        both = [cell(slope, *each) for slope, *each in zip(slopes, now[0], now[1], weights, now[2])]
        return tuple(slope for slope, _ in both), tuple(d_x for _, d_x in both)

    start = tuple((jnp.zeros_like(h[0]),) * 2 for h, _, _ in kept)
    _, d_x = jax.lax.scan(step, start, (d_outputs, cells, mask), reverse=True)
    d_weights = tuple(_rows(before(h)).T @ _rows(d) for (h, _, _), d in zip(kept, d_x))
    return d_x, d_weights, None


lstm.defvjp(_lstm_forward, _lstm_backward)


def forget_bias(key, shape, dtype=jnp.float32) -> Float[Array, " 4H"]:
    """One for the forget gate and zero for the others (Jozefowicz et al. 2015, section 2.2)."""
    del key
    return jnp.zeros(shape, dtype).reshape(4, -1).at[1].set(1.0).ravel()


class Direction(NamedTuple):
    """Weights of one LSTM: of the input and of the state, and the bias; of the gates in the order i, f, o, g."""

    w: Float[Array, "D 4H"]
    u: Float[Array, "H 4H"]
    b: Float[Array, " 4H"]


def cudnn_weights(directions: Sequence[Direction]) -> Float[Array, " weights"]:
    """Of both directions in one row, as cuDNN takes them: gates as rows in the order i, f, g, o, and a second bias."""

    def rows(x: Float[Array, "*D 4H"]) -> Float[Array, " flat"]:
        i, f, o, g = jnp.split(x, 4, axis=-1)
        return jnp.concatenate([i, f, g, o], axis=-1).T.ravel()

    matrices = [rows(x) for one in directions for x in (one.w, one.u)]
    biases = [x for one in directions for x in (rows(one.b), jnp.zeros_like(one.b))]
    return jnp.concatenate([*matrices, *biases])


class BiLSTM(nn.Module):
    """Two LSTMs over a sequence, one from either end, their states side by side (equations 1 and 2 of Chen et al.
    2017, with the LSTM of Hochreiter and Schmidhuber 1997 in its common form with forget gates).

    The backward LSTM begins at each sequence's own last position, and states at padding are zero. fused: `cudnn` for
    cuDNN's LSTM on an NVIDIA GPU."""

    hidden: int
    fused: str = ""

    @nn.compact
    def __call__(self, x: Float[Array, "N T D"], mask: Bool[Array, "N T"]) -> Float[Array, "N T 2H"]:
        size, orthogonal = 4 * self.hidden, nn.initializers.orthogonal()
        directions = [
            Direction(
                self.param(f"{side}_input", nn.initializers.glorot_uniform(), (x.shape[-1], size)),
                self.param(f"{side}_state", orthogonal, (self.hidden, size)),
                self.param(f"{side}_bias", forget_bias, (size,)),
            )
            for side in ("forward", "backward")
        ]
        if self.fused:
            zero = jnp.zeros((2, x.shape[0], self.hidden), x.dtype)
            sizes = (x.shape[-1], self.hidden, 1, 0.0, True)  # one layer, no dropout, both directions
            lengths = jnp.sum(mask, axis=1, dtype=jnp.int32)
            exact = jax.lax.Precision.HIGHEST  # else in TF32, of ten bits
            return rnn.lstm(x, zero, zero, cudnn_weights(directions), lengths, *sizes, exact)[0]
        x, mask = x.swapaxes(0, 1), mask.T
        sums = [flat_dot_general(inputs, one.w) + one.b for inputs, one in zip((x, x[::-1]), directions)]
        states, backward = lstm(tuple(sums), tuple(one.u for one in directions), (mask, mask[::-1]))
        return jnp.concatenate([states, backward[::-1]], axis=-1).swapaxes(0, 1)


def left_children(inner: Bool[Array, "N T"]) -> Int[Array, "N T"]:
    """Place of each inner node's left child, in trees whose nodes stand in post-order; the right child stands right
    before its parent. Of leaves the value means nothing.

    With the subtrees that are complete after each node counted (a leaf adds one, an inner node joins two), the left
    child is the last node before with the count that its parent has."""
    count = jnp.cumsum(jnp.where(inner, -1, 1), axis=1)
    place = jnp.arange(inner.shape[1])
    same = (count[:, :, None] == count[:, None, :]) & (place < place[:, None])
    return jnp.max(jnp.where(same, place, 0), axis=-1)


def _tree_gates(x: Float[Array, "N 5H"]) -> tuple[Float[Array, "N H"], ...]:
    """Input, output, left and right forget gate, and the candidate u."""
    i, o, left, right, u = jnp.split(x, 5, axis=-1)
    return (*(jax.nn.sigmoid(gate) for gate in (i, o, left, right)), jnp.tanh(u))


@jax.custom_vjp
def tree_lstm(
    x: Float[Array, "T N 4H"],
    weights: tuple[Float[Array, "H 5H"], Float[Array, "H 5H"]],
    left: Int[Array, "T N"],
    inner: Bool[Array, "T N"],
    mask: Bool[Array, "T N"],
) -> Float[Array, "T N H"]:
    """Hidden states of all nodes of binary trees in post-order (equations 3 to 10 of Chen et al. 2017).

    x: sums of input gate, output gate, forget gates (both have the same) and candidate without their recurrent part.
    weights: U of the left and of the right child. left: places of left children. States of padding are zero."""
    return _tree_forward(x, weights, left, inner, mask)[0]


def _children(states: Float[Array, "T N H"], t, left: Int[Array, " N"], inner: Bool[Array, " N"]) -> Pair:
    """States of the left and the right child of the nodes at `t`, zero for leaves."""
    there = inner[:, None]
    right = states[jnp.maximum(t - 1, 0)]
    return jnp.where(there, states[left, jnp.arange(states.shape[1])], 0.0), jnp.where(there, right, 0.0)


def _tree_forward(x, weights, left, inner, mask):
    length, count, size = *x.shape[:2], x.shape[2] // 4

    def step(states: Pair, now):
        t, x, left, inner, mask = now
        (h_left, h_right), (c_left, c_right) = (_children(state, t, left, inner) for state in states)
        x = jnp.concatenate([x[:, : 3 * size], x[:, 2 * size :]], axis=-1)  # both forget gates have the input's sum
        i, o, f_left, f_right, u = gates = _tree_gates(x + h_left @ weights[0] + h_right @ weights[1])
        c = jnp.where(mask[:, None], f_left * c_left + f_right * c_right + i * u, 0.0)
        h = jnp.where(mask[:, None], o * jnp.tanh(c), 0.0)
        return tuple(all.at[t].set(new) for all, new in zip(states, (h, c))), jnp.concatenate(gates, axis=-1)

    states = (jnp.zeros((length, count, size), x.dtype),) * 2
    (h, c), gates = jax.lax.scan(step, states, (jnp.arange(length), x, left, inner, mask))
    return h, (h, c, gates, weights, left, inner, mask)


def _tree_backward(saved, d_output):
    h, c, gates, weights, left, inner, mask = saved
    columns = jnp.arange(h.shape[1])

    def step(slopes: Pair, now):
        t, c_t, gates, left, inner, mask = now
        i, o, f_left, f_right, u = jnp.split(gates, 5, axis=-1)
        c_left, c_right = _children(c, t, left, inner)
        d_h, d_c = (jnp.where(mask[:, None], slope[t], 0.0) for slope in slopes)
        top = jnp.tanh(c_t)
        d_c += d_h * o * (1 - top * top)
        forget = [d_c * child * f * (1 - f) for child, f in ((c_left, f_left), (c_right, f_right))]
        d_gates = jnp.concatenate([d_c * u * i * (1 - i), d_h * top * o * (1 - o), *forget, d_c * i * (1 - u * u)], -1)
        there = inner[:, None]
        to_left = (d_gates @ weights[0].T, d_c * f_left)
        to_right = (d_gates @ weights[1].T, d_c * f_right)
        slopes = tuple(
            slope.at[left, columns].add(jnp.where(there, a, 0.0)).at[t - 1].add(jnp.where(there, b, 0.0))
            for slope, a, b in zip(slopes, to_left, to_right)
        )
        return slopes, d_gates

    length = h.shape[0]
    start = (d_output, jnp.zeros_like(c))
    _, d_gates = jax.lax.scan(step, start, (jnp.arange(length), c, gates, left, inner, mask), reverse=True)
    children = jax.vmap(lambda t, left, inner: _children(h, t, left, inner))(jnp.arange(length), left, inner)
    d_weights = tuple(_rows(child).T @ _rows(d_gates) for child in children)
    d_i, d_o, d_left, d_right, d_u = jnp.split(d_gates, 5, axis=-1)
    return jnp.concatenate([d_i, d_o, d_left + d_right, d_u], axis=-1), d_weights, None, None, None


tree_lstm.defvjp(_tree_forward, _tree_backward)


class TreeLSTM(nn.Module):
    """The state of every node of a binary tree from its children's (equations 3 to 10 of Chen et al. 2017; Zhu et al.
    2015), without biases, as they are written."""

    hidden: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "N T D"], inner: Bool[Array, "N T"], mask: Bool[Array, "N T"]
    ) -> Float[Array, "N T H"]:
        """x: an input of every node, which stand in post-order. inner: the nodes that have two children."""
        w = self.param("input", nn.initializers.glorot_uniform(), (x.shape[-1], 4 * self.hidden))
        u = tuple(
            self.param(f"{side}_state", nn.initializers.orthogonal(), (self.hidden, 5 * self.hidden))
            for side in ("left", "right")
        )
        x = x.swapaxes(0, 1)
        return tree_lstm(flat_dot_general(x, w), u, left_children(inner).T, inner.T, mask.T).swapaxes(0, 1)

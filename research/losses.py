"""Cross entropy over a large vocabulary, without storing a logit for every position and word.

Dimension letters: N positions, D features, V vocabulary, C positions of a chunk.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

CHUNK = 512
"""Positions whose logits are held at once: 512 × 8,000 float32 are 16 MB, which stay near the processor."""


def _chunks(*arrays):
    """Leading axes of N dealt into chunks, each of which takes every so many-th row: rows that lie on several devices
    do so in every chunk, and each device works on its own. Rows of zeros fill up."""
    count = -(-len(arrays[0]) // CHUNK)
    size = -(-len(arrays[0]) // count)
    pad = lambda x: jnp.pad(x, [(0, count * size - len(x)), *[(0, 0)] * (x.ndim - 1)])
    return tuple(jnp.swapaxes(pad(x).reshape(size, count, *x.shape[1:]), 0, 1) for x in arrays)


def _whole(chunks: Float[Array, "K C ..."], size: int) -> Float[Array, "{size} ..."]:
    """What `_chunks` made chunks of."""
    return jnp.swapaxes(chunks, 0, 1).reshape(-1, *chunks.shape[2:])[:size]


def _logits(hidden: Float[Array, "C D"], table: Float[Array, "V D"], bias: Float[Array, " V"]):
    product = jnp.einsum("cd,vd->cv", hidden, table.astype(hidden.dtype), preferred_element_type=jnp.float32)
    return product + bias


def _terms(logits: Float[Array, "C V"], targets: Int[Array, " C"], smoothing: float):
    """Cross entropy with the smoothed target, and log of the sum of exponentials."""
    lse = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    return lse - (1.0 - smoothing) * chosen - smoothing * jnp.mean(logits, axis=-1), lse


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def smoothed_cross_entropy(
    hidden: Float[Array, "N D"],
    table: Float[Array, "V D"],
    bias: Float[Array, " V"],
    targets: Int[Array, " N"],
    weights: Float[Array, " N"],
    smoothing: float,
) -> Float[Array, ""]:
    """Σ_n w_n H(q_n, softmax(h_n Eᵀ + b)) in nats, with q_n = (1 - ε) 1[target] + ε / V (Szegedy et al.
    2016, section 7).

    The gradient is made in the same pass, chunk by chunk: it needs the logits once more, and they are there."""
    total, _ = _forward(hidden, table, bias, targets, weights, smoothing, gradient=False)
    return total


def _forward(hidden, table, bias, targets, weights, smoothing, gradient=True):
    def step(carry, chunk):
        h, target, weight = chunk
        logits = _logits(h, table, bias)
        losses, lse = _terms(logits, target, smoothing)
        total, to_table, to_bias = carry
        total += jnp.sum(losses * weight)
        if not gradient:
            return (total, to_table, to_bias), ()
        slope = jnp.exp(logits - lse[:, None]) - smoothing / logits.shape[-1]
        slope = (slope - (1.0 - smoothing) * jax.nn.one_hot(target, logits.shape[-1])) * weight[:, None]
        cast = slope.astype(h.dtype)
        to_table += jnp.einsum("cv,cd->vd", cast, h, preferred_element_type=jnp.float32)
        to_hidden = jnp.einsum("cv,vd->cd", cast, table.astype(h.dtype))
        return (total, to_table, to_bias + jnp.sum(slope, axis=0)), to_hidden

    start = (jnp.zeros(()), jnp.zeros(table.shape), jnp.zeros(bias.shape))
    if not gradient:
        start = (start[0], None, None)
    (total, to_table, to_bias), to_hidden = jax.lax.scan(step, start, _chunks(hidden, targets, weights))
    if not gradient:
        return total, None
    return total, (_whole(to_hidden, len(hidden)), to_table, to_bias)


def _backward(smoothing, saved, cotangent):
    del smoothing
    scaled = ((x * cotangent).astype(x.dtype) for x in saved)
    return *scaled, None, None


smoothed_cross_entropy.defvjp(_forward, _backward)


def token_scores(
    hidden: Float[Array, "N D"], table: Float[Array, "V D"], bias: Float[Array, " V"], targets: Int[Array, " N"]
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """-log p(target) in nats, and whether the target is the most probable word, at every position."""

    def score(chunk):
        h, target = chunk
        logits = _logits(h, table, bias)
        losses, _ = _terms(logits, target, 0.0)
        return losses, (jnp.argmax(logits, axis=-1) == target).astype(jnp.float32)

    return tuple(_whole(x, len(hidden)) for x in jax.lax.map(score, _chunks(hidden, targets)))

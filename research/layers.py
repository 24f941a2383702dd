"""What more than one paper uses: masks, masked pooling, and dropout that does not depend on how a batch is split.

Dimension letters: B sentences in the batch, L positions, D features.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt32


def length_mask(lengths: Int[Array, " B"], size: int) -> Bool[Array, "B {size}"]:
    """True at the positions 0 … length - 1 of each row."""
    return jnp.arange(size) < lengths[:, None]


def masked_max(x: Float[Array, "B L D"], mask: Bool[Array, "B L"]) -> Float[Array, "B D"]:
    """Largest value over the positions where `mask` holds; every row needs one such position."""
    return jnp.max(jnp.where(mask[..., None], x, -jnp.inf), axis=1)


def masked_mean(x: Float[Array, "B L D"], mask: Bool[Array, "B L"]) -> Float[Array, "B D"]:
    """Mean over the positions where `mask` holds; zero for a row without any."""
    total = jnp.sum(jnp.where(mask[..., None], x, 0.0), axis=1)
    return total / jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)


def masked_softmax(scores: Float[Array, "*batch L"], mask: Bool[Array, "*#batch L"]) -> Float[Array, "*batch L"]:
    """Softmax over the last axis with scores outside `mask` at minus infinity, so that they get exactly zero weight
    (multiplying the scores by the mask would leave them exp(0)). A row without any true entry is all zero."""
    top = jnp.max(jnp.where(mask, scores, -jnp.inf), axis=-1, keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0.0))
    weights = jnp.where(mask, jnp.exp(jnp.where(mask, scores, 0.0) - top), 0.0)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total == 0.0, 1.0, total)


def hash_bits(words: UInt32[Array, "2"], counter: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """32 bits for every `counter`: MurmurHash3's 32-bit finaliser, twice, each time after a word of the key.

    A hash of a counter, as in Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". JAX's own threefry
    makes better bits than a dropout mask needs, in 20 rounds: it took a third of a Transformer's step on a CPU."""
    for word in words:
        counter = counter ^ word
        counter = (counter ^ (counter >> 16)) * jnp.uint32(0x85EBCA6B)
        counter = (counter ^ (counter >> 13)) * jnp.uint32(0xC2B2AE35)
        counter = counter ^ (counter >> 16)
    return counter


def keep_mask(key: Key[Array, ""], rows: Int[Array, " B"], shape: tuple[int, ...], keep: float) -> Bool[Array, "B ..."]:
    """Bernoulli(keep) of shape `(B, *shape)`, to within 2⁻³²; row i depends on `key` and `rows[i]` alone.

    `rows` numbers the examples of the whole batch, so a batch cut into devices, hosts or micro-batches draws the
    masks that it draws uncut."""
    size = math.prod(shape)
    place = jnp.arange(size, dtype=jnp.uint32).reshape(shape)
    first = rows.astype(jnp.uint32).reshape(-1, *(1 for _ in shape)) * jnp.uint32(size)
    bits = hash_bits(jax.random.bits(key, (2,), jnp.uint32), first + place)
    return bits < jnp.uint32(min(round(keep * 2**32), 2**32 - 1))


class Dropout(nn.Module):
    """r ∘ x with r ~ Bernoulli(1 - rate), not rescaled, while training; (1 - rate) x in evaluation.

    This is the form of Hinton et al. 2012 that Kim uses (section 2.1, equation 5: at test time ŵ = p w). The inverted
    form that libraries offer, r ∘ x / (1 - rate), trains with inputs 1 / (1 - rate) times as large, under which a norm
    constraint on the following weights is looser by that factor; `inverted` chooses it.
    """

    rate: float
    inverted: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."], rows: Int[Array, " B"] | None) -> Float[Array, "B ..."]:
        """`rows`: the examples' places in the whole batch while training, None in evaluation."""
        if self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        scale = 1.0 / keep if self.inverted else 1.0
        if rows is None:
            return x * (keep * scale)
        return jnp.where(keep_mask(self.make_rng("dropout"), rows, x.shape[1:], keep), x * scale, 0.0)

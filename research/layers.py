"""What more than one paper uses: masks, masked pooling, and dropout that does not depend on how a batch is split.

Dimension letters: B sentences in the batch, L positions, D features.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

Rows = Int[Array, " B"] | None
"""Examples' places in the whole batch while training, None in evaluation: what `Dropout` draws its masks by."""
Bias = Float[Array, "#B 1 #T S"]
"""Additive mask of attention: who sees whom (`attention_bias`)."""


def options_of(module: type[nn.Module], *arguments: str) -> set[str]:
    """The fields of a module that a configuration sets: all but `arguments` and Flax's own."""
    return module.__dataclass_fields__.keys() - {*arguments, "parent", "name"}


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


class WordVectors(nn.Module):
    """A table of vectors, one an id: the parameter `embedding`, or with `static` a constant of this name. Pre-trained
    vectors replace the random ones, N(0, 1), after `init`."""

    vocab_size: int
    size: int
    variant: str = "rand"

    @nn.compact
    def __call__(self, tokens: Int[Array, "*B"]) -> Float[Array, "*B {self.size}"]:
        shape, init = (self.vocab_size, self.size), nn.initializers.normal(1.0)
        if self.variant == "static":
            return self.variable("constants", "embedding", lambda: init(self.make_rng("params"), shape)).value[tokens]
        return self.param("embedding", init, shape)[tokens]


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
    """Bernoulli(keep) of shape `(B, D)` or `(B, L, D)`, to within 2⁻³²; what a row draws at a position depends on
    `key`, `rows[i]` and the position alone.

    `rows` numbers the examples of the whole batch. So a batch cut into devices, hosts or micro-batches draws the masks
    that it draws uncut, and one that is padded further draws the same at the positions that it had.

    The counter of row r, position l and feature d is r D + d + l C. Multiples of C, which is 2³² divided by the golden
    ratio, lie as far from one another modulo 2³² as so many numbers can: counters differ while B L D < 1.9e9."""
    *positions, features = shape
    place = jnp.arange(features, dtype=jnp.uint32)
    if positions:
        place += jnp.arange(*positions, dtype=jnp.uint32)[:, None] * jnp.uint32(0x9E3779B1)
    first = rows.astype(jnp.uint32).reshape(-1, *(1 for _ in shape)) * jnp.uint32(features)
    bits = hash_bits(jax.random.bits(key, (2,), jnp.uint32), first + place)
    return bits < jnp.uint32(min(round(keep * 2**32), 2**32 - 1))


def flat_dot_general(x: Float[Array, "*B D"], kernel: Float[Array, "D F"], *options, **named) -> Float[Array, "*B F"]:
    """x W as one product of two matrices, for `nn.Dense(dot_general=...)`, whose dimension numbers it need not be told.

    The gradient of W then contracts one axis. Where it contracts several, XLA first transposes x in memory on a CPU."""
    del options, named
    flat = jax.lax.dot_general(x.reshape(-1, x.shape[-1]), kernel, (((1,), (0,)), ((), ())))
    return flat.reshape(*x.shape[:-1], -1)


class Dropout(nn.Module):
    """r ∘ x with r ~ Bernoulli(1 - rate), not rescaled, while training; (1 - rate) x in evaluation.

    This is the form of Hinton et al. 2012 that Kim uses (section 2.1, equation 5: at test time ŵ = p w). The inverted
    form that libraries offer, r ∘ x / (1 - rate), trains with inputs 1 / (1 - rate) times as large, under which a norm
    constraint on the following weights is looser by that factor; `inverted` chooses it.
    """

    rate: float
    inverted: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."], rows: Rows) -> Float[Array, "B ..."]:
        """`rows`: the examples' places in the whole batch while training, None in evaluation."""
        if self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        scale = 1.0 / keep if self.inverted else 1.0
        if rows is None:
            return x * (keep * scale)
        return jnp.where(keep_mask(self.make_rng("dropout"), rows, x.shape[1:], keep), x * scale, 0.0)


WORD_MASKS = ("position", "text", "pair")


def drop_words(
    x: Float[Array, "N L D"], rows: Int[Array, " N"] | None, rate: float, masks: str
) -> Float[Array, "N L D"]:
    """Dropout of the word vectors of N/2 premises and as many hypotheses, within a module's `__call__`.

    masks: one a `position`, one a `text` for all of its positions (Gal and Ghahramani 2016), or one a `pair` for those
    of both texts. Matching compares words, and equal words whose masks differ are less alike than in evaluation; one
    mask a pair leaves them equal."""
    drop = Dropout(rate, inverted=True, name="dropout_words")
    if masks == "position":
        return drop(x, rows)
    if masks == "pair" and rows is not None:
        rows = jnp.tile(rows[: len(rows) // 2], 2)
    return x * drop(jnp.ones_like(x[:, :1]), rows)


def places(segments: Int[Array, "B L"]) -> Int[Array, "B L"]:
    """Position of every token within its sentence, from 0: sentences are runs of one segment number."""
    index = jnp.arange(segments.shape[1])
    begins = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)))
    return index - jax.lax.cummax(jnp.where(begins, index, 0), axis=1)


def shift_right(tokens: Int[Array, "B L"], segments: Int[Array, "B L"], first: int) -> Int[Array, "B L"]:
    """Each token's predecessor in its sentence; `first` where there is none."""
    return jnp.where(places(segments) == 0, first, jnp.roll(tokens, 1, axis=1))


MASKED = -1e30
"""Added to a score it leaves nothing of its exponential, exactly; a row without any other entry stays finite."""


def attention_bias(
    queries: Int[Array, "B T"], keys: Int[Array, "B S"], *, causal: bool = False
) -> Float[Array, "B 1 T S"]:
    """Additive mask: 0 where query and key are of the same segment (0, padding, is looked at by none), else `MASKED`;
    `causal`: and where the key does not come after the query."""
    allowed = (queries[:, :, None] == keys[:, None, :]) & (keys[:, None, :] > 0)
    if causal:
        allowed &= jnp.arange(queries.shape[1])[:, None] >= jnp.arange(keys.shape[1])
    return jnp.where(allowed, 0.0, MASKED)[:, None]


def dot_product_attention(
    query: Float[Array, "B T H K"],
    keys: Float[Array, "B S H K"],
    values: Float[Array, "B S H W"],
    bias: Bias,
    *,
    scale: float,
    fused: str = "",
) -> tuple[Float[Array, "B T H W"], Float[Array, "B H T S"] | None]:
    """softmax(scale · Q Kᵀ + bias) V and the softmax's weights, which are computed in float32 (Vaswani et al. 2017,
    equation 1). fused: by an implementation of `jax.nn.dot_product_attention`, `xla` or `cudnn` (bfloat16, an NVIDIA
    GPU), which keeps the weights to itself (None)."""
    if fused:
        shape = (query.shape[0], 1, query.shape[1], keys.shape[1])
        bias = jnp.broadcast_to(bias, shape).astype(query.dtype)
        return jax.nn.dot_product_attention(query, keys, values, bias, scale=scale, implementation=fused), None
    scores = jnp.einsum("bthk,bshk->bhts", query, keys, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores * scale + bias)
    return jnp.einsum("bhts,bshw->bthw", weights.astype(values.dtype), values), weights

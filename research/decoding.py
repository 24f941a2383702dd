"""Beam search (and greedy decoding, which is a beam of 1) over a model's `encode`, `init_cache` and `decode_step`.

Dimension letters: B sentences, N beams a sentence, T target positions, V vocabulary.

A model keeps what it has computed in a cache whose arrays begin with (B, N); the search reorders the beams in it. One
compiled loop runs until every sentence is finished or has reached its longest length.
"""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from research.errors import ConfigError
from research.text import BOS, EOS, PAD

NEVER = -1e9
"""Log-probability of what must not be; finite, so that sums of it stay ordered."""


@dataclasses.dataclass(frozen=True)
class Search:
    """How to decode. beam: N. alpha, offset: of the length penalty. extra: longest output is the input's length + extra
    (Vaswani et al. 2017, section 6.1: 4, 0.6, 50). least: no </s> before so many tokens. best: outputs a sentence."""

    beam: int = 4
    alpha: float = 0.6
    offset: float = 5.0
    extra: int = 50
    least: int = 0
    best: int = 1

    def __post_init__(self):
        if self.beam < 1 or not 1 <= self.best <= self.beam:
            raise ConfigError(
                f"decode: beam and best must be at least 1, and best at most beam; got {self.beam} and {self.best}"
            )
        if self.extra < 0 or self.least < 0 or not 0.0 <= self.alpha <= 10.0 or not 0.0 <= self.offset <= 1e3:
            raise ConfigError(
                "decode: extra and least must be at least 0, alpha lie between 0 and 10, offset between 0 and 1000"
            )


class Hypotheses(NamedTuple):
    """The best outputs of each sentence, the best one first: tokens with their </s> (then padding), and scores.

    places: of the source token that each token attended to most, where asked for."""

    tokens: Int[Array, "B N T"]
    scores: Float[Array, "B N"]
    places: Int[Array, "B N T"] | None = None


class _State(NamedTuple):
    position: Int[Array, ""]
    tokens: Int[Array, "B N T"]  # of the open hypotheses
    scores: Float[Array, "B N"]  # their log-probabilities
    done: Hypotheses
    cache: PyTree


def length_penalty(length: Int[Array, "..."], alpha: float, offset: float = 5.0) -> Float[Array, "..."]:
    """lp(Y) = (5 + |Y|)^α / (5 + 1)^α, by which log P(Y | X) is divided: Wu et al. 2016, equation 14. With offset 0 in
    place of 5 it is |Y|^α, and |Y| for α = 1: Gehring et al. 2017, section 4.3."""
    return ((offset + length) / (offset + 1.0)) ** alpha


def search(
    model: nn.Module,
    variables: PyTree,
    source: Int[Array, "B S"],
    segments: Int[Array, "B S"],
    options: Search,
    prefix: Int[Array, "B P"] | None = None,
) -> Hypotheses:
    """The `options.best` outputs of each sentence. prefix: tokens that the outputs begin with, padded with `PAD`."""
    size = source.shape[1] + options.extra
    limits = jnp.sum(segments > 0, axis=1) + options.extra

    def begin(model: nn.Module):
        memory = model.encode(source, segments)
        return model.init_cache(memory, segments, beams=options.beam, size=size)

    fixed, cache = nn.apply(begin, model)(variables)
    step = lambda cache, tokens, position: model.apply(
        variables, fixed, cache, tokens, position, method=model.decode_step
    )
    return beam_search(step, cache, limits, size, options, prefix)


def beam_search(step, cache: PyTree, limits: Int[Array, " B"], size: int, options: Search, prefix=None) -> Hypotheses:
    """step: (cache, tokens (B, N), position) -> logits of the next tokens (B, N, V), and the cache with them in.

    Each turn extends the N open hypotheses of a sentence by every word. Of the best 2 N, those among the first N that
    end are finished, and the first N that do not end stay open. A sentence is finished when N hypotheses are, which
    makes a beam of 1 greedy decoding, or at its limit, where the only word left is </s>."""
    batch, n = len(limits), options.beam
    empty = jnp.full((batch, n, size), PAD, jnp.int32)
    scores = jnp.tile(jnp.array([0.0] + [NEVER] * (n - 1)), (batch, 1))  # one begin each, not N equal ones
    done = Hypotheses(empty, jnp.full((batch, n), NEVER))
    start = _State(jnp.zeros((), jnp.int32), empty, scores, done, cache)

    def open_sentences(state: _State) -> Bool[Array, " B"]:
        finished = jnp.sum(state.done.scores > NEVER / 2, axis=1) >= n
        return ~finished & (state.position < limits) & (jnp.max(state.scores, axis=1) > NEVER / 2)

    def turn(state: _State) -> _State:
        position = state.position
        last = jax.lax.dynamic_index_in_dim(state.tokens, jnp.maximum(position - 1, 0), 2, keepdims=False)
        last = jnp.where(position == 0, BOS, last)
        logits, cache = step(state.cache, last, position)
        logs = jax.nn.log_softmax(logits.astype(jnp.float32))
        words = logs.shape[-1]
        allowed = jnp.ones(words, bool).at[jnp.array([PAD, BOS])].set(False)
        logs = jnp.where(allowed, logs, NEVER)
        early = position < jnp.minimum(options.least, limits - 1)
        logs = logs.at[:, :, EOS].add(jnp.where(early, NEVER, 0.0)[:, None])
        ends = (position == limits - 1)[:, None, None]  # the last place is for </s>
        logs = jnp.where(ends & (jnp.arange(words) != EOS), NEVER, logs)
        if prefix is not None:
            given = jnp.pad(prefix, ((0, 0), (0, max(0, size - prefix.shape[1]))))[:, position][:, None, None]
            logs = jnp.where((given == PAD) | (jnp.arange(words) == given), logs, NEVER)

        totals = (state.scores[:, :, None] + logs).reshape(batch, -1)
        found, places = jax.lax.top_k(totals, min(2 * n, totals.shape[1]))
        beams, chosen = places // words, places % words
        tokens = jnp.take_along_axis(state.tokens, beams[:, :, None], axis=1)
        tokens = jax.lax.dynamic_update_index_in_dim(tokens, chosen, position, 2)

        going = open_sentences(state)[:, None]
        ended = (chosen == EOS) & (jnp.arange(found.shape[1]) < n) & (found > NEVER / 2) & going
        candidates = jnp.where(ended, found / length_penalty(position + 1, options.alpha, options.offset), NEVER)
        all_scores = jnp.concatenate([state.done.scores, candidates], axis=1)
        done_scores, order = jax.lax.top_k(all_scores, n)
        all_tokens = jnp.concatenate([state.done.tokens, tokens], axis=1)
        done = Hypotheses(jnp.take_along_axis(all_tokens, order[:, :, None], axis=1), done_scores)

        scores, order = jax.lax.top_k(jnp.where(chosen == EOS, 2 * NEVER, found), n)
        kept = jnp.take_along_axis(beams, order, axis=1)
        pick = lambda x: jnp.take_along_axis(x, kept.reshape(*kept.shape, *[1] * (x.ndim - 2)), axis=1)
        tokens = jnp.take_along_axis(tokens, order[:, :, None], axis=1)
        return _State(position + 1, tokens, scores, done, jax.tree.map(pick, cache) if n > 1 else cache)

    end = jax.lax.while_loop(lambda state: jnp.any(open_sentences(state)), turn, start)
    return Hypotheses(end.done.tokens[:, : options.best], end.done.scores[:, : options.best])

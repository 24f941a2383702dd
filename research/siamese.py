"""Baselines of matching that encode each text on its own: what attention between two texts must beat.

`siamese_bilstm`: average and maximum of a BiLSTM's states. `siamese_textcnn`: the network of Kim 2014 up to its
penultimate layer. Either gives vectors u and v of a pair, and [u; v; |u - v|; u ∘ v] goes through a hidden layer with
tanh to the classes. `cosine`: the cosine of the mean word vectors, scaled and shifted to the logit of two classes.
Dense layers begin as Flax has it, from a normal distribution of variance 1 / inputs; ESIM's are Glorot-uniform.

Dimension letters: B pairs, N = 2B texts (premises, then hypotheses), L positions, D features of a position, F of a
text, C classes.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from research.errors import ConfigError, check_choices, check_dropout, check_fields, check_sizes
from research.layers import (
    WORD_MASKS,
    Dropout,
    WordVectors,
    drop_words,
    length_mask,
    masked_max,
    masked_mean,
    options_of,
)
from research.recurrence import BiLSTM
from research.textcnn import largest_window

ARCHITECTURES = ("siamese_bilstm", "siamese_textcnn", "cosine")
VARIANTS = ("rand", "static", "non_static")

TENFOLD = 10.0
"""Of the scale and shift of a cosine. Adam's steps are as long as the learning rate, and those of single numbers have
far to go: at 1.0 the logits of LCQMC stayed above zero for ten epochs."""


class Siamese(nn.Module):
    """One of `ARCHITECTURES`."""

    vocab_size: int
    num_classes: int
    architecture: str
    variant: str = "rand"
    embedding_dim: int = 300
    hidden: int = 300
    dropout: float = 0.5
    word_masks: str = "position"
    kernel_sizes: tuple[int, ...] = (3, 4, 5)

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "N L"], lengths: Int[Array, " N"], rows: Int[Array, " N"] | None = None
    ) -> Float[Array, "B C"]:
        """Logits of the classes; arguments as of `research.esim.ESIM`."""
        drop = lambda name, x, rows: Dropout(self.dropout, inverted=True, name=f"dropout_{name}")(x, rows)
        words = length_mask(lengths, tokens.shape[1])
        x = WordVectors(self.vocab_size, self.embedding_dim, self.variant, name="words")(tokens)
        x = drop_words(jnp.where(words[..., None], x, 0.0), rows, self.dropout, self.word_masks)
        u, v = jnp.split(self._encode(x, jnp.maximum(lengths, 1)), 2)
        if self.architecture == "cosine":
            norms = jnp.sqrt(jnp.sum(u * u, -1) * jnp.sum(v * v, -1) + 1e-12)  # a text without words has cosine 0
            scale = self.param("scale", nn.initializers.constant(1.0), ())
            shift = self.param("shift", nn.initializers.constant(-0.5), ())
            logit = TENFOLD * (scale * jnp.sum(u * v, -1) / norms + shift)
            return jnp.stack([jnp.zeros_like(logit), logit], axis=-1)
        pairs = None if rows is None else rows[: len(u)]
        features = drop("pair", jnp.concatenate([u, v, jnp.abs(u - v), u * v], axis=-1), pairs)
        features = drop("hidden", jnp.tanh(nn.Dense(self.hidden, name="hidden")(features)), pairs)
        return nn.Dense(self.num_classes, name="classify")(features)

    def _encode(self, x: Float[Array, "N L D"], lengths: Int[Array, " N"]) -> Float[Array, "N F"]:
        mask = length_mask(lengths, x.shape[1])
        if self.architecture == "cosine":
            return masked_mean(x, mask)
        if self.architecture == "siamese_bilstm":
            states = BiLSTM(self.hidden, name="encoding")(x, mask)
            return jnp.concatenate([masked_mean(states, mask), masked_max(states, mask)], axis=-1)
        wide, maps = max(self.kernel_sizes) - 1, []
        for h in self.kernel_sizes:
            shape = (h, x.shape[-1], self.hidden)
            w = self.param(f"convolution_{h}", nn.initializers.glorot_uniform(in_axis=(0, 1)), shape)
            maps.append(largest_window(x, w, lengths + 2 * wide - h + 1, (wide, wide)))
        bias = self.param("bias", nn.initializers.zeros, (len(maps) * self.hidden,))
        return jax.nn.relu(jnp.concatenate(maps, axis=-1) + bias)


def make_model(config, *, vocab_size: int, num_classes: int, max_length: int) -> Siamese:
    """The model of `config.model`; ConfigError where a field cannot be."""
    sizes = {"vocab_size": vocab_size, "num_classes": num_classes}
    check_fields(config, options_of(Siamese, *sizes), f"model.architecture = {config.architecture}", "model")
    check_choices(config, {"variant": VARIANTS, "word_masks": WORD_MASKS})
    check_sizes(config, "embedding_dim", "hidden")
    check_dropout(config.dropout)
    if not config.kernel_sizes or not 1 <= min(config.kernel_sizes) <= max(config.kernel_sizes) <= max_length:
        raise ConfigError(
            f"model.kernel_sizes must be window sizes from 1 to {max_length}, the last of data.buckets, "
            f"got {tuple(config.kernel_sizes)}"
        )
    if config.architecture == "cosine" and num_classes != 2:
        raise ConfigError(f"model.architecture = cosine is for two classes; the corpus has {num_classes}")
    return Siamese(**sizes, **config)

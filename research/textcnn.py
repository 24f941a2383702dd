"""Convolutional Neural Networks for Sentence Classification (Kim 2014, EMNLP), `paper_notes/textcnn.md`.

Dimension letters: B sentences in the batch, L positions (words), W windows, K dimensions of a word vector (the paper's
k), H words in a window (h), F feature maps a window size, V words in the vocabulary, C classes.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from research.errors import ConfigError
from research.layers import Dropout, length_mask, masked_max, masked_mean, masked_softmax

VARIANTS = ("rand", "static", "non_static", "multichannel")
POOLINGS = ("max", "k_max", "average")
PADDINGS = ("wide", "same")
ACTIVATIONS: dict[str, Callable] = {"relu": nn.relu, "tanh": jnp.tanh, "identity": lambda x: x}


def uniform(limit: float) -> Callable:
    """Initialiser U[-limit, limit]."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -limit, limit)


def convolve(x: Float[Array, "B N K"], w: Float[Array, "H K F"]) -> Float[Array, "B W F"]:
    """w · x_{i:i+h-1} for every window i (equation 2 without bias and f); W = N - H + 1.

    One matrix product for all H offsets, then the sum of its H slices, each shifted by one word: for these sizes
    faster on a CPU than a library convolution, and unlike one it stays a matrix product under `vmap` over replicas."""
    h, k, f = w.shape
    windows = x.shape[1] - h + 1
    products = (x @ w.transpose(1, 0, 2).reshape(k, h * f)).reshape(*x.shape[:2], h, f)
    return sum(products[:, i : i + windows, i] for i in range(h))


def k_max(c: Float[Array, "B W F"], mask: Bool[Array, "B W"], k: int) -> Float[Array, "B k F"]:
    """The k largest values of each feature map in their order in the sentence (Kalchbrenner et al. 2014); zeros where
    a sentence has fewer than k windows."""
    values = jnp.where(mask[..., None], c, -jnp.inf).swapaxes(1, 2)
    places = jnp.sort(jax.lax.top_k(values, k)[1], axis=-1)
    kept = jnp.take_along_axis(values, places, axis=-1)
    return jnp.where(jnp.isfinite(kept), kept, 0.0).swapaxes(1, 2)


class SelfAttention(nn.Module):
    """c + softmax(q kᵀ / √F) v over the windows of one feature map; not in the paper, an option of the ablations."""

    @nn.compact
    def __call__(self, c: Float[Array, "B W F"], mask: Bool[Array, "B W"]) -> Float[Array, "B W F"]:
        q, k, v = (nn.Dense(c.shape[-1], use_bias=False, name=name)(c) for name in ("query", "key", "value"))
        scores = q @ k.swapaxes(1, 2) / math.sqrt(c.shape[-1])
        return c + masked_softmax(scores, mask[:, None, :]) @ v


class TextCNN(nn.Module):
    """Kim's network (figure 1): word vectors, convolutions, pooling over time, dropout and a softmax layer.

    The variants (section 3.3) differ in the word vectors alone: `rand` and `non_static` tune one table (parameter
    `embedding`), `static` keeps one (constant `embedding`), `multichannel` has both and adds their feature maps before
    f. Pre-trained vectors replace the random ones after `init`.

    Padding: with `padding="wide"` max(h) - 1 zero vectors stand on both sides of every sentence, as in Kim's code, and
    windows further out are masked, so the result does not depend on the length a batch is padded to. `"same"` centres
    a window on each word instead, which gives as many windows as words.

    Initialisation as in Kim's code where the paper is silent: word vectors U[-0.25, 0.25], filters U[-0.01, 0.01] for
    ReLU and identity and Glorot-uniform for tanh, biases and the softmax layer zero.
    """

    vocab_size: int
    num_classes: int
    max_length: int
    variant: str = "rand"
    embedding_dim: int = 300
    kernel_sizes: tuple[int, ...] = (3, 4, 5)
    filters: int = 100
    activation: str = "relu"
    pooling: str = "max"
    k: int = 1
    dropout: float = 0.5
    padding: str = "wide"
    positions: bool = False
    attention: bool = False
    layers: int = 1

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B L"], lengths: Int[Array, " B"], rows: Int[Array, " B"] | None = None
    ) -> Float[Array, "B C"]:
        """Logits of the classes.

        tokens: word ids, anything from `lengths[i]` on is ignored. rows: places in the whole batch while training
        (they key the dropout masks), None in evaluation."""
        lengths = jnp.maximum(lengths, 1)  # a sentence without words is one zero vector
        channels = [self._zero_padded(x, lengths) for x in self._word_vectors(tokens)]
        features = [self._feature_map(channels, lengths, h, i) for i, h in enumerate(self.kernel_sizes)]
        z = jnp.concatenate([self._pool(c, mask) for c, mask in features], axis=-1)  # penultimate layer, section 2.1
        z = Dropout(self.dropout, name="dropout")(z, rows)
        zeros = nn.initializers.zeros
        return nn.Dense(self.num_classes, kernel_init=zeros, name="softmax")(z)  # equations (4) and (5)

    def _word_vectors(self, tokens: Int[Array, "B L"]) -> list[Float[Array, "B L K"]]:
        shape, init = (self.vocab_size, self.embedding_dim), uniform(0.25)
        collections = {"rand": ["params"], "non_static": ["params"], "static": ["constants"]}
        tables = collections.get(self.variant, ["params", "constants"])
        if self.is_initializing():
            for name in tables:
                self.put_variable(name, "embedding", init(self.make_rng("params"), shape))
        # get_variable, not param: a step on the touched rows (research/optimizers.py) passes those rows as the table
        vectors = [self.get_variable(name, "embedding")[tokens] for name in tables]
        if self.positions:
            places = self.param("position_embedding", init, (self.max_length, self.embedding_dim))
            vectors = [x + places[: tokens.shape[1]] for x in vectors[:1]] + vectors[1:]
        return vectors

    def _zero_padded(self, x: Float[Array, "B L K"], lengths: Int[Array, " B"]) -> Float[Array, "B N K"]:
        x = jnp.where(length_mask(lengths, x.shape[1])[..., None], x, 0.0)
        p = max(self.kernel_sizes) - 1
        return jnp.pad(x, ((0, 0), (p, p), (0, 0)))

    def _feature_map(
        self, channels: list[Float[Array, "B N K"]], lengths: Int[Array, " B"], h: int, index: int
    ) -> tuple[Float[Array, "B W F"], Bool[Array, "B W"]]:
        """c of equation (3) for window size h, and which of its windows count."""
        p = max(self.kernel_sizes) - 1
        if self.padding == "wide":
            windows = lengths + 2 * p - h + 1
        else:
            first, last = p - (h - 1) // 2, channels[0].shape[1] - p + h // 2
            channels, windows = [x[:, first:last] for x in channels], lengths
        c = self._convolution(channels, h, f"convolution_{index}")  # index, not h: sizes may repeat
        mask = length_mask(windows, c.shape[1])
        for layer in range(1, self.layers):
            c = jnp.where(mask[..., None], c, 0.0)
            c = jnp.pad(c, ((0, 0), ((h - 1) // 2, h // 2), (0, 0)))
            c = self._convolution([c], h, f"convolution_{index}_{layer}")
        if self.attention:
            c = SelfAttention(name=f"attention_{index}")(c, mask)
        return c, mask

    def _convolution(self, channels: list[Float[Array, "B N K"]], h: int, name: str) -> Float[Array, "B W F"]:
        """f(w · x_{i:i+h-1} + b), equation (2); several channels are added before f (section 2)."""
        k, f = channels[0].shape[-1], self.filters
        glorot = self.activation == "tanh"
        init = nn.initializers.glorot_uniform(in_axis=(0, 1)) if glorot else uniform(0.01)
        w = self.param(f"{name}_kernel", init, (h, k, f))
        b = self.param(f"{name}_bias", nn.initializers.zeros, (f,))
        return ACTIVATIONS[self.activation](sum(convolve(x, w) for x in channels) + b)

    def _pool(self, c: Float[Array, "B W F"], mask: Bool[Array, "B W"]) -> Float[Array, "B P"]:
        """ĉ = max{c}, or one of the other poolings: P = F, or k F for k-max."""
        if self.pooling == "max":
            return masked_max(c, mask)
        if self.pooling == "average":
            return masked_mean(c, mask)
        return k_max(c, mask, self.k).reshape(c.shape[0], -1)


def make_model(config, *, vocab_size: int, num_classes: int, max_length: int) -> TextCNN:
    """The model of `config.model`; ConfigError where a field cannot be."""
    for name, choices in (
        ("variant", VARIANTS),
        ("pooling", POOLINGS),
        ("padding", PADDINGS),
        ("activation", tuple(ACTIVATIONS)),
    ):
        if config[name] not in choices:
            raise ConfigError(f"model.{name}: '{config[name]}' is none of {', '.join(choices)}")
    for name in ("embedding_dim", "filters", "k", "layers"):
        if config[name] < 1:
            raise ConfigError(f"model.{name} must be at least 1, got {config[name]}")
    if not config.kernel_sizes or min(config.kernel_sizes) < 1:
        raise ConfigError(f"model.kernel_sizes must be window sizes of at least 1, got {tuple(config.kernel_sizes)}")
    if not 0.0 <= config.dropout < 1.0:
        raise ConfigError(f"model.dropout is the share dropped, from 0 to below 1, got {config.dropout}")
    if max(config.kernel_sizes) > max_length:
        raise ConfigError(
            f"model.kernel_sizes: a window of {max(config.kernel_sizes)} words is longer than the longest sentence, "
            f"{max_length} words (the last of data.buckets)"
        )
    windows = max_length + 2 * (max(config.kernel_sizes) - 1) - max(config.kernel_sizes) + 1
    if config.pooling == "k_max" and config.k > windows:
        raise ConfigError(f"model.k = {config.k} is more than the {windows} windows of the longest sentence")
    return TextCNN(vocab_size=vocab_size, num_classes=num_classes, max_length=max_length, **config)

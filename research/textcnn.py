"""Convolutional Neural Networks for Sentence Classification (Kim 2014, EMNLP), `paper_notes/textcnn.md`.

Dimension letters: B sentences in the batch, L positions (words), W windows, K dimensions of a word vector (the paper's
k), H words in a window (h), F feature maps a window size, V words in the vocabulary, C classes.
"""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from research.errors import ConfigError, check_choices, check_dropout, check_fields, check_sizes
from research.layers import Dropout, Rows, length_mask, masked_max, masked_mean, options_of

TASKS = ("classification",)
"""What `config.task` may be with this model."""

VARIANTS = ("rand", "static", "non_static", "multichannel")
POOLINGS = ("max", "k_max", "average")
PADDINGS = ("wide", "same")
ACTIVATIONS: dict[str, Callable] = {"relu": nn.relu, "tanh": jnp.tanh, "identity": lambda x: x}


def uniform(limit: float) -> Callable:
    """Initialiser U[-limit, limit]."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -limit, limit)


def convolve(x: Float[Array, "B L K"], w: Float[Array, "H K F"], pad: tuple[int, int]) -> Float[Array, "B W F"]:
    """w · x_{i:i+h-1} for every window i (equation 2 without bias and f), after `pad` zero vectors on either side.

    One matrix product of every word with all H rows of the filters, then the sum of its H slices, each shifted by one
    word. Zero vectors have zero products, so what is padded are the products."""
    h, k, f = w.shape
    products = (x @ w.transpose(1, 0, 2).reshape(k, h * f)).reshape(*x.shape[:2], h, f)
    products = jnp.pad(products, ((0, 0), pad, (0, 0), (0, 0)))
    windows = products.shape[1] - h + 1
    return sum(products[:, i : i + windows, i] for i in range(h))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def largest_window(
    x: Float[Array, "B L K"], w: Float[Array, "H K F"], windows: Int[Array, " B"], pad: tuple[int, int]
) -> Float[Array, "B F"]:
    """max over i of w · x_{i:i+h-1}, i < windows: convolution and max over time in one.

    A maximum has a gradient in one window of each sentence and filter, so on a CPU the backward pass touches these
    windows alone: at the paper's sizes 11 ms against 54 ms for the matrix products with a gradient that is mostly zero,
    measured once on two cores. Accelerators take the products."""
    return masked_max(convolve(x, w, pad), length_mask(windows, x.shape[1] + sum(pad) - w.shape[0] + 1))


def _largest_window_forward(x, w, windows, pad):
    c = convolve(x, w, pad)
    c = jnp.where(length_mask(windows, c.shape[1])[..., None], c, -jnp.inf)
    top = c.max(axis=1)
    places = jnp.where(c == top[:, None], jnp.arange(c.shape[1])[:, None], c.shape[1]).min(axis=1)
    return top, (x, w, places)


def _largest_window_backward(pad, residuals, g):
    x, w, places = residuals
    (h, k, f), offsets = w.shape, jnp.arange(w.shape[0])

    def by_windows():
        padded = jnp.pad(x, ((0, 0), pad, (0, 0)))
        sentences = jnp.arange(x.shape[0])[:, None]

        def add_filter(dx, of_filter):  # g w on the window of each sentence that this filter chose
            w_f, i, g_f = of_filter
            return dx.at[sentences, i[:, None] + offsets].add(g_f[:, None, None] * w_f), None

        def add_sentence(dw, of_sentence):  # g x_{i:i+h-1} of the windows that the filters chose in this sentence
            x_b, i, g_b = of_sentence
            return dw + g_b[:, None, None] * x_b[i[:, None] + offsets], None

        dx, _ = jax.lax.scan(add_filter, jnp.zeros_like(padded), (w.transpose(2, 0, 1), places.T, g.T))
        dw, _ = jax.lax.scan(add_sentence, jnp.zeros((f, h, k), w.dtype), (padded, places, g))
        return dx[:, pad[0] : pad[0] + x.shape[1]], dw.transpose(1, 2, 0)

    def by_products():
        positions = jnp.arange(x.shape[1])[:, None, None] + pad[0]
        chosen = positions == places[:, None, None] + offsets[:, None]  # B L H F
        d_products = jnp.where(chosen, g[:, None, None], 0.0)
        return jnp.einsum("blhf,hkf->blk", d_products, w), jnp.einsum("blk,blhf->hkf", x, d_products)

    return *jax.lax.platform_dependent(cpu=by_windows, default=by_products), None


largest_window.defvjp(_largest_window_forward, _largest_window_backward)


def k_max(c: Float[Array, "B W F"], mask: Bool[Array, "B W"], k: int) -> Float[Array, "B k F"]:
    """The k largest values of each feature map in their order in the sentence (Kalchbrenner et al. 2014); zeros where
    a sentence has fewer than k windows."""
    values = jnp.where(mask[..., None], c, -jnp.inf).swapaxes(1, 2)
    values = jnp.pad(values, ((0, 0), (0, 0), (0, max(0, k - c.shape[1]))), constant_values=-jnp.inf)
    places = jnp.sort(jax.lax.top_k(values, k)[1], axis=-1)
    kept = jnp.take_along_axis(values, places, axis=-1)
    return jnp.where(jnp.isfinite(kept), kept, 0.0).swapaxes(1, 2)


class SelfAttention(nn.Module):
    """c + softmax(q kᵀ / √F) v over the windows of one feature map; not in the paper, an option of the ablations."""

    @nn.compact
    def __call__(self, c: Float[Array, "B W F"], mask: Bool[Array, "B W"]) -> Float[Array, "B W F"]:
        q, k, v = (nn.Dense(c.shape[-1], use_bias=False, name=name)(c) for name in ("query", "key", "value"))
        scores = q @ k.swapaxes(1, 2) / math.sqrt(c.shape[-1])
        return c + jax.nn.softmax(scores, where=mask[:, None, :]) @ v


class TextCNN(nn.Module):
    """Kim's network (figure 1): word vectors, convolutions, pooling over time, dropout and a softmax layer.

    The variants (section 3.3) differ in the word vectors alone: `rand` and `non_static` tune one table (parameter
    `embedding`), `static` keeps one (constant `embedding`), `multichannel` has both. Pre-trained vectors replace the
    random ones after `init`.

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
    def __call__(self, tokens: Int[Array, "B L"], lengths: Int[Array, " B"], rows: Rows = None) -> Float[Array, "B C"]:
        """Logits of the classes.

        tokens: word ids, anything from `lengths[i]` on is ignored. rows: places in the whole batch while training
        (they key the dropout masks), None in evaluation."""
        lengths = jnp.maximum(lengths, 1)  # a sentence without words is one zero vector
        x = self._word_vectors(tokens, length_mask(lengths, tokens.shape[1]))
        z = [self._features(x, lengths, h, f"convolution_{i}") for i, h in enumerate(self.kernel_sizes)]
        z = jnp.concatenate(z, axis=-1)  # the penultimate layer of section 2.1
        z = Dropout(self.dropout, name="dropout")(z, rows)
        zeros = nn.initializers.zeros
        return nn.Dense(self.num_classes, kernel_init=zeros, name="softmax")(z)  # equations (4) and (5)

    def _word_vectors(self, tokens: Int[Array, "B L"], mask: Bool[Array, "B L"]) -> Float[Array, "B L K"]:
        """x_1 … x_n and zeros after them. Every filter is applied to all channels and the results are added (section
        2), and w · x + w · x' = w · (x + x'), so the channels are added here."""
        shape, init = (self.vocab_size, self.embedding_dim), uniform(0.25)
        collections = {"rand": ["params"], "non_static": ["params"], "static": ["constants"]}
        tables = collections.get(self.variant, ["params", "constants"])
        if self.is_initializing():
            for name in tables:
                self.put_variable(name, "embedding", init(self.make_rng("params"), shape))
        # get_variable, not param: a step on the touched rows (research/optimizers.py) passes those rows as the table
        x = sum(self.get_variable(name, "embedding")[tokens] for name in tables)
        if self.positions:
            x += self.param("position_embedding", init, (self.max_length, self.embedding_dim))[: tokens.shape[1]]
        return jnp.where(mask[..., None], x, 0.0)

    def _features(self, x: Float[Array, "B L K"], lengths: Int[Array, " B"], h: int, name: str) -> Float[Array, "B P"]:
        """The pooled feature maps of one window size: ĉ = max{c}, or another pooling; P = F, or k F for k-max."""
        f, centred = ACTIVATIONS[self.activation], ((h - 1) // 2, h // 2)
        wide = max(self.kernel_sizes) - 1
        pad, windows = ((wide, wide), lengths + 2 * wide - h + 1) if self.padding == "wide" else (centred, lengths)
        w, b = self._filters(name, h, x.shape[-1])
        if self.pooling == "max" and self.layers == 1 and not self.attention:
            return f(largest_window(x, w, windows, pad) + b)  # f is monotone: max f(c + b) = f(max c + b)
        c = f(convolve(x, w, pad) + b)  # equation (2)
        mask = length_mask(windows, c.shape[1])
        for layer in range(1, self.layers):
            w, b = self._filters(f"{name}_{layer}", h, self.filters)
            c = f(convolve(jnp.where(mask[..., None], c, 0.0), w, centred) + b)
        if self.attention:
            c = SelfAttention(name=f"{name}_attention")(c, mask)
        if self.pooling == "max":
            return masked_max(c, mask)
        if self.pooling == "average":
            return masked_mean(c, mask)
        return k_max(c, mask, self.k).reshape(c.shape[0], -1)

    def _filters(self, name: str, h: int, k: int) -> tuple[Float[Array, "H K F"], Float[Array, " F"]]:
        glorot = self.activation == "tanh"
        init = nn.initializers.glorot_uniform(in_axis=(0, 1)) if glorot else uniform(0.01)
        w = self.param(f"{name}_kernel", init, (h, k, self.filters))
        return w, self.param(f"{name}_bias", nn.initializers.zeros, (self.filters,))


def make_model(config, *, vocab_size: int, num_classes: int, max_length: int) -> TextCNN:
    """The model of `config.model`; ConfigError where a field cannot be."""
    sizes = {"vocab_size": vocab_size, "num_classes": num_classes, "max_length": max_length}
    check_fields(config, options_of(TextCNN, *sizes), "research/textcnn.py", "model")
    choices = {"variant": VARIANTS, "pooling": POOLINGS, "padding": PADDINGS, "activation": ACTIVATIONS}
    check_choices(config, choices)
    check_sizes(config, "embedding_dim", "filters", "k", "layers")
    check_dropout(config.dropout)
    if not config.kernel_sizes or min(config.kernel_sizes) < 1:
        raise ConfigError(f"model.kernel_sizes must be window sizes of at least 1, got {tuple(config.kernel_sizes)}")
    if max(config.kernel_sizes) > max_length:
        raise ConfigError(
            f"model.kernel_sizes: a window of {max(config.kernel_sizes)} words is longer than the longest sentence, "
            f"{max_length} words (the last of data.buckets)"
        )
    return TextCNN(**sizes, **config)

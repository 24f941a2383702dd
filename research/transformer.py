"""The Transformer (Vaswani et al. 2017, "Attention Is All You Need").

Dimension letters: B sentences in the batch, N beams a sentence, S source positions, T target positions, D d_model,
H heads, K d_k or d_v, V vocabulary. Parameters are float32; `dtype` is what matrix products are computed in.

Sentences are told apart by segment numbers: positions of the same number see one another, 0 is padding. A row usually
holds one sentence, of segment 1; several short ones may be packed into it.

Encoder and decoder are a `Stack` each, usable alone: an encoder behind an embedding has the layout of BERT, a
decoder without memory that of GPT.
"""

import itertools
import math
from collections.abc import Sequence

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from research.errors import ConfigError, check_dropout, check_fields, check_sizes
from research.layers import (
    Bias,
    Dropout,
    Rows,
    attention_bias,
    dot_product_attention,
    flat_dot_general,
    places,
)

TASKS = ("translation",)
"""What `config.task` may be with this model."""

Memory = Float[Array, "B S D"]
XAVIER = nn.initializers.xavier_uniform()


@flax.struct.dataclass
class Shape:
    """Sizes and choices that all layers share; the values are the base model's (Table 3)."""

    d_model: int = 512
    d_ff: int = 2048
    heads: int = 8
    d_k: int = 64
    d_v: int = 64
    dropout: float = 0.1
    norm: str = "layer"  # batch, none
    pre_norm: bool = False
    residual: bool = True
    scale: bool = True  # scores by 1 / sqrt(d_k)
    fused: str = ""  # attention by jax.nn.dot_product_attention: xla, cudnn
    dtype: str = "float32"

    def dense(self, features: int) -> nn.Dense:
        return nn.Dense(features, dtype=self.dtype, kernel_init=XAVIER, dot_general=flat_dot_general)


class MultiHeadAttention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O with head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V), section
    3.2.2. Queries come from `x`, keys and values both from `memory`. No biases, as in the paper's formula."""

    shape: Shape

    def setup(self):
        s = self.shape
        keys, values = s.heads * s.d_k, s.heads * s.d_v
        sizes = {"query": (s.d_model, keys), "key": (s.d_model, keys), "value": (s.d_model, values)}
        self.matrices = {name: self.param(name, XAVIER, size) for name, size in sizes.items()}
        self.output = self.param("output", XAVIER, (values, s.d_model))

    def _project(self, x: Float[Array, "*B D"], *names: str) -> list[Float[Array, "*B H K"]]:
        """x W for several W in one product: faster than small ones, and so are its gradients."""
        matrices = [self.matrices[name] for name in names]
        ends = list(itertools.accumulate(matrix.shape[1] for matrix in matrices))
        dtype = self.shape.dtype
        found = flat_dot_general(x.astype(dtype), jnp.concatenate(matrices, axis=1).astype(dtype))
        return [y.reshape(*y.shape[:-1], self.shape.heads, -1) for y in jnp.split(found, ends[:-1], axis=-1)]

    def keys_values(self, memory: Float[Array, "*B S D"]) -> list[Float[Array, "*B S H K"]]:
        """The memory's keys and values, of all heads, which `attend` takes: what a cache keeps."""
        return self._project(memory, "key", "value")

    def attend(
        self, x: Float[Array, "B T D"], keys_values: Sequence[Float[Array, "B S H K"]], bias: Bias
    ) -> Float[Array, "B T D"]:
        """MultiHead of the queries of `x` and of keys and values that are projected already."""
        return self._attend(*self._project(x, "query"), *keys_values, bias)

    def _attend(self, query, keys, values, bias: Bias) -> Float[Array, "B T D"]:
        s = self.shape
        scale = s.d_k**-0.5 if s.scale else 1.0
        found, weights = dot_product_attention(query, keys, values, bias, scale=scale, fused=s.fused)
        self.sow("attention", "weights", weights)
        found = found.reshape(*found.shape[:-2], s.heads * s.d_v)
        return flat_dot_general(found, self.output.astype(s.dtype))

    def __call__(self, x: Float[Array, "B T D"], bias: Bias, memory: Memory | None = None) -> Float[Array, "B T D"]:
        """memory: by default `x` itself."""
        if memory is None:
            return self._attend(*self._project(x, "query", "key", "value"), bias)
        return self.attend(x, self.keys_values(memory), bias)


class FeedForward(nn.Module):
    """FFN(x) = max(0, x W_1 + b_1) W_2 + b_2: equation 2."""

    shape: Shape

    def setup(self):
        self.inner, self.outer = self.shape.dense(self.shape.d_ff), self.shape.dense(self.shape.d_model)

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        return self.outer(nn.relu(self.inner(x)))


class Normalization(nn.Module):
    """Layer normalisation, in float32; batch normalisation over the real positions, or none, for the ablations. The
    moments of batch normalisation are those of the arrays that it is given: micro-batches and pmap change them."""

    shape: Shape

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"], mask: Bool[Array, "*B"] | None, train: bool) -> Float[Array, "*B D"]:
        kind, options = self.shape.norm, {"epsilon": 1e-5, "use_fast_variance": False, "dtype": jnp.float32}
        if kind == "batch":
            norm = nn.BatchNorm(use_running_average=not train, name="batch", **options)
            return norm(x, mask=None if mask is None else mask[..., None]).astype(x.dtype)
        return x if kind == "none" else nn.LayerNorm(name="layer", **options)(x).astype(x.dtype)


class Residual(nn.Module):
    """What stands around a sub-layer f: LayerNorm(x + Dropout(f(x))), sections 3.1 and 5.4, as
    `leave(x, f(enter(x)))`; with `pre_norm` x + Dropout(f(LayerNorm(x)))."""

    shape: Shape

    def setup(self):
        self.norm, self.dropout = Normalization(self.shape), Dropout(self.shape.dropout, inverted=True)

    def enter(
        self, x: Float[Array, "*B D"], rows: Rows = None, mask: Bool[Array, "*B"] | None = None
    ) -> Float[Array, "*B D"]:
        """What the sub-layer reads. rows: as of `Transformer.encode`; mask: real positions, None for all."""
        return self.norm(x, mask, rows is not None) if self.shape.pre_norm else x

    def leave(
        self, x: Float[Array, "*B D"], y: Float[Array, "*B D"], rows: Rows = None, mask: Bool[Array, "*B"] | None = None
    ) -> Float[Array, "*B D"]:
        """What the next one reads, from the input x and the sub-layer's output y."""
        y = self.dropout(y, rows)
        y = x + y if self.shape.residual else y
        return y if self.shape.pre_norm else self.norm(y, mask, rows is not None)


class Layer(nn.Module):
    """A layer of either stack: self-attention, attention over the memory if there is one, feed-forward."""

    shape: Shape
    memory: bool = False

    def setup(self):
        self.attention, self.around_attention = MultiHeadAttention(self.shape), Residual(self.shape)
        self.feed_forward, self.around_feed_forward = FeedForward(self.shape), Residual(self.shape)
        if self.memory:
            self.memory_attention, self.around_memory = MultiHeadAttention(self.shape), Residual(self.shape)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        bias: Bias,
        memory: Memory | None = None,
        memory_bias: Bias | None = None,
        rows: Rows = None,
        mask: Bool[Array, "B T"] | None = None,
    ) -> Float[Array, "B T D"]:
        """bias and memory_bias say who sees what of `x` and of the memory. rows, mask: as of `Residual.enter`."""
        h = self.around_attention.enter(x, rows, mask)
        x = self.around_attention.leave(x, self.attention(h, bias), rows, mask)
        if self.memory:
            h = self.around_memory.enter(x, rows, mask)
            x = self.around_memory.leave(x, self.memory_attention(h, memory_bias, memory), rows, mask)
        h = self.around_feed_forward.enter(x, rows, mask)
        return self.around_feed_forward.leave(x, self.feed_forward(h), rows, mask)

    def step(
        self,
        x: Float[Array, "B N D"],
        cache: Sequence[Float[Array, "B N T H K"]],
        position: Int[Array, ""],
        memory: Sequence[Float[Array, "B S H K"]] | None = None,
        memory_bias: Bias | None = None,
    ) -> tuple[Float[Array, "B N D"], tuple[Float[Array, "B N T H K"], ...]]:
        """The layer at one position. cache: keys and values, those before `position` filled in; memory: keys and values
        of the source, which all beams of a sentence look at as if they were N target positions."""
        each = lambda x: x.reshape(-1, *x.shape[2:])  # beams as rows
        h = self.around_attention.enter(x)
        new = (x[:, :, None] for x in self.attention.keys_values(h))
        put = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), position, 2)
        cache = tuple(put(old, new) for old, new in zip(cache, new))
        seen = attention_bias(jnp.ones((1, 1)), jnp.arange(cache[0].shape[2])[None] <= position)
        found = self.attention.attend(each(h)[:, None], tuple(each(x) for x in cache), seen)
        x = self.around_attention.leave(x, found.reshape(x.shape))
        if self.memory:
            h = self.around_memory.enter(x)
            x = self.around_memory.leave(x, self.memory_attention.attend(h, memory, memory_bias))
        h = self.around_feed_forward.enter(x)
        return self.around_feed_forward.leave(x, self.feed_forward(h)), cache


class Stack(nn.Module):
    """N layers (section 3.1), and a last normalisation where the layers leave theirs to the next one."""

    shape: Shape
    size: int
    memory: bool = False

    def setup(self):
        self.layers = [Layer(self.shape, self.memory) for _ in range(self.size)]
        if self.shape.pre_norm:
            self.norm = Normalization(self.shape)

    def _end(self, x, mask=None, train=False):
        return self.norm(x, mask, train) if self.shape.pre_norm else x

    def __call__(
        self,
        x: Float[Array, "B T D"],
        bias: Bias,
        memory: Memory | None = None,
        memory_bias: Bias | None = None,
        rows: Rows = None,
        mask: Bool[Array, "B T"] | None = None,
    ) -> Float[Array, "B T D"]:
        """The arguments are those of `Layer`."""
        for layer in self.layers:
            x = layer(x, bias, memory, memory_bias, rows, mask)
        return self._end(x, mask, rows is not None)

    def step(
        self,
        x: Float[Array, "B N D"],
        caches: PyTree,
        position: Int[Array, ""],
        memories: PyTree | None = None,
        memory_bias: Bias | None = None,
    ) -> tuple[Float[Array, "B N D"], PyTree]:
        """All layers at one position, with a cache and a memory each, as `Layer.step`."""
        new = []
        for layer, cache, memory in zip(self.layers, caches, memories or [None] * self.size):
            x, cache = layer.step(x, cache, position, memory, memory_bias)
            new.append(cache)
        return self._end(x), new


def sinusoids(place: Int[Array, "*B"], size: int, *, interleaved: bool = True) -> Float[Array, "*B {size}"]:
    """PE(pos, 2i) = sin(pos / 10000^(2i / size)) and PE(pos, 2i + 1) = cos of the same (Vaswani et al. 2017, section
    3.5); not interleaved: all sines, then all cosines."""
    frequency = jnp.exp(-math.log(10000.0) / size * jnp.arange(0, size, 2))
    angle = place[..., None] * frequency
    waves = [jnp.sin(angle), jnp.cos(angle)]
    return jnp.stack(waves, -1).reshape(*place.shape, size) if interleaved else jnp.concatenate(waves, -1)


class Embedding(nn.Module):
    """√d_model E[w] + PE(position), with dropout on the sum: sections 3.4, 3.5 and 5.4."""

    shape: Shape
    positions: str
    max_length: int

    @nn.compact
    def __call__(
        self, table: Float[Array, "V D"], tokens: Int[Array, "*B"], place: Int[Array, "*B"], rows: Rows = None
    ) -> Float[Array, "*B D"]:
        x = table[tokens] * math.sqrt(self.shape.d_model)
        if self.positions == "learned":
            size = (self.max_length, self.shape.d_model)
            x += self.param("positions", nn.initializers.normal(self.shape.d_model**-0.5), size)[place]
        elif self.positions != "none":
            x += sinusoids(place, self.shape.d_model, interleaved=self.positions == "sinusoidal")
        return Dropout(self.shape.dropout, inverted=True)(x, rows).astype(self.shape.dtype)


class Transformer(nn.Module):
    """Figure 1: source and target tokens to the decoder's output, and the matrix that turns it into logits.

    share: whose embedding matrices are one: `all` (source, target, output: section 3.4), `target` (target and output,
    for separate vocabularies) or `none`. max_length: rows of learned position tables."""

    source_size: int
    target_size: int
    max_length: int
    shape: Shape = Shape()
    layers: int = 6
    positions: str = "sinusoidal"  # learned, concatenated, none
    share: str = "all"

    def setup(self):
        matrix = lambda name, size: self.param(
            name, nn.initializers.normal(self.shape.d_model**-0.5), (size, self.shape.d_model)
        )
        self.output_table = matrix("embedding", self.target_size)
        self.target_table = matrix("target_embedding", self.target_size) if self.share == "none" else self.output_table
        self.source_table = self.output_table if self.share == "all" else matrix("source_embedding", self.source_size)
        self.embed_source, self.embed_target = (
            Embedding(self.shape, self.positions, self.max_length) for _ in range(2)
        )
        self.encoder = Stack(self.shape, self.layers)
        self.decoder = Stack(self.shape, self.layers, memory=True)

    @property
    def longest(self) -> int | None:
        """The most positions that the model has, None for any number."""
        return self.max_length if self.positions == "learned" else None

    def _check_length(self, size: int) -> None:
        if self.longest is not None and size > self.longest:
            raise ConfigError(
                f"model.max_length = {self.max_length}: a sentence of {size} positions is longer than the table of "
                "learned positions; raise it, or use sinusoidal ones (an output may be decode.extra longer than its "
                "input)"
            )

    def encode(self, source: Int[Array, "B S"], segments: Int[Array, "B S"], rows: Rows = None) -> Memory:
        """The memory. rows: places in the whole batch while training, None in evaluation."""
        self._check_length(source.shape[1])
        x = self.embed_source(self.source_table, source, places(segments), rows)
        return self.encoder(x, attention_bias(segments, segments), rows=rows, mask=segments > 0)

    def decode(
        self,
        memory: Memory,
        source_segments: Int[Array, "B S"],
        target: Int[Array, "B T"],
        segments: Int[Array, "B T"],
        rows: Rows = None,
    ) -> Float[Array, "B T D"]:
        """The decoder's output at every position, from the tokens before it: `target` begins with <s>."""
        self._check_length(target.shape[1])
        x = self.embed_target(self.target_table, target, places(segments), rows)
        bias = attention_bias(segments, segments, causal=True)
        memory_bias = attention_bias(segments, source_segments)
        return self.decoder(x, bias, memory, memory_bias, rows, segments > 0)

    def __call__(
        self,
        source: Int[Array, "B S"],
        source_segments: Int[Array, "B S"],
        target: Int[Array, "B T"],
        target_segments: Int[Array, "B T"],
        rows: Rows = None,
    ) -> Float[Array, "B T D"]:
        """`encode`, then `decode`."""
        memory = self.encode(source, source_segments, rows)
        return self.decode(memory, source_segments, target, target_segments, rows)

    def readout(self) -> tuple[Float[Array, "V D"], Float[Array, " V"] | None]:
        """Matrix and bias of the pre-softmax linear transformation (none here): logits are h Eᵀ."""
        return self.output_table, None

    def init_cache(
        self, memory: Memory, source_segments: Int[Array, "B S"], *, beams: int, size: int
    ) -> tuple[PyTree, PyTree]:
        """What `decode_step` needs for up to `size` target positions: what stays as it is, of each sentence, and what
        grows, of each beam: arrays that begin with B, and with B and N."""
        self._check_length(size)
        s, batch = self.shape, len(memory)
        fixed = [layer.memory_attention.keys_values(memory) for layer in self.decoder.layers]
        empty = lambda width: jnp.zeros((batch, beams, size, s.heads, width), s.dtype)
        growing = [(empty(s.d_k), empty(s.d_v)) for _ in range(self.layers)]
        return (fixed, attention_bias(jnp.ones((batch, 1)), source_segments)), growing

    def decode_step(
        self, fixed: PyTree, cache: PyTree, tokens: Int[Array, "B N"], position: Int[Array, ""]
    ) -> tuple[Float[Array, "B N V"], PyTree]:
        """Logits of the tokens that follow `tokens`, which stand at `position`."""
        memories, bias = fixed
        x = self.embed_target(self.target_table, tokens, jnp.broadcast_to(position, tokens.shape))
        x, cache = self.decoder.step(x, cache, position, memories, bias)
        return (x.astype(jnp.float32) @ self.output_table.T), cache


def make_model(config, *, source_size: int, target_size: int, max_length: int) -> Transformer:
    """The model of `config.model`; ConfigError where a field cannot be."""
    rest = ("layers", "positions", "share", "max_length")
    check_fields(config, (*Shape.__dataclass_fields__, *rest), "research/transformer.py", "model")
    choices = {
        "norm": ("layer", "batch", "none"),
        "positions": ("sinusoidal", "concatenated", "learned", "none"),
        "share": ("all", "target", "none"),
        "dtype": ("float32", "bfloat16"),
        "fused": ("", "xla", "cudnn"),
    }
    for name, known in choices.items():
        if config[name] not in known:
            raise ConfigError(f"model.{name}: '{config[name]}' is none of {', '.join(filter(None, known))}")
    check_sizes(config, "d_model", "d_ff", "heads", "d_k", "d_v", "layers", "max_length")
    check_dropout(config.dropout)
    if config.d_model % 2 and config.positions in ("sinusoidal", "concatenated"):
        raise ConfigError(f"model.d_model = {config.d_model}: sinusoidal positions need an even number")
    if config.fused and config.d_k != config.d_v:
        raise ConfigError(f"model.fused: the fused kernel needs d_k = d_v, got {config.d_k} and {config.d_v}")
    if config.fused == "cudnn" and (jax.default_backend() != "gpu" or config.dtype != "bfloat16"):
        raise ConfigError("model.fused = cudnn needs an NVIDIA GPU and model.dtype = bfloat16")
    if config.fused == "cudnn" and (config.d_k % 8 or config.d_k > 128):
        raise ConfigError(f"model.fused = cudnn takes d_k in multiples of 8 up to 128, got {config.d_k}")
    if config.share == "all" and source_size != target_size:
        raise ConfigError("model.share = all needs data.joint = True: one vocabulary for both languages")
    if max_length > config.max_length and config.positions == "learned":
        raise ConfigError(
            f"model.max_length = {config.max_length} is less than the longest bucket, {max_length}; raise it, or "
            "shorten data.buckets"
        )
    fields = {name: config[name] for name in Shape.__dataclass_fields__}
    return Transformer(source_size, target_size, shape=Shape(**fields), **{name: config[name] for name in rest})

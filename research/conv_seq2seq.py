"""Convolutional sequence to sequence learning (Gehring et al. 2017).

Dimension letters: B sentences in the batch, N beams a sentence, S source positions, T target positions, L either, C
channels of a layer (the paper's d) and C2 of the next one, K kernel width, KC = K C, K1 = K - 1, F size of the
embeddings (f), O size of the decoder's output, V vocabulary, n and m inputs and outputs of a linear map. Parameters are
float32; `dtype` is what matrix products are computed in.

Sentences are told apart by segment numbers, as in the Transformer: a convolution reads positions of its own segment and
zeros for all others, so that padding on either side and sentences packed into one row are never mixed.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Sequence

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from research.errors import ConfigError, check_choices, check_fields
from research.layers import Bias, Dropout, Rows, attention_bias, dot_product_attention, flat_dot_general, places

TASKS = ("translation",)
"""What `config.task` may be with this model."""

ROOT_HALF = math.sqrt(0.5)
"""A sum of two uncorrelated terms of equal variance keeps that variance when multiplied by it: section 3.4."""

GATES: dict[str, Callable] = {
    "glu": lambda a, b: a * jax.nn.sigmoid(b),
    "tanh": lambda a, b: jnp.tanh(a) * jax.nn.sigmoid(b),
    "relu": lambda a, b: jax.nn.relu(a),
    "none": lambda a, b: a,
}
"""v([A B]) of section 3.2 and, for the ablations, what may stand in its place; the last two have no B."""


@dataclasses.dataclass(frozen=True)
class Convolution:
    """Output channels and kernel width of a layer; a kernel of 1 is a linear map of each position."""

    channels: int
    kernel: int


LARGEST = 1 << 16
"""Of channels, embeddings, outputs and positions; what is larger is a slip of the pen that no machine could compute."""
MOST_LAYERS, WIDEST, MOST_WEIGHTS = 1000, 1000, 1 << 30
"""Layers of a stack, and of a layer the kernel and the weights of its convolution."""


def read_layers(parts: Sequence[str | tuple[int, int]], name: str) -> tuple[Convolution, ...]:
    """("9 * 512x3", (2048, 1)) -> nine layers of 512 channels and kernel width 3, and one of 2048 and 1.

    Raises:
        ConfigError: a part cannot be read, or layers are too large; the message names `model.<name>` and the layer."""
    layers = []
    for part in parts:
        text = "x".join(map(str, part)) if isinstance(part, Sequence) and not isinstance(part, str) else str(part)
        match = re.fullmatch(r"\s*(?:(\d{1,99})\s*\*\s*)?(\d{1,99})\s*x\s*(\d{1,99})\s*", text)
        if not match or 0 in (numbers := [int(number or 1) for number in match.groups()]):
            raise ConfigError(
                f"model.{name}: '{text}', from layer {len(layers) + 1} on, is not CHANNELSxKERNEL or "
                "COUNT*CHANNELSxKERNEL, such as 9*512x3"
            )
        count, channels, kernel = numbers
        incoming = layers[-1].channels if layers else channels
        weights = kernel * max(incoming, channels if count > 1 else 0) * 2 * channels
        large = channels > LARGEST or kernel > WIDEST or weights > MOST_WEIGHTS
        if large or len(layers) + count > MOST_LAYERS:
            raise ConfigError(
                f"model.{name}: '{text}', from layer {len(layers) + 1} on: a stack has at most {MOST_LAYERS} layers, "
                f"of at most {LARGEST} channels, kernel width {WIDEST} and {MOST_WEIGHTS} weights"
            )
        layers += [Convolution(channels, kernel)] * count
    if not layers:
        raise ConfigError(f"model.{name}: needs at least one layer, such as 512x3")
    return tuple(layers)


def written(layers: Sequence[Convolution]) -> tuple[str, ...]:
    """What `read_layers` reads as these layers, each run of equal ones as one part."""
    runs = [(layer, len(list(run))) for layer, run in itertools.groupby(layers)]
    return tuple(f"{count}*{layer.channels}x{layer.kernel}".removeprefix("1*") for layer, count in runs)


def attending(numbers: Sequence[int], layers: int) -> tuple[int, ...]:
    """Which decoder layers attend to the source, from 1, in order: those of `numbers`, or all where it is empty.

    Raises:
        ConfigError: one is no layer of the decoder."""
    if wrong := [number for number in numbers if type(number) is not int]:
        raise ConfigError(f"model.attention: {wrong[0]!r} is no number of a decoder layer")
    if wrong := [number for number in sorted(numbers) if not 1 <= number <= layers]:
        raise ConfigError(f"model.attention names layer {wrong[0]}; the decoder has layers 1 to {layers}")
    return tuple(sorted(set(numbers))) or tuple(range(1, layers + 1))


def receptive_field(layers: Sequence[Convolution]) -> int:
    """How many input positions one output position depends on."""
    return 1 + sum(layer.kernel - 1 for layer in layers)


Segments = Int[Array, "B L"]
Keys = Float[Array, "B S F"]
Seen = tuple[Keys, Keys, Bias, Int[Array, "B #T"]]
"""What a decoder layer sees of the source: keys z, values (z + e) √0.5, who sees what, and how many that are."""


@flax.struct.dataclass
class Shape:
    """Sizes and choices that all layers share."""

    embedding: int = 512
    dropout: float = 0.1
    gate: str = "glu"
    norm: str = "weight"  # layer, none
    scale_residual: bool = True  # sums by √0.5
    context: str = "add"  # concat
    dtype: str = "float32"

    def sum(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        return (x + y) * ROOT_HALF if self.scale_residual else x + y


class Linear(nn.Module):
    """x W + b, with W = g v / ‖v‖ for each output unit under weight normalisation (Salimans & Kingma 2016).

    v is drawn from N(0, √(gain · p / n)), as section 3.5 writes it, by the standard deviation, where n inputs reach a
    unit, of which dropout before keeps the part p. At first g = ‖v‖."""

    shape: Shape
    inputs: int
    outputs: int
    gain: float = 1.0
    dropped: bool = False  # whether its input has been subject to dropout

    def setup(self):
        keep = 1.0 - self.shape.dropout if self.dropped else 1.0
        normal = nn.initializers.normal(math.sqrt(self.gain * keep / self.inputs))
        self.v = self.param("v", normal, (self.inputs, self.outputs))
        self.bias = self.param("bias", nn.initializers.zeros, (self.outputs,))
        if self.shape.norm == "weight":
            self.g = self.param("g", lambda key: jnp.linalg.norm(self.v, axis=0))

    def weight(self) -> Float[Array, "n m"]:
        """W."""
        return self.v * (self.g / jnp.linalg.norm(self.v, axis=0)) if self.shape.norm == "weight" else self.v

    def __call__(self, x: Float[Array, "*B n"]) -> Float[Array, "*B m"]:
        dtype = self.shape.dtype
        return flat_dot_general(x.astype(dtype), self.weight().astype(dtype)) + self.bias.astype(dtype)


def windows(x: Float[Array, "B L C"], segments: Int[Array, "B L"], before: int, after: int) -> Float[Array, "B L KC"]:
    """What a kernel sees at each position: the `before` positions before it, itself, the `after` positions after it,
    side by side; zero where they are padding, of another sentence, or outside."""
    size, pad = x.shape[1], (before, after)
    padded = jnp.pad(x, ((0, 0), pad, (0, 0)))
    numbers = jnp.pad(segments, ((0, 0), pad))
    same = lambda j: (numbers[:, j : j + size] == segments) & (segments > 0)
    taps = [jnp.where(same(j)[..., None], padded[:, j : j + size], 0.0) for j in range(before + after + 1)]
    return jnp.concatenate(taps, axis=-1)


class Block(nn.Module):
    """Convolution and gate (section 3.2); the residual connection stands around it in the stacks."""

    shape: Shape
    layer: Convolution
    incoming: int

    def setup(self):
        gated = self.shape.gate in ("glu", "tanh")
        size, gain = (2, 4.0) if gated else (1, 2.0 if self.shape.gate == "relu" else 1.0)
        self.dropout = Dropout(self.shape.dropout, inverted=True)
        inputs, outputs = self.layer.kernel * self.incoming, size * self.layer.channels
        self.convolution = Linear(self.shape, inputs, outputs, gain=gain, dropped=True)

    def __call__(
        self, x: Float[Array, "B L C"], segments: Segments, rows: Rows = None, *, causal: bool
    ) -> Float[Array, "B L C2"]:
        kernel = self.layer.kernel
        before = kernel - 1 if causal else kernel // 2
        return self.gate(windows(self.dropout(x, rows), segments, before, kernel - 1 - before))

    def gate(self, window: Float[Array, "*B KC"]) -> Float[Array, "*B C2"]:
        """v([A B]) of what a kernel sees (`windows`)."""
        y = self.convolution(window)
        a, b = jnp.split(y, 2, axis=-1) if self.shape.gate in ("glu", "tanh") else (y, None)
        return GATES[self.shape.gate](a, b)


class Attention(nn.Module):
    """One of the attention steps: equations (1) and (2), section 3.3.

    d = (h W + b + g) √0.5, a = softmax(d · z), c = Σ_j a_j (z_j + e_j) √0.5, times m √(1/m) (section 3.4), mapped back
    to the layer's channels and added to h. Of the authors' code are the factors √0.5 of d, of the values and of the sum
    with h, the map of c, and that h comes here before its residual connection."""

    shape: Shape
    channels: int

    def setup(self):
        size, concatenated = self.shape.embedding, self.shape.context == "concat"
        self.enter = Linear(self.shape, self.channels, size)
        self.leave = Linear(self.shape, size + self.channels if concatenated else size, self.channels)

    def __call__(self, h: Float[Array, "B T C"], g: Float[Array, "B T F"], memory: Seen) -> Float[Array, "B T C"]:
        keys, values, bias, length = memory
        heads = lambda x: x[:, :, None]  # one
        d = self.shape.sum(self.enter(h), g)
        found, weights = dot_product_attention(heads(d), heads(keys), heads(values), bias, scale=1.0)
        self.sow("attention", "weights", weights)
        c = found[:, :, 0] * jnp.sqrt(length).astype(found.dtype)[..., None]  # m √(1/m)
        if self.shape.context == "concat":
            return self.leave(jnp.concatenate([h, c], axis=-1))
        return self.shape.sum(self.leave(c), h)


class Layer(nn.Module):
    """A layer of either stack: block, attention over the source if asked for, residual connection."""

    shape: Shape
    layer: Convolution
    incoming: int
    attends: bool = False
    causal: bool = False

    def setup(self):
        self.block = Block(self.shape, self.layer, self.incoming)
        if self.incoming != self.layer.channels:
            self.project = Linear(self.shape, self.incoming, self.layer.channels)
        if self.attends:
            self.memory_attention = Attention(self.shape, self.layer.channels)
        if self.shape.norm == "layer":
            self.norm = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False)

    def _leave(self, x, y, g=None, memory=None):
        if self.attends:
            y = self.memory_attention(y, g, memory)
        x = self.shape.sum(y, self.project(x) if self.incoming != self.layer.channels else x)
        return self.norm(x).astype(x.dtype) if self.shape.norm == "layer" else x

    def __call__(
        self,
        x: Float[Array, "B L C"],
        segments: Segments,
        rows: Rows = None,
        g: Float[Array, "B L F"] | None = None,
        memory: Seen | None = None,
    ) -> Float[Array, "B L C2"]:
        return self._leave(x, self.block(x, segments, rows, causal=self.causal), g, memory)

    def step(
        self, x: Float[Array, "B N C"], past: Float[Array, "B N K1 C"], g: Float[Array, "B N F"], memory: Seen
    ) -> tuple[Float[Array, "B N C2"], Float[Array, "B N K1 C"]]:
        """The layer at one position, and the K - 1 inputs that the next position will need."""
        window = jnp.concatenate([past, x[:, :, None].astype(past.dtype)], axis=2)
        y = self.block.gate(window.reshape(*x.shape[:2], -1))
        return self._leave(x, y, g, memory), window[:, :, 1:]


def scale_gradient(x: Float[Array, "..."], factor: float) -> Float[Array, "..."]:
    """x, whose gradient is multiplied by `factor`."""
    return x + (factor - 1.0) * (x - jax.lax.stop_gradient(x))  # the second term is exactly zero


class Embedding(nn.Module):
    """w + p: a word's and its position's embedding (section 3.1), with dropout on the sum."""

    shape: Shape
    size: int
    max_length: int
    positions: bool

    @nn.compact
    def __call__(self, tokens: Int[Array, "*B"], place: Int[Array, "*#B"], rows: Rows = None) -> Float[Array, "*B F"]:
        normal = nn.initializers.normal(0.1)  # section 3.5
        x = self.param("words", normal, (self.size, self.shape.embedding))[tokens]
        if self.positions:
            x += self.param("positions", normal, (self.max_length, self.shape.embedding))[place]
        return Dropout(self.shape.dropout, inverted=True)(x, rows).astype(self.shape.dtype)


class ConvSeq2Seq(nn.Module):
    """Source and target tokens to the decoder's output, and the matrix and bias that turn it into logits.

    attention: numbers of the decoder layers, from 1, that attend to the source. dense: a decoder layer's input is a
    linear map of what all layers before it gave, not the last alone. max_length: rows of the position tables."""

    source_size: int
    target_size: int
    max_length: int
    encoder: tuple[Convolution, ...]
    decoder: tuple[Convolution, ...]
    attention: tuple[int, ...]
    shape: Shape = Shape()
    output: int = 512
    source_positions: bool = True
    target_positions: bool = True
    dense: bool = False

    def setup(self):
        s = self.shape
        embed = lambda size, positions: Embedding(s, size, self.max_length, positions)
        self.embed_source = embed(self.source_size, self.source_positions)
        self.embed_target = embed(self.target_size, self.target_positions)
        self.enter_encoder = Linear(s, s.embedding, self.encoder[0].channels, dropped=True)
        self.enter_decoder = Linear(s, s.embedding, self.decoder[0].channels, dropped=True)
        incoming = lambda layers: [layers[0].channels, *(layer.channels for layer in layers)]
        self.encoder_layers = [Layer(s, layer, size) for layer, size in zip(self.encoder, incoming(self.encoder))]
        self.decoder_layers = [
            Layer(s, layer, size, attends=number in self.attention, causal=True)
            for number, (layer, size) in enumerate(zip(self.decoder, incoming(self.decoder)), 1)
        ]
        if self.dense:
            before = incoming(self.decoder)
            self.gather = [Linear(s, sum(before[: n + 1]), before[n]) for n in range(1, len(self.decoder))]
        self.leave_encoder = Linear(s, self.encoder[-1].channels, s.embedding)
        self.leave_decoder = Linear(s, self.decoder[-1].channels, self.output)
        self.dropout = Dropout(s.dropout, inverted=True)
        self.classify = Linear(s, self.output, self.target_size, dropped=True)

    @property
    def longest(self) -> int | None:
        """The most positions that the model has, None for any number."""
        return self.max_length if self.source_positions or self.target_positions else None

    def _check_length(self, size: int) -> None:
        if self.longest is not None and size > self.longest:
            raise ConfigError(
                f"model.max_length = {self.max_length}: a sentence of {size} positions is longer than the tables of "
                "positions; raise it, or set model.source_positions and model.target_positions to False (an output may "
                "be decode.extra longer than its input)"
            )

    def encode(self, source: Int[Array, "B S"], segments: Int[Array, "B S"], rows: Rows = None) -> tuple[Keys, Keys]:
        """The memory: keys z and values (z + e) √0.5. rows: places in the whole batch while training, None in
        evaluation."""
        self._check_length(source.shape[1])
        e = self.embed_source(source, places(segments), rows)
        x = self.enter_encoder(e)
        for layer in self.encoder_layers:
            x = layer(x, segments, rows)
        z = scale_gradient(self.leave_encoder(x), 1.0 / max(1, len(self.attention)))
        return z, self.shape.sum(z, e)

    def decode(
        self,
        memory: tuple[Keys, Keys],
        source_segments: Int[Array, "B S"],
        target: Int[Array, "B T"],
        segments: Int[Array, "B T"],
        rows: Rows = None,
    ) -> Float[Array, "B T O"]:
        """The decoder's output at every position, from the tokens before it: `target` begins with <s>."""
        self._check_length(target.shape[1])
        g = self.embed_target(target, places(segments), rows)
        bias = attention_bias(segments, source_segments)
        length = jnp.sum((segments[:, :, None] == source_segments[:, None]) & (source_segments > 0)[:, None], axis=-1)
        seen = [self.enter_decoder(g)]
        for layer in self.decoder_layers:
            seen.append(layer(self._input(seen), segments, rows, g, (*memory, bias, length)))
        return self.dropout(self.leave_decoder(seen[-1]), rows)

    def _input(self, seen: Sequence[Float[Array, "*B _"]]) -> Float[Array, "*B C"]:
        """Of a decoder layer, from the decoder's first input and what the layers before gave."""
        if not self.dense or len(seen) == 1:
            return seen[-1]
        return self.gather[len(seen) - 2](jnp.concatenate(seen, axis=-1))

    def __call__(
        self,
        source: Int[Array, "B S"],
        source_segments: Int[Array, "B S"],
        target: Int[Array, "B T"],
        target_segments: Int[Array, "B T"],
        rows: Rows = None,
    ) -> Float[Array, "B T O"]:
        """`encode`, then `decode`."""
        if self.is_initializing():
            self.readout()  # has its parameters made
        memory = self.encode(source, source_segments, rows)
        return self.decode(memory, source_segments, target, target_segments, rows)

    def readout(self) -> tuple[Float[Array, "V O"], Float[Array, " V"]]:
        """W_o and b_o of section 3.2: logits are h W_oᵀ + b_o."""
        return self.classify.weight().T, self.classify.bias

    def init_cache(
        self, memory: tuple[Keys, Keys], source_segments: Int[Array, "B S"], *, beams: int, size: int
    ) -> tuple[Seen, list[Float[Array, "B N _ _"]]]:
        """What `decode_step` needs for up to `size` target positions: what stays as it is, of each sentence, and what
        changes, of each beam: the last K - 1 inputs of each layer, (B, N, K - 1, C)."""
        self._check_length(size)
        keys, values = memory
        ones = jnp.ones((len(keys), 1), source_segments.dtype)
        fixed = (keys, values, attention_bias(ones, source_segments), jnp.sum(source_segments > 0, axis=1)[:, None])
        widths = [self.decoder[0].channels, *(layer.channels for layer in self.decoder)]
        empty = lambda layer, width: jnp.zeros((len(keys), beams, layer.kernel - 1, width), self.shape.dtype)
        return fixed, [empty(layer, width) for layer, width in zip(self.decoder, widths)]

    def decode_step(
        self, fixed: Seen, cache: PyTree, tokens: Int[Array, "B N"], position: Int[Array, ""]
    ) -> tuple[Float[Array, "B N V"], PyTree]:
        """Logits of the tokens that follow `tokens`, which stand at `position`. The beams of a sentence look at the
        source as if they were N target positions."""
        g = self.embed_target(tokens, jnp.broadcast_to(position, tokens.shape))
        seen, new = [self.enter_decoder(g)], []
        for layer, past in zip(self.decoder_layers, cache):
            x, past = layer.step(self._input(seen), past, g, fixed)
            seen.append(x)
            new.append(past)
        table, bias = self.readout()
        return self.leave_decoder(seen[-1]).astype(jnp.float32) @ table.T + bias, new


def make_model(config, *, source_size: int, target_size: int, max_length: int) -> ConvSeq2Seq:
    """The model of `config.model`; ConfigError where a field cannot be."""
    rest = ("output", "source_positions", "target_positions", "max_length", "dense")
    own = (*Shape.__dataclass_fields__, *rest, "encoder", "decoder", "attention")
    check_fields(config, own, "research/conv_seq2seq.py", "model")
    choices = {
        "gate": GATES,
        "norm": ("weight", "layer", "none"),
        "context": ("add", "concat"),
        "dtype": ("float32", "bfloat16"),
    }
    check_choices(config, choices)
    for name in ("embedding", "output", "max_length"):
        if not 1 <= config[name] <= LARGEST:
            raise ConfigError(f"model.{name} must lie between 1 and {LARGEST}, got {config[name]}")
    if not 0.0 <= config.dropout < 1.0:
        raise ConfigError(f"model.dropout must lie in [0, 1), got {config.dropout}")
    stacks = {name: read_layers(config[name], name) for name in ("encoder", "decoder")}
    for number, layer in enumerate(stacks["encoder"], 1):
        if layer.kernel % 2 == 0:
            raise ConfigError(
                f"model.encoder: layer {number} has kernel width {layer.kernel}; it must be odd, so that "
                "a position has as many neighbours on its left as on its right"
            )
    attention = attending(config.attention, len(stacks["decoder"]))
    if max_length > config.max_length and (config.source_positions or config.target_positions):
        raise ConfigError(
            f"model.max_length = {config.max_length} is less than the longest bucket, {max_length}; raise it, or "
            "shorten data.buckets"
        )
    fields = {name: config[name] for name in Shape.__dataclass_fields__}
    options = {name: config[name] for name in rest} | {"source_size": source_size, "target_size": target_size}
    return ConvSeq2Seq(**options, **stacks, attention=attention, shape=Shape(**fields))

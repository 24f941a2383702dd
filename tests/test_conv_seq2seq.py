"""ConvS2S against NumPy, PyTorch, hand-worked values, the paper's sizes, and itself cached, padded and packed."""

import functools
import importlib
import math
import pathlib
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from configs.conv_seq2seq import wmt14_en_de
from experiments.run import search_of, settings_of
from research import conv_seq2seq
from research.conv_seq2seq import (
    GATES,
    Attention,
    Block,
    Convolution,
    ConvSeq2Seq,
    Embedding,
    Layer,
    Linear,
    Shape,
    make_model,
    read_layers,
    receptive_field,
    scale_gradient,
    windows,
    written,
)
from research.decoding import Search
from research.errors import ConfigError
from research.layers import attention_bias
from research.optimizers import make_optimizer
from research.tasks import Translation
from research.train import init_state, train_step
from tests.seq2seq import (
    BUCKET,
    KEY,
    SEGMENTS,
    SOURCE,
    V,
    batch,
    cached_and_uncached_decoding_agree,
    close,
    double,
    filled,
    half_precision_is_near,
    more_positions_than_the_table_has_are_refused,
    normal,
    numpy_layer_norm,
    packing_changes_nothing,
    padding_changes_nothing,
    pytorch_agrees,
    sentences,
    the_cache_follows_its_beam,
    torch_inputs,
)
from tests.seq2seq import variables as drawn
from tests.test_cli import ROOT

ROOT_HALF = math.sqrt(0.5)


def shape(**changes) -> Shape:
    return Shape(**{"embedding": 6, "dropout": 0.0} | changes)


def model(encoder=("8x3",), decoder=("8x3",), **changes) -> ConvSeq2Seq:
    """Fields of the model and of its shape alike."""
    own = {name: changes.pop(name) for name in list(changes) if name not in Shape.__dataclass_fields__}
    stacks = {"encoder": read_layers(encoder, "encoder"), "decoder": read_layers(decoder, "decoder")}
    fields = {"source_size": V, "target_size": V, "max_length": 16, "output": 8} | stacks
    fields["attention"] = tuple(range(1, len(stacks["decoder"]) + 1))
    return ConvSeq2Seq(**fields | own, shape=shape(**changes))


def by_name(change: dict, tree):
    """The tree with the leaves of some names changed: name -> function."""
    return jax.tree_util.tree_map_with_path(lambda path, x: change.get(path[-1].key, lambda x: x)(x), tree)


def variables(net, seed: int = 0):
    """With g so large that what a layer is given counts beside its bias."""
    return by_name({"g": lambda g: 2.5 * g}, drawn(net, seed=seed))


# NumPy's versions, in float64 and position by position.


def numpy_weight(p) -> np.ndarray:
    return p["g"] * p["v"] / np.sqrt((p["v"] ** 2).sum(0)) if "g" in p else p["v"]


def numpy_linear(p, x) -> np.ndarray:
    return x @ numpy_weight(p) + p["bias"]


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


NUMPY_GATES = {
    "glu": lambda y: y[: len(y) // 2] * sigmoid(y[len(y) // 2 :]),
    "tanh": lambda y: np.tanh(y[: len(y) // 2]) * sigmoid(y[len(y) // 2 :]),
    "relu": lambda y: np.maximum(y, 0.0),
    "none": lambda y: y,
}


def together(segments, other) -> np.ndarray:
    """Whether two positions are of one sentence: (B, T, S)."""
    return (segments[:, :, None] == other[:, None]) & (other[:, None] > 0)


def numpy_block(p, x, segments, kernel: int, *, causal: bool, gate: str = "glu") -> np.ndarray:
    """Section 3.2, with the part of the kernel for each neighbour that is there."""
    matrices = numpy_weight(p["convolution"]).reshape(kernel, x.shape[2], -1)
    same, found = together(segments, segments), []
    for b, t in np.ndindex(segments.shape):
        y = p["convolution"]["bias"].copy()
        for k, matrix in enumerate(matrices):
            j = t - (kernel - 1 if causal else kernel // 2) + k
            if 0 <= j < segments.shape[1] and same[b, t, j]:
                y += x[b, j] @ matrix
        found.append(NUMPY_GATES[gate](y))
    return np.reshape(found, (*segments.shape, -1))


def numpy_sum(s: Shape, x, y) -> np.ndarray:
    return (x + y) * ROOT_HALF if s.scale_residual else x + y


def numpy_attention(p, s: Shape, h, g, keys, values, seen) -> np.ndarray:
    """Equations (1) and (2) over the source positions of the sentence alone, of which there are m."""
    found = np.zeros_like(h)
    for b, t in np.argwhere(seen.any(-1)):
        inside = seen[b, t]
        m = inside.sum()
        scores = np.exp(keys[b, inside] @ numpy_sum(s, numpy_linear(p["enter"], h[b, t]), g[b, t]))
        c = (scores / scores.sum()) @ values[b, inside] * m * np.sqrt(1 / m)
        leave = lambda x: numpy_linear(p["leave"], x)
        concatenated = s.context == "concat"
        found[b, t] = leave(np.concatenate([h[b, t], c])) if concatenated else numpy_sum(s, leave(c), h[b, t])
    return found


def numpy_layer(p, s: Shape, kernel: int, x, segments, *attended, causal: bool) -> np.ndarray:
    y = numpy_block(p["block"], x, segments, kernel, causal=causal, gate=s.gate)
    if "memory_attention" in p:
        y = numpy_attention(p["memory_attention"], s, y, *attended)
    x = numpy_sum(s, y, numpy_linear(p["project"], x) if "project" in p else x)
    return numpy_layer_norm(p["norm"], x) if s.norm == "layer" else x


def numpy_embedding(p, tokens, segments) -> np.ndarray:
    found = p["words"][tokens]
    if "positions" in p:
        place = [[(row[:t] == row[t]).sum() for t in range(len(row))] for row in segments]
        found = found + p["positions"][place]
    return found


def numpy_encode(net, p, source, segments) -> tuple[np.ndarray, np.ndarray]:
    e = numpy_embedding(p["embed_source"], source, segments)
    x = numpy_linear(p["enter_encoder"], e)
    for n, layer in enumerate(net.encoder):
        x = numpy_layer(p[f"encoder_layers_{n}"], net.shape, layer.kernel, x, segments, causal=False)
    z = numpy_linear(p["leave_encoder"], x)
    return z, numpy_sum(net.shape, z, e)


def numpy_decode(net, p, memory, source_segments, target, segments) -> np.ndarray:
    g = numpy_embedding(p["embed_target"], target, segments)
    attended, seen = (g, *memory, together(segments, source_segments)), [numpy_linear(p["enter_decoder"], g)]
    for n, layer in enumerate(net.decoder):
        x = numpy_linear(p[f"gather_{n - 1}"], np.concatenate(seen, -1)) if net.dense and n else seen[-1]
        kernel = layer.kernel
        seen.append(numpy_layer(p[f"decoder_layers_{n}"], net.shape, kernel, x, segments, *attended, causal=True))
    return numpy_linear(p["leave_decoder"], seen[-1])


SOURCE_SEGMENTS = np.array([[1, 1, 1, 1, 2, 2], [0, 0, 1, 1, 1, 0]])
TARGET_SEGMENTS = np.array([[1, 1, 2, 2, 2], [0, 1, 1, 1, 0]])
REAL = TARGET_SEGMENTS > 0
TOKENS = {
    name: np.random.default_rng(seed).integers(0, V, segments.shape).astype(np.int32)
    for seed, (name, segments) in enumerate({"source": SOURCE_SEGMENTS, "target": TARGET_SEGMENTS}.items())
}
GIVEN = (TOKENS["source"], SOURCE_SEGMENTS, TOKENS["target"], TARGET_SEGMENTS)

OPTIONS = {
    "plain": {},
    "widths": {"encoder": ("8x3", "10x5", "4x1"), "decoder": ("6x2", "6x1", "10x4"), "attention": (1, 3)},
    "wide": {"encoder": ("8x13",), "decoder": ("8x12",), "source_positions": False},  # wider than any sentence
    "dense": {"decoder": ("8x3", "6x1", "10x2"), "dense": True, "target_positions": False},
    "concat": {"decoder": ("8x3", "6x3"), "context": "concat", "gate": "tanh", "scale_residual": False},
    "no scale": {"decoder": ("8x3", "6x3"), "scale_residual": False},
    "layer norm": {"encoder": ("2*8x3",), "decoder": ("2*8x5",), "norm": "layer", "gate": "relu"},
    "no norm": {"norm": "none", "gate": "none", "source_positions": False, "target_positions": False},
}
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


# The parts


def test_windows_by_hand():
    """Two positions before and one after; zeros for what is outside, in the padding, or of another sentence."""
    x = jnp.array([[[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]]])
    found = windows(x, jnp.array([[1, 1, 1, 2, 2, 0]]), 2, 1)
    wanted = [[0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 0], [0, 0, 4, 5], [0, 4, 5, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(found, [wanted])
    np.testing.assert_array_equal(windows(x, jnp.ones((1, 6)), 0, 0), x)
    two = windows(jnp.array([[[1.0, 10.0], [2.0, 20.0]]]), jnp.ones((1, 2)), 1, 0)  # all channels of a position
    np.testing.assert_array_equal(two, [[[0, 0, 1, 10], [1, 10, 2, 20]]])


def test_gates_by_hand():
    """A ⊗ σ(B): 3 σ(0) = 1.5, and with tanh tanh(3) / 2; σ(log 3) = 3/4."""
    a, b = jnp.array([3.0, -2.0]), jnp.array([0.0, math.log(3.0)])
    np.testing.assert_allclose(GATES["glu"](a, b), [1.5, -1.5], rtol=1e-6)
    np.testing.assert_allclose(GATES["tanh"](a, b), [0.5 * math.tanh(3.0), 0.75 * math.tanh(-2.0)], rtol=1e-6)
    np.testing.assert_array_equal(GATES["relu"](a, None), [3.0, 0.0])
    np.testing.assert_array_equal(GATES["none"](a, None), a)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(("kernel", "causal"), [(1, False), (3, False), (5, False), (1, True), (2, True), (4, True)])
def test_a_block_by_hand(gate, kernel, causal):
    x = normal(2, 6, 8)
    block = Block(shape(gate=gate), Convolution(5, kernel), 8)
    run = lambda block, x: block(x, SOURCE_SEGMENTS, causal=causal)
    values = filled(block, x, method=run)
    params = double(values["params"])
    wanted = numpy_block(params, double(x), SOURCE_SEGMENTS, kernel, causal=causal, gate=gate)
    close(block.apply(values, x, method=run), wanted, 1e-6)
    assert params["convolution"]["bias"].shape == (10 if gate in ("glu", "tanh") else 5,)


@pytest.mark.parametrize("context", ["add", "concat"])
def test_attention_by_hand(context):
    """Of sentences of four, two and three source words."""
    s = shape(context=context)
    layer = Attention(s, 8)
    h, g, keys, values = normal(2, 5, 8), normal(2, 5, 6, seed=1), normal(2, 6, 6, seed=2), normal(2, 6, 6, seed=3)
    seen = together(TARGET_SEGMENTS, SOURCE_SEGMENTS)
    memory = (keys, values, attention_bias(TARGET_SEGMENTS, SOURCE_SEGMENTS), seen.sum(-1))
    params = filled(layer, h, g, memory)
    found, shown = layer.apply(params, h, g, memory, mutable=["attention"])
    wanted = numpy_attention(double(params["params"]), s, *double((h, g, keys, values)), seen)
    close(np.asarray(found)[REAL], wanted[REAL], 1e-6)
    weights = np.asarray(shown["attention"]["weights"][0])[:, 0][REAL]  # one head
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(weights[~seen[REAL]], 0.0)


def test_the_context_is_scaled_by_the_root_of_the_source_length():
    """m √(1/m), section 3.4, where m is the sentence's own length: of values that are all 1 it leaves √m, whatever the
    weights. The map back takes the sum of one value, and h is 0."""
    layer, ones = Attention(shape(), 8), np.ones((2, 6, 6), np.float32)
    memory = (normal(2, 6, 6), ones, attention_bias(TARGET_SEGMENTS, SOURCE_SEGMENTS))
    memory += (together(TARGET_SEGMENTS, SOURCE_SEGMENTS).sum(-1),)
    h, g = np.zeros((2, 5, 8), np.float32), normal(2, 5, 6)
    params = filled(layer, h, g, memory)["params"]
    first = {"v": jnp.eye(6)[:, :1].repeat(8, 1), "g": jnp.ones(8), "bias": jnp.zeros(8)}
    found = layer.apply({"params": params | {"leave": first}}, h, g, memory)
    wanted = ROOT_HALF * np.sqrt([[4, 4, 2, 2, 2], [0, 3, 3, 3, 0]])
    np.testing.assert_allclose(found[REAL], np.tile(wanted[REAL][:, None], 8), rtol=1e-6)


def test_embeddings_by_hand():
    """Word plus position, which is counted within the sentence; or the word alone."""
    layer, tokens = Embedding(shape(), V, 16, positions=True), jnp.array([[4, 6, 4]])
    place = jnp.array([[0, 1, 2]])
    params = filled(layer, tokens, place)
    words, positions = params["params"]["words"], params["params"]["positions"]
    assert words.shape == (V, 6) and positions.shape == (16, 6)
    found = layer.apply(params, tokens, place)
    np.testing.assert_allclose(found[0], words[np.array([4, 6, 4])] + positions[:3], rtol=1e-6)
    bare = Embedding(shape(), V, 16, positions=False)
    assert set(filled(bare, tokens, place)["params"]) == {"words"}
    np.testing.assert_array_equal(bare.apply({"params": {"words": words}}, tokens, place)[0], words[tokens[0]])


@each_option
def test_the_model_by_hand(options):
    """Keys z, values (z + e) √0.5 and the decoder's output; two sentences in a row, and one with padding around it."""
    net = model(**options)
    values = variables(net)
    params = double(values["params"])
    encoded = jax.jit(lambda values: net.apply(values, *GIVEN[:2], method="encode"))(values)
    memory = numpy_encode(net, params, *GIVEN[:2])
    for found, wanted in zip(encoded, memory):
        close(np.asarray(found)[SOURCE_SEGMENTS > 0], wanted[SOURCE_SEGMENTS > 0], 1e-5)
    found = np.asarray(jax.jit(net.apply)(values, *GIVEN))
    wanted = numpy_decode(net, params, memory, SOURCE_SEGMENTS, *GIVEN[2:])
    assert np.isfinite(found).all()  # padding included
    close(found[REAL], wanted[REAL], 1e-5)

    table, bias = net.apply(values, method="readout")
    np.testing.assert_allclose(table.T, numpy_weight(params["classify"]), rtol=1e-5)
    np.testing.assert_array_equal(bias, params["classify"]["bias"])


def test_maps_stand_where_widths_change_and_attention_where_it_is_asked_for():
    net = model(**OPTIONS["widths"])
    params = variables(net)["params"]
    of = lambda stack: [set(params[f"{stack}_layers_{n}"]) - {"block"} for n in range(3)]
    assert of("encoder") == [set(), {"project"}, {"project"}]  # 8, 8 -> 10 -> 4
    assert of("decoder") == [{"memory_attention"}, set(), {"memory_attention", "project"}]  # 6, 6, 6 -> 10
    assert not any(name.startswith("gather") for name in params)


# Who sees what


@pytest.mark.parametrize(
    "options",
    [
        *({"decoder": (f"8x{kernel}",)} for kernel in (1, 2, 3, 4)),
        {"decoder": ("8x2", "6x3"), "context": "concat", "attention": (2,)},
        {"decoder": ("8x2", "6x1", "8x2"), "dense": True},
        {"decoder": ("2*8x2",), "norm": "layer"},
        {"decoder": ("8x3",), "norm": "none", "gate": "tanh"},
    ],
    ids=str,
)
def test_the_future_has_exactly_no_gradient(options):
    """Of the decoder's real outputs: not 0 at the positions of the same sentence within the receptive field, and 0.0 at
    later ones, earlier ones, in other sentences and in padding. Each token stands once, so that its row of the table
    tells its position."""
    net = model(encoder=("8x3",), **options)
    values = by_name({"g": lambda g: 0.5 * g, "v": lambda v: 0.2 * v}, variables(net))  # no gate is saturated
    segments, source_segments = np.array([[1, 1, 1, 1, 1, 2], [0, 1, 1, 1, 0, 0]]), np.array([[1, 1, 2], [1, 1, 0]])
    target, source = np.arange(12).reshape(2, 6), np.arange(6).reshape(2, 3)

    @jax.jit
    @jax.jacrev
    def slopes(tables):
        params = dict(values["params"])
        for name, table in tables.items():
            params[name] = params[name] | {"words": table}
        return net.apply({"params": params}, source, source_segments, target, segments)

    found = slopes({name: values["params"][name]["words"] for name in ("embed_target", "embed_source")})
    largest = {name: np.abs(x).max(axis=(2, 4)) for name, x in found.items()}  # (B, T) outputs by V tokens
    by_target, by_source = largest["embed_target"][:, :, :12], largest["embed_source"][:, :, :6]
    distance = np.arange(6)[:, None] - np.arange(6)
    field = receptive_field(net.decoder)
    near = together(segments, segments) & (distance >= 0) & (distance < field)
    own = np.eye(2, dtype=bool)[:, None, :, None]
    real = segments > 0
    for x, wanted in ((by_target, near), (by_source, together(segments, source_segments))):
        wanted = (own & wanted[:, :, None]).reshape(x.shape)
        np.testing.assert_array_equal(x[real] > 0, wanted[real])
        np.testing.assert_array_equal(x[real][~wanted[real]], 0.0)


def test_the_encoder_sees_as_far_to_the_left_as_to_the_right():
    net = model(encoder=("8x3", "6x1", "8x5"))
    values, tokens = variables(net), np.arange(12)[None]
    table = values["params"]["embed_source"]["words"]

    @jax.jit
    @jax.jacrev
    def slopes(table):
        params = values["params"] | {"embed_source": values["params"]["embed_source"] | {"words": table}}
        return net.apply({"params": params}, tokens, np.ones_like(tokens), method="encode")[0]

    found = np.abs(slopes(table)).max(axis=(0, 2, 4))[:, :12]
    assert receptive_field(net.encoder) == 7
    np.testing.assert_array_equal(found > 0, np.abs(np.arange(12)[:, None] - np.arange(12)) <= 3)


@each_option
def test_padding_on_either_side_changes_nothing(options):
    net = model(**options)
    padding_changes_nothing(net, variables(net))


@pytest.mark.parametrize("name", ["plain", "widths", "dense"])
def test_packed_rows_have_the_same_loss(name):
    net = model(**OPTIONS[name])
    packing_changes_nothing(net, drawn(net)["params"])


# Gradients, weight normalisation, initialisation


def test_a_scaled_gradient_leaves_the_value():
    x = normal(50)
    np.testing.assert_array_equal(scale_gradient(x, 0.25), x)
    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(3.0 * scale_gradient(x, 0.25)))(x), np.full(50, 0.75))


def test_the_encoder_receives_its_gradient_divided_by_the_attention_layers(monkeypatch):
    """Section 3.4. The source's embeddings receive what comes from the values directly undivided, and the rest, through
    the encoder, divided; everything else receives what it would without."""
    net = model(encoder=("6x3",), decoder=("8x2", "8x1", "8x2"), attention=(1, 3))
    params, examples = variables(net)["params"], batch(sentences(4, 2, 3), sentences(3, 4, 1, seed=1))

    @jax.jit
    def run(params, factor=None):
        """factor: in place of the code's own."""
        with monkeypatch.context() as patch:
            if factor is not None:
                patch.setattr(conv_seq2seq, "scale_gradient", lambda x, _: scale_gradient(x, factor))
            return jax.value_and_grad(lambda p: Translation(net).loss({"params": p}, examples, KEY)[0])(params)

    (loss, found), (unscaled_loss, unscaled), (_, direct) = run(params), run(params, 1.0), run(params, 0.0)
    assert loss == unscaled_loss
    for name, gradients in found.items():
        encoder = name in ("enter_encoder", "leave_encoder", "encoder_layers_0")
        share = 1 / 2 if encoder or name == "embed_source" else 1.0
        mix = lambda whole, own, share=share: own + share * (whole - own)
        assert all(not x.any() for x in jax.tree.leaves(direct[name])) == encoder
        jax.tree.map(
            lambda one, other: close(one, other, 1e-5), gradients, jax.tree.map(mix, unscaled[name], direct[name])
        )


def test_the_length_of_v_changes_nothing():
    """Weight normalisation: w = g v / ‖v‖ of each output unit, so that g alone is its length, and the gradient by v has
    no part along v."""
    layer, x = Linear(shape(), 6, 5), normal(4, 6)
    values = filled(layer, x)
    p = values["params"]
    wanted = layer.apply(values, x)
    longer = {"params": p | {"v": p["v"] * jnp.array([0.1, 0.5, 2.0, 9.0, 1.0])}}
    np.testing.assert_allclose(layer.apply(longer, x), wanted, rtol=1e-5, atol=1e-6)
    twice = layer.apply({"params": p | {"g": 2.0 * p["g"]}}, x)
    np.testing.assert_allclose(twice - p["bias"], 2.0 * (wanted - p["bias"]), rtol=1e-5, atol=1e-6)
    lengths = jnp.linalg.norm(layer.bind(values).weight(), axis=0)
    np.testing.assert_allclose(lengths, jnp.abs(p["g"]), rtol=1e-5)

    gradient = jax.grad(lambda p: jnp.sum(jnp.tanh(layer.apply({"params": p}, x)) ** 2))(p)
    along = jnp.sum(gradient["v"] * p["v"], axis=0)
    assert np.abs(along).max() < 1e-6 * np.abs(gradient["v"]).max() < 1.0
    assert np.abs(gradient["g"]).min() > 1e-3

    for norm in ("layer", "none"):
        plain = Linear(shape(norm=norm), 6, 5)
        bare = {name: p[name] for name in ("v", "bias")}
        assert set(filled(plain, x)["params"]) == set(bare)
        np.testing.assert_allclose(plain.apply({"params": bare}, x), x @ p["v"] + p["bias"], rtol=1e-5, atol=1e-6)


def started(net):
    one = jnp.ones((1, 4), jnp.int32)
    return jax.jit(lambda: net.init(KEY, one, one, one, one)["params"])()


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_parameters_start_as_section_3_5_has_them(dropout):
    """Normal, with variance 4p / n before a GLU and p / n elsewhere, where n inputs reach a unit and p is the part that
    dropout leaves of them (1 where it does not act); embeddings with 0.1; biases zero; g = ‖v‖."""
    channels, p = 64, 1.0 - dropout
    net = model(
        encoder=("64x3", "96x5"), decoder=("64x3", "96x1"), embedding=80, output=112, dropout=dropout, dense=True
    )
    params = started(net)
    variances = {
        "enter_encoder": p / 80,
        "enter_decoder": p / 80,
        "leave_encoder": 1 / 96,
        "leave_decoder": 1 / 96,
        "classify": p / 112,
        "gather_0": 1 / (channels + channels),
        "encoder_layers_0.block.convolution": 4 * p / (3 * channels),
        "encoder_layers_1.block.convolution": 4 * p / (5 * channels),
        "decoder_layers_0.block.convolution": 4 * p / (3 * channels),
        "decoder_layers_1.block.convolution": 4 * p / channels,
        **{f"{stack}_layers_1.project": 1 / channels for stack in ("encoder", "decoder")},
        **{f"decoder_layers_{n}.memory_attention.enter": 1 / size for n, size in enumerate((64, 96))},
        **{f"decoder_layers_{n}.memory_attention.leave": 1 / 80 for n in range(2)},
        **{f"embed_{side}": 0.01 for side in ("source", "target")},
    }
    found, leaves = set(), flatten_dict(params, sep=".")
    for path, x in leaves.items():
        name, _, kind = path.rpartition(".")
        if kind == "bias":
            np.testing.assert_array_equal(x, 0.0)
        elif kind == "g":
            np.testing.assert_allclose(x, np.linalg.norm(double(leaves[f"{name}.v"]), axis=0), rtol=1e-5)
        else:
            found.add(name)
            scaled = double(x).ravel() / math.sqrt(variances[name])
            error = 5 / math.sqrt(scaled.size)  # five standard deviations of a mean
            assert abs(scaled.mean()) < error and abs(scaled.std() - 1.0) < error / math.sqrt(2), name
            assert abs(np.mean(np.abs(scaled) > 2.0) - 0.0455) < 0.21 * error, name  # a normal distribution's part
    assert found == set(variances)


@pytest.mark.parametrize(("gate", "gain"), {"glu": 4, "tanh": 4, "relu": 2, "none": 1}.items())
def test_the_gain_before_other_gates(gate, gain):
    x = jnp.ones((1, 4, 64))
    block = Block(shape(gate=gate), Convolution(64, 3), 64)
    params = block.init(KEY, x, jnp.ones((1, 4)), causal=False)["params"]
    assert float(jnp.std(params["convolution"]["v"])) == pytest.approx(math.sqrt(gain / (3 * 64)), rel=0.02)


FACTORS = (1.0, 0.5, math.sqrt(1.25))


def variance_ratios(dropout: float) -> dict[float, dict[str, list[float]]]:
    """Variance of what each of 15 layers of 64 gives, by that of what the first is given, in a training step at the
    start; with the convolutions' weights times each of FACTORS."""
    net = model(
        encoder=("15*64x3",),
        decoder=("15*64x3",),
        embedding=64,
        dropout=dropout,
        max_length=40,
        source_size=500,
        target_size=500,
    )
    kept = lambda module, _: isinstance(module, Layer) or module.name in ("enter_encoder", "enter_decoder")
    tokens = np.random.default_rng(0).integers(0, 500, (2, 8, 40))
    ones = jnp.ones((8, 40), jnp.int32)
    given = (tokens[0], ones, tokens[1], ones, jnp.arange(8))

    def ratios(factor: float) -> dict[str, list[float]]:
        changed = lambda path, x: factor * x if path[-2].key == "convolution" and path[-1].key == "g" else x
        changed = {"params": jax.tree_util.tree_map_with_path(changed, params)}
        _, seen = net.apply(changed, *given, rngs={"dropout": KEY}, capture_intermediates=kept)
        variance = {name: float(jnp.var(x["__call__"][0])) for name, x in seen["intermediates"].items()}
        layers = lambda stack: [variance[f"{stack}_layers_{n}"] / variance[f"enter_{stack}"] for n in range(15)]
        return {stack: layers(stack) for stack in ("encoder", "decoder")}

    params = started(net)
    return {factor: ratios(factor) for factor in FACTORS}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_the_variance_stays_through_fifteen_layers(dropout):
    """At the end: encoder 0.98 and 1.04, decoder 1.17 and 1.41 without and with dropout. A gain of 1 in place of 4
    leaves a 1,200th of it in the encoder, and weights that do not allow for dropout of 0.2 make it eight times as large
    there and several hundred times in the decoder."""
    right, small, large = variance_ratios(dropout).values()
    assert 0.8 < min(right["encoder"]) <= max(right["encoder"]) < 1.25
    assert 0.8 < min(right["decoder"]) <= max(right["decoder"]) < 1.5
    assert small["encoder"][-1] < 0.01 and small["decoder"][-1] < 0.5
    assert large["encoder"][-1] > 5.0 and large["decoder"][-1] > 100.0


# The reference framework


def from_pytorch(get, *, modules, tables):
    """Parameters, or gradients, of PyTorch's weight-normalised maps and of its tables, both by our names. get: a
    parameter's array."""
    found = {name: get(x) for name, x in tables.items()}
    for name, module in modules.items():
        g, v = (getattr(module.parametrizations.weight, f"original{n}") for n in range(2))
        v = get(v).T  # inputs by outputs, of a convolution by neighbours, side by side
        v = v.reshape(-1, v.shape[-1])
        found |= {f"{name}/v": v, f"{name}/g": get(g).ravel(), f"{name}/bias": get(module.bias)}
    return unflatten_dict(found, sep="/")


def test_the_same_weights_in_pytorch_give_the_same_outputs_and_gradients():
    """Hidden states, loss with label smoothing, and every gradient, to 1e-5 of the largest value of each array. PyTorch
    computes in float64, with its own convolution, gate and weight normalisation, over padded sentences."""
    torch = pytest.importorskip("torch", reason="tests/requirements.txt installs PyTorch for this comparison")
    F, normed = torch.nn.functional, torch.nn.utils.parametrizations.weight_norm
    torch.manual_seed(0)
    encoder, decoder, attending = ((8, 3), (10, 5)), ((6, 3), (6, 5), (8, 3)), (1, 3)
    embedding, size = 8, 7

    made, linear = {}, lambda n, m: normed(torch.nn.Linear(n, m))

    def stack(name: str, layers, causal: bool):
        width = layers[0][0]
        made[f"enter_{name}"] = linear(embedding, width)
        for n, (channels, kernel) in enumerate(layers):
            prefix = f"{name}_layers_{n}"
            # the decoder's input is padded on both sides, and what is too long then cut off the end: section 3.2
            pad = kernel - 1 if causal else kernel // 2
            convolution = torch.nn.Conv1d(width, 2 * channels, kernel, padding=pad)
            made[f"{prefix}/block/convolution"] = normed(convolution)
            if width != channels:
                made[f"{prefix}/project"] = linear(width, channels)
            if causal and n + 1 in attending:
                made[f"{prefix}/memory_attention/enter"] = linear(channels, embedding)
                made[f"{prefix}/memory_attention/leave"] = linear(embedding, channels)
            width = channels
        made[f"leave_{name}"] = linear(width, size if causal else embedding)

    stack("encoder", encoder, False)
    stack("decoder", decoder, True)
    made["classify"] = linear(size, V)
    tables = {
        f"embed_{side}/{name}": torch.empty(n, embedding)
        for side in ("source", "target")
        for name, n in (("words", V), ("positions", 16))
    }
    for x in (*tables.values(), *(p for module in made.values() for p in module.parameters())):
        x.data = torch.nn.init.normal_(x.data, 0.0, 0.7).double()
        x.requires_grad_()

    examples = batch(sentences(6, 2, 4), sentences(3, 6, 1, seed=1))
    source, _, inputs, source_mask, _ = torch_inputs(examples)
    embed = lambda side, tokens: tables[f"embed_{side}/words"][tokens] + tables[f"embed_{side}/positions"][:6]

    def block(name: str, x):
        y = made[f"{name}/block/convolution"](x.transpose(1, 2))[:, :, : x.shape[1]]
        return F.glu(y, dim=1).transpose(1, 2)

    def residual(name: str, x, y):
        x = made[f"{name}/project"](x) if f"{name}/project" in made else x
        return (x + y) * ROOT_HALF

    e, g = embed("source", source), embed("target", inputs)
    x = made["enter_encoder"](e)
    for n in range(len(encoder)):
        name = f"encoder_layers_{n}"
        x = residual(name, x, block(name, x * source_mask[..., None]))
    z = made["leave_encoder"](x)
    z.register_hook(lambda gradient: gradient / len(attending))
    values, lengths = (z + e) * ROOT_HALF, source_mask.sum(1).double()[:, None, None]
    x = made["enter_decoder"](g)
    for n in range(len(decoder)):
        name = f"decoder_layers_{n}"
        y = block(name, x)
        if n + 1 in attending:
            d = (made[f"{name}/memory_attention/enter"](y) + g) * ROOT_HALF
            scores = (d @ z.transpose(1, 2)).masked_fill(~source_mask[:, None], -math.inf)
            c = scores.softmax(-1) @ values * lengths * (1 / lengths).sqrt()
            y = (made[f"{name}/memory_attention/leave"](c) + y) * ROOT_HALF
        x = residual(name, x, y)
    hidden = made["leave_decoder"](x)

    spell = lambda layers: tuple(f"{channels}x{kernel}" for channels, kernel in layers)
    net = model(spell(encoder), spell(decoder), attention=attending, embedding=embedding, output=size)
    ours = functools.partial(from_pytorch, modules=made, tables=tables)
    pytorch_agrees(net, ours, examples, hidden, made["classify"])


# Dropout


DROPPED = {"encoder": ("6x1", "5x1"), "decoder": ("6x1", "6x1", "5x1"), "attention": (1, 3), "embedding": 32}


def zeros(net, values, rows, rngs=None) -> dict[str, np.ndarray]:
    """Where the input of each linear map, and the decoder's output, is exactly 0."""
    seen = {}

    def watch(call, arguments, options, context):
        if isinstance(context.module, Linear) and context.method_name == "__call__":
            seen[context.module.path] = context.module.dropped, np.asarray(arguments[0]) == 0
        return call(*arguments, **options)

    tokens = np.random.default_rng(0).integers(0, V, (2, 8, 16))
    ones = np.ones((8, 16), np.int32)
    with nn.intercept_methods(watch):
        found = net.apply(values, tokens[0], ones, tokens[1], ones, rows, rngs=rngs)
    return seen | {("classify",): (net.bind(values).classify.dropped, np.asarray(found) == 0)}


def test_dropout_of_embeddings_convolution_inputs_and_the_decoders_output():
    """Section 4.2, and nowhere else: not of the residual's input, for one. Those are the maps whose initialisation
    allows for it (kernels of width 1 here, which no padding reaches). Each place has its own mask."""
    net = model(**DROPPED, dropout=0.3, output=48)
    values = variables(net)
    found = zeros(net, values, jnp.arange(8), {"dropout": KEY})
    dropped = {"enter_encoder", "enter_decoder", "classify"}
    dropped |= {
        f"{stack}_layers_{n}/block/convolution" for stack, n in (("encoder", 2), ("decoder", 3)) for n in range(n)
    }
    assert {"/".join(path) for path, (flag, _) in found.items() if flag} == dropped
    undropped = {"/".join(path) for path, (flag, _) in found.items() if not flag}
    attention = {f"decoder_layers_{n}/memory_attention/{end}" for n in (0, 2) for end in ("enter", "leave")}
    assert undropped == attention | {
        "encoder_layers_1/project",
        "decoder_layers_2/project",
        "leave_encoder",
        "leave_decoder",
    }
    for path, (flag, zero) in found.items():
        assert abs(zero.mean() - 0.3 * flag) <= 5 * flag * math.sqrt(0.21 / zero.size), path
    masks = [zero for path, (_, zero) in found.items() if path[-1] == "convolution"]
    assert len(masks) == 5 and len({zero.shape for zero in masks}) == 1
    assert not any((one == other).all() for n, one in enumerate(masks) for other in masks[:n])


def test_no_dropout_in_evaluation():
    """Nothing is 0 and nothing is scaled: kept values are divided by 0.7 in training instead."""
    net, without = (model(**DROPPED, dropout=dropout) for dropout in (0.3, 0.0))
    values = variables(net)
    assert not any(zero.any() for _, zero in zeros(net, values, None).values())
    np.testing.assert_allclose(net.apply(values, *GIVEN), without.apply(values, *GIVEN), rtol=1e-6)
    layer, tokens = Embedding(shape(dropout=0.3), V, 16, positions=True), jnp.arange(12).reshape(2, 6)
    values = filled(layer, tokens, tokens)
    wanted = np.asarray(layer.apply(values, tokens, tokens))
    found = np.asarray(layer.apply(values, tokens, tokens, jnp.arange(2), rngs={"dropout": KEY}))
    np.testing.assert_allclose(found[found != 0], wanted[found != 0] / 0.7, rtol=1e-6)


# Decoding


DECODING = {
    "plain": {},
    "widths": {"encoder": ("8x3", "10x1"), "decoder": ("6x5", "6x1", "10x4"), "attention": (1, 3)},
    "dense": {"decoder": ("8x3", "6x1", "10x2"), "dense": True, "context": "concat"},
    "bare": {"decoder": ("8x1", "8x5"), "source_positions": False, "target_positions": False, "gate": "tanh"},
    "layer norm": {"decoder": ("2*8x5",), "norm": "layer", "attention": (2,), "output": 5},
    "wide": {"decoder": ("8x12", "6x3"), "norm": "none", "scale_residual": False},  # wider than any output
}


@pytest.mark.parametrize("options", DECODING.values(), ids=DECODING)
def test_cached_and_uncached_decoding_agree(options):
    net = model(**options)
    cached_and_uncached_decoding_agree(net, variables(net, seed=8))


@pytest.mark.parametrize(("name", "beam"), [("widths", 4), ("dense", 5)])
def test_the_cache_follows_its_beam(name, beam):
    net = model(**DECODING[name])
    the_cache_follows_its_beam(net, variables(net, seed=8), beam)


def test_the_cache_holds_the_last_inputs_of_each_layer_however_many_steps():
    """K - 1 of them: section 5.3 copies (shifts) the activations that have not changed."""
    net = model(**DECODING["widths"], max_length=1000)
    values = drawn(net)

    def sizes(size: int):
        def begin(net):
            return net.init_cache(net.encode(SOURCE, SEGMENTS), SEGMENTS, beams=4, size=size)

        return jax.tree.map(jnp.shape, jax.eval_shape(lambda values: net.apply(values, method=begin), values))

    assert sizes(9) == sizes(1000)
    assert sizes(9)[1] == [(3, 4, 4, 6), (3, 4, 0, 6), (3, 4, 3, 6)]


def test_the_search_of_the_paper():
    """Section 4.3: a beam of 5, and log-probabilities divided by the output's length. Of every configuration, and so is
    the schedule (section 4.2): by the perplexity of the dev part, on to the end once begun."""
    for name in VOCABULARIES:
        config = importlib.import_module(f"configs.conv_seq2seq.{name}").get_config()
        assert search_of(config) == Search(beam=5, alpha=1.0, offset=0.0, extra=50), name
        assert config.train.monitor == "perplexity" and settings_of(config).cuts_go_on, name


def test_multi30k_has_the_batches_of_the_transformer():
    """On which the two are compared."""
    ours, theirs = (
        importlib.import_module(f"configs.{paper}.multi30k_de_en").get_config()
        for paper in ("conv_seq2seq", "transformer")
    )
    assert ours.data.to_dict() == theirs.data.to_dict() and ours.train.batch_tokens == theirs.train.batch_tokens


def test_gradients_are_divided_by_the_number_of_target_words():
    """Section 4.2: "by the number of non-padding tokens", of all sentences together; a row that fills up the batch has
    none. Targets of 3, 4 and 1 words with their </s>."""
    task = Translation(model(), 0.1)
    sgd = optax.sgd(64.0)  # far above the rounding of parameters around one
    examples = batch(sentences(4, 2, 3, 5), sentences(3, 4, 1, 6, seed=1))
    examples = examples.replace(weights=np.float32([1, 1, 1, 0]))
    state = init_state(task, sgd, jax.random.key_data(KEY), bucket=BUCKET)
    gradient = jax.grad(lambda params: task.loss({"params": params}, examples, KEY)[0])(state.params)
    sums = {"loss": jnp.zeros(()), "weight": jnp.zeros(())}
    new, sums = train_step(state, sums, jax.random.key_data(KEY), examples, task=task, optimizer=sgd)
    assert sums["weight"] == 8
    change = jax.tree.map(lambda new, old: old - new, new.params, state.params)
    jax.tree.map(lambda one, other: close(one, other * 64 / 8, 1e-5), change, gradient)


# Sizes


WORDS = {"wmt14_en_de": 40000, "wmt14_en_fr": 40000, "wmt16_en_ro": 40000, "iwslt": 10000, "multi30k_de_en": 6000}
VOCABULARIES = {name: (size, size) for name, size in WORDS.items()}
VOCABULARIES |= {"multi30k_de_en_tutorial": (7853, 5893), "quickstart": (60, 60)}
"""Source and target entries: section 4.1's subwords, the configurations' own, a tutorial's words, and any number."""

STACKS = {
    "wmt14_en_de": ([512] * 10 + [768] * 3 + [2048] * 2, [3] * 13 + [1] * 2),
    "wmt14_en_fr": ([512] * 5 + [768] * 4 + [1024] * 3 + [2048, 4096], [3] * 12 + [1] * 2),
    "wmt16_en_ro": ([512] * 20, [3] * 20),
    "iwslt": ([256] * 4, [3] * 4),
    "multi30k_de_en": ([256] * 4, [3] * 4),
    "multi30k_de_en_tutorial": ([512] * 10, [3] * 10),
    "quickstart": ([128] * 2, [3] * 2),
}
"""Channels and kernel widths of the encoder, and of the decoder but where DECODERS says otherwise: section 5.1."""
DECODERS = dict.fromkeys(("iwslt", "multi30k_de_en"), ([256] * 3, [3] * 3))
OUTER = {"iwslt": 256, "multi30k_de_en": 256, "multi30k_de_en_tutorial": 256, "quickstart": 128}
"""Size of embeddings and of the decoder's output, where it is not section 4.2's 512."""


def wanted_parameters(name: str) -> int:
    """Each linear map of n inputs to m outputs has n m weights, m lengths and m biases."""
    f = OUTER.get(name, 512)
    (source, target), linear = VOCABULARIES[name], lambda n, m: n * m + 2 * m
    total = (source + target + 2 * 1024) * f + linear(f, target)  # word and position embeddings, the last map
    for decoder, (channels, widths) in enumerate((STACKS[name], DECODERS.get(name, STACKS[name]))):
        total += linear(f, channels[0]) + linear(channels[-1], f)
        for before, after, width in zip([channels[0], *channels], channels, widths):
            total += linear(width * before, 2 * after)
            total += linear(before, after) if before != after else 0
            total += (linear(after, f) + linear(f, after)) * decoder  # attention
    return total


def test_sizes_of_the_configurations():
    """Layers, receptive fields and parameters.

    A public tutorial, whose sizes `multi30k_de_en_tutorial` has, counts 37,351,173: it has one attention for all ten
    decoder layers, where section 3.3 has one a layer, 100 positions, and no weight normalisation."""
    folder = pathlib.Path(wmt14_en_de.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} == set(VOCABULARIES) == set(STACKS)

    def build(name: str, **changes):
        config = importlib.import_module(f"configs.conv_seq2seq.{name}").get_config().model
        config.update(changes)
        source, target = VOCABULARIES[name]
        net, one = (
            make_model(config, source_size=source, target_size=target, max_length=64),
            jnp.ones((1, 2), jnp.int32),
        )
        shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), one, one, one, one)["params"])
        return net, sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))

    note = (ROOT / "paper_notes/conv_seq2seq.md").read_text()
    print(f"\n{'configuration':<24}{'fields':>8}{'parameters':>13}  encoder; decoder, channels x kernel width")
    for name in VOCABULARIES:
        net, count = build(name)
        stacks = net.encoder, net.decoder
        assert stacks == tuple(
            tuple(map(Convolution, *wanted)) for wanted in (STACKS[name], DECODERS.get(name, STACKS[name]))
        )
        assert net.attention == tuple(range(1, len(net.decoder) + 1))
        assert count == wanted_parameters(name), name
        if name in ("wmt14_en_de", "wmt14_en_fr", "wmt16_en_ro", "iwslt"):
            assert f"{count:,}" in note
        fields = [receptive_field(stack) for stack in stacks]
        assert fields == [1 + 2 * sum(layer.kernel == 3 for layer in stack) for stack in stacks]
        layers, fields = "; ".join(", ".join(written(stack)) for stack in stacks), "+".join(map(str, fields))
        print(f"{name:<24}{fields:>8}{count:>13,}  {layers}")
    _, count = build("multi30k_de_en_tutorial", attention=(1,), max_length=100, norm="none")
    assert count == 37351173


def test_receptive_fields_of_the_paper():
    """1 + Σ (k - 1). It gives section 3.2's 25 of six layers with k = 5, section 5.1's 25 words of the English-French
    model, and the 27 of section 5.4's encoder, 13 layers with k = 3. Its decoder, five layers with k = 5, would see 21,
    where section 5.4 says 25: that is six such layers, or 5 · 5, which for the encoder would be 39. Section 5.1's
    English-French model is said to have 15 layers, but those it lists are 14; a 13th of k = 3 would make it 27. The
    English-German one has those 13, the English-Romanian one 20 layers with k = 3: 41."""
    field = lambda *parts: receptive_field(read_layers(parts, "decoder"))
    assert field("6*512x5") == 25
    assert field("5*512x3", "4*768x3", "3*1024x3", "2048x1", "4096x1") == 25
    assert field("13*512x3") == 27
    assert field("5*512x5") == 21
    assert field("13*512x3", "2048x1", "4096x1") == 27
    assert field("20*512x3") == 41
    assert field("1x1") == 1 and field("1x4", "1x2") == 5


# Bad input


def test_layers_by_hand():
    assert read_layers(("2 * 512x3", " 7 x1 ", "1*8x2", (9, 5), [4, 1]), "encoder") == (
        Convolution(512, 3),
        Convolution(512, 3),
        Convolution(7, 1),
        Convolution(8, 2),
        Convolution(9, 5),
        Convolution(4, 1),
    )


@pytest.mark.parametrize(
    "part", ["", "512", "512x", "x3", "0*512x3", "0x3", "512x0", "512*3", "-1x3", "512x3x3", "1.5x3", "a*512x3", 512]
)
def test_layers_that_cannot_be_read_name_the_part(part):
    with pytest.raises(ConfigError) as caught:
        read_layers(("512x3", part), "decoder")
    wanted = f"model.decoder: '{part}', from layer 2 on, is not CHANNELSxKERNEL or COUNT*CHANNELSxKERNEL"
    assert str(caught.value).startswith(wanted)


@pytest.mark.parametrize("part", ["65536x999", "4096x64", "999*8x1", "2*32768x1"])
def test_layers_that_no_machine_can_hold_name_the_first(part):
    """Though no number alone is too large: a kernel of 999 over 8,192 channels, say, or 999 layers behind two."""
    with pytest.raises(
        ConfigError, match=rf"^model\.decoder: '{re.escape(part)}', from layer 3 on: a stack has at most"
    ):
        read_layers(("2*8192x1", part), "decoder")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gate": "gelu"}, "model.gate: 'gelu' is none of glu, tanh, relu, none"),
        ({"norm": "batch"}, "model.norm: 'batch' is none of weight, layer, none"),
        ({"context": "sum"}, "model.context: 'sum' is none of add, concat"),
        ({"dtype": "float16"}, "model.dtype: 'float16' is none of float32, bfloat16"),
        *(
            ({name: size}, f"model.{name} must lie between 1 and 65536, got {size}")
            for name in ("embedding", "output", "max_length")
            for size in (0, 65537)
        ),
        *(
            (
                {"encoder": ("2*512x3", part)},
                f"model.encoder: '{part}', from layer 3 on: a stack has at most 1000 layer",
            )
            for part in ("99999999999x3", "8x99999999999", "99999999999*8x3")
        ),
        *(({"dropout": value}, "model.dropout must lie in [0, 1)") for value in (1.0, -0.1, float("nan"))),
        *(({name: ()}, f"model.{name}: needs at least one layer, such as 512x3") for name in ("encoder", "decoder")),
        ({"decoder": ("512x3", "9x")}, "model.decoder: '9x', from layer 2 on, is not CHANNELSxKERNEL"),
        (
            {"encoder": ("2*512x3", "512x4")},
            "model.encoder: layer 3 has kernel width 4; it must be odd, so that a posi",
        ),
        *(({"attention": (1, n)}, f"model.attention names layer {n}; the decoder has layers 1 to 15") for n in (0, 16)),
        *(
            ({"attention": (1, number)}, f"model.attention: {number!r} is no number of a decoder layer")
            for number in (1.5, 2.0, "a", True)
        ),
        ({"max_length": 174}, "model.max_length = 174 is less than the longest bucket, 175"),
        ({"max_length": 174, "source_positions": False}, "model.max_length = 174 is less than the longest bucket"),
    ],
    ids=str,
)
def test_impossible_fields_are_refused(changes, message):
    config = wmt14_en_de.get_config().model
    sizes = {"source_size": V, "target_size": V, "max_length": 175}
    make_model(config, **sizes)
    config.update(changes)
    with pytest.raises(ConfigError) as caught:
        make_model(config, **sizes)
    assert message in str(caught.value)


def test_even_kernels_in_the_decoder_and_short_tables_without_positions_are_possible():
    config = wmt14_en_de.get_config().model
    config.update(decoder=("2*8x4", "8x2"), max_length=9, source_positions=False, target_positions=False)
    net = make_model(config, source_size=V, target_size=V + 1, max_length=175)
    assert receptive_field(net.decoder) == 8 and net.longest is None


def test_a_layer_that_is_named_twice_attends_once():
    """The encoder's gradient is divided by the number of layers, not of names."""
    config = wmt14_en_de.get_config().model
    config.attention = (3, 1, 3)
    assert make_model(config, source_size=V, target_size=V, max_length=175).attention == (1, 3)


def test_more_positions_than_the_tables_have_are_refused():
    for changes in ({}, {"source_positions": False}, {"target_positions": False}):
        net = model(**changes, max_length=4)
        more_positions_than_the_table_has_are_refused(net, drawn(net))
    net, long = model(source_positions=False, target_positions=False, max_length=4), jnp.ones((1, 9), jnp.int32)
    assert jax.eval_shape(net.apply, drawn(net), long, long, long, long).shape == (1, 9, 8)


# Half precision


def test_half_precision_keeps_parameters_and_loss_in_single():
    options = {"encoder": ("8x3", "6x1"), "decoder": ("8x3", "6x2"), "attention": (1,)}
    single, half = (model(**options, dtype=dtype) for dtype in ("float32", "bfloat16"))
    half_precision_is_near(single, half, drawn(single))


def test_a_training_step_in_half_precision():
    """The paper's optimiser: all parameters move, in float32, and by no more than clipping and rate allow."""
    config = wmt14_en_de.get_config().optimizer
    task, optimizer = Translation(model(dropout=0.2, dtype="bfloat16"), 0.1), make_optimizer(config)
    key, examples = jax.random.key_data(KEY), batch(sentences(4, 2, 3), sentences(3, 4, 1, seed=1))
    state = jax.jit(lambda key: init_state(task, optimizer, key, bucket=BUCKET))(key)
    nothing = {"loss": jnp.zeros(()), "weight": jnp.zeros(())}
    step = jax.jit(lambda state: train_step(state, nothing, key, examples, task=task, optimizer=optimizer))
    after, sums = step(state)
    assert sums["weight"] == 8.0 and 0.5 < sums["loss"] / 8.0 / math.log(V) < 2.0
    moved = jax.tree.map(lambda new, old: np.asarray(new - old, np.float64), after.params, state.params)
    for x in jax.tree.leaves(after.params):
        assert x.dtype == jnp.float32 and np.isfinite(x).all()
    assert all(x.any() for x in jax.tree.leaves(moved))
    length = math.sqrt(sum((x**2).sum() for x in jax.tree.leaves(moved)))
    assert length == pytest.approx(0.25 * 1.99 * 0.1, rel=1e-3)  # the first step: rate (1 + momentum) norm

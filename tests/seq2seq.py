"""What the tests of every model from sentence to sentence share: small batches, random variables, and comparisons of a
model with itself, padded, packed, cached and in half precision. A comparison takes a net and its variables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.batches import Table, gather, make_buckets
from research.datasets import pack
from research.decoding import Search, beam_search, length_penalty, search
from research.errors import ConfigError
from research.tasks import Translation
from research.text import BOS, EOS, PAD

V = 13
KEY = jax.random.key(5)
BUCKET = make_buckets((6,), ("source", "target"))[0]


def filled(module, *inputs, seed: int = 0, method=None):
    """The variables of `module` for `inputs`, with random values everywhere: ones and zeros would hide mistakes."""
    shapes = dict(jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, method=method)))
    shapes.pop("attention", None)
    random = np.random.default_rng(seed)

    def draw(path, x):
        positive = path[-1].key in ("scale", "var")
        drawn = random.uniform(0.5, 1.5, x.shape) if positive else random.normal(0, 0.5, x.shape)
        return jnp.asarray(drawn, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def variables(net, seed: int = 0):
    one = jnp.ones((1, 4), jnp.int32)
    return filled(net, one, one, one, one, seed=seed)


def normal(*size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def sentences(*lengths: int, seed: int = 0) -> list[list[int]]:
    """Words, and </s>."""
    random = np.random.default_rng(seed)
    return [[*random.integers(4, V, n - 1).tolist(), EOS] for n in lengths]


def padded(rows, size: int, *, left: int = 0, seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and segments, each row from `left` on; ids in the padding are 0, or random ones."""
    shape = (len(rows), size)
    tokens = np.zeros(shape, np.int32) if seed is None else np.random.default_rng(seed).integers(0, V, shape, np.int32)
    segments = np.zeros(shape, np.int32)
    for index, row in enumerate(rows):
        tokens[index, left : left + len(row)] = row
        segments[index, left : left + len(row)] = 1
    return tokens, segments


def batch(sources, targets, bucket=BUCKET, segments=None):
    table = Table.build({"source": sources, "target": targets}, [0] * len(sources), bucket, segments)
    index = np.arange(len(sources))
    return gather(table, index, np.ones(len(index), np.float32), index, bucket)


def close(found, wanted, tolerance: float):
    """To `tolerance` of the largest value."""
    wanted = np.asarray(wanted, np.float64)
    np.testing.assert_allclose(np.asarray(found, np.float64), wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def double(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def numpy_layer_norm(p, x) -> np.ndarray:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * p["scale"] + p["bias"]


def more_positions_than_the_table_has_are_refused(net, values):
    """Of source, target and outputs; the table has 4."""
    long, short = jnp.ones((1, 5), jnp.int32), jnp.ones((1, 4), jnp.int32)
    for source, target in ((long, short), (short, long)):
        with pytest.raises(ConfigError, match=r"model\.max_length = 4: a sentence of 5 positions"):
            jax.eval_shape(net.apply, values, source, source, target, target)
    with pytest.raises(ConfigError, match=r"model\.max_length = 4: a sentence of 6 positions"):
        jax.eval_shape(lambda: search(net, values, short, short, Search(beam=1, extra=2)))


# The reference framework


def torch_inputs(examples):
    """Of a batch: source, target, inputs, which begin with <s>, and the masks of source and target, for PyTorch."""
    import torch

    source, target = (torch.tensor(np.array(examples.tokens[role])).long() for role in ("source", "target"))
    lengths = (torch.tensor(np.array(examples.lengths[role])) for role in ("source", "target"))
    masks = (torch.arange(x.shape[1]) < length[:, None] for x, length in zip((source, target), lengths))
    return source, target, torch.cat([torch.full((len(target), 1), BOS), target[:, :-1]], 1), *masks


def pytorch_agrees(net, ours, examples, hidden, readout):
    """Hidden states, loss with label smoothing, and every gradient, to 1e-5 of the largest value of each array.

    ours: what `get` gives of the reference's parameters, under our names. hidden, readout: the reference's states, and
    what makes logits of them."""
    import torch

    source, target, inputs, source_mask, target_mask = torch_inputs(examples)
    options = {"reduction": "sum", "label_smoothing": 0.1}
    loss = torch.nn.functional.cross_entropy(readout(hidden[target_mask]), target[target_mask], **options)
    loss.backward()
    task = Translation(net, 0.1)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), ours(lambda x: x.detach().numpy().copy()))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, variables(net)["params"])
    mask = target_mask.numpy()
    segments = source_mask.int().numpy(), mask.astype(np.int32)

    @jax.jit
    def run(params):
        states = net.apply({"params": params}, source.numpy(), segments[0], inputs.numpy(), segments[1])
        return states, *jax.value_and_grad(lambda params: task.loss({"params": params}, examples, KEY)[0])(params)

    states, total, gradients = run(params)
    close(np.asarray(states)[mask], hidden.detach().numpy()[mask], 1e-5)
    close(total, loss.item(), 1e-5)
    wanted = ours(lambda x: x.grad.numpy())
    assert min(np.abs(x).max() for x in jax.tree.leaves(wanted)) > 1e-4  # all take part
    jax.tree.map(lambda one, other: close(one, other, 1e-5), gradients, wanted)


# Padding and packing


def padding_changes_nothing(net, values):
    """Positions are counted within the sentence; what stands in the padding is never seen. To 1e-6 of the
    largest value: the sums of a matrix product are in another order."""
    run = jax.jit(net.apply)
    source, target = sentences(5, 1, 3), [[BOS, *row] for row in sentences(2, 4, 3, seed=1)]
    real = padded(target, 5)[1] > 0
    wanted = np.asarray(run(values, *padded(source, 9), *padded(target, 9)))
    assert np.isfinite(wanted).all()
    wanted = wanted[:, :5][real]
    assert np.abs(np.diff(wanted[[0, 3, 8]], axis=0)).max() > 0.1  # the sentences' first positions differ
    for left, size in ((0, 9), (1, 9), (4, 12)):
        rows = padded(source, size, left=left, seed=left), padded(target, size, left=4 - left, seed=9)
        changed = run(values, *rows[0], *rows[1])
        close(np.asarray(changed)[:, 4 - left : 9 - left][real], wanted, 1e-6)


def packing_changes_nothing(net, params):
    """Two pairs in a row, or one and padding: sums of losses, tokens and gradients are those of rows of their own."""
    examples = {"source": sentences(3, 5, 4, 2), "target": sentences(4, 2, 3, 5, seed=1)}
    bucket = make_buckets((8,), ("source", "target"))[0]
    rows, segments = pack(examples, dict(bucket))
    assert [max(row) for row in segments["source"]] == [max(row) for row in segments["target"]] == [2, 2]
    task = Translation(net, 0.1)

    @jax.jit
    def run(examples):
        loss = lambda params: task.loss({"params": params}, examples, KEY)
        (total, (weight, _)), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return total, weight, gradient

    apart = run(batch(examples["source"], examples["target"], bucket))
    together = run(batch(rows["source"], rows["target"], bucket, segments))
    assert apart[1] == together[1] == 14.0
    np.testing.assert_allclose(together[0], apart[0], rtol=1e-6)
    jax.tree.map(lambda one, other: close(one, other, 1e-5), together[2], apart[2])
    ones = {role: [[1] * len(row) for row in rows[role]] for role in rows}  # under which sentences see one another
    assert abs(run(batch(rows["source"], rows["target"], bucket, ones))[0] - apart[0]) > 0.01


def half_precision_is_near(single, half, values):
    """The same net in float32 and in bfloat16: the loss within 1 %, scores of outputs within 2 %, all in float32;
    gradients in float32 and not far either."""
    examples = batch(sentences(4, 2, 3), sentences(3, 4, 1, seed=1))
    slope = lambda net: jax.jit(jax.value_and_grad(lambda v: Translation(net, 0.1).loss(v, examples, KEY)[0]))
    (wanted, gradients), (found, halved) = (slope(net)(values) for net in (single, half))
    assert found == pytest.approx(float(wanted), rel=0.01) and found != wanted and found.dtype == jnp.float32
    for one, other in zip(*map(jax.tree.leaves, (gradients, halved))):
        assert other.dtype == jnp.float32
        np.testing.assert_allclose(one, other, atol=0.1 * np.abs(one).max() + 1e-3)
    (_, best), (_, near) = (searched(net, values, Search(beam=2, extra=4)) for net in (single, half))
    np.testing.assert_allclose(near, best, rtol=0.02)
    assert near.dtype == np.float32 and (near != best).any()


# Decoding

SOURCE, SEGMENTS = padded([[5, 8, 4, 7, 3], [3], [6, 6, 3]], 5, seed=3)
SIZE, LIMITS = 9, np.array([9, 5, 7])


def searched(net, values, options: Search):
    found = jax.jit(lambda values: search(net, values, SOURCE, SEGMENTS, options))(values)
    return np.asarray(found.tokens), np.asarray(found.scores)


def decoding(net, values):
    """The memory, and the logits at every position by the whole decoder, from inputs (B, N, T) that begin with <s>."""

    @jax.jit
    def logits(values, memory, inputs):
        copies = jax.tree.map(lambda x: jnp.repeat(x, inputs.shape[1], axis=0), (memory, SEGMENTS))
        rows = inputs.reshape(-1, SIZE)
        hidden = net.apply(values, *copies, rows, jnp.ones_like(rows), method="decode")
        table, bias = net.apply(values, method="readout")
        found = hidden @ table.T + (0.0 if bias is None else bias)
        return found.reshape(*inputs.shape, V)

    return jax.jit(lambda values: net.apply(values, SOURCE, SEGMENTS, method="encode"))(values), logits


def cached_and_uncached_decoding_agree(net, values):
    """Logits of given tokens, to 1e-5 of the largest, and greedy decoding, token by token."""
    memory, full = decoding(net, values)
    beams = 3
    inputs = np.random.default_rng(4).integers(0, V, (3, beams, SIZE)).astype(np.int32)
    inputs[:, :, 0] = BOS
    wanted = np.asarray(full(values, memory, inputs))
    assert np.abs(np.diff(wanted[:, :, 3], axis=1)).max() > 0.1  # the beams differ
    begin = lambda net: net.init_cache(memory, SEGMENTS, beams=beams, size=SIZE)
    fixed, cache = jax.jit(lambda values: net.apply(values, method=begin))(values)
    step = jax.jit(functools.partial(net.apply, method="decode_step"))
    for position in range(SIZE):
        logits, cache = step(values, fixed, cache, inputs[:, :, position], position)
        close(logits, wanted[:, :, position], 1e-5)

    history = np.full((3, SIZE + 1), PAD, np.int32)
    history[:, 0] = BOS
    for position in range(SIZE):
        inputs = np.tile(history[:, None, :SIZE], (1, beams, 1))
        logits = np.array(full(values, memory, inputs)[:, 0, position])
        logits[:, [PAD, BOS]] = -np.inf
        history[:, position + 1] = np.where(position == LIMITS - 1, EOS, logits.argmax(1))
    greedy, _ = searched(net, values, Search(beam=1, extra=4))
    for row, mine in zip(history[:, 1:].tolist(), greedy[:, 0].tolist()):
        wanted = row[: row.index(EOS) + 1]
        assert mine == wanted + [PAD] * (SIZE - len(wanted))
    assert len(np.unique(greedy)) > 3


def the_cache_follows_its_beam(net, values, beam: int):
    """A beam finds what it finds where tokens alone are kept and everything else is computed anew each step; and the
    scores are those of the whole decoder, run once over each output."""
    memory, full = decoding(net, values)
    options = Search(beam=beam, extra=4, best=beam)

    @jax.jit
    def anew(values, memory):
        def step(tokens, last, position):
            tokens = tokens.at[:, :, position].set(last)
            return jax.lax.dynamic_index_in_dim(full(values, memory, tokens), position, 2, keepdims=False), tokens

        return beam_search(step, jnp.zeros((3, beam, SIZE), jnp.int32), LIMITS, SIZE, options)

    wanted = anew(values, memory)
    tokens, scores = searched(net, values, options)
    np.testing.assert_array_equal(tokens, wanted.tokens)
    np.testing.assert_allclose(scores, wanted.scores, rtol=1e-5)
    assert len(np.unique(tokens.reshape(-1, SIZE), axis=0)) > 9 and len(np.unique(tokens)) > 6

    inputs = np.pad(tokens, ((0, 0), (0, 0), (1, 0)), constant_values=BOS)[:, :, :SIZE]
    logs = jax.nn.log_softmax(full(values, memory, inputs))
    chosen = np.take_along_axis(np.asarray(logs), tokens[..., None], axis=-1)[..., 0] * (tokens != PAD)
    lengths = (tokens != PAD).sum(-1)
    np.testing.assert_allclose(scores, chosen.sum(-1) / length_penalty(lengths, 0.6), rtol=1e-5)

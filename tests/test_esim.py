"""ESIM against NumPy, one pair at a time, and the sizes of table 1."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from configs.esim import lcqmc_small_taught_10, snli
from research.batches import Batch
from research.errors import ConfigError
from research.esim import ESIM, HIM, align, leaves, make_model
from research.layers import length_mask
from research.siamese import Siamese
from research.tasks import Classification
from research.text import NODE
from research.train import init_state
from tests.test_recurrence import numpy_tree_lstm, random_values

B, L, V, D, H, C = 4, 9, 40, 6, 5, 3
SEQUENTIAL = {"embedding_dim": D, "hidden": H}
LENGTHS = np.array([L, 1, 4, 6, 3, 2, L, 5], np.int32)  # of the premises, then of their hypotheses


def model(**changes) -> ESIM:
    return ESIM(V, C, **SEQUENTIAL | changes)


def sentences(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(seed).integers(3, V, (2 * B, L)).astype(np.int32)
    return np.where(np.arange(L) < LENGTHS[:, None], tokens, 0), LENGTHS


def trees(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """2B trees of one to five leaves, in post-order."""
    random, rows = np.random.default_rng(seed), []
    for count in (5, 1, 2, 4, 3, 2, 5, 3):
        row, open_trees, left = [], 0, count
        while left or open_trees > 1:
            if open_trees > 1 and (not left or random.random() < 0.5):
                row.append(NODE)
                open_trees -= 1
            else:
                row.append(int(random.integers(3, V)))
                open_trees, left = open_trees + 1, left - 1
        rows.append(row)
    lengths = np.array([len(row) for row in rows], np.int32)
    return np.array([row + [0] * (L - len(row)) for row in rows], np.int32), lengths


def variables(net, texts=None, seed: int = 0):
    return random_values(net.init(jax.random.key(seed), *(texts or sentences())), seed)


# One pair in NumPy


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def numpy_lstm(x, w, u, b):
    h = c = np.zeros(len(u))
    states = []
    for x_t in x:
        i, f, o, g = np.split(x_t @ w + h @ u + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def numpy_bilstm(p, x):
    run = lambda side, x: numpy_lstm(x, p[f"{side}_input"], p[f"{side}_state"], p[f"{side}_bias"])
    return np.concatenate([run("forward", x), run("backward", x[::-1])[::-1]], axis=1)


def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def numpy_layers(p, name, x, ids, options):
    """A BiLSTM or two, a tree-LSTM, or a layer with ReLU."""
    for number in range(options.get("layers", 1)):
        each = p[f"{name}_{number}" if number else name]
        if options.get(name) == "feedforward":
            x = np.maximum(dense(each, x), 0.0)
        else:
            x = numpy_tree_lstm(each, x, ids == NODE) if options.get("trees") else numpy_bilstm(each, x)
    return x


def numpy_logits(p, a, b, options):
    """Equations 1 to 20 for one pair of ids, and what the ablations have in their place."""
    ids = a, b
    a, b = (numpy_layers(p, "encoding", p["words"]["embedding"][x], x, options) for x in ids)
    e = np.array([[a_i @ b_j for b_j in b] for a_i in a])
    a_tilde = np.array([sum(np.exp(e[i, j]) * b[j] for j in range(len(b))) / np.exp(e[i]).sum() for i in range(len(a))])
    b_tilde = np.array(
        [sum(np.exp(e[i, j]) * a[i] for i in range(len(a))) / np.exp(e[:, j]).sum() for j in range(len(b))]
    )
    a_tilde = a_tilde * (options.get("attention") != "hypothesis")
    b_tilde = b_tilde * (options.get("attention") != "premise")
    v = []
    for nodes, text, aligned in zip(ids, (a, b), (a_tilde, b_tilde)):
        m = [text, aligned, text - aligned, text * aligned][: None if options.get("enhancement", True) else 2]
        m = np.concatenate(m, axis=1)
        m = np.maximum(dense(p["projection"], m), 0.0) if options.get("projection", True) else m
        composed = numpy_layers(p, "composition", m, nodes, options)
        v += [composed.sum(axis=0)] if "pooling" in options else [composed.mean(axis=0), composed.max(axis=0)]
        v += [composed[-1]] if options.get("trees") else []
    return dense(p["classify"], np.tanh(dense(p["hidden"], np.concatenate(v))))


OPTIONS = [
    {},
    {"attention": "premise"},
    {"attention": "hypothesis"},
    {"enhancement": False},
    {"projection": False},
    {"encoding": "feedforward"},
    {"composition": "feedforward"},
    {"pooling": "sum"},
    {"layers": 2},
    {"variant": "static"},
    {"trees": True},
    {"trees": True, "pooling": "sum"},
]


@pytest.mark.parametrize("options", [each for each in OPTIONS if "variant" not in each], ids=str)
def test_logits_are_the_papers_equations(options):
    """Of the trees too, whose attention and pooling are over all nodes, and whose roots stand beside the mean and the
    maximum; and of the rows of table 2."""
    net, (tokens, lengths) = model(**options), trees() if "trees" in options else sentences()
    values = variables(net, (tokens, lengths))
    found = net.apply(values, tokens, lengths)
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), values["params"])
    texts = [row[:n] for row, n in zip(tokens, lengths)]
    wanted = [numpy_logits(params, texts[i], texts[B + i], options) for i in range(B)]
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("options", [*OPTIONS, "hybrid", {"output": "sigmoid", "num_classes": 2}], ids=str)
def test_padding_never_changes_the_output(options):
    if options == "hybrid":
        net, (tokens, lengths) = hybrid(), trees()
    else:
        net = ESIM(**{"vocab_size": V, "num_classes": C} | SEQUENTIAL | options)
        tokens, lengths = trees() if "trees" in options else sentences()
    values = variables(net, (tokens, lengths))
    wanted = net.apply(values, tokens, lengths)
    assert np.abs(np.diff(wanted, axis=-2)[..., -1]).min() > 1e-5  # the pairs differ, so the output can show it
    for other in (17, NODE):
        changed = np.where(np.arange(L) < lengths[:, None], tokens, other)
        np.testing.assert_allclose(net.apply(values, changed, lengths), wanted, rtol=1e-6, atol=1e-6)
    wider = np.pad(tokens, ((0, 0), (0, 4)), constant_values=5)
    np.testing.assert_allclose(net.apply(values, wider, lengths), wanted, rtol=1e-5, atol=1e-6)


def test_without_masks_padding_counts_as_words():
    """An option for the ablation: the output then depends on the length of the batch."""
    net, (tokens, lengths) = model(masks=False), sentences()
    values = variables(net)
    plain, wider = (net.apply(values, x, lengths) for x in (tokens, np.pad(tokens, ((0, 0), (0, 4)))))
    assert np.abs(plain - wider).min() > 1e-4


@pytest.mark.parametrize("options", [*OPTIONS[1:9], {"output": "sigmoid", "num_classes": 2}], ids=str)
def test_every_option_changes_the_output(options):
    """With the same numbers in every parameter that both models have."""
    tokens, lengths = sentences()
    plain = ESIM(V, options.get("num_classes", C), **SEQUENTIAL)
    changed = ESIM(**{"vocab_size": V, "num_classes": C, **SEQUENTIAL} | options)
    ours, theirs = variables(plain), variables(changed, seed=1)
    shared = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(ours)}

    def share(path, leaf):
        known = shared.get(jax.tree_util.keystr(path))
        return leaf if known is None or known.shape != leaf.shape else known

    theirs = jax.tree_util.tree_map_with_path(share, theirs)
    a, b = (jax.nn.softmax(net.apply(v, tokens, lengths)) for net, v in ((plain, ours), (changed, theirs)))
    assert np.abs(np.asarray(a - b)).max() > 1e-3


MASK = length_mask(jnp.array([3, 1, 0]), 4)


def weights_of(scores):
    """What `align` gives to each of four words, of which MASK holds, by a text whose words have these scores with
    them: the four are unit vectors, so that a word is its scores and what is aligned with it its weights."""
    words = jnp.tile(scores[:, None], (1, 4, 1))
    units = jnp.tile(jnp.eye(4), (len(scores), 1, 1))
    return align(jnp.concatenate([words, units]), jnp.concatenate([jnp.ones_like(MASK), MASK]))[: len(scores), 0]


@pytest.mark.parametrize("shift", [0.0, -1e4, 1e4])
def test_no_weight_lies_outside_of_the_mask_however_low_the_true_scores(shift):
    scores = jnp.array([[1.0, 2.0, 3.0, 50.0]] * 3) + shift
    weights = weights_of(scores)
    inside = np.exp([-2.0, -1.0, 0.0])
    np.testing.assert_allclose(weights[0], [*(inside / inside.sum()), 0.0], rtol=1e-5)
    np.testing.assert_array_equal(weights[1:], [[1, 0, 0, 0], [0, 0, 0, 0]])
    multiplied = jax.nn.softmax(scores * MASK)  # the mistake that `align` is there to avoid
    if shift < 0:
        assert multiplied[0, 3] > 0.99


def test_a_text_without_words_has_finite_gradients():
    gradient = jax.grad(lambda s: jnp.sum(weights_of(s) ** 2))(jnp.ones((3, 4)) * 1e4)
    assert np.all(np.isfinite(gradient)) and np.all(gradient[2] == 0)


def test_a_score_multiplied_by_the_mask_is_wrong():
    """Of very negative scores the padding's, exp(0), is the largest: nothing of the real words is left."""
    scores, mask = jnp.array([[-100.0, -101.0, 3.0]]), jnp.array([[True, True, False]])
    multiplied = jax.nn.softmax(scores * mask) * mask
    multiplied /= jnp.sum(multiplied, axis=-1, keepdims=True) + 1e-13  # as in the public reimplementation
    assert float(multiplied.sum()) < 1e-9
    wanted = np.exp([0.0, -1.0]) / np.exp([0.0, -1.0]).sum()
    np.testing.assert_allclose(jax.nn.softmax(scores, where=mask), [[*wanted, 0.0]], rtol=1e-6)
    # and so in the model: a and b point away from one another
    texts = jnp.array([[[10.0, 0.0], [0.0, 10.0], [1.0, 1.0]], [[-10.0, 0.0], [-10.0, -1.0], [5.0, 5.0]]])
    mask = jnp.array([[True, True, False]] * 2)
    aligned = align(texts, mask)
    np.testing.assert_allclose(aligned[0, 0], [-10.0, -0.5], atol=1e-5)  # e = -100, -100: the mean of both
    np.testing.assert_allclose(aligned[0, 1], [-10.0, 0.0], atol=1e-3)  # e = 0, -10
    np.testing.assert_allclose(aligned[1, 0], [0.0, 10.0], atol=1e-5)  # e = -100, 0
    np.testing.assert_allclose(aligned[1, 1], [0.0, 10.0], atol=1e-3)  # e = -100, -10


def test_what_is_aligned_has_finite_gradients_however_low_the_scores():
    """Of a text without words too, whose mask holds nowhere."""
    texts = jnp.array([[[1e3, 0.0], [0.0, 1e3]], [[-1e3, -1.0], [2.0, -1e3]]] * 2)[jnp.array([0, 2, 1, 3])]
    mask = jnp.array([[True, True], [True, True], [True, False], [False, False]])
    gradient = jax.grad(lambda x: jnp.sum(align(x, mask) ** 2))(texts)
    assert np.isfinite(gradient).all() and not gradient[2, 1].any() and not gradient[3].any()
    assert gradient[:2].any() and gradient[2, 0].any()


def test_exchanging_the_texts_and_their_roles():
    """v = [v_a; v_b] (equation 20): exchanging the texts exchanges its halves and nothing else."""
    net, (tokens, lengths) = model(), sentences()
    values = variables(net)
    wanted = net.apply(values, tokens, lengths)
    exchange = lambda x: np.concatenate(np.split(x, 2)[::-1])
    swapped = net.apply(values, exchange(tokens), exchange(lengths))
    assert np.abs(swapped - wanted).max() > 1e-3
    kernel = values["params"]["hidden"]["kernel"]
    params = values["params"] | {"hidden": values["params"]["hidden"] | {"kernel": exchange(kernel)}}
    again = net.apply({"params": params}, exchange(tokens), exchange(lengths))
    np.testing.assert_allclose(again, wanted, rtol=1e-5, atol=1e-6)


def test_attention_on_one_side_alone():
    """Row 23 lets the words of the premise see nothing of the hypothesis, row 24 the other way about."""
    texts = jnp.asarray(np.random.default_rng(0).normal(size=(2 * B, L, D)), jnp.float32)
    mask = np.arange(L) < LENGTHS[:, None]
    both, premise, hypothesis = (align(texts, mask, kind) for kind in ("both", "premise", "hypothesis"))
    np.testing.assert_array_equal(premise, jnp.concatenate([both[:B], jnp.zeros_like(both[B:])]))
    np.testing.assert_array_equal(hypothesis, jnp.concatenate([jnp.zeros_like(both[:B]), both[B:]]))
    assert all(float(jnp.abs(half).max()) > 0.1 for half in jnp.split(both, 2))


@pytest.mark.parametrize("options", [{}, {"trees": True}], ids=str)
def test_dropout_stands_before_every_layer_behind_the_vectors(options):
    """Half of what goes into the encoding, the composition and either layer of the classifier is zero, the rest twice
    as large."""
    net, texts = model(dropout=0.5, embedding_dim=64, hidden=64, **options), trees() if options else sentences()
    values = net.init(jax.random.key(0), *texts)
    rows = jnp.arange(2 * B)
    after = {"words": "encoding", "projection": "composition", "pooled": "hidden", "hidden": "classify"}
    inputs, entered = {}, {}

    def watch(call, arguments, keywords, context):
        result = call(*arguments, **keywords)
        if context.method_name == "__call__" and (name := context.module.name):
            if name.startswith("dropout_"):
                inputs[name] = (np.asarray(arguments[0]), np.asarray(result))
            elif name in after.values():
                entered[name] = np.asarray(arguments[0])
        return result

    with nn.intercept_methods(watch):
        net.apply(values, *texts, rows, rngs={"dropout": jax.random.key(1)})
    assert set(inputs) == {"dropout_words", "dropout_projection", "dropout_pooled", "dropout_hidden"}
    for name, (given, kept) in inputs.items():
        np.testing.assert_array_equal(entered[after[name.removeprefix("dropout_")]], kept)
        real = given != 0
        assert 0.4 < np.mean(kept[real] == 0) < 0.6
        np.testing.assert_allclose(kept[kept != 0], 2 * given[kept != 0], rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"trees": True}], ids=str)
def test_initial_values(options):
    """Of every parameter: N(0, 1), Glorot-uniform, orthogonal, zero or, of forget gates, one."""
    net, texts = model(embedding_dim=32, hidden=24, **options), trees() if options else sentences()
    params = dict(net.init(jax.random.key(0), *texts)["params"])
    vectors = np.asarray(params.pop("words")["embedding"])
    assert abs(vectors[2:].mean()) < 0.1 and 0.9 < vectors[2:].std() < 1.1
    for path, x in jax.tree.leaves_with_path(params):
        name, x = path[-1].key, np.asarray(x)
        if name.endswith("_state"):
            np.testing.assert_allclose(x @ x.T, np.eye(24), atol=1e-5)
        elif x.ndim == 2:
            bound = np.sqrt(6 / sum(x.shape))
            assert 0.9 * bound < np.abs(x).max() <= bound and x.std() == pytest.approx(bound / np.sqrt(3), rel=0.15)
        else:
            forget = np.arange(len(x)) // 24 == 1
            np.testing.assert_array_equal(x, forget if name in ("forward_bias", "backward_bias") else 0.0)


def test_an_empty_text_is_one_zero_vector():
    net, (tokens, lengths) = model(), sentences()
    values = variables(net)
    empty = np.where(np.arange(2 * B) == 1, 0, lengths)
    zero = jax.tree.map(lambda x: x, values)
    zero["params"]["words"] = {"embedding": values["params"]["words"]["embedding"].at[39].set(0.0)}
    tokens = np.where(tokens == 39, 38, tokens)
    found = net.apply(values, tokens, empty)
    one = np.where((np.arange(2 * B) == 1)[:, None], 39, tokens)
    np.testing.assert_allclose(found, net.apply(zero, one, np.maximum(empty, 1)), rtol=1e-6, atol=1e-6)
    assert np.isfinite(net.apply(values, tokens, np.zeros_like(lengths))).all()


def test_leaves_are_the_words_of_a_tree():
    tokens = np.array([[5, 6, NODE, 7, NODE, NODE, 9], [5, 0, 0, 0, 0, 0, 0]])  # the last of the first row is padding
    words, lengths = leaves(tokens, np.array([5, 1]))
    assert lengths.tolist() == [3, 1]
    assert [row[:n].tolist() for row, n in zip(np.asarray(words), lengths)] == [[5, 6, 7], [5]]


def hybrid() -> HIM:
    return HIM(model(), model(trees=True))


def test_pre_trained_vectors_replace_the_tables_of_both_models():
    net = hybrid()
    task, vectors = Classification(net, C, ("premise", "hypothesis")), np.arange(V * D, dtype=np.float32).reshape(V, D)
    bucket = (("premise", L), ("hypothesis", L))
    state = init_state(task, optax.sgd(1.0), jax.random.key_data(jax.random.key(0)), bucket=bucket, vectors=vectors)
    for part in ("sequential", "tree"):
        np.testing.assert_array_equal(state.params[part]["words"]["embedding"], vectors)
        assert np.abs(state.params[part]["classify"]["kernel"]).max() > 0


def batch(texts) -> Batch:
    tokens, lengths = texts
    split = lambda x: dict(zip(("premise", "hypothesis"), np.split(x, 2)))
    return Batch(split(tokens), split(lengths), {}, jnp.arange(B) % C, jnp.ones(B), jnp.arange(B))


def test_hybrid_averages_probabilities():
    net, texts = hybrid(), trees()
    values = variables(net, texts)
    task = Classification(net, C, ("premise", "hypothesis"))
    parts = values["params"]
    each = [
        model().apply({"params": parts["sequential"]}, *leaves(*texts)),
        model(trees=True).apply({"params": parts["tree"]}, *texts),
    ]
    found = task.predict(values, batch(texts))
    np.testing.assert_allclose(found, sum(map(jax.nn.softmax, each)) / 2, rtol=1e-5, atol=1e-6)
    # each model learns from its own loss: the other's parameters have no part in its gradient
    dry = hybrid().clone(sequential=model(dropout=0.0), tree=model(trees=True, dropout=0.0))
    loss = lambda v, b: Classification(dry, C, ("premise", "hypothesis")).loss(v, b, jax.random.key(0))[0]
    slope = lambda v: jax.grad(loss)(v, batch(texts))["params"]
    before = slope(values)
    for part, rest in (("tree", "sequential"), ("sequential", "tree")):
        changed = {"params": parts | {rest: jax.tree.map(lambda x: x + 1, parts[rest])}}
        jax.tree.map(np.testing.assert_array_equal, before[part], slope(changed)[part])
        assert all(x.any() for path, x in jax.tree.leaves_with_path(before[part]) if path[-1].key != "embedding")


def test_the_two_texts_of_a_pair_draw_different_masks():
    """And the mask of a text depends on its row alone: a batch cut in two draws what it draws uncut."""
    net, (tokens, lengths) = model(dropout=0.5), sentences()
    tokens[B:], lengths = tokens[:B], np.concatenate([LENGTHS[:B], LENGTHS[:B]])  # both texts the same
    values = variables(net)
    task = Classification(net, C, ("premise", "hypothesis"))
    whole = batch((tokens, lengths))
    total, _ = task.loss(values, whole, jax.random.key(1))
    parts = [jax.tree.map(lambda x, part=part: x[part], whole) for part in (slice(0, 1), slice(1, B))]
    halves = sum(task.loss(values, part, jax.random.key(1))[0] for part in parts)
    np.testing.assert_allclose(total, halves, rtol=1e-5)
    kept = []

    def watch(call, arguments, keywords, context):
        result = call(*arguments, **keywords)
        if context.module.name == "dropout_words" and context.method_name == "__call__":
            kept.append(np.asarray(result))
        return result

    with nn.intercept_methods(watch):
        task.loss(values, whole, jax.random.key(1))
    (words,) = kept
    assert np.abs(words[:B] - words[B:]).max() > 0.1


@pytest.mark.parametrize("masks", ["position", "text", "pair"])
@pytest.mark.parametrize("architecture", ["esim", "siamese_bilstm"])
def test_masks_of_word_vectors_are_of_a_position_a_text_or_a_pair(masks, architecture):
    """On word vectors that are all ones; a component is kept with probability one half, and doubled."""
    size = {"embedding_dim": 400, "dropout": 0.5, "word_masks": masks}
    net = model(**size) if architecture == "esim" else Siamese(V, C, architecture, hidden=H, **size)
    tokens, lengths = np.full((2 * B, L), 3, np.int32), np.full(2 * B, L, np.int32)
    values = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.ones_like(x) if path[-1].key == "embedding" else x, variables(net, (tokens, lengths))
    )
    entered = []

    def watch(call, arguments, keywords, context):
        if context.module.name == "encoding" and context.method_name == "__call__":
            entered.append(np.asarray(arguments[0]))
        return call(*arguments, **keywords)

    rows = jnp.ravel(2 * jnp.arange(B) + jnp.arange(2)[:, None])  # of premises, then of hypotheses
    with nn.intercept_methods(watch):
        net.apply(values, tokens, lengths, rows, rngs={"dropout": jax.random.key(1)})
        net.apply(values, tokens, lengths)
    trained, evaluated = entered
    np.testing.assert_array_equal(evaluated, np.ones_like(evaluated))
    assert set(np.unique(trained)) == {0.0, 2.0} and abs(trained[:, 0].mean() - 1.0) < 0.1
    same, apart = lambda x, y: (x == y).all(), lambda x, y: 0.35 < (x == y).mean() < 0.65
    assert (apart if masks == "position" else same)(trained[:, 1:], trained[:, :-1])
    assert (same if masks == "pair" else apart)(trained[:B], trained[B:])
    assert apart(trained[: B - 1], trained[1:B])


def size(net, texts) -> int:
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), *texts))["params"]
    return sum(x.size for path, x in jax.tree_util.tree_leaves_with_path(shapes) if path[-1].key != "embedding")


def test_the_papers_sizes():
    """Table 1, without word vectors: ESIM 4.3 M, HIM 7.7 M."""
    config = snli.get_config().model
    make = lambda kind: make_model(
        ConfigDict({**config, "architecture": kind}), vocab_size=50, num_classes=3, max_length=L
    )
    bilstm, mlp = 2 * 4 * 300 * (300 + 300 + 1), 2400 * 300 + 300 + 300 * 3 + 3
    assert size(make("sequential"), sentences()) == 2 * bilstm + 2400 * 300 + 300 + mlp == 4_326_303
    assert round(size(make("sequential"), sentences()) / 1e6, 1) == 4.3
    assert round(size(make("hybrid"), trees()) / 1e6, 1) == 7.7
    assert size(make("hybrid"), trees()) == 4_326_303 + 3_421_503 == 7_747_806
    config.projection = False
    wide = 2 * 4 * 300 * (2400 + 300 + 1)
    assert size(make("sequential"), sentences()) == bilstm + wide + mlp == 8_646_003 and wide == 6_482_400


def test_the_size_of_the_taught_form():
    config = lcqmc_small_taught_10.get_config().model
    net = make_model(config, vocab_size=50, num_classes=2, max_length=L)
    bilstms = 2 * 4 * 128 * (100 + 128 + 1) + 2 * 4 * 128 * (1024 + 128 + 1)
    assert size(net, sentences()) == bilstms + 1024 * 128 + 128 + 128 + 1 == 1_546_497


def test_one_sigmoid_output_is_the_softmax_of_zero_and_z():
    net, (tokens, lengths) = ESIM(V, 2, output="sigmoid", **SEQUENTIAL), sentences()
    values = variables(net)
    logits = np.asarray(net.apply(values, tokens, lengths))
    assert np.all(logits[:, 0] == 0) and values["params"]["classify"]["kernel"].shape == (H, 1)
    np.testing.assert_allclose(jax.nn.softmax(logits)[:, 1], jax.nn.sigmoid(logits[:, 1]), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "classes", "message"),
    [
        (
            {"architecture": "esim"},
            3,
            r"model\.architecture: 'esim' is none of sequential, tree, hybrid, siamese_bilstm,",
        ),
        ({"variant": "multichannel"}, 3, r"model\.variant: 'multichannel' is none of rand, static, non_static$"),
        ({"encoding": "gru"}, 3, r"model\.encoding: 'gru' is none of recurrent, feedforward$"),
        ({"composition": ""}, 3, r"model\.composition: '' is none of"),
        ({"attention": "none"}, 3, r"model\.attention: 'none' is none of both, premise, hypothesis$"),
        ({"pooling": "max"}, 3, r"model\.pooling: 'max' is none of average_max, sum$"),
        ({"output": "tanh"}, 2, r"model\.output: 'tanh' is none of softmax, sigmoid$"),
        ({"hidden": 0}, 3, r"model\.hidden must be at least 1, got 0$"),
        ({"layers": 0}, 3, r"model\.layers must be at least 1"),
        ({"dropout": 1.0}, 3, r"model\.dropout is the share dropped"),
        ({"output": "sigmoid"}, 3, r"model\.output = sigmoid is for two classes; the corpus has 3$"),
        ({"fused": "xla"}, 3, r"model\.fused: 'xla' is none of , cudnn$"),
        ({"architecture": "tree", "masks": False}, 3, r"model\.masks = False is for the sequential architecture"),
    ],
    ids=str,
)
def test_bad_configurations(changes, classes, message):
    config = ConfigDict({**snli.get_config().model, **changes})
    with pytest.raises(ConfigError) as caught:
        make_model(config, vocab_size=V, num_classes=classes, max_length=L)
    assert re.search(message, str(caught.value)), caught.value

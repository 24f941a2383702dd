"""TextCNN against NumPy, PyTorch and hand-worked values."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from configs.textcnn import mr
from research.batches import Batch
from research.errors import ConfigError
from research.optimizers import make_optimizer, max_norm
from research.tasks import Classification
from research.textcnn import ACTIVATIONS, TextCNN, convolve, k_max, largest_window, make_model
from research.train import init_state, train_step

B, L, V, K, F, C = 6, 9, 40, 8, 5, 3
KEY = np.array([0, 7], np.uint32)


def model(**changes) -> TextCNN:
    fields = {"vocab_size": V, "num_classes": C, "max_length": L, "embedding_dim": K, "filters": F} | changes
    return TextCNN(**fields)


def sentences(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    lengths = np.array([L, 1, 3, 7, L, 5], np.int32)
    tokens = random.integers(2, V, (B, L)).astype(np.int32)
    return np.where(np.arange(L) < lengths[:, None], tokens, 0).astype(np.int32), lengths


def variables(net: TextCNN, seed: int = 0):
    """Random values everywhere: the softmax layer starts at zero, under which nothing could be told apart."""
    made = net.init(jax.random.key(seed), *sentences())
    leaves, tree = jax.tree.flatten(made)
    random = np.random.default_rng(seed)
    return jax.tree.unflatten(tree, [jnp.asarray(random.normal(0, 0.5, x.shape).astype(np.float32)) for x in leaves])


def numpy_logits(params, tokens, length, *, activation=lambda x: np.maximum(x, 0.0), kernels=(3, 4, 5), keep=0.5):
    """Equations (1) to (4) for one sentence, window by window."""
    p = max(kernels) - 1
    x = np.concatenate([np.zeros((p, K)), params["embedding"][tokens[:length]], np.zeros((p, K))])
    z = []
    for index, h in enumerate(kernels):
        w, b = params[f"convolution_{index}_kernel"], params[f"convolution_{index}_bias"]
        c = [activation(np.einsum("hk,hkf->f", x[i : i + h], w) + b) for i in range(len(x) - h + 1)]
        z.append(np.max(c, axis=0))
    return keep * np.concatenate(z) @ params["softmax"]["kernel"] + params["softmax"]["bias"]


def test_logits_are_the_papers_equations():
    net = model()
    values = variables(net)
    tokens, lengths = sentences()
    found = net.apply(values, tokens, lengths)
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), values["params"])
    wanted = [numpy_logits(params, tokens[i], lengths[i]) for i in range(B)]
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)


OPTIONS = [
    {},
    {"variant": "static"},
    {"variant": "multichannel"},
    {"pooling": "average"},
    {"pooling": "k_max", "k": 3},
    {"padding": "same"},
    {"padding": "same", "kernel_sizes": (2, 3)},
    {"positions": True},
    {"attention": True},
    {"layers": 2},
    {"activation": "tanh"},
    {"kernel_sizes": (1,)},
    {"kernel_sizes": (3, 3)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_padding_never_changes_the_output(options):
    net = model(**options)
    values = variables(net)
    tokens, lengths = sentences()
    wanted = net.apply(values, tokens, lengths)
    assert np.abs(np.diff(wanted, axis=0)).min() > 1e-4  # the sentences differ, so the output can show it
    other_ids = np.where(np.arange(L) < lengths[:, None], tokens, 17)
    np.testing.assert_array_equal(net.apply(values, other_ids, lengths), wanted)
    shorter = lengths < L
    longer = net.apply(values, tokens[shorter, : L - 2], lengths[shorter])  # padded to 7 instead of 9
    np.testing.assert_allclose(longer, wanted[shorter], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS[1:], ids=str)
def test_every_option_changes_the_output(options):
    """With the same numbers in every parameter that both models have."""
    tokens, lengths = sentences()
    plain, changed = model(), model(**options)
    ours, theirs = variables(plain), variables(changed, seed=1)
    shared = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(ours)}

    def share(path, leaf):
        known = shared.get(jax.tree_util.keystr(path))
        return leaf if known is None or known.shape != leaf.shape else known

    theirs = jax.tree_util.tree_map_with_path(share, theirs)
    a, b = plain.apply(ours, tokens, lengths), changed.apply(theirs, tokens, lengths)
    assert np.abs(np.asarray(a - b)).max() > 1e-3


@pytest.mark.parametrize("padding", ["wide", "same"])
def test_k_max_takes_sentences_shorter_than_k(padding):
    """Batches of a short bucket have fewer windows than k; the missing values are zeros in every bucket."""
    net = model(pooling="k_max", k=12, padding=padding)
    values = variables(net)
    tokens, lengths = sentences()
    short = lengths <= 3
    wanted = net.apply(values, tokens, lengths)[short]
    np.testing.assert_allclose(net.apply(values, tokens[short, :3], lengths[short]), wanted, rtol=1e-5, atol=1e-6)


def test_a_sentence_without_words_has_finite_logits():
    net = model()
    tokens, _ = sentences()
    assert np.all(np.isfinite(net.apply(variables(net), tokens, np.zeros(B, np.int32))))


def test_multichannel_tunes_one_table_and_keeps_the_other():
    net = model(variant="multichannel")
    values = net.init(jax.random.key(0), *sentences())
    assert set(values) == {"params", "constants"}
    assert values["constants"]["embedding"].shape == values["params"]["embedding"].shape == (V, K)
    assert "embedding" not in model(variant="static").init(jax.random.key(0), *sentences())["params"]


def test_k_max_keeps_the_order_of_the_sentence():
    c = jnp.array([[[5.0], [1.0], [9.0], [7.0]], [[2.0], [3.0], [100.0], [100.0]]])
    mask = jnp.array([[True] * 4, [True, True, False, False]])
    np.testing.assert_array_equal(k_max(c, mask, 3)[..., 0], [[5.0, 9.0, 7.0], [2.0, 3.0, 0.0]])


def test_convolve_is_a_sum_over_the_window():
    random = np.random.default_rng(0)
    x, w = random.normal(size=(2, 7, 4)).astype(np.float32), random.normal(size=(3, 4, 5)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (2, 1), (0, 0)))
    wanted = np.stack([np.einsum("bhk,hkf->bf", padded[:, i : i + 3], w) for i in range(8)], axis=1)
    np.testing.assert_allclose(convolve(x, w, (2, 1)), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "default"])
@pytest.mark.parametrize("replicas", [0, 3])
def test_the_largest_window_has_the_gradient_of_a_maximum(monkeypatch, platform, replicas):
    """Both backward passes, also under vmap, are what plain differentiation gives."""
    choose = lambda **ways: ways[platform]()
    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
    random = np.random.default_rng(0)
    shape = (replicas,) if replicas else ()
    x, w = random.normal(size=(*shape, 6, 9, 4)), random.normal(size=(*shape, 3, 4, 5))
    g, windows = random.normal(size=(6, 5)), jnp.array([11, 1, 4, 8, 11, 6])

    def plain(x, w):
        c = convolve(x, w, (2, 2))
        return jnp.sum(g * jnp.where(jnp.arange(11)[:, None] < windows[:, None, None], c, -jnp.inf).max(axis=1))

    ours = lambda x, w: jnp.sum(g * largest_window(x, w, windows, (2, 2)))
    vmap = jax.vmap if replicas else lambda function: function
    wanted, found = vmap(jax.value_and_grad(plain, (0, 1)))(x, w), vmap(jax.value_and_grad(ours, (0, 1)))(x, w)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted)


def test_dropout_keeps_half_unscaled_and_scales_at_test_time():
    """Equation (5) and the text below it: y = w (z ∘ r) + b in training, ŵ = p w in evaluation."""
    net = model(dropout=0.5)
    values = variables(net)
    tokens, lengths = sentences()
    rows = jnp.arange(B)
    run = jax.vmap(lambda key: net.apply(values, tokens, lengths, rows, rngs={"dropout": key}))
    draws = run(jax.random.split(jax.random.key(1), 4000))
    evaluated = net.apply(values, tokens, lengths)
    error = np.asarray(draws.std(axis=0) / np.sqrt(4000))
    assert np.all(np.abs(draws.mean(axis=0) - evaluated) < 5 * error)
    assert np.abs(draws[0] - evaluated).max() > 0.1


def test_max_norm_rescales_only_what_is_too_long():
    params = {"softmax": {"kernel": jnp.array([[3.0, 0.3], [4.0, 0.4]]), "bias": jnp.array([9.0, 9.0])}}
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = max_norm(3.0).update(zero, optax.EmptyState(), params)
    kernel = params["softmax"]["kernel"] + updates["softmax"]["kernel"]
    np.testing.assert_allclose(kernel, [[1.8, 0.3], [2.4, 0.4]], rtol=1e-6)
    np.testing.assert_array_equal(updates["softmax"]["bias"], [0.0, 0.0])


def batch(seed: int = 0) -> Batch:
    tokens, lengths = sentences(seed)
    labels = jnp.array([0, 1, 2, 0, 1, 2])
    return Batch({"text": tokens}, {"text": lengths}, {}, labels, jnp.ones(B), jnp.arange(B))


def optimizer(**changes):
    return make_optimizer(ConfigDict(dict(mr.get_config().optimizer) | changes))


def losses(by_rows: bool, steps: int, *, options=None, dropout: float = 0.5, seed: int = 0) -> tuple[list, object]:
    net = model(dropout=dropout, **(options or {}))
    task, adadelta = Classification(net, C), optimizer()
    state = init_state(task, adadelta, KEY, bucket=(("text", L),), by_rows=by_rows)
    state = state.replace(params=variables(net, seed)["params"])
    step = jax.jit(
        lambda state, sums, key, batch: train_step(
            state, sums, key, batch, task=task, optimizer=adadelta, row_decay=0.95
        )
    )
    found = []
    for number in range(steps):
        nothing = {"loss": jnp.zeros(()), "weight": jnp.zeros(())}
        state, sums = step(state, nothing, KEY, batch(number % 4))
        found.append(float(sums["loss"]) / float(sums["weight"]))
    return found, state


@pytest.mark.parametrize("variant", ["rand", "multichannel"])
def test_steps_on_touched_rows_are_the_dense_steps(variant):
    rows, by_rows = losses(True, 25, options={"variant": variant})
    dense, whole = losses(False, 25, options={"variant": variant})
    assert by_rows.touched is not None and whole.touched is None
    np.testing.assert_allclose(rows, dense, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), by_rows.params, whole.params)


def test_parity_with_pytorch():
    """The same weights give the same logits and gradients, and ten Adadelta steps the same losses."""
    torch = pytest.importorskip("torch", reason="tests/requirements.txt installs PyTorch for this comparison")
    net = model(dropout=0.0)
    values = variables(net)
    params = jax.tree.map(np.asarray, values["params"])

    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            tensor = lambda x: torch.nn.Parameter(torch.tensor(np.array(x)))
            self.embedding = torch.nn.Embedding(V, K)
            self.embedding.weight = tensor(params["embedding"])
            self.convolutions = torch.nn.ModuleList(torch.nn.Conv1d(K, F, h) for h in (3, 4, 5))
            for index, convolution in enumerate(self.convolutions):
                convolution.weight = tensor(params[f"convolution_{index}_kernel"].transpose(2, 1, 0))
                convolution.bias = tensor(params[f"convolution_{index}_bias"])
            self.softmax = torch.nn.Linear(3 * F, C)
            self.softmax.weight = tensor(params["softmax"]["kernel"].T)
            self.softmax.bias = tensor(params["softmax"]["bias"])

        def forward(self, tokens, lengths):
            x = self.embedding(tokens) * (torch.arange(L) < lengths[:, None])[..., None]
            x = torch.nn.functional.pad(x.transpose(1, 2), (4, 4))
            z = []
            for convolution in self.convolutions:
                c = convolution(x).relu()
                windows = lengths + 8 - convolution.kernel_size[0] + 1
                outside = torch.arange(c.shape[-1]) >= windows[:, None]
                z.append(c.masked_fill(outside[:, None], -torch.inf).amax(-1))
            return self.softmax(torch.cat(z, -1))

    reference = Torch()
    tokens, lengths = (torch.tensor(x, dtype=torch.long) for x in sentences())
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    loss = torch.nn.functional.cross_entropy(reference(tokens, lengths), labels, reduction="sum")
    loss.backward()
    task = Classification(net, C)
    (ours, _), gradient = jax.value_and_grad(
        lambda p: task.loss({"params": p}, batch(), jax.random.key(0)), has_aux=True
    )(values["params"])
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
    close(net.apply(values, *sentences()), reference(tokens, lengths).detach().numpy())
    close(ours, loss.item())
    close(gradient["embedding"], reference.embedding.weight.grad.numpy())
    for index, convolution in enumerate(reference.convolutions):
        close(gradient[f"convolution_{index}_kernel"], convolution.weight.grad.numpy().transpose(2, 1, 0))
        close(gradient[f"convolution_{index}_bias"], convolution.bias.grad.numpy())
    close(gradient["softmax"]["kernel"], reference.softmax.weight.grad.numpy().T)
    close(gradient["softmax"]["bias"], reference.softmax.bias.grad.numpy())

    adadelta = torch.optim.Adadelta(reference.parameters(), lr=1.0, rho=0.95, eps=1e-6)
    theirs = []
    for number in range(10):
        tokens, lengths = (torch.tensor(x, dtype=torch.long) for x in sentences(number % 4))
        adadelta.zero_grad()
        loss = torch.nn.functional.cross_entropy(reference(tokens, lengths), labels)
        loss.backward()
        adadelta.step()
        with torch.no_grad():
            norms = reference.softmax.weight.norm(dim=1, keepdim=True)
            reference.softmax.weight *= 3.0 / norms.clamp(min=3.0)
        theirs.append(loss.item())
    found, _ = losses(True, 10, dropout=0.0)
    np.testing.assert_allclose(found, theirs, rtol=1e-4)
    assert len(set(np.round(theirs, 3))) == 10  # the steps move


def test_the_papers_size():
    """300 dimensions, windows of 3, 4, 5 words with 100 feature maps each (section 3.1)."""
    net = make_model(mr.get_config().model, vocab_size=18767, num_classes=2, max_length=56)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, 56), jnp.int32), jnp.ones(1, jnp.int32)))
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes["params"]))
    assert count == 18767 * 300 + (3 + 4 + 5) * 300 * 100 + 300 + 300 * 2 + 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "tuned"}, "model.variant: 'tuned'"),
        ({"pooling": "min"}, "model.pooling"),
        ({"activation": "gelu"}, "model.activation"),
        ({"padding": "none"}, "model.padding"),
        ({"filters": 0}, "model.filters must be at least 1, got 0"),
        ({"embedding_dim": -3}, "model.embedding_dim"),
        ({"layers": 0}, "model.layers"),
        ({"kernel_sizes": ()}, "model.kernel_sizes"),
        ({"kernel_sizes": (3, 0)}, "model.kernel_sizes"),
        ({"kernel_sizes": (3, 60)}, "a window of 60 words is longer than the longest sentence, 56 words"),
        ({"dropout": 1.0}, "model.dropout"),
        ({"dropout": float("nan")}, "model.dropout"),
    ],
)
def test_impossible_fields_are_refused(changes, message):
    config = mr.get_config().model
    config.update(changes)
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        make_model(config, vocab_size=V, num_classes=2, max_length=56)


def test_the_activations_are_the_named_ones():
    x = jnp.array([-1.0, 0.5])
    np.testing.assert_allclose(ACTIVATIONS["relu"](x), [0.0, 0.5])
    np.testing.assert_allclose(ACTIVATIONS["tanh"](x), np.tanh([-1.0, 0.5]), rtol=1e-6)
    np.testing.assert_allclose(ACTIVATIONS["identity"](x), x)

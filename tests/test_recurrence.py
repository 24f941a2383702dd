"""The LSTMs against PyTorch, a recursion in NumPy, and automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn

from research import recurrence
from research.recurrence import BiLSTM, Direction, TreeLSTM, cudnn_weights, left_children
from research.text import NODE_TOKEN, full_tree, post_order

N, T, D, H = 5, 7, 6, 4
LENGTHS = np.array([7, 1, 3, 5, 7])
MASK = np.arange(T) < LENGTHS[:, None]
SIDES = ("forward", "backward")


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_values(tree, seed: int = 0):
    leaves, structure = jax.tree.flatten(tree)
    made = [jnp.asarray(normal(seed + number, *x.shape) / 2) for number, x in enumerate(leaves)]
    return jax.tree.unflatten(structure, made)


def gates_of_pytorch(ours) -> np.ndarray:
    """Columns i, f, o, g as PyTorch's rows i, f, g, o."""
    i, f, o, g = np.split(np.asarray(ours), 4, axis=-1)
    return np.concatenate([i, f, g, o], axis=-1).T


@pytest.fixture(scope="module")
def bilstm():
    module, x = BiLSTM(H), normal(0, N, T, D)
    return module, random_values(module.init(jax.random.key(0), x, MASK)), x


def test_bilstm_is_pytorchs_with_packed_sequences(bilstm):
    torch = pytest.importorskip("torch")
    module, variables, x = bilstm
    params = variables["params"]
    theirs = torch.nn.LSTM(D, H, batch_first=True, bidirectional=True)
    kinds = {"weight_ih_l0": "input", "weight_hh_l0": "state", "bias_ih_l0": "bias"}
    state = {
        f"{torchs}{suffix}": torch.tensor(gates_of_pytorch(params[f"{side}_{ours}"]))
        for suffix, side in (("", "forward"), ("_reverse", "backward"))
        for torchs, ours in kinds.items()
    }
    state |= {f"bias_hh_l0{suffix}": torch.zeros(4 * H) for suffix in ("", "_reverse")}
    theirs.load_state_dict(state)
    inputs, slope = torch.tensor(x, requires_grad=True), normal(1, N, T, 2 * H)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        inputs, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False
    )
    wanted, _ = torch.nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    (wanted * torch.tensor(slope)).sum().backward()

    found = module.apply(variables, x, MASK)
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert np.all(np.asarray(found)[~MASK] == 0)
    ours, to_x = jax.grad(lambda v, x: jnp.sum(module.apply(v, x, MASK) * slope), (0, 1))(variables, x)
    np.testing.assert_allclose(to_x, inputs.grad.numpy(), rtol=1e-5, atol=1e-6)
    for suffix, side in (("", "forward"), ("_reverse", "backward")):
        for torchs, name in kinds.items():
            wanted = getattr(theirs, f"{torchs}{suffix}").grad.numpy()
            np.testing.assert_allclose(
                gates_of_pytorch(ours["params"][f"{side}_{name}"]), wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max()
            )


def test_a_sequence_is_read_the_same_with_any_padding(bilstm):
    module, variables, x = bilstm
    whole = np.asarray(module.apply(variables, np.where(MASK[..., None], x, 9.0), MASK))
    for row, length in enumerate(LENGTHS):
        alone = module.apply(variables, x[row : row + 1, :length], np.ones((1, length), bool))
        np.testing.assert_allclose(whole[row, :length], alone[0], rtol=1e-5, atol=1e-6)


def test_weights_as_cudnn_takes_them(bilstm):
    """JAX's own reference of that function, on any machine."""
    module, variables, x = bilstm
    params = variables["params"]
    sides = [Direction(*(params[f"{side}_{name}"] for name in ("input", "state", "bias"))) for side in SIDES]
    parts = rnn.unpack_lstm_weights(cudnn_weights(sides), D, H, 1, True)
    zero, lengths = jnp.zeros((2, N, H)), jnp.asarray(LENGTHS, jnp.int32)
    found, _, _ = rnn.lstm_ref(x, zero, zero, *parts, lengths, D, H, 1, 0.0, True)
    np.testing.assert_allclose(found, module.apply(variables, x, MASK), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN's LSTM needs an NVIDIA GPU")
def test_cudnn_gives_the_same(bilstm):
    _, variables, x = bilstm
    slope = normal(1, N, T, 2 * H)
    with jax.default_matmul_precision("highest"):  # or the plain one multiplies in TF32
        found = [both(BiLSTM(H, kind), variables, x, slope) for kind in ("cudnn", "")]
    for fused, wanted in zip(*found):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), fused, wanted)


def both(module, variables, x, slope):
    """Outputs, and gradients by parameters and inputs."""
    total = lambda v, x: jnp.sum(module.apply(v, x, MASK) * slope)
    return module.apply(variables, x, MASK), jax.grad(total, argnums=(0, 1))(variables, x)


def test_forget_gates_begin_open():
    params = BiLSTM(H).init(jax.random.key(0), normal(0, N, T, D), MASK)["params"]
    wanted = np.repeat([0.0, 1.0, 0.0, 0.0], H)
    np.testing.assert_array_equal(params["forward_bias"], wanted)
    np.testing.assert_array_equal(params["backward_bias"], wanted)


PARSES = ("( ( A man ) ( is ( sitting down ) ) )", "A", "( A man )", "( a ( b ( c d ) ) )", "( ( ( a b ) c ) d )")


def trees() -> tuple[np.ndarray, np.ndarray]:
    """Inner nodes and all nodes of PARSES and of a full tree over seven words."""
    nodes = [*(post_order(parse) for parse in PARSES), full_tree("abcdefg")]
    size = max(map(len, nodes))
    padded = [[*row, *[None] * (size - len(row))] for row in nodes]
    return np.array([[x == NODE_TOKEN for x in row] for row in padded]), np.array(padded, object) != None  # noqa: E711


def test_left_children_by_hand():
    inner, _ = trees()
    found = np.asarray(left_children(inner))
    # A man ) is sitting down ) ) ): nodes 2, 6, 7 and 8 join (0, 1), (4, 5), (3, 6) and (2, 7)
    assert [found[0, node] for node in (2, 6, 7, 8)] == [0, 4, 3, 2]
    assert [found[3, node] for node in (4, 5, 6)] == [2, 1, 0]  # a b c d ) ) )
    assert [found[4, node] for node in (2, 4, 6)] == [0, 2, 4]  # a b ) c ) d )


def numpy_node(p, x, left=None, right=None) -> tuple[np.ndarray, np.ndarray]:
    """Equations 3 to 10: h and c of a node from its input and its children's h and c; a leaf has none."""
    sigmoid, zero = lambda z: 1.0 / (1.0 + np.exp(-z)), np.zeros(len(p["left_state"]))
    (h_l, c_l), (h_r, c_r) = left or (zero, zero), right or (zero, zero)
    w_i, w_o, w_f, w_u = np.split(p["input"], 4, axis=1)
    (l_i, l_o, l_ll, l_rl, l_u), (r_i, r_o, r_lr, r_rr, r_u) = (
        np.split(p[f"{s}_state"], 5, 1) for s in ("left", "right")
    )
    i = sigmoid(x @ w_i + h_l @ l_i + h_r @ r_i)
    o = sigmoid(x @ w_o + h_l @ l_o + h_r @ r_o)
    f_l = sigmoid(x @ w_f + h_l @ l_ll + h_r @ r_lr)
    f_r = sigmoid(x @ w_f + h_l @ l_rl + h_r @ r_rr)
    u = np.tanh(x @ w_u + h_l @ l_u + h_r @ r_u)
    c = f_l * c_l + f_r * c_r + i * u
    return o * np.tanh(c), c


def numpy_tree_lstm(p, x, inner) -> np.ndarray:
    """The nodes of one tree in post-order, one at a time, children found by a stack."""
    stack, states = [], []
    for x_t, is_inner in zip(x, inner):
        children = {"right": stack.pop(), "left": stack.pop()} if is_inner else {}
        stack.append(numpy_node(p, x_t, **children))
        states.append(stack[-1][0])
    assert len(stack) == 1
    return np.array(states)


def nested(parse: str):
    """A word, or the pair of a node's children."""
    words = parse.replace("(", " ( ").replace(")", " ) ").split()

    def node():
        if (word := words.pop(0)) != "(":
            return word
        pair = node(), node()
        assert words.pop(0) == ")"
        return pair

    return node()


@pytest.mark.parametrize("parse", PARSES)
def test_tree_lstm_of_a_parse_is_a_recursion_in_numpy(parse):
    """Down the tree itself, without lists of nodes. Cut off after any node, the nodes before keep their states."""
    tokens = np.array(post_order(parse))
    vectors = {token: normal(number, D) for number, token in enumerate(sorted({*tokens}))}
    x, inner = np.stack([vectors[token] for token in tokens])[None], (tokens == NODE_TOKEN)[None]
    module, mask = TreeLSTM(H), np.ones((1, len(tokens)), bool)
    variables = random_values(module.init(jax.random.key(0), x, inner, mask))
    p, states = jax.tree.map(lambda v: np.asarray(v, np.float64), variables["params"]), []

    def visit(tree):
        children = {} if isinstance(tree, str) else {side: visit(child) for side, child in zip(("left", "right"), tree)}
        state = numpy_node(p, vectors[tree if isinstance(tree, str) else NODE_TOKEN], **children)
        states.append(state[0])
        return state

    visit(nested(parse))
    np.testing.assert_allclose(module.apply(variables, x, inner, mask)[0], states, rtol=1e-5, atol=1e-6)
    for size in range(1, len(tokens)):
        cut = module.apply(variables, x[:, :size], inner[:, :size], mask[:, :size])
        np.testing.assert_allclose(cut[0], states[:size], rtol=1e-5, atol=1e-6)


def test_tree_lstm_is_a_recursion_in_numpy():
    inner, mask = trees()
    x = normal(0, *inner.shape, D)
    module = TreeLSTM(H)
    variables = random_values(module.init(jax.random.key(0), x, inner, mask))
    found = np.asarray(module.apply(variables, x, inner, mask))
    p = jax.tree.map(lambda v: np.asarray(v, np.float64), variables["params"])
    for states, inputs, kinds, real in zip(found, x, inner, mask):
        wanted = numpy_tree_lstm(p, inputs[real], kinds[real])
        np.testing.assert_allclose(states[real], wanted, rtol=1e-5, atol=1e-6)
    assert np.all(found[~mask] == 0)


@pytest.mark.parametrize("name", ["lstm", "tree_lstm"])
def test_the_gradient_that_is_written_out_is_the_automatic_one(name, bilstm, monkeypatch):
    if name == "lstm":
        module, variables, x = bilstm
        masks = (MASK,)
    else:
        inner, mask = trees()
        module, x, masks = TreeLSTM(H), normal(0, *inner.shape, D), (inner, mask)
        variables = random_values(module.init(jax.random.key(0), x, *masks))
    slope = normal(2, *module.apply(variables, x, *masks).shape)
    gradient = lambda: jax.grad(lambda v, x: jnp.sum(module.apply(v, x, *masks) * slope), (0, 1))(variables, x)
    ours = gradient()
    plain = {"lstm": recurrence._lstm_forward, "tree_lstm": recurrence._tree_forward}[name]
    monkeypatch.setattr(recurrence, name, lambda *arguments: plain(*arguments)[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, gradient())
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(ours)) > 0.1

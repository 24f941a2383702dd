"""Cross entropy over large vocabularies, by chunks, against NumPy and plain differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import losses
from research.losses import smoothed_cross_entropy, token_scores

N, D, V = 10, 6, 11
NAMES = ("hidden", "table", "bias", "targets", "weights")
WEIGHTS = np.array([1, 0, 1, 0.5, 2, 1, 0, 1, 1, 0.25], np.float32)


def inputs(seed: int = 0) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    draw = lambda *shape: random.normal(size=shape).astype(np.float32)
    return draw(N, D), draw(V, D), draw(V), random.integers(0, V, N).astype(np.int32), WEIGHTS


def numpy_logs(hidden, table, bias) -> np.ndarray:
    """log p of every word, in float64."""
    hidden, table, bias = (np.asarray(x, np.float64) for x in (hidden, table, bias))
    logits = hidden @ table.T + bias
    top = logits.max(axis=1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))


def numpy_loss(hidden, table, bias, targets, weights, smoothing: float) -> float:
    """-Σ_n w_n Σ_v q_n(v) log p_n(v) with q written out."""
    q = np.full((len(targets), len(table)), smoothing / len(table))
    q[np.arange(len(targets)), targets] += 1.0 - smoothing
    return float(-np.sum(weights[:, None] * q * numpy_logs(hidden, table, bias)))


def plain(hidden, table, bias, targets, weights, smoothing: float):
    """The same, for JAX to differentiate."""
    logs = jax.nn.log_softmax(hidden @ table.T + bias)
    q = (1.0 - smoothing) * jax.nn.one_hot(targets, len(table)) + smoothing / len(table)
    return -jnp.sum(weights[:, None] * q * logs)


def close(found, wanted, tolerance: float = 1e-5):
    """To `tolerance` of the largest entry."""
    wanted = np.asarray(wanted, np.float64)
    np.testing.assert_allclose(np.asarray(found, np.float64), wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_smoothed_cross_entropy_by_hand(smoothing):
    values = inputs()
    assert float(smoothed_cross_entropy(*values, smoothing)) == pytest.approx(numpy_loss(*values, smoothing), rel=1e-6)
    hidden, table, bias, targets, weights = values
    changed = np.where(weights[:, None] == 0, 9.0, hidden)
    assert float(smoothed_cross_entropy(changed, *values[1:], smoothing)) == pytest.approx(
        numpy_loss(*values, smoothing), rel=1e-6
    )
    nothing = smoothed_cross_entropy(hidden, table, bias, targets, np.zeros(N, np.float32), smoothing)
    assert float(nothing) == 0.0


def test_two_words_by_hand():
    """Logits 0 and log 3: p = 1/4, 3/4. Without smoothing -log 1/4 = log 4; with ε = 0.1 q = 0.95, 0.05 and
    H = 0.95 log 4 + 0.05 log 4/3."""
    hidden, table, bias = jnp.ones((1, 1)), jnp.array([[1.0], [1.0 + np.log(3.0)]]), jnp.array([-1.0, -1.0])
    one = (hidden, table, bias, jnp.array([0]), jnp.ones(1))
    assert float(smoothed_cross_entropy(*one, 0.0)) == pytest.approx(np.log(4.0), rel=1e-6)
    wanted = 0.95 * np.log(4.0) + 0.05 * np.log(4.0 / 3.0)
    assert float(smoothed_cross_entropy(*one, 0.1)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("chunk", [1, 3, 512])
def test_gradients_in_chunks(monkeypatch, chunk):
    """Of 10 positions, also where the last chunk is not full: 3 + 3 + 3 + 1. The loss alone and with its gradient."""
    monkeypatch.setattr(losses, "CHUNK", chunk)
    values = inputs(1)
    smoothings = (0.0, 0.1)
    each = lambda loss: [lambda *values, s=s: loss(*values, s) for s in smoothings]
    run = lambda loss: jax.jit(lambda *x: [(f(*x), *jax.value_and_grad(f, (0, 1, 2))(*x)) for f in each(loss)])(*values)
    for (alone, found, slopes), (_, wanted, gradients) in zip(run(smoothed_cross_entropy), run(plain)):
        assert float(found) == pytest.approx(float(wanted), rel=1e-6)
        assert float(alone) == pytest.approx(float(wanted), rel=1e-6)
        for one, other in zip(slopes, gradients):
            assert one.shape == other.shape and one.dtype == other.dtype
            close(one, other)
        assert not np.asarray(slopes[0])[WEIGHTS == 0].any()


def test_gradients_are_scaled_by_the_cotangent_and_mapped(monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", 4)
    stacked = [np.stack(pair) for pair in zip(inputs(2), inputs(3))]
    factors = jnp.array([3.0, -0.25])

    def slopes(loss):
        scaled = lambda factor, *values: factor * loss(*values, 0.1) ** 2
        return jax.jit(jax.vmap(jax.grad(scaled, (1, 2, 3))))(factors, *stacked)

    for one, other in zip(slopes(smoothed_cross_entropy), slopes(plain)):
        close(one, other, 2e-5)


def test_logits_of_all_positions_are_never_held_at_once(monkeypatch):
    """The arrays of the program: chunks of 8 positions by 50 words, nowhere 64 by 50."""
    monkeypatch.setattr(losses, "CHUNK", 8)
    values = (jnp.ones((64, 4)), jnp.ones((50, 4)), jnp.ones(50), jnp.zeros(64, jnp.int32), jnp.ones(64))
    program = lambda loss: str(jax.make_jaxpr(jax.grad(lambda *x: loss(*x, 0.1), (0, 1, 2)))(*values))
    assert "f32[64,50]" in program(plain)
    ours = program(smoothed_cross_entropy)
    assert "f32[8,50]" in ours and "[64,50]" not in ours and "[8,8,50]" not in ours


def test_hidden_states_of_bfloat16():
    """Products of bfloat16, sums of float32: the loss to 2⁻⁸ of itself, gradients to 2⁻⁷ of the largest entry."""
    hidden, *rest = inputs(4)
    half = jnp.asarray(hidden, jnp.bfloat16)
    ours = lambda hidden, *rest: smoothed_cross_entropy(hidden, *rest, 0.1)
    found, slopes = jax.value_and_grad(ours, (0, 1, 2))(half, *rest)
    exact = jax.value_and_grad(plain, (0, 1, 2))(half.astype(jnp.float32), *rest, 0.1)
    assert found.dtype == jnp.float32 and float(found) == pytest.approx(float(exact[0]), rel=2**-8)
    assert [x.dtype for x in slopes] == [jnp.bfloat16, jnp.float32, jnp.float32]
    for one, other in zip(slopes, exact[1]):
        close(one, other, 2**-7)


@pytest.mark.parametrize("chunk", [3, 512])
def test_token_scores(monkeypatch, chunk):
    """Of random targets, every second replaced by the most probable word."""
    monkeypatch.setattr(losses, "CHUNK", chunk)
    hidden, table, bias, targets, _ = inputs(5)
    logs = numpy_logs(hidden, table, bias)
    targets = np.where(np.arange(N) % 2, targets, logs.argmax(axis=1)).astype(np.int32)
    found, right = token_scores(hidden, table, bias, targets)
    np.testing.assert_allclose(found, -logs[np.arange(N), targets], rtol=2e-6, atol=1e-6)
    np.testing.assert_array_equal(right, logs.argmax(axis=1) == targets)
    assert N / 2 <= np.sum(right) < N

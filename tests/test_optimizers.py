"""Adam and its schedule against NumPy and hand-worked values. Adadelta and max-norm: tests/test_textcnn.py."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.transformer import base
from research.errors import ConfigError
from research.optimizers import inverse_square_root, make_optimizer


def config(**changes):
    made = base.get_config().optimizer
    made.update(changes)
    return made


def test_the_learning_rate_of_vaswani_by_hand():
    """Equation 3 for d_model = 512 and 4,000 warm-up steps, where step^-0.5 = step · warmup^-1.5 = 1 / √4000; for
    d_model = 16 and 4 warm-up steps: 1/4 · 1/8 at step 1, 1/4 · 1/2 at step 4, half of that at step 16."""
    rate = inverse_square_root(1.0, 512, 4000)
    assert float(rate(0)) == pytest.approx(512**-0.5 * 4000**-1.5, rel=1e-6)  # 1.75e-7
    assert float(rate(0)) == pytest.approx(1.7469e-7, rel=1e-4)
    assert float(rate(3999)) == pytest.approx(6.9877e-4, rel=1e-4)
    assert float(rate(15999)) == pytest.approx(6.9877e-4 / 2, rel=1e-4)
    rate = inverse_square_root(2.0, 16, 4)
    assert [float(rate(step - 1)) for step in (1, 2, 3, 4, 16)] == pytest.approx(
        [2 / 32, 4 / 32, 6 / 32, 2 / 8, 2 / 16], rel=1e-6
    )
    rates = [float(rate(step)) for step in range(40)]
    assert np.argmax(rates) == 3 and rates[:4] == sorted(rates[:4]) and rates[3:] == sorted(rates[3:], reverse=True)


GRADIENTS = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)


def ours(made, d_model: int = 1) -> np.ndarray:
    """What each of the five gradients adds to the parameters, which are two arrays."""
    optimizer = make_optimizer(made, d_model)
    params = {"a": jnp.zeros(3), "b": jnp.ones(3)}
    state, found = optimizer.init(params), []
    for gradient in GRADIENTS:
        updates, state = optimizer.update({"a": gradient[0], "b": gradient[1]}, state, params)
        params = optax.apply_updates(params, updates)
        found.append([updates["a"], updates["b"]])
    return np.array(found)


def numpy_adam(rate, *, beta1=0.9, beta2=0.98, epsilon=1e-9, clip_norm=0.0) -> np.ndarray:
    """Kingma and Ba 2015, algorithm 1, in float64. rate: of the step, counted from 1."""
    m, v, found = 0.0, 0.0, []
    for step, gradient in enumerate(GRADIENTS.astype(np.float64), 1):
        norm = np.sqrt(np.sum(gradient**2))  # over all parameters
        if clip_norm and norm > clip_norm:
            gradient = gradient * clip_norm / norm
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        found.append(-rate(step) * (m / (1 - beta1**step)) / (np.sqrt(v / (1 - beta2**step)) + epsilon))
    return np.array(found)


def close(found, wanted):
    """To 2e-5 of each step's largest entry: float32 keeps 1 - 0.98 to 3e-6."""
    largest = np.abs(wanted).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found / largest, wanted / largest, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "changes",
    [{}, {"warmup": 2}, {"warmup": 0, "learning_rate": 0.01}, {"beta1": 0.5, "beta2": 0.9, "epsilon": 0.1}],
    ids=str,
)
def test_adam_with_the_schedule_against_numpy(changes):
    made = config(**changes)
    equation_3 = lambda step: made.learning_rate * 16**-0.5 * min(step**-0.5, step * made.warmup**-1.5)
    rate = equation_3 if made.warmup else lambda step: made.learning_rate
    close(ours(made, 16), numpy_adam(rate, beta1=made.beta1, beta2=made.beta2, epsilon=made.epsilon))


def test_a_first_step_of_adam_by_hand():
    """m / (1 - β1) = g and √(v / (1 - β2)) = |g|: every parameter moves by the learning rate, whatever its gradient."""
    found = ours(config(warmup=0, learning_rate=0.125))[0]
    np.testing.assert_allclose(found, -0.125 * np.sign(GRADIENTS[0]), rtol=1e-5)


@pytest.mark.parametrize("limit", [0.5, 2.0, 100.0])
def test_clip_norm(limit):
    """The norm is of all parameters' gradients together. ε is large, so that the size of a gradient shows."""
    options = {"epsilon": 0.5, "clip_norm": limit}
    found = ours(config(warmup=0, learning_rate=0.1, **options))
    close(found, numpy_adam(lambda step: 0.1, **options))
    free = numpy_adam(lambda step: 0.1, epsilon=0.5)
    assert (np.abs(found - free).max() > 1e-3) == (limit < 100.0)


NO_NUMBERS = [float("nan"), float("inf")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "sgd"),
        *(("learning_rate", value) for value in (0.0, -1.0, *NO_NUMBERS)),
        *(("epsilon", value) for value in (0.0, -1e-9, *NO_NUMBERS)),
        *((name, value) for name in ("beta1", "beta2") for value in (1.0, -0.1, *NO_NUMBERS)),
        ("warmup", -1),
        *(("clip_norm", value) for value in (-1.0, *NO_NUMBERS)),
    ],
    ids=str,
)
def test_fields_that_cannot_be(field, value):
    with pytest.raises(ConfigError, match=rf"optimizer\.{field}\b"):
        make_optimizer(config(**{field: value}), 512)
    make_optimizer(config(), 512)

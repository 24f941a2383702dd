"""Adam and its schedule against NumPy and hand-worked values, Nesterov's method against PyTorch. Adadelta and max-norm:
tests/test_textcnn.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.conv_seq2seq import wmt14_en_de
from configs.textcnn import mr
from configs.transformer import base
from research.errors import ConfigError
from research.optimizers import cuts_go_on, inverse_square_root, learning_rates, make_optimizer, with_rate


def config(of=base, **changes):
    made = of.get_config().optimizer
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


@pytest.mark.parametrize("limit", [0.0, 0.5])
def test_adam_whose_rate_is_cut(limit):
    """After the second step; its moments stay."""
    made = config(warmup=0, learning_rate=0.1, clip_norm=limit, anneal=0.5, least_rate=0.02)
    assert learning_rates(made) == (0.1, 0.05, 0.025) and not cuts_go_on(made)
    optimizer, found = make_optimizer(made), []
    params = {"a": jnp.zeros(3), "b": jnp.ones(3)}
    state = optimizer.init(params)
    for step, gradient in enumerate(GRADIENTS):
        updates, state = optimizer.update({"a": gradient[0], "b": gradient[1]}, state, params)
        found.append([updates["a"], updates["b"]])
        state = with_rate(state, jnp.float32(0.05)) if step == 1 else state
    close(np.array(found), numpy_adam(lambda step: 0.1 if step <= 2 else 0.05, clip_norm=limit))


@pytest.mark.parametrize("momentum", [0.99, 0.5, 0.0])
def test_nesterov_against_pytorch(momentum):
    """Ten steps, of which some gradients are longer than the limit, over all parameters together, and others not; the
    rate is cut after the sixth. To 1e-6 of the largest entry."""
    torch = pytest.importorskip("torch", reason="tests/requirements.txt installs PyTorch for this comparison")
    made = config(wmt14_en_de, momentum=momentum, clip_norm=1.0)
    drawn = np.random.default_rng(1).normal(size=(10, 2, 3)) * np.array([1.0, 0.2] * 5)[:, None, None]
    lengths = np.sqrt((drawn**2).sum((1, 2)))
    assert (lengths > 1.0).sum() >= 3 and (lengths < 1.0).sum() >= 3
    start = np.random.default_rng(2).normal(size=(2, 3))

    theirs = [torch.nn.Parameter(torch.tensor(row)) for row in start]
    # PyTorch has Nesterov's form for a momentum alone
    options = {"momentum": momentum, "nesterov": True} if momentum else {}
    reference = torch.optim.SGD(theirs, lr=0.25, **options)
    optimizer = make_optimizer(made)
    params = {"a": jnp.asarray(start[0], jnp.float32), "b": jnp.asarray(start[1], jnp.float32)}
    state = optimizer.init(params)
    assert float(state.hyperparams["learning_rate"]) == 0.25
    for step, gradient in enumerate(drawn):
        if step == 6:
            reference.param_groups[0]["lr"] = 0.025
            state = with_rate(state, jnp.float32(0.025))
        for parameter, one in zip(theirs, gradient):
            parameter.grad = torch.tensor(one)
        torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        reference.step()
        updates, state = optimizer.update(dict(zip("ab", jnp.asarray(gradient, jnp.float32))), state, params)
        params = optax.apply_updates(params, updates)
        wanted = np.stack([parameter.detach().numpy() for parameter in theirs])
        np.testing.assert_allclose(list(params.values()), wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


def test_a_step_of_nesterov_by_hand():
    """From rest g (1 + μ) times the rate, then μ² of the first gradient and (1 + μ) of the second: μ v + g with
    v = μ g_1 + g_2. A gradient of length 5 counts as one of 0.1."""
    made = config(wmt14_en_de, momentum=0.5, learning_rate=2.0)
    optimizer, params = make_optimizer(made), {"a": jnp.zeros(2)}
    state = optimizer.init(params)
    first, state = optimizer.update({"a": jnp.array([0.06, 0.0])}, state, params)
    np.testing.assert_allclose(first["a"], [-2.0 * 1.5 * 0.06, 0.0], rtol=1e-6)
    second, state = optimizer.update({"a": jnp.array([3.0, 4.0])}, state, params)
    np.testing.assert_allclose(second["a"], [-2.0 * (0.25 * 0.06 + 1.5 * 0.06), -2.0 * 1.5 * 0.08], rtol=1e-6)


def test_learning_rates():
    """Section 4.2 of Gehring et al. 2017: 0.25, cut by an order of magnitude until it falls below 1e-4."""
    assert learning_rates(config(wmt14_en_de)) == pytest.approx((0.25, 0.025, 0.0025, 0.00025), rel=1e-12)
    assert learning_rates(config(wmt14_en_de, learning_rate=1.0, anneal=0.5, least_rate=0.25)) == (1.0, 0.5, 0.25)
    assert learning_rates(config(wmt14_en_de, learning_rate=1.0, anneal=0.5, least_rate=1.0)) == (1.0,)
    assert learning_rates(config()) == ()


def test_a_rate_of_each_replica():
    """The state of two replicas, mapped over; nothing else of it changes, and it is not changed in place."""
    optimizer, params = make_optimizer(config(wmt14_en_de)), {"a": jnp.ones((2, 3))}
    state = jax.vmap(optimizer.init)(params)
    _, state = jax.vmap(optimizer.update)(params, state, params)
    changed = with_rate(state, jnp.array([0.5, 0.125], jnp.float32))
    updates, _ = jax.vmap(optimizer.update)(params, changed, params)
    np.testing.assert_allclose(updates["a"][0], 4.0 * updates["a"][1], rtol=1e-6)
    np.testing.assert_array_equal(state.hyperparams["learning_rate"], [0.25, 0.25])
    back = with_rate(changed, state.hyperparams["learning_rate"])
    assert jax.tree.structure(back) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, back, state)


@pytest.mark.parametrize("name", ["adadelta", "adam", "nesterov"])
@pytest.mark.parametrize(("own", "of"), {"adadelta": mr, "adam": base, "nesterov": wmt14_en_de}.items())
def test_an_optimiser_whose_fields_a_configuration_lacks_is_refused(own, of, name):
    fields = {"adadelta": "rho", "adam": "beta1", "nesterov": "momentum"}
    made = config(of, name=name)
    if name == own:
        make_optimizer(made)
    else:
        wanted = rf"^optimizer\.name = {name} needs .*optimizer\.{fields[name]}\b.*; .* has those of {own}$"
        with pytest.raises(ConfigError, match=wanted):
            make_optimizer(made)


def test_schedules_by_steps_have_no_rates():
    assert learning_rates(config()) == learning_rates(config(mr)) == ()
    assert cuts_go_on(config(wmt14_en_de)) and learning_rates(config(wmt14_en_de))[:2] == (0.25, 0.025)


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


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        *(({"anneal": value}, "anneal") for value in (1.0, 1.5, -0.1, 0.99999999, *NO_NUMBERS)),
        *(({"least_rate": value}, "least_rate") for value in (0.0, -1.0, 2.0, *NO_NUMBERS)),
        ({"warmup": 4000}, "warmup"),
    ],
    ids=str,
)
def test_fields_that_cannot_be_for_adam_whose_rate_is_cut(changes, field):
    cut = {"warmup": 0, "anneal": 0.5, "least_rate": 1e-3}
    with pytest.raises(ConfigError, match=rf"optimizer\.{field}\b"):
        make_optimizer(config(**cut | changes))
    make_optimizer(config(**cut))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, value) for name in ("learning_rate", "clip_norm", "least_rate") for value in (0.0, -1.0, *NO_NUMBERS)),
        *(("momentum", value) for value in (1.0, -0.1, *NO_NUMBERS)),
        *(("anneal", value) for value in (0.0, 1.0, 1.5, -0.1, 0.99999999, *NO_NUMBERS)),  # 8e8 rates
        ("least_rate", 0.26),  # more than the learning rate
    ],
    ids=str,
)
def test_fields_that_cannot_be_for_nesterov(field, value):
    with pytest.raises(ConfigError, match=rf"optimizer\.{field}\b"):
        make_optimizer(config(wmt14_en_de, **{field: value}))
    make_optimizer(config(wmt14_en_de))

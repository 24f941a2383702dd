"""Masks, masked pooling and dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.layers import Dropout, keep_mask, length_mask, masked_max, masked_mean, masked_softmax

MASK = length_mask(jnp.array([3, 1, 0]), 4)


def test_length_mask():
    np.testing.assert_array_equal(MASK, [[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])


def test_masked_mean_and_max_ignore_what_is_outside():
    x = jnp.arange(24.0).reshape(3, 4, 2) - 100.0
    np.testing.assert_allclose(masked_mean(x, MASK), [[-98.0, -97.0], [-92.0, -91.0], [0.0, 0.0]])
    np.testing.assert_allclose(masked_max(x[:2], MASK[:2]), [[-96.0, -95.0], [-92.0, -91.0]])


@pytest.mark.parametrize("shift", [0.0, -1e4, 1e4])
def test_masked_softmax_gives_no_weight_outside_however_low_the_true_scores(shift):
    scores = jnp.array([[1.0, 2.0, 3.0, 50.0]] * 3) + shift
    weights = masked_softmax(scores, MASK)
    inside = np.exp([-2.0, -1.0, 0.0])
    np.testing.assert_allclose(weights[0], [*(inside / inside.sum()), 0.0], rtol=1e-5)
    np.testing.assert_array_equal(weights[1:], [[1, 0, 0, 0], [0, 0, 0, 0]])
    multiplied = jax.nn.softmax(scores * MASK)  # the mistake that this function is there to avoid
    if shift < 0:
        assert multiplied[0, 3] > 0.99


def test_masked_softmax_has_finite_gradients_on_empty_rows():
    gradient = jax.grad(lambda s: jnp.sum(masked_softmax(s, MASK) ** 2))(jnp.ones((3, 4)) * 1e4)
    assert np.all(np.isfinite(gradient)) and np.all(gradient[2] == 0)


KEY = jax.random.key(3)


def test_a_rows_dropout_mask_depends_on_its_number_alone():
    """So a batch draws the same masks whole, cut into parts, or with rows filled up behind it."""
    whole = keep_mask(KEY, jnp.arange(8), (5,), 0.5)
    np.testing.assert_array_equal(keep_mask(KEY, jnp.arange(4, 8), (5,), 0.5), whole[4:])
    np.testing.assert_array_equal(keep_mask(KEY, jnp.arange(12), (5,), 0.5)[:8], whole)
    assert not np.array_equal(whole[0], whole[1])


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_dropout_keeps_the_share_it_should(keep):
    mask = np.asarray(keep_mask(KEY, jnp.arange(200), (300,), keep))
    error = 5 * np.sqrt(keep * (1 - keep))
    assert abs(mask.mean() - keep) < error / np.sqrt(mask.size)
    assert np.abs(mask.mean(axis=0) - keep).max() < error / np.sqrt(200)
    assert np.abs(mask.mean(axis=1) - keep).max() < error / np.sqrt(300)
    neighbours = np.corrcoef(mask[:-1].ravel(), mask[1:].ravel())[0, 1]
    assert abs(neighbours) < 5 / np.sqrt(mask.size)


def test_the_two_forms_of_dropout():
    x = jnp.ones((40, 50))
    rngs = {"dropout": KEY}
    paper, inverted = Dropout(0.2), Dropout(0.2, inverted=True)
    np.testing.assert_array_equal(np.unique(paper.apply({}, x, jnp.arange(40), rngs=rngs)), [0.0, 1.0])
    np.testing.assert_array_equal(np.unique(inverted.apply({}, x, jnp.arange(40), rngs=rngs)), [0.0, 1.25])
    np.testing.assert_allclose(paper.apply({}, x, None), 0.8 * x)
    np.testing.assert_allclose(inverted.apply({}, x, None), x)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, jnp.arange(40)), x)

"""Masks, masked pooling and dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import layers
from research.layers import Dropout, hash_bits, keep_mask, length_mask, masked_max, masked_mean

MASK = length_mask(jnp.array([3, 1, 0]), 4)


def test_length_mask():
    np.testing.assert_array_equal(MASK, [[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])


def test_masked_mean_and_max_ignore_what_is_outside():
    x = jnp.arange(24.0).reshape(3, 4, 2) - 100.0
    np.testing.assert_allclose(masked_mean(x, MASK), [[-98.0, -97.0], [-92.0, -91.0], [0.0, 0.0]])
    np.testing.assert_allclose(masked_max(x[:2], MASK[:2]), [[-96.0, -95.0], [-92.0, -91.0]])


KEY = jax.random.key(3)


def test_a_rows_dropout_mask_depends_on_its_number_alone():
    """So a batch draws the same masks whole, cut into parts, or with rows filled up behind it."""
    whole = keep_mask(KEY, jnp.arange(8), (5,), 0.5)
    np.testing.assert_array_equal(keep_mask(KEY, jnp.arange(4, 8), (5,), 0.5), whole[4:])
    np.testing.assert_array_equal(keep_mask(KEY, jnp.arange(12), (5,), 0.5)[:8], whole)
    assert not np.array_equal(whole[0], whole[1])


def test_a_longer_batch_draws_the_same_masks_at_the_positions_that_it_had():
    """So replicas of which one has longer sentences train together as alone."""
    short, long = (keep_mask(KEY, jnp.arange(8), (size, 5), 0.5) for size in (12, 40))
    np.testing.assert_array_equal(long[:, :12], short)


def test_counters_differ(monkeypatch):
    """No two places of batches of 25,000 tokens have the same one."""
    seen = []
    monkeypatch.setattr(layers, "hash_bits", lambda words, counter: seen.append(counter) or counter)
    for rows, *shape in ((3125, 8, 64), (48, 512, 64), (25, 1000, 64), (4096, 300)):
        keep_mask(KEY, jnp.arange(rows), tuple(shape), 0.5)
        assert len(np.unique(seen.pop())) == rows * np.prod(shape)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_dropout_keeps_the_share_it_should(keep):
    mask = np.asarray(keep_mask(KEY, jnp.arange(200), (300,), keep))
    error = 5 * np.sqrt(keep * (1 - keep))
    assert abs(mask.mean() - keep) < error / np.sqrt(mask.size)
    assert np.abs(mask.mean(axis=0) - keep).max() < error / np.sqrt(200)
    assert np.abs(mask.mean(axis=1) - keep).max() < error / np.sqrt(300)
    neighbours = np.corrcoef(mask[:-1].ravel(), mask[1:].ravel())[0, 1]
    assert abs(neighbours) < 5 / np.sqrt(mask.size)


def test_masks_of_other_keys_steps_rows_and_places_are_not_correlated():
    """A counter-based hash is only as good as its mixing: neighbours in every direction, and keys a bit apart."""
    keys = [jax.random.fold_in(KEY, step) for step in range(4)]
    masks = np.stack([keep_mask(key, jnp.arange(64), (20, 50), 0.5) for key in keys]).astype(np.float64)
    bound = 5 / np.sqrt(masks[0].size)
    pairs = {
        "keys": (masks[:-1], masks[1:]),
        "rows": (masks[:, :-1], masks[:, 1:]),
        "positions": (masks[:, :, :-1], masks[:, :, 1:]),
        "features": (masks[..., :-1], masks[..., 1:]),
        "powers of two": (masks.reshape(4, -1)[:, :-1024], masks.reshape(4, -1)[:, 1024:]),
    }
    for name, (one, other) in pairs.items():
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < bound, name
    close = [jnp.array(words, jnp.uint32) for words in ((1, 2), (1, 3), (0, 2), (3, 2))]
    bits = [np.asarray(hash_bits(words, jnp.arange(1 << 16, dtype=jnp.uint32))) >> 31 for words in close]
    correlations = np.corrcoef(np.stack(bits).astype(np.float64)) - np.eye(4)
    assert np.abs(correlations).max() < 5 / np.sqrt(1 << 16)


def test_every_bit_of_the_hash_is_as_often_one_as_zero_and_flips_with_every_bit_of_the_counter():
    words = jax.random.bits(KEY, (2,), jnp.uint32)
    counter = jnp.arange(1 << 14, dtype=jnp.uint32)
    unpack = lambda x: np.unpackbits(np.asarray(x)[:, None].view(np.uint8), axis=1).astype(np.float64)
    bits = unpack(hash_bits(words, counter))
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(1 << 14)
    for bit in range(32):
        flipped = unpack(hash_bits(words, counter ^ jnp.uint32(1 << bit)))
        assert np.abs((flipped != bits).mean(axis=0) - 0.5).max() < 0.03, bit


def test_the_two_forms_of_dropout():
    x = jnp.ones((40, 50))
    rngs = {"dropout": KEY}
    paper, inverted = Dropout(0.2), Dropout(0.2, inverted=True)
    np.testing.assert_array_equal(np.unique(paper.apply({}, x, jnp.arange(40), rngs=rngs)), [0.0, 1.0])
    np.testing.assert_array_equal(np.unique(inverted.apply({}, x, jnp.arange(40), rngs=rngs)), [0.0, 1.25])
    np.testing.assert_allclose(paper.apply({}, x, None), 0.8 * x)
    np.testing.assert_allclose(inverted.apply({}, x, None), x)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, jnp.arange(40)), x)

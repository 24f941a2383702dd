"""Beam search against exhaustive search and greedy decoding, on models made of tables."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.decoding import Hypotheses, Search, beam_search, length_penalty
from research.errors import ConfigError
from research.text import BOS, EOS, PAD
from research.translation import outputs

V = 6  # two words, 4 and 5, beside the reserved ones


def table(seed: int, sharpness: float = 1.0) -> np.ndarray:
    """Logits of the next token after (position, the two tokens before)."""
    return sharpness * np.random.default_rng(seed).normal(size=(16, V, V, V)).astype(np.float32)


def step(logits):
    """The cache holds the token before the last, which makes the order of the beams matter."""

    def step(cache, tokens, position):
        return jnp.asarray(logits)[position, cache, tokens], tokens

    return step


def decode(logits, limit: int, batch: int = 1, prefix=None, **options):
    search = Search(**options)
    cache = jnp.full((batch, search.beam), BOS)
    run = jax.jit(lambda: beam_search(step(logits), cache, jnp.full(batch, limit), limit, search, prefix))
    found = run()
    return np.asarray(found.tokens), np.asarray(found.scores)


def log_probability(logits, sequence) -> float:
    logs = np.asarray(jax.nn.log_softmax(logits))
    history, total = [BOS, BOS], 0.0
    for position, token in enumerate(sequence):
        total += logs[position, history[-2], history[-1], token]
        history.append(token)
    return total


def all_sequences(limit: int, words=(1, 4, 5)):
    """Every output of up to `limit` tokens, the last of which is </s>."""
    for length in range(limit):
        for sequence in itertools.product(words, repeat=length):
            yield (*sequence, EOS)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_is_an_exhaustive_search(seed, alpha):
    logits, limit = table(seed), 4
    ranked = sorted(
        ((log_probability(logits, s) / length_penalty(len(s), alpha), s) for s in all_sequences(limit)), reverse=True
    )
    tokens, scores = decode(logits, limit, beam=64, best=5, alpha=alpha)
    for r in range(5):
        wanted_score, wanted = ranked[r]
        assert tuple(tokens[0, r, : len(wanted)]) == wanted and not tokens[0, r, len(wanted) :].any()
        assert scores[0, r] == pytest.approx(wanted_score, abs=1e-5)


def greedy(logits, limit: int) -> tuple:
    sequence, history = [], [BOS, BOS]
    while not sequence or sequence[-1] != EOS:
        row = np.array(logits[len(sequence), history[-2], history[-1]])
        row[[PAD, BOS]] = -np.inf
        token = EOS if len(sequence) == limit - 1 else int(row.argmax())
        sequence.append(token)
        history.append(token)
    return tuple(sequence)


@pytest.mark.parametrize("seed", range(8))
def test_a_beam_of_one_is_greedy(seed):
    logits = table(seed, 3.0)
    tokens, _ = decode(logits, 12, beam=1)
    wanted = greedy(logits, 12)
    assert tuple(tokens[0, 0, : len(wanted)]) == wanted and not tokens[0, 0, len(wanted) :].any()


def test_a_wider_beam_finds_nothing_worse_without_a_penalty():
    better = 0
    for seed in range(20):
        logits = table(seed)
        scores = [decode(logits, 8, beam=beam, alpha=0.0)[1][0, 0] for beam in (1, 64)]
        assert scores[1] >= scores[0] - 1e-5
        better += scores[1] > scores[0] + 1e-3
    assert better > 5


def test_a_forced_prefix_and_a_least_length():
    logits = table(1, 3.0)
    prefix = jnp.array([[5, 4, PAD], [4, PAD, PAD]])
    tokens, scores = decode(logits, 10, batch=2, prefix=prefix, beam=4, best=4)
    assert (tokens[0, :, :2] == [5, 4]).all() and (tokens[1, :, 0] == 4).all()
    best = tuple(tokens[0, 0, : list(tokens[0, 0]).index(EOS) + 1])
    assert scores[0, 0] == pytest.approx(log_probability(logits, best) / length_penalty(len(best), 0.6), abs=1e-4)
    tokens, _ = decode(logits, 10, beam=4, best=4, least=6)
    assert not (tokens[:, :, :6] == EOS).any() and (tokens[:, :, 6:] == EOS).any(axis=2).all()


def test_a_least_length_beyond_the_limit_ends_at_the_limit():
    logits = table(1, 3.0)
    tokens, scores = decode(logits, 3, beam=4, best=4, least=9)
    found = [tuple(row.tolist()) for row, score in zip(tokens[0], scores[0]) if score > -1e8]
    assert len(found) == 4 and all(row[-1] == EOS and EOS not in row[:-1] for row in found)


def test_hypotheses_that_were_not_found_are_no_outputs():
    """At a limit of one token there is a single output, </s>; three places of the beam stay empty."""
    tokens, scores = decode(table(1), 1, beam=4, best=4)
    assert (scores[0, 1:] < -1e8).all()
    (output,) = outputs(Hypotheses(tokens[0], scores[0]))
    assert output.ids == [] and output.score == pytest.approx(float(scores[0, 0]))


def test_sentences_of_a_batch_do_not_see_one_another():
    """Each has its own limit, and ends by itself."""
    logits = table(3)
    options = Search(beam=3, best=3)
    limits = jnp.array([2, 9, 5])
    cache = jnp.full((3, 3), BOS)
    together = beam_search(step(logits), cache, limits, 9, options)
    for row, limit in enumerate(limits):
        alone = beam_search(step(logits), cache[:1], limits[row : row + 1], 9, options)
        np.testing.assert_array_equal(together.tokens[row], alone.tokens[0])
        np.testing.assert_allclose(together.scores[row], alone.scores[0], rtol=1e-6)
        lengths = np.argmax(np.asarray(together.tokens[row]) == EOS, axis=1) + 1
        assert lengths.max() <= limit


def test_the_loop_ends_when_all_sentences_are_finished():
    """Not at the limit of 16: after the first </s>, which three beams of one step cannot beat."""
    logits, turns = table(0), []
    logits[2, :, :, EOS] += 100.0
    logits[:2, :, :, EOS] -= 100.0

    def counted(cache, tokens, position):
        jax.debug.callback(lambda position: turns.append(int(position)), position)
        return step(logits)(cache, tokens, position)

    found = jax.jit(lambda: beam_search(counted, jnp.full((2, 2), BOS), jnp.full(2, 16), 16, Search(beam=2, best=2)))()
    jax.effects_barrier()
    assert sorted(turns) == [0, 1, 2] and (np.asarray(found.tokens)[:, :, 2] == EOS).all()


def test_length_penalty():
    """Wu et al. 2016, equation 14: (5 + 7)^0.6 / 6^0.6 = 2^0.6."""
    assert length_penalty(7, 0.6) == pytest.approx(2**0.6)
    assert length_penalty(1, 0.6) == 1.0


@pytest.mark.parametrize("length", [1, 2, 7, 100])
def test_length_penalty_without_an_offset_is_the_length(length):
    """Gehring et al. 2017, section 4.3: log-likelihoods are divided by |y|, or by |y|^α."""
    assert length_penalty(length, 1.0, 0.0) == length
    assert length_penalty(length, 0.5, 0.0) == pytest.approx(length**0.5)


def test_the_best_output_is_that_of_the_best_mean_log_probability():
    """Of an exhaustive search, with and without division by the length: they differ."""
    logits, limit = table(2), 4
    ranked = lambda divide: max(
        (log_probability(logits, s) / (len(s) if divide else 1), s) for s in all_sequences(limit)
    )
    for divide in (True, False):
        wanted_score, wanted = ranked(divide)
        tokens, scores = decode(logits, limit, beam=64, alpha=float(divide), offset=0.0)
        assert tuple(tokens[0, 0, : len(wanted)]) == wanted and scores[0, 0] == pytest.approx(wanted_score, abs=1e-5)
    assert ranked(True)[1] != ranked(False)[1]


@pytest.mark.parametrize(
    "options",
    [
        {"beam": 0},
        {"beam": 2, "best": 3},
        {"best": 0},
        {"extra": -1},
        {"least": -1},
        *({name: value} for name in ("alpha", "offset") for value in (-0.1, float("nan"), float("inf"))),
    ],
    ids=str,
)
def test_searches_that_cannot_be(options):
    with pytest.raises(ConfigError, match="decode: "):
        Search(**options)

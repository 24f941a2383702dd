"""Batches: every example once, in an order that only the seed and the epoch decide."""

import itertools
import time

import numpy as np
import pytest

from research.batches import Slots, Table, align, check_buckets, fill, gather, plan, prefetch
from research.errors import ConfigError

BUCKETS = (4, 8, 16)


def lengths_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 20, count).astype(np.int32)


def real(slots: Slots) -> list[int]:
    return slots.indices[slots.weights > 0].tolist()


@pytest.mark.parametrize("count", [1, 7, 8, 9, 103])
@pytest.mark.parametrize("seed", [None, (0, 0)])
def test_an_epoch_holds_every_chosen_example_once(count, seed):
    lengths, chosen = lengths_of(200), np.arange(50, 50 + count)
    slots = plan(lengths, chosen, buckets=BUCKETS, batch_size=8, seed=seed)
    assert sorted(itertools.chain.from_iterable(map(real, slots))) == chosen.tolist()
    assert len(slots) == -(-count // 8)  # only one batch is not full
    for s in slots:
        assert s.indices.shape == s.weights.shape == (8,)
        assert s.length in BUCKETS and min(lengths[real(s)].max(), 16) <= s.length
        assert set(s.weights) <= {0.0, 1.0}


def test_the_order_is_a_function_of_the_seed_and_the_epoch():
    make = lambda seed: [real(s) for s in plan(lengths_of(90), np.arange(90), buckets=BUCKETS, batch_size=8, seed=seed)]
    assert make((3, 1)) == make((3, 1))
    assert make((3, 1)) != make((3, 2)) and make((3, 1)) != make((4, 1))


def test_short_examples_are_not_padded_to_the_longest():
    slots = plan(np.array([2] * 16 + [16] * 8), np.arange(24), buckets=BUCKETS, batch_size=8, seed=(0,))
    assert sorted(s.length for s in slots) == [4, 4, 16]


def test_tables_cut_and_gather():
    table = Table.build({"text": [[5, 6, 7], [], [8] * 9]}, [1, 0, 2], 4)
    assert table.tokens["text"].tolist() == [[5, 6, 7, 0], [0] * 4, [8] * 4]
    assert table.longest().tolist() == [3, 0, 4]
    batch = gather(table, np.array([2, 0]), np.ones(2), np.arange(2), 3)
    assert batch.tokens["text"].tolist() == [[8] * 3, [5, 6, 7]]
    assert batch.labels.tolist() == [2, 1]


def test_filling_up_adds_rows_without_weight():
    slots = fill(Slots(np.array([4, 5]), np.ones(2, np.float32), 4), 6)
    assert slots.indices.tolist() == [4, 5, 0, 0, 0, 0] and slots.weights.tolist() == [1, 1, 0, 0, 0, 0]


def test_aligned_replicas_share_a_length_and_idle_without_weight():
    short = Slots(np.array([1]), np.ones(1, np.float32), 4)
    long = Slots(np.array([2]), np.ones(1, np.float32), 8)
    places = align([[short, short], [long]])
    assert [[s.length for s in here] for here in places] == [[8, 8], [4, 4]]
    assert places[1][1].weights.tolist() == [0.0]


@pytest.mark.parametrize("buckets", [(), (0, 4), (8, 4), (4, 4)])
def test_bad_buckets_are_refused(buckets):
    with pytest.raises(ConfigError, match=r"data\.buckets"):
        check_buckets(buckets)


def test_prefetching_keeps_order_and_raises_what_loading_raises():
    assert list(prefetch(iter(range(20)), lambda x: x * x)) == [x * x for x in range(20)]

    def fail(x):
        if x == 3:
            raise ValueError("at three")
        return x

    found = []
    with pytest.raises(ValueError, match="at three"):
        found.extend(prefetch(iter(range(20)), fail))
    assert found == [] or found == [0, 1, 2]


def test_prefetching_stops_with_its_reader():
    made = []
    reader = prefetch(itertools.count(), lambda x: made.append(x) or x)
    assert [next(reader), next(reader)] == [0, 1]
    reader.close()
    time.sleep(0.4)
    count = len(made)
    time.sleep(0.3)
    assert len(made) == count <= 8

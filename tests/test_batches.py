"""Batches: every example once, in an order that only the seed and the epoch decide."""

import itertools
import time

import numpy as np
import pytest

from research.batches import Slots, Table, align, bucket_numbers, fill, gather, make_buckets, plan, prefetch
from research.errors import ConfigError
from research.fit import Settings

BUCKETS = make_buckets((4, 8, 16), ("text",))
FOUR, EIGHT, SIXTEEN = BUCKETS


def lengths_of(count: int) -> dict[str, np.ndarray]:
    return {"text": np.random.default_rng(0).integers(0, 20, count).astype(np.int32)}


def real(slots: Slots) -> list[int]:
    return slots.indices[slots.weights > 0].tolist()


@pytest.mark.parametrize("count", [1, 7, 8, 9, 103])
@pytest.mark.parametrize("seed", [None, (0, 0)])
def test_an_epoch_holds_every_chosen_example_once(count, seed):
    lengths, chosen = lengths_of(200), np.arange(50, 50 + count)
    slots = plan(lengths, chosen, buckets=BUCKETS, rows=8, seed=seed)
    assert sorted(itertools.chain.from_iterable(map(real, slots))) == chosen.tolist()
    assert len(slots) == -(-count // 8)  # only one batch is not full
    for s in slots:
        assert s.indices.shape == s.weights.shape == (8,)
        assert s.bucket in BUCKETS and min(lengths["text"][real(s)].max(), 16) <= s.bucket[0][1]
        assert set(s.weights) <= {0.0, 1.0}


def test_the_order_is_a_function_of_the_seed_and_the_epoch():
    make = lambda seed: [real(s) for s in plan(lengths_of(90), np.arange(90), buckets=BUCKETS, rows=8, seed=seed)]
    assert make((3, 1)) == make((3, 1))
    assert make((3, 1)) != make((3, 2)) and make((3, 1)) != make((4, 1))


def test_short_examples_are_not_padded_to_the_longest():
    lengths = {"text": np.array([2] * 16 + [16] * 8)}
    slots = plan(lengths, np.arange(24), buckets=BUCKETS, rows=8, seed=(0,))
    assert sorted(s.bucket for s in slots) == [FOUR, FOUR, SIXTEEN]


def test_batches_of_a_number_of_tokens():
    """Pairs take the first bucket that holds both sides; shorter buckets have more rows; shapes are few."""
    random = np.random.default_rng(1)
    lengths = {"source": random.integers(1, 17, 300), "target": random.integers(1, 9, 300)}
    buckets = make_buckets(((4, 2), (8, 4), (16, 8)), ("target", "source"))
    assert buckets[0] == (("source", 4), ("target", 2))
    rows = Settings(epochs=1, batch_size=7, batch_tokens=64).rows
    assert [rows(bucket) for bucket in buckets] == [16, 8, 4], "64 tokens with the padding of the longer side"
    counts = set()
    for epoch in range(5):
        slots = plan(lengths, np.arange(300), buckets=buckets, rows=rows, seed=(0, epoch))
        assert sorted(itertools.chain.from_iterable(map(real, slots))) == list(range(300))
        for s in slots:
            assert len(s.indices) == rows(s.bucket)
            assert all(lengths[role][real(s)].max() <= size for role, size in s.bucket)
        counts.add(len(slots))
    assert len(counts) == 1


def test_bucket_numbers():
    buckets = make_buckets(((4, 2), (8, 4)), ("source", "target"))
    lengths = {"source": np.array([4, 4, 5, 9, 1]), "target": np.array([2, 3, 1, 1, 5])}
    assert bucket_numbers(lengths, buckets).tolist() == [0, 1, 1, 2, 2]


def test_tables_cut_and_gather():
    table = Table.build({"text": [[5, 6, 7], [], [8] * 9]}, [1, 0, 2], FOUR)
    assert table.tokens["text"].tolist() == [[5, 6, 7, 0], [0] * 4, [8] * 4]
    assert table.lengths["text"].tolist() == [3, 0, 4]
    batch = gather(table, np.array([2, 0]), np.ones(2), np.arange(2), (("text", 3),))
    assert batch.tokens["text"].tolist() == [[8] * 3, [5, 6, 7]]
    assert batch.labels.tolist() == [2, 1]


def test_filling_up_adds_rows_without_weight():
    slots = fill(Slots(np.array([4, 5]), np.ones(2, np.float32), FOUR), 6)
    assert slots.indices.tolist() == [4, 5, 0, 0, 0, 0] and slots.weights.tolist() == [1, 1, 0, 0, 0, 0]


def test_aligned_replicas_share_a_length_and_idle_without_weight():
    short = Slots(np.array([1, 3]), np.ones(2, np.float32), FOUR)
    long = Slots(np.array([2]), np.ones(1, np.float32), EIGHT)
    places = align([[short, short], [long]])
    assert [[s.bucket for s in here] for here in places] == [[EIGHT, EIGHT], [FOUR, FOUR]]
    assert places[0][1].weights.tolist() == [1.0, 0.0]
    assert places[1][1].weights.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("buckets", [(), (0, 4), (8, 4), (4, 4), ((4, 4, 4),), ((4, 8), (8, 4)), ("a",)], ids=str)
def test_bad_buckets_are_refused(buckets):
    with pytest.raises(ConfigError, match=r"data\.buckets"):
        make_buckets(buckets, ("source", "target"))


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

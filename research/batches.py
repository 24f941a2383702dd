"""Examples to padded batches of a few fixed lengths.

The order of an epoch is a function of (seed, epoch) alone, so batch `t` depends on the seed and `t`, never on the
number of hosts or devices. Every example of the split stands in exactly one batch of the epoch; rows that fill up the
last batch have weight zero.
"""

import dataclasses
import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence

import flax.struct
import numpy as np
from jaxtyping import Array, Float, Int

from research.errors import ConfigError

Lengths = tuple[tuple[str, int], ...]
"""A bucket: for each text column the length that its texts are padded to. Hashable, since it shapes compiled steps."""


@flax.struct.dataclass
class Batch:
    """One step's examples, on the device. B rows, L positions (of each text column its own).

    tokens, lengths: ids and true lengths of each text column; ids from the true length on mean nothing.
    segments: of packed rows, which sentence a position belongs to, from 1 on, 0 in the padding; else empty.
    labels: class ids (zeros where the task has none). weights: 1, or 0 for rows that fill up the batch.
    rows: places in the whole batch, which key the dropout masks."""

    tokens: dict[str, Int[Array, "B L"]]
    lengths: dict[str, Int[Array, " B"]]
    segments: dict[str, Int[Array, "B L"]]
    labels: Int[Array, " B"]
    weights: Float[Array, " B"]
    rows: Int[Array, " B"]


@flax.struct.dataclass
class Table:
    """All examples of a corpus, padded to the longest bucket: what batches are gathered from. N examples."""

    tokens: dict[str, Int[Array, "N L"]]
    lengths: dict[str, Int[Array, " N"]]
    segments: dict[str, Int[Array, "N L"]]
    labels: Int[Array, " N"]

    @classmethod
    def build(
        cls, texts: dict[str, Sequence[Sequence[int]]], labels: Sequence[int], bucket: Lengths, segments=None
    ) -> "Table":
        """From lists of ids per text column (and of segment numbers, as long), cut to `bucket`, the longest."""
        lengths = {
            name: np.fromiter((min(len(row), size) for row in texts[name]), np.int32, len(texts[name]))
            for name, size in bucket
        }

        def padded(name: str, rows: Sequence[Sequence[int]], size: int) -> np.ndarray:
            array = np.zeros((len(rows), size), np.int32)
            for index, row in enumerate(rows):
                array[index, : lengths[name][index]] = row[:size]
            return array

        tokens = {name: padded(name, texts[name], size) for name, size in bucket}
        segments = {name: padded(name, segments[name], size) for name, size in bucket} if segments else {}
        return cls(tokens, lengths, segments, np.asarray(labels, np.int32))


@dataclasses.dataclass(frozen=True)
class Slots:
    """A batch before its examples are looked up: which ones, their weights, and the bucket they are padded to."""

    indices: np.ndarray
    weights: np.ndarray
    bucket: Lengths


def gather(
    table: Table, indices: Int[Array, " B"], weights: Float[Array, " B"], rows: Int[Array, " B"], bucket: Lengths
):
    """The batch of the examples at `indices`, padded to `bucket`; on the host with NumPy tables, inside a compiled step
    with tables on the device."""
    cut = lambda columns: {name: columns[name][indices, :size] for name, size in bucket if name in columns}
    return Batch(
        tokens=cut(table.tokens),
        lengths={name: n[indices] for name, n in table.lengths.items()},
        segments=cut(table.segments),
        labels=table.labels[indices],
        weights=weights,
        rows=rows,
    )


ROLES = ("text", "premise", "hypothesis", "source", "target")
"""The text columns of all tasks, in the order in which an entry of `data.buckets` has their lengths."""


def make_buckets(lengths: Sequence[int | Sequence[int]], columns: Sequence[str]) -> tuple[Lengths, ...]:
    """`data.buckets` as Lengths: a number holds for every text column, several are of one column each."""
    columns = sorted(columns, key=ROLES.index)
    each = f"; an entry may also be {len(columns)} lengths, of {', '.join(columns)}" if len(columns) > 1 else ""
    wrong = ConfigError(f"data.buckets must be growing lengths of at least 1, got {tuple(lengths)}{each}")
    buckets = []
    for entry in lengths:
        sizes = tuple(entry) if isinstance(entry, Sequence) else (entry,) * len(columns)
        if len(sizes) != len(columns) or not all(isinstance(size, int) and size >= 1 for size in sizes):
            raise wrong
        buckets.append(tuple(zip(columns, sizes)))
    grows = all(a[1] <= b[1] for one, other in itertools.pairwise(buckets) for a, b in zip(one, other))
    if not buckets or not grows or len(set(buckets)) != len(buckets):
        raise wrong
    return tuple(buckets)


def bucket_numbers(lengths: dict[str, np.ndarray], buckets: Sequence[Lengths]) -> np.ndarray:
    """The first bucket that holds each example whole; the number of buckets where none does."""
    fits = [np.searchsorted([dict(bucket)[name] for bucket in buckets], n) for name, n in lengths.items()]
    return np.max(np.stack(fits), axis=0)


def longer(buckets: Sequence[Lengths], lengths: dict[str, np.ndarray]) -> tuple[Lengths, ...]:
    """`buckets`, and the last one doubled as often as it takes to hold every example whole."""
    buckets = tuple(buckets)
    while np.any(bucket_numbers(lengths, buckets) == len(buckets)):
        buckets = (*buckets, tuple((role, 2 * size) for role, size in buckets[-1]))
    return buckets


def plan(
    lengths: dict[str, np.ndarray],
    chosen: np.ndarray,
    *,
    buckets: Sequence[Lengths],
    rows: int | Callable[[Lengths], int],
    seed: Sequence[int] | None,
) -> list[Slots]:
    """The batches of one pass over the examples `chosen`, each of one bucket.

    lengths: of all examples, a column each. rows: of a batch, of which bucket. seed: shuffles examples and batches;
    None keeps the order within a bucket. What is left over in a bucket joins the next longer one, so only one batch is
    not full. Their number does not depend on the seed."""
    random = None if seed is None else np.random.default_rng(seed)
    chosen = chosen if random is None else random.permutation(chosen)
    number_of = bucket_numbers({name: n[chosen] for name, n in lengths.items()}, buckets)
    number_of = np.minimum(number_of, len(buckets) - 1)
    slots, left = [], np.zeros(0, chosen.dtype)
    for number, bucket in enumerate(buckets):
        here = np.concatenate([left, chosen[number_of == number]])
        size = rows if isinstance(rows, int) else rows(bucket)
        full = len(here) // size * size
        slots += [Slots(part, np.ones(size, np.float32), bucket) for part in here[:full].reshape(-1, size)]
        left = here[full:]
    if len(left):
        last = int(number_of[np.isin(chosen, left)].max())
        size = rows if isinstance(rows, int) else rows(buckets[last])
        slots.append(fill(Slots(left, np.ones(len(left), np.float32), buckets[last]), size))
    if random is not None:
        slots = [slots[i] for i in random.permutation(len(slots))]
    return slots


def align(plans: Sequence[Sequence[Slots]]) -> list[list[Slots]]:
    """One list of batches a replica -> for each place one batch a replica, of the same bucket and number of rows; a
    replica whose list has ended gets a batch without weight."""
    places = []
    for here in itertools.zip_longest(*plans):
        there = [slot for slot in here if slot is not None]
        bucket, size = max(slot.bucket for slot in there), max(len(slot.indices) for slot in there)
        idle = Slots(there[0].indices[:0], there[0].weights[:0], bucket)
        places.append([fill(dataclasses.replace(slot or idle, bucket=bucket), size) for slot in here])
    return places


def fill(slots: Slots, size: int) -> Slots:
    """`slots` with rows of weight zero appended until there are `size` (a multiple of the number of devices, say)."""
    missing = size - len(slots.indices)
    pad = lambda x: np.concatenate([x, np.zeros(missing, x.dtype)])
    return slots if missing == 0 else Slots(pad(slots.indices), pad(slots.weights), slots.bucket)


def prefetch(items: Iterator, load: Callable, depth: int = 2) -> Iterator:
    """`load(item)` for each item, made by a thread up to `depth` items ahead; an error in `load` is raised here."""
    ready: queue.Queue = queue.Queue(depth)
    stop = threading.Event()

    def put(entry) -> bool:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work():
        try:
            for item in items:
                if not put((True, load(item))):
                    return
            put((False, None))
        except BaseException as error:
            put((False, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            more, value = ready.get()
            if more:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stop.set()

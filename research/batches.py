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


@flax.struct.dataclass
class Batch:
    """One step's examples, on the device. B rows, L positions.

    tokens, lengths: ids and true lengths of each text column; ids from the true length on mean nothing.
    labels: class ids (zeros where the task has none). weights: 1, or 0 for rows that fill up the batch.
    rows: places in the whole batch, which key the dropout masks."""

    tokens: dict[str, Int[Array, "B L"]]
    lengths: dict[str, Int[Array, " B"]]
    labels: Int[Array, " B"]
    weights: Float[Array, " B"]
    rows: Int[Array, " B"]


@flax.struct.dataclass
class Table:
    """All examples of a corpus, padded to the longest bucket: what batches are gathered from. N examples."""

    tokens: dict[str, Int[Array, "N L"]]
    lengths: dict[str, Int[Array, " N"]]
    labels: Int[Array, " N"]

    @classmethod
    def build(cls, texts: dict[str, Sequence[Sequence[int]]], labels: Sequence[int], size: int) -> "Table":
        """From lists of ids per text column; ids beyond `size` are cut."""
        tokens, lengths = {}, {}
        for name, rows in texts.items():
            lengths[name] = np.fromiter((min(len(row), size) for row in rows), np.int32, len(rows))
            tokens[name] = np.zeros((len(rows), size), np.int32)
            for index, row in enumerate(rows):
                tokens[name][index, : lengths[name][index]] = row[:size]
        return cls(tokens, lengths, np.asarray(labels, np.int32))

    def longest(self) -> np.ndarray:
        """Each example's longest text, in tokens."""
        return np.max(np.stack(list(self.lengths.values())), axis=0)


@dataclasses.dataclass(frozen=True)
class Slots:
    """A batch before its examples are looked up: which ones, their weights, and the length they are padded to."""

    indices: np.ndarray
    weights: np.ndarray
    length: int


def gather(table: Table, indices: Int[Array, " B"], weights: Float[Array, " B"], rows: Int[Array, " B"], length: int):
    """The batch of the examples at `indices`, padded to `length`; on the host with NumPy tables, inside a compiled
    step with tables on the device."""
    return Batch(
        tokens={name: x[indices, :length] for name, x in table.tokens.items()},
        lengths={name: n[indices] for name, n in table.lengths.items()},
        labels=table.labels[indices],
        weights=weights,
        rows=rows,
    )


def check_buckets(buckets: Sequence[int]) -> None:
    if not buckets or any(b < 1 for b in buckets) or list(buckets) != sorted(set(buckets)):
        raise ConfigError(f"data.buckets must be growing lengths of at least 1, got {tuple(buckets)}")


def plan(
    lengths: np.ndarray, chosen: np.ndarray, *, buckets: Sequence[int], batch_size: int, seed: Sequence[int] | None
) -> list[Slots]:
    """The batches of one pass over the examples `chosen`, each of one bucket's length.

    lengths: of all examples. seed: shuffles examples and batches; None keeps the order within a bucket. What is left
    over in a bucket joins the next longer one, so only one batch is not full."""
    random = None if seed is None else np.random.default_rng(seed)
    chosen = chosen if random is None else random.permutation(chosen)
    bucket_of = np.searchsorted(buckets, np.minimum(lengths[chosen], buckets[-1]))
    slots, left = [], np.zeros(0, chosen.dtype)
    for number, length in enumerate(buckets):
        here = np.concatenate([left, chosen[bucket_of == number]])
        full = len(here) // batch_size * batch_size
        slots += [Slots(part, np.ones(batch_size, np.float32), length) for part in here[:full].reshape(-1, batch_size)]
        left = here[full:]
    if len(left):
        indices, weights = np.zeros(batch_size, chosen.dtype), np.zeros(batch_size, np.float32)
        indices[: len(left)], weights[: len(left)] = left, 1.0
        longest = int(max(1, lengths[left].max()))
        slots.append(Slots(indices, weights, next(b for b in buckets if b >= min(longest, buckets[-1]))))
    if random is not None:
        slots = [slots[i] for i in random.permutation(len(slots))]
    return slots


def align(plans: Sequence[Sequence[Slots]]) -> list[list[Slots]]:
    """One list of batches a replica -> for each place one batch a replica, padded to the same length; a replica whose
    list has ended gets a batch without weight."""
    places = []
    for here in itertools.zip_longest(*plans):
        length = max(slot.length for slot in here if slot is not None)
        some = next(slot for slot in here if slot is not None)
        idle = Slots(np.zeros_like(some.indices), np.zeros_like(some.weights), length)
        places.append([idle if slot is None else dataclasses.replace(slot, length=length) for slot in here])
    return places


def fill(slots: Slots, size: int) -> Slots:
    """`slots` with rows of weight zero appended until there are `size` (a multiple of the number of devices, say)."""
    missing = size - len(slots.indices)
    pad = lambda x: np.concatenate([x, np.zeros(missing, x.dtype)])
    return slots if missing == 0 else Slots(pad(slots.indices), pad(slots.weights), slots.length)


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

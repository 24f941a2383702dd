"""ESIM's training step with the paper's sizes (section 4): word vectors and states of 300, batch 32, length 32,
dropout, Adam over everything.

Kinds of work: `full`, every position a word, and `sentences`, lengths from 8 to 32, padded to 32 all the same, both
against PyTorch with packed sequences, its form that is right under padding; `full unpacked` against PyTorch with one
LSTM a direction over padded sequences, the second over texts that are turned about within their lengths, which is
right under padding, too.
"""

import sys

import numpy as np

from experiments import cli
from experiments.benchmarks.worker import main

V, SIZE, L, B, N, CLASSES = 5000, 300, 32, 32, 2048, 3
KINDS = dict.fromkeys(("full", "sentences", "full unpacked"), (("jax", "torch eager", "torch compiled"), 5))
"""Kind of work -> who does it, ours first, and steps a turn unless --steps says otherwise."""

ROLES = ("premise", "hypothesis")


def examples(kind: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Token ids and lengths of each role, and labels, of N generated pairs."""
    random = np.random.default_rng(0)
    tokens, lengths = {}, {}
    for role in ROLES:
        lengths[role] = random.integers(8, L + 1, N, np.int32) if kind == "sentences" else np.full(N, L, np.int32)
        ids = random.integers(1, V, (N, L), np.int32)
        tokens[role] = np.where(np.arange(L) < lengths[role][:, None], ids, 0)
    return tokens, lengths, random.integers(0, CLASSES, N, np.int32)


def batches():
    """Which examples each step takes, without end."""
    random = np.random.default_rng(1)
    while True:
        yield from random.permutation(N).reshape(-1, B)


def jax_worker(kind: str):
    """Our own step as a run makes it."""
    cli.set_up_jax()
    import jax

    from configs.esim import snli
    from experiments.steps import Steps
    from research.batches import Table
    from research.optimizers import make_optimizer
    from research.tasks import make_task

    config = snli.get_config()
    config.data.buckets = (L,)
    task = make_task(config, sizes=dict.fromkeys(ROLES, V), num_classes=CLASSES)
    tokens, lengths, labels = examples(kind)
    bucket = tuple((role, L) for role in sorted(ROLES))
    step = Steps(task, make_optimizer(config.optimizer), Table(tokens, lengths, {}, labels), bucket)
    order = batches()

    def run(steps: int) -> None:
        for _ in range(steps):
            step(next(order))
        jax.block_until_ready(step.state)

    return run


def torch_model(packed: bool):
    """The same model in PyTorch, premises and hypotheses on the batch axis as well."""
    import torch
    from torch import nn
    from torch.nn.utils import rnn

    class BiLSTM(nn.Module):
        def __init__(self, size: int):
            super().__init__()
            if packed:
                self.both = nn.LSTM(size, SIZE, batch_first=True, bidirectional=True)
            else:
                self.one, self.other = (nn.LSTM(size, SIZE, batch_first=True) for _ in range(2))

        def forward(self, x, lengths, turned):
            if packed:
                x = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
                return rnn.pad_packed_sequence(self.both(x)[0], batch_first=True, total_length=L)[0]
            turn = lambda x: x.gather(1, turned[..., None].expand(-1, -1, x.shape[-1]))
            return torch.cat([self.one(x)[0], turn(self.other(turn(x))[0])], -1)

    class ESIM(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(V, SIZE)
            self.encoding, self.composition = BiLSTM(SIZE), BiLSTM(SIZE)
            self.projection = nn.Linear(8 * SIZE, SIZE)
            self.hidden, self.classify = nn.Linear(8 * SIZE, SIZE), nn.Linear(SIZE, CLASSES)
            self.dropout = nn.Dropout(0.5)

        def forward(self, tokens, lengths):
            place = torch.arange(L)
            mask = place < lengths[:, None]
            turned = torch.where(mask, lengths[:, None] - 1 - place, place)
            texts = self.encoding(self.dropout(self.words(tokens)), lengths, turned)
            (a, b), (mask_a, mask_b) = texts.chunk(2), mask.chunk(2)
            e = a @ b.transpose(1, 2)
            to_a = e.masked_fill(~mask_b[:, None], -torch.inf).softmax(-1) @ b
            to_b = e.transpose(1, 2).masked_fill(~mask_a[:, None], -torch.inf).softmax(-1) @ a
            aligned = torch.cat([to_a, to_b])
            m = torch.cat([texts, aligned, texts - aligned, texts * aligned], -1)
            v = self.composition(self.dropout(torch.relu(self.projection(m))), lengths, turned)
            average = (v * mask[..., None]).sum(1) / lengths[:, None]
            v = torch.cat([average, v.masked_fill(~mask[..., None], -torch.inf).amax(1)], -1)
            v = torch.cat(v.chunk(2), -1)
            return self.classify(self.dropout(torch.tanh(self.hidden(self.dropout(v)))))

    return ESIM()


def torch_worker(kind: str, compiled: bool):
    """The same step in PyTorch; compiled: forward and backward pass and the optimiser's step, each."""
    import torch

    model = torch_model(packed=not kind.endswith("unpacked"))
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-4, foreach=True)
    tokens, lengths, labels = examples(kind)
    tokens, lengths = ({role: torch.from_numpy(x[role]).long() for role in ROLES} for x in (tokens, lengths))
    labels, order = torch.from_numpy(labels).long(), batches()
    network = torch.compile(model) if compiled else model
    update = torch.compile(optimizer.step) if compiled else optimizer.step

    def run(steps: int) -> None:
        for _ in range(steps):
            chosen = torch.from_numpy(next(order))
            stacked = (torch.cat([x[role][chosen] for role in ROLES]) for x in (tokens, lengths))
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(network(*stacked), labels[chosen]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0, foreach=True)
            update()

    return run


if __name__ == "__main__":
    main(*sys.argv[1:], jax_worker, torch_worker)

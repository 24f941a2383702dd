"""Kim's training step (section 3.1): batch 50, length 56, |V| = 18,767, 300 dimensions, windows of 3, 4 and 5 words
with 100 feature maps each, dropout, Adadelta over everything with the word vectors, norm constraint.

Two kinds of batches: `full`, every position a word, words uniform over the vocabulary (the worst case for an update of
the touched rows), and `sentences`, lengths like those of MR and words by Zipf's law, padded to 56 all the same.
"""

import sys

import numpy as np

from experiments import cli
from experiments.benchmarks.worker import main

V, K, L, B, N, CLASSES = 18767, 300, 56, 50, 2000, 2
KERNELS, FILTERS = (3, 4, 5), 100
KINDS = dict.fromkeys(("full", "sentences"), (("jax", "torch eager", "torch compiled"), 20))
"""Kind of work -> who does it, ours first, and steps a turn unless --steps says otherwise."""


def examples(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids, lengths and labels of N generated sentences."""
    random = np.random.default_rng(0)
    if kind == "full":
        lengths, tokens = np.full(N, L), random.integers(1, V, (N, L))
    else:
        chance = 1.0 / np.arange(1, V)
        lengths = np.clip(random.normal(20, 9, N).round(), 1, L).astype(int)  # Kim 2014, table 1: 20 on average
        tokens = random.choice(V - 1, (N, L), p=chance / chance.sum()) + 1
    tokens = np.where(np.arange(L) < lengths[:, None], tokens, 0)
    return tokens.astype(np.int32), lengths.astype(np.int32), random.integers(0, CLASSES, N).astype(np.int32)


def batches():
    """Which examples each step takes, without end."""
    random = np.random.default_rng(1)
    while True:
        order = random.permutation(N)
        yield from order[: N // B * B].reshape(-1, B)


def jax_worker(kind: str):
    """Our own step as a run makes it."""
    cli.set_up_jax()
    import jax

    from configs.textcnn import mr
    from experiments.steps import Steps
    from research.batches import Table
    from research.optimizers import make_optimizer, row_decay
    from research.tasks import make_task

    config = mr.get_config()
    task = make_task(config, sizes={"text": V}, num_classes=CLASSES)
    optimizer = make_optimizer(config.optimizer)
    tokens, lengths, labels = examples(kind)
    table, bucket = Table({"text": tokens}, {"text": lengths}, {}, labels), (("text", L),)
    step, order = Steps(task, optimizer, table, bucket, row_decay=row_decay(config.optimizer)), batches()

    def run(steps: int) -> None:
        for _ in range(steps):
            step(next(order))
        jax.block_until_ready(step.state)

    return run


def torch_model():
    """The same model in PyTorch: pads as ids, max before ReLU."""
    import torch
    from torch import nn

    class TextCNN(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(V, K, padding_idx=0)
            self.convolutions = nn.ModuleList(nn.Conv1d(K, FILTERS, h) for h in KERNELS)
            self.dropout = nn.Dropout(0.5)
            self.softmax = nn.Linear(FILTERS * len(KERNELS), CLASSES)

        def forward(self, tokens, lengths):
            pad = max(KERNELS) - 1
            x = self.embedding(nn.functional.pad(tokens, (pad, pad))).transpose(1, 2)
            z = []
            for h, convolution in zip(KERNELS, self.convolutions):
                c = convolution(x)
                outside = torch.arange(c.shape[2]) >= (lengths + 2 * pad - h + 1)[:, None]
                z.append(torch.relu(c.masked_fill(outside[:, None], -torch.inf).amax(2)))
            return self.softmax(self.dropout(torch.cat(z, 1)))

    return TextCNN()


def torch_worker(kind: str, compiled: bool):
    """The same step in PyTorch: Adadelta over lists of tensors, fastest of what we tried; compiled: forward and
    backward pass and the optimiser's step, each."""
    import torch

    model = torch_model()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0, rho=0.95, eps=1e-6, foreach=True)
    tokens, lengths, labels = (torch.from_numpy(x).long() for x in examples(kind))
    order = batches()

    def update():
        optimizer.step()
        with torch.no_grad():
            weight = model.softmax.weight
            weight.mul_(3.0 / weight.norm(dim=1, keepdim=True).clamp(min=3.0))

    network = torch.compile(model) if compiled else model
    update = torch.compile(update) if compiled else update

    def run(steps: int) -> None:
        for _ in range(steps):
            chosen = torch.from_numpy(next(order))
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(network(tokens[chosen], lengths[chosen]), labels[chosen]).backward()
            update()

    return run


if __name__ == "__main__":
    main(*sys.argv[1:], jax_worker, torch_worker)

"""Training and decoding of a small ConvS2S: 4 + 3 layers of 256 channels and width 3, 8,000 entries on either side.

`train`: a step on 128 pairs of 24 tokens on either side, with the masks that padding would need, dropout 0.1, weight
normalisation, gradients renormalised to 0.1, Nesterov's method, in float32. `greedy`: 64 sentences of 24 tokens, 64
steps each, whose end is held back; one step is the batch. `jax recomputing` decodes without a cache, over the prefix
rounded up to 8, 16, 24, ... positions.
"""

import math
import sys
import time

from experiments import cli
from experiments.benchmarks.translation import SENTENCES, V, jax_decoding, jax_training, torch_training
from experiments.benchmarks.worker import serve

C, K, ENCODER, DECODER = 256, 3, 4, 3
STEPS = 64
DROPOUT = 0.1
KINDS = {
    "train": (("jax", "torch eager", "torch compiled"), 4),
    "greedy": (("jax", "jax recomputing"), 2),
}
"""Kind of work -> who does it, ours first, and steps a turn unless --steps says otherwise."""

AMOUNTS = {"greedy": {"sentences": SENTENCES}}
"""Kind of work -> how many sentences a step is."""


def _config():
    from configs.conv_seq2seq import iwslt

    config = iwslt.get_config()
    encoder, decoder = ((f"{layers}*{C}x{K}",) for layers in (ENCODER, DECODER))
    config.model.update(encoder=encoder, decoder=decoder, embedding=C, output=C, dropout=DROPOUT)
    return config


def torch_model():
    """Channels before time, as PyTorch's convolutions have them; padding is zeroed, as a run with padding needs it."""
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torch.nn.utils.parametrizations import weight_norm

    half, drop = math.sqrt(0.5), lambda x, module: F.dropout(x, DROPOUT, module.training)
    linear = lambda inputs, outputs: weight_norm(nn.Linear(inputs, outputs))

    class Stack(nn.Module):
        def __init__(self, layers: int, causal: bool):
            super().__init__()
            self.causal = causal
            self.words, self.positions = nn.Embedding(V, C), nn.Embedding(64, C)
            self.enter, self.leave = linear(C, C), linear(C, C)
            self.convolutions = nn.ModuleList(weight_norm(nn.Conv1d(C, 2 * C, K)) for _ in range(layers))
            self.queries = nn.ModuleList(linear(C, C) for _ in range(layers if causal else 0))
            self.contexts = nn.ModuleList(linear(C, C) for _ in range(layers if causal else 0))

        def forward(self, tokens, memory=None):
            e = drop(self.words(tokens) + self.positions.weight[: tokens.shape[1]], self)
            x, real = self.enter(e), (tokens != 0)[:, None]
            pad = (K - 1, 0) if self.causal else (K // 2, K // 2)
            for number, convolution in enumerate(self.convolutions):
                inputs = drop(x.transpose(1, 2) * real, self)
                y = F.glu(convolution(F.pad(inputs, pad)), 1).transpose(1, 2)
                if memory is not None:
                    keys, values, mask, length = memory
                    d = (self.queries[number](y) + e) * half
                    scores = (d @ keys.transpose(1, 2)).masked_fill(mask, -torch.inf)
                    found = torch.softmax(scores, -1) @ values * length.sqrt()
                    y = (self.contexts[number](found) + y) * half
                x = (y + x) * half
            return self.leave(x), e

    class Translator(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = Stack(ENCODER, False), Stack(DECODER, True)
            self.classify = linear(C, V)

        def forward(self, source, inputs):
            z, e = self.encoder(source)
            z = z / DECODER + (1 - 1 / DECODER) * z.detach()  # scales the gradient
            mask = (source == 0)[:, None]
            memory = (z, (z + e) * half, mask, (~mask).sum(-1, keepdim=True).to(z.dtype))
            x, _ = self.decoder(inputs, memory)
            return self.classify(drop(x, self))

    return Translator()


def torch_step(compiled: bool):
    import torch

    model = torch_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25, momentum=0.99, nesterov=True, fused=True)

    def update():
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()

    return torch_training(model, update, smoothing=0.0, compiled=compiled)


def main(worker: str, kind: str) -> None:
    began = time.perf_counter()
    cli.keep_freed_memory()
    if worker.startswith("jax"):
        cli.set_up_jax()
        options = {"beam": 1, "steps": STEPS, "cached": worker == "jax"}
        run = jax_training(_config()) if kind == "train" else jax_decoding(_config(), **options)
    else:
        run = torch_step(worker == "torch compiled")
    run(1)
    serve(run, time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])

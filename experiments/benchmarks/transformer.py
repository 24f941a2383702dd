"""Training and decoding of a small Transformer: d_model 256, 4 heads, d_ff 1024, 3 + 3 layers, 8,000 shared entries.

`train`: a step on 128 pairs of 24 tokens on either side, with the masks that padding would need, dropout 0.1, label
smoothing 0.1, Adam with the schedule, in float32; `nn.Transformer` also has dropout on attention weights and inside the
feed-forward layers, biases in the attention and one more normalisation a stack, which the paper has not. `greedy` and
`beam 4`: 64 sentences of 24 tokens, 32 steps each, whose end is held back; one step is the batch. `jax recomputing`
decodes without a cache, over the prefix rounded up to 8, 16, 24 and 32 positions; PyTorch's `nn.Transformer` has no
cache and recomputes the prefix as it is.
"""

import sys
import time

import numpy as np

from experiments import cli
from experiments.benchmarks.translation import SENTENCES, V, examples, jax_decoding, jax_training, torch_training
from experiments.benchmarks.worker import serve

D, FF, HEADS, LAYERS = 256, 1024, 4, 3
STEPS = 32
DROPOUT, SMOOTHING, WARMUP = 0.1, 0.1, 4000
KINDS = {
    "train": (("jax", "torch eager", "torch compiled"), 4),
    "greedy": (("jax", "jax recomputing", "torch eager"), 2),
    "beam 4": (("jax", "torch eager"), 1),
}
"""Kind of work -> who does it, ours first, and steps a turn unless --steps says otherwise."""

AMOUNTS = {kind: {"sentences": SENTENCES} for kind in ("greedy", "beam 4")}
"""Kind of work -> how many sentences a step is."""


def _config():
    from configs.transformer import base

    config = base.get_config()
    size = D // HEADS
    config.model.update(layers=LAYERS, d_model=D, d_ff=FF, heads=HEADS, d_k=size, d_v=size, dropout=DROPOUT)
    config.optimizer.warmup = WARMUP
    return config


def torch_model():
    import torch
    from torch import nn

    class Translator(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(V, D)
            nn.init.normal_(self.table.weight, std=D**-0.5)
            self.transformer = nn.Transformer(D, HEADS, LAYERS, LAYERS, FF, DROPOUT, batch_first=True)
            self.dropout = nn.Dropout(DROPOUT)
            angle = np.arange(64)[:, None] * 10000.0 ** (-np.arange(0, D, 2) / D)
            waves = np.stack([np.sin(angle), np.cos(angle)], -1).reshape(64, D)
            self.register_buffer("positions", torch.tensor(waves, dtype=torch.float32))

        def embed(self, tokens):
            return self.dropout(self.table(tokens) * D**0.5 + self.positions[: tokens.shape[1]])

        def decode(self, memory, inputs, **masks):
            future = torch.ones(inputs.shape[1], inputs.shape[1], dtype=torch.bool).triu(1)
            return self.transformer.decoder(self.embed(inputs), memory, tgt_mask=future, tgt_is_causal=True, **masks)

        def forward(self, source, inputs):
            masks = {"memory_key_padding_mask": source == 0, "tgt_key_padding_mask": inputs == 0}
            memory = self.transformer.encoder(self.embed(source), src_key_padding_mask=source == 0)
            return self.decode(memory, inputs, **masks) @ self.table.weight.T

    return Translator()


def torch_step(compiled: bool):
    """The same step with `nn.Transformer` and Adam's fused kernel."""
    import torch

    model = torch_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9, fused=True)
    rate = lambda step: D**-0.5 * min((step + 1) ** -0.5, (step + 1) * WARMUP**-1.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    def update():
        optimizer.step()
        schedule.step()

    return torch_training(model, update, smoothing=SMOOTHING, compiled=compiled)


def torch_decoding(beam: int):
    """Beam search that recomputes the prefix, without the end of a sentence."""
    import torch

    model = torch_model().train(False)
    source = torch.from_numpy(examples()["source"][:SENTENCES]).long()

    @torch.inference_mode()
    def decode():
        memory = model.transformer.encoder(model.embed(source)).repeat_interleave(beam, 0)
        tokens = torch.full((SENTENCES * beam, 1), 2)
        scores = torch.tensor([0.0] + [-1e9] * (beam - 1)).repeat(SENTENCES, 1)
        for _ in range(STEPS):
            logits = model.decode(memory, tokens)[:, -1] @ model.table.weight.T
            logits[:, 3] = -torch.inf
            totals = scores[:, :, None] + torch.log_softmax(logits, -1).view(SENTENCES, beam, V)
            scores, places = totals.flatten(1).topk(beam)
            rows = (places // V + beam * torch.arange(SENTENCES)[:, None]).flatten()
            tokens = torch.cat([tokens[rows], (places % V).view(-1, 1)], 1)
        return tokens

    def run(batches: int) -> None:
        for _ in range(batches):
            decode()

    return run


def main(worker: str, kind: str) -> None:
    began = time.perf_counter()
    cli.keep_freed_memory()
    beam = 4 if kind == "beam 4" else 1
    if worker.startswith("jax"):
        cli.set_up_jax()
        options = {"beam": beam, "steps": STEPS, "cached": worker == "jax"}
        run = jax_training(_config()) if kind == "train" else jax_decoding(_config(), **options)
    else:
        run = torch_step(worker == "torch compiled") if kind == "train" else torch_decoding(beam)
    run(1)
    serve(run, time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Training and decoding of a small Transformer: d_model 256, 4 heads, d_ff 1024, 3 + 3 layers, 8,000 shared entries.

`train`: a step on 128 pairs of 24 tokens on either side, with the masks that padding would need, dropout 0.1, label
smoothing 0.1, Adam with the schedule, in float32; `nn.Transformer` also has dropout on attention weights and inside the
feed-forward layers, which the paper has not. `greedy` and `beam 4`: 64 sentences of 24 tokens, 32 steps each, whose end
is held back; one step is the batch. `jax recomputing` decodes without a cache, over the prefix rounded up to 8, 16, 24
and 32 positions; PyTorch's `nn.Transformer` has no cache and recomputes the prefix as it is.
"""

import functools
import sys
import time

import numpy as np

from experiments import cli
from experiments.benchmarks.worker import serve

V, D, FF, HEADS, LAYERS = 8000, 256, 1024, 4, 3
B, L, N = 128, 24, 2048
SENTENCES, STEPS = 64, 32
DROPOUT, SMOOTHING, WARMUP = 0.1, 0.1, 4000
KINDS = {
    "train": (("jax", "torch eager", "torch compiled"), 4),
    "greedy": (("jax", "jax recomputing", "torch eager"), 2),
    "beam 4": (("jax", "torch eager"), 1),
}
"""Kind of work -> who does it, ours first, and steps a turn (0: --steps)."""


def examples() -> dict[str, np.ndarray]:
    """Sentences of L tokens, the last of which is </s>, by Zipf's law."""
    random, chance = np.random.default_rng(0), 1.0 / np.arange(1, V - 3)
    draw = lambda: random.choice(V - 4, (N, L), p=chance / chance.sum()) + 4
    texts = {role: draw().astype(np.int32) for role in ("source", "target")}
    for text in texts.values():
        text[:, -1] = 3
    return texts


def _config():
    from configs.transformer import base

    config = base.get_config()
    size = D // HEADS
    config.model.update(layers=LAYERS, d_model=D, d_ff=FF, heads=HEADS, d_k=size, d_v=size, dropout=DROPOUT)
    config.optimizer.warmup = WARMUP
    return config


def jax_training():
    """Our own step as a run makes it."""
    import jax

    from experiments.steps import Steps
    from research.batches import Table
    from research.optimizers import make_optimizer
    from research.tasks import make_task

    config, bucket = _config(), (("source", L), ("target", L))
    task = make_task(config, sizes={"source": V, "target": V})
    optimizer = make_optimizer(config.optimizer, D)
    lengths = {role: np.full(N, L, np.int32) for role in ("source", "target")}
    table = Table(examples(), lengths, {}, np.zeros(N, np.int32))
    step, random = Steps(task, optimizer, table, bucket), np.random.default_rng(1)

    def run(steps: int) -> None:
        for _ in range(steps):
            step(random.integers(0, N, B))
        jax.block_until_ready(step.state)

    return run


def jax_decoding(beam: int, cached: bool):
    """Beam search as a run translates, or greedy decoding that computes all positions anew for every token."""
    import jax
    import jax.numpy as jnp

    from research.decoding import Search, search
    from research.tasks import make_task
    from research.text import BOS, EOS

    task = make_task(_config(), sizes={"source": V, "target": V})
    variables = task.init(jax.random.key(0), (("source", L), ("target", L)))
    model, source = task.model, jnp.asarray(examples()["source"][:SENTENCES])
    ones = jnp.ones_like(source)
    options = Search(beam=beam, extra=STEPS - L, least=STEPS - 1)
    whole = jax.jit(lambda variables: search(model, variables, source, ones, options))
    encode = jax.jit(lambda variables: model.apply(variables, source, ones, method=model.encode))

    @functools.partial(jax.jit, static_argnums=3)
    def extend(variables, memory, tokens, size, position):
        inputs = tokens[:, :size]
        hidden = model.apply(variables, memory, ones, inputs, jnp.ones_like(inputs), method=model.decode)
        table, _ = model.apply(variables, method=model.readout)
        logits = jax.lax.dynamic_index_in_dim(hidden, position, 1, keepdims=False) @ table.T
        return tokens.at[:, position + 1].set(jnp.argmax(logits.at[:, EOS].set(-jnp.inf), axis=-1))

    def recompute():
        tokens = jnp.full((SENTENCES, STEPS + 1), BOS, jnp.int32)
        memory = encode(variables)
        for position in range(STEPS):
            tokens = extend(variables, memory, tokens, 8 * (position // 8 + 1), position)
        return tokens

    def run(batches: int) -> None:
        for _ in range(batches):
            jax.block_until_ready(whole(variables) if cached else recompute())

    return run


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


def torch_training(compiled: bool):
    """The same step with `nn.Transformer` and Adam's fused kernel."""
    import torch
    from torch import nn

    model = torch_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9, fused=True)
    rate = lambda step: D**-0.5 * min((step + 1) ** -0.5, (step + 1) * WARMUP**-1.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    texts = {role: torch.from_numpy(text).long() for role, text in examples().items()}
    network, random = torch.compile(model) if compiled else model, np.random.default_rng(1)

    def run(steps: int) -> None:
        for _ in range(steps):
            chosen = torch.from_numpy(random.integers(0, N, B))
            source, target = (texts[role][chosen] for role in ("source", "target"))
            inputs = torch.cat([torch.full((B, 1), 2), target[:, :-1]], 1)
            optimizer.zero_grad(set_to_none=True)
            logits = network(source, inputs).flatten(0, 1)
            nn.functional.cross_entropy(logits, target.flatten(), label_smoothing=SMOOTHING).backward()
            optimizer.step()
            schedule.step()

    return run


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
        run = jax_training() if kind == "train" else jax_decoding(beam, cached=worker == "jax")
    else:
        run = torch_training(worker == "torch compiled") if kind == "train" else torch_decoding(beam)
    run(1)
    serve(run, time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])

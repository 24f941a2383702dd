"""What timing one model of translation and timing another have in common: sentences, our step and our decoding, and a
PyTorch model's step.

A step takes B pairs of L tokens on either side, of N, with the masks that padding would need.
"""

import functools
import math

import numpy as np

V = 8000  # shared entries, unless told otherwise
B, L, N = 128, 24, 2048
SENTENCES = 64  # decoded at a time, unless told otherwise


def examples(length: int = L, entries: int = V) -> dict[str, np.ndarray]:
    """Sentences of `length` tokens, the last of which is </s>, by Zipf's law."""
    random, chance = np.random.default_rng(0), 1.0 / np.arange(1, entries - 3)
    draw = lambda: random.choice(entries - 4, (N, length), p=chance / chance.sum()) + 4
    texts = {role: draw().astype(np.int32) for role in ("source", "target")}
    for text in texts.values():
        text[:, -1] = 3
    return texts


def parameters(config, entries: int = V) -> int:
    """Of the model that is timed."""
    import jax

    from research.tasks import make_task, shapes

    task = make_task(config, sizes=dict.fromkeys(("source", "target"), entries))
    variables = shapes(task, (("source", L), ("target", L)))
    return sum(math.prod(x.shape) for x in jax.tree.leaves(variables["params"]))


def jax_training(config, rows: int = B, length: int = L, entries: int = V):
    """Our own step as a run makes it."""
    import jax

    from experiments.steps import Steps
    from research.batches import Table
    from research.optimizers import make_optimizer
    from research.tasks import make_task

    bucket = (("source", length), ("target", length))
    task = make_task(config, sizes=dict.fromkeys(("source", "target"), entries))
    optimizer = make_optimizer(config.optimizer, config.model.get("d_model", 1))
    lengths = {role: np.full(N, length, np.int32) for role in ("source", "target")}
    table = Table(examples(length, entries), lengths, {}, np.zeros(N, np.int32))
    step, random = Steps(task, optimizer, table, bucket), np.random.default_rng(1)

    def run(steps: int) -> None:
        for _ in range(steps):
            step(random.integers(0, N, rows))
        jax.block_until_ready(step.state)

    return run


def jax_decoder(config, *, beam: int, steps: int, sentences: int = SENTENCES, entries: int = V, cached: bool = True):
    """The tokens (sentences, steps) of the best outputs: by beam search as a run translates, or by greedy decoding that
    computes all positions anew for every token, over the prefix rounded up to 8, 16, 24, ... positions."""
    import jax
    import jax.numpy as jnp

    from research.decoding import Search, search
    from research.tasks import make_task
    from research.text import BOS, EOS, PAD

    task = make_task(config, sizes=dict.fromkeys(("source", "target"), entries))
    variables = task.init(jax.random.key(0), (("source", L), ("target", L)))
    model, source = task.model, jnp.asarray(examples(entries=entries)["source"][:sentences])
    ones = jnp.ones_like(source)
    options = Search(beam=beam, extra=steps - L, least=steps - 1)
    whole = jax.jit(lambda variables: search(model, variables, source, ones, options))
    encode = jax.jit(lambda variables: model.apply(variables, source, ones, method=model.encode))

    @functools.partial(jax.jit, static_argnums=3)
    def extend(variables, memory, tokens, size, position):
        inputs = tokens[:, :size]
        hidden = model.apply(variables, memory, ones, inputs, jnp.ones_like(inputs), method=model.decode)
        table, bias = model.apply(variables, method=model.readout)
        logits = jax.lax.dynamic_index_in_dim(hidden, position, 1, keepdims=False) @ table.T
        logits = logits if bias is None else logits + bias
        chosen = jnp.argmax(
            logits.at[:, jnp.array([PAD, BOS, EOS])].set(-jnp.inf), axis=-1
        )  # what the search does not choose
        return tokens.at[:, position + 1].set(chosen)

    def recompute():
        tokens = jnp.full((sentences, steps + 1), BOS, jnp.int32)
        memory = encode(variables)
        for position in range(steps):
            tokens = extend(variables, memory, tokens, 8 * (position // 8 + 1), position)
        return tokens[:, 1:]

    return (lambda: whole(variables).tokens[:, 0]) if cached else recompute


def jax_decoding(config, **options):
    """`jax_decoder`'s search, again and again."""
    import jax

    decode = jax_decoder(config, **options)

    def run(batches: int) -> None:
        for _ in range(batches):
            jax.block_until_ready(decode())

    return run


def torch_training(model, update, *, smoothing: float, compiled: bool):
    """A step of a PyTorch model of (source, target inputs) that gives logits; update: what follows the gradients."""
    import torch

    texts = {role: torch.from_numpy(text).long() for role, text in examples().items()}
    network, random = torch.compile(model) if compiled else model, np.random.default_rng(1)

    def run(steps: int) -> None:
        for _ in range(steps):
            chosen = torch.from_numpy(random.integers(0, N, B))
            source, target = (texts[role][chosen] for role in ("source", "target"))
            inputs = torch.cat([torch.full((B, 1), 2), target[:, :-1]], 1)
            model.zero_grad(set_to_none=True)
            logits = network(source, inputs).flatten(0, 1)
            torch.nn.functional.cross_entropy(logits, target.flatten(), label_smoothing=smoothing).backward()
            update()

    return run

"""Builds the model of a configuration without its corpus, takes training steps on random tokens, and prints the
number of parameters, the arithmetic of a step a token, and the time: what to know before a long run."""

import time
from collections.abc import Sequence

import jax
import numpy as np

from experiments import cli
from experiments.environment import environment
from experiments.files import write_json
from experiments.steps import Steps
from research.batches import Table, make_buckets
from research.codecs import SUBWORDS, tokenizers
from research.errors import ConfigError
from research.optimizers import make_optimizer, row_decay
from research.tasks import make_task, paper_of

EXAMPLES = (
    """examples:
  python -m experiments.describe --config configs/transformer/base.py --rows 2
  python -m experiments.describe --config configs/textcnn/mr.py --vocabulary 18767 --classes 2

"""
    + cli.OVERRIDES
)


def describe(config, *, rows: int, vocabulary: int, classes: int) -> dict[str, float]:
    """Parameters, loss of the first step (nats a weight), floating-point operations of a step a token of the batch's
    longest column, seconds of the second step, such tokens in it."""
    paper_of(config)
    kinds = tokenizers(config)
    sizes = {role: config.data.subword_size if kind in SUBWORDS else vocabulary for role, kind in kinds.items()}
    if min(sizes.values()) < 5:
        raise ConfigError("--vocabulary: this configuration's vocabulary comes from its corpus; say its size")
    bucket = make_buckets(config.data.buckets, tuple(sizes))[-1]
    task = make_task(config, sizes=sizes, num_classes=classes)
    optimizer = make_optimizer(config.optimizer, config.model.get("d_model", 1))
    random = np.random.default_rng(0)
    tokens = {role: random.integers(4, sizes[role], (rows, size), np.int32) for role, size in bucket}
    lengths = {role: np.full(rows, size, np.int32) for role, size in bucket}
    table = Table(tokens, lengths, {}, random.integers(0, max(classes, 1), rows, np.int32))
    step = Steps(task, optimizer, table, bucket, row_decay=row_decay(config.optimizer), seed=config.seed)
    batch = np.arange(rows)
    count = rows * max(size for _, size in bucket)
    flops = step.flops(batch)
    step(batch)
    first = jax.device_get(step.sums)
    began = time.perf_counter()
    step(batch)
    jax.block_until_ready(step.state)
    return {
        "params": sum(x.size for x in jax.tree.leaves(step.state.params)),
        "loss": float(first["loss"] / first["weight"]),
        "flops_per_token": flops / count,
        "seconds": time.perf_counter() - began,
        "tokens": count,
    }


def main(argv: Sequence[str]) -> None:
    arguments, overrides = cli.split_overrides(argv)
    parser = cli.parser("describe", __doc__, EXAMPLES)
    parser.add_argument("--config", required=True, help="configuration file, configs/<paper>/<run>.py")
    parser.add_argument("--rows", type=int, default=2, help="rows of the batch, of the longest bucket (default: 2)")
    parser.add_argument("--vocabulary", type=int, default=0, help="entries, where the corpus decides")
    parser.add_argument("--classes", type=int, default=0, help="classes, of classification and matching")
    parser.add_argument("--output", type=cli.output_file, help="JSON file for the figures")
    flags = parser.parse_args(arguments)
    if flags.rows < 1:
        raise ConfigError("--rows must be at least 1")
    config = cli.load_config(flags.config, overrides)
    if config.task != "translation" and flags.classes < 2:
        raise ConfigError("--classes: say how many classes the corpus has")
    cli.set_up_jax()
    found = describe(config, rows=flags.rows, vocabulary=flags.vocabulary, classes=flags.classes)
    print(f"{found['params']:,} parameters")
    millions = found["flops_per_token"] / 1e6
    print(f"{millions:,.0f} million floating-point operations a token of a training step")
    print(f"one step of {found['tokens']:,} tokens: {found['seconds']:.2f} s on {jax.devices()[0].device_kind}")
    print(f"loss of a fresh model: {found['loss']:.2f} nats")
    if flags.output:
        record = {"config": flags.config, "command": cli.command("describe", argv)}
        write_json(flags.output, {**record, **found, "environment": environment()})


if __name__ == "__main__":
    cli.main(main)

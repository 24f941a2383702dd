"""The two models of translation on the same batches, configs/{transformer,conv_seq2seq}/multi30k_de_en.py, with a
common vocabulary of as many entries as those have.

`train 16` to `train 512`: a training step on pairs of so many tokens on either side, 4,096 tokens a side. `decode 1
beam 5`: one sentence of 24 tokens (or 64 at once), 32 steps, whose end is held back.
"""

import importlib
import re
import sys
import time

from experiments import cli
from experiments.benchmarks.translation import jax_decoding, jax_training, parameters
from experiments.benchmarks.worker import serve

MODELS = ("conv_seq2seq", "transformer")
TOKENS = 4096  # of a training step, on either side
LENGTHS = (16, 32, 64, 128, 256, 512)
STEPS = 32
DECODED = {f"decode {batch} beam {beam}": batch for batch in (1, 64) for beam in (1, 5)}
KINDS = {f"train {length}": (MODELS, 1) for length in LENGTHS} | {
    kind: (MODELS, 16 if batch == 1 else 1) for kind, batch in DECODED.items()
}
"""Kind of work -> who does it, and steps a turn unless --steps says otherwise."""

AMOUNTS = {f"train {length}": {"words": TOKENS} for length in LENGTHS} | {
    kind: {"words": batch * STEPS} for kind, batch in DECODED.items()
}
"""Kind of work -> how many target words a step is."""


def main(worker: str, kind: str) -> None:
    began = time.perf_counter()
    cli.keep_freed_memory()
    cli.set_up_jax()
    config = importlib.import_module(f"configs.{worker}.multi30k_de_en").get_config()
    entries, numbers = config.data.subword_size, [int(number) for number in re.findall(r"\d+", kind)]
    if kind.startswith("train"):
        run = jax_training(config, rows=TOKENS // numbers[0], length=numbers[0], entries=entries)
    else:
        run = jax_decoding(config, sentences=numbers[0], beam=numbers[1], steps=STEPS, entries=entries)
    run(1)
    facts = {"config": f"configs/{worker}/multi30k_de_en.py", "params": parameters(config, entries)}
    serve(run, time.perf_counter() - began, **facts)


if __name__ == "__main__":
    main(*sys.argv[1:])

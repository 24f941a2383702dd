r"""Transformer big of Vaswani et al. 2017 (Table 2; section 6.1) on WMT 2014 English-German.

Command:   python -m experiments.run --config configs/transformer/big.py \
               --workdir runs/transformer/big
Needs:     wmt14_translate/de-en of the TFDS catalogue, and accelerators: the paper took 3.5 days on 8 P100 GPUs
Paper:     28.4 BLEU on newstest2014 (Table 2)
Ours:      not measured
"""

from configs.transformer import base

PAPER = {"bleu": 28.4, "where": "Table 2, Transformer (big)"}


def get_config():
    config = base.get_config()
    config.model.update(d_model=1024, d_ff=4096, heads=16, dropout=0.3)
    config.train.steps = 300_000
    config.train.eval_every = 600  # 10 minutes of the paper's machine, of a second a step
    config.train.average = 20
    return config

r"""The base row of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German: development set, no averaging.

`test` is newstest2013, the table's development set; parameters are kept by the loss on a thousandth of the training
pairs, and not averaged (section 6.2).

Command:   python -m experiments.run --config configs/transformer/table3_base.py \
               --workdir runs/transformer/table3_base
Needs:     wmt14_translate/de-en of the TFDS catalogue, and accelerators: the paper took 12 hours on 8 P100 GPUs
Paper:     25.8 BLEU, perplexity 4.92, 65 M parameters
Ours:      not measured
"""

from configs.transformer import base

PAPER = {"bleu": 25.8, "perplexity": 4.92, "params": 65, "where": "Table 3, base"}


def get_config():
    config = base.get_config()
    config.data.dev = ""
    config.data.dev_fraction = 0.001
    config.data.test = "validation"
    config.train.eval_every = 1000
    config.train.average = 0
    return config

r"""The big row of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_big.py \
               --workdir runs/transformer/table3_big
Needs:     as configs/transformer/table3_base.py; the paper took 3.5 days
Paper:     26.4 BLEU, perplexity 4.33, 213 M parameters
Ours:      not measured
"""

from configs.transformer import big, table3_base

PAPER = {"bleu": 26.4, "perplexity": 4.33, "params": 213, "where": "Table 3, big"}


def get_config():
    config = table3_base.get_config()
    other = big.get_config()
    config.model.update(other.model)
    config.train.steps = other.train.steps
    return config

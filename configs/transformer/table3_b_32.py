r"""Row (B, d_k = 32) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_b_32.py \
               --workdir runs/transformer/table3_b_32
Needs:     as configs/transformer/table3_base.py
Paper:     25.4 BLEU, perplexity 5.01, 60 M parameters
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 25.4, "perplexity": 5.01, "params": 60, "where": "Table 3, row B, d_k = 32"}


def get_config():
    config = table3_base.get_config()
    config.model.update(d_k=32)
    return config

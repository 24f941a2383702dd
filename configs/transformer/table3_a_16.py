r"""Row (A, h = 16) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_a_16.py \
               --workdir runs/transformer/table3_a_16
Needs:     as configs/transformer/table3_base.py
Paper:     25.8 BLEU, perplexity 4.91
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 25.8, "perplexity": 4.91, "where": "Table 3, row A, h = 16"}


def get_config():
    config = table3_base.get_config()
    config.model.update(heads=16, d_k=32, d_v=32)
    return config

r"""Row (A, h = 4) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_a_4.py \
               --workdir runs/transformer/table3_a_4
Needs:     as configs/transformer/table3_base.py
Paper:     25.5 BLEU, perplexity 5.00
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 25.5, "perplexity": 5.0, "where": "Table 3, row A, h = 4"}


def get_config():
    config = table3_base.get_config()
    config.model.update(heads=4, d_k=128, d_v=128)
    return config

r"""Row (D, P_drop = 0.2) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_d_dropout_2.py \
               --workdir runs/transformer/table3_d_dropout_2
Needs:     as configs/transformer/table3_base.py
Paper:     25.5 BLEU, perplexity 4.95
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 25.5, "perplexity": 4.95, "where": "Table 3, row D, P_drop = 0.2"}


def get_config():
    config = table3_base.get_config()
    config.model.update(dropout=0.2)
    return config

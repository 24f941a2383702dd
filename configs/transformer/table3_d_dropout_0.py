r"""Row (D, P_drop = 0.0) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_d_dropout_0.py \
               --workdir runs/transformer/table3_d_dropout_0
Needs:     as configs/transformer/table3_base.py
Paper:     24.6 BLEU, perplexity 5.77
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 24.6, "perplexity": 5.77, "where": "Table 3, row D, P_drop = 0.0"}


def get_config():
    config = table3_base.get_config()
    config.model.update(dropout=0.0)
    return config

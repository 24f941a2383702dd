r"""Row (D, label smoothing 0.0) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_d_smoothing_0.py \
               --workdir runs/transformer/table3_d_smoothing_0
Needs:     as configs/transformer/table3_base.py
Paper:     25.3 BLEU, perplexity 4.67
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 25.3, "perplexity": 4.67, "where": "Table 3, row D, label smoothing 0.0"}


def get_config():
    config = table3_base.get_config()
    config.train.label_smoothing = 0.0
    return config

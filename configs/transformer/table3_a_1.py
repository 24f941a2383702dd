r"""Row (A, h = 1) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_a_1.py \
               --workdir runs/transformer/table3_a_1
Needs:     as configs/transformer/table3_base.py
Paper:     24.9 BLEU, perplexity 5.29
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 24.9, "perplexity": 5.29, "where": "Table 3, row A, h = 1"}


def get_config():
    config = table3_base.get_config()
    config.model.update(heads=1, d_k=512, d_v=512)
    return config

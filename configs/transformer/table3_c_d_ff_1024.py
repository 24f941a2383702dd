r"""Row (C, d_ff = 1024) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_c_d_ff_1024.py \
               --workdir runs/transformer/table3_c_d_ff_1024
Needs:     as configs/transformer/table3_base.py
Paper:     25.4 BLEU, perplexity 5.12, 53 M parameters
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 25.4, "perplexity": 5.12, "params": 53, "where": "Table 3, row C, d_ff = 1024"}


def get_config():
    config = table3_base.get_config()
    config.model.update(d_ff=1024)
    return config

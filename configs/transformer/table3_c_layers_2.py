r"""Row (C, N = 2) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_c_layers_2.py \
               --workdir runs/transformer/table3_c_layers_2
Needs:     as configs/transformer/table3_base.py
Paper:     23.7 BLEU, perplexity 6.11, 36 M parameters
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 23.7, "perplexity": 6.11, "params": 36, "where": "Table 3, row C, N = 2"}


def get_config():
    config = table3_base.get_config()
    config.model.update(layers=2)
    return config

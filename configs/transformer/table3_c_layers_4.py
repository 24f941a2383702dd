r"""Row (C, N = 4) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_c_layers_4.py \
               --workdir runs/transformer/table3_c_layers_4
Needs:     as configs/transformer/table3_base.py
Paper:     25.3 BLEU, perplexity 5.19, 50 M parameters
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 25.3, "perplexity": 5.19, "params": 50, "where": "Table 3, row C, N = 4"}


def get_config():
    config = table3_base.get_config()
    config.model.update(layers=4)
    return config

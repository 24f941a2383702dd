r"""Row (C, N = 8) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_c_layers_8.py \
               --workdir runs/transformer/table3_c_layers_8
Needs:     as configs/transformer/table3_base.py
Paper:     25.5 BLEU, perplexity 4.88, 80 M parameters
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 25.5, "perplexity": 4.88, "params": 80, "where": "Table 3, row C, N = 8"}


def get_config():
    config = table3_base.get_config()
    config.model.update(layers=8)
    return config

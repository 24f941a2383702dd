r"""Row (C, d_model = 1024) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_c_d_model_1024.py \
               --workdir runs/transformer/table3_c_d_model_1024
Needs:     as configs/transformer/table3_base.py
Paper:     26.0 BLEU, perplexity 4.66, 168 M parameters
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 26.0, "perplexity": 4.66, "params": 168, "where": "Table 3, row C, d_model = 1024"}


def get_config():
    config = table3_base.get_config()
    config.model.update(d_model=1024, d_k=128, d_v=128)
    return config

r"""Row (C, d_model = 256) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_c_d_model_256.py \
               --workdir runs/transformer/table3_c_d_model_256
Needs:     as configs/transformer/table3_base.py
Paper:     24.5 BLEU, perplexity 5.75, 28 M parameters
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 24.5, "perplexity": 5.75, "params": 28, "where": "Table 3, row C, d_model = 256"}


def get_config():
    config = table3_base.get_config()
    config.model.update(d_model=256, d_k=32, d_v=32)
    return config

r"""Row (C, d_ff = 4096) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_c_d_ff_4096.py \
               --workdir runs/transformer/table3_c_d_ff_4096
Needs:     as configs/transformer/table3_base.py
Paper:     26.2 BLEU, perplexity 4.75, 90 M parameters
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 26.2, "perplexity": 4.75, "params": 90, "where": "Table 3, row C, d_ff = 4096"}


def get_config():
    config = table3_base.get_config()
    config.model.update(d_ff=4096)
    return config

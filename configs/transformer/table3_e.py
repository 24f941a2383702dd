r"""Row (E, learned positions) of Table 3 of Vaswani et al. 2017, on WMT 2014 English-German; `test` is newstest2013.

Command:   python -m experiments.run --config configs/transformer/table3_e.py \
               --workdir runs/transformer/table3_e
Needs:     as configs/transformer/table3_base.py
Paper:     25.7 BLEU, perplexity 4.92
Ours:      not measured
"""

from configs.transformer import table3_base

PAPER = {"bleu": 25.7, "perplexity": 4.92, "where": "Table 3, row E, learned positions"}


def get_config():
    config = table3_base.get_config()
    config.model.update(positions="learned")
    return config

r"""The syntactic tree-LSTM of Chen et al. 2017 on SNLI with the corpus's own binarised parses.

Command:   python -m experiments.run --config configs/esim/snli_tree.py \
               --workdir runs/esim/snli_tree --config.word_vectors.path=glove.840B.300d.txt
Needs:     snli_1.0_train.jsonl, snli_1.0_dev.jsonl and snli_1.0_test.jsonl in <manual_dir>/snli_parses, GloVe 840B
Paper:     87.8 (Table 2, row 25)
Ours:      not measured
"""

from configs.esim import snli_parses

PAPER = {"accuracy": 87.8, "where": "Table 2, row 25"}


def get_config():
    config = snli_parses.get_config()
    config.data.begin = config.data.end = ""
    config.data.tree = "parse"
    config.data.buckets = (32, 64, 128, 256)
    config.model.architecture = "tree"
    return config

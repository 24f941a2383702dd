r"""The Hybrid Inference Model of Chen et al. 2017 on SNLI: ESIM and the syntactic tree-LSTM, probabilities averaged.

Command:   python -m experiments.run --config configs/esim/snli_him.py \
               --workdir runs/esim/snli_him --config.word_vectors.path=glove.840B.300d.txt
Needs:     snli_1.0_train.jsonl, snli_1.0_dev.jsonl and snli_1.0_test.jsonl in <manual_dir>/snli_parses, GloVe 840B
Paper:     88.6 (Table 1, row 17)
Ours:      not measured
"""

from configs.esim import snli_tree

PAPER = {"accuracy": 88.6, "where": "Table 1, row 17"}


def get_config():
    config = snli_tree.get_config()
    config.model.architecture = "hybrid"
    return config

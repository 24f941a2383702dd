r"""ESIM of Chen et al. 2017 on SNLI as the authors' code reads it: the words of the corpus's parses, between two marks.

Command:   python -m experiments.run --config configs/esim/snli_parses.py \
               --workdir runs/esim/snli_parses --config.word_vectors.path=glove.840B.300d.txt
Needs:     snli_1.0_train.jsonl, snli_1.0_dev.jsonl and snli_1.0_test.jsonl in <manual_dir>/snli_parses, GloVe 840B
Paper:     88.0 (Table 1, row 16)
Ours:      not measured
"""

from configs.esim import snli

PAPER = {"accuracy": 88.0, "where": "Table 1, row 16"}


def get_config():
    config = snli.get_config()
    config.data.corpus = "snli_parses"
    config.data.premise, config.data.hypothesis = "sentence1_parse", "sentence2_parse"
    config.data.unlabelled = "refuse"
    config.data.tokenizer = "parse"
    config.data.begin, config.data.end = "_BOS_", "_EOS_"
    return config

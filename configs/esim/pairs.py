r"""ESIM on pairs of texts of your own, by characters, random vectors.

Command:   python -m experiments.run --config configs/esim/pairs.py \
               --workdir runs/esim/pairs
Needs:     train.txt, validation.txt and test.txt in <manual_dir>/pairs, lines of text, tab, text, tab, label
Paper:     none: a corpus of your own
Ours:      not measured
Note:      data.tokenizer=moses for English; data.dev= draws a dev part from the training part where there is no
           validation.txt; with train.txt alone, data.dev= data.test= folds=10 cross-validates
"""

from configs.esim import lcqmc_small


def get_config():
    config = lcqmc_small.get_config()
    config.replicas = 1
    config.data.corpus = "pairs"
    config.data.train, config.data.dev, config.data.test = "train", "validation", "test"
    return config

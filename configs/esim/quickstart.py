"""ESIM on the embedded corpus `paraphrases`: no download, under two minutes on two CPU cores.

Chinese questions are generated in pairs that mean the same or not: to go from Beijing to Shanghai, or from Shanghai to
Beijing. Both second questions have the same words, so a bag of words is right half of the time; what decides is which
word has which part in the sentence.

Command:   python -m experiments.run --config configs/esim/quickstart.py --workdir runs/esim/quickstart
Needs:     nothing
Paper:     none: a generated corpus
Ours:      accuracy 99.50 (n = 1); 42 s on AMD EPYC, 2 cores
"""

from configs.esim import snli


def get_config():
    config = snli.get_config()
    config.data.corpus = "paraphrases"
    config.data.premise, config.data.hypothesis = "sentence1", "sentence2"
    config.data.unlabelled = "refuse"
    config.data.tokenizer = "character"
    config.data.buckets = (16, 32)
    config.model.variant = "rand"
    config.model.embedding_dim = config.model.hidden = 64
    config.model.dropout = 0.0
    config.optimizer.update(learning_rate=1e-3, anneal=0.0)
    config.train.epochs = 10
    return config

"""TextCNN on the embedded corpus `word_order`: no download, under two minutes on two CPU cores.

The sentences are generated, Chinese and English, and come in pairs with the same words in another order and the
opposite sentiment: "the plot is not bad and the acting is good", "the plot is not good and the acting is bad".
Negation, intensity and before/now decide. A bag of words is right half of the time, a convolution over three to five
words sees what a negation belongs to.

Command:   python -m experiments.run --config configs/textcnn/quickstart.py --workdir runs/quickstart
Needs:     nothing
Paper:     none: a generated corpus
Ours:      accuracy 100.00 (n = 1); 6 s on AMD EPYC, 2 cores
"""

from configs.textcnn import mr


def get_config():
    config = mr.get_config()
    config.folds = 1
    config.data.corpus = "word_order"
    config.data.dev = "validation"
    config.data.tokenizer = "mixed"
    config.data.buckets = (36,)
    config.model.embedding_dim = 64
    config.model.filters = 50
    config.train.epochs = 12
    config.train.patience = 3
    return config

r"""TextCNN with random vectors on THUCNews headlines by characters, 10 classes, 3 seeds.

Trained on dev.txt, tested on test.txt.

Command:   python -m experiments.run --config configs/textcnn/thucnews_characters.py \
               --workdir runs/textcnn/thucnews_characters
Needs:     class.txt, dev.txt and test.txt in <manual_dir>/thucnews
Paper:     none: not one of its corpora
Ours:      accuracy 82.07 ± 0.12 (n = 3); 3 min 52 s on AMD EPYC, 2 cores
Note:      the usual results are of the 180,000 headlines of train.txt; with that file, data.train=train uses it.
"""

from configs.textcnn import mr


def get_config():
    config = mr.get_config()
    config.folds, config.replicas = 1, 3
    config.data.corpus, config.data.train = "thucnews", "validation"
    config.data.tokenizer = "character"
    config.data.buckets = (24, 36)
    config.train.epochs = 12
    return config

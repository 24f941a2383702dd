r"""TextCNN with random vectors on Chinese take-away reviews by words, 2 classes, 10-fold cross-validation.

Command:   python -m experiments.run --config configs/textcnn/waimai_10k_words.py \
               --workdir runs/textcnn/waimai_10k_words
Needs:     waimai_10k.csv (downloaded, or put into <manual_dir>/waimai_10k)
Paper:     none: not one of its corpora
Ours:      accuracy 86.77 ± 1.01 (n = 10); 6 min 41 s on AMD EPYC, 2 cores
"""

from configs.textcnn import mr


def get_config():
    config = mr.get_config()
    config.data.corpus = "waimai_10k"
    config.data.tokenizer = "jieba"
    config.data.buckets = (12, 24, 48, 96)
    config.train.epochs = 8
    return config

r"""TextCNN with random vectors on Chinese hotel reviews (ChnSentiCorp) by words, 2 classes, 10-fold cross-validation.

Command:   python -m experiments.run --config configs/textcnn/chnsenticorp.py \
               --workdir runs/textcnn/chnsenticorp
Needs:     ChnSentiCorp_htl_all.csv (downloaded, or put into <manual_dir>/chnsenticorp)
Paper:     none: not one of its corpora
Ours:      not measured
"""

from configs.textcnn import mr


def get_config():
    config = mr.get_config()
    config.data.corpus = "chnsenticorp"
    config.data.tokenizer = "jieba"
    config.data.buckets = (32, 64, 128, 256)
    config.train.epochs = 8
    return config

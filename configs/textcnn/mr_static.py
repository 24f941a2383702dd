r"""CNN-static of Kim 2014 on movie reviews (MR), 10-fold cross-validation, with pre-trained word vectors.

Command:   python -m experiments.run --config configs/textcnn/mr_static.py \
               --workdir runs/textcnn/mr_static \
               --config.word_vectors.path=GoogleNews-vectors-negative300.bin.gz
Needs:     rt-polarity.pos and rt-polarity.neg (downloaded, or put into <manual_dir>/mr)
           and word vectors of 300 dimensions, such as the word2vec file named above
Paper:     81.0 (Table 2, CNN-static)
Ours:      not measured
"""

from configs.textcnn import mr

PAPER = {"accuracy": 81.0, "where": "Table 2, CNN-static"}


def get_config():
    config = mr.get_config()
    config.model.variant = "static"
    return config

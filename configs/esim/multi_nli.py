r"""ESIM on MultiNLI, tested on its matched and its mismatched validation split; 5 % of the training part are its
dev part.

Command:   python -m experiments.run --config configs/esim/multi_nli.py \
               --workdir runs/esim/multi_nli --config.word_vectors.path=glove.840B.300d.txt
Needs:     the corpus through TFDS (392,702 pairs), GloVe 840B; read as glue/mnli, since TFDS can prepare
           multi_nli with TensorFlow only
Paper:     none: not one of its corpora
Ours:      not measured
"""

from configs.esim import snli


def get_config():
    config = snli.get_config()
    config.data.corpus, config.data.dev, config.data.test = "glue/mnli", "", "validation_matched"
    config.data.more_tests = ("validation_mismatched",)
    config.data.dev_fraction = 0.05
    return config

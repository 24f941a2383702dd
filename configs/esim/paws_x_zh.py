r"""ESIM on the Chinese part of PAWS-X: paraphrases in which word overlap misleads, by characters, random vectors.

Command:   python -m experiments.run --config configs/esim/paws_x_zh.py \
               --workdir runs/esim/paws_x_zh
Needs:     the corpus through TFDS (paws_x_wiki/zh)
Paper:     none: not one of its corpora
Ours:      not measured
"""

from configs.esim import lcqmc_small


def get_config():
    config = lcqmc_small.get_config()
    config.replicas = 1
    config.data.corpus = "paws_x_wiki/zh"
    config.data.train, config.data.dev, config.data.test = "train", "validation", "test"
    config.data.buckets = (24, 48, 96)
    return config

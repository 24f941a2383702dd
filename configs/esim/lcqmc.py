r"""ESIM on LCQMC with the corpus's own splits, by characters, random vectors.

Command:   python -m experiments.run --config configs/esim/lcqmc.py \
               --workdir runs/esim/lcqmc
Needs:     train.txt, dev.txt and test.txt in <manual_dir>/lcqmc
Paper:     none: not one of its corpora
Ours:      not measured
"""

from configs.esim import lcqmc_small


def get_config():
    config = lcqmc_small.get_config()
    config.replicas = 1
    config.data.train, config.data.dev, config.data.test = "train", "validation", "test"
    return config

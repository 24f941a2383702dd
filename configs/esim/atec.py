r"""ESIM on ATEC, questions of a payment service, by characters, random vectors; 10-fold
cross-validation, since there is no test part.

Command:   python -m experiments.run --config configs/esim/atec.py \
               --workdir runs/esim/atec
Needs:     atec_nlp_sim_train.csv (and atec_nlp_sim_train_add.csv) in <manual_dir>/atec
Paper:     none: not one of its corpora
Ours:      not measured
"""

from configs.esim import lcqmc_small


def get_config():
    config = lcqmc_small.get_config()
    config.replicas, config.folds = 1, 10
    config.data.corpus, config.data.train, config.data.test = "atec", "train", ""
    return config

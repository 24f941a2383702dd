r"""The cosine of mean vectors on LCQMC without its training part, by characters, random vectors, 3 seeds: a baseline
without attention between the texts (research/siamese.py).

Command:   python -m experiments.run --config configs/esim/lcqmc_small_cosine.py \
               --workdir runs/esim/lcqmc_small_cosine
Needs:     dev.txt and test.txt in <manual_dir>/lcqmc
Paper:     none: not one of its corpora
Ours:      accuracy 68.89 ± 0.34 (n = 3); 33 s on AMD EPYC, 1 core
Note:      trained on test.txt and tested on dev.txt, as configs/esim/lcqmc_small.py
"""

from configs.esim import lcqmc_small_siamese_bilstm


def get_config():
    config = lcqmc_small_siamese_bilstm.get_config()
    config.model.architecture = "cosine"
    return config

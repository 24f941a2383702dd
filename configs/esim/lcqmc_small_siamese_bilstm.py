r"""A siamese BiLSTM on LCQMC without its training part, by characters, random vectors, 3 seeds: a baseline
without attention between the texts (research/siamese.py).

Command:   python -m experiments.run --config configs/esim/lcqmc_small_siamese_bilstm.py \
               --workdir runs/esim/lcqmc_small_siamese_bilstm
Needs:     dev.txt and test.txt in <manual_dir>/lcqmc
Paper:     none: not one of its corpora
Ours:      accuracy 79.66 ± 0.37 (n = 3); 21 min 34 s on AMD EPYC, 1 core
Note:      trained on test.txt and tested on dev.txt, as configs/esim/lcqmc_small.py
"""

from configs.esim import lcqmc_small


def get_config():
    config = lcqmc_small.get_config()
    config.model = dict(
        architecture="siamese_bilstm",
        variant="rand",
        embedding_dim=300,
        hidden=300,
        dropout=0.5,
        word_masks="pair",
        kernel_sizes=(2, 3, 4),
    )
    return config

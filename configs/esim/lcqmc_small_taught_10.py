r"""The form of ESIM that Chinese courses teach, on LCQMC without its training part, 3 seeds: characters, of which the
first 10 of a question count, embeddings of 100, hidden layers of 128, dropout 0.2, no projection, one sigmoid output.

Command:   python -m experiments.run --config configs/esim/lcqmc_small_taught_10.py \
               --workdir runs/esim/lcqmc_small_taught_10
Needs:     dev.txt and test.txt in <manual_dir>/lcqmc
Paper:     none: not one of its corpora
Ours:      accuracy 70.69 ± 0.81 (n = 3); 19 min 07 s on AMD EPYC, 1 core
Note:      trained on test.txt and tested on dev.txt, as configs/esim/lcqmc_small.py
"""

from configs.esim import lcqmc_small


def get_config():
    config = lcqmc_small.get_config()
    config.data.max_vocabulary = 4000
    config.data.buckets = (10,)
    config.model.embedding_dim, config.model.hidden, config.model.dropout = 100, 128, 0.2
    config.model.word_masks = "position"
    config.model.projection, config.model.output = False, "sigmoid"
    return config

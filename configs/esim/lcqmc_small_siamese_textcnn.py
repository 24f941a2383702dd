r"""A siamese TextCNN on LCQMC without its training part, by characters, random vectors, 3 seeds: a baseline
without attention between the texts (research/siamese.py).

Command:   python -m experiments.run --config configs/esim/lcqmc_small_siamese_textcnn.py \
               --workdir runs/esim/lcqmc_small_siamese_textcnn
Needs:     dev.txt and test.txt in <manual_dir>/lcqmc
Paper:     none: not one of its corpora
Ours:      accuracy 72.76 ± 1.82 (n = 3); 18 min 08 s on AMD EPYC, 1 core
Note:      trained on test.txt and tested on dev.txt, as configs/esim/lcqmc_small.py
"""

from configs.esim import lcqmc_small_siamese_bilstm


def get_config():
    config = lcqmc_small_siamese_bilstm.get_config()
    config.model.architecture = "siamese_textcnn"
    return config

r"""CNN-rand of Kim 2014 on TREC questions, 6 classes, 5 seeds.

Command:   python -m experiments.run --config configs/textcnn/trec.py \
               --workdir runs/textcnn/trec
Needs:     TREC.train and TREC.test (downloaded, or put into <manual_dir>/trec)
Paper:     91.2 (Table 2, CNN-rand)
Ours:      accuracy 90.24 ± 0.75 (n = 5); 4 min 10 s on AMD EPYC, 2 cores
"""

from configs.textcnn import mr

PAPER = {"accuracy": 91.2, "where": "Table 2, CNN-rand"}


def get_config():
    config = mr.get_config()
    config.folds, config.replicas = 1, 5
    config.data.corpus = "trec"
    config.data.lower = False  # as in the author's code; with it |V| is the 9,592 of Table 1
    config.data.buckets = (12, 38)
    config.train.patience = 0  # as in the author's code; dev accuracy still rises after 5 epochs without a new best
    return config

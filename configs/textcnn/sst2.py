r"""CNN-rand of Kim 2014 on SST-2, 2 classes, sentences without their phrases, 5 seeds.

Command:   python -m experiments.run --config configs/textcnn/sst2.py \
               --workdir runs/textcnn/sst2
Needs:     stsa.binary.train, stsa.binary.dev and stsa.binary.test in <manual_dir>/sst2
Paper:     82.7 (Table 2, CNN-rand)
Ours:      accuracy 79.20 ± 0.99 (n = 5); 4 min 49 s on AMD EPYC, 2 cores
Departure: the paper also trains on phrases (footnote 4), which makes its training set ten times larger.
"""

from configs.textcnn import mr

PAPER = {"accuracy": 82.7, "where": "Table 2, CNN-rand"}


def get_config():
    config = mr.get_config()
    config.folds, config.replicas = 1, 5
    config.data.corpus, config.data.dev = "sst2", "validation"
    return config

r"""CNN-rand of Kim 2014 on SST-1, 5 classes, sentences without their phrases, 5 seeds.

Command:   python -m experiments.run --config configs/textcnn/sst1.py \
               --workdir runs/textcnn/sst1
Needs:     stsa.fine.train, stsa.fine.dev and stsa.fine.test in <manual_dir>/sst1
Paper:     45.0 (Table 2, CNN-rand)
Ours:      not measured
Departure: the paper also trains on phrases (footnote 4), which makes its training set ten times larger.
"""

from configs.textcnn import mr

PAPER = {"accuracy": 45.0, "where": "Table 2, CNN-rand"}


def get_config():
    config = mr.get_config()
    config.folds, config.replicas = 1, 5
    config.data.corpus, config.data.dev = "sst1", "validation"
    return config

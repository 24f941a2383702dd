r"""CNN-rand of Kim 2014 on customer reviews (CR), 10-fold cross-validation.

Command:   python -m experiments.run --config configs/textcnn/cr.py \
               --workdir runs/textcnn/cr
Needs:     custrev.pos and custrev.neg in <manual_dir>/cr
Paper:     79.8 (Table 2, CNN-rand)
Ours:      not measured
"""

from configs.textcnn import mr

PAPER = {"accuracy": 79.8, "where": "Table 2, CNN-rand"}


def get_config():
    config = mr.get_config()
    config.data.corpus = "cr"
    config.data.buckets = (16, 32, 64, 128)
    return config

r"""CNN-rand of Kim 2014 on opinion polarity (MPQA), 10-fold cross-validation.

Command:   python -m experiments.run --config configs/textcnn/mpqa.py \
               --workdir runs/textcnn/mpqa
Needs:     mpqa.pos and mpqa.neg in <manual_dir>/mpqa
Paper:     83.4 (Table 2, CNN-rand)
Ours:      not measured
"""

from configs.textcnn import mr

PAPER = {"accuracy": 83.4, "where": "Table 2, CNN-rand"}


def get_config():
    config = mr.get_config()
    config.data.corpus = "mpqa"
    config.data.buckets = (8, 48)
    return config

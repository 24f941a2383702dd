r"""CNN-rand of Kim 2014 on subjectivity (Subj), 10-fold cross-validation.

Command:   python -m experiments.run --config configs/textcnn/subj.py \
               --workdir runs/textcnn/subj
Needs:     subj.subjective and subj.objective (downloaded, or put into <manual_dir>/subj)
Paper:     89.6 (Table 2, CNN-rand)
Ours:      not measured
"""

from configs.textcnn import mr

PAPER = {"accuracy": 89.6, "where": "Table 2, CNN-rand"}


def get_config():
    config = mr.get_config()
    config.data.corpus = "subj"
    config.data.buckets = (16, 32, 64, 128)
    return config

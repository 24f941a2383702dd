r"""TextCNN with random vectors on the 50 fine classes of TREC, 5 seeds; not in the paper.

Command:   python -m experiments.run --config configs/textcnn/trec_fine.py \
               --workdir runs/textcnn/trec_fine
Needs:     TREC.train and TREC.test (downloaded, or put into <manual_dir>/trec)
Paper:     none: it has the 6 coarse classes
Ours:      not measured
"""

from configs.textcnn import trec


def get_config():
    config = trec.get_config()
    config.data.corpus = "trec/fine"
    return config

r"""The small TextCNN that courses teach: windows of 2, 3 and 4 with 2 filters each, texts of 32 tokens, on MR.

Command:   python -m experiments.run --config configs/textcnn/taught_2_filters.py \
               --workdir runs/textcnn/taught_2_filters
Needs:     rt-polarity.pos and rt-polarity.neg (downloaded, or put into <manual_dir>/mr)
Paper:     none: other sizes than its
Ours:      not measured
"""

from configs.textcnn import mr


def get_config():
    config = mr.get_config()
    config.data.buckets = (32,)
    config.model.kernel_sizes = (2, 3, 4)
    config.model.filters = 2
    return config

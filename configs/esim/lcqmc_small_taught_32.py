r"""The form of ESIM that Chinese courses teach, with the first 32 characters of a question, 3 seeds.

Command:   python -m experiments.run --config configs/esim/lcqmc_small_taught_32.py \
               --workdir runs/esim/lcqmc_small_taught_32
Needs:     dev.txt and test.txt in <manual_dir>/lcqmc
Paper:     none: not one of its corpora
Ours:      accuracy 73.41 ± 0.50 (n = 3); 22 min 27 s on AMD EPYC, 1 core
Note:      trained on test.txt and tested on dev.txt, as configs/esim/lcqmc_small.py
"""

from configs.esim import lcqmc_small_taught_10


def get_config():
    config = lcqmc_small_taught_10.get_config()
    config.data.buckets = (12, 16, 32)
    return config

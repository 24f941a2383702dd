r"""A small Transformer on Multi30k, German to English, test_2016_flickr, 3 seeds; lower-cased as public tutorials do.

Command:   python -m experiments.run --config configs/transformer/multi30k_de_en.py \
               --workdir runs/transformer/multi30k_de_en
Needs:     the files {train,val,test_2016_flickr}.{de,en}.gz (downloaded, or put into <manual_dir>/multi30k)
Paper:     none: not one of its corpora
Ours:      exact match 3.97 ± 0.25, BLEU 34.21 ± 0.13, BLEU (lower-cased) 39.60 ± 0.14 (n = 3); 6 h 49 min on AMD EPYC,
           2 cores
Note:      the seeds were trained at the same time, three on two cores, by this command in a workdir each, and put into
           one workdir for it to sum up; the time is their sum, three times what it took
"""

from configs.transformer import base


def get_config():
    config = base.get_config()
    config.replicas = 3
    config.data.corpus = "multi30k/de_en"
    config.data.source, config.data.target = "de", "en"
    config.data.test = "test_2016_flickr"
    config.data.lower = True
    config.data.subword_size = 6000
    config.data.buckets = (12, 14, 16, 18, 20, 24, 30, 56)
    config.model.update(layers=3, d_model=256, d_ff=512, heads=4, d_k=64, d_v=64, dropout=0.2)
    config.optimizer.update(learning_rate=0.6, warmup=500)
    config.train.epochs, config.train.steps = 18, 0
    config.train.batch_tokens = 1600
    config.train.eval_every = 0
    config.train.stream = False
    return config

r"""A small Transformer on Multi30k, English to German, test_2016_flickr, one seed; lower-cased.

Command:   python -m experiments.run --config configs/transformer/multi30k_en_de.py \
               --workdir runs/transformer/multi30k_en_de
Needs:     the files {train,val,test_2016_flickr}.{de,en}.gz (downloaded, or put into <manual_dir>/multi30k)
Paper:     none: not one of its corpora
Ours:      exact match 6.50, BLEU 7.67, BLEU (lower-cased) 38.33 (n = 1); 1 h 20 min on AMD EPYC, 1 core
"""

from configs.transformer import multi30k_de_en


def get_config():
    config = multi30k_de_en.get_config()
    config.replicas = 1
    config.data.source, config.data.target = "en", "de"
    return config

r"""A small Transformer on Multi30k, English to German, test_2016_flickr, 3 seeds; lower-cased.

Command:   python -m experiments.run --config configs/transformer/multi30k_en_de.py \
               --workdir runs/transformer/multi30k_en_de
Needs:     the files {train,val,test_2016_flickr}.{de,en}.gz (downloaded, or put into <manual_dir>/multi30k)
Paper:     none: not one of its corpora
Ours:      not measured
"""

from configs.transformer import multi30k_de_en


def get_config():
    config = multi30k_de_en.get_config()
    config.data.source, config.data.target = "en", "de"
    return config

r"""The ConvS2S of configs/conv_seq2seq/iwslt.py on Multi30k, German to English, on the Transformer's batches.

Dropout is 0.3 instead of 0.2: the corpus has a fifth of the pairs.

Command:   python -m experiments.run --config configs/conv_seq2seq/multi30k_de_en.py \
               --workdir runs/conv_seq2seq/multi30k_de_en
Needs:     the files {train,val,test_2016_flickr}.{de,en}.gz (downloaded, or put into <manual_dir>/multi30k)
Paper:     none: not one of its corpora
Ours:      exact match 4.00, BLEU 36.08, BLEU (lower-cased) 41.53 (n = 1); 1 h 23 min on AMD EPYC, 1 core
Note:      the run stood still for about eight minutes of its time
"""

from configs.conv_seq2seq import iwslt
from configs.transformer import multi30k_de_en


def get_config():
    config = iwslt.get_config()
    transformer = multi30k_de_en.get_config()
    config.data.update(transformer.data)
    config.model.update(dropout=0.3)
    config.train.batch_tokens = transformer.train.batch_tokens
    config.train.stream = False
    return config

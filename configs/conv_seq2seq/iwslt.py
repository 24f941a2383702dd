r"""A ConvS2S of the size that is common for IWSLT: 4 and 3 layers of 256. The paper has no such run.

It reads a pair of plain or gzip text files of your own.

Command:   python -m experiments.run --config configs/conv_seq2seq/iwslt.py \
               --workdir runs/conv_seq2seq/iwslt
Needs:     {train,validation,test}.{source,target} in <manual_dir>/parallel
Paper:     none: not one of its corpora
Ours:      not measured
"""

from configs.conv_seq2seq import wmt14_en_de


def get_config():
    config = wmt14_en_de.get_config()
    config.data.corpus = "parallel"
    config.data.source, config.data.target = "source", "target"
    config.data.subword_size = 10000
    config.model.update(encoder=("4*256x3",), decoder=("3*256x3",), embedding=256, output=256)
    config.train.batch_size = 64
    return config

r"""A ConvS2S of a public tutorial's size on Multi30k: 10 and 10 layers of 512, embeddings of 256, words.

40 million parameters where the tutorial's model has 37 million: mostly because here each decoder layer has attention
maps of its own, as in the paper, where there all share one pair, and the tables of positions are longer
(paper_notes/conv_seq2seq.md).

Command:   python -m experiments.run --config configs/conv_seq2seq/multi30k_de_en_tutorial.py \
               --workdir runs/conv_seq2seq/multi30k_de_en_tutorial
Needs:     the files {train,val,test_2016_flickr}.{de,en}.gz (downloaded, or put into <manual_dir>/multi30k)
Paper:     none: not one of its corpora
Ours:      not measured
"""

from configs.conv_seq2seq import multi30k_de_en


def get_config():
    config = multi30k_de_en.get_config()
    config.data.tokenizer = "moses"
    config.data.joint = False
    config.data.min_count = 2
    config.model.update(encoder=("10*512x3",), decoder=("10*512x3",), dropout=0.25)
    config.decode.replace_unknown = True
    return config

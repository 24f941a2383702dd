r"""ConvS2S of Gehring et al. 2017 (section 5.1) on WMT 2014 English-French.

The paper speaks of 15 layers and lists 14, with which the 25 words that it says an output sees agree; these are taken.

Command:   python -m experiments.run --config configs/conv_seq2seq/wmt14_en_fr.py \
               --workdir runs/conv_seq2seq/wmt14_en_fr
Needs:     wmt14_translate/fr-en of the TFDS catalogue, and accelerators: the paper took about 37 days on 8 GPUs
Paper:     40.51 BLEU on newstest2014 (Table 1, BPE 40K)
Ours:      not measured
"""

from configs.conv_seq2seq import wmt14_en_de

PAPER = {"bleu": 40.51, "where": "Table 1, WMT'14 English-French, ConvS2S (BPE 40K)"}


def get_config():
    config = wmt14_en_de.get_config()
    config.data.corpus = "wmt14_translate/fr-en"
    config.data.target = "fr"
    layers = ("5*512x3", "4*768x3", "3*1024x3", "2048x1", "4096x1")
    config.model.update(encoder=layers, decoder=layers, dropout=0.1)  # dropout: as in wmt14_en_de
    config.train.batch_size = 256  # 32 on each of 8 GPUs
    return config

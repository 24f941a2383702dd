r"""ConvS2S of Gehring et al. 2017 (section 5.1) on WMT 2016 English-Romanian: 20 and 20 layers of 512.

Without the back-translated text that the paper adds to the training pairs (section 4.1). Dropout is that of
English-German: the paper gives no value.

Command:   python -m experiments.run --config configs/conv_seq2seq/wmt16_en_ro.py \
               --workdir runs/conv_seq2seq/wmt16_en_ro
Needs:     wmt16_translate/ro-en of the TFDS catalogue, and an accelerator: the paper took 6 to 7.5 days on one GPU
Paper:     30.02 BLEU on newstest2016 (Table 1, BPE 40K)
Ours:      not measured
"""

from configs.conv_seq2seq import wmt14_en_de

PAPER = {"bleu": 30.02, "where": "Table 1, WMT'16 English-Romanian, ConvS2S (BPE 40K)"}


def get_config():
    config = wmt14_en_de.get_config()
    config.data.corpus = "wmt16_translate/ro-en"
    config.data.target = "ro"
    config.model.update(encoder=("20*512x3",), decoder=("20*512x3",))
    config.train.batch_size = 64
    return config

r"""ConvS2S of Gehring et al. 2017 (section 5.1) on WMT 2014 English-German, and the fields that all its runs have.

Command:   python -m experiments.run --config configs/conv_seq2seq/wmt14_en_de.py \
               --workdir runs/conv_seq2seq/wmt14_en_de
Needs:     wmt14_translate/de-en of the TFDS catalogue, and an accelerator: the paper took 18.5 days on one GPU
Paper:     25.16 BLEU on newstest2014 (Table 1, BPE 40K)
Ours:      not measured
"""

from configs.defaults import translation_defaults

PAPER = {"bleu": 25.16, "where": "Table 1, WMT'14 English-German, ConvS2S (BPE 40K)"}


def get_config():
    config = translation_defaults()
    config.paper = "conv_seq2seq"

    config.data.corpus = "wmt14_translate/de-en"
    config.data.source, config.data.target = "en", "de"
    config.data.dev = "validation"
    config.data.subword_size = 40000
    config.data.buckets = (16, 32, 48, 64, 96, 175)

    layers = ("10*512x3", "3*768x3", "2*2048x1")  # channels x kernel width; a width of 1 is a linear map
    config.model = dict(
        encoder=layers,
        decoder=layers,
        attention=(),  # numbers of the decoder layers that attend, from 1; empty: all
        embedding=512,
        output=512,  # size of what the decoder gives the last linear map
        dropout=0.2,  # of the README of the authors' fairseq; the paper does not give it
        gate="glu",  # tanh, relu, none
        norm="weight",  # layer, none
        scale_residual=True,  # sums by the square root of 0.5
        context="add",  # concat
        dense=False,  # decoder layers see all layers before them
        source_positions=True,
        target_positions=True,
        max_length=1024,  # of learned positions
        dtype="float32",
    )
    config.optimizer = dict(
        name="nesterov", learning_rate=0.25, momentum=0.99, clip_norm=0.1, anneal=0.1, least_rate=1e-4
    )
    config.decode.beam = 5
    config.decode.alpha, config.decode.offset = 1.0, 0.0  # log-probabilities by length: section 4.3
    config.train.epochs = 100  # at most: the learning rate ends the run
    config.train.batch_size = 48
    config.train.monitor = "perplexity"
    config.train.label_smoothing = 0.0
    config.train.stream = True
    return config

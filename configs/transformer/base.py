r"""Transformer base of Vaswani et al. 2017 (Table 3, section 5) on WMT 2014 English-German.

Command:   python -m experiments.run --config configs/transformer/base.py \
               --workdir runs/transformer/base
Needs:     wmt14_translate/de-en of the TFDS catalogue, and accelerators: the paper took 12 hours on 8 P100 GPUs
Paper:     27.3 BLEU on newstest2014 (Table 2)
Ours:      not measured
"""

from configs.defaults import translation_defaults

PAPER = {"bleu": 27.3, "where": "Table 2, Transformer (base model)"}


def get_config():
    config = translation_defaults()
    config.paper = "transformer"

    config.data.corpus = "wmt14_translate/de-en"
    config.data.source, config.data.target = "en", "de"
    config.data.dev = "validation"
    config.data.tokenizer = "bpe"
    config.data.subword_size = 37000
    config.data.buckets = (16, 32, 48, 64, 96, 128)

    config.model = dict(
        layers=6,
        d_model=512,
        d_ff=2048,
        heads=8,
        d_k=64,
        d_v=64,
        dropout=0.1,
        positions="sinusoidal",
        max_length=1024,  # of learned positions; of others a bound of what predict reads
        share="all",
        norm="layer",
        pre_norm=False,
        residual=True,
        scale=True,
        fused="",
        dtype="float32",
    )
    config.optimizer = dict(
        name="adam",
        learning_rate=1.0,
        beta1=0.9,
        beta2=0.98,
        epsilon=1e-9,
        warmup=4000,
        clip_norm=0.0,
        anneal=0.0,
        least_rate=0.0,
    )
    config.train.epochs = 200  # at most: the steps end the run
    config.train.steps = 100_000
    config.train.batch_tokens = 25000
    config.train.eval_every = 1500  # 10 minutes of the paper's machine
    config.train.average = 5
    config.train.stream = True
    return config

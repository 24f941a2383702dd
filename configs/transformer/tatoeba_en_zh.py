r"""A small Transformer on Tatoeba sentences, English to Chinese (characters), one seed.

Command:   python -m experiments.run --config configs/transformer/tatoeba_en_zh.py \
               --workdir runs/transformer/tatoeba_en_zh
Needs:     cmn.txt in <manual_dir>/tatoeba_zh_en
Paper:     none: not one of its corpora
Ours:      exact match 4.74, BLEU 22.47, BLEU (lower-cased) 22.47 (n = 1); 33 min 24 s on AMD EPYC, 1 core
"""

from configs.transformer import multi30k_de_en


def get_config():
    config = multi30k_de_en.get_config()
    config.replicas = 1
    config.data.corpus = "tatoeba_zh_en"
    config.data.source, config.data.target = "en", "zh"
    config.data.test = "test"
    config.data.tokenizer, config.data.target_tokenizer = "bpe", "character"
    config.data.joint = False
    config.data.lower = False
    config.data.subword_size = 4000
    config.model.share = "target"
    return config

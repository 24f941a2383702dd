"""Sentences to ids and back: nothing in a text is read as what it is not, and nothing is lost unnoticed."""

import pytest

from configs.defaults import defaults, matching_defaults, translation_defaults
from experiments import cli
from research.codecs import Subwords, learn_words, load_codecs, make_codecs, save_codecs, tokenizers, words_codec
from research.errors import ConfigError
from research.text import RESERVED, SENTENCE, TREE, UNKNOWN, Vocabulary

TEXTS = {
    "source": ["l'eau est là .", "un chien </s> <pad>", "<s> M. Noir", "l'eau"],
    "target": ["the water is there .", "a dog </s>", "don't <unk> Mr. Black", "water"],
}


def configuration(**changes):
    config = translation_defaults()
    for name, value in ({"source": "fr", "target": "en", "tokenizer": "blank"} | changes).items():
        cli.set_field(config, f"data.{name}", str(value))
    return config


@pytest.fixture(params=[True, False], ids=["made", "loaded"])
def codecs(request, tmp_path):
    """Role -> codec for a configuration, as training makes them and as prediction loads them."""

    def codecs(config):
        made = make_codecs(TEXTS, config)
        save_codecs(made, tmp_path, config)
        return made if request.param else load_codecs(tmp_path, config)

    return codecs


# --- reserved words


@pytest.mark.parametrize("joint", [True, False])
def test_reserved_words_in_a_text_are_unknown(codecs, joint):
    codec = codecs(configuration(joint=joint))["target"]
    text = " ".join(["a", *SENTENCE, "dog"])
    a, dog = codec.encode("a dog")
    assert codec.encode(text) == [a, *[UNKNOWN] * 4, dog] and min(a, dog) >= 4
    assert codec.unknown(text) == list(SENTENCE)


def test_reserved_words_are_left_out_as_unknown_ones_are(codecs):
    codec = codecs(configuration(unknown="skip"))["target"]
    assert codec.encode("a </s> xyz <unk> dog") == codec.encode("a dog")
    assert codec.unknown("a </s> xyz <unk> dog") == ["</s>", "xyz", "<unk>"]


@pytest.mark.parametrize(("kind", "size"), [("bpe", 57), ("bpe", 40), ("unigram", 26)])
def test_reserved_words_in_a_text_are_pieces_of_subwords(kind, size):
    """Also where the training text is full of them."""
    texts = ["a </s> b <pad> c <unk> d <s> e x</s>y", "two dogs run / < > k u n p d s"] * 100
    model = Subwords.train(texts, kind=kind, size=size, lower=False)
    for text in (*SENTENCE, "a </s> b", "x</s>y"):
        ids = model.encode(text)
        assert min(ids) > max(range(len(SENTENCE))) and model.decode(ids) == text and model.unknown(text) == []


def test_the_sign_that_subwords_write_for_a_blank_is_unknown():
    """sentencepiece reads it as a blank, so that it would be lost."""
    model = Subwords.train(["a dog runs", "two dogs"] * 20, kind="bpe", size=20, lower=False)
    assert model.unknown("a▁dog 猫 ▁") == ["猫", "▁", "▁"] and model.unknown("a dog") == []


# --- tokenisers


@pytest.mark.parametrize("joint", [True, False])
def test_moses_splits_each_language_by_its_own_rules(codecs, joint):
    """In training as in prediction, with one vocabulary too."""
    found = codecs(configuration(tokenizer="moses", joint=joint))
    shown = {role: codec.pieces(codec.encode(TEXTS[role][0])) for role, codec in found.items()}
    assert shown == {"source": ["l'", "eau", "est", "là", "."], "target": ["the", "water", "is", "there", "."]}
    assert found["target"].pieces(found["target"].encode("don't")) == ["don", "'t"]
    assert found["source"].unknown("l'eau\x07 猫") == ["\x07", "猫"]
    assert found["source"].decode(found["source"].encode("l'eau est là.")) == "l'eau est là."
    assert len(found["source"]) == len(found["target"]) or not joint


@pytest.mark.parametrize("kind", ["character", "jieba", "bpe", "unigram"])
def test_chinese_is_written_without_blanks(kind, tmp_path):
    """Beside English in subwords of a vocabulary of its own, as trained and as loaded."""
    chinese = ["两只狗在跑步。", "一只狗在睡觉。", "两个人在睡觉。", "一个人在跑步。"]
    texts = {"source": ["two dogs run .", "a dog sleeps ."] * 20, "target": chinese * 20}
    config = configuration(
        source="en", target="zh", tokenizer="bpe", target_tokenizer=kind, joint=False, subword_size=20
    )
    made = make_codecs(texts, config)
    save_codecs(made, tmp_path, config)
    assert {path.name for path in tmp_path.iterdir()} >= {"vocabulary_source.model"}
    for codecs in (made, load_codecs(tmp_path, config)):
        for role, codec in codecs.items():
            ids = [codec.encode(text) for text in texts[role][:2]]
            assert [codec.decode(each) for each in ids] == texts[role][:2]
            assert all(codec.unknown(text) == [] for text in texts[role][:2])
            assert codec.content() == made[role].content()
        assert codecs["source"].unknown("狗") == ["狗"] and codecs["target"].unknown("猫") == ["猫"]


@pytest.mark.parametrize("field", ["tokenizer", "target_tokenizer"])
def test_a_tokeniser_that_loses_or_repeats_characters_is_not_for_translation(field):
    config = configuration(**{"joint": False, field: "clean_str"})
    with pytest.raises(ConfigError, match=rf"^data\.{field}: clean_str drops .*classification"):
        make_codecs(TEXTS, config)
    for kind in ("both", "parse"):
        config.data[field] = kind
        with pytest.raises(ConfigError, match=rf"^data\.{field}: {kind} has more than a text's words"):
            make_codecs(TEXTS, config)
    config = defaults()
    config.data.tokenizer = "clean_str"
    assert tokenizers(config) == {"text": "clean_str"}


@pytest.mark.parametrize("kind", ["blank", "bpe"])
def test_unknown_words_become_a_token_or_are_left_out(kind):
    config = configuration(unknown="foo", tokenizer=kind, subword_size=40)
    with pytest.raises(ConfigError, match=r"^data\.unknown: 'foo' is neither token nor skip$"):
        make_codecs(TEXTS, config)


def test_subwords_leave_nothing_out():
    config = configuration(unknown="skip", tokenizer="bpe", subword_size=40)
    with pytest.raises(ConfigError, match=r"^data\.unknown = skip is for words and characters; bpe spells"):
        make_codecs(TEXTS, config)


# --- words at the ends of texts


@pytest.mark.parametrize(("begin", "end"), [("_BOS_", "_EOS_"), ("_BOS_", ""), ("", "_EOS_"), ("", "")])
def test_every_text_stands_between_two_words(begin, end):
    config = matching_defaults()
    config.data.update(begin=begin, end=end)
    split = words_codec("premise", Vocabulary(RESERVED), config).split
    tokens = lambda *words: [word for word in (begin, *words, end) if word]
    assert split("A dog") == tokens("a", "dog") and split("") == tokens()
    codec = words_codec("hypothesis", learn_words([split("a dog"), split("a a a")], config), config)
    assert codec.pieces(codec.encode("dog")) == tokens("dog")
    config.data.tokenizer = "parse"
    assert words_codec("premise", Vocabulary(RESERVED), config).split("( A dog )") == tokens("a", "dog")


@pytest.mark.parametrize("tree", ["parse", "full"])
def test_no_tree_has_words_at_its_ends(tree):
    config = matching_defaults()
    config.data.update(end="_EOS_", tree=tree, tokenizer="parse")
    with pytest.raises(ConfigError, match=rf"^data\.begin and data\.end: .* with data\.tree = {tree}$"):
        words_codec("premise", Vocabulary(TREE, TREE), config)

"""Tokenisers, trees and the vocabulary."""

import random

import pytest

from research.errors import ConfigError, DataError
from research.text import (
    EOS,
    NODE,
    NODE_TOKEN,
    RESERVED,
    SENTENCE,
    TREE,
    UNKNOWN,
    ParseError,
    Vocabulary,
    detokenizer,
    full_tree,
    half_width,
    post_order,
    tokenizer,
)


@pytest.mark.parametrize(
    ("kind", "lower", "text", "tokens"),
    [
        ("blank", True, "It 's\tGood , yes\x85\u3000no", ["it", "'s", "good", ",", "yes\x85\u3000no"]),
        ("clean_str", True, "It's GOOD, isn't it?", ["it", "'s", "good", ",", "is", "n't", "it", "?"]),
        ("clean_str", False, "They'll (I've) \"x-y\"!", ["They", "'ll", "(", "I", "'ve", ")", "x", "y", "!"]),
        ("clean_str", True, "we're he'd caf\xe9 a\x85b", ["we", "'re", "he", "'d", "caf", "a", "b"]),
        ("character", True, "我 Love\u3000你!", ["我", "l", "o", "v", "e", "你", "!"]),
        ("mixed", True, "这film2020真not-bad，好!", ["这", "film2020", "真", "not", "-", "bad", "，", "好", "!"]),
        ("mixed", False, "𠀀a_b 3.5", ["𠀀", "a", "_", "b", "3", ".", "5"]),
        ("jieba", True, "我来到 北京清华大学", ["我", "来到", "北京", "清华大学"]),
        ("both", True, "我来到 北京 X1", ["我", "来到", "来", "到", "北京", "北", "京", "x1", "x", "1"]),
        ("moses", False, "Isn't it Mr. O'Hara's  dog?", ["Isn", "'t", "it", "Mr.", "O", "'Hara", "'s", "dog", "?"]),
        ("moses", True, "<B> & 3,500 “x”... ab.", ["<", "b", ">", "&", "3,500", "“", "x", "”", "...", "ab", "."]),
        ("moses", False, "bell\x07 nul\0byte", ["bell", "\x07", "nul", "\0", "byte"]),
    ],
)
def test_tokens(kind, lower, text, tokens):
    assert tokenizer(kind, lower)(text) == tokens


@pytest.mark.parametrize(
    ("language", "text", "tokens"),
    [
        ("fr", "L'eau de M. Noir.", ["L'", "eau", "de", "M.", "Noir", "."]),
        ("en", "L'eau de M. Noir.", ["L", "'eau", "de", "M.", "Noir", "."]),
        ("de", "Das ist ca. 5 km.", ["Das", "ist", "ca.", "5", "km", "."]),
        ("en", "Das ist ca. 5 km.", ["Das", "ist", "ca", ".", "5", "km", "."]),
    ],
)
def test_moses_has_rules_for_each_language(language, text, tokens):
    assert tokenizer("moses", False, language)(text) == tokens
    assert detokenizer("moses", language)(tokens) == text


def test_blanks_stand_between_words_but_not_beside_chinese_characters():
    tokens = tokenizer("mixed", lower=False)("我们 use JAX 0 吧 ok")
    assert detokenizer("mixed")(tokens) == "我们use JAX 0吧ok"


@pytest.mark.parametrize("kind", ["blank", "character", "mixed", "jieba", "moses"])
def test_only_clean_str_loses_characters(kind):
    """What a vocabulary lacks can be said only of characters that are in some token."""
    chance = random.Random(1)
    signs = [*map(chr, range(0x250)), *"Σς…‘’“”你好，。가\u200b\ufeff\ufffd𠀀😀", "...", "..", "n't", "</s>"]
    for _ in range(300):
        text = "".join(chance.choices(signs, k=30))
        assert "".join("".join(tokenizer(kind, False)(text)).split()) == "".join(text.split())


def test_half_width():
    """Every form of U+FF01 to U+FF5E stands for the ASCII character of the same name; nothing else changes."""
    signs = "".join(map(chr, range(0x21, 0x7F)))
    assert half_width("".join(map(chr, range(0xFF01, 0xFF5F)))) == signs
    assert half_width("ＡＢｃ　１２３，好！（～）") == "ABc 123,好!(~)"
    others = "。、“”《》…\uff00\uff5f｡ｱ￥" + signs
    assert half_width(others) == others


@pytest.mark.parametrize(
    ("kind", "lower", "text", "tokens"),
    [
        ("blank", True, "Ａ　b，Ｃ", ["a", "b,c"]),
        ("blank", False, "Ａ　b，Ｃ", ["A", "b,C"]),
        ("mixed", True, "看ＤＶＤ１２张！", ["看", "dvd12", "张", "!"]),
        ("moses", False, "Ｇｏ，ｎｏｗ．", ["Go", ",", "now", "."]),
    ],
)
def test_tokens_of_narrowed_text(kind, lower, text, tokens):
    assert tokenizer(kind, lower, narrow=True)(text) == tokens
    assert tokenizer(kind, lower)(text) != tokens


@pytest.mark.parametrize("kind", ["blank", "clean_str", "character", "mixed", "jieba", "both", "moses"])
def test_nothing_to_split(kind):
    assert tokenizer(kind, True)("") == [] and tokenizer(kind, True)(" \t ") == []


def test_unknown_tokenizer_is_refused():
    with pytest.raises(ConfigError, match=r"data\.tokenizer: 'bpe' is none of blank, "):
        tokenizer("bpe", True)


@pytest.mark.parametrize(
    ("parse", "nodes"),
    [
        ("( ( A man ) sleeps )", "A man ) sleeps )"),
        ("( A ( man ( sleeps . ) ) )", "A man sleeps . ) ) )"),
        ("( ( a b ) ( c d ) )", "a b ) c d ) )"),
        (" ((a b)(c\td)) ", "a b ) c d ) )"),
        ("( -LRB- ( x -RRB- ) )", "-LRB- x -RRB- ) )"),
        ("Hello", "Hello"),
        ("", ""),
        ("  ", ""),
    ],
)
def test_post_order(parse, nodes):
    assert post_order(parse) == nodes.split()


def test_words_of_parses_end_at_blanks_alone():
    assert post_order("( 1\u00a01/2 ( cups\u3000 \x85 ) )") == ["1\u00a01/2", "cups\u3000", "\x85", ")", ")"]


@pytest.mark.parametrize(
    ("parse", "column", "problem"),
    [
        ("( ( A man ) sleeps", 1, "this bracket is never closed"),
        ("( A ( man sleeps", 5, "this bracket is never closed"),
        ("(", 1, "this bracket is never closed"),
        (")", 1, "this bracket closes none"),
        ("( A man ) )", 11, "this bracket closes none"),
        ("Hello )", 7, "this bracket closes none"),
        ("( ( A ) sleeps )", 7, "a node with one child ends here"),
        ("( ( A man ) )", 13, "a node with one child ends here"),
        ("( )", 3, "an empty node ends here"),
        ("( A ( ) )", 7, "an empty node ends here"),
        ("( A man sleeps )", 9, "a node's third child begins here"),
        ("( A man ( sleeps . ) )", 9, "a node's third child begins here"),
        ("( ( A man ) sleeps\t( . ) )", 20, "a node's third child begins here"),
        ("A man", 3, "text after the end of the tree"),
        ("( A man ) sleeps", 11, "text after the end of the tree"),
        ("( A man ) ( sleeps . )", 11, "text after the end of the tree"),
        ("( 猫 睡 觉 )", 7, "a node's third child begins here"),
    ],
)
def test_malformed_parses(parse, column, problem):
    with pytest.raises(ParseError, match=problem) as caught:
        post_order(parse)
    assert caught.value.column == column and str(caught.value) == f"column {column}: {caught.value.problem}"


@pytest.mark.parametrize(
    ("words", "nodes"),
    [
        ("", ""),
        ("a", "a"),
        ("a b", "a b )"),
        ("a b c", "a b ) c )"),
        ("a b c d", "a b ) c d ) )"),
        ("a b c d e", "a b ) c d ) ) e )"),  # e moves up twice
        ("a b c d e f", "a b ) c d ) ) e f ) )"),
        ("a b c d e f g", "a b ) c d ) ) e f ) g ) )"),
        ("f ( x ) !", "f -LRB- ) x -RRB- ) ) ! )"),
    ],
)
def test_full_tree(words, nodes):
    assert full_tree(words.split()) == nodes.split()


def bracketed(nodes):
    """The parse of nodes in post-order."""
    stack = []
    for node in nodes:
        stack.append(f"( {stack.pop(-2)} {stack.pop()} )" if node == NODE_TOKEN else node)
    (parse,) = stack
    return parse


@pytest.mark.parametrize("length", [*range(1, 20), 2000])
def test_full_trees_are_binary_and_flat(length):
    words = [f"w{n}" for n in range(length)]
    nodes = full_tree(words)
    assert len(nodes) == 2 * length - 1 and [node for node in nodes if node != NODE_TOKEN] == words
    parse = bracketed(nodes)
    assert post_order(parse) == nodes
    depths = [parse[:at].count("(") - parse[:at].count(")") for at in (0, parse.index("w0"))]
    assert depths == [0, (length - 1).bit_length()]


def test_deep_parses():
    """A chain of 20,000 words is no deeper than Python's stack allows."""
    assert post_order("( a " * 20_000 + "b" + " )" * 20_000) == ["a"] * 20_000 + ["b"] + [")"] * 20_000


TEXTS = [["b", "a", "b"], ["c", "a", "b"], ["d", "<unk>"]]


def test_vocabulary_orders_by_count_then_appearance():
    assert Vocabulary.build(TEXTS).tokens == ("<pad>", "<unk>", "b", "a", "c", "d")
    assert Vocabulary.build(TEXTS, min_count=2).tokens[2:] == ("b", "a")
    assert Vocabulary.build(TEXTS, max_size=3).tokens[2:] == ("b", "a", "c")


def test_unknown_tokens_are_marked_or_skipped():
    known = Vocabulary.build(TEXTS, min_count=2)
    assert known.encode(["a", "z", "b"]) == [3, UNKNOWN, 2]
    assert known.encode(["a", "z", "b"], skip=True) == [3, 2]


@pytest.mark.parametrize("reserved", [RESERVED, SENTENCE])
def test_reserved_words_in_a_text_are_unknown(reserved):
    known = Vocabulary.build([["a", *SENTENCE], ["b", "a"]], reserved=reserved)
    assert known.tokens[: len(reserved)] == reserved
    words = ["b", *reserved, "a"]
    ids = [known.tokens.index("b"), *[UNKNOWN] * len(reserved), len(reserved)]
    assert known.encode(words) == ids
    assert known.encode(words, skip=True) == [ids[0], ids[-1]]
    assert not known.ids.keys() & set(reserved)


def test_vocabularies_of_trees_hold_inner_nodes(tmp_path):
    nodes = post_order("( ( A man ) ( <unk> A ) )")
    known = Vocabulary.build([nodes], reserved=TREE)
    assert TREE[NODE] == NODE_TOKEN and known.tokens == (*TREE, "A", "man")
    assert known.encode(nodes) == [3, 4, NODE, UNKNOWN, 3, NODE, NODE]
    (tmp_path / "v.json").write_bytes(known.content())
    assert Vocabulary.load(tmp_path / "v.json", TREE).encode([*nodes, "<pad>"]) == [*known.encode(nodes), UNKNOWN]


def test_words_that_no_vocabulary_of_this_task_reserves_are_words(tmp_path):
    """In classification a text may hold sentence marks, at whatever ids its counts give them."""
    known = Vocabulary.build([["</s>", "<s>", "</s>", "<s>"], ["<s>", "a"]])
    assert known.tokens == SENTENCE[:3] + SENTENCE[3:] + ("a",)
    (tmp_path / "v.json").write_bytes(known.content())
    assert Vocabulary.load(tmp_path / "v.json").encode(["</s>", "a", "<s>"]) == [EOS, 4, 2]
    assert Vocabulary.load(tmp_path / "v.json", SENTENCE).encode(["</s>", "a", "<s>"]) == [UNKNOWN, 4, UNKNOWN]


def test_vocabulary_survives_its_file(tmp_path):
    known = Vocabulary.build([["a\nb", '"', "\x85", "好", "x"]])
    (tmp_path / "v.json").write_bytes(known.content())
    assert Vocabulary.load(tmp_path / "v.json") == known
    (tmp_path / "v.json").write_text('["<pad>", "a"]')
    with pytest.raises(DataError, match="not a vocabulary"):
        Vocabulary.load(tmp_path / "v.json")
    (tmp_path / "v.json").write_text('["<pad>", "<unk>", "a"]')
    with pytest.raises(DataError, match=r"not a vocabulary .*\(a vocabulary starts with <pad>, <unk>, <s>, </s> and"):
        Vocabulary.load(tmp_path / "v.json", SENTENCE)


def test_the_vocabulary_of_movie_reviews_is_the_papers(corpora):
    """Kim 2014, table 1: MR has 10,662 sentences and |V| = 18,765; his code pads to the longest, 56 tokens."""
    lines = []
    for name in ("rt-polarity.pos", "rt-polarity.neg"):
        lines += (corpora / "mr" / name).read_bytes().decode("iso-8859-1").rstrip("\n").split("\n")
    split = tokenizer("clean_str", True)
    texts = [split(line) for line in lines]
    assert len(texts) == 10662
    assert len(Vocabulary.build(texts)) - 2 == 18765
    assert max(map(len, texts)) == 56
    assert sum(map(len, texts)) / len(texts) == pytest.approx(20, abs=0.5)  # l in table 1

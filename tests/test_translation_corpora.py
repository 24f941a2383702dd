"""Translation corpora: the real ones, files written here, bad ones, downloads, and the generated number words."""

import collections
import gzip
import random
import re

import pytest

from research.corpora import load_corpus, number_words, translation
from research.corpora.reading import read_text
from research.errors import ConfigError, DataError
from research.text import blank


def multi30k(*languages, suffix="", stems=("train", "val", "test_2016_flickr")):
    return {f"{stem}.{code}{suffix}": f"{stem} 1 {code}\n{stem} 2 {code}\n" for stem in stems for code in languages}


# --- real corpora


def test_real_multi30k(corpora, tmp_path):
    if not (corpora / "multi30k").is_dir():
        pytest.skip("multi30k is not among the real corpora")
    corpus = load_corpus("multi30k", columns=["de", "en"], splits=[], data_dir=tmp_path, manual_dir=corpora)
    sizes = {split: len(columns["en"]) for split, columns in corpus.splits.items()}
    assert sizes == {"train": 29000, "validation": 1014, "test_2016_flickr": 1000}
    for split, stem in (("train", "train"), ("validation", "val"), ("test_2016_flickr", "test_2016_flickr")):
        for column in ("de", "en"):
            with gzip.open(corpora / "multi30k" / f"{stem}.{column}.gz", "rt", encoding="utf-8", newline="\n") as file:
                assert corpus.splits[split][column] == [line.strip(" \r\n") for line in file]


def test_real_tatoeba(corpora, tmp_path):
    if not (corpora / "tatoeba_zh_en").is_dir():
        pytest.skip("tatoeba_zh_en is not among the real corpora")
    corpus = load_corpus("tatoeba_zh_en", columns=["en", "zh"], splits=[], data_dir=tmp_path, manual_dir=corpora)
    assert {split: len(columns["en"]) for split, columns in corpus.splits.items()} == {
        "train": 18158,
        "validation": 984,
        "test": 991,
    }
    assert_disjoint(corpus)
    raw = (corpora / "tatoeba_zh_en" / "cmn.txt").read_text(encoding="utf-8").splitlines()
    loaded = [pair for columns in corpus.splits.values() for pair in zip(columns["en"], columns["zh"])]
    assert collections.Counter(map("\t".join, loaded)) == collections.Counter(raw)


def assert_disjoint(corpus):
    """No sentence of either language is in two splits."""
    for column in ("en", "zh"):
        of_split = [{text.casefold() for text in columns[column]} for columns in corpus.splits.values()]
        assert len(set().union(*of_split)) == sum(map(len, of_split))


# --- Multi30k


def test_multi30k_of_plain_and_compressed_files(load, write):
    write("multi30k", multi30k("de", suffix=".gz") | multi30k("en"))
    write("multi30k", {"val.de.gz": "eins \u2028 \x85 \r\n\ufeffÜber", "val.en": "\ufeffone\r\n\t two\n"})
    corpus = load("multi30k", ["de", "en"])
    assert (corpus.name, corpus.label_names) == ("multi30k/de_en", ())
    assert corpus.splits == {
        "train": {"de": ["train 1 de", "train 2 de"], "en": ["train 1 en", "train 2 en"]},
        "validation": {"de": ["eins \u2028 \x85", "\ufeffÜber"], "en": ["one", "two"]},
        "test_2016_flickr": {
            "de": ["test_2016_flickr 1 de", "test_2016_flickr 2 de"],
            "en": ["test_2016_flickr 1 en", "test_2016_flickr 2 en"],
        },
    }
    swapped = load("multi30k/de_en", ["en", "de"], ["validation"])
    assert list(swapped.splits["validation"]) == ["en", "de"]
    write("multi30k", {"val.de": "neu\nneu\n"})  # the plain file counts
    assert load("multi30k", ["de"], ["validation"]).splits["validation"]["de"] == ["neu", "neu"]


def test_multi30k_needs_the_files_of_two_languages_only(load, write):
    write("multi30k", multi30k("en", "fr", suffix=".gz"))
    corpus = load("multi30k/en_fr", ["en", "fr"], ["train"])
    assert corpus.splits["train"] == {"en": ["train 1 en", "train 2 en"], "fr": ["train 1 fr", "train 2 fr"]}
    expected = r"put train\.de, val\.de, test_2016_flickr\.de into .*raw/multi30k$"
    with pytest.raises(DataError, match=expected):
        load("multi30k", ["de", "en"])
    write("multi30k", multi30k("cs"))
    assert load("multi30k/en_cs", ["cs"], ["train"]).splits["train"]["cs"] == ["train 1 cs", "train 2 cs"]
    assert load("multi30k/fr_cs", ["fr"], ["train"]).splits["train"]["fr"] == ["train 1 fr", "train 2 fr"]
    with pytest.raises(ConfigError, match="'multi30k/en_fr' has no column 'de'; it has en, fr"):
        load("multi30k/en_fr", ["de"])
    with pytest.raises(
        ConfigError, match=r"no configuration 'en_de'; it has de_en, de_fr, de_cs, en_fr, en_cs, fr_cs$"
    ):
        load("multi30k/en_de", ["de"])


def test_multi30k_is_prepared_anew_for_its_own_files_only(load, write, monkeypatch):
    write("multi30k", multi30k("de", "en"))
    first = load("multi30k", ["de", "en"])
    write("multi30k", multi30k("fr"))
    with monkeypatch.context() as patch:
        patch.setattr("research.corpora.loading._prepare", None)  # is not called
        assert load("multi30k", ["de", "en"]) == first
    write("multi30k", {"train.en": "new\nlines\n"})
    assert load("multi30k", ["en"], ["train"]).splits["train"]["en"] == ["new", "lines"]


def test_multi30k_further_test_sets(load, write):
    write("multi30k", multi30k("de", "en"))
    with pytest.raises(ConfigError, match=r"no split 'test_2017_mscoco'; it has train, validation, test_2016_flickr$"):
        load("multi30k", ["en"], ["test_2017_mscoco"])
    further = ("test_2017_flickr", "test_2017_mscoco", "test_2018_flickr")
    write("multi30k", multi30k("en", stems=further) | multi30k("de", stems=further[:2], suffix=".gz"))
    with pytest.raises(DataError, match=r"put test_2018_flickr\.de into .*raw/multi30k$"):
        load("multi30k", ["en"])
    write("multi30k", multi30k("de", stems=further[2:]))
    corpus = load("multi30k", ["de", "en"])
    assert tuple(corpus.splits) == ("train", "validation", "test_2016_flickr", *further)
    assert corpus.splits["test_2018_flickr"]["de"] == ["test_2018_flickr 1 de", "test_2018_flickr 2 de"]


def test_multi30k_needs_one_test_set_whichever(load, write):
    write("multi30k", multi30k("de", "en", stems=("train", "val")))
    with pytest.raises(DataError, match=r": put test_2016_flickr\.de, test_2016_flickr\.en into .*raw/multi30k$"):
        load("multi30k", ["de", "en"])
    write("multi30k", multi30k("de", "en", stems=("test_2018_flickr",)))
    corpus = load("multi30k", ["de", "en"], ["train", "validation", "test_2018_flickr"])
    assert corpus.splits["test_2018_flickr"]["de"] == ["test_2018_flickr 1 de", "test_2018_flickr 2 de"]
    expected = r"no split 'test_2016_flickr'; it has train, validation, test_2018_flickr$"
    with pytest.raises(ConfigError, match=expected):
        load("multi30k", ["de"], ["test_2016_flickr"])
    write("multi30k", multi30k("de", stems=("test_2016_flickr",)))
    with pytest.raises(DataError, match=r": put test_2016_flickr\.en into .*raw/multi30k$"):
        load("multi30k", ["de"])


def test_multi30k_download_without_its_test_set_is_not_whole(load, write, monkeypatch):
    publisher = write("publisher", multi30k("de", "en", suffix=".gz", stems=("train", "val")))
    monkeypatch.setattr(translation, "_MULTI30K", publisher.as_uri())
    expected = r"put train\.de, .* into .*raw/multi30k \(the download failed: file:.*test_2016_flickr\.de\.gz: "
    for _ in range(2):
        with pytest.raises(DataError, match=expected):
            load("multi30k", ["de"])
    write("publisher", multi30k("de", "en", suffix=".gz", stems=("test_2016_flickr",)))
    assert tuple(load("multi30k", ["de"]).splits) == ("train", "validation", "test_2016_flickr")


def test_multi30k_download(load, write, monkeypatch, tmp_path):
    publisher = write("publisher", multi30k("de", "en", "fr", suffix=".gz"))
    monkeypatch.setattr(translation, "_MULTI30K", publisher.as_uri())
    corpus = load("multi30k/en_fr", ["en", "fr"])
    assert corpus.splits["validation"] == {"en": ["val 1 en", "val 2 en"], "fr": ["val 1 fr", "val 2 fr"]}
    downloads = tmp_path / "data" / "downloads" / "multi30k"
    assert {path.name for path in downloads.iterdir()} == set(multi30k("en", "fr", suffix=".gz"))
    (publisher / "val.de.gz").unlink()
    files = "train.de, train.en, val.de, val.en, test_2016_flickr.de, test_2016_flickr.en"
    expected = rf"put {re.escape(files)} into .*raw/multi30k \(the download failed: file:.*val\.de\.gz: "
    with pytest.raises(DataError, match=expected) as caught:
        load("multi30k", ["de", "en"])
    assert "\n" not in str(caught.value)


def test_multi30k_is_downloaded_from_its_publisher(tmp_path):
    builder = translation.Multi30k(folder=tmp_path, downloads=tmp_path, data_dir=tmp_path, config="de_cs")
    folder = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
    assert {name: source.url for name, source in builder.sources.items()} == {
        name: f"{folder}/{name}" for name in multi30k("de", "cs", suffix=".gz")
    }


# --- a user's own files


def test_parallel(load, write):
    write("parallel", {"train.source": "一\n二\n", "train.target": "one\ntwo"})
    corpus = load("parallel", ["source", "target"])
    assert corpus.splits == {"train": {"source": ["一", "二"], "target": ["one", "two"]}}
    assert corpus.name == "parallel"
    with pytest.raises(ConfigError, match=r"'parallel' has no split 'validation'; it has train$"):
        load("parallel", ["source"], ["validation"])
    write("parallel", {"validation.source.gz": "三\n", "validation.target": "three\n"})
    write("parallel", {"test.source": "四\n", "test.target.gz": "four\n"})
    corpus = load("parallel", ["target", "source"], ["test", "validation"])
    assert corpus.splits == {
        "test": {"target": ["four"], "source": ["四"]},
        "validation": {"target": ["three"], "source": ["三"]},
    }


# --- bad files

PAIR = {"train.source": "a\nb\n", "train.target": "c\nd\n"}


@pytest.mark.parametrize(
    "corpus, files, message",
    [
        ("parallel", {}, r"put train\.source, train\.target into .*raw/parallel$"),
        ("parallel", {"train.de": "a", "train.en": "b"}, r"put train\.source, train\.target into"),
        ("parallel", {"train.source": "a\n"}, r"put train\.target into .*raw/parallel$"),
        ("parallel", PAIR | {"test.target": "a\n"}, r"put test\.source into .*raw/parallel$"),
        ("parallel", {"validation.source": "a"}, r"put train\.source, train\.target, validation\.target into"),
        (
            "multi30k",
            multi30k("de", "en") | {"val.en": "one\n"},
            r"raw/multi30k/val\.de has 2 lines, .*raw/multi30k/val\.en has 1; line n of one",
        ),
        (
            "parallel",
            {"train.source.gz": "a\n", "train.target": "c\nd\n\n"},
            r"train\.source\.gz has 1 lines, .*train\.target has 3",
        ),
        (
            "parallel",
            PAIR | {"train.target": "c\n \t\r\n"},
            r"train\.target:2: the line is empty; .* line 2 from both train\.source and train\.target$",
        ),
        ("parallel", PAIR | {"train.source": "\nb\n"}, r"train\.source:1: the line is empty; restore .*remove line 1"),
        ("parallel", {"train.source": "a\n\x85", "train.target": "c\n\n"}, r"train\.source:2: the line is empty"),
        ("parallel", PAIR | {"train.target": " \n\n"}, r"train\.target: the file is empty"),
        ("parallel", PAIR | {"train.target": b"c\nd\0\n"}, r"train\.target:2: NUL byte"),
        ("parallel", PAIR | {"train.target": b"c\n\xe4d\n"}, r"train\.target:2: byte 0xe4 is not UTF-8.*iconv"),
        ("parallel", {"train.source.gz": b"a\n\xe4\n", "train.target": "c\nd\n"}, r"source\.gz:2: byte 0xe4 is not"),
        ("tatoeba_zh_en", {}, r"put cmn\.txt into .*raw/tatoeba_zh_en$"),
        ("tatoeba_zh_en", {"cmn.txt": "Hi.\t嗨。\nRun.\n"}, r"cmn\.txt:2: 'Run\.' is no pair; the line must be"),
        ("tatoeba_zh_en", {"cmn.txt": "Hi.\t\n"}, r"cmn\.txt:1: 'Hi\.' is no pair"),
        ("tatoeba_zh_en", {"cmn.txt": "Hi.\t \tCC-BY\n"}, r"cmn\.txt:1: .* is no pair"),
        ("tatoeba_zh_en", {"cmn.txt": "a\tb\tc\td\n"}, r"cmn\.txt:1: .* is no pair"),
        ("tatoeba_zh_en", {"cmn.txt": "Hi.\t嗨。\n\nRun.\t跑。\n"}, r"cmn\.txt:2: the line is empty"),
        ("tatoeba_zh_en", {"cmn.txt": "Hi.\t嗨。\n".encode("gbk")}, r"cmn\.txt:1: byte 0x\w\w is not UTF-8"),
        ("tatoeba_zh_en", {"cmn.txt": "Hi.\t嗨。\n"}, r"cmn\.txt: none of 1 pairs falls into split '\w+'"),
    ],
)
def test_bad_files(load, write, tmp_path, corpus, files, message):
    write(corpus, files)
    columns = {"parallel": ["source", "target"], "multi30k": ["de", "en"], "tatoeba_zh_en": ["en", "zh"]}[corpus]
    with pytest.raises(DataError, match=message) as caught:
        load(corpus, columns)
    assert "\n" not in str(caught.value) and "TFDS" not in str(caught.value)
    assert not list((tmp_path / "data").rglob("*array_record*"))


WHOLE = gzip.compress(b"one sentence\n" * 100)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"plain text\n", r"no whole gzip file \(Not a gzipped file .*drop \.gz if it is plain text"),
        (WHOLE[:-20], r"no whole gzip file \(Compressed file ended"),
        (WHOLE[:-8] + bytes(8), r"no whole gzip file \(CRC check failed"),
        (WHOLE[:10] + b"\xff" * 10 + WHOLE[20:], r"no whole gzip file \(Error -3"),
        (gzip.compress(b""), "the file is empty"),
        (b"", "the file is empty"),
    ],
    ids=["plain", "cut", "checksum", "stream", "empty text", "empty file"],
)
def test_damaged_gzip(tmp_path, content, message):
    path = tmp_path / "train.de.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"train\.de\.gz: {message}"):
        read_text(path)
    path.write_bytes(WHOLE)
    assert read_text(path) == "one sentence\n" * 100


def test_damaged_gzip_of_a_corpus(load, write):
    (write("parallel", {"train.target": "b\n"}) / "train.source.gz").write_bytes(WHOLE[:-20])
    with pytest.raises(DataError, match=r"raw/parallel/train\.source\.gz: no whole gzip file"):
        load("parallel", ["source", "target"])


# --- Tatoeba


def made_up_pairs(count):
    """Pairs of which many share a sentence of one language or the other, and none is there twice."""
    rng = random.Random(5)
    pairs = {(f"Sentence {rng.randrange(count)}.", f"第{rng.randrange(count)}句。") for _ in range(count // 2)}
    return sorted(pairs)


def test_tatoeba_format(load, write):
    lines = [f"{english}\t{chinese}" for english, chinese in made_up_pairs(400)]
    write("tatoeba_zh_en", {"cmn.txt": "\n".join(lines)})
    plain = load("tatoeba_zh_en", ["en", "zh"])
    again = [f"{line}\tCC-BY 2.0 (France) #{number}\r\n" for number, line in enumerate(lines + lines[:50])]
    write("tatoeba_zh_en", {"cmn.txt": "".join(again)})
    assert load("tatoeba_zh_en", ["en", "zh"]) == plain  # attributions and pairs that are there twice are left out


def test_tatoeba_splits(load, write):
    pairs = made_up_pairs(6000)
    lines = [f"{english}\t{chinese}\n" for english, chinese in pairs]
    write("tatoeba_zh_en", {"cmn.txt": "".join(lines)})
    corpus = load("tatoeba_zh_en", ["en", "zh"])
    sizes = {split: len(columns["en"]) for split, columns in corpus.splits.items()}
    assert list(sizes) == ["train", "validation", "test"] and sum(sizes.values()) == len(pairs)
    assert 0.85 < sizes["train"] / len(pairs) < 0.95 and 0.5 < sizes["validation"] / sizes["test"] < 2
    assert_disjoint(corpus)
    random.Random(1).shuffle(lines)
    write("tatoeba_zh_en", {"cmn.txt": "".join(lines)})
    shuffled = load("tatoeba_zh_en", ["en", "zh"])
    for split, columns in corpus.splits.items():  # in the order of the file, whatever that is
        assert list(zip(columns["en"], columns["zh"])) == sorted(
            zip(shuffled.splits[split]["en"], shuffled.splits[split]["zh"])
        )
        assert columns != shuffled.splits[split]


def test_tatoeba_groups():
    def places(*pairs):
        return list(translation._places(pairs))

    # The same under every Python: those of which the first 8 bytes of SHA-256 are 0 or 1 modulo 20.
    alone = places(*((str(number), f"第{number}句") for number in range(100)))
    assert [number for number in range(100) if alone[number] == "test"] == [0, 9, 10, 33, 40, 44, 59, 70, 74]
    assert [number for number in range(100) if alone[number] == "validation"] == [14, 68, 99]
    assert alone.count("train") == 88
    # Pairs that hang together by either language, through others too, go where the smallest English sentence goes.
    for first in (9, 14, 15):
        chain = places(
            (str(first), "好"), ("zz", "好！"), ("ZZ!", "不好"), ("zy", "不　好。"), ("Zy", "Ａ"), ("z", "a")
        )
        assert chain == [alone[first]] * 6
    assert places(("Ａ b!", "x"), ("a B.", "y"))[0] == places(("ab", "z"))[0]


# --- number words


@pytest.mark.parametrize(
    "number, chinese, english",
    [
        (0, "零", "zero"),
        (2, "二", "two"),
        (10, "十", "ten"),
        (12, "十二", "twelve"),
        (15, "十五", "fifteen"),
        (20, "二十", "twenty"),
        (99, "九十九", "ninety nine"),
        (100, "一百", "one hundred"),
        (101, "一百零一", "one hundred and one"),
        (110, "一百一十", "one hundred and ten"),
        (222, "二百二十二", "two hundred and twenty two"),
        (1000, "一千", "one thousand"),
        (1005, "一千零五", "one thousand and five"),
        (1010, "一千零一十", "one thousand and ten"),
        (1100, "一千一百", "one thousand one hundred"),
        (2020, "两千零二十", "two thousand and twenty"),
        (2345, "两千三百四十五", "two thousand three hundred and forty five"),
        (10000, "一万", "ten thousand"),
        (10001, "一万零一", "ten thousand and one"),
        (12000, "一万两千", "twelve thousand"),
        (20202, "两万零二百零二", "twenty thousand two hundred and two"),
        (22222, "两万两千二百二十二", "twenty two thousand two hundred and twenty two"),
        (90040, "九万零四十", "ninety thousand and forty"),
        (100000, "十万", "one hundred thousand"),
        (105000, "十万五千", "one hundred and five thousand"),
        (120013, "十二万零一十三", "one hundred and twenty thousand and thirteen"),
        (200300, "二十万零三百", "two hundred thousand three hundred"),
        (
            999999,
            "九十九万九千九百九十九",
            "nine hundred and ninety nine thousand nine hundred and ninety nine",
        ),
    ],
)
def test_number_words(number, chinese, english):
    assert number_words.chinese(number) == chinese
    assert number_words.english(number) == english
    assert number_words.english(number, conjunction=False) == english.replace(" and ", " ")


def test_chinese_beyond_the_corpus():
    assert number_words.chinese(1_000_000) == "一百万"
    assert number_words.chinese(10_200_005) == "一千零二十万零五"
    assert number_words.chinese(22_220_000) == "两千二百二十二万"
    assert number_words.chinese(99_999_999) == "九千九百九十九万九千九百九十九"


def of_chinese(text):
    """The number that Chinese characters say."""
    total = section = digit = 0
    for character in text:
        if character == "万":
            total, section, digit = (section + digit) * 10_000, 0, 0
        elif character in "十百千":
            assert digit or (character == "十" and not section and not total)
            section, digit = section + max(digit, 1) * 10 ** ("十百千".index(character) + 1), 0
        else:
            digit = 2 if character == "两" else "零一二三四五六七八九".index(character)
    return total + section + digit


SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
SMALL = {word: value for value, word in enumerate((SMALL + " seventeen eighteen nineteen").split())}
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
SMALL |= {word: 10 * value for value, word in enumerate(TENS.split(), start=2)}


def of_english(text):
    """The number that English words say."""
    total = current = 0
    for word in text.split(" "):
        if word == "thousand":
            total, current = current * 1000, 0
        elif word == "hundred":
            current *= 100
        elif word != "and":
            current += SMALL[word]
    return total + current


def test_number_words_round_trip():
    for number in [*range(20_001), *range(20_001, 1_000_000, 997)]:
        chinese = number_words.chinese(number)
        assert of_chinese(chinese) == number
        assert number == 0 or not re.search("零零|零$|^零|^一十|二千|(?<!十)二万|两[百十]|两$", chinese)
        assert of_english(number_words.english(number)) == number
        assert of_english(number_words.english(number, conjunction=False)) == number


@pytest.fixture(scope="module")
def generated():
    return number_words.generate()


def number_and_kind(pair):
    """The number of a pair, and what is asked for; both checked by the parsers above."""
    source, target = pair["source"], pair["target"]
    if language := re.match("(zh|en) ", source):
        digits, words, kind = source[3:], target, "to " + language[1]
    else:
        digits, words, kind = target, source, "from " + ("en" if source.isascii() else "zh")
    assert re.fullmatch(r"\d( \d)*", digits)
    number = int(digits.replace(" ", ""))
    assert number == (of_english(words) if kind.endswith("en") else of_chinese(words.replace(" ", "")))
    return number, kind


def test_number_word_splits(generated):
    assert {split: len(pairs) for split, pairs in generated.items()} == {
        "train": 20000,
        "validation": 1000,
        "test": 2000,
        "test_longer": 1000,
    }
    of_split = {}
    for split, pairs in generated.items():
        kinds = collections.defaultdict(list)
        for pair in pairs:
            number, kind = number_and_kind(pair)
            kinds[number].append(kind)
        assert all(sorted(asked) == ["from en", "from zh", "to en", "to zh"] for asked in kinds.values())
        of_split[split] = set(kinds)
    assert len(set().union(*of_split.values())) == sum(map(len, of_split.values())) == 6000
    assert of_split["train"] >= set(range(100))
    lengths = {split: {len(str(number)) for number in numbers} for split, numbers in of_split.items()}
    assert lengths == {
        "train": {1, 2, 3, 4, 5},
        "validation": {3, 4, 5},
        "test": {3, 4, 5},
        "test_longer": {6},
    }


def test_number_word_tokens(generated):
    tokens = {
        split: {token for pair in pairs for text in pair.values() for token in blank(text)}
        for split, pairs in generated.items()
    }
    assert len(tokens["train"]) == 58 and all(of_split <= tokens["train"] for of_split in tokens.values())
    texts = [text for pairs in generated.values() for pair in pairs for text in pair.values()]
    assert max(len(blank(text)) for text in texts) == 11
    english = [pair["source"] for pair in generated["train"] if number_and_kind(pair)[1] == "from en"]
    said = [" and " in source for source in english if of_english(source) % 100 and of_english(source) > 100]
    assert 0.45 < sum(said) / len(said) < 0.55
    zeros = collections.Counter(digit for pair in generated["test"] for digit in pair["target"][1:] if digit.isdigit())
    assert 0.2 < zeros["0"] / zeros.total() < 0.3


def test_number_word_corpus(load, generated):
    corpus = load("number_words", ["source", "target"])
    assert corpus.splits == {
        split: {column: [pair[column] for pair in pairs] for column in ("source", "target")}
        for split, pairs in generated.items()
    }
    # The same pairs under every Python.
    assert corpus.digest == "7b1496e005616de26141c2ce5be02a0b5e7f0127b568f00da2317d1db960c93c"


def test_number_words_of_another_generator_are_stale(load, monkeypatch):
    monkeypatch.setattr(number_words, "_LENGTHS", {3: 750})
    monkeypatch.setattr(number_words, "_LONGER", {6: 5})
    first = load("number_words", ["source"])
    assert len(first.splits["train"]["source"]) == 400
    monkeypatch.setattr(number_words, "_LONGER", {6: 10})
    second = load("number_words", ["source"])
    assert len(second.splits["test_longer"]["source"]) == 2 * len(first.splits["test_longer"]["source"]) == 40

"""Matching corpora: the real ones, files written here, bad ones, prepared copies, and the generated paraphrases."""

import collections
import json
import re

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from research.corpora import load_corpus, loading, paraphrases
from research.errors import ConfigError, DataError
from research.text import tokenizer

COLUMNS = ("sentence1", "sentence2", "label")
SMALL = "天气好\t天气怎样\t1\n一\t二\t0\n"
SICK_HEADER = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment"
SICK = f"{SICK_HEADER}\n1\tA man runs\tA man moves \t4.5\tENTAILMENT\n2\tA\tB\t1\tNEUTRAL\n3\tA\tC\t3.25\tCONTRADICTION"
SICK_FILES = dict.fromkeys(("SICK_train.txt", "SICK_trial.txt", "SICK_test_annotated.txt"), SICK)
PARSES = "( ( A man ) sleeps )\t( He sleeps )\tyes\nHello\t( ( a b ) ( c d ) )\tno\n"


def snli(gold="entailment", **changes):
    """A line of SNLI's files."""
    pair = {"gold_label": gold, "pairID": "1", "sentence1": "A man sleeps.", "sentence2": "Rest"}
    pair |= {"sentence1_binary_parse": "( ( A man ) ( sleeps . ) )", "sentence2_binary_parse": "Rest"}
    return json.dumps(pair | changes) + "\n"


SNLI_FILES = {f"snli_1.0_{split}.jsonl": snli() + snli("neutral") for split in ("train", "dev", "test")}


# --- real corpora


@pytest.mark.parametrize(
    "name, sizes, classes",
    [
        ("lcqmc", {"validation": {"different": 4400, "same": 4402}, "test": {"different": 6250, "same": 6250}}, ()),
        ("afqmc", {"train": {"different": 23761, "same": 10573}, "validation": {"different": 2978, "same": 1338}}, ()),
        (
            "sick",
            {
                "train": {"entailment": 1299, "neutral": 2536, "contradiction": 665},
                "validation": {"entailment": 144, "neutral": 282, "contradiction": 74},
                "test": {"entailment": 1414, "neutral": 2793, "contradiction": 720},
            },
            ("entailment", "neutral", "contradiction"),
        ),
    ],
)
def test_real_corpora(corpora, tmp_path, name, sizes, classes):
    if not (corpora / name).is_dir():
        pytest.skip(f"{name} is not among the real corpora")
    corpus = load_corpus(name, columns=COLUMNS, splits=[], data_dir=tmp_path, manual_dir=corpora)
    assert corpus.label_names == (classes or ("different", "same"))
    counts = {
        split: dict(collections.Counter(corpus.label_names[label] for label in columns["label"]))
        for split, columns in corpus.splits.items()
    }
    assert counts == sizes
    raw = {
        "lcqmc": ("test", "test.txt"),
        "afqmc": ("train", "train.txt"),
        "sick": ("test", "SICK_test_annotated.txt"),
    }
    split, file = raw[name]
    lines = (corpora / name / file).read_bytes().decode().replace("\r\n", "\n").removesuffix("\n").split("\n")
    rows = [line.split("\t") for line in lines]
    texts = [row[1:3] for row in rows[1:]] if name == "sick" else [row[:2] for row in rows]
    pairs = lambda split: list(zip(*(corpus.splits[split][column] for column in ("sentence1", "sentence2"))))
    assert pairs(split) == [tuple(text.strip(" ") for text in pair) for pair in texts]
    if name == "sick":  # as it is distributed
        trained = set(pairs("train"))
        assert sum(pair in trained for pair in pairs("test")) == 49
        assert sum(pair not in trained and pair[::-1] in trained for pair in pairs("test")) == 32


# --- the formats, on files written here


def test_lcqmc_train_is_optional(load, write):
    write("lcqmc", {"dev.txt": SMALL, "test.txt": "\ufeff" + SMALL.replace("\n", "\r\n").rstrip()})
    corpus = load("lcqmc", COLUMNS)
    columns = {"sentence1": ["天气好", "一"], "sentence2": ["天气怎样", "二"], "label": [1, 0]}
    assert corpus.splits == {"validation": columns, "test": columns}
    assert corpus.label_names == ("different", "same")
    write("lcqmc", {"train.txt": SMALL + SMALL})
    assert load("lcqmc", ["label"], ["train"]).splits["train"]["label"] == [1, 0, 1, 0]  # pairs that repeat are kept


def test_afqmc(load, write):
    write("afqmc", {"train.txt": SMALL, "dev.txt": " \u3000一\u2028 \t二\x85三\t0 \n"})
    corpus = load("afqmc", COLUMNS)
    assert corpus.splits["train"]["label"] == [1, 0]
    assert corpus.splits["validation"] == {"sentence1": ["\u3000一\u2028"], "sentence2": ["二\x85三"], "label": [0]}


def test_atec(load, write):
    write("atec", {"atec_nlp_sim_train.csv": '\ufeff1\t"花呗"\t借呗,"\t0\n2\t还款\t怎么还款\t1'})
    first = {"sentence1": ['"花呗"', "还款"], "sentence2": ['借呗,"', "怎么还款"], "label": [0, 1]}
    assert load("atec", COLUMNS).splits == {"train": first}
    write("atec", {"atec_nlp_sim_train_add.csv": "\ufeff1\t多\t少\t0\r\n"})
    assert load("atec", COLUMNS).splits["train"] == {
        column: values + added for (column, values), added in zip(first.items(), (["多"], ["少"], [0]))
    }


def test_sick(load, write):
    write("sick", SICK_FILES | {"SICK_trial.txt": SICK.replace("\n", "\r\n") + "\r\n"})
    corpus = load("sick", (*COLUMNS, "relatedness"))
    assert list(corpus.splits) == ["train", "validation", "test"]
    assert corpus.label_names == ("entailment", "neutral", "contradiction")
    for columns in corpus.splits.values():
        assert columns == {
            "sentence1": ["A man runs", "A", "A"],
            "sentence2": ["A man moves", "B", "C"],
            "label": [0, 1, 2],
            "relatedness": [4.5, 1.0, 3.25],
        }


def test_empty_texts_are_examples(load, write):
    """On either side or both: a tab at a line's beginning or before its label ends an empty text."""
    rows = "\t二\t1\n一\t\t0\n\t\t1\n \t  \t0\n"
    texts = {"sentence1": ["", "一", "", ""], "sentence2": ["二", "", "", ""], "label": [1, 0, 1, 0]}
    write("lcqmc", {"dev.txt": rows, "test.txt": SMALL})
    assert load("lcqmc", COLUMNS, ["validation"]).splits["validation"] == texts
    write("pairs", {"train.txt": rows})
    assert load("pairs", COLUMNS).splits["train"] == texts
    assert load("pairs/parses", COLUMNS).splits["train"] == texts
    write("atec", {"atec_nlp_sim_train.csv": "".join(f"7\t{row}\n" for row in rows.splitlines())})
    assert load("atec", COLUMNS).splits["train"] == texts
    write("sick", SICK_FILES | {"SICK_trial.txt": f"{SICK_HEADER}\n1\t\t\t1\tNEUTRAL"})
    assert load("sick", COLUMNS, ["validation"]).splits["validation"]["sentence1"] == [""]


@pytest.mark.parametrize(
    "labels, classes",
    [
        (["yes", "no", "maybe so", "no"], ("maybe so", "no", "yes")),
        (["10", "9", "-1", "9"], ("-1", "9", "10")),
        (["10", "9", "9a"], ("10", "9", "9a")),
        (["好", " b \x85c\r", "b c"], ("b c", "好")),
    ],
)
def test_labels_of_pairs(load, write, labels, classes):
    rows = "".join(f"a\tb\t{label}\n" for label in labels)
    write("pairs", {"train.txt": rows, "test.txt": rows.splitlines()[0]})
    corpus = load("pairs", COLUMNS)
    assert (corpus.name, corpus.label_names) == ("pairs/text", classes)
    expected = [classes.index(" ".join(label.split())) for label in labels]
    assert corpus.splits["train"]["label"] == expected and corpus.splits["test"]["label"] == expected[:1]
    assert load("pairs", COLUMNS) == corpus  # the prepared copy


def test_pairs_keep_the_labels_of_their_prepared_copy(load, write, monkeypatch):
    folder = write("pairs", {"train.txt": "a\tb\tyes\nc\td\tno\n"})
    first = load("pairs", COLUMNS)
    assert first.label_names == ("no", "yes") and list(first.splits) == ["train"]
    write("pairs", {"train.txt": "a\tb\tyes\nc\td\tabsolutely not\n", "validation.txt": "a\tb\tyes\n"})
    second = load("pairs", COLUMNS)
    assert second.label_names == ("absolutely not", "yes") and second.splits["validation"]["label"] == [1]
    for path in folder.iterdir():
        path.unlink()
    monkeypatch.setattr(loading, "_prepare", None)  # is not called
    assert load("pairs", COLUMNS) == second
    with pytest.raises(ConfigError, match="'pairs/text' has no split 'test'; it has train, validation"):
        load("pairs", COLUMNS, ["test"])


def test_configurations_of_pairs(load, write):
    write("pairs", {"train.txt": PARSES})
    parses, text = load("pairs/parses", COLUMNS), load("pairs", COLUMNS)
    assert parses.name == "pairs/parses" and parses.splits == text.splits
    assert parses.splits["train"]["sentence1"] == ["( ( A man ) sleeps )", "Hello"]
    write("pairs", {"train.txt": "A man sleeps .\tHe ( she\tyes\nHi\tyou\tno\n"})
    assert load("pairs", COLUMNS).splits["train"]["sentence2"] == ["He ( she", "you"]
    with pytest.raises(ConfigError, match="'pairs' has no configuration 'trees'; it has text, parses"):
        load("pairs/trees", COLUMNS)


def test_snli_parses(load, write):
    odd = {"sentence1": " A 1\u00a01/2 — ", "sentence1_binary_parse": "( A ( 1\u00a01/2 -LRB- ) )"}
    train = snli() + snli("-", sentence2_binary_parse="( broken") + snli("contradiction", **odd) + snli("neutral")
    write("snli_parses", SNLI_FILES | {"snli_1.0_train.jsonl": train.rstrip()})
    corpus = load("snli_parses", ("sentence1", "sentence2", "sentence1_parse", "sentence2_parse", "label"))
    assert corpus.label_names == ("entailment", "neutral", "contradiction")
    assert corpus.splits["train"] == {
        "sentence1": ["A man sleeps.", "A 1\u00a01/2 —", "A man sleeps."],
        "sentence2": ["Rest"] * 3,
        "sentence1_parse": ["( ( A man ) ( sleeps . ) )", odd["sentence1_binary_parse"], "( ( A man ) ( sleeps . ) )"],
        "sentence2_parse": ["Rest"] * 3,
        "label": [0, 2, 1],
    }
    assert list(corpus.splits) == ["train", "validation", "test"]


# --- bad raw files


def lcqmc(rows):
    return {"dev.txt": SMALL + rows, "test.txt": SMALL}


def sick(row, header=SICK_HEADER):
    return SICK_FILES | {"SICK_trial.txt": f"{header}\n1\tA\tB\t1\tNEUTRAL\n{row}"}


@pytest.mark.parametrize(
    "corpus, files, message",
    [
        ("lcqmc", {}, r"put dev\.txt, test\.txt into .*raw/lcqmc$"),
        ("afqmc", {"train.txt": SMALL}, r"put dev\.txt into .*raw/afqmc$"),
        ("atec", {"atec_nlp_sim_train_add.csv": "1\ta\tb\t0"}, r"put atec_nlp_sim_train\.csv into .*raw/atec$"),
        ("pairs", {"test.txt": SMALL}, r"put train\.txt into .*raw/pairs$"),
        ("snli_parses", {}, r"put snli_1\.0_train\.jsonl, snli_1\.0_dev\.jsonl, snli_1\.0_test\.jsonl into "),
        (
            "lcqmc",
            lcqmc("一个\n"),
            r"txt:3: 1 columns; the line must be '<text>\\t<text>\\t<label>', of 3 columns$",
        ),
        ("lcqmc", lcqmc("1\n"), r"dev\.txt:3: 1 columns; the line must be '<text>"),
        ("lcqmc", lcqmc("一\t1\n"), r"dev\.txt:3: 2 columns; the line must be '<text>"),
        ("lcqmc", lcqmc("一\t二\t三\t1\n"), r"dev\.txt:3: 4 columns; the line must be '<text>"),
        ("lcqmc", lcqmc("\n"), r"dev\.txt:3: the line is empty; the line must be '<text>"),
        ("lcqmc", lcqmc("一\t二\t2"), r"3: '2' is no label of lcqmc; the line must be .* a label out of 0, 1$"),
        ("lcqmc", lcqmc("一\t二\t"), r"dev\.txt:3: '' is no label of lcqmc"),
        ("lcqmc", lcqmc("") | {"test.txt": ""}, r"test\.txt: the file is empty"),
        ("lcqmc", {"dev.txt": SMALL.encode("gb18030"), "test.txt": SMALL}, r"dev\.txt:1: byte 0x\w\w is not.*iconv"),
        (
            "afqmc",
            {"train.txt": "a\tb\t1\nc\td\t1\n", "dev.txt": SMALL},
            r"train\.txt: every pair is of class 'same';",
        ),
        ("atec", {"atec_nlp_sim_train.csv": "1\ta\tb\t0\na\tb\t1\n"}, r"csv:2: 3 columns; .*'<index>\\t<text>.* of 4 "),
        (
            "atec",
            {"atec_nlp_sim_train.csv": "1\ta\tb\t0\n2\ta\tb\t1\n", "atec_nlp_sim_train_add.csv": "1\ta\tb\tyes\n"},
            r"atec_nlp_sim_train_add\.csv:1: 'yes' is no label of atec",
        ),
        ("sick", sick("", "pair_ID\tA\tB\tscore\tlabel"), r"trial\.txt:1: the header must be pair_ID, sentence_A, "),
        (
            "sick",
            SICK_FILES | {"SICK_trial.txt": SICK_HEADER},
            r"trial\.txt: every pair is missing; a classif",
        ),
        (
            "sick",
            sick("2\tA\tB\t1\n"),
            r"txt:3: 4 columns; the line must be '<pair_ID>\\t<sentence_A>.* 5 columns",
        ),
        (
            "sick",
            sick("2\tA\tB\t1\tneutral"),
            r"txt:3: 'neutral' is no label of sick.* ENTAILMENT, NEUTRAL, CON",
        ),
        ("sick", sick("2\tA\tB\tNEUTRAL\t1"), r"trial\.txt:3: 'NEUTRAL' is no relatedness_score, a number from 1 to 5"),
        ("sick", sick("2\tA\tB\t5.5\tNEUTRAL"), r"trial\.txt:3: '5\.5' is no relatedness_score"),
        ("sick", sick("2\tA\tB\tnan\tNEUTRAL"), r"trial\.txt:3: 'nan' is no relatedness_score"),
        ("pairs", {"train.txt": "a\tb\n"}, r"train\.txt:1: 2 columns; the line must be '<text>\\t<text>\\t<label>'"),
        ("pairs", {"train.txt": "a\tb\tyes\na\tb\t \n"}, r"train\.txt:2: the label is empty; the line must be '<text>"),
        (
            "pairs",
            {"train.txt": "a\tb\tyes\n"},
            r"train\.txt: every pair is of class 'yes'; a classifier ",
        ),
        (
            "pairs",
            {"train.txt": "a\tb\t2\na\tb\t10\n", "test.txt": "a\tb\t10\na\tb\t3\n"},
            r"test\.txt:2: '3' is no label of pairs; .* a label out of 2, 10$",
        ),
        (
            "pairs",
            {"train.txt": "".join(f"a\tb\tlabel {n}\n" for n in range(900)), "test.txt": "a\tb\t3\n"},
            r"'3' is no label of pairs; .* a label out of label 0, label 1, .{,200} \.\.\.$",
        ),
        ("pairs", {"train.txt": PARSES, "test.txt": "a\tb\tc\td\n"}, r"test\.txt:1: 4 columns"),
        (
            "snli_parses",
            SNLI_FILES | {"snli_1.0_dev.jsonl": snli() + snli()[:-9]},
            r"jsonl:2: damaged JSON \(.*\); ",
        ),
        ("snli_parses", SNLI_FILES | {"snli_1.0_dev.jsonl": snli() + "\n" + snli()}, r"dev\.jsonl:2: damaged JSON"),
        (
            "snli_parses",
            SNLI_FILES | {"snli_1.0_dev.jsonl": "[1]"},
            r"dev\.jsonl:1: no string gold_label; ",
        ),
        (
            "snli_parses",
            SNLI_FILES | {"snli_1.0_dev.jsonl": snli() + '{"gold_label": "-", "sentence1": "a", "sentence2": "b"}'},
            r"dev\.jsonl:2: no string sentence1_binary_parse; the line must be a JSON object with the ",
        ),
        ("snli_parses", SNLI_FILES | {"snli_1.0_dev.jsonl": snli(sentence2=3)}, r"dev\.jsonl:1: no string sentence2; "),
        (
            "snli_parses",
            SNLI_FILES | {"snli_1.0_dev.jsonl": snli("hidden")},
            r"jsonl:1: 'hidden' is no label of snli",
        ),
        ("snli_parses", SNLI_FILES | {"snli_1.0_test.jsonl": snli("-")}, r"test\.jsonl: every pair is missing"),
        (
            "snli_parses",
            SNLI_FILES | {"snli_1.0_dev.jsonl": snli() + snli(sentence2_binary_parse="( a b ) )")},
            r"dev\.jsonl:2:sentence2_binary_parse:9: this bracket closes none; a parse must be binarised, as in ",
        ),
    ],
)
def test_bad_raw_files(load, write, tmp_path, capfd, corpus, files, message):
    write(corpus, files)
    for _ in range(2):  # a second try does not find something half-made
        with pytest.raises(DataError, match=message) as caught:
            load(corpus, ("label",))
        assert "\n" not in str(caught.value) and "TFDS" not in str(caught.value)
    assert not list((tmp_path / "data").rglob("*array_record*"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "line, place",
    [
        ("( ( A man ) sleeps\t( a b )\tyes", "1: this bracket is never closed"),
        ("( a b )\t( ( A man ) sleeps\tyes", "9: this bracket is never closed"),
        ("  ( a b )\t ( a ( b\tyes", "16: this bracket is never closed"),
        ("( a b )\t( ( 猫 ) sleeps )\tyes", "15: a node with one child ends here; a node has two children"),
        ("\t( a b c )\tyes", "8: a node's third child begins here; a node has two"),
        ("a\tb c\tyes", "5: text after the end of the tree"),
        ("( a b )\t( a ( ) )\tyes", "15: an empty node ends here"),
        ("( a b ) )\t( a b )\tyes", "9: this bracket closes none"),
    ],
)
def test_malformed_parses(load, write, line, place):
    write("pairs", {"train.txt": PARSES, "test.txt": f"\ufeff{PARSES}{line}\n"})
    with pytest.raises(DataError, match=rf"raw/pairs/test\.txt:3:{re.escape(place)}.*; a parse must be binarised, as "):
        load("pairs/parses", COLUMNS)
    assert load("pairs", COLUMNS, ["test"]).splits["test"]["label"] == [1, 0, 1]  # plain texts may hold brackets


# --- the generated corpus


@pytest.fixture(scope="module")
def generated():
    return paraphrases.generate()


def minimal_pairs(examples):
    """(first sentence, second sentence of the same meaning, that of another)."""
    pairs = collections.defaultdict(lambda: {"same": [], "different": []})
    for example in examples:
        characters = "".join(sorted(example["sentence2"]))
        pairs[example["sentence1"], characters][example["label"]].append(example["sentence2"])
    assert all(len(pair["same"]) == len(pair["different"]) for pair in pairs.values())
    return [(first, *both) for (first, _), pair in pairs.items() for both in zip(pair["same"], pair["different"])]


def words_exchanged(first, second):
    """The two words that change places between two sentences."""
    for words in paraphrases._WORDS.values():
        held = sorted((word for word in words.split() if word in first), key=first.index)
        if len(held) == 2 and sorted(held, key=second.index) == held[::-1]:
            return tuple(held)
    raise AssertionError(f"{first} {second}")


def test_paraphrase_corpus(load, generated):
    corpus = load("paraphrases", COLUMNS)
    assert corpus.label_names == ("different", "same")
    for split, size in {"train": 4000, "validation": 500, "test": 1000}.items():
        columns = corpus.splits[split]
        assert len(columns["label"]) == size and sum(columns["label"]) == size // 2
        for column in ("sentence1", "sentence2"):
            assert columns[column] == [example[column] for example in generated[split]]
    # The same pairs under every Python.
    assert corpus.digest == "2327ca72a95b7f60bb6ce66d66bd3f7e4136e8e968947f01ebce69a0372e03e7"


def test_paraphrases_of_another_grammar_are_stale(load, monkeypatch):
    monkeypatch.setattr(paraphrases, "_PAIRS", {"train": 20, "validation": 5, "test": 5})
    first = load("paraphrases", COLUMNS)
    assert load("paraphrases", COLUMNS) == first and len(first.splits["train"]["label"]) == 40
    monkeypatch.setattr(paraphrases, "_RELATIONS", paraphrases._RELATIONS[:3])
    assert load("paraphrases", COLUMNS) != first


@pytest.mark.parametrize("kind", ["character", "jieba"])
def test_paraphrases_share_their_words_with_their_opposites(generated, kind):
    split = tokenizer(kind, False)
    for examples in generated.values():
        pairs = minimal_pairs(examples)
        assert len(pairs) == len(examples) // 2
        for _, same, different in pairs:
            assert same != different and sorted(split(same)) == sorted(split(different))


def test_paraphrase_splits_share_no_pair_of_words(generated):
    pairs = {split: minimal_pairs(examples) for split, examples in generated.items()}
    words = {split: {frozenset(words_exchanged(*two)) for _, *two in triples} for split, triples in pairs.items()}
    assert len(set().union(*words.values())) == sum(map(len, words.values()))
    single = {split: set().union(*of_split) for split, of_split in words.items()}
    assert single["train"] >= single["validation"] | single["test"]
    rows = [(example["sentence1"], example["sentence2"]) for examples in generated.values() for example in examples]
    assert len(set(rows)) == len(rows) == 5500 and not any(first == second for first, second in rows)


def test_paraphrases_never_repeat(monkeypatch):
    frames = {"which": ("", ""), "whether": ("", "吗")}
    monkeypatch.setattr(paraphrases, "_FRAMES", frames)  # few enough pairs that chance repeats some
    rows = [
        (example["sentence1"], example["sentence2"]) for part in paraphrases.generate().values() for example in part
    ]
    assert len(set(rows)) == len(rows) == 5500


def test_forms_of_a_relation():
    for sort, kind, forms in paraphrases._RELATIONS:
        forms = forms.split("|")
        assert sort in paraphrases._FRAMES and 3 <= len(set(forms)) == len(forms) <= 5
        assert all(form.count("{x}") == form.count("{y}") == 1 for form in forms)
        assert 0.4 <= np.mean([paraphrases._ordered(form) for form in forms]) <= 0.6
        words = paraphrases._WORDS[kind].split()
        assert len(set(words)) == len(words) >= 20


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_order_of_the_exchanged_words_does_not_suffice(generated, split):
    """A matcher that knows nothing of forms, only whether both sentences name the two words in the same order."""
    right = []
    for first, same, different in minimal_pairs(generated[split]):
        a, b = words_exchanged(same, different)
        right.append((first.index(a) < first.index(b)) == (same.index(a) < same.index(b)))
    assert 0.7 < np.mean(right) < 0.8


def test_bags_of_words_tell_nothing(generated):
    """Both members of a minimal pair have the same bags: any matcher of bags is right in exactly half of the cases."""
    vectorizer = CountVectorizer(tokenizer=tokenizer("jieba", False), token_pattern=None, lowercase=False)
    vectorizer.fit(example["sentence1"] for example in generated["train"])

    def features(examples):
        one, two = (vectorizer.transform(e[name] for e in examples).toarray() for name in ("sentence1", "sentence2"))
        return np.concatenate([abs(one - two), np.minimum(one, two), one * two], axis=1)

    labels = {split: [example["label"] for example in examples] for split, examples in generated.items()}
    model = LogisticRegression(max_iter=100).fit(features(generated["train"]), labels["train"])
    assert model.score(features(generated["test"]), labels["test"]) == 0.5

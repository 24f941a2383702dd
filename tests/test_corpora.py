"""Corpora: the real ones, bad raw files, downloads, preparation anew, the catalogue, the generated corpus."""

import collections
import functools
import http.server
import importlib.util
import io
import re
import subprocess
import sys
import tarfile
import threading
import time

import pytest
import tensorflow_datasets as tfds
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from research.corpora import classification, load_corpus, loading, word_order
from research.corpora.download import Source
from research.errors import ConfigError, DataError

MR = {"rt-polarity.neg": "bad film\nawful\n", "rt-polarity.pos": "good film\n"}


# --- real corpora


@pytest.mark.parametrize(
    "name, sizes, classes",
    [
        ("mr", {"train": 10662}, 2),
        ("sst2", {"train": 6920, "validation": 872, "test": 1821}, 2),
        ("trec", {"train": 5452, "test": 500}, 6),
        ("trec/fine", {"train": 5452, "test": 500}, 50),
        ("thucnews", {"validation": 10000, "test": 10000}, 10),
        ("waimai_10k", {"train": 11987}, 2),
    ],
)
def test_real_corpora(corpora, tmp_path, name, sizes, classes):
    corpus = load_corpus(name, columns=["text", "label"], splits=[], data_dir=tmp_path, manual_dir=corpora)
    assert {split: len(columns["text"]) for split, columns in corpus.splits.items()} == sizes
    assert len(corpus.label_names) == classes
    for columns in corpus.splits.values():
        assert len(columns["label"]) == len(columns["text"]) and all(columns["text"])
    seen = set().union(*(columns["label"] for columns in corpus.splits.values()))
    assert seen == set(range(classes))


def test_mr_keeps_odd_separators_and_is_fast(corpora, tmp_path):
    load = functools.partial(load_corpus, "mr", columns=["text", "label"], splits=["train"], manual_dir=corpora)
    load(data_dir=tmp_path / "warm")  # imports
    start = time.process_time()
    columns = load(data_dir=tmp_path).splits["train"]
    assert time.process_time() - start < 6.0  # 0.7 s on an idle machine
    assert collections.Counter(columns["label"]) == {0: 5331, 1: 5331}
    raw = (corpora / "mr" / "rt-polarity.pos").read_bytes()
    assert "".join(columns["text"]).count("\x85") == raw.count(b"\x85") + (
        corpora / "mr" / "rt-polarity.neg"
    ).read_bytes().count(b"\x85")
    assert columns["text"][5331] == raw.split(b"\n")[0].decode("iso-8859-1").strip(" ")


# --- the formats, on files written here


def test_files_a_class(load, write):
    write("cr", {"custrev.neg": "poor zoom \r\nheavy", "custrev.pos": b"na\xefve\x85but good\n"})
    write("mpqa", {"mpqa.neg": "not happy\n", "mpqa.pos": "très bien\n"})
    write("subj", {"plot.tok.gt9.5000": "he leaves town .\n", "subj.subjective": "it is fun .\n"})
    cr = load("cr")
    assert cr.splits == {"train": {"text": ["poor zoom", "heavy", "naïve\x85but good"], "label": [0, 0, 1]}}
    assert (cr.name, cr.version, cr.label_names) == ("cr", "1.0.0", ("negative", "positive"))
    assert load("mpqa").splits["train"]["text"] == ["not happy", "très bien"]
    subj = load("subj")
    assert subj.splits["train"]["text"] == ["he leaves town .", "it is fun ."]
    assert subj.label_names == ("objective", "subjective")


def test_labelled_lines(load, write):
    files = {
        f"stsa.fine.{split}": f"{code} a {split} b\n2 so so\n" for split, code in zip(("train", "dev", "test"), "034")
    }
    write("sst1", files)
    corpus = load("sst1", splits=("test", "validation"))
    assert corpus.splits == {
        "test": {"text": ["a test b", "so so"], "label": [4, 2]},
        "validation": {"text": ["a dev b", "so so"], "label": [3, 2]},
    }
    assert corpus.label_names == ("very negative", "negative", "neutral", "positive", "very positive")


def test_csv(load, write):
    rows = 'label,review\n1,"good, ""very"" good\nindeed"\n0,\n0,脏\u2028乱\n'
    write("chnsenticorp", {"ChnSentiCorp_htl_all.csv": "\ufeff" + rows})
    columns = load("chnsenticorp").splits["train"]
    assert columns == {"text": ['good, "very" good\nindeed', "脏\u2028乱"], "label": [1, 0]}


def test_chnsenticorp_other_name(load, write):
    write("chnsenticorp", {"chnsenticorp.csv": "review,label\r\n好,1\r\n差,0\r\n"})
    assert load("chnsenticorp").splits["train"] == {"text": ["好", "差"], "label": [1, 0]}


def test_thucnews_train_is_optional(load, write):
    topics = "\n".join(classification.Thucnews.topics)
    write("thucnews", {"class.txt": topics, "dev.txt": "新闻 一\t3\n新闻\t0\n", "test.txt": "a\t1\nb\tc\t2\n"})
    assert load("thucnews").splits["test"] == {"text": ["a", "b\tc"], "label": [1, 2]}
    with pytest.raises(ConfigError, match="no split 'train'; it has validation, test"):
        load("thucnews", splits=["train"])
    write("thucnews", {"train.txt": "c\t1\nd\t2\n"})
    assert load("thucnews", splits=["train"]).splits["train"]["text"] == ["c", "d"]
    write("thucnews", {"class.txt": "sports\n"})
    with pytest.raises(DataError, match=r"class\.txt: the classes must be"):
        load("thucnews")


def test_a_line_of_a_million_tokens(load, write):
    write("mr", MR | {"rt-polarity.pos": "good " * 1_000_000 + "\n"})
    write("waimai_10k", {"waimai_10k.csv": "label,review\n0,差\n1," + "好" * 1_000_000})
    assert len(load("mr").splits["train"]["text"][2].split(" ")) == 1_000_000
    assert len(load("waimai_10k").splits["train"]["text"][1]) == 1_000_000


# --- bad raw files


@pytest.mark.parametrize(
    "corpus, files, message",
    [
        ("mr", {}, r"put rt-polarity\.neg, rt-polarity\.pos into .*raw/mr"),
        ("mr", {"rt-polarity.pos": "good\n"}, r"put rt-polarity\.neg into .*raw/mr$"),
        ("cr", {"custrev.neg": "bad"}, r"corpus 'cr', from https://github\.com/harvardnlp/.*: put custrev\.pos into "),
        ("sst2", {}, r"put stsa\.binary\.train, stsa\.binary\.dev, stsa\.binary\.test into .*raw/sst2$"),
        ("mr", MR | {"rt-polarity.pos": ""}, r"rt-polarity\.pos: the file is empty"),
        ("mr", MR | {"rt-polarity.pos": "\n \n"}, r"rt-polarity\.pos: the file is empty"),
        ("mr", MR | {"rt-polarity.pos": "a\n\nb\n"}, r"rt-polarity\.pos:2: the line is empty"),
        ("mr", MR | {"rt-polarity.pos": "a\n \x85\nb\n"}, r"rt-polarity\.pos:2: the line is empty"),
        ("mr", MR | {"rt-polarity.pos": b"a\nb\0\n"}, r"rt-polarity\.pos:2: NUL byte"),
        ("mr", MR | {"rt-polarity.pos": "good".encode("utf-16")}, r"rt-polarity\.pos:1: NUL byte.*UTF-16"),
        ("mr", MR | {"rt-polarity.pos": b"\xef\xbb\xbfgood\nna\xefve\n"}, r"pos:2: byte 0xef is not UTF-8"),
        ("mr", MR | {"rt-polarity.pos": "été naïve\nété".encode()[:-1]}, r"pos:2: byte 0xc3 is not UTF-8"),
        ("trec", {"TREC.train": "NUM:date When ?\nWho ?\n", "TREC.test": "a"}, r"train:2: 'Who' is no label of trec"),
        ("trec", {"TREC.train": "NUM:date When ?\nHUM:ind\n", "TREC.test": "a"}, r"train:2: no text after the label"),
        ("trec", {"TREC.train": "NUM:date When ?\nNUM:day D ?\n", "TREC.test": "a"}, r"train:2: 'NUM:day' is no label"),
        ("trec", {"TREC.train": "NUM:date When ?\nNUM:dist D ?\n", "TREC.test": "a"}, r"every example is NUM;"),
        ("waimai_10k", {"waimai_10k.csv": "label,review\n1,a\n2,b\n"}, r"csv:3: '2' is no label of waimai_10k"),
        ("waimai_10k", {"waimai_10k.csv": "label,review\n1,a\n1,b\n"}, r"csv: every example is positive"),
        ("waimai_10k", {"waimai_10k.csv": "label,review\n1,a\n0,\n"}, r"csv:3: no text after the label"),
        ("waimai_10k", {"waimai_10k.csv": "label,review\n1,a,b\n"}, r"csv:2: 3 fields where the header has 2"),
        (
            "waimai_10k",
            {"waimai_10k.csv": 'label,review\n1,a\n0,"b\n'},
            r"csv:3: unexpected end of data; check the quotes",
        ),
        ("waimai_10k", {"waimai_10k.csv": "1,a\n"}, r"csv:1: no column 'label' in the header"),
        ("waimai_10k", {"waimai_10k.csv": "label,review\n"}, r"csv: every example is empty"),
        (
            "waimai_10k",
            {"waimai_10k.csv": "label,review\n1,好\n".encode("gbk")},
            r"csv:2: byte 0x\w\w is not UTF-8.*iconv",
        ),
    ],
)
def test_bad_raw_files(load, write, tmp_path, capfd, monkeypatch, corpus, files, message):
    monkeypatch.setattr(loading.own_builders()[corpus], "sources", {})
    write(corpus, files)
    for _ in range(2):  # a second try does not find something half-made
        with pytest.raises(DataError, match=message) as caught:
            load(corpus)
        assert "\n" not in str(caught.value) and "TFDS" not in str(caught.value)
    left = [path for path in (tmp_path / "data" / corpus).rglob("*") if path.is_file() and ".config" not in path.parts]
    assert left == [] and not list((tmp_path / "data").rglob("incomplete.*"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "name, columns, splits, message",
    [
        ("nr", ["text"], [], "unknown corpus 'nr'; nearest names: .*mr.*; this repository's: .*word_order"),
        ("imdb_review", ["text"], [], "unknown corpus 'imdb_review'; nearest names: imdb_reviews"),
        ("../mr", ["text"], [], "write name, name/configuration"),
        ("huggingface:mr", ["text"], [], "write name, name/configuration"),
        ("mr/large", ["text"], [], "'mr' has no configuration 'large'; it has none"),
        ("trec/medium", ["text"], [], "'trec' has no configuration 'medium'; it has coarse, fine"),
        ("glue/sst3", ["text"], [], "'glue' has no configuration 'sst3'; it has cola, sst2"),
        ("mr:9.9.9", ["text"], [], r"cannot be loaded at version 9\.9\.9, only: 1\.0\.0"),
        ("imdb_reviews:7.0.0", ["text"], [], r"'imdb_reviews:7\.0\.0': Dataset imdb_reviews cannot be loaded"),
        ("mr", ["sentence"], [], "'mr' has no column 'sentence'; it has text, label"),
        ("mr", ["text"], ["dev"], "'mr' has no split 'dev'; it has train"),
    ],
)
def test_what_does_not_exist(load, write, name, columns, splits, message):
    write("mr", MR)
    with pytest.raises(ConfigError, match=message) as caught:
        load(name, columns, splits)
    assert "\n" not in str(caught.value)


def test_data_folder_of_no_use(load, write, tmp_path):
    write("mr", MR)
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DataError, match=r"data: .*; choose another data folder"):
        load("mr")


# --- prepared copies


def test_reuse_and_preparation_anew(load, write, monkeypatch, capfd):
    folder = write("mr", MR)
    first = load("mr")
    calls = []
    monkeypatch.setattr(loading, "_prepare", lambda *args, f=loading._prepare: (calls.append(1), f(*args))[1])
    assert load("mr") == first and not calls
    write("mr", {"rt-polarity.pos": "good films\n"})
    second = load("mr")
    assert calls == [1] and second.splits["train"]["text"] == ["bad film", "awful", "good films"]
    assert second.digest != first.digest
    for path in folder.iterdir():
        path.unlink()
    assert load("mr") == second and calls == [1]  # raw files may go once the copy is made
    assert capfd.readouterr() == ("", "")


def test_digest_is_of_the_content(load, write):
    write("mr", MR)
    write("cr", {name.replace("rt-polarity", "custrev"): text for name, text in MR.items()})
    assert load("mr").digest == load("cr").digest
    assert load("mr", columns=["text"]).digest != load("mr").digest


def test_damaged_copy(load, write, tmp_path):
    write("mr", MR)
    load("mr")
    (record,) = (tmp_path / "data" / "mr").rglob("*array_record*")
    record.write_bytes(record.read_bytes()[:20])
    with pytest.raises(DataError, match=r"data/mr/.*delete the folder"):
        load("mr")
    (tmp_path / "data" / "mr" / "1.0.0" / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match=r"data/mr is damaged .*delete it"):
        load("mr")


def test_interrupted_preparation(load, write, tmp_path, monkeypatch):
    write("mr", MR)

    def interrupted(self, split, paths):
        yield {"text": "half", "label": "positive"}
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(classification.MovieReviews, "examples", interrupted)
        load("mr")
    killed = tmp_path / "data" / "mr" / "incomplete.ABCDEF_1.0.0"
    killed.mkdir(parents=True)
    (killed / "mr-train.array_record-00000-of-00001").write_bytes(b"half")
    assert load("mr").splits["train"]["text"] == ["bad film", "awful", "good film"]
    assert not killed.exists()


def test_processes_that_prepare_at_once(write, tmp_path):
    write("mr", {"rt-polarity.neg": "bad\n" * 2000, "rt-polarity.pos": "good\n" * 2000})
    program = (
        "from research.corpora import load_corpus\n"
        f"corpus = load_corpus('mr', columns=['text'], splits=[], data_dir={str(tmp_path / 'data')!r},"
        f" manual_dir={str(tmp_path / 'raw')!r})\n"
        "print(len(corpus.splits['train']['text']), corpus.digest)"
    )
    start = functools.partial(subprocess.Popen, [sys.executable, "-c", program], stdout=-1, stderr=-1, text=True)
    outputs = [process.communicate(timeout=60) for process in [start(), start(), start()]]
    assert len(set(outputs)) == 1 and outputs[0][0].startswith("4000 ") and outputs[0][1] == ""


# --- downloads, from a server on the loopback address


class _Publisher(http.server.BaseHTTPRequestHandler):
    files: dict[str, bytes]
    requests: list[str]

    def do_GET(self):
        self.requests.append(self.path)
        kind, name = self.path.strip("/").split("/")
        if kind == "hang":
            time.sleep(1.0)
            return
        body = self.files.get(name)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write((body or b"")[: 100 if kind == "short" else None])

    def log_message(self, *args):
        pass


@pytest.fixture
def publisher():
    """Serves `publisher.files` under /whole/, cut after 100 bytes under /short/ and never under /hang/."""
    handler = type("Handler", (_Publisher,), {"files": {}, "requests": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    handler.url = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()
    server.server_close()


def archive(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def point_to(monkeypatch, builder, url):
    """Lets a builder download from `url` what it downloads from its publisher."""
    sources = {
        name: Source(f"{url}/{source.url.rpartition('/')[2]}", source.member)
        for name, source in builder.sources.items()
    }
    monkeypatch.setattr(builder, "sources", sources)


@pytest.mark.parametrize(
    "builder, files, texts",
    [
        (
            classification.MovieReviews,
            {"rt-polaritydata.tar.gz": archive({f"rt-polaritydata/{name}": text for name, text in MR.items()})},
            ["bad film", "awful", "good film"],
        ),
        (
            classification.Subjectivity,
            {"rotten_imdb.tar.gz": archive({"plot.tok.gt9.5000": "he goes .\n", "quote.tok.gt9.5000": "fun .\n"})},
            ["he goes .", "fun ."],
        ),
        (
            classification.Trec,
            {"train_5500.label": b"NUM:date When ?\nHUM:ind Who ?\n", "TREC_10.label": b"NUM:date D ?\nHUM:ind W ?\n"},
            ["When ?", "Who ?"],
        ),
        (classification.Waimai10k, {"waimai_10k.csv": b"label,review\n1,a\n0,b\n"}, ["a", "b"]),
        (classification.ChnSentiCorp, {"ChnSentiCorp_htl_all.csv": b"label,review\n1,a\n0,b\n"}, ["a", "b"]),
    ],
)
def test_download(load, write, publisher, monkeypatch, tmp_path, builder, files, texts):
    publisher.files.update(files)
    point_to(monkeypatch, builder, f"{publisher.url}/whole")
    assert load(builder.name).splits["train"]["text"] == texts
    assert sorted(publisher.requests) == sorted(f"/whole/{name}" for name in files)  # each once
    (tmp_path / "data" / builder.name).rename(tmp_path / "elsewhere")
    assert load(builder.name).splits["train"]["text"] == texts
    assert len(publisher.requests) == len(files)  # kept


def test_a_download_is_shown_on_a_terminal(load, publisher, monkeypatch, capfd):
    publisher.files["waimai_10k.csv"] = b"label,review\n1,a\n0,b\n"
    point_to(monkeypatch, classification.Waimai10k, f"{publisher.url}/whole")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    load("waimai_10k")
    assert re.search(r"waimai_10k\.csv: 100%\|\S+\| 21\.0/21\.0 ", capfd.readouterr().err)


def test_raw_files_come_before_downloads(load, write, publisher, monkeypatch):
    point_to(monkeypatch, classification.MovieReviews, f"{publisher.url}/whole")
    write("mr", MR)
    load("mr")
    assert publisher.requests == []


@pytest.mark.parametrize(
    "kind, content, message",
    [
        ("whole", None, "HTTP Error 404"),
        ("whole", b"<html>" * 50, "not a gzip file|file could not be opened"),
        ("whole", archive({"rt-polaritydata/rt-polarity.pos": "good"}), "lacks .*rt-polarity.neg|not found"),
        ("whole", archive({f"rt-polaritydata/{name}": MR[name] for name in MR})[:-30], "end-of-stream"),
        ("short", archive({f"rt-polaritydata/{name}": MR[name] for name in MR}), "truncated: 100 of"),
        ("hang", b"", "timed out"),
        ("refused", b"", "Connection refused"),
    ],
)
def test_download_that_fails(load, publisher, monkeypatch, tmp_path, kind, content, message):
    if content is not None:
        publisher.files["rt-polaritydata.tar.gz"] = content
    point_to(
        monkeypatch,
        classification.MovieReviews,
        "http://127.0.0.1:9" if kind == "refused" else f"{publisher.url}/{kind}",
    )
    monkeypatch.setattr(classification.MovieReviews, "timeout", 0.2)
    expected = rf"put rt-polarity.neg, rt-polarity.pos into .*raw/mr \(the download failed: http.*({message})"
    with pytest.raises(DataError, match=expected) as caught:
        load("mr")
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.suffix != ".lock"]


# --- the TFDS catalogue


@pytest.mark.parametrize(
    "name, columns",
    [
        ("glue/sst2", ["sentence", "label"]),
        ("imdb_reviews", ["text", "label"]),
        ("ag_news_subset", ["description", "label"]),
        ("snli", ["premise", "hypothesis", "label"]),
        ("glue/mnli", ["premise", "hypothesis", "label"]),
        ("paws_x_wiki/zh", ["sentence1", "sentence2", "label"]),
        ("wmt14_translate/de-en", ["de", "en"]),
    ],
)
def test_catalogue_names(name, columns, tmp_path):
    builder = loading._from_catalogue(name, tmp_path, tmp_path)
    assert set(columns) <= set(loading._scalar_features(builder))


def test_catalogue_corpus(load, monkeypatch, capfd):
    with pytest.raises(ConfigError, match="'glue/sst2' has no column 'text'; it has sentence, label, idx"):
        load("glue/sst2")
    rows = [{"sentence": f"sentence {i}", "label": i % 2, "idx": i} for i in range(20)]
    monkeypatch.setattr(
        tfds.builder_cls("glue"),
        "_split_generators",
        lambda self, dl_manager: {"train": ((i, row) for i, row in enumerate(rows)), "test": iter([(0, rows[3])])},
    )
    corpus = load("glue/sst2", columns=["sentence", "label", "idx"], splits=["train"])
    assert (corpus.name, corpus.version, corpus.label_names) == ("glue/sst2", "2.0.0", ("negative", "positive"))
    columns = corpus.splits["train"]
    assert sorted(columns["idx"]) == list(range(20))  # TFDS shuffles
    assert columns["label"] == [i % 2 for i in columns["idx"]]
    assert columns["sentence"] == [f"sentence {i}" for i in columns["idx"]]
    assert {type(columns[column][0]) for column in columns} == {str, int}
    assert load("glue/sst2:2.0.0", columns=["sentence"], splits=["test"]).splits["test"]["sentence"] == ["sentence 3"]
    assert capfd.readouterr() == ("", "")


def test_a_catalogue_corpus_is_announced_on_a_terminal(load, monkeypatch, capfd):
    made = lambda self, dl_manager: {"train": iter([(0, {"sentence": "a", "label": 1, "idx": 0})])}
    monkeypatch.setattr(tfds.builder_cls("glue"), "_split_generators", made)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    load("glue/sst2", columns=["sentence"], splits=["train"])
    assert "corpus glue: TFDS gets and prepares it; offline it gives up after minutes" in capfd.readouterr().err


def test_catalogue_pairs_for_translation(load, monkeypatch):
    rows = [{"de": f"Satz {i}", "en": f"sentence {i}"} for i in range(5)]
    made = lambda self, dl_manager: {"train": iter(enumerate(rows))}
    monkeypatch.setattr(tfds.builder_cls("wmt14_translate"), "_split_generators", made)
    columns = load("wmt14_translate/de-en", columns=["de", "en"]).splits["train"]
    assert sorted(zip(columns["de"], columns["en"])) == [(row["de"], row["en"]) for row in rows]


def test_multi_nli_is_prepared_without_tensorflow(load, monkeypatch, tmp_path):
    """From files of its own format, by TFDS's own reading of them; that of `multi_nli` says what it lacks."""
    lines = ["index\tsentence1\tsentence2\tgold_label"]
    lines += [f"{i}\ta man sleeps {i}\thee sleeps\t{label}" for i, label in enumerate(("neutral", "entailment"))]
    (tmp_path / "dev.tsv").write_text("\n".join(lines) + "\n")
    made = lambda self, dl_manager: {"validation_matched": self._generate_examples(str(tmp_path / "dev.tsv"), "dev")}
    monkeypatch.setattr(tfds.builder_cls("glue"), "_split_generators", made)
    found = load("glue/mnli", columns=["premise", "hypothesis", "label"])
    columns = found.splits["validation_matched"]
    assert sorted(columns["label"]) == [0, 1] and found.label_names == ("entailment", "neutral", "contradiction")
    assert sorted(columns["premise"]) == ["a man sleeps 0", "a man sleeps 1"]
    if importlib.util.find_spec("tensorflow"):
        return
    made = lambda self, dl_manager: {"train": self._generate_examples(str(tmp_path / "dev.tsv"))}
    monkeypatch.setattr(tfds.builder_cls("multi_nli"), "_split_generators", made)
    with pytest.raises(DataError, match=r"No module named 'tensorflow'; pip install tensorflow$"):
        load("multi_nli", columns=["premise"])


def test_catalogue_corpus_that_cannot_be_had(load, monkeypatch, capfd):
    def offline(self, dl_manager):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(tfds.builder_cls("snli"), "_split_generators", offline)
    with pytest.raises(DataError, match=r"'snli': TFDS cannot prepare it in .*/snli/1\.1\.0: no route to host"):
        load("snli", columns=["premise"])
    assert capfd.readouterr() == ("", "")


def test_a_catalogue_corpus_that_lacks_a_package(load, monkeypatch):
    """Nothing of it is damaged, so no folder is to be deleted."""

    def lacking(self, **_):
        raise ModuleNotFoundError("No module named 'absent'", name="absent")

    monkeypatch.setattr(tfds.builder_cls("snli"), "__init__", lacking)
    with pytest.raises(DataError, match=r"corpus 'snli': No module named 'absent'; install it$"):
        load("snli", columns=["premise"])


def test_prepared_in_another_format(load, tmp_path):
    info = tmp_path / "data" / "snli" / "1.1.0" / "dataset_info.json"
    info.parent.mkdir(parents=True)
    info.write_text('{"name": "snli", "version": "1.1.0", "fileFormat": "tfrecord"}')
    with pytest.raises(DataError, match=r"'snli': .*in another format than array_record, delete it"):
        load("snli", columns=["premise"])


def test_our_trec_shadows_the_catalogue(load, write):
    assert tfds.builder_cls("trec") is not classification.Trec  # and leaves TFDS's own in place
    lines = "NUM:date When ?\nHUM:desc Who ?\nDESC:desc What ?\n"
    write("trec", {"TREC.train": lines, "TREC.test": lines})
    assert load("trec").splits["test"]["label"] == [5, 3, 1]
    fine = load("trec/fine")
    assert [fine.label_names[label] for label in fine.splits["test"]["label"]] == ["NUM:date", "HUM:desc", "DESC:desc"]


# --- the generated corpus


def tokens(text):
    """What the "mixed" tokeniser gives: Chinese characters, words, numbers and punctuation marks."""
    return re.findall(r"[\u4e00-\u9fff]|[a-z]+|[0-9]+|[^\w\s]", text)


@pytest.fixture(scope="module")
def generated():
    return word_order.generate()


def test_word_order_corpus(load, generated):
    corpus = load("word_order")
    assert corpus.label_names == ("negative", "positive")
    for split, size in {"train": 4000, "validation": 500, "test": 1000}.items():
        columns = corpus.splits[split]
        assert columns["text"] == [example["text"] for example in generated[split]]
        assert len(columns["text"]) == size and sum(columns["label"]) == size // 2
        assert sum(bool(re.search("[\u4e00-\u9fff]", text)) for text in columns["text"]) == size // 2
        bags = collections.defaultdict(list)
        for text, label in zip(columns["text"], columns["label"]):
            bags[tuple(sorted(tokens(text)))].append(label)
        assert all(2 * sum(labels) == len(labels) for labels in bags.values())  # minimal pairs
    texts = [text for columns in corpus.splits.values() for text in columns["text"]]
    assert len(set(texts)) == len(texts)
    # The same sentences under every Python.
    assert corpus.digest == "b81e0aca4698fac435b3424bd17ff3e22b23f65d131fced418ae4f8e51b5d04f"


def test_word_order_never_repeats(monkeypatch):
    words = {language: words | {"before": "", "after": "."} for language, words in word_order._WORDS.items()}
    monkeypatch.setattr(word_order, "_WORDS", words)  # few enough sentences that chance repeats some
    texts = [example["text"] for examples in word_order.generate().values() for example in examples]
    assert len(set(texts)) == len(texts) == 5500


@pytest.mark.parametrize("order, low, high", [(1, 0.4, 0.6), (3, 0.9, 1.0)])
def test_word_order_needs_trigrams(generated, order, low, high):
    vectorizer = CountVectorizer(tokenizer=tokens, token_pattern=None, lowercase=False, ngram_range=(order, order))
    features = vectorizer.fit_transform(example["text"] for example in generated["train"])
    model = LogisticRegression(C=10.0, max_iter=300).fit(features, [example["label"] for example in generated["train"]])
    test = vectorizer.transform(example["text"] for example in generated["test"])
    assert low < model.score(test, [example["label"] for example in generated["test"]]) < high

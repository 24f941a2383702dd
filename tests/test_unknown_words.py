"""Unknown words of translations, replaced by what the source has where they look: Gehring et al. 2017, section 4.3."""

import functools
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from configs.conv_seq2seq import wmt14_en_de
from experiments import predict, run
from research import translation
from research.codecs import Subwords, Words
from research.decoding import Search
from research.errors import ConfigError, DataError
from research.optimizers import learning_rates
from research.tasks import Translation
from research.text import BOS, EOS, PAD, SENTENCE, UNKNOWN, Vocabulary, tokenizer
from research.translation import Output
from tests import test_conv_seq2seq, test_transformer
from tests.seq2seq import batch, sentences, variables
from tests.test_cli import call, refused
from tests.test_run import events, write


def words(*known: str, split=str.split) -> Words:
    return Words(Vocabulary(SENTENCE + known, SENTENCE), split, " ".join)


CODECS = {"source": words("the", "house"), "target": words("das", "haus")}


def writer(codecs=CODECS, *, replace_unknown=True, dictionary="", lower=False):
    options = ConfigDict({"replace_unknown": replace_unknown, "dictionary": str(dictionary)})
    return translation.writer(options, codecs, lower=lower)


# --- from hypotheses to text


def test_an_unknown_word_is_looked_up_or_else_copied(tmp_path):
    """By the word at its place in the source, whether the source's vocabulary has it or not; other words stay."""
    (tmp_path / "words").write_text("Anna\tHanna\r\nthe\tder\nAnna\tlater ones do not count\n")
    das, haus = (CODECS["target"].vocabulary.ids[word] for word in ("das", "haus"))
    text, output = "the house of Anna Karenina", Output([das, UNKNOWN, UNKNOWN, haus, UNKNOWN], 0.0, [0, 3, 4, 3, 0])
    assert writer(dictionary=tmp_path / "words")(output, text) == "das Hanna Karenina haus der"
    assert writer()(output, text) == "das Anna Karenina haus the"
    assert writer(replace_unknown=False)(output, text) == "das <unk> <unk> haus <unk>"
    assert writer()(Output([], 0.0, []), "") == ""


@pytest.mark.parametrize("lower", [True, False])
def test_a_dictionary_is_in_any_case_where_sentences_are_lower_cased(tmp_path, lower):
    """Its target words are left as they are; what it lacks is copied as the tokeniser gives it."""
    (tmp_path / "words").write_text("Anna\tHanna\nanna\tHannah\nHOUSE\tHaus\n")
    codecs = CODECS | {"source": words("the", split=tokenizer("blank", lower))}
    found = writer(codecs, dictionary=tmp_path / "words", lower=lower)(
        Output([UNKNOWN] * 4, 0.0, [0, 1, 2, 3]), "Anna House HOUSE Karenina"
    )
    assert found == ("Hanna Haus Haus karenina" if lower else "Hanna House Haus Karenina")


def test_what_lies_beyond_the_source_replaces_nothing():
    assert writer()(Output([UNKNOWN, UNKNOWN], 0.0, [1, 2]), "the house") == "house <unk>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tb\nonly one\n", r":2: not a source word, a tab and a target word$"),
        ("a\tb\nc\td\te\n", r":2: not a source word"),
        ("a\tb\n\nc\td\n", r":2: not a source word"),
        ("\tb\n", r":1: not a source word"),
        ("a\t \n", r":1: not a source word"),
        (b"a\tb\n\xff\tc\n", r":2: .*UTF-8"),
        ("", r": the file is empty"),
    ],
    ids=repr,
)
def test_dictionaries_that_cannot_be_read_name_file_and_line(tmp_path, content, message):
    path = tmp_path / "words.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=rf"{re.escape(str(path))}{message}"):
        writer(dictionary=path)
    with pytest.raises(DataError, match="nothing: no such file"):
        writer(dictionary=tmp_path / "nothing")


def test_a_dictionary_alone_and_subwords_are_refused(tmp_path):
    (tmp_path / "words").write_text("a\tb\n")
    with pytest.raises(ConfigError, match=r"^decode\.dictionary is for decode\.replace_unknown = True"):
        writer(replace_unknown=False, dictionary=tmp_path / "words")
    subwords = Subwords.train(["the house of Anna"] * 9, kind="bpe", size=24, lower=False)
    for codecs in ({"source": subwords}, {"target": subwords}):
        with pytest.raises(ConfigError, match=r"^decode\.replace_unknown is for vocabularies of words"):
            writer(CODECS | codecs)
        writer(CODECS | codecs, replace_unknown=False)


# --- where the words of an output look


NETS = {
    "transformer": test_transformer.model(layers=2, share="none"),
    "conv_seq2seq": test_conv_seq2seq.model(decoder=("8x3", "8x1", "8x2"), attention=(1, 3)),
}


@pytest.mark.parametrize("name", NETS)
def test_places_are_those_of_the_largest_mean_attention_and_never_of_the_sentences_end(name):
    """Over layers and heads, as each sentence alone and without padding has it. </s> often has more attention than any
    word, and is passed over."""
    net, sources = NETS[name], sentences(6, 2, seed=3)
    values = variables(net, seed=8)
    decode = translation.decoder(Translation(net), Search(beam=2, best=2, extra=2), places=True)
    found = jax.tree.map(np.asarray, jax.jit(decode)(values, batch(sources, [[]] * 2)))
    run, ends, others = jax.jit(functools.partial(net.apply, mutable=["attention"])), 0, 0
    for source, *beams in zip(sources, found.tokens, found.places):
        for tokens, places in zip(*beams):
            output = tokens[tokens != PAD].tolist()
            given = np.array([source]), np.array([[BOS, *output[:-1]]])
            _, shown = run(values, *(one for x in given for one in (x, np.ones_like(x))))
            maps = [x[0] for path, (x,) in flatten_dict(shown["attention"]).items() if "memory_attention" in path]
            assert len(maps) == 2
            mean = np.mean(maps, axis=(0, 1))  # layers and heads
            np.testing.assert_array_equal(places[: len(output)], mean[:, :-1].argmax(1))
            ends += (mean.argmax(1) == len(source) - 1).sum()
            others += (np.mean(maps[-1], axis=0)[:, :-1].argmax(1) != mean[:, :-1].argmax(1)).sum()
            assert (places < len(source) - 1).all()
    assert ends > 2 and others > 0, "the last layer alone would say something else"


def test_no_places_without_being_asked_for():
    net, examples = NETS["conv_seq2seq"], batch(sentences(3, 2), [[]] * 2)
    decode = translation.decoder(Translation(net), Search(beam=2, extra=1))
    shapes = jax.eval_shape(decode, variables(net), examples)
    assert shapes.places is None
    assert translation.outputs(translation.Hypotheses(np.array([[5, EOS]]), np.array([-1.0])))[0].places == []
    given = translation.Hypotheses(np.array([[5, 6, EOS, PAD]]), np.array([-1.0]), np.array([[2, 0, 1, 1]]))
    assert translation.outputs(given) == [Output([5, 6], -1.0, [2, 0])]


def test_a_fused_kernel_keeps_its_attention_to_itself():
    net = test_transformer.model(fused="xla", share="none")
    decode = translation.decoder(Translation(net), Search(beam=1, extra=1), places=True)
    with pytest.raises(ConfigError, match=r"^decode\.replace_unknown: a fused kernel keeps its attention"):
        jax.eval_shape(decode, variables(net), batch(sentences(3), [[]]))


# --- from the command line


SMALL = {
    "data.corpus": "parallel",
    "data.more_tests": "()",
    "data.buckets": "6",
    "data.joint": False,
    "data.min_count": 2,
    "train.batch_tokens": 96,
    "train.epochs": 4,
    "train.average": 0,
    "decode.extra": 2,
    "decode.beam": 2,
}
MODELS = {
    "transformer": {
        "model.layers": 1,
        "model.d_model": 16,
        "model.d_ff": 16,
        "model.heads": 2,
        "model.d_k": 8,
        "model.d_v": 8,
        "model.share": "none",
        "optimizer.warmup": 10,
    },
    "conv_seq2seq": {
        "model.encoder": "16x3",
        "model.decoder": "16x3,16x2",
        "model.embedding": 16,
        "model.output": 16,
    },
}


def arguments(root: Path, name: str, workdir: Path, changes: dict) -> list[str]:
    folders = ["--workdir", workdir, "--data_dir", root / "data", "--manual_dir", root / "raw"]
    fields = SMALL | MODELS[name] | changes
    flags = [f"--config.{field}={value}" for field, value in fields.items()]
    return ["--config", f"configs/{name}/quickstart.py", *folders, *flags]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Pairs of names that stand once each: what there is to learn is that an unknown word is an unknown word."""
    folder = tmp_path_factory.mktemp("names")
    files = {}
    for split, count in {"train": 150, "validation": 10, "test": 12}.items():
        files[f"{split}.source"] = "".join(f"{split}{n}\n" for n in range(count)) + "a\nb\n" * 2
        files[f"{split}.target"] = "".join(f"{split}{n}!\n" for n in range(count)) + "c\nd\n" * 2
    write(folder / "raw" / "parallel", files)
    return folder


def trained(root: Path, name: str, changes: dict) -> Path:
    outcome = call(run.main, *arguments(root, name, root / name, changes))
    assert outcome.code == 0, outcome
    assert bool(re.search(r", step \d+, rate 0\.25, loss", outcome.err)) == (name == "conv_seq2seq")
    return root / name


@pytest.fixture(scope="module")
def replacing(root) -> Path:
    """A run of ConvS2S whose test split was translated with replacement and a dictionary, which is gone since."""
    (root / "words.tsv").write_text("test3\tdrei\n")
    fields = {"decode.replace_unknown": True, "decode.dictionary": root / "words.tsv"}
    workdir = trained(root, "conv_seq2seq", fields)
    (root / "words.tsv").unlink()  # the run has its own
    return workdir


@pytest.fixture(scope="module")
def plain(root) -> Path:
    """A run of a Transformer without."""
    return trained(root, "transformer", {})


def test_a_run_does_not_go_on_with_another_dictionary(replacing, root, tmp_path):
    folder = Path(shutil.copytree(replacing, tmp_path / "W"))
    (folder / "result.json").unlink()
    (root / "words.tsv").write_text("test3\tvier\n")
    fields = {"decode.replace_unknown": True, "decode.dictionary": root / "words.tsv"}
    message = r"its run was started on other data \(decode\.dictionary, digest \w{12}, now \w{12}\)"
    refused(3, message, run.main, *arguments(root, "conv_seq2seq", folder, fields))
    (root / "words.tsv").unlink()


def translated(workdir: Path, tmp_path: Path, content: str, *flags) -> list[str]:
    (tmp_path / "lines.txt").write_text(content)
    outcome = call(predict.main, "--workdir", workdir, "--input", tmp_path / "lines.txt", *flags)
    assert outcome.code == 0, outcome
    return [json.loads(line)["translation"] for line in outcome.out.splitlines()]


def of_the_test_split(workdir: Path) -> list[str]:
    return (workdir / "replica_00" / "test.translations.txt").read_text().split("\n")[:12]


def test_a_run_replaces_in_its_test_split_where_it_is_told_to(replacing, plain):
    assert of_the_test_split(replacing) == ["drei" if n == 3 else f"test{n}" for n in range(12)]
    assert of_the_test_split(plain) == ["<unk>"] * 12


def test_predict_replaces_as_the_run_does(replacing, tmp_path):
    content = "test3\nAnna\n\nAnna Karenina\n"
    one, two, empty, several = translated(replacing, tmp_path, content, "--attention", tmp_path / "maps.png")
    assert (one, two, empty) == ("drei", "Anna", "") and set(several.split()) <= {"Anna", "Karenina"}
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "other").write_text("Anna\tHanna\n")
    assert translated(replacing, tmp_path, content, "--dictionary", tmp_path / "other")[:2] == ["test3", "Hanna"]
    assert translated(replacing, tmp_path, "test3\n", "--no-replace_unknown") == ["<unk>"]


def test_a_run_writes_down_its_learning_rates(replacing, plain):
    history = lambda workdir: json.loads((workdir / "replica_00" / "metrics.json").read_text())["history"]
    rates = [record["rate"] for record in history(replacing)]
    assert (
        len(rates) == 4 and rates[0] == 0.25 and set(rates) <= set(learning_rates(wmt14_en_de.get_config().optimizer))
    )
    written = [value for event in events(replacing / "replica_00") for value in event.summary.value]
    assert [value.simple_value for value in written if value.tag == "train/rate"] == pytest.approx(rates)
    assert all(set(record) == {"step", "epoch", "train_loss", "dev"} for record in history(plain))


def test_predict_replaces_as_it_is_told(plain, tmp_path):
    assert translated(plain, tmp_path, "Anna\n") == ["<unk>"]
    assert translated(plain, tmp_path, "Anna\n", "--replace_unknown", "--beam", "1") == ["Anna"]
    (tmp_path / "words").write_text("Anna\tHanna\n")
    flags = ("--replace_unknown", "--dictionary", tmp_path / "words")
    assert translated(plain, tmp_path, "Anna\n", *flags) == ["Hanna"]
    command = (predict.main, "--workdir", plain)
    refused(2, r"--dictionary .*words: is for --replace_unknown$", *command, *flags[1:])
    (tmp_path / "words").write_text("Anna Hanna\n")
    refused(3, r"words:1: not a source word, a tab and a target word", *command, *flags)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("conv_seq2seq", {"data.tokenizer": "bpe", "data.subword_size": 60}, r"decode\.replace_unknown is for vocabul"),
        ("conv_seq2seq", {"decode.replace_unknown": False, "decode.dictionary": "x"}, r"decode\.dictionary is for"),
        ("transformer", {"model.fused": "xla"}, r"decode\.replace_unknown: a fused kernel keeps its attention"),
    ],
    ids=str,
)
def test_a_run_that_cannot_replace_is_refused_before_training(root, tmp_path, monkeypatch, name, changes, message):
    monkeypatch.setattr("research.fit.Trainer.fit", lambda *_, **__: pytest.fail("trains"))
    if "model.fused" not in changes:
        monkeypatch.setattr("research.datasets.load", lambda *_, **__: pytest.fail("reads the corpus"))
    changes = {"decode.replace_unknown": True} | changes
    refused(2, message, run.main, *arguments(root, name, tmp_path / "W", changes))

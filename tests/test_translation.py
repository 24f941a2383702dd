"""Translation from the command line: a run, its scores, predictions, and every kind of bad input."""

import functools
import gzip
import json
import random
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cli, describe, plots, predict, report, run, steps, tables
from experiments.statistics import paired_difference, summary
from research import datasets, translation
from research.checkpoints import load_arrays, save_arrays
from research.codecs import Subwords, Words, load_codecs, make_codecs, save_codecs
from research.datasets import pack
from research.errors import ConfigError, DataError
from research.tasks import Translation
from tests.test_cli import call, refused
from tests.test_run import result_of, stop_after, write

QUICKSTART = "configs/transformer/quickstart.py"
WORDS = {"a": "eins", "b": "zwei", "c": "drei", "d": "vier", "e": "fünf"}
SMALL = {
    "data.corpus": "parallel",
    "data.more_tests": "()",
    "data.buckets": "8",
    "model.layers": 1,
    "model.d_model": 16,
    "model.d_ff": 16,
    "model.heads": 2,
    "model.d_k": 8,
    "model.d_v": 8,
    "train.batch_tokens": 64,
    "train.epochs": 3,
    "train.average": 2,
    "decode.batch_size": 8,
    "decode.extra": 4,
}


def pairs(count: int, seed: int, longest: int = 6) -> list[tuple[str, str]]:
    """Letters and their German numbers, in reverse order."""
    chance = random.Random(seed)
    texts = [[chance.choice("abcde") for _ in range(chance.randint(1, longest))] for _ in range(count)]
    return [(" ".join(text), " ".join(WORDS[letter] for letter in reversed(text))) for text in texts]


def write_parallel(folder: Path, **parts: list[tuple[str, str]]) -> None:
    for split, rows in parts.items():
        for side, name in enumerate(("source", "target")):
            write(folder / "parallel", {f"{split}.{name}": "".join(f"{row[side]}\n" for row in rows)})


class Bench:
    def __init__(self, root: Path):
        self.root = root
        # one sentence of the test split is longer than any bucket, three training pairs are
        train = pairs(120, 1) + pairs(3, 2, 1) + [(" ".join("a" * 9), " ".join(["eins"] * 9))] * 3
        tests = [*pairs(20, 4), (" ".join("b" * 14), " ".join(["zwei"] * 14))]
        write_parallel(root / "raw", train=train, validation=pairs(20, 3), test=tests)

    def arguments(self, workdir: Path, changes: dict | None = None) -> list[str]:
        words = ["--config", QUICKSTART, "--workdir", str(workdir)]
        words += ["--data_dir", str(self.root / "data"), "--manual_dir", str(self.root / "raw")]
        return words + [f"--config.{name}={value}" for name, value in (SMALL | (changes or {})).items()]

    def run(self, workdir: Path, changes: dict | None = None) -> dict:
        outcome = call(run.main, *self.arguments(workdir, changes))
        assert outcome.code == 0, outcome
        return result_of(workdir)

    def refused(self, code: int, message: str, workdir: Path, changes: dict | None = None) -> None:
        """The last line says what is wrong; before it, how many pairs were left out."""
        outcome = call(run.main, *self.arguments(workdir, changes))
        assert outcome.code == code and "Traceback" not in outcome.err, outcome
        assert re.search(message, outcome.err.splitlines()[-1]), outcome.err


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def finished(bench) -> Path:
    bench.run(bench.root / "W")
    return bench.root / "W"


def lines_of(workdir: Path, content: bytes, tmp_path: Path, *flags) -> list[dict]:
    (tmp_path / "lines.txt").write_bytes(content)
    outcome = call(predict.main, "--workdir", workdir, "--input", tmp_path / "lines.txt", *flags)
    assert outcome.code == 0, outcome
    return [json.loads(line) for line in outcome.out.splitlines()]


# --- a finished run


def test_the_result(finished):
    result = result_of(finished)
    test = result["metrics"]["test"]
    assert set(test) == {"loss", "perplexity", "token_accuracy", "bleu", "bleu_lc", "chrf", "exact_match"}
    assert test["perplexity"]["mean"] == pytest.approx(np.exp(test["loss"]["mean"]), rel=1e-6)
    assert "tok:13a" in result["signatures"]["bleu"] and "case:lc" in result["signatures"]["bleu_lc"]
    low, high = result["bootstrap"][0]["test"]["bleu"]
    assert low <= test["bleu"]["mean"] <= high
    data = result["data"]
    assert data["examples"] == {"train": 123, "dev": 20, "test": 21} and data["long"] == 3
    assert data["vocabulary"] == {"source": 14, "target": 14}  # both languages' words and the four reserved ones


def test_every_sentence_of_the_test_split_is_translated(finished):
    """Also the one that no bucket of the configuration holds."""
    folder = finished / "replica_00"
    references = (folder / "test.references.txt").read_text().split("\n")[:-1]
    translations = (folder / "test.translations.txt").read_text().split("\n")[:-1]
    assert len(references) == len(translations) == 21
    assert references[-1] == " ".join(["zwei"] * 14)
    metrics, _, _ = translation.score(translations, references, "13a", lower=True)
    stored = result_of(finished)["metrics"]["test"]
    for name, value in metrics.items():
        assert stored[name]["mean"] == pytest.approx(value)


def test_an_interrupted_run_ends_as_one_that_was_not(bench, finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cli, "stop_signals", functools.partial(stop_after, 15))
        outcome = call(run.main, *bench.arguments(tmp_path / "W", {"train.checkpoint_seconds": 0}))
    assert outcome.code == 75
    shutil.copytree(tmp_path / "W", tmp_path / "V")
    with monkeypatch.context() as patch:  # its vocabulary is there: learning it anew takes long on a large corpus
        patch.setattr(datasets, "make_codecs", lambda *arguments: pytest.fail("learned again"))
        again = bench.run(tmp_path / "W", {"train.checkpoint_seconds": 0})
    assert again["metrics"] == result_of(finished)["metrics"]
    path = tmp_path / "V" / "replica_00" / "vocabulary.json"
    path.write_text(json.dumps([*json.loads(path.read_text())[:-1], "other"]))
    bench.refused(3, r"on other data \(vocabulary, digest", tmp_path / "V", {"train.checkpoint_seconds": 0})


@pytest.mark.parametrize("changes", [{"d_ff": 32}, {"heads": 4, "d_k": 4, "d_v": 4}, {"scale": False}])
def test_a_training_checkpoint_of_another_architecture(bench, tmp_path, monkeypatch, changes):
    """Also of the same shapes."""
    with monkeypatch.context() as patch:
        patch.setattr(cli, "stop_signals", functools.partial(stop_after, 3))
        for name, fields in {"W": {}, "V": {f"model.{name}": value for name, value in changes.items()}}.items():
            arguments = bench.arguments(tmp_path / name, {"train.checkpoint_seconds": 0} | fields)
            assert call(run.main, *arguments).code == 75
    folders = [tmp_path / name / "replica_00" / "checkpoints" for name in ("W", "V")]
    shutil.rmtree(folders[0])
    shutil.copytree(folders[1], folders[0])
    message = r"checkpoints/\d+: a checkpoint of another architecture than this training's"
    bench.refused(3, message, tmp_path / "W", {"train.checkpoint_seconds": 0})


def test_replicas_together_are_replicas_in_turn(bench, tmp_path):
    changes = {"replicas": 2, "train.epochs": 2, "train.batch_tokens": 0, "train.batch_size": 10, "data.buckets": "4,8"}
    results = [bench.run(tmp_path / choice, changes | {"train.replicas_together": choice}) for choice in ("yes", "no")]
    for metric in ("loss", "chrf"):
        together, alone = (result["metrics"]["test"][metric]["values"] for result in results)
        np.testing.assert_allclose(together, alone, rtol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"data.tokenizer": "bpe", "data.subword_size": 30},
        {"data.tokenizer": "unigram", "data.subword_size": 24},
        {"data.pack": True},
        {"data.target_tokenizer": "character", "data.joint": False, "model.share": "none", "data.buckets": "8,32"},
    ],
    ids=str,
)
def test_other_vocabularies_and_packing(bench, tmp_path, changes):
    data = bench.run(tmp_path / "W", changes | {"train.epochs": 2})["data"]
    assert data["examples"]["train"] + data["long"] == 126  # pairs, also where several stand in a row
    (found,) = lines_of(tmp_path / "W", b"a b c\n", tmp_path)
    assert set(found) == {"line", "text", "translation", "score", "unknown"}


def test_pairs_that_are_left_out_are_counted_against_the_longest_training_bucket(bench, tmp_path):
    """Not against the longer ones that the test split needs."""
    outcome = call(run.main, *bench.arguments(tmp_path / "W", {"train.average": 9}))
    assert outcome.err.startswith("3 training pairs are longer than 8 source and 8 target tokens; left out\n")


# --- prediction


def test_translations_of_lines(finished, tmp_path):
    long = " ".join(["a"] * 12)
    content = f"a b\n\nxyz b\n{long}\n".encode() + b"\xff a\nc"
    found = lines_of(finished, content, tmp_path)
    assert [record["line"] for record in found] == [1, 2, 3, 4, 5, 6]
    assert found[1]["translation"] == "" and found[2]["unknown"] == ["xyz"]
    assert "warning" not in found[3]  # longer than the run's bucket, as sentences of its test split may be
    assert found[4]["warning"].startswith("not UTF-8") and found[4]["unknown"] == ["\ufffd"]
    assert all(record["unknown"] == [] for record in (found[0], found[1], found[5]))


def test_lines_of_any_length_are_translated_together_as_alone(finished, tmp_path, monkeypatch):
    """Longer ones first, in more than a batch of each of two buckets; the bar moves with each of those."""
    moves = []

    class Bar(predict.tqdm):
        def update(self, n=1):
            moves.append(n)

    lines = [" ".join("abcde"[(n + k) % 5] for k in range(1 + (19 - n) // 2)) for n in range(20)]
    run = predict.Run(finished)
    alone = predict.Translator(run, run.config.decode)
    scores = [next(alone.objects([line.encode()], 1, moves.append))["score"] for line in lines]
    assert moves == [1] * len(lines) and len(set(scores)) == len(scores)
    moves.clear()
    monkeypatch.setattr(predict, "tqdm", Bar)
    together = lines_of(finished, "".join(f"{line}\n" for line in lines).encode(), tmp_path)
    assert [record["score"] for record in together] == pytest.approx(scores, abs=2e-6)
    assert moves == [8, 8, 4]


def test_sentences_beyond_the_positions_are_cut(bench, tmp_path):
    """Of 36 learned ones, 4 are for outputs longer than the source: a bucket of 16 (of the test split) fits, one of 32
    does, one of 64 would not."""
    changes = {"model.positions": "learned", "model.max_length": 36, "train.epochs": 1, "train.average": 1}
    bench.run(tmp_path / "W", changes)
    found = lines_of(tmp_path / "W", b"a " * 31 + b"\n" + b"a " * 32 + b"\n", tmp_path)
    assert [record.get("warning") for record in found] == [None, "cut to the first 31 of 32 tokens"]


def test_several_outputs_beams_and_least_lengths(finished, tmp_path):
    (one,) = lines_of(finished, b"a b\n", tmp_path, "--beam", "3", "--best", "3", "--least", "3")
    scores = [output["score"] for output in one["outputs"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True) and one["score"] == scores[0]
    assert all(len(output["translation"].split()) >= 3 for output in one["outputs"])


def test_scores_are_divided_by_the_length_penalty(finished, tmp_path):
    """Greedy outputs are the same under any α; the words and their </s> make (5 + length)^α / 6^α."""
    flags = ("--beam", "1", "--least", "3", "--alpha")
    (plain,), (divided,) = (lines_of(finished, b"a b\n", tmp_path, *flags, alpha) for alpha in ("0", "2"))
    length = len(plain["translation"].split()) + 1
    assert length > 3 and divided["translation"] == plain["translation"]
    assert plain["score"] / divided["score"] == pytest.approx(((5 + length) / 6) ** 2, rel=1e-4)


def test_translations_with_a_given_beginning(finished, tmp_path):
    for record in lines_of(finished, b"a b\nc\n", tmp_path, "--prefix", "drei drei"):
        assert record["translation"].startswith("drei drei")


def test_the_attention_of_a_sentence_is_drawn(finished, tmp_path, monkeypatch):
    """Its last layer, the first line's tokens and those of its best translation, each with their </s>."""
    drawn, draw = [], plots.attention_plot
    monkeypatch.setattr(predict, "attention_plot", lambda *arguments: (drawn.append(arguments), draw(*arguments)))
    first, _ = lines_of(finished, b"a $b$\nc\n", tmp_path, "--attention", tmp_path / "maps.png")
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
    ((weights, of, source, target, title, _),) = drawn
    assert source == ["a", "<unk>", "</s>"] and target == [*first["translation"].split(), "</s>"]
    assert weights.shape == (2, len(target), 3) and of == "head" and "last" in title
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-5)


def test_characters_without_a_font_are_told(finished, tmp_path, monkeypatch):
    draw = lambda text: call(predict.main, "--workdir", finished, "--attention", tmp_path / "maps.png", stdin=text)
    assert "font" not in draw(b"a b\n").err
    monkeypatch.setattr(plots, "CHINESE_FONTS", ())
    monkeypatch.setattr(Words, "pieces", lambda self, ids: ["一"] * len(ids))
    outcome = draw(b"a b\n")
    assert outcome.code == 0 and "maps.png: characters without a font are boxes; for Chinese install" in outcome.err


def test_a_fused_kernel_shows_no_attention(finished, tmp_path):
    folder = damaged(finished, tmp_path)
    record = json.loads((folder / "config.json").read_text())
    record["config"]["model"]["fused"] = "xla"
    (folder / "config.json").write_text(json.dumps(record))
    arrays, _ = load_arrays(folder / "replica_00" / "best")
    save_arrays(folder / "replica_00" / "best", arrays, {"model": record["config"]["model"]})
    (tmp_path / "lines.txt").write_text("a b\n")
    arguments = ("--workdir", folder, "--input", tmp_path / "lines.txt", "--attention", tmp_path / "maps.png")
    refused(2, r"--attention: a fused kernel keeps its weights to itself", predict.main, *arguments)
    assert not (tmp_path / "maps.png").exists()


def test_bad_usage_of_predict(finished, tmp_path):
    for flags, message in {
        ("--beam", "0"): r": decode: beam and best must be at least 1",
        ("--beam", "2", "--best", "3"): r": decode: beam and best",
        ("--least", "-1"): r": decode: extra and least",
        ("--prefix", "drei six seven"): r"--prefix: not in the vocabulary of target: six seven",
        ("--prefix", "a b c d e"): r"--prefix: 5 tokens are more than decode\.extra = 4",
        ("--config.seed=1",): r"takes its configuration from the workdir",
    }.items():
        refused(2, message, predict.main, "--workdir", finished, *flags)
    (tmp_path / "empty").write_text("\na\n")
    arguments = ("--workdir", finished, "--input", tmp_path / "empty", "--attention", tmp_path / "x.png")
    refused(3, r"the first line has 0 tokens; 1 to 100", predict.main, *arguments)
    (tmp_path / "empty").write_text("")
    refused(3, r"--attention: the input has no line to draw", predict.main, *arguments)
    assert not (tmp_path / "x.png").exists()
    for name, message in {"no/x.png": "there is no folder", "x.gif": r"name a \.png file"}.items():
        refused(2, message, predict.main, "--workdir", finished, "--attention", tmp_path / name)


def damaged(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "W"))


def test_a_vocabulary_of_another_run(finished, tmp_path):
    folder = damaged(finished, tmp_path)
    path = folder / "replica_00" / "vocabulary.json"
    tokens = json.loads(path.read_text())
    for other in ([*tokens, "more", "words"], tokens[:-1], [*tokens[:-1], "other"]):
        path.write_text(json.dumps(other))
        refused(3, r"its vocabulary is not the one of its training", predict.main, "--workdir", folder)
    path.write_text("[1, 2")
    refused(3, r"vocabulary\.json: not a vocabulary", predict.main, "--workdir", folder)


@pytest.mark.parametrize("changes", [{"d_ff": 32}, {"heads": 4, "d_k": 4, "d_v": 4}, {"scale": False}])
def test_parameters_of_another_architecture(finished, tmp_path, changes):
    """Also of the same shapes: twice as many heads of half the size, no division by √d_k."""
    folder = damaged(finished, tmp_path)
    record = json.loads((folder / "config.json").read_text())
    assert record["config"]["model"] != record["config"]["model"] | changes
    record["config"]["model"] |= changes
    (folder / "config.json").write_text(json.dumps(record))
    refused(3, r"best: parameters of another architecture than config\.json's", predict.main, "--workdir", folder)


def test_parameters_whose_scores_are_no_numbers(finished, tmp_path):
    """Finite ones, but so large that what is computed from them is not."""
    folder = damaged(finished, tmp_path)
    arrays, about = load_arrays(folder / "replica_00" / "best")
    save_arrays(folder / "replica_00" / "best", jax.tree.map(lambda x: np.full_like(x, 1e30), arrays), about)
    (tmp_path / "line").write_text("ein zwei\n")
    outcome = call(predict.main, "--workdir", folder, "--input", tmp_path / "line")
    reply = json.loads(outcome.out)
    assert (reply["translation"], reply["warning"]) == ("", "nothing was found: the model's scores are no numbers")


@pytest.mark.parametrize("name", ["_METADATA", "manifest.ocdbt"])
def test_damaged_parameters(finished, tmp_path, name):
    folder = damaged(finished, tmp_path)
    path = folder / "replica_00" / "best" / name
    path.write_bytes(path.read_bytes()[:50])
    refused(3, r"best: damaged parameters \(.*list of its arrays cannot be read\)", predict.main, "--workdir", folder)


def test_a_sentencepiece_model_that_is_missing_or_damaged(bench, tmp_path):
    bench.run(tmp_path / "W", {"data.tokenizer": "bpe", "data.subword_size": 30, "train.epochs": 2})
    path = tmp_path / "W" / "replica_00" / "vocabulary.model"
    whole = path.read_bytes()
    for part in (whole[:40], b""):
        path.write_bytes(part)
        refused(3, r"vocabulary\.model: no sentencepiece model \(damaged\)", predict.main, "--workdir", tmp_path / "W")
    path.unlink()
    refused(3, r"vocabulary\.model: no sentencepiece model \(No such file", predict.main, "--workdir", tmp_path / "W")


# --- bad input of a run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.min_count": 999}, r"data\.min_count = 999: no token of the training texts occurs so often"),
        ({"train.average": 9}, r"train\.average = 9: the run has only 3 evaluations to average over$"),
        ({"train.patience": 2}, r"train\.average needs train\.patience = 0"),
        ({"model.positions": "learned", "model.max_length": 9}, r"model\.max_length = 9: a sentence of \d+ positions"),
        ({"model.positions": "learned", "model.max_length": 19}, r"max_length = 19: a sentence of 20 positions"),
        (
            {"model.positions": "learned", "model.max_length": 5},
            r"max_length = 5 is less than the longest bucket, 8; raise it, or",
        ),
        ({"decode.beam": 0}, r"run: decode: beam and best must be at least 1"),
        ({"decode.alpha": -1}, r"run: decode: .*alpha"),
        ({"train.label_smoothing": 1.0}, r"train\.label_smoothing must lie in \[0, 1\)"),
        ({"data.joint": False}, r"model\.share = all needs data\.joint"),
        (
            {"data.tokenizer": "bpe", "data.subword_size": 9999},
            r"data\.subword_size = 9999: sentencepiece cannot train",
        ),
        ({"data.target_tokenizer": "character"}, r"data\.joint: one vocabulary for both languages needs one tokeniser"),
        ({"data.tokenizer": "words"}, r"data\.tokenizer: 'words' is none of"),
        ({"data.target": "source"}, r"data: columns must differ, got source, source$"),
        ({"folds": 3, "data.dev": ""}, r"folds = 3: there is no cross-validation of translation$"),
        ({"data.buckets": "1"}, r"data\.buckets: none of the 126 training pairs fits"),
        ({"data.train_fraction": 0}, r"data\.train_fraction must lie in \(0, 1\]"),
        ({"train.batch_tokens": 7}, r"train\.batch_tokens = 7 is less than one row of data\.buckets, 8$"),
        ({"paper": "textcnn"}, r"task: 'translation' is none of classification"),
        ({"optimizer.warmup": -1}, r"optimizer\.warmup and optimizer\.clip_norm"),
        ({"train.monitor": "accuracy"}, r"train\.monitor: 'accuracy' is none of .* loss, perplexity, token_accuracy"),
    ],
    ids=str,
)
def test_bad_configurations(bench, tmp_path, changes, message):
    bench.refused(2, message, tmp_path / "W", changes)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.target": "eins\n"}, r"train\.source has 126 lines, .*train\.target has 1"),
        ({"test.source": "a\n\nb\n", "test.target": "eins\nzwei\ndrei\n"}, r"test\.source:2: the line is empty"),
        ({"train.source": b"\xff\n", "train.target": "eins\n"}, r"train\.source:1: .*UTF-8"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(list(value)),
)
def test_bad_files(tmp_path, files, message):
    own = Bench(tmp_path)
    write(tmp_path / "raw" / "parallel", files)
    own.refused(3, message, tmp_path / "W")


# --- comparison


def test_runs_are_compared_by_a_paired_bootstrap(bench, finished, tmp_path):
    bench.run(tmp_path / "V", {"seed": 5})
    outcome = call(report.main, "--compare", finished, tmp_path / "V")
    rows = outcome.out.splitlines()
    assert outcome.code == 0 and len(rows) == 4 and rows[0].startswith("| run | BLEU, 95 % interval, p |")
    for folder, row in zip((finished, tmp_path / "V"), rows[2:]):
        test, (_, *cells) = result_of(folder)["metrics"]["test"], row.strip("| ").split(" | ")
        assert str(folder) in row
        for name, cell in zip(("bleu", "bleu_lc", "chrf"), cells):
            assert cell.startswith(f"{test[name]['mean']:.2f} ± ")
            assert cell.endswith(", –") if folder == finished else 0 <= float(cell.rpartition(", ")[2].strip("< ")) <= 1
    refused(2, r"--compare: name two or more", report.main, "--compare", finished, finished)
    refused(
        2,
        r"holds no finished run of translation with split 'other'",
        report.main,
        "--compare",
        finished,
        tmp_path / "V",
        "--split",
        "other",
    )
    for folder in (finished, tmp_path / "V"):  # "\r" within a line is text
        copy = shutil.copytree(folder, tmp_path / f"carriage {folder.name}") / "replica_00"
        for name in ("test.references.txt", "test.translations.txt"):
            (copy / name).write_bytes((copy / name).read_bytes().replace(b" ", b"\r", 1))
    assert call(report.main, "--compare", *sorted(tmp_path.glob("carriage *"))).code == 0
    config = tmp_path / "V" / "config.json"
    kept, changed = config.read_text(), json.loads(config.read_text())
    changed["config"]["decode"]["tokenize"] = "char"
    config.write_text(json.dumps(changed))
    message = rf"--compare {tmp_path}/V: scored by words of 'char', {finished} by '13a'$"
    refused(2, message, report.main, "--compare", finished, tmp_path / "V")
    config.write_text(kept)
    (tmp_path / "V" / "replica_00" / "test.references.txt").write_text("x\n" * 21)
    refused(3, r"not the references of", report.main, "--compare", finished, tmp_path / "V")


def test_the_paired_bootstrap_tells_a_worse_system_and_not_an_equal_one():
    references = [target for _, target in pairs(60, 9)]
    spoil = lambda every: [f"eins {text}" if n % every == 0 else text for n, text in enumerate(references)]
    systems = {"one": spoil(5), "same": spoil(5), "worse": spoil(2)}
    found = translation.compare(systems, references, "13a", samples=200)
    for name, (_, same, other) in found.items():
        assert same.p_value == 1.0 and other.p_value < 0.05 and other.score < same.score, name


# --- before a long run


def test_operations_are_counted_as_often_as_they_run():
    """What XLA's own count does not do: it takes a loop's body once."""
    product = lambda total, row: (total + jnp.sum(row @ jnp.ones((4, 5))), None)
    loop = jax.make_jaxpr(jax.jit(lambda rows: jax.lax.scan(product, 0.0, rows)))(jnp.ones((7, 3, 4)))
    assert steps.operations(loop.jaxpr) == 7 * 2 * 3 * 4 * 5
    slide = lambda x, k: jax.lax.conv_general_dilated(x, k, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))
    convolution = jax.make_jaxpr(slide)(jnp.ones((2, 10, 3)), jnp.ones((4, 3, 5)))
    assert steps.operations(convolution.jaxpr) == 2 * 2 * 7 * 5 * 4 * 3


def test_a_configuration_is_described_without_its_corpus(tmp_path):
    """The WMT 2014 configuration, shrunk: a fresh model's loss is that of guessing, log |V|."""
    fields = {name: value for name, value in SMALL.items() if name.startswith("model.")}
    fields |= {"data.subword_size": 100, "data.buckets": "8"}
    words = ["--config", "configs/transformer/base.py", *(f"--config.{n}={v}" for n, v in fields.items())]
    outcome = call(describe.main, *words, "--output", tmp_path / "describe.json")
    assert outcome.code == 0 and "million floating-point operations a token" in outcome.out
    params = 100 * 16 + 16 * 16 * (4 + 8) + 2 * (2 * 16 * 16 + 32) + 5 * 32
    assert outcome.out.startswith(f"{params:,} parameters\n")
    loss = float(re.search(r"fresh model: ([\d.]+) nats", outcome.out)[1])
    assert loss == pytest.approx(np.log(100), abs=1.0)
    stored = json.loads((tmp_path / "describe.json").read_text())
    assert stored["params"] == params and stored["tokens"] == 2 * 8
    products = 16 * 16 * (4 + 8) + 2 * (2 * 16 * 16) + 100 * 16  # each with an input, two in its gradient
    attention = 3 * 2 * 8 * 16  # three times scores and means of values, at 8 positions
    assert stored["flops_per_token"] == 6 * (products + attention)
    table = tables.describe_table([stored], "../")
    assert "[transformer/base](../configs/transformer/base.py)" in table and f"| {params:,} |" in table
    refused(2, r"--output: .*there is no folder", describe.main, *words, "--output", tmp_path / "no" / "x.json")
    refused(2, r"--vocabulary: this configuration's", describe.main, "--config", QUICKSTART)
    refused(2, r"--classes: say how many", describe.main, "--config", "configs/textcnn/mr.py")
    other = ("--config", "configs/textcnn/mr.py", "--config.task=translation")
    refused(2, r"task: 'translation' is none of classification", describe.main, *other)
    refused(2, r"--rows must be at least 1", describe.main, *words, "--rows", "0")


@pytest.mark.parametrize("losses", [(1e6, 1e4), (1e6, 1.0)])
def test_perplexities_of_diverged_replicas_have_a_spread(losses):
    values = [Translation(None).score(np.array([[loss, 0.0, 1.0]]), None)["perplexity"] for loss in losses]
    assert values[0] == pytest.approx(np.exp(300.0))
    assert np.isfinite([summary(values)["std"], *paired_difference(values, values[::-1])["ci95"]]).all()


# --- vocabularies


def test_chinese_is_scored_by_characters():
    hypotheses, references = ["他在学校里学习中文"], ["他在学校里学习英文"]
    metrics, signatures, _ = translation.score(hypotheses, references, "zh")
    assert "tok:zh" in signatures["bleu"] and metrics["bleu"] > 50
    assert translation.score(hypotheses, references, "13a")[0]["bleu"] < 1
    found = [translation.score(["A b c d."], ["a b c d."], "13a", lower=lower)[0] for lower in (False, True)]
    assert [one["bleu_lc"] for one in found] == pytest.approx([100, 100])
    assert [one["exact_match"] for one in found] == [0, 100] and found[1]["bleu"] < 100


def test_scores_are_those_of_sacrebleu_s_own_functions():
    """Translations are shorter than their references, so that BLEU's penalty tells which are which."""
    import sacrebleu

    pairs = [
        ("the cat sits on the", "The cat sits on the mat ."),
        ("a dog ran", "A dog ran away !"),
        ("no", "No , never ."),
    ]
    found, references = map(list, zip(*pairs))
    for tokenize in ("13a", "zh"):
        metrics, _, _ = translation.score(found, references, tokenize)
        for name, lowercase in (("bleu", False), ("bleu_lc", True)):
            wanted = sacrebleu.corpus_bleu(found, [references], tokenize=tokenize, lowercase=lowercase)
            assert metrics[name] == pytest.approx(wanted.score) and 1 < wanted.bp * 100 < 99
        assert metrics["chrf"] == pytest.approx(sacrebleu.corpus_chrf(found, [references]).score)
        assert metrics["bleu"] < metrics["bleu_lc"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "13a"),
        ({"data.target": "zh"}, "zh"),
        ({"data.target_tokenizer": "jieba"}, "zh"),
        ({"data.tokenizer": "character"}, "zh"),
        ({"data.target_tokenizer": "jieba", "decode.tokenize": "13a"}, "13a"),
        ({"data.target": "zh", "decode.tokenize": "char"}, "char"),
    ],
)
def test_what_makes_words_of_translations_for_bleu(changes, name):
    config = cli.load_config(QUICKSTART, [f"{field}={value}" for field, value in changes.items()])
    assert translation.scored_words(config) == name


@pytest.mark.parametrize(
    ("kind", "references", "messages"),
    [
        ("blank", ["Ein Hund schläft im Garten .", "Ja ."], []),
        ("blank", ["a b", "Ja ."], []),  # too short for a BLEU above 0
        ("mixed", ["我们明天去New York的家", "他昨天没有来。"], ["13a takes a run of Chinese"]),
        ("character", ["我们明天去北京", "他昨天没有来。"], []),
        (
            "character",
            ["Ein Hund schläft im Garten.", "Ja."],
            ["BLEU of 0.0 .*'einhundschläftimgarten.' for 'Ein Hund schläft im Garten.'"],
        ),
        ("mixed", ["They don't sleep at all here .", "Yes it is ."], ["'they don ' t sleep at all here .' for"]),
    ],
)
def test_what_no_model_can_make_up_for_is_said(kind, references, messages):
    """The vocabulary's lower case is no fault."""
    config = cli.load_config(QUICKSTART, [f"data.tokenizer={kind}", "data.lower=True", "data.joint=False"])
    codec = make_codecs({"source": references, "target": references}, config)["target"]
    found = translation.faults(references, [codec.decode(codec.encode(text)) for text in references], config)
    assert len(found) == len(messages), found
    assert all(re.search(message, line) for message, line in zip(messages, found)), found


def test_a_run_says_what_its_vocabulary_cannot_write(bench, tmp_path):
    """With five words, three of which are too rare for the vocabulary."""
    outcome = call(run.main, *bench.arguments(tmp_path / "W", {"data.max_vocabulary": 7, "train.epochs": 2}))
    assert outcome.code == 0 and re.search("references have a lower-cased BLEU of .*<unk>.* for '", outcome.err), (
        outcome
    )


def test_packing_keeps_every_pair_whole():
    chance = np.random.default_rng(0)
    rows = {role: [[int(n)] * int(chance.integers(1, 7)) for n in range(200)] for role in ("source", "target")}
    ids, segments = pack(rows, {"source": 12, "target": 16})
    found = []
    for source, target, s, t in zip(*(x[role] for x in (ids, segments) for role in ("source", "target"))):
        assert len(source) == len(s) <= 12 and len(target) == len(t) <= 16
        assert sorted(set(s)) == sorted(set(t)) == list(range(1, max(s) + 1))
        for number in range(1, max(s) + 1):
            pair = [[x for x, n in zip(side, where) if n == number] for side, where in ((source, s), (target, t))]
            found.append(pair)
    assert sorted(found) == sorted([s, t] for s, t in zip(rows["source"], rows["target"]))
    assert len(ids["source"]) < 90, "rows are filled: 200 pairs of 3.5 tokens on average"


def test_subwords_keep_the_text_and_say_what_is_unknown(tmp_path):
    texts = ["Ein Mann， der schläft.", "“全角”引号 ok"] * 20
    model = Subwords.train(texts, kind="bpe", size=60, lower=False)
    assert [model.decode(model.encode(text)) for text in texts[:2]] == texts[:2]
    assert model.unknown("Ein Mann 猫") == ["猫"] and len(model) == 60
    assert all(id >= 4 for text in texts for id in model.encode(text))
    (tmp_path / "m.model").write_bytes(model.content())
    assert Subwords.load(tmp_path / "m.model", lower=False).encode(texts[0]) == model.encode(texts[0])
    lower = Subwords.train(texts, kind="unigram", size=30, lower=True)
    assert lower.decode(lower.encode("EIN Mann")) == "ein mann"
    with pytest.raises(ConfigError, match="subword_size"):
        Subwords.train(texts, kind="bpe", size=3000, lower=False)
    with pytest.raises(DataError, match="damaged"):
        (tmp_path / "n.model").write_bytes(b"no model")
        Subwords.load(tmp_path / "n.model", lower=False)


def test_codecs_are_loaded_as_they_were_saved(tmp_path):
    texts = {"source": ["a b", "c"], "target": ["eins zwei", "drei"]}
    for overrides in (["data.joint=True"], ["data.joint=False"], ["data.joint=False", "data.target_tokenizer=jieba"]):
        config = cli.load_config(QUICKSTART, overrides)
        made = make_codecs(texts, config)
        save_codecs(made, tmp_path, config)
        for role, codec in load_codecs(tmp_path, config).items():
            assert isinstance(codec, Words) and codec.vocabulary == made[role].vocabulary
    assert (made["source"] is made["target"]) is False


def test_gzip_files_are_the_same_corpus(bench, finished, tmp_path):
    for path in (bench.root / "raw" / "parallel").iterdir():
        (tmp_path / "raw" / "parallel").mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / "parallel" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    own = Bench.__new__(Bench)
    own.root = tmp_path
    assert own.run(tmp_path / "W", {"train.epochs": 2})["data"]["digest"] == result_of(finished)["data"]["digest"]

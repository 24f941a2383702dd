"""Pairs of texts from raw files to predictions: the task, what a run reads, and what it refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments import cli, predict, run
from research import datasets
from research.batches import Table
from research.checkpoints import load_arrays
from research.codecs import reserved, words_codec
from research.errors import ConfigError
from research.evaluation import Evaluator
from research.tasks import Classification
from research.text import Vocabulary
from tests.test_cli import call, refused
from tests.test_matching_corpora import SNLI_FILES, snli

LCQMC, SNLI, TREE = (f"configs/esim/{name}.py" for name in ("lcqmc_small", "snli", "snli_tree"))
TINY = {
    **{"model.embedding_dim": 8, "model.hidden": 6, "model.variant": "rand", "replicas": 1},
    **{"train.epochs": 2, "train.patience": 0, "train.batch_size": 8, "train.eval_batch_size": 16},
}
PAIRS = TINY | {"data.corpus": "pairs", "data.train": "train", "data.dev": "validation", "data.test": "test"}
PARSES = PAIRS | {
    **{"data.corpus": "pairs/parses", "data.tokenizer": "parse", "data.buckets": "(8,16)"},
    **{"data.premise": "sentence1", "data.hypothesis": "sentence2"},
}


def pairs(count: int, seed: int) -> list[tuple[str, str, str]]:
    """Two letters each, of which the first decides."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        (a, b), same = random.choice(list("甲乙丙丁"), 2, replace=False), random.random() < 0.5
        rows.append((f"{a}一{b}", f"{a if same else b}二", "same" if same else "other"))
    return rows


def write(folder: Path, rows: list[tuple[str, str, str]], **more: list) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in {"train": rows, "validation": rows[:20], "test": rows[20:50], **more}.items():
        (folder / f"{name}.txt").write_text("".join("\t".join(row) + "\n" for row in part), encoding="utf-8")


def arguments(root: Path, config: str, fields: dict, workdir: str = "W") -> list[str]:
    folders = ["--data_dir", str(root / "data"), "--manual_dir", str(root / "raw")]
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    return ["--config", config, "--workdir", str(root / workdir), *folders, *overrides]


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Path:
    """A finished run on pairs; one text of the test part is longer than the last bucket, one is empty."""
    root = tmp_path_factory.mktemp("pairs")
    rows = pairs(96, 0)
    write(root / "raw" / "pairs", rows, test=[*pairs(38, 1), ("甲" * 60, "乙", "same"), ("", "乙", "other")])
    outcome = call(run.main, *arguments(root, LCQMC, PAIRS))
    assert outcome.code == 0, outcome
    assert "1 texts are longer than 48 tokens and were cut\n" in outcome.err
    return root


def test_the_result(bench):
    result = json.loads((bench / "W" / "result.json").read_text())
    assert result["paper"] == "esim" and result["data"]["examples"] == {"train": 96, "dev": 20, "test": 40}
    assert result["data"]["label_names"] == ["other", "same"] and result["data"]["long"] == 1
    sizes = result["data"]["vocabulary"]
    assert sizes["premise"] == sizes["hypothesis"] == 2 + 6  # one vocabulary: four letters, 一 and 二
    names = {"accuracy", "macro_f1", "loss", "f1", "auc", "accuracy_at_threshold", "f1_at_threshold", "threshold"}
    assert set(result["metrics"]["test"]) == set(result["metrics"]["dev"]) == names
    data = result["data"]
    assert data["splits"] == {"train": "train", "dev": "validation", "test": "test"}
    labels = [row[2] for row in [*pairs(38, 1), ("", "", "same"), ("", "", "other")]]
    assert data["majority"]["test"] == pytest.approx(100 * max(map(labels.count, labels)) / 40)
    thresholds = [result["metrics"][split]["threshold"]["mean"] for split in ("dev", "test")]
    assert thresholds[0] == thresholds[1] and 0 < thresholds[0] < 1


def test_predict_labels_pairs_in_order(bench, tmp_path):
    lines = ["甲一乙\t甲二", "甲一乙\t乙二", "\t甲", "\t", "戊己\t甲", "甲" * 50 + "\t" + "乙" * 49]
    (tmp_path / "pairs.txt").write_text("\ufeff" + "".join(f"{line}\r\n" for line in lines), encoding="utf-8")
    outcome = call(predict.main, "--workdir", bench / "W", "--input", tmp_path / "pairs.txt")
    assert outcome.code == 0, outcome
    found = [json.loads(line) for line in outcome.out.splitlines()]
    assert [f"{one['premise']}\t{one['hypothesis']}" for one in found] == lines
    assert [one["line"] for one in found] == [1, 2, 3, 4, 5, 6]
    labelled = [one for one in found if one["label"]]
    assert [one["line"] for one in labelled] == [1, 2, 3, 5, 6]  # an empty text on one side is scored
    for one in labelled:
        assert one["label"] in one["probabilities"] and sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert one["probability"] == max(one["probabilities"].values())
    assert found[3]["warning"] == "no token to classify" and found[4]["unknown"] == 2
    assert found[5]["warning"] == (
        "premise cut to the first 48 of 50 tokens; hypothesis cut to the first 48 of 49 tokens"
    )
    alone = call(predict.main, "--workdir", bench / "W", "--input", tmp_path / "pairs.txt", "--replica", "0")
    assert alone.out == outcome.out


def test_a_header_that_became_a_class_is_pointed_out(tmp_path):
    write(tmp_path / "raw" / "pairs", [("text1", "text2", "label"), *pairs(95, 0)], test=pairs(40, 1))
    outcome = call(run.main, *arguments(tmp_path, LCQMC, PAIRS))
    assert outcome.code == 0, outcome
    message = r"class 'label' has one training example \(of label 1, other \d+, same \d+\): is it the header of a file"
    assert re.search(message, outcome.err)
    outcome = call(run.main, *arguments(tmp_path, LCQMC, PAIRS | {"data.positive": "same"}, "other"))
    assert outcome.code == 2 and outcome.err.endswith(
        "has label, other, same (one example of a file alone is 'label': is it a header?)\n"
    )


def test_texts_without_a_token_are_no_matter_of_their_frequency(tmp_path):
    rows = [("", "", label) for _, _, label in pairs(95, 0)]
    write(tmp_path / "raw" / "pairs", rows, test=rows)
    outcome = call(run.main, *arguments(tmp_path, LCQMC, PAIRS))
    assert outcome.code == 2 and "data.tokenizer = character: leaves no token of any training text\n" in outcome.err


@pytest.mark.parametrize(("line", "columns"), [("甲", 1), ("甲\t乙\tsame", 3)])
def test_predict_refuses_what_is_no_pair(bench, tmp_path, line, columns):
    (tmp_path / "pairs.txt").write_text(f"甲\t乙\n{line}\n乙\t甲\n", encoding="utf-8")
    outcome = call(predict.main, "--workdir", bench / "W", "--input", tmp_path / "pairs.txt")
    message = rf"^run: line 2: {columns} columns; a pair is two texts with a tab between them: '甲"
    assert outcome.code == 3 and re.search(message, outcome.err)
    assert [json.loads(text)["line"] for text in outcome.out.splitlines()] == [1]  # what stands before is answered


def test_predict_has_no_options_of_translation(bench):
    refused(2, r"--beam: .* holds no run of translation$", predict.main, "--workdir", bench / "W", "--beam", "2")


# Scores and the threshold


def test_scores_by_hand():
    """Seven pairs, of which four are of class 1; one of them, and one of the others, is on the wrong side."""
    right, probabilities = np.array([1, 1, 1, 1, 0, 0, 0]), np.array([0.9, 0.8, 0.6, 0.3, 0.7, 0.2, 0.1])
    found = Classification(None, 2).score(np.stack([1 - probabilities, probabilities], axis=1), right)
    assert found["accuracy"] == pytest.approx(100 * 5 / 7) and found["f1"] == pytest.approx(100 * 6 / 8)
    assert found["macro_f1"] == pytest.approx(100 * (6 / 8 + 4 / 6) / 2)
    assert found["auc"] == pytest.approx(100 * 10 / 12)  # 0.6 and 0.3 lie below 0.7
    chosen, right = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    found = Classification(None, 3).score(np.eye(3)[chosen] * 0.8 + 0.1, right)
    assert found["accuracy"] == pytest.approx(100 * 4 / 6)
    assert found["macro_f1"] == pytest.approx(100 * (1 / 2 + 2 / 3 + 4 / 5) / 3)
    assert found["loss"] == pytest.approx(-(4 * np.log(0.9) + 2 * np.log(0.1)) / 6)


def test_the_threshold_is_chosen_on_the_dev_split():
    """And holds for the test split, whose own would be another."""
    labels = np.array([0, 0, 1, 1, 0, 1, 1, 1])
    places = {"dev": np.arange(4), "test": np.arange(4, 8)}
    scores = np.array([0.1, 0.4, 0.5, 0.9, 0.05, 0.1, 0.2, 0.3])
    task = Classification(None, 2)
    evaluator = Evaluator(task, (), 4)
    evaluator.predict = lambda variables, tables, chosen: [np.stack([1 - scores, scores], axis=1)[chosen[0]]]
    table = Table({}, {}, {}, labels)
    (found,) = evaluator.final(None, [table], [places])
    assert found["dev"]["threshold"] == found["test"]["threshold"] == 0.5
    assert found["dev"]["f1_at_threshold"] == 100 and found["test"]["f1_at_threshold"] == 0
    assert found["test"]["accuracy_at_threshold"] == 25


def test_the_threshold_has_the_best_f1_of_all():
    random = np.random.default_rng(0)
    scores = random.random(60).round(2)
    labels = (scores + random.normal(0, 0.3, 60) > 0.7).astype(np.int32)
    task = Classification(None, 2)
    predictions = np.stack([1 - scores, scores], axis=1)
    threshold = task.threshold(predictions, labels)

    def f1(limit: float) -> float:
        chosen = scores >= limit
        right = np.sum(chosen & (labels == 1))
        return 2 * right / (chosen.sum() + labels.sum())

    assert f1(threshold) == max(f1(limit) for limit in scores) > f1(0.5)
    found = task.score(predictions, labels, threshold)
    assert found["f1_at_threshold"] == pytest.approx(100 * f1(threshold)) and found["threshold"] == threshold
    assert found["accuracy_at_threshold"] == pytest.approx(100 * np.mean((scores >= threshold) == labels))
    assert found["f1"] == pytest.approx(100 * f1(0.5)) and "f1_at_threshold" not in task.score(predictions, labels)


def test_there_is_no_threshold_without_the_class_or_with_more_classes():
    uniform = np.full((4, 2), 0.5)
    assert Classification(None, 2).threshold(uniform, np.zeros(4, np.int32)) is None
    assert Classification(None, 3).threshold(np.full((4, 3), 1 / 3), np.array([0, 1, 2, 1])) is None


def test_one_of_two_classes_is_called_positive(tmp_path):
    """Whatever the names' order: F1, AUC and the bot take it for the second."""
    write(tmp_path / "raw" / "pairs", pairs(60, 0))
    load = lambda **fields: datasets.load(
        cli.load_config(LCQMC, [f"{name}={value}" for name, value in (PAIRS | fields).items()]),
        data_dir=tmp_path / "data",
        manual_dir=tmp_path / "raw",
    )
    by_code, other, same = load(), load(**{"data.positive": "other"}), load(**{"data.positive": "same"})
    assert list(by_code.label_names) == list(same.label_names) == ["other", "same"]
    assert list(other.label_names) == ["same", "other"] and same.splits == by_code.splits
    for split, columns in by_code.splits.items():
        assert other.splits[split] == columns | {"label": [1 - label for label in columns["label"]]}
    with pytest.raises(ConfigError, match=r"data\.positive = equal: names one of two classes; .* has other, same$"):
        load(**{"data.positive": "equal"})


# SNLI as TFDS has it


@pytest.mark.parametrize("config", [SNLI, "configs/esim/multi_nli.py"])
def test_the_words_of_snli_are_english(config):
    """The rules of Moses for English, whose contractions GloVe has vectors for."""
    config = cli.load_config(config, [])
    for role in ("premise", "hypothesis"):
        split = words_codec(role, Vocabulary(reserved(config)), config).split
        assert split("The man's dog doesn't bark.") == ["The", "man", "'s", "dog", "doesn", "'t", "bark", "."]


def test_half_width_is_for_all_that_a_run_reads():
    config = cli.load_config(LCQMC, [])
    assert config.data.half_width
    assert words_codec("premise", Vocabulary(reserved(config)), config).split("ＡＢ，１") == ["a", "b", ",", "1"]
    config.data.half_width = False
    assert words_codec("premise", Vocabulary(reserved(config)), config).split("Ａ，") == ["ａ", "，"]


def test_snli_leaves_out_pairs_without_a_label(tmp_path, monkeypatch):
    """A run of the paper's configuration on generated data of the catalogue's format."""

    def rows(count):
        sentence = lambda i: " ".join(["A", "man", "is", "sleeping", "outside"][: 2 + i % 4])
        return [{"premise": sentence(i), "hypothesis": sentence(i + 1), "label": i % 4 - 1} for i in range(count)]

    parts = {"train": 64, "validation": 16, "test": 16}
    generate = lambda self, dl_manager: {name: enumerate(rows(count)) for name, count in parts.items()}
    monkeypatch.setattr(tfds.builder_cls("snli"), "_split_generators", generate)
    outcome = call(run.main, *arguments(tmp_path, SNLI, TINY))
    assert outcome.code == 0, outcome
    assert "24 pairs have no label and were left out\n" in outcome.err
    data = json.loads((tmp_path / "W" / "result.json").read_text())["data"]
    assert data["examples"] == {"train": 48, "dev": 12, "test": 12} and data["unlabelled"] == 24
    assert data["label_names"] == ["entailment", "neutral", "contradiction"]
    message = r"48 of 64 examples of split 'train' have a label; .*, or set data\.unlabelled=drop$"
    refused(3, message, run.main, *arguments(tmp_path, SNLI, TINY | {"data.unlabelled": "refuse"}, "W2"))


# Trees


@pytest.fixture(scope="module")
def parses(tmp_path_factory) -> Path:
    root, names = tmp_path_factory.mktemp("parses"), ("甲", "乙", "丙")
    rows = [(f"( ( {a} likes ) {b} )", f"( {b} ( likes {a} ) )", str(a < b)) for a in names for b in names] * 8
    write(root / "raw" / "pairs", rows)
    return root


@pytest.mark.parametrize("architecture", ["tree", "hybrid", "sequential"])
def test_trees_are_trained_and_predicted(parses, tmp_path, architecture):
    fields = PARSES | {"model.architecture": architecture}
    fields |= {"data.tree": ""} if architecture == "sequential" else {}
    outcome = call(run.main, *arguments(parses, TREE, fields, architecture))
    assert outcome.code == 0, outcome
    size = json.loads((parses / architecture / "result.json").read_text())["data"]["vocabulary"]["premise"]
    assert size == 2 + 4 + (architecture != "sequential")  # <pad>, <unk>, four words, and the inner nodes of trees
    (tmp_path / "pairs.txt").write_text("( 甲 ( likes 乙 ) )\t丙\n( 甲\t丙\n", encoding="utf-8")
    outcome = call(predict.main, "--workdir", parses / architecture, "--input", tmp_path / "pairs.txt")
    assert (outcome.code, outcome.out.count("\n")) == (3, 1)
    assert outcome.err == (  # `call` names every program so
        "run: line 2: premise: column 1: this bracket is never closed; this run reads binarised parses\n"
    )
    (tmp_path / "pairs.txt").write_text("( 甲 ( likes 乙 ) )\t丙\n", encoding="utf-8")
    outcome = call(predict.main, "--workdir", parses / architecture, "--input", tmp_path / "pairs.txt")
    assert outcome.code == 0 and json.loads(outcome.out)["unknown"] == 0


def test_the_paper_s_configuration_of_both_models_reads_snli_with_its_parses(tmp_path):
    """snli_him.py, whose corpus and columns are those of snli_tree.py, on files of SNLI's format."""
    him = cli.load_config("configs/esim/snli_him.py", []).data
    assert him.to_dict() == cli.load_config(TREE, []).data.to_dict()
    for name, content in SNLI_FILES.items():
        (folder := tmp_path / "raw" / "snli_parses").mkdir(parents=True, exist_ok=True)
        (folder / name).write_text((content + snli("contradiction")) * 4 + snli("-"))
    outcome = call(run.main, *arguments(tmp_path, "configs/esim/snli_him.py", TINY | {"train.epochs": 1}))
    assert outcome.code == 0, outcome
    data = json.loads((tmp_path / "W" / "result.json").read_text())["data"]
    assert data["examples"] == {"train": 12, "dev": 12, "test": 12}
    assert data["vocabulary"]["premise"] == 3 + 5  # <pad>, <unk>, inner nodes; A man sleeps . Rest


@pytest.mark.parametrize("variant", ["static", "non_static"])
def test_vectors_of_a_file_are_those_of_words_and_others_gaussian(parses, tmp_path, monkeypatch, variant):
    """Not those of inner nodes, though a file has a vector of the bracket that stands for them. They stay as they are,
    or are tuned."""
    seen, make = [], run.embedding_matrix

    def watch(vectors, tokens, **options):
        seen.append((vectors, tokens, options))
        return make(vectors, tokens, **options)

    monkeypatch.setattr(run, "embedding_matrix", watch)
    rows = {"likes": np.arange(8.0), ")": np.ones(8), "甲": -np.ones(8)}
    path = tmp_path / "vectors.txt"
    path.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in rows.items()))
    fields = PARSES | {"model.variant": variant, "word_vectors.path": path, "train.epochs": 1}
    outcome = call(run.main, *arguments(parses, TREE, fields, variant))
    assert outcome.code == 0, outcome
    ((vectors, tokens, options),) = seen
    assert set(vectors) == {"likes", "甲"} and tokens[:3] == ("<pad>", "<unk>", ")") and options["gaussian"]
    variables, _ = load_arrays(parses / variant / "replica_00" / "best")
    table = variables["constants" if variant == "static" else "params"]["words"]["embedding"]
    moved = np.abs(table[tokens.index("likes")] - rows["likes"]).max()
    assert moved == 0 if variant == "static" else 0 < moved < 0.1
    assert np.abs(table[2] - rows[")"]).max() > 0.1


def test_full_trees_are_built_over_plain_texts(bench):
    fields = PAIRS | {"data.tree": "full", "model.architecture": "tree"}
    outcome = call(run.main, *arguments(bench, LCQMC, fields, "full"))
    assert outcome.code == 0, outcome
    assert json.loads((bench / "full" / "result.json").read_text())["data"]["vocabulary"]["premise"] == 2 + 6 + 1


# What is refused

STATIC = {"model.variant": "static", "word_vectors.path": "vectors.txt"}


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"data.hypothesis": "sentence1"}, 2, r"data: columns must differ, got sentence1, sentence1$"),
        ({"data.hypothesis": "text"}, 2, r"has no column 'text'; it has sentence1, sentence2, label$"),
        ({"data.premise": "label", "data.label": "sentence1"}, 2, r"data\.premise: column 'label' of corpus"),
        ({"data.unlabelled": "keep"}, 2, r"data\.unlabelled: 'keep' is neither refuse nor drop$"),
        ({"data.tree": "binary"}, 2, r"data\.tree: 'binary' is none of parse, full; empty for texts without"),
        (
            {"data.tree": "parse"},
            2,
            r"data\.tree = parse reads the words off the parse, too; set data\.tokenizer=parse$",
        ),
        ({"data.tokenizer": "parse", "data.half_width": True}, 2, r"data\.half_width would make brackets of words"),
        ({"data.tree": "full", "data.unknown": "skip"}, 2, r"data\.unknown = skip would leave nodes without children"),
        ({"model.architecture": "tree"}, 2, r"model\.architecture = tree needs data\.tree, parse or full$"),
        ({"data.tree": "full"}, 2, r"data\.tree = full is for the architectures tree and hybrid, not sequential$"),
        ({"paper": "textcnn"}, 2, r"task: 'matching' is none of classification \(research/textcnn\.py\)$"),
        ({"task": "entailment"}, 2, r"task: 'entailment' is none of matching \(research/esim\.py\)$"),
        ({"train.monitor": "bleu"}, 2, r"train\.monitor: 'bleu' is none of the dev split's metrics accuracy, macro_f1"),
        ({"model.variant": "static"}, 2, r"model\.variant = static needs word vectors: set --config\.word_vectors"),
        (
            {**STATIC, "word_vectors.unknown": "zero"},
            2,
            r"word_vectors\.unknown: 'zero' is neither uniform nor gaussian$",
        ),
    ],
    ids=str,
)
def test_bad_configurations(bench, changes, code, message):
    fields = PAIRS | {"data.buckets": "(64,)"} | changes  # no text is longer, which would be said first
    refused(code, message, run.main, *arguments(bench, LCQMC, fields, "refused"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("( 甲 乙\t( 甲 乙 )\tTrue", r"train\.txt:73:1: this bracket is never closed; a parse must be binarised"),
        ("( 甲 乙 )\t( 甲 乙 丙 )\tTrue", r"train\.txt:73:15: a node's third child begins here; a node has two; a"),
        ("甲\t乙", r"train\.txt:73: 2 columns; the line must be '<text>\\t<text>\\t<label>', of 3 columns$"),
    ],
    ids=str,
)
def test_a_malformed_line_is_named(parses, tmp_path, line, message):
    folder = tmp_path / "raw" / "pairs"
    folder.mkdir(parents=True)
    for path in (parses / "raw" / "pairs").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    with (folder / "train.txt").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    refused(3, message, run.main, *arguments(tmp_path, TREE, PARSES))


def test_texts_that_are_no_parses(tmp_path):
    rows = [("( A man )", "sleeps", label) for label in ("same", "other")] * 30
    rows[6] = ("A man", "sleeps", "same")
    write(tmp_path / "raw" / "pairs", rows)
    message = (
        r"corpus 'pairs/text', split 'train', labelled example 7: 'A man' in column 'sentence1' is no binarised parse, "
        r"as data\.tokenizer = parse needs: column 3: text after the end of the tree$"
    )
    refused(3, message, run.main, *arguments(tmp_path, TREE, PARSES | {"data.corpus": "pairs"}))

"""Recall and rerank, the bot that answers out of a FAQ, and the evaluation of both."""

import contextlib
import dataclasses
import json
import math
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import answer, cli, evaluate_retrieval, predict, run
from experiments.answer import Bot, converse, matching_run, read_faq, spoken, threshold_of
from experiments.evaluate_retrieval import Found, bootstrap, retrieval_tasks, scores, search
from experiments.statistics import summary
from research.batches import Batch, make_buckets
from research.corpora import load_corpus
from research.errors import ConfigError, DataError
from research.retrieval import (
    Bm25,
    MeanVectors,
    Reranker,
    Retrieval,
    TfIdf,
    best,
    combined,
    make_recall,
    recall_at,
    reciprocal_rank,
)
from research.tasks import make_task, shapes
from tests import test_matching
from tests.test_cli import ROOT, call, refused

QUICKSTART = "configs/esim/quickstart.py"
TINY = {
    **{"model.embedding_dim": 8, "model.hidden": 6, "train.epochs": 1, "train.batch_size": 100},
    **{"data.train_fraction": 0.5, "data.buckets": "(10,20,30)"},
}
TEXTS = [["a", "b"], ["a", "a", "c"], ["d"]]


# --- recall


def test_bm25_by_hand():
    """Three texts of two tokens on average; `a` stands in two of them, `c` in one."""
    a, c = math.log(1 + 1.5 / 2.5), math.log(1 + 2.5 / 1.5)
    short, long = 1.5 * (0.25 + 0.75 * 2 / 2), 1.5 * (0.25 + 0.75 * 3 / 2)
    first, second = a * 1 / (1 + short), a * 2 / (2 + long) + c * 1 / (1 + long)
    np.testing.assert_allclose(Bm25(TEXTS).scores(["a", "c", "zzz"]), [first, second, 0.0], rtol=1e-12)
    np.testing.assert_allclose(Bm25(TEXTS).scores(["a", "a"])[0], 2 * first, rtol=1e-12)


def test_tfidf_by_hand():
    a, once = math.log(4 / 3) + 1, math.log(4 / 2) + 1
    wanted = [a / math.hypot(a, once), 2 * a / math.hypot(2 * a, once), 0.0]
    np.testing.assert_allclose(TfIdf(TEXTS).scores(["a", "zzz"]), wanted, rtol=1e-12)


def test_mean_vectors_by_hand():
    """a + b is (1, 2); `c` and `d` have no vector, so that the last text has none at all."""
    method = MeanVectors(TEXTS, {"a": 0, "b": 2}, np.array([[1.0, 0.0], [9.0, 9.0], [0.0, 2.0]], np.float32))
    np.testing.assert_allclose(method.scores(["a", "a", "c"]), [1 / math.sqrt(5), 1.0, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(method.scores(["d"]), np.zeros(3))


@pytest.mark.parametrize("kind", ["bm25", "tfidf", "vectors"])
def test_equal_texts_are_equally_near_and_the_earlier_one_comes_first(kind):
    """Also where their words stand in another order, and among so many that a product of matrices goes in blocks."""
    random = np.random.default_rng(0)
    others = [[f"w{n}" for n in random.integers(0, 50, 7)] for _ in range(97)]
    twin = ["w1", "w2", "w3", "w4", "w5"]
    texts = [*others[:40], twin[::-1], *others[40:], twin, ["w3", "w1", "w5", "w4", "w2"]]
    variables = {"params": {"words": {"embedding": random.normal(size=(50, 33))}}}
    method = make_recall(kind, texts, {f"w{n}": n for n in range(50)}, variables)
    assert list(best(method.scores(twin), 3)) == [40, 98, 99]
    nothing = method.scores(["zzz"])
    assert not nothing.any() and list(best(nothing, 4)) == list(best(method.scores([]), 4)) == [0, 1, 2, 3]


def test_scores_that_differ_by_rounding_are_equal():
    assert 0.1 + 0.2 > 0.3 and list(best(np.array([0.3, 0.1 + 0.2, 0.3 + 1e-5]), 3)) == [2, 0, 1]


def test_more_than_there_are_is_all_of_them():
    assert list(best(np.array([0.5, 2.0, 1.0]), 20)) == [1, 2, 0]
    assert list(best(np.array([0.5, 2.0, 1.0]), 2)) == [1, 2]


def test_word_vectors_are_those_of_the_model():
    """Trained or constant, and those of the sequential half of a hybrid."""
    table = np.array([[0.0, 1.0], [1.0, 0.0]])
    for variables in (
        {"constants": {"words": {"embedding": table}}, "params": {"hidden": {"kernel": table}}},
        {"params": {"sequential": {"words": {"embedding": table}}, "tree": {"words": {"embedding": table[::-1]}}}},
    ):
        method = make_recall("vectors", [["a"], ["b"]], {"a": 0, "b": 1}, variables)
        np.testing.assert_array_equal(method.scores(["b"]), [0.0, 1.0])


def test_what_recall_cannot_be():
    with pytest.raises(ConfigError, match="--recall nearest: is none of bm25, tfidf, vectors"):
        make_recall("nearest", TEXTS, {}, {})
    with pytest.raises(DataError, match="none of the texts to choose from has a token"):
        make_recall("bm25", [[], []], {}, {})


# --- rerank

MODELS = {
    "sequential": {},
    "two layers": {"layers": 2},
    "feed-forward encoding": {"encoding": "feedforward"},
    "no masks": {"masks": False},
    "sigmoid": {"output": "sigmoid"},
    "tree": {"architecture": "tree"},
    "hybrid": {"architecture": "hybrid"},
    "cosine": {"architecture": "cosine"},
    "siamese BiLSTM": {"architecture": "siamese_bilstm"},
    "siamese TextCNN": {"architecture": "siamese_textcnn"},
}


def made(changes: dict):
    """A task whose model has random variables, and its buckets."""
    config = cli.load_config(str(ROOT / QUICKSTART))
    siamese = changes.get("architecture", "").startswith(("cosine", "siamese"))
    if siamese:
        config.model = dict(variant="rand", dropout=0.2, word_masks="pair", kernel_sizes=(2, 3))
    config.model.update(changes | {"embedding_dim": 5, "hidden": 4})
    config.data.tree = "full" if changes.get("architecture") in ("tree", "hybrid") else ""
    config.data.buckets = ((4, 6), (14, 9))
    task = make_task(config, sizes={"premise": 20, "hypothesis": 20}, num_classes=2)
    buckets = make_buckets(config.data.buckets, task.roles)
    keys = iter(jax.random.split(jax.random.key(4), 200))
    draw = lambda x: jax.random.normal(next(keys), x.shape) / 2
    return task, buckets, jax.tree.map(draw, shapes(task, buckets[-1]))


def whole(task, variables, query: list[int], texts: list[list[int]], size: int) -> np.ndarray:
    """The probabilities of class 1 of pairs, read as the task reads them, padded to `size`."""
    columns = dict(zip(task.roles, ([query] * len(texts), texts)))
    tokens = {role: np.array([[*ids, *[0] * (size - len(ids))] for ids in rows]) for role, rows in columns.items()}
    lengths = {role: np.array([len(ids) for ids in rows]) for role, rows in columns.items()}
    number = np.arange(len(texts))
    return np.asarray(jax.jit(task.predict)(variables, Batch(tokens, lengths, {}, number, number + 1.0, number)))[:, 1]


@pytest.mark.parametrize("name", MODELS)
def test_the_rerank_is_what_the_model_says_of_whole_pairs(name):
    """With the encodings kept of texts short and long, and of one without words; none are kept where padding counts."""
    task, buckets, variables = made(MODELS[name])
    random = np.random.default_rng(5)
    texts = [list(random.integers(3, 20, length)) for length in (3, 5, 1, 9, 0, 2, 4, 8)]
    reranker = Reranker(task, variables, texts, buckets, 3)
    assert bool(reranker._states) == (name not in ("no masks", "cosine", "siamese TextCNN"))
    assert reranker._sizes == ([6, 14] if name == "no masks" else [6, 10, 14])
    for length, chosen in ((4, [0, 2, 5]), (0, [6, 4, 1]), (11, [3, 0, 4]), (1, [7])):
        query = list(random.integers(3, 20, length))
        size = 6 if max(length, *(len(texts[n]) for n in chosen)) <= 6 else 14
        wanted = whole(task, variables, query, [texts[n] for n in chosen], size)
        found = reranker.scores(query, np.array(chosen))
        np.testing.assert_allclose(found, wanted, atol=2e-6)
        assert not length or len(set(np.round(found, 4))) == len(chosen)


def test_what_is_longer_than_the_longest_bucket_is_cut():
    task, buckets, variables = made({})
    text, query = list(range(3, 15)), list(range(3, 20))
    found = Reranker(task, variables, [text], buckets, 1).scores(query, np.array([0]))
    limits = dict(buckets[-1])
    wanted = whole(task, variables, query[: limits["premise"]], [text[: limits["hypothesis"]]], 14)
    np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_the_weight_adds_recall_to_the_log_odds():
    p, recalled = np.array([0.5, 0.8, 1.0], np.float32), np.array([3.0, 1.0, 0.0])
    np.testing.assert_allclose(combined(p, recalled, 2.0)[:2], [6.0, math.log(4) + 2.0], rtol=1e-6)
    assert np.isfinite(combined(p, recalled, 0.0)).all() and list(best(combined(p, recalled, 0.0), 3)) == [2, 1, 0]


# --- metrics


def test_ranks_by_hand():
    assert [reciprocal_rank(hits) for hits in ([0, 0, 1, 1], [1], [0, 0], [])] == [1 / 3, 1.0, 0.0, 0.0]
    hits = [False, True, False, True]
    assert [recall_at(hits, k, 3) for k in (1, 2, 4, 9)] == [0.0, 1 / 3, 2 / 3, 2 / 3]


def test_pairs_as_retrieval():
    """A pair of a text with itself is none; `c` is a candidate once, and one that no query is paired with stays."""
    pairs = [("a", "b", 0), ("a", "c", 1), ("a", "d", 1), ("e", "c", 1), ("f", "f", 1), ("g", "h", 0), ("a", "a", 1)]
    task = Retrieval.of_pairs(pairs)
    assert task == Retrieval(["a", "e"], ["b", "c", "d", "f", "h", "a"], [{1, 2}, {1}])
    assert task.among("chxyz", 8) == Retrieval(task.queries, [*task.candidates, "x", "y"], task.relevant)
    assert task.among("xyz", 2) == task


def test_the_dev_queries_have_as_many_candidates_and_no_partner_among_them():
    dev, test = [("a", "b", 1), ("c", "d", 0)], [(f"q{n}", f"s{n}", 1) for n in range(5)]
    train = [("a", "x", 1), ("a", "y", 0), ("c", "z", 1), ("q0", "w", 1), ("e", "v", 0)]
    train.append(("f", "x", 0))  # of another question, but "a" asks the same as "x"
    for tasks in [retrieval_tasks({"train": train, "dev": dev, "test": test}, count, 5) for count in (0, 9)]:
        assert tasks["test"] == Retrieval.of_pairs(test) and tasks["dev"].queries == ["a"]
        assert tasks["dev"].candidates[:2] == ["b", "d"] and len(tasks["dev"].candidates) == 5
        assert set(tasks["dev"].candidates[2:]) < {"y", "z", "w", "v"}
    more = retrieval_tasks({"train": train, "dev": dev, "test": test}, 0, 8)
    assert more["test"].candidates[:5] == [f"s{n}" for n in range(5)] and len(more["test"].candidates) == 8
    assert set(more["test"].candidates[5:]) < {"x", "y", "z", "v"} and len(more["dev"].candidates) == 6


def test_a_querys_own_text_is_not_found():
    """Nor does it take a place: two are found beside it."""

    class Finder:
        recall = staticmethod(lambda kind, query: np.array([1.0, 9.0, 2.0, 0.5]))
        rerank = staticmethod(lambda query, chosen: chosen / 10.0)

    task = Retrieval(["a", "b"], ["x", "a", "y", "z"], [{2}, {1}])
    own, other = search(Finder(), task, "bm25", 2, lambda: None)
    assert list(own.recalled) == [2.0, 1.0] and list(own.relevant) == [True, False]
    assert list(other.recalled) == [9.0, 2.0] and list(other.relevant) == [True, False]
    assert list(own.probabilities) == [0.2, 0.0] and own.count == 1


def found(relevant: list[int], recalled: list[float], probabilities: list[float], count: int = 1) -> Found:
    arrays = (np.array(relevant, bool), np.array(recalled), np.array(probabilities))
    return Found(*arrays, count, recall_ms=2.0, rerank_ms=8.0)


def test_the_metrics_of_an_order_by_hand():
    """Two queries: the rerank brings the relevant text from the second place to the first, and from the first to the
    third; with much weight on recall it stays where it was."""
    both = [found([0, 1, 1], [3, 2, 1], [0.1, 0.9, 0.2], 4), found([1, 0, 0], [3, 2, 1], [0.1, 0.5, 0.6])]
    recall, rerank, mixed = (scores(both, weight, 3) for weight in (None, 0.0, 9.0))
    assert recall["mrr"] == mixed["mrr"] == pytest.approx(75.0) and rerank["mrr"] == pytest.approx(100 * 2 / 3)
    assert [recall[f"recall@{n}"] for n in (1, 3)] == [50.0, 75.0] and "recall@5" not in recall
    assert [rerank[f"recall@{n}"] for n in (1, 3)] == [12.5, 75.0]
    assert (recall["median_ms"], rerank["p95_ms"]) == (2.0, 10.0) and "difference" not in recall
    assert rerank["difference"] == pytest.approx(100 * (0.5 - 2 / 3) / 2) and not rerank["above_zero"]


def test_a_difference_is_above_zero_where_its_interval_is():
    better, worse = found([0, 1], [2, 1], [0.1, 0.9]), found([1, 0], [2, 1], [0.1, 0.9])
    won = scores([better] * 9, 0.0, 2)
    assert won["difference_ci95"] == [50.0, 50.0] and won["above_zero"]
    assert not scores([better, worse] * 9, 0.0, 2)["above_zero"]
    assert scores([better] * 8 + [worse], 0.0, 2)["above_zero"]


def test_the_bootstrap_interval_is_the_normal_one_of_many_values():
    values = np.random.default_rng(1).normal(50.0, 10.0, 1000)
    low, high = bootstrap(values)
    half = 1.96 * values.std() / math.sqrt(1000)
    assert low == pytest.approx(values.mean() - half, abs=0.1) and high == pytest.approx(values.mean() + half, abs=0.1)
    assert bootstrap(values) == [low, high]


# --- the bot


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a finished run W of the quickstart, small, and its data."""
    root = tmp_path_factory.mktemp("retrieval")
    words = ["--config", QUICKSTART, "--workdir", root / "W", "--data_dir", root / "data"]
    outcome = call(run.main, *words, *(f"--config.{name}={value}" for name, value in TINY.items()))
    assert outcome.code == 0, outcome
    return root


@pytest.fixture(scope="module")
def questions(trained) -> list[str]:
    """Fifteen questions, of which the middle one is longer than the run's longest bucket."""
    splits = load_corpus("paraphrases", columns=("sentence2",), splits=("test",), data_dir=trained / "data").splits
    shown = list(dict.fromkeys(splits["test"]["sentence2"]))[:14]
    return [*shown[:7], "从北京到上海" * 6, *shown[7:]]


@pytest.fixture
def faq(tmp_path, questions) -> Path:
    path = tmp_path / "faq.txt"
    path.write_text("".join(f"{text}\t答{n}\n" for n, text in enumerate(questions)), encoding="utf-8-sig")
    return path


def asked(trained, faq, content: bytes, *flags) -> list[dict]:
    (faq.parent / "lines.txt").write_bytes(content)
    outcome = call(answer.main, "--workdir", trained / "W", "--faq", faq, "--input", faq.parent / "lines.txt", *flags)
    assert outcome.code == 0, outcome
    return [json.loads(line) for line in outcome.out.splitlines()]


@pytest.mark.parametrize("recall", ["bm25", "tfidf", "vectors"])
def test_answers_are_by_the_probabilities_of_the_run(trained, faq, questions, tmp_path, recall):
    """Of all questions, since k is larger: those that `predict` says of the pairs. What is itself one of the questions
    stands before all others."""
    asks = ["请问去上海，从北京出发怎么走", "医生比护士高吗", questions[3]]
    (tmp_path / "pairs.txt").write_text("".join(f"{ask}\t{text}\n" for ask in asks for text in questions))
    outcome = call(predict.main, "--workdir", trained / "W", "--input", tmp_path / "pairs.txt")
    same = [json.loads(line)["probabilities"]["same"] for line in outcome.out.splitlines()]
    replies = asked(trained, faq, "\n".join(asks).encode(), "--threshold", "0", "--k", "99", "--recall", recall)
    assert [reply["line"] for reply in replies] == [1, 2, 3] and [reply["text"] for reply in replies] == asks
    for number, reply in enumerate(replies):
        wanted = np.array(same[number * len(questions) :][: len(questions)])
        order = np.argsort(-wanted, kind="stable").tolist()
        if asks[number] in questions:
            own = questions.index(asks[number])
            order = [own, *(n for n in order if n != own)]
        order = order[:4]
        shown = [reply, *reply["runners_up"]]
        assert [one["answer"] for one in shown] == [f"答{n}" for n in order]
        assert [one["question"] for one in shown] == [questions[n] for n in order]
        np.testing.assert_allclose([one["score"] for one in shown], wanted[order], atol=3e-6)


def test_only_what_was_recalled_is_reranked(trained, faq, questions):
    replies = asked(trained, faq, "\n".join(questions).encode(), "--threshold", "0", "--k", "1")
    assert [reply["question"] for reply in replies] == questions  # by words its own text is the nearest
    assert not any(reply["runners_up"] for reply in replies)


def test_a_heavy_weight_keeps_the_order_of_recall(trained, faq, questions):
    (reply,) = asked(trained, faq, questions[5].encode(), "--threshold", "0", "--weight", "1e6")
    assert reply["question"] == questions[5]


def test_below_the_threshold_it_does_not_know(trained, faq, questions):
    asks = f"{questions[0]}请问".encode()
    (sure,) = asked(trained, faq, asks, "--threshold", "0")
    score = sure["score"]
    (known,) = asked(trained, faq, asks, "--threshold", str(score - 1e-5))
    assert known == sure
    (reply,) = asked(trained, faq, asks, "--threshold", str(score + 1e-5))
    assert reply["answer"] is None and reply["question"] is None and reply["score"] == score
    assert reply["reason"].endswith(f"of the first is below the threshold {score + 1e-5:.2f}")
    best_of_all = {name: sure[name] for name in ("question", "answer", "score")}
    assert reply["runners_up"] == [best_of_all, *sure["runners_up"][:2]]


def test_a_question_that_is_in_the_faq_is_known_below_the_threshold_too(trained, faq, questions):
    """By the answer that belongs to it, and with what the model says of it, also where that was not recalled."""
    (tmp_pairs := faq.parent / "pairs.txt").write_text(f"{questions[3]}\t{questions[3]}\n")
    outcome = call(predict.main, "--workdir", trained / "W", "--input", tmp_pairs)
    probability = json.loads(outcome.out)["probabilities"]["same"]
    (reply,) = asked(trained, faq, questions[3].encode(), "--threshold", "1", "--k", "5")
    assert (reply["question"], reply["answer"]) == (questions[3], "答3") and "reason" not in reply
    assert reply["score"] == pytest.approx(probability, abs=3e-6) and reply["score"] < 1.0
    assert questions[3] not in [one["question"] for one in reply["runners_up"]] and len(reply["runners_up"]) == 3


def test_a_question_that_is_in_the_faq_has_its_own_answer_whatever_the_model_likes_better(bot, questions):
    """The model likes another question better for some of them."""
    preferred = [bot._ranked(text)[0][0] for text in questions]
    assert preferred != list(range(len(questions)))
    assert [bot.reply(text)["question"] for text in questions] == questions


def test_questions_that_are_the_same_to_the_run(trained, tmp_path):
    """Blanks are no tokens of the quickstart's."""
    (tmp_path / "faq.txt").write_text("怎么 去北京\t坐车\n医生高吗\t高\n怎么去北京\t飞\n")
    words = ["--workdir", trained / "W", "--faq", tmp_path / "faq.txt"]
    refused(3, r"faq\.txt:3: to the run this is the question of line 1, which has another answer", answer.main, *words)
    (tmp_path / "faq.txt").write_text("怎么 去北京\t坐车\n医生高吗\t高\n怎么去北京\t坐车\n")
    (reply,) = asked(trained, tmp_path / "faq.txt", "怎么去 北京".encode(), "--threshold", "1")
    assert reply["answer"] == "坐车"


def test_the_threshold_is_that_of_the_run(trained, tmp_path):
    metrics = json.loads((trained / "W" / "result.json").read_text())["metrics"]
    assert threshold_of(trained / "W") == metrics["dev"]["threshold"]["values"][0]
    several = {"dev": {"threshold": summary([0.2, 0.3, 0.7])}}  # of three replicas, the first of which answers
    (tmp_path / "result.json").write_text(json.dumps({"metrics": several}))
    assert threshold_of(tmp_path) == 0.2
    for without in ({"test": {}}, {"dev": {}}):
        (tmp_path / "result.json").write_text(json.dumps({"metrics": without}))
        assert threshold_of(tmp_path) == 0.5


def test_lines_without_a_known_token(trained, faq):
    empty, unknown, bad = asked(trained, faq, b"\n\xe2\x99\x9e\n\xff\n")
    assert empty["answer"] is empty["score"] is None and empty["runners_up"] == []
    assert empty["reason"] == "no token stands in the question"
    assert unknown["reason"] == bad["reason"] == "no token is in the vocabulary of the run"
    assert bad["warning"] == "not UTF-8: undecodable bytes read as U+FFFD" and "warning" not in unknown


def test_known_questions_that_the_vocabulary_lacks_answer_to_their_own_words_alone(trained, tmp_path):
    """To the model all of them are the same."""
    (tmp_path / "faq.txt").write_text("♞♞\t马\n从北京到上海\t路\n★\t星\n", encoding="utf-8")
    words = ["--workdir", trained / "W", "--faq", tmp_path / "faq.txt", "--threshold", "0", "--k", "3"]
    for kind in ("bm25", "tfidf", "vectors"):
        outcome = call(answer.main, *words, "--recall", kind, stdin="从\n★\n".encode())
        other, own = map(json.loads, outcome.out.splitlines())
        assert (other["answer"], other["runners_up"]) == ("路", [])
        assert own["answer"] == "星" and [one["answer"] for one in own["runners_up"]] == ["路"]
        assert "2 known questions have no token of the run's vocabulary: they answer to their own" in outcome.err
    (tmp_path / "faq.txt").write_text("♞♞\t马\n★\t星\n", encoding="utf-8")
    refused(3, "faq.txt: no question has a token that is in the vocabulary of the run", answer.main, *words)


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        *(
            ("retrieval.json", "methods", value, "holds no weights by recall; delete the file")
            for value in (
                [],
                {"bm25": {}},
                {"bm25": {"w": "x", "k": 20}},
                {"bm25": {"w": -5, "k": 20}},
            )
        ),
        *(
            ("result.json", "metrics", value, "the dev split's threshold is no probability; delete the file")
            for value in (
                [],
                {"dev": []},
                {"dev": {"threshold": {"values": []}}},
                {"dev": {"threshold": {"values": [2]}}},
                {"dev": {"threshold": {"values": ["x"]}}},
            )
        ),
    ],
)
def test_a_damaged_file_of_the_run(trained, faq, tmp_path, name, key, value, message):
    folder = Path(shutil.copytree(trained / "W", tmp_path / "W"))
    (folder / name).write_text(json.dumps({key: value}))
    refused(3, rf"{name}: {message} and run its command again", answer.main, "--workdir", folder, "--faq", faq)
    (folder / name).write_text("{}")
    refused(3, rf"{name}: no key '{key}'; delete the file", answer.main, "--workdir", folder, "--faq", faq)


def test_marks_are_no_tokens_of_a_question(trained, faq, tmp_path):
    """A run whose texts stand between two words answers the same lines."""
    folder = Path(shutil.copytree(trained / "W", tmp_path / "W"))
    record = json.loads((folder / "config.json").read_text())
    record["config"]["data"].update(begin="_BOS_", end="_EOS_")
    (folder / "config.json").write_text(json.dumps(record))
    found = call(answer.main, "--workdir", folder, "--faq", faq, stdin="\n♞\n北京\n".encode())
    empty, unknown, known = map(json.loads, found.out.splitlines())
    assert empty["reason"] == "no token stands in the question" and known["score"] is not None
    assert unknown["reason"] == "no token is in the vocabulary of the run"
    (tmp_path / "blank.txt").write_text("北京\t一\n\u3000\t二\n", encoding="utf-8")
    refused(3, r"blank\.txt:2: the tokeniser", answer.main, "--workdir", folder, "--faq", tmp_path / "blank.txt")


def test_a_long_question_is_cut(trained, faq):
    """And so is a known one, which is said once."""
    outcome = call(
        answer.main, "--workdir", trained / "W", "--faq", faq, "--threshold", "0", stdin="北京".encode() * 20
    )
    reply = json.loads(outcome.out)
    assert reply["warning"] == "cut to the first 30 of 40 tokens" and reply["answer"]
    assert "answer: 1 known questions are longer than 30 tokens and were cut\n" in outcome.err


def test_no_questions_no_answers(trained, faq):
    assert asked(trained, faq, b"") == []


@pytest.fixture
def bot(trained, faq) -> Bot:
    return Bot(matching_run(trained / "W"), read_faq(faq), "bm25", 4, weight=0.0, threshold=0.0)


COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **named: COMPILED.append(event) if event.startswith("/jax/core/compile/") else None
)


@pytest.mark.parametrize("recall", ["bm25", "tfidf", "vectors"])
def test_nothing_is_compiled_while_it_answers(trained, faq, questions, recall):
    """Whatever the length of the question, with or without candidates of the longest bucket."""
    COMPILED.clear()
    bot = Bot(matching_run(trained / "W"), read_faq(faq), recall, 4, weight=0.5, threshold=0.5)
    assert COMPILED
    COMPILED.clear()
    for text in (*questions, *("北京" * n for n in range(1, 25)), "", "♞"):
        bot.reply(text)
    assert COMPILED == []


def test_the_prompt(bot, questions, monkeypatch, capsys):
    asks = iter([questions[2], "  ", "♞"])

    def ask(prompt):
        assert prompt == "> "
        if (text := next(asks, None)) is None:
            raise EOFError
        return text

    monkeypatch.setattr("builtins.input", ask)
    converse(bot, spoken)
    first, *rest = capsys.readouterr().out.splitlines()
    reply = bot.reply(questions[2])
    assert first == reply["answer"] and rest[0] == f"  {reply['score']:.2f}  {reply['question']}"
    assert rest[1] == "The runners-up:" and len(rest) == 7
    assert rest[5] == "I do not know: no token is in the vocabulary of the run." and rest[6] == ""


def test_a_score_of_the_threshold_is_enough(bot, questions):
    """The run's threshold is a probability that occurs."""
    asks = f"{questions[2]}请问"
    _, scores = bot._ranked(asks)
    bot.threshold = float(scores[0])
    assert bot.reply(asks)["answer"] is not None
    bot.threshold = float(np.nextafter(scores[0], np.float32(2)))
    assert bot.reply(asks)["answer"] is None


def test_the_prompt_below_the_threshold(bot, questions, monkeypatch, capsys):
    bot.threshold = 1.0
    said = spoken(bot.reply(f"{questions[2]}请问")).splitlines()
    assert said[0].startswith("I do not know: the score 0.") and said[1] == "The nearest questions:"
    assert len(said) == 5


def test_ctrl_c_leaves_the_prompt(bot, monkeypatch, capsys):
    """While a question is typed, and while one is answered."""
    for broken in ("input", "reply"):
        with monkeypatch.context() as patch:
            patch.setattr("builtins.input", interrupt if broken == "input" else lambda prompt: "北京")
            patch.setattr(bot, "reply", interrupt)
            converse(bot, spoken)
        assert capsys.readouterr().out == "\n"


def interrupt(*arguments):
    raise KeyboardInterrupt


TERMINAL = """import pty, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.exit(pty.spawn(sys.argv[1:]) >> 8)"""


@contextlib.contextmanager
def started(*words):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, **pipes) as process:
        yield process


def test_a_terminal(trained, faq, questions):
    """A real one: the prompt, an answer, Ctrl-C."""
    words = ["-m", "experiments.answer", "--workdir", trained / "W", "--faq", faq, "--threshold", "0", "--json"]
    with started("-c", TERMINAL, sys.executable, *words) as process:
        shown = b""
        while not shown.endswith(b"> "):
            shown += process.stdout.read1(1)
        process.stdin.write(f"{questions[0]}\n".encode())
        process.stdin.flush()
        while not shown.endswith(b"}\r\n> "):
            shown += process.stdout.read1(1)
        process.stdin.write(b"\x1b[A\n")  # the key "up": the history's last question
        process.stdin.flush()
        while shown.count(b"}\r\n> ") < 2:
            shown += process.stdout.read1(1)
        process.stdin.write(b"half a question")
        for _ in range(60):  # Python's prompt may miss a signal that comes while it reads a key
            process.stdin.write(b"\x03")
            process.stdin.flush()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
                break
        rest = process.stdout.read()
        assert process.wait(60) == 0
    replies = [json.loads(line) for line in shown.splitlines() if line.startswith(b"{")]
    assert len(replies) == 2 and replies[0] == replies[1]
    assert replies[0]["text"] == questions[0] and replies[0]["answer"] is not None
    assert b"Traceback" not in shown + rest and b"15 questions; threshold 0.00 of class 'same'" in shown


def test_lines_of_a_pipe_are_answered_when_they_come(trained, faq):
    with started("-m", "experiments.answer", "--workdir", trained / "W", "--faq", faq) as process:
        for text in ("北京", "上海"):
            process.stdin.write(f"{text}\n".encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["text"] == text
        process.send_signal(signal.SIGTERM)  # as Ctrl-C, which a test that runs in the background may have to ignore
        assert process.wait(60) == 75
        assert process.stderr.read().decode().splitlines()[-1] == "answer: interrupted after 2 lines"


# --- bad input


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"faq\.txt: the file is empty; write lines of question, tab, answer$"),
        (b"\xef\xbb\xbf \n", r"faq\.txt: the file is empty; write"),
        ("甲\t一\n乙\n".encode(), r"faq\.txt:2: 1 columns; write lines of question, tab, answer$"),
        ("甲\t一\n乙\t \n".encode(), r"faq\.txt:2: the answer is empty; write"),
        ("\t一\n".encode(), r"faq\.txt:1: the question is empty; write"),
        ("甲\t一\n\n乙\t二\n".encode(), r"faq\.txt:2: the line is empty; write"),
        ("甲\t乙\t1\n".encode(), r"faq\.txt:1: 3 columns; write"),
        ("甲\t一\n乙\t二\n甲 \t三\n".encode(), r"faq\.txt:3: line 1 has the same question with another answer; remove"),
        ("甲\t一\n".encode() + b"\xc4\xe3\t\xba\xc3\n", r"faq\.txt:2: byte 0xc4 is not UTF-8, .*; convert the file"),
        ("甲\t一\n".encode("utf-16"), r"faq\.txt:1: NUL byte"),
    ],
)
def test_a_bad_faq(trained, tmp_path, content, message):
    (tmp_path / "faq.txt").write_bytes(content)
    refused(3, message, answer.main, "--workdir", trained / "W", "--faq", tmp_path / "faq.txt")


def test_a_question_of_which_the_tokeniser_leaves_nothing(trained, tmp_path):
    (tmp_path / "faq.txt").write_text("甲\t一\n甲\t一\n\u3000\t二\n", encoding="utf-8")
    outcome = call(answer.main, "--workdir", trained / "W", "--faq", tmp_path / "faq.txt")
    assert outcome.code == 3 and outcome.out == ""
    assert "faq.txt:3: the tokeniser of the run leaves nothing of the question; reword it\n" in outcome.err


def test_no_faq(trained, tmp_path):
    refused(3, "nothing: no such file", answer.main, "--workdir", trained / "W", "--faq", tmp_path / "nothing")


def test_a_repeated_question_is_kept_once(trained, tmp_path):
    (tmp_path / "faq.txt").write_bytes("北京\t一\r\n上海\t二\r\n 北京\t一\r\n上海\t二\r\n广州\t一".encode())
    read = read_faq(tmp_path / "faq.txt")
    assert (read.questions, read.answers, read.lines) == (["北京", "上海", "广州"], ["一", "二", "一"], [1, 2, 5])
    words = ["--workdir", trained / "W", "--faq", tmp_path / "faq.txt", "--threshold", "0"]
    outcome = call(answer.main, *words, stdin="北京".encode())
    assert outcome.code == 0 and len(json.loads(outcome.out)["runners_up"]) == 2
    assert "2 lines repeat a question and its answer and were left out, the first is line 3\n" in outcome.err


def test_bad_usage(trained, faq, tmp_path):
    given = ["--workdir", trained / "W", "--faq", faq]
    refused(2, "--k must be at least 1, got 0", answer.main, *given, "--k", "0")
    refused(2, "--threshold is a probability, from 0 to 1, got 1.5", answer.main, *given, "--threshold", "1.5")
    refused(2, "--threshold is a probability, from 0 to 1, got nan", answer.main, *given, "--threshold", "nan")
    refused(2, "--weight must be at least 0, got -1", answer.main, *given, "--weight", "-1")
    refused(2, "invalid choice: 'nearest'", answer.main, *given, "--recall", "nearest")
    refused(3, "--input .*nothing: No such file", answer.main, *given, "--input", tmp_path / "nothing")
    evaluate = (evaluate_retrieval.main, "--workdir", trained / "W")
    refused(2, "--k must be at least 1, got -3", *evaluate, "--k", "-3")
    refused(2, "--queries must be at least 0, got -1", *evaluate, "--queries", "-1")
    refused(2, "--output: .*nothing/x.json: there is no folder", *evaluate, "--output", tmp_path / "nothing" / "x.json")
    refused(2, "--output: .*: is a folder; name a file in it", *evaluate, "--output", tmp_path)


def test_a_workdir_without_a_finished_run(trained, faq, tmp_path):
    shutil.copytree(trained / "W", tmp_path / "W")
    (tmp_path / "W" / "result.json").unlink()
    for program, *words in ((answer.main, "--faq", faq), (evaluate_retrieval.main,)):
        refused(2, "--workdir .*: holds no finished run; finish it", program, "--workdir", tmp_path / "W", *words)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            (
                lambda record, task=task: record["config"].update(task=task),
                f"holds a run of {task}; name one of matching",
            )
            for task in ("translation", "classification")
        ),
        (
            lambda record: record.update(label_names=["no", "other", "same"]),
            r"its run has 3 classes \(no, other, same\); name one of two, of which the second means the same",
        ),
        (
            lambda record: record["config"]["data"].update(tokenizer="parse"),
            "its run reads parses; name one of plain texts",
        ),
    ],
)
def test_a_run_that_cannot_answer(trained, faq, tmp_path, change, message):
    folder = Path(shutil.copytree(trained / "W", tmp_path / "W"))
    record = json.loads((folder / "config.json").read_text())
    change(record)
    (folder / "config.json").write_text(json.dumps(record))
    refused(2, message, answer.main, "--workdir", folder, "--faq", faq)
    refused(2, message, evaluate_retrieval.main, "--workdir", folder)


def test_weights_that_were_imported_have_no_corpus(trained, tmp_path):
    folder = Path(shutil.copytree(trained / "W", tmp_path / "W"))
    record = json.loads((folder / "config.json").read_text()) | {"corpus": "best.pth.tar", "version": ""}
    (folder / "config.json").write_text(json.dumps(record))
    message = r"--workdir: weights that were imported from best\.pth\.tar, which is no corpus"
    refused(2, message, evaluate_retrieval.main, "--workdir", folder)


# --- the evaluation


def test_the_evaluation(trained, tmp_path):
    """Against a count of its own, of all queries of the test split, by BM25 and by the probabilities of `predict`."""
    words = ["--workdir", trained / "W", "--data_dir", trained / "data", "--output", tmp_path / "found.json"]
    outcome = call(evaluate_retrieval.main, *words, "--recall", "bm25", "--k", "6")
    assert outcome.code == 0 and outcome.err == "", outcome
    result = json.loads((tmp_path / "found.json").read_text())
    loaded = load_corpus(
        "paraphrases", columns=("sentence1", "sentence2", "label"), splits=("test",), data_dir=trained / "data"
    ).splits["test"]
    rows = list(zip(loaded["sentence1"], loaded["sentence2"], loaded["label"]))
    candidates = list(dict.fromkeys(second for _, second, _ in rows))
    queries = list(dict.fromkeys(first for first, _, label in rows if label == 1))
    assert result["test"] == {"queries": len(queries), "candidates": len(candidates)}
    model = predict.Labeller(predict.Run(trained / "W"))
    codec, recall = model.codecs["premise"], Bm25([list(text) for text in candidates])
    pairs, ranks = [], {"recall": [], "rerank": []}
    for query in queries:
        order = [candidates[n] for n in np.argsort(-recall.scores(list(query)), kind="stable")]
        pairs.append((query, [text for text in order if text != query][:6]))
    flat = [(codec.encode(query), codec.encode(text)) for query, texts in pairs for text in texts]
    chances = model.probabilities(dict(zip(model.codecs, zip(*flat))))[:, 1].reshape(-1, 6)
    truth = {(first, second) for first, second, label in rows if label == 1}
    for (query, texts), row in zip(pairs, chances):
        reranked = [texts[n] for n in np.argsort(-row, kind="stable")]
        for name, order in (("recall", texts), ("rerank", reranked)):
            places = [place for place, text in enumerate(order, 1) if (query, text) in truth]
            ranks[name].append(100.0 / places[0] if places else 0.0)
    for name, values in ranks.items():
        one = result["methods"]["bm25"]["orders"][name]
        assert one["mrr"] == pytest.approx(np.mean(values), abs=0.2)  # two probabilities may be equal but for rounding
        assert one["mrr_ci95"][0] < one["mrr"] < one["mrr_ci95"][1]
        assert one["recall@1"] <= one["recall@5"] <= one["recall@6"] <= 100.0 and one["p95_ms"] >= one["median_ms"] > 0
    orders = result["methods"]["bm25"]["orders"]
    assert orders["recall"]["recall@6"] == orders["rerank"]["recall@6"]
    assert orders["rerank"]["difference"] == pytest.approx(orders["rerank"]["mrr"] - orders["recall"]["mrr"])
    assert result["command"].startswith("python -m experiments.evaluate_retrieval --workdir")
    assert (result["paper"], result["config"]) == ("esim", QUICKSTART) and "jax" in result["environment"]
    shown = outcome.out.splitlines()
    assert shown[0] == f"{len(queries)} queries among {len(candidates)} candidates, 6 recalled; percent"
    assert f"{orders['recall']['mrr']:.2f} [" in shown[4] and len(shown) == 10


def weights_of(folder: Path) -> dict[str, float]:
    return {recall: one["w"] for recall, one in answer.weighed(folder).items()}


def test_the_bot_ranks_by_the_weight_that_was_found(trained, faq, questions, tmp_path):
    """Once all queries were evaluated, of the methods that were."""
    folder = shutil.copytree(trained / "W", tmp_path / "W")
    (folder / "retrieval.json").unlink(missing_ok=True)
    words = ["--workdir", folder, "--data_dir", trained / "data", "--k", "3", "--recall", "tfidf"]
    assert call(evaluate_retrieval.main, *words, "--queries", "5").code == 0
    assert weights_of(folder) == {}
    assert call(evaluate_retrieval.main, *words).code == 0
    stored = json.loads((folder / "retrieval.json").read_text())
    assert stored["methods"]["tfidf"]["w"] == weights_of(folder)["tfidf"]
    assert call(evaluate_retrieval.main, *words[:-3], "2", "--recall", "bm25").code == 0  # stands beside the other
    kept = json.loads((folder / "retrieval.json").read_text())["methods"]
    assert set(kept) == {"tfidf", "bm25"} and kept["tfidf"] == stored["methods"]["tfidf"] and kept["bm25"]["k"] == 2
    outcome = call(evaluate_retrieval.main, *words[:-3], "1")
    assert outcome.code == 0 and "with k = 1 there is no order to find a weight for" in outcome.err
    assert json.loads((folder / "retrieval.json").read_text())["methods"] == kept
    stored["methods"]["tfidf"]["w"] = 1e6
    (folder / "retrieval.json").write_text(json.dumps(stored))
    assert weights_of(folder) == {"tfidf": 1e6}
    (tmp_path / "line.txt").write_text(questions[5])
    asks = ["--workdir", folder, "--faq", faq, "--input", tmp_path / "line.txt", "--threshold", "0"]
    outcome = call(answer.main, *asks, "--recall", "tfidf")
    assert json.loads(outcome.out)["question"] == questions[5]
    assert "of class 'same', ranked with 1e+06 times the score of tfidf\n" in outcome.err
    assert "the weight of tfidf was found with --k 3\n" in outcome.err
    assert "was found with" not in call(answer.main, *asks, "--recall", "tfidf", "--k", "3").err
    stored["methods"]["vectors"] = {"w": 0.0}  # found, and none
    (folder / "retrieval.json").write_text(json.dumps(stored))
    assert "ranked" not in call(answer.main, *asks, "--recall", "vectors").err
    assert "evaluate_retrieval finds what weight" in call(answer.main, *asks, "--recall", "bm25").err
    without = call(answer.main, *asks, "--recall", "tfidf", "--weight", "0")
    assert "ranked with" not in without.err and without.out == call(answer.main, *asks, "--recall", "bm25").out
    (folder / "retrieval.json").write_text("{")
    refused(3, r"retrieval\.json, line 1: not valid JSON", answer.main, *asks)


def test_all_methods_and_a_sample_of_the_queries(trained):
    words = ["--workdir", trained / "W", "--data_dir", trained / "data", "--k", "3", "--queries", "12"]
    outcome = call(evaluate_retrieval.main, *words)
    assert outcome.code == 0, outcome
    assert outcome.out.startswith("12 queries among 996 candidates, 3 recalled; percent\n")
    for method in ("bm25", "tfidf", "vectors"):
        assert outcome.out.count(f"\n| {method} |") == 3 and outcome.out.count(f"\n{method}, rerank") == 2


def test_the_weight_is_the_best_of_the_dev_split(trained):
    loaded = matching_run(trained / "W")
    corpus = evaluate_retrieval.load_corpus(loaded, data_dir=trained / "data", manual_dir=None)
    tasks = retrieval_tasks(evaluate_retrieval.split_pairs(corpus, loaded.config), 60, 0)
    method = evaluate_retrieval.evaluate(loaded, tasks, ["tfidf"], 4)["methods"]["tfidf"]
    assert method["dev_mrr"][f"{method['w']:g}"] == max(method["dev_mrr"].values())
    assert len(method["dev_mrr"]) == len(evaluate_retrieval.WEIGHTS)
    finder = answer.Finder(loaded, tasks["dev"].candidates, ["tfidf"], 4)
    found = evaluate_retrieval.search(finder, tasks["dev"], "tfidf", 4, lambda: None)
    for weight, mrr in method["dev_mrr"].items():
        assert mrr == pytest.approx(np.mean(evaluate_retrieval.reciprocal_ranks(found, float(weight))))
    of_test = method["orders"]["rerank"]["mrr"]
    assert of_test != pytest.approx(method["dev_mrr"]["0"]), "the two splits tell one another apart"


def test_more_is_asked_for_than_there_is(trained):
    """All candidates are recalled then, but for the query's own text."""
    words = ["--workdir", trained / "W", "--data_dir", trained / "data", "--k", "5000", "--queries", "2"]
    outcome = call(evaluate_retrieval.main, *words, "--recall", "tfidf")
    assert outcome.code == 0, outcome
    assert outcome.out.startswith("2 queries among 996 candidates, 5000 recalled; percent\n")


def test_queries_and_candidates_that_were_cut_are_counted(trained, monkeypatch):
    monkeypatch.setattr(answer.Finder, "is_long", lambda self, query: True)
    words = ["--workdir", trained / "W", "--data_dir", trained / "data", "--k", "2", "--queries", "3"]
    outcome = call(evaluate_retrieval.main, *words, "--recall", "tfidf")
    message = r"^test: 3 queries and candidates are longer than \d+ and \d+ tokens and were cut$"
    assert re.search(message, outcome.err, re.MULTILINE)


def test_the_splits_are_those_of_the_run(tmp_path):
    """Where the dev part is drawn from the training part, the same one: pairs without a label are left out before."""
    rows = test_matching.pairs(60, 0)
    test_matching.write(tmp_path / "raw" / "pairs", rows)
    fields = test_matching.PAIRS | {"data.dev": "", "data.test": "test", "train.epochs": 1}
    outcome = call(run.main, *test_matching.arguments(tmp_path, test_matching.LCQMC, fields))
    assert outcome.code == 0, outcome
    loaded = matching_run(tmp_path / "W")
    corpus = evaluate_retrieval.load_corpus(loaded, data_dir=tmp_path / "data", manual_dir=tmp_path / "raw")
    without = lambda labels: [-1 if place % 7 == 0 else label for place, label in enumerate(labels)]
    splits = {name: columns | {"label": without(columns["label"])} for name, columns in corpus.splits.items()}
    corpus = dataclasses.replace(corpus, splits=splits)
    pairs = evaluate_retrieval.split_pairs(corpus, loaded.config)
    built = evaluate_retrieval.datasets.build(corpus, loaded.config).datasets[0]
    for split, places in built.splits.items():
        assert [label for _, _, label in pairs[split]] == list(built.table.labels[places])
        for role, column in (("premise", 0), ("hypothesis", 1)):
            lengths = [len(built.codecs[role].encode(pair[column])) for pair in pairs[split]]
            assert lengths == list(built.table.lengths[role][places])
    words = ["--workdir", tmp_path / "W", "--data_dir", tmp_path / "other", "--manual_dir", tmp_path / "more"]
    test_matching.write(tmp_path / "more" / "pairs", rows[::-1])
    refused(3, "corpus 'pairs.*': not what the run was trained on", evaluate_retrieval.main, *words)


def test_a_split_without_pairs_of_class_1(trained):
    loaded = matching_run(trained / "W")
    corpus = evaluate_retrieval.load_corpus(loaded, data_dir=trained / "data", manual_dir=None)
    none = corpus.splits["test"] | {"label": [0] * len(corpus.splits["test"]["label"])}
    corpus = dataclasses.replace(corpus, splits=corpus.splits | {"test": none})
    tasks = retrieval_tasks(evaluate_retrieval.split_pairs(corpus, loaded.config), 60, 0)
    with pytest.raises(DataError, match="corpus 'paraphrases': the test split has no two different texts of class 1"):
        evaluate_retrieval.evaluate(loaded, tasks, ["tfidf"], 4)

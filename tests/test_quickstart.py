"""What the quickstarts of classification and matching claim: their corpora defeat a bag of words and not the model."""

import json
import os
import subprocess
import sys

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from research.corpora import load_corpus
from research.text import mixed
from tests.test_cli import ROOT


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def test_a_bag_of_words_stays_at_chance(data_dir):
    corpus = load_corpus("word_order", columns=("text", "label"), splits=("train", "test"), data_dir=data_dir)
    count = CountVectorizer(analyzer=mixed)
    train, test = corpus.splits["train"], corpus.splits["test"]
    model = LogisticRegression(max_iter=300).fit(count.fit_transform(train["text"]), train["label"])
    assert model.score(count.transform(test["text"]), test["label"]) < 0.6


def quickstart(paper, data_dir, workdir) -> dict:
    """The result, as its user runs it, with the optimisations that tests go without."""
    words = ["--config", f"configs/{paper}/quickstart.py", "--workdir", workdir, "--data_dir", data_dir]
    subprocess.run(
        [sys.executable, "-m", "experiments.run", *words], cwd=ROOT, env=os.environ | {"XLA_FLAGS": ""}, check=True
    )
    return json.loads((workdir / "result.json").read_text())


def test_the_convolution_solves_it(data_dir, tmp_path):
    result = quickstart("textcnn", data_dir, tmp_path)
    assert result["metrics"]["test"]["accuracy"]["mean"] >= 95.0
    assert result["seconds"] < 120


def test_esim_tells_paraphrases_apart(data_dir, tmp_path):
    """That a bag of words cannot is in test_matching_corpora.py."""
    result = quickstart("esim", data_dir, tmp_path)
    assert result["metrics"]["test"]["accuracy"]["mean"] >= 95.0
    assert result["seconds"] < 240  # two idle cores take 42 s; here other tests run beside it

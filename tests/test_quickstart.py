"""What the quickstart claims: its corpus defeats a bag of words and not a convolution."""

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


def test_the_convolution_solves_it(data_dir, tmp_path):
    """As its user runs it, with the optimisations that tests go without."""
    words = ["--config", "configs/textcnn/quickstart.py", "--workdir", tmp_path, "--data_dir", data_dir]
    subprocess.run(
        [sys.executable, "-m", "experiments.run", *words], cwd=ROOT, env=os.environ | {"XLA_FLAGS": ""}, check=True
    )
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["metrics"]["test"]["accuracy"]["mean"] >= 95.0
    assert result["seconds"] < 120

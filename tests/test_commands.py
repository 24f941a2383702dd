"""The commands of README.md, the notes, configurations and the studies' --help can be run as they stand."""

import importlib
import re
import shlex

import pytest

from experiments import cli
from experiments.ablate import make_plan, select
from experiments.run import check
from tests.test_cli import ROOT

DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "paper_notes").glob("*.md")), *sorted(ROOT.glob("configs/*/*.py")))
STUDIES = ("textcnn", "esim", "transformer", "conv_seq2seq")


def commands(text: str, program: str) -> list[list[str]]:
    """The arguments of `python -m experiments.<program>`, over lines that end in a backslash."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [
        re.search(rf"python -m experiments\.{re.escape(program)} (-.*)", line.partition("`python")[0]) for line in lines
    ]
    return [shlex.split(match[1], comments=True) for match in found if match]


def value_of(flag: str, words: list[str], default: str = "") -> str:
    return words[words.index(flag) + 1] if flag in words else default


RUNS = sorted({shlex.join(words) for path in DOCUMENTS for words in commands(path.read_text(encoding="utf-8"), "run")})


@pytest.mark.parametrize("command", RUNS)
def test_runs(command):
    words, overrides = cli.split_overrides(shlex.split(command))
    check(cli.load_config(value_of("--config", words), overrides))


@pytest.mark.parametrize("paper", STUDIES)
def test_studies(paper):
    """Every variant that a command would run, as it would be run."""
    study = importlib.import_module(f"experiments.ablations.{paper}").STUDY
    texts = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
    texts += [f"python -m experiments.ablations.{paper} {example}" for example in study.examples]
    found = [words for text in texts for words in commands(text, f"ablations.{paper}")]
    assert len(found) > len(study.examples)
    for words, overrides in map(cli.split_overrides, found):
        plan = make_plan(study, value_of("--config", words, study.config), overrides)
        names = select(plan, value_of("--variants", words))
        assert names, words
        for name in ("baseline", *names):
            check(cli.load_config(plan.config, plan.cell(name, 0)))

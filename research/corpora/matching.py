"""Builders for sentence matching: columns `sentence1`, `sentence2` and `label`.

The raw files of corpus `name` lie in `<manual_dir>/<name>/` and are UTF-8, with or without a byte order mark. An empty
text, on one side or both, is an example like any other, and so is a pair that occurs twice.
"""

import abc
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from research.corpora.builder import CorpusBuilder
from research.corpora.reading import raw_lines
from research.errors import DataError
from research.text import ParseError, post_order

_SAME = {"0": "different", "1": "same"}
_ENTAILMENT = ("entailment", "neutral", "contradiction")  # in the order of the catalogue's `snli`


class PairCorpus(CorpusBuilder):
    """Pairs of texts with one class each.

    Attributes:
      codes: label as the raw files write it -> class; the classes are numbered in this order.
      line_format: what a line must be, for error messages.
    """

    codes: ClassVar[Mapping[str, str]] = _SAME
    line_format: ClassVar[str] = ""

    def features(self) -> tfds.features.FeaturesDict:
        texts = {name: tfds.features.Text() for name in ("sentence1", "sentence2")}
        return tfds.features.FeaturesDict(texts | {"label": self.label_feature()})

    def label_feature(self) -> tfds.features.ClassLabel:
        return tfds.features.ClassLabel(names=list(dict.fromkeys(self.codes.values())))

    @abc.abstractmethod
    def labelled(self, split: str, paths: Sequence[Path]) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yields (file:line, code, the columns but for the label)."""

    def examples(self, split: str, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
        codes, classes = self.codes, set()
        for place, code, columns in self.labelled(split, paths):
            if code not in codes:
                known = textwrap.shorten(", ".join(codes), 200, placeholder=" ...")
                raise DataError(
                    f"{place}: {code[:40]!r} is no label of {self.name}; "
                    f"the line must be {self.line_format} with a label out of {known}"
                )
            classes.add(codes[code])
            yield columns | {"label": codes[code]}
        if len(classes) < (2 if split == "train" else 1):
            only = f"of class {classes.pop()!r}" if classes else "missing"
            raise DataError(f"{paths[0]}: every pair is {only}; a classifier needs at least two classes")


class TabbedPairs(PairCorpus):
    """A pair a line, its columns separated by tabs; the label is the last one, the texts stand before it."""

    line_format = "'<text>\\t<text>\\t<label>'"

    def rows(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """Yields (line number from 1, columns as they stand); raises DataError for another number of columns."""
        count = self.line_format.count("\\t") + 1
        for number, line in enumerate(raw_lines(path, utf8_only=True), start=1):
            columns = line.split("\t")
            if len(columns) != count:
                found = f"{len(columns)} columns" if line.strip() else "the line is empty"
                raise DataError(f"{path}:{number}: {found}; the line must be {self.line_format}, of {count} columns")
            yield number, columns

    def labelled(self, split: str, paths: Sequence[Path]) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for path in paths:
            for number, (*_, first, second, code) in self.rows(path):
                yield f"{path}:{number}", _plain(code), {"sentence1": _plain(first), "sentence2": _plain(second)}


class Lcqmc(TabbedPairs):
    """LCQMC (Liu et al. 2018): do two Chinese questions ask for the same? 238,766, 8,802 and 12,500 pairs.

    train.txt may be absent.
    """

    name = "lcqmc"
    origin = "http://icrc.hitsz.edu.cn/info/1037/1146.htm, on request"
    files = {"train": ("train.txt",), "validation": ("dev.txt",), "test": ("test.txt",)}
    optional_files = ("train.txt",)


class Afqmc(TabbedPairs):
    """AFQMC (CLUE): do two Chinese questions to a financial service ask for the same? 34,334 and 4,316 pairs."""

    name = "afqmc"
    origin = "https://www.cluebenchmarks.com, its JSON objects made lines of text, tab, text, tab, label"
    files = {"train": ("train.txt",), "validation": ("dev.txt",)}


class Atec(TabbedPairs):
    """ATEC: do two Chinese questions to a financial service ask for the same? One split.

    atec_nlp_sim_train_add.csv may be absent; its pairs come last. Despite their names the files are no CSV: columns are
    separated by tabs, and quotes are text.
    """

    name = "atec"
    line_format = "'<index>\\t<text>\\t<text>\\t<label>'"
    files = {"train": ("atec_nlp_sim_train.csv",)}
    common_files = ("atec_nlp_sim_train_add.csv",)
    optional_files = common_files

    def labelled(self, split: str, paths: Sequence[Path]) -> Iterator[tuple[str, str, dict[str, Any]]]:
        raw = self.raw
        return super().labelled(split, [*paths, *(raw[name] for name in self.common_files if name in raw)])


class Sick(TabbedPairs):
    """SICK (Marelli et al. 2014): does the first sentence entail the second? 4,500, 500 and 4,927 English pairs.

    The column `relatedness` is a mean rating from 1 (unrelated) to 5.
    """

    name = "sick"
    origin = "https://alt.qcri.org/semeval2014/task1"
    codes = {name.upper(): name for name in _ENTAILMENT}
    header = ("pair_ID", "sentence_A", "sentence_B", "relatedness_score", "entailment_judgment")
    line_format = "'" + "\\t".join(f"<{column}>" for column in header) + "'"
    files = {
        "train": ("SICK_train.txt",),
        "validation": ("SICK_trial.txt",),
        "test": ("SICK_test_annotated.txt",),
    }

    def features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict({**super().features(), "relatedness": tfds.features.Scalar(np.float64)})

    def labelled(self, split: str, paths: Sequence[Path]) -> Iterator[tuple[str, str, dict[str, Any]]]:
        (path,) = paths
        for number, (_, first, second, score, code) in self.rows(path):
            if number > 1:
                texts = {"sentence1": _plain(first), "sentence2": _plain(second)}
                yield f"{path}:{number}", _plain(code), texts | {"relatedness": _score(score, f"{path}:{number}")}

    def rows(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """As in the base; raises DataError also where the first line is not the header."""
        for number, columns in super().rows(path):
            if number == 1 and tuple(map(_plain, columns)) != self.header:
                raise DataError(f"{path}:1: the header must be {', '.join(self.header)}, separated by tabs")
            yield number, columns


class Pairs(TabbedPairs):
    """A user's own pairs: train.txt and, where wanted, validation.txt and test.txt.

    Labels are any words. The classes are the distinct labels of train.txt, in numeric order if all are integers, else
    in that of the characters' codes; white space within a label counts as one blank. In the configuration `parses`
    both texts are binarised constituency parses such as "( ( A man ) ( is sleeping ) )", which are checked.
    """

    name = "pairs"
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="text"), tfds.core.BuilderConfig(name="parses")]
    files = {"train": ("train.txt",), "validation": ("validation.txt",), "test": ("test.txt",)}
    optional_files = ("validation.txt", "test.txt")

    @property
    def codes(self) -> Mapping[str, str]:
        return {label: label for label in self.info.features["label"].names}

    def label_feature(self) -> tfds.features.ClassLabel:
        """Without classes: TFDS takes those of a prepared copy from there, a new copy those of train.txt."""
        return tfds.features.ClassLabel()

    def _split_generators(self, dl_manager):
        path = self.raw["train.txt"]
        labels = {_label(code, f"{path}:{number}") for number, (_, _, code) in self.rows(path)}
        self.info.features["label"].names = _in_order(labels)
        return super()._split_generators(dl_manager)

    def labelled(self, split: str, paths: Sequence[Path]) -> Iterator[tuple[str, str, dict[str, Any]]]:
        (path,) = paths
        for number, (first, second, code) in self.rows(path):
            place = f"{path}:{number}"
            if self.builder_config.name == "parses":
                _check_parse(first, place, 0)
                _check_parse(second, place, len(first) + 1)
            yield place, _label(code, place), {"sentence1": _plain(first), "sentence2": _plain(second)}


class SnliParses(PairCorpus):
    """SNLI (Bowman et al. 2015) with its parses: does the first sentence, a caption, entail the second?

    The raw files are those of the publisher's snli_1.0.zip. The columns `sentence1_parse` and `sentence2_parse` are the
    binarised parses, `sentence1` and `sentence2` the plain texts. Pairs without a gold label are left out (Chen et al.
    2017, section 4).
    """

    name = "snli_parses"
    origin = "https://nlp.stanford.edu/projects/snli, snli_1.0.zip"
    codes = {name: name for name in _ENTAILMENT}
    line_format = "a JSON object with the strings gold_label, sentence{1,2} and sentence{1,2}_binary_parse"
    files = {
        "train": ("snli_1.0_train.jsonl",),
        "validation": ("snli_1.0_dev.jsonl",),
        "test": ("snli_1.0_test.jsonl",),
    }
    fields = {
        **{name: name for name in ("sentence1", "sentence2")},
        **{f"{name}_parse": f"{name}_binary_parse" for name in ("sentence1", "sentence2")},
    }

    def features(self) -> tfds.features.FeaturesDict:
        parses = {name: tfds.features.Text() for name in ("sentence1_parse", "sentence2_parse")}
        return tfds.features.FeaturesDict({**super().features(), **parses})

    def labelled(self, split: str, paths: Sequence[Path]) -> Iterator[tuple[str, str, dict[str, Any]]]:
        (path,) = paths
        for number, line in enumerate(raw_lines(path, utf8_only=True), start=1):
            place = f"{path}:{number}"
            pair = self._pair(line, place)
            if (code := pair["gold_label"]) != "-":
                for name in ("sentence1_binary_parse", "sentence2_binary_parse"):
                    _check_parse(pair[name], f"{place}:{name}", 0)
                yield place, code, {column: _plain(pair[name]) for column, name in self.fields.items()}

    def _pair(self, line: str, place: str) -> dict[str, str]:
        try:
            pair = json.loads(line)
        except ValueError as error:
            raise DataError(f"{place}: damaged JSON ({error}); the line must be {self.line_format}") from None
        names = ("gold_label", *self.fields.values())
        missing = [name for name in names if not isinstance(pair, dict) or not isinstance(pair.get(name), str)]
        if missing:
            raise DataError(f"{place}: no string {missing[0]}; the line must be {self.line_format}")
        return pair


def _plain(column: str) -> str:
    """Without surrounding blanks. Other separators (0x85, the ideographic space) are text."""
    return column.strip(" \t\r")


def _score(text: str, place: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not 1 <= score <= 5:
        raise DataError(f"{place}: {text[:40]!r} is no relatedness_score, a number from 1 to 5; restore it")
    return score


def _label(code: str, place: str) -> str:
    if not (label := " ".join(code.split())):
        raise DataError(f"{place}: the label is empty; the line must be {Pairs.line_format}")
    return label


def _in_order(labels: set[str]) -> list[str]:
    """By their numbers if all are integers, else by the characters' codes."""
    try:
        return sorted(labels, key=lambda label: (int(label), label))
    except ValueError:
        return sorted(labels)


def _check_parse(parse: str, place: str, before: int) -> None:
    """Raises DataError, with `place` and the column, unless `parse` is one; `before` characters precede it."""
    try:
        post_order(parse)
    except ParseError as error:
        raise DataError(
            f"{place}:{before + error.column}: {error.problem}; a parse must be binarised, as in '( ( A man ) sleeps )'"
        ) from None

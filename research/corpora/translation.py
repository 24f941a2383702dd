"""Builders for translation: one text column a language.

The raw files of corpus `name` lie in `<manual_dir>/<name>/` and are UTF-8. A file `x` may be there as gzip, `x.gz`,
instead; where both are, the plain one counts.
"""

import abc
import hashlib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from research.corpora.builder import CorpusBuilder
from research.corpora.download import Source
from research.corpora.reading import read_lines, split_lines
from research.errors import DataError

_MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"


class ParallelText(CorpusBuilder):
    """Two raw files a split, `<stem>.<language>`: line n of one is the translation of line n of the other.

    Files that differ in their number of lines, or an empty line in either, are an error: whatever is left out on one
    side alone would pair all later sentences wrongly.

    Attributes:
      languages: the columns and the suffixes of the raw files.
      stems: split -> stem of its raw files.
      optional_splits: those that may be absent.
    """

    stems: ClassVar[Mapping[str, str]] = {}
    optional_splits: ClassVar[tuple[str, ...]] = ()

    @property
    @abc.abstractmethod
    def languages(self) -> tuple[str, str]: ...

    @property
    def files(self) -> dict[str, tuple[str, ...]]:
        return {split: tuple(f"{stem}.{language}" for language in self.languages) for split, stem in self.stems.items()}

    @property
    def optional_files(self) -> tuple[str, ...]:
        return tuple(name for split in self.optional_splits for name in self.files[split])

    @property
    def other_names(self) -> dict[str, str]:
        return {name: f"{name}.gz" for name in self.raw_names()}

    def features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict({language: tfds.features.Text() for language in self.languages})

    def examples(self, split: str, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
        texts = [split_lines(path, utf8_only=True) for path in paths]
        if len(texts[0]) != len(texts[1]):
            raise DataError(
                f"{paths[0]} has {len(texts[0])} lines, {paths[1]} has {len(texts[1])}; "
                "line n of one must be the translation of line n of the other: restore the lines that are missing"
            )
        for number, pair in enumerate(zip(*texts), start=1):
            for path, text in zip(paths, pair):
                if not text.strip():
                    raise DataError(
                        f"{path}:{number}: the line is empty; restore its text or remove line {number} from "
                        f"both {paths[0].name} and {paths[1].name}"
                    )
            yield dict(zip(self.languages, pair))


class Multi30k(ParallelText):
    """Multi30k, task 1 (Elliott et al. 2016): descriptions of photographs, raw text, a sentence a line.

    A configuration a pair of languages: `de_en` (the default), `de_fr`, `de_cs`, `en_fr`, `en_cs` and `fr_cs`. Each
    needs the raw files of its own two languages only, such as train.de and train.en: `train`, `val` (the split
    `validation`) and a test set or more, `test_2016_flickr`, `test_2017_flickr`, `test_2017_mscoco` and
    `test_2018_flickr`; those are splits whose files are there. Where no file is there at all, `train`, `val` and
    `test_2016_flickr` are downloaded, of 29,000, 1,014 and 1,000 pairs.
    """

    name = "multi30k"
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=f"{first}_{second}")
        for first, second in itertools.combinations(("de", "en", "fr", "cs"), 2)
    ]
    optional_splits = ("test_2016_flickr", "test_2017_flickr", "test_2017_mscoco", "test_2018_flickr")
    stems = {"train": "train", "validation": "val", **{split: split for split in optional_splits}}

    @property
    def languages(self) -> tuple[str, str]:
        first, second = self.builder_config.name.split("_")
        return first, second

    @property
    def sources(self) -> dict[str, Source]:
        names = self.missing_from({})
        return {f"{name}.gz": Source(f"{_MULTI30K}/{name}.gz") for name in names}

    def missing_from(self, raw: Mapping[str, Path]) -> list[str]:
        """As in the base, and without any test set `test_2016_flickr`: so a download that lacks it is not whole."""
        tests = [] if any(name in raw for name in self.optional_files) else self.files["test_2016_flickr"]
        return [*super().missing_from(raw), *tests]


class Parallel(ParallelText):
    """A user's own sentence pairs: columns `source` and `target`, whatever the languages.

    The files are `train.source` and `train.target` and, where wanted, `validation.source`, `validation.target`,
    `test.source` and `test.target` (links to files of other names will do). For the other direction exchange the
    columns, not the files.
    """

    name = "parallel"
    languages = ("source", "target")
    stems = {split: split for split in ("train", "validation", "test")}
    optional_splits = ("validation", "test")


class TatoebaChinese(CorpusBuilder):
    """Sentence pairs of Tatoeba, English and Chinese, simplified and traditional mixed: columns `en` and `zh`.

    The raw file is cmn.txt as manythings.org/anki packs it: English, tab, Chinese and, in later editions, tab and
    attribution. A pair that is there twice is left out the second time.

    The publisher has no splits. Here pairs that share a sentence of either language, directly or through other pairs,
    stay together (sentences count as the same that differ only in case, punctuation, blanks or width of characters):
    no sentence is in two splits, though the simplified and the traditional form of one may be. A hash of the first
    English sentence of such a group, in the order of the characters' codes, decides on its split, whatever the order of
    the file. An edition of 20,133 pairs in 18,991 groups gives 18,158, 984 and 991 pairs.
    """

    name = "tatoeba_zh_en"
    origin = "https://www.manythings.org/anki, cmn-eng.zip"
    files = dict.fromkeys(("train", "validation", "test"), ("cmn.txt",))
    other_names = {"cmn.txt": "cmn.txt.gz"}

    def features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict({"en": tfds.features.Text(), "zh": tfds.features.Text()})

    def examples(self, split: str, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
        (path,) = paths
        pairs = {}  # a set in order
        for number, line in read_lines(path, utf8_only=True):
            fields = [field.strip() for field in line.split("\t")]
            if len(fields) not in (2, 3) or not all(fields[:2]):
                raise DataError(
                    f"{path}:{number}: {line[:40]!r} is no pair; the line must be "
                    "'<English>\\t<Chinese>', with or without '\\t<attribution>'"
                )
            pairs[fields[0], fields[1]] = None
        chosen = [pair for pair, place in zip(pairs, _places(pairs)) if place == split]
        if not chosen:
            raise DataError(f"{path}: none of {len(pairs)} pairs falls into split '{split}'; the file is too small")
        yield from ({"en": english, "zh": chinese} for english, chinese in chosen)


def _places(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The split of each pair: of 20 groups of pairs that share sentences, one goes to validation and one to test."""
    keys = [((0, _letters(english)), (1, _letters(chinese))) for english, chinese in pairs]
    parents = {}

    def root(key):
        while (parent := parents.setdefault(key, key)) != key:
            parents[key] = key = parents[parent]
        return key

    for english, chinese in keys:
        first, second = sorted((root(english), root(chinese)))  # English before Chinese, hence an English root
        parents[second] = first
    for english, _ in keys:
        digest = hashlib.sha256(root(english)[1].encode()).digest()
        yield {0: "test", 1: "validation"}.get(int.from_bytes(digest[:8]) % 20, "train")


def _letters(text: str) -> str:
    """Letters and digits alone, in one case and width."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())

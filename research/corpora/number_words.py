"""The generated corpus of the translation quickstarts: numbers in digits and in Chinese and English words."""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from research.corpora.builder import CorpusBuilder

_CHINESE = "零一二三四五六七八九"
_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_LENGTHS = {3: 600, 4: 2000, 5: 3050}  # digits -> numbers, over train (but for 0 to 99), validation and test
_HELD_OUT = {"validation": 250, "test": 500}
_LONGER = {6: 250}
_ZEROS = 0.25  # share of zeros among a number's digits after the first


class NumberWords(CorpusBuilder):
    """Numbers from digits to Chinese or English words and back: columns `source` and `target`.

    Every number of a split gives four pairs. Where digits are the source, the first token says which language is
    wanted. Samples:

      一 千 零 五                  1 0 0 5
      one thousand five            1 0 0 5
      zh 1 0 0 5                   一 千 零 五
      en 1 0 0 5                   one thousand and five

    Digits and Chinese characters stand apart, so that the tokens are what stands between blanks (tokeniser `blank`;
    `mixed` would keep a run of digits whole). English is without hyphens; as a target it says "and" before tens and
    ones, as a source it lacks every "and" in half of the numbers. Chinese has one form: 两 before 千, and for a 2 that
    stands alone before 万, else 二; 十 and not 一十 at the beginning of a number; one 零 for the zeros between two
    other digits (none between 万 and a digit of 千: 十万五千), none for zeros at the end.

    The splits are `train` (20,000 pairs: the numbers 0 to 99, and others of 3 to 5 digits), `validation` (1,000) and
    `test` (2,000), of 3 to 5 digits, and `test_longer` (1,000), of 6 digits, which are never trained on. No number is
    in two splits, and every token is in `train`. A digit after the first is drawn as 0 with probability 1/4.
    """

    name = "number_words"
    files = dict.fromkeys(("train", *_HELD_OUT, "test_longer"), ())

    def features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict({"source": tfds.features.Text(), "target": tfds.features.Text()})

    def digests(self) -> dict[str, str]:
        """Of the pairs: those prepared by another generator are stale."""
        return {"pairs": hashlib.sha256(json.dumps(generate()).encode()).hexdigest()}

    def examples(self, split: str, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
        del paths
        yield from generate()[split]


def generate(seed: int = 2017) -> dict[str, list[dict[str, str]]]:
    """Split -> pairs {"source", "target"} in random order."""
    rng = random.Random(seed)
    numbers = _numbers(_LENGTHS, rng)
    splits = {split: [numbers.pop() for _ in range(size)] for split, size in _HELD_OUT.items()}
    splits = {"train": [*range(100), *numbers], **splits, "test_longer": _numbers(_LONGER, rng)}
    pairs = {split: [pair for number in chosen for pair in _pairs(number, rng)] for split, chosen in splits.items()}
    for examples in pairs.values():
        rng.shuffle(examples)
    return pairs


def _numbers(lengths: dict[int, int], rng: random.Random) -> list[int]:
    """Distinct numbers in random order."""
    chosen = []
    for length, size in lengths.items():
        distinct = {}  # a set in order
        while len(distinct) < size:
            digits = [0 if place and rng.random() < _ZEROS else rng.randint(1, 9) for place in range(length)]
            distinct[int("".join(map(str, digits)))] = None
        chosen += distinct
    rng.shuffle(chosen)
    return chosen


def _pairs(number: int, rng: random.Random) -> list[dict[str, str]]:
    digits, zh, en = " ".join(str(number)), " ".join(chinese(number)), english(number)
    said = english(number, conjunction=rng.random() < 0.5)
    pairs = [(zh, digits), (said, digits), (f"zh {digits}", zh), (f"en {digits}", en)]
    return [{"source": source, "target": target} for source, target in pairs]


def chinese(number: int) -> str:
    """A number from 0 to 99,999,999 in Chinese characters."""
    high, low = divmod(number, 10_000)
    words = ("两" if high == 2 else _thousands(high)) + "万" if high else ""
    words += "零" if words and 0 < low < 1000 else ""
    words += _thousands(low)
    return (words[1:] if words.startswith("一十") else words) or "零"


def _thousands(number: int) -> str:
    """A number below 10,000 in Chinese characters, none for 0."""
    words, zero = "", ""
    for place, unit in zip((1000, 100, 10, 1), ("千", "百", "十", "")):
        if digit := number // place % 10:
            words += zero + ("两" if digit == 2 and unit == "千" else _CHINESE[digit]) + unit
            zero = ""
        elif words:
            zero = "零"
    return words


def english(number: int, *, conjunction: bool = True) -> str:
    """A number from 0 to 999,999 in English words, with "and" before tens and ones or without."""
    thousands, rest = divmod(number, 1000)
    words = [*_hundreds(thousands), "thousand"] if thousands else []
    if words and 0 < rest < 100:
        words.append("and")
    if rest or not words:
        words += _hundreds(rest)
    return " ".join(word for word in words if conjunction or word != "and")


def _hundreds(number: int) -> list[str]:
    """A number below 1,000 in English words."""
    hundreds, rest = divmod(number, 100)
    words = [_ONES[hundreds], "hundred"] if hundreds else []
    if words and rest:
        words.append("and")
    if rest < 20:
        return words + ([_ONES[rest]] if rest or not words else [])
    return words + [_TENS[rest // 10 - 2]] + ([_ONES[rest % 10]] if rest % 10 else [])

"""The generated corpus of the quickstart: sentiment that only the order of the words decides."""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from research.corpora.classification import SentenceCorpus

# The sentiment of a sentence is that of the adjective {y}. {x} is an adjective of the opposite sentiment, which
# the sentence negates, weakens, puts into the past or sets against {y}: exchanging the two turns the sentiment.
_TEMPLATES = {
    "en": (
        "the {a} is {not_} {x} and the {b} is {y}",
        "the {a} is {y} and the {b} is {not_} {x}",
        "the {a} is {y} , {not_} {x}",
        "the {a} is {strong} {y} but the {b} is {weak} {x}",
        "the {a} is {weak} {x} but {strong} {y}",
        "the {a} used to be {x} , but now it is {y}",
        "the {a} is {y} now , but it used to be {x}",
        "the {a} is {y} rather than {x}",
        "the {a} is {seldom} {x} and {often} {y}",
        "we expected the {a} to be {x} , but it turned out {y}",
        "they call the {a} {x} , yet we find it {y}",
    ),
    "zh": (
        "{a}{not_}{x}，{b}很{y}",
        "{a}很{y}，{b}也{not_}{x}",
        "{a}很{y}，{not_}{x}",
        "{a}{strong}{y}，但{b}{weak}{x}",
        "{a}{weak}{x}，不过总体{strong}{y}",
        "{a}以前很{x}，现在很{y}",
        "{a}现在很{y}，以前却很{x}",
        "与其说{a}{x}，不如说{y}",
        "{a}{seldom}很{x}，{often}很{y}",
        "本以为{a}会很{x}，结果很{y}",
        "别人说{a}{x}，我们却觉得很{y}",
    ),
}
_WORDS = {
    "en": {
        "noun": "plot story acting music dialogue opening ending script show concert exhibition tour course game novel "
        "soundtrack performance direction design atmosphere menu service presentation website",
        "positive": "good pleasant impressive enjoyable satisfying appealing nice likeable rewarding attractive "
        "memorable charming",
        "negative": "bad unpleasant disappointing boring annoying dull irritating tiresome poor awkward frustrating "
        "forgettable",
        "not_": "not|not at all|by no means|not really|certainly not",
        "weak": "slightly|a bit|somewhat|mildly|a little",
        "strong": "extremely|incredibly|very|really|truly|exceptionally",
        "seldom": "seldom|rarely|hardly ever",
        "often": "often|usually|almost always",
        "before": "|to be honest , |last week we noticed that |on day {n} of our visit , |review {n} : |"
        "as the review says , ",
        "after": " .| !| in my view .| , according to {n} of us .| , as everybody could tell .",
    },
    "zh": {
        "noun": "剧情 演技 画面 配乐 对白 结局 服务 菜品 环境 房间 早餐 课程 讲解 设计 做工 口感 音质 展览 演出 节目 "
        "文笔 排版 布景 翻译",
        "positive": "好 棒 出色 精彩 优秀 理想 到位 讨喜 用心 精致 令人满意 令人愉快",
        "negative": "差 糟 烂 糟糕 粗糙 平庸 敷衍 乏味 无聊 马虎 令人失望 令人厌烦",
        "not_": "不|并不|一点都不|绝不|从来不",
        "weak": "比较|相对|算是",
        "strong": "极其|非常|特别|十分|格外|相当",
        "seldom": "偶尔|有时|难得",
        "often": "经常|多半|大多数时候",
        "before": "|说实话，|上周我们发现，|第{n}天，|第{n}条评论：|评论里写道，",
        "after": "。|！|，我是这么看的。|，{n}个人都同意。|，大家都看得出来。",
    },
}
_PAIRS = {"train": 1000, "validation": 125, "test": 250}  # a language


class WordOrder(SentenceCorpus):
    """Chinese and English opinions in minimal pairs: the same words in another order, and the opposite class.

    Both members of a pair lie in the same split, so that whatever ignores the order of the words is right in exactly
    half of the cases. The tokens are counted by the "mixed" tokeniser (a Chinese character, an English word, a number
    or a punctuation mark is a token). Half of the pairs are Chinese; no sentence is in two splits. Samples:

      positive  the plot is not bad and the acting is good .
      negative  the plot is not good and the acting is bad .
      positive  the menu is extremely nice but the service is slightly dull !
      negative  the menu is extremely dull but the service is slightly nice !
      positive  服务以前很差，现在很好。
      negative  服务以前很好，现在很差。
      positive  与其说剧情平庸，不如说精彩。
      negative  与其说剧情精彩，不如说平庸。
    """

    name = "word_order"
    files = dict.fromkeys(_PAIRS, ())
    codes = {"negative": "negative", "positive": "positive"}

    def digests(self) -> dict[str, str]:
        """Of the grammar: sentences prepared from another one are stale."""
        grammar = json.dumps([_TEMPLATES, _WORDS, _PAIRS]).encode()
        return {"grammar": hashlib.sha256(grammar).hexdigest()}

    def labelled(self, split: str, paths: Sequence[Path]) -> Iterator[tuple[str, str, str]]:
        del paths
        for number, example in enumerate(generate()[split], 1):
            yield f"{self.name}:{number}", example["label"], example["text"]


def generate(seed: int = 2014) -> dict[str, list[dict[str, str]]]:
    """Split -> examples {"text", "label"} in random order: 4,000, 500 and 1,000, exactly balanced."""
    rng, seen, splits = random.Random(seed), set(), {}
    for split, pairs in _PAIRS.items():
        splits[split] = []
        for language in _TEMPLATES:
            for _ in range(pairs):
                pair = _pair(language, rng)
                while not seen.isdisjoint(pair.values()):
                    pair = _pair(language, rng)
                seen.update(pair.values())
                splits[split] += [{"text": text, "label": label} for label, text in pair.items()]
        rng.shuffle(splits[split])
    return splits


def _pair(language: str, rng: random.Random) -> dict[str, str]:
    """Class -> sentence, a minimal pair."""
    words = _WORDS[language]
    template = "{before}" + rng.choice(_TEMPLATES[language]) + "{after}"
    slots = {key: rng.choice(words[key].split("|")) for key in ("not_", "weak", "strong", "seldom", "often")}
    slots |= {key: rng.choice(words[key].split("|")).format(n=rng.randint(2, 30)) for key in ("before", "after")}
    slots["a"], slots["b"] = rng.sample(words["noun"].split(), 2)
    good, bad = (rng.choice(words[sentiment].split()) for sentiment in ("positive", "negative"))
    return {
        "positive": template.format(x=bad, y=good, **slots),
        "negative": template.format(x=good, y=bad, **slots),
    }

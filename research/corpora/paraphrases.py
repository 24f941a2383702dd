"""The generated corpus of the matching quickstart: questions that only the roles of their words tell apart."""

import hashlib
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from research.corpora.matching import PairCorpus

# The forms of a relation say the same of {x} and {y}; exchanging the two says something else. Half of the forms name
# {x} first. A form is finished by an opening and an ending of its sort of question.
_RELATIONS = (
    ("which", "city", "从{x}到{y}怎么走|我在{x}，想去{y}，怎么走|去{y}，从{x}出发怎么走|想去{y}，人在{x}，怎么走"),
    ("which", "city", "{x}飞{y}要多少钱|从{x}飞到{y}多少钱|飞往{y}，从{x}起飞多少钱|到{y}的航班，{x}出发多少钱"),
    ("which", "person", "{x}借给{y}多少钱|{x}借了多少钱给{y}|{y}向{x}借了多少钱|{y}欠{x}多少钱"),
    ("which", "person", "{x}教{y}什么|{x}教给{y}的是什么|{y}跟{x}学什么|{y}从{x}那里学到什么"),
    ("which", "person", "{x}为什么批评{y}|{x}为什么把{y}批评了一顿|{y}为什么被{x}批评|{y}为什么挨{x}批评"),
    ("which", "person", "{x}送给{y}什么礼物|{x}给{y}送了什么礼物|{y}从{x}那里收到什么礼物|{y}收到{x}送的什么礼物"),
    ("which", "person", "{x}何时给{y}打电话|{x}是何时打电话给{y}的|{y}何时接到{x}的电话|{y}何时收到{x}打来的电话"),
    ("which", "person", "{x}比{y}大几岁|{x}的年纪比{y}大多少|{y}比{x}小几岁|{y}的年纪比{x}小多少"),
    ("which", "currency", "怎么把{x}换成{y}|手里有{x}，怎么换{y}|{y}怎么用{x}来换|想要{y}，拿{x}怎么换"),
    ("which", "language", "怎么把{x}译成{y}|{x}文章怎么改写成{y}|要{y}译文，有{x}原文，怎么办|{y}译文怎么从{x}译过来"),
    ("whether", "person", "{x}比{y}高|{x}的个子高过{y}|{y}比{x}矮|{y}没有{x}高"),
    ("whether", "fruit", "{x}比{y}贵|{x}的价格高过{y}|{y}比{x}便宜|{y}没有{x}贵"),
    ("whether", "city", "{x}在{y}的北边|{x}位于{y}以北|{y}在{x}的南边|{y}位于{x}以南"),
    ("whether", "chore", "应该先{x}再{y}|{x}以后再{y}比较好|{y}之前应该先{x}|{y}应该放在{x}后面"),
)
_FRAMES = {  # openings and endings
    "which": ("|请问|请问，|我想知道，|想问一下，|你好，|谁知道", "|？|呢|呢？|，谢谢|？谢谢。"),
    "whether": ("|请问|请问，|想确认一下，|想问一下，|你好，|麻烦问下，", "吗|吗？|，对吗？|，是吗？|，对不对？"),
}
_WORDS = {
    "city": "北京 上海 广州 深圳 杭州 南京 苏州 成都 重庆 武汉 西安 长沙 天津 青岛 厦门 昆明 大连 郑州 济南 合肥 福州 "
    "宁波 无锡 珠海",
    "person": "医生 护士 经理 司机 邻居 律师 记者 厨师 店员 教练 队长 班长 房东 工人 主任 保安 裁判 作家 画家 歌手 "
    "演员 警察 农民 校长",
    "currency": "美元 欧元 英镑 日元 港币 人民币 韩元 卢布 泰铢 澳元 加元 卢比 比索 法郎 克朗 里拉 新元 林吉特 越南盾 "
    "第纳尔",
    "language": "汉语 英语 法语 德语 日语 韩语 俄语 西班牙语 葡萄牙语 意大利语 阿拉伯语 希腊语 荷兰语 泰语 越南语 "
    "瑞典语 波兰语 土耳其语 印地语 蒙古语 拉丁语 芬兰语",
    "fruit": "苹果 香蕉 葡萄 西瓜 草莓 樱桃 芒果 菠萝 荔枝 桃子 橙子 柚子 柠檬 石榴 龙眼 木瓜 榴莲 蓝莓 山竹 杨梅 柿子 "
    "枇杷",
    "chore": "吃饭 洗澡 刷牙 跑步 洗碗 扫地 看书 写信 喝茶 睡觉 上网 购物 游泳 唱歌 画画 浇花 遛狗 锻炼 洗车 理发 打球 "
    "下棋",
}
_PAIRS = {"train": 2000, "validation": 250, "test": 500}  # minimal pairs
_SAME_ORDER = 0.75  # share of the pairs of forms that name {x} and {y} in the same order
_HELD_OUT = {"validation": 0.1, "test": 0.2}  # share of the pairs of words of a kind


class Paraphrases(PairCorpus):
    """Chinese questions in pairs: the same question in other words, or one with the roles of two words exchanged.

    Every first sentence stands with two second ones, one of each class, that hold the same words (and characters) as
    often as each other: whatever ignores the order of the words is right in exactly half of the cases. Whatever asks
    only which of the two exchanged words comes first is right in about three quarters; the rest is in the other words.
    Samples:

      same       从北京到上海怎么走    去上海，从北京出发怎么走？
      different  从北京到上海怎么走    去北京，从上海出发怎么走？
      same       医生比护士高吗？      请问护士没有医生高吗
      different  医生比护士高吗？      请问医生没有护士高吗

    Both members of such a minimal pair lie in the same split. Two words that occur together in one split, in either
    order, do so in no other one of them.
    """

    name = "paraphrases"
    files = dict.fromkeys(_PAIRS, ())
    codes = {"different": "different", "same": "same"}

    def digests(self) -> dict[str, str]:
        """Of the grammar: pairs prepared from another one are stale."""
        grammar = json.dumps([_RELATIONS, _FRAMES, _WORDS, _PAIRS, _SAME_ORDER, _HELD_OUT]).encode()
        return {"grammar": hashlib.sha256(grammar).hexdigest()}

    def labelled(self, split: str, paths: Sequence[Path]) -> Iterator[tuple[str, str, dict[str, Any]]]:
        del paths
        for number, example in enumerate(generate()[split], 1):
            yield f"{self.name}:{number}", example.pop("label"), example


def generate(seed: int = 2017) -> dict[str, list[dict[str, str]]]:
    """Split -> examples {"sentence1", "sentence2", "label"} in random order: 4,000, 500 and 1,000, exactly balanced."""
    rng, seen, splits = random.Random(seed), set(), {}
    words = {kind: _shares(words.split(), rng) for kind, words in _WORDS.items()}
    for split, size in _PAIRS.items():
        splits[split] = []
        while len(splits[split]) < 2 * size:
            sort, kind, forms = rng.choice(_RELATIONS)
            x, y = rng.sample(rng.choice(words[kind][split]), 2)
            first, same, different = _minimal_pair(sort, forms.split("|"), x, y, rng)
            labels = {(first, same): "same", (first, different): "different"}
            if first != same and seen.isdisjoint(labels):
                seen.update(labels)
                splits[split] += [{"sentence1": a, "sentence2": b, "label": label} for (a, b), label in labels.items()]
        rng.shuffle(splits[split])
    return splits


def _shares(words: list[str], rng: random.Random) -> dict[str, list[tuple[str, str]]]:
    """Split -> its pairs of words, without order."""
    pairs = list(itertools.combinations(words, 2))
    rng.shuffle(pairs)
    sizes = {split: int(share * len(pairs)) for split, share in _HELD_OUT.items()}
    shares = {split: [pairs.pop() for _ in range(size)] for split, size in sizes.items()}
    return {"train": pairs, **shares}


def _minimal_pair(sort: str, forms: list[str], x: str, y: str, rng: random.Random) -> tuple[str, str, str]:
    """A sentence, one that says the same, and the same one with its words exchanged.

    The second sentence may have the form of the first, with another opening or ending.
    """
    first = rng.choice(forms)
    ordered, same_order = _ordered(first), rng.random() < _SAME_ORDER
    second = rng.choice([form for form in forms if (_ordered(form) == ordered) == same_order])
    openings, endings = (parts.split("|") for parts in _FRAMES[sort])
    first, second = (rng.choice(openings) + form + rng.choice(endings) for form in (first, second))
    return first.format(x=x, y=y), second.format(x=x, y=y), second.format(x=y, y=x)


def _ordered(form: str) -> bool:
    """Whether {x} comes before {y}."""
    return form.index("{x}") < form.index("{y}")

"""Text to ids: tokenisers and the vocabulary.

A tokeniser is a function from a string to a list of tokens; `tokenizer(kind, lower)` gives one by name:

| kind | tokens |
|---|---|
| `blank` | what stands between blanks and tabs (corpora that come tokenised) |
| `clean_str` | Kim's normalisation of English (his public code), which drops characters, then as `blank` |
| `character` | every character that is not white space |
| `mixed` | each Chinese character alone, Latin words and numbers whole, punctuation alone |
| `jieba` | the words of jieba's default segmentation, white space dropped |
| `moses` | the Moses tokeniser's words, for languages that sacremoses knows |
"""

import collections
import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from research.errors import ConfigError, DataError

PAD, UNKNOWN = 0, 1
"""Ids of padding and of the unknown token, in every vocabulary."""
RESERVED = ("<pad>", "<unk>")
BOS, EOS = 2, 3
"""Ids of a target sentence's beginning and of any sentence's end, in the vocabularies of translation."""
SENTENCE = (*RESERVED, "<s>", "</s>")

Tokenizer = Callable[[str], list[str]]

_CJK = r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]"
_MIXED = re.compile(rf"{_CJK}|[^\W_]+?(?={_CJK}|\W|_|$)|\S")
_CONTRACTION = re.compile(r"(n't|'s|'ve|'re|'d|'ll)")
_PUNCTUATION = re.compile(r"([,!?()])")
_NOT_KEPT = re.compile(r"[^A-Za-z0-9(),!?'`]")


def clean_str(text: str) -> list[str]:
    """Kim's normalisation: other characters than letters, digits and ``( ) , ! ? ' ` `` become blanks, the
    contractions 's 've n't 're 'd 'll and the marks , ! ? ( ) become tokens of their own."""
    text = _CONTRACTION.sub(r" \1", _NOT_KEPT.sub(" ", text))
    return _PUNCTUATION.sub(r" \1 ", text).split()


def blank(text: str) -> list[str]:
    """The stretches between blanks and tabs. Other separators (0x85, the ideographic space) are text."""
    return [token for token in re.split(r"[ \t]", text) if token]


def character(text: str) -> list[str]:
    """Every character that is not white space."""
    return [c for c in text if not c.isspace()]


def mixed(text: str) -> list[str]:
    """Chinese characters one by one, runs of other letters and digits whole, any other sign alone."""
    return _MIXED.findall(text)


@functools.cache
def _jieba():
    import logging

    import jieba  # imported on use: its dictionary takes a second to load

    jieba.setLogLevel(logging.WARNING)
    return jieba.Tokenizer()


def jieba_words(text: str) -> list[str]:
    """The words of jieba's default segmentation (with its HMM for unseen words), white space dropped."""
    return [word for word in _jieba().lcut(text) if not word.isspace()]


def tokenizer(kind: str, lower: bool, language: str = "en") -> Tokenizer:
    """The tokeniser called `kind` (the table above), after lower-casing if `lower`."""
    kinds = {"blank": blank, "clean_str": clean_str, "character": character, "mixed": mixed, "jieba": jieba_words}
    if kind == "moses":
        split = functools.partial(_moses(language)[0].tokenize, escape=False)
    elif kind in kinds:
        split = kinds[kind]
    else:
        raise ConfigError(f"data.tokenizer: '{kind}' is none of {', '.join([*kinds, 'moses'])}")
    return (lambda text: split(text.lower())) if lower else split


@functools.cache
def _moses(language: str):
    import sacremoses  # imported on use: few runs need it

    split = sacremoses.MosesTokenizer(language)
    split.ASCII_JUNK = split.DEDUPLICATE_SPACE  # control characters are tokens: deleted, none could be called unknown
    return split, sacremoses.MosesDetokenizer(language)


def detokenizer(kind: str, language: str = "en") -> Callable[[Sequence[str]], str]:
    """A function from the tokens of tokeniser `kind` to text: the inverse up to white space and case."""
    if kind == "moses":
        return functools.partial(_moses(language)[1].detokenize, unescape=False)
    return "".join if kind in ("character", "jieba") else " ".join


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Tokens by id. Id 0 pads, id 1 stands for every token that is not in the vocabulary.

    reserved: what `tokens` starts with. No text has them: a word `</s>` in a text is one that the vocabulary lacks."""

    tokens: tuple[str, ...]
    reserved: tuple[str, ...] = RESERVED

    def __post_init__(self):
        if self.tokens[: len(self.reserved)] != self.reserved or len(set(self.tokens)) != len(self.tokens):
            raise ValueError(f"a vocabulary starts with {', '.join(self.reserved)} and holds each token once")

    def __len__(self) -> int:
        return len(self.tokens)

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """Of the tokens that a text can have."""
        begin = len(self.reserved)
        return {token: index for index, token in enumerate(self.tokens[begin:], begin)}

    @classmethod
    def build(
        cls,
        texts: Iterable[Sequence[str]],
        *,
        min_count: int = 1,
        max_size: int = 0,
        reserved: tuple[str, ...] = RESERVED,
    ) -> "Vocabulary":
        """The tokens of `texts` that occur `min_count` times or more, the most frequent first, equally frequent ones
        in order of appearance; at most `max_size` of them besides the reserved ones (0: no limit)."""
        counts = collections.Counter(token for text in texts for token in text)
        for token in reserved:
            counts.pop(token, None)
        kept = [token for token, count in counts.most_common(max_size or None) if count >= min_count]
        return cls(reserved + tuple(kept), reserved)

    def encode(self, tokens: Sequence[str], *, skip: bool = False) -> list[int]:
        """Ids of `tokens`; those not in the vocabulary become `<unk>`, or vanish with `skip`."""
        if skip:
            return [self.ids[token] for token in tokens if token in self.ids]
        return [self.ids.get(token, UNKNOWN) for token in tokens]

    def content(self) -> bytes:
        """As it is stored."""
        return json.dumps(self.tokens, ensure_ascii=False, indent=0).encode("utf-8", "surrogatepass")

    @classmethod
    def load(cls, path: Path, reserved: tuple[str, ...] = RESERVED) -> "Vocabulary":
        """From a file of `content`; DataError where the file is missing or no vocabulary with these reserved tokens."""
        try:
            return cls(tuple(json.loads(path.read_text(encoding="utf-8"))), reserved)
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path}: not a vocabulary of this project ({error}); train the run again") from error

"""Text to ids: tokenisers, trees and the vocabulary.

A tokeniser is a function from a string to a list of tokens; `tokenizer(kind, lower)` gives one by name:

| kind | tokens |
|---|---|
| `blank` | what stands between blanks and tabs (corpora that come tokenised) |
| `clean_str` | Kim's normalisation of English (his public code), which drops characters, then as `blank` |
| `character` | every character that is not white space |
| `mixed` | each Chinese character alone, Latin words and numbers whole, punctuation alone |
| `jieba` | the words of jieba's default segmentation, white space dropped |
| `both` | those words, each followed by its characters where it has more than one |
| `moses` | the Moses tokeniser's words, for languages that sacremoses knows |
| `parse` | the words of a binarised parse |

A binary tree is the list of its nodes in post-order, a word or `NODE_TOKEN` each: `post_order` reads one off a parse,
`full_tree` builds one over words.
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
NODE_TOKEN = ")"
"""An inner node of a tree, in post-order. No word is called so: brackets among words are -LRB- and -RRB-."""
NODE = 2
"""Its id, in the vocabularies of trees."""
TREE = (*RESERVED, NODE_TOKEN)

Tokenizer = Callable[[str], list[str]]

_CJK = r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]"
_MIXED = re.compile(rf"{_CJK}|[^\W_]+?(?={_CJK}|\W|_|$)|\S")
_BESIDE_CHINESE = re.compile(rf"(?<={_CJK}) | (?={_CJK})")
_CONTRACTION = re.compile(r"(n't|'s|'ve|'re|'d|'ll)")
_PUNCTUATION = re.compile(r"([,!?()])")
_NOT_KEPT = re.compile(r"[^A-Za-z0-9(),!?'`]")
_HALF_WIDTH = {full: full - 0xFEE0 for full in range(0xFF01, 0xFF5F)} | {0x3000: " "}
_PARSE_TOKEN = re.compile(r"[()]|[^() \t]+")  # a word may hold a no-break space, as in "1\xa01/2"
_BRACKETS = {"(": "-LRB-", ")": "-RRB-"}


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


def words_and_characters(text: str) -> list[str]:
    """The words of `jieba_words`, each followed by its characters where it has more than one."""
    words = ((word, character(word)) for word in jieba_words(text))
    return [token for word, parts in words for token in (word, *(parts if len(parts) > 1 else ()))]


def half_width(text: str) -> str:
    """Full-width letters, digits and signs (U+FF01 to U+FF5E) as ASCII, the ideographic space as a blank. Other Chinese
    punctuation (。、“”《》) has no such form and stays."""
    return text.translate(_HALF_WIDTH)


def tokenizer(kind: str, lower: bool, language: str = "en", narrow: bool = False) -> Tokenizer:
    """The tokeniser called `kind` (the table above), after `half_width` if `narrow` and lower-casing if `lower`.
    language: a code that sacremoses knows, for `moses`."""
    kinds = {
        **{"blank": blank, "clean_str": clean_str, "character": character, "mixed": mixed},
        **{"jieba": jieba_words, "both": words_and_characters, "parse": leaves},
    }
    if kind == "moses":
        split = functools.partial(_moses(language)[0].tokenize, escape=False)
    elif kind in kinds:
        split = kinds[kind]
    else:
        raise ConfigError(f"data.tokenizer: '{kind}' is none of {', '.join([*kinds, 'moses'])}")
    lowered = (lambda text: split(text.lower())) if lower else split
    return (lambda text: lowered(half_width(text))) if narrow else lowered


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
    if kind == "mixed":
        return lambda tokens: _BESIDE_CHINESE.sub("", " ".join(tokens))
    return "".join if kind in ("character", "jieba") else " ".join


def share_of_chinese(texts: Iterable[str]) -> float:
    """How many of the characters that are not white space are Chinese ones, between 0 and 1."""
    text = "".join(texts)
    return len(re.findall(_CJK, text)) / max(1, len(character(text)))


class ParseError(DataError):
    """A text that is no binarised parse. `problem` says what is wrong at its character number `column`, from 1."""

    def __init__(self, column: int, problem: str):
        super().__init__(f"column {column}: {problem}")
        self.column, self.problem = column, problem


def post_order(parse: str) -> list[str]:
    """The nodes of a binarised parse, children before their parent: "( ( A man ) sleeps )" -> A man ) sleeps ).

    A leaf is its word and an inner node is `NODE_TOKEN`. Blanks about brackets are optional; a word alone is a tree of
    one leaf, and an empty text has no nodes.

    Raises:
      ParseError: a bracket is missing, an inner node has not two children, or the text goes on after the tree.
    """
    nodes, opened, counts = [], [], [0]  # columns of the open brackets; children of each, and of the text as a whole
    for match in _PARSE_TOKEN.finditer(parse):
        token, column = match[0], match.start() + 1
        if token == ")":
            if not opened:
                raise ParseError(column, "this bracket closes none")
            if counts[-1] < 2:
                few = "a node with one child" if counts[-1] else "an empty node"
                raise ParseError(column, f"{few} ends here; a node has two children")
            opened.pop()
            counts.pop()
        elif counts[-1] == (2 if opened else 1):
            many = "a node's third child begins here; a node has two" if opened else "text after the end of the tree"
            raise ParseError(column, many)
        if token == "(":
            opened.append(column)
            counts.append(0)
        else:
            nodes.append(token)
            counts[-1] += 1
    if opened:
        raise ParseError(opened[-1], "this bracket is never closed")
    return nodes


def leaves(parse: str) -> list[str]:
    """The words of a binarised parse. Raises: as `post_order`."""
    return [node for node in post_order(parse) if node != NODE_TOKEN]


def full_tree(words: Sequence[str]) -> list[str]:
    """The nodes, in post-order, of the tree over `words` that knows no syntax: adjacent ones are merged in pairs, level
    by level. No words, no nodes.

    Of an odd number of nodes on a level the last moves up as it is; Chen et al. (2017, section 5, "full tree") merge it
    with a padding node. A word ( or ) becomes -LRB- or -RRB-, as in parses.
    """
    level = [[_BRACKETS.get(word, word)] for word in words]
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [[*pair[0], *pair[1], NODE_TOKEN] if len(pair) == 2 else pair[0] for pair in pairs]
    return level[0] if level else []


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Tokens by id. Id 0 pads, id 1 stands for every token that is not in the vocabulary.

    reserved: what `tokens` starts with. No text has them: a word `</s>` in a text is one that the vocabulary lacks. But
    a tree has inner nodes: of `TREE`, `NODE_TOKEN` is encoded as `NODE`."""

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
        begin = NODE if self.reserved == TREE else len(self.reserved)
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

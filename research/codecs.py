"""Sentences to ids and back, for each text that a task reads.

A task reads a corpus's columns under the names of their roles: `text` (classification), `premise` and `hypothesis`
(matching), `source` and `target` (translation). Tables, batches and buckets know the roles only. A role's `Codec` is
`Words` (a tokeniser and a vocabulary) or `Subwords` (a sentencepiece model).
"""

import dataclasses
import hashlib
import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from research.errors import ConfigError, DataError
from research.text import (
    BOS,
    EOS,
    NODE_TOKEN,
    PAD,
    RESERVED,
    SENTENCE,
    TREE,
    UNKNOWN,
    Tokenizer,
    Vocabulary,
    detokenizer,
    full_tree,
    post_order,
    tokenizer,
)

SUBWORDS = ("bpe", "unigram")
TREES = ("parse", "full")
"""What `data.tree` may be: the trees of binarised parses, or full binary trees over the tokens."""
_BLANK = "\u2581"  # sentencepiece's sign for a blank


def roles(config) -> dict[str, str]:
    """Role -> column of the corpus."""
    data = config.data
    if config.task == "classification":
        return {"text": data.text}
    if config.task == "matching":
        return {"premise": data.premise, "hypothesis": data.hypothesis}
    if config.task == "translation":
        return {"source": data.source, "target": data.target}
    raise ConfigError(f"task: '{config.task}' is none of classification, matching, translation")


class Codec(Protocol):
    """A language's sentences as ids of its vocabulary, without <s> and </s>, and back."""

    def __len__(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """What each id stands for."""

    def unknown(self, text: str) -> list[str]:
        """The parts of `text` that the vocabulary lacks."""

    def content(self) -> bytes:
        """Its vocabulary as it is stored."""


@dataclasses.dataclass(frozen=True)
class Words:
    """A tokeniser and a vocabulary. skip: unknown tokens are left out instead of becoming `<unk>`. marks: tokens that
    `split` adds to those of the text, for inner nodes of trees, or for its beginning and end."""

    vocabulary: Vocabulary
    split: Tokenizer
    join: Callable[[Sequence[str]], str]
    skip: bool = False
    marks: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.vocabulary)

    def words(self, text: str) -> list[str]:
        """The word that each id of `encode` stands for, as the tokeniser gives it: lower-cased where `data.lower`."""
        return [word for word in self.split(text) if not self.skip or word in self.vocabulary.ids]

    def own(self, tokens: Iterable[str]) -> list[str]:
        """Those of a text's tokens that are the text's own."""
        return [token for token in tokens if token not in self.marks]

    def encode(self, text: str) -> list[int]:
        return self.vocabulary.encode(self.split(text), skip=self.skip)

    def decode(self, ids: Sequence[int]) -> str:
        return self.join(self.pieces(ids))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self.vocabulary.tokens[id] for id in ids]

    def unknown(self, text: str) -> list[str]:
        return [token for token in self.split(text) if token not in self.vocabulary.ids]

    def content(self) -> bytes:
        return self.vocabulary.content()


class Subwords:
    """A sentencepiece model, from its serialised form. The text is not normalised but for white space."""

    def __init__(self, model: bytes, lower: bool):
        import sentencepiece

        self.model, self.lower = model, lower
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @classmethod
    def train(cls, texts: Iterable[str], *, kind: str, size: int, lower: bool) -> "Subwords":
        """kind: `bpe` or `unigram`. size: entries, the four reserved ones among them. All characters are covered."""
        import sentencepiece

        file = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=(text.lower() if lower else text for text in texts),
                model_writer=file,
                model_type=kind,
                vocab_size=size,
                character_coverage=1.0,
                normalization_rule_name="identity",
                pad_id=PAD,
                unk_id=UNKNOWN,
                bos_id=BOS,
                eos_id=EOS,
                minloglevel=2,
                num_threads=1,
                max_sentence_length=1 << 20,
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].rpartition("] ")[2]
            raise ConfigError(
                f"data.subword_size = {size}: sentencepiece cannot train this vocabulary: {reason}"
            ) from error
        return cls(file.getvalue(), lower)

    @classmethod
    def load(cls, path: Path, lower: bool) -> "Subwords":
        reason = "damaged"
        try:
            if content := path.read_bytes():  # sentencepiece takes an empty one
                return cls(content, lower)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or reason
        raise DataError(f"{path}: no sentencepiece model ({reason}); train the run again")

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    def _case(self, text: str) -> str:
        return text.lower() if self.lower else text

    def encode(self, text: str) -> list[int]:
        return self._processor.encode(self._case(text))

    def decode(self, ids: Sequence[int]) -> str:
        return self._processor.decode([int(id) for id in ids])

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self._processor.id_to_piece(int(id)) for id in ids]

    def unknown(self, text: str) -> list[str]:
        text = self._case(text)
        pieces, ids = self._processor.encode(text, out_type=str), self._processor.encode(text)
        taken_for_blanks = [_BLANK] * text.count(_BLANK)
        return [piece for piece, id in zip(pieces, ids) if id == UNKNOWN] + taken_for_blanks

    def content(self) -> bytes:
        return self.model


def check(config) -> dict[str, Words | None]:
    """Codecs that know no words yet, by role; None of subwords, which texts make. ConfigError where no codecs can be
    made of the configuration, whatever the texts."""
    kinds, empty = tokenizers(config), Vocabulary(reserved(config), reserved(config))
    if config.data.get("joint", False) and len(set(kinds.values())) > 1:
        raise ConfigError("data.joint: one vocabulary for both languages needs one tokeniser for both")
    if skips(config) and (kind := set(SUBWORDS) & set(kinds.values())):
        raise ConfigError(f"data.unknown = skip is for words and characters; {', '.join(kind)} spells all words out")
    return {role: None if kind in SUBWORDS else words_codec(role, empty, config) for role, kind in kinds.items()}


def make_codecs(texts: Mapping[str, Sequence[str]], config) -> dict[str, Codec]:
    """Role -> codec, learned from the training part's sentences; with one vocabulary for all roles if `data.joint`."""
    check(config)
    data, kinds = config.data, tokenizers(config)

    def learn(*group: str) -> dict[str, Codec]:
        """With one vocabulary for the roles of `group`; each is split by its own language's rules."""
        if (kind := kinds[group[0]]) in SUBWORDS:
            sentences = itertools.chain(*(texts[role] for role in group))
            return dict.fromkeys(group, Subwords.train(sentences, kind=kind, size=data.subword_size, lower=data.lower))
        codecs = {role: words_codec(role, Vocabulary(SENTENCE, SENTENCE), config) for role in group}
        vocabulary = learn_words((codecs[role].split(text) for role in group for text in texts[role]), config)
        return {role: dataclasses.replace(codec, vocabulary=vocabulary) for role, codec in codecs.items()}

    if data.joint:
        return learn(*texts)
    return {role: learn(role)[role] for role in texts}


def learn_words(texts: Iterable[Sequence[str]], config) -> Vocabulary:
    """The vocabulary of tokenised texts; ConfigError where it would be empty."""
    data, start = config.data, reserved(config)
    found = Vocabulary.build(texts, min_count=data.min_count, max_size=data.max_vocabulary, reserved=start)
    if len(found.tokens) == len(start):
        if data.min_count == 1:
            raise ConfigError(f"data.tokenizer = {data.tokenizer}: leaves no token of any training text")
        raise ConfigError(
            f"data.min_count = {data.min_count}: no token of the training texts occurs so often, so that all would be "
            "unknown; lower it"
        )
    return _with_nodes(found, config)


def _with_nodes(vocabulary: Vocabulary, config) -> Vocabulary:
    """`vocabulary`, in which the texts of trees do have inner nodes, whatever their number."""
    return dataclasses.replace(vocabulary, reserved=RESERVED) if reserved(config) == TREE else vocabulary


def skips(config) -> bool:
    """Whether unknown tokens are left out; ConfigError where `data.unknown` says neither so nor otherwise."""
    if config.data.unknown not in ("token", "skip"):
        raise ConfigError(f"data.unknown: '{config.data.unknown}' is neither token nor skip")
    return config.data.unknown == "skip"


def tokenizers(config) -> dict[str, str]:
    """Role -> kind of tokeniser; ConfigError where the task cannot use it."""
    fields = dict.fromkeys(roles(config), "tokenizer")
    if "target" in fields and config.data.target_tokenizer:
        fields["target"] = "target_tokenizer"
    kinds = {role: config.data[field] for role, field in fields.items()}
    for role, kind in kinds.items():
        if kind in SUBWORDS and config.task != "translation":
            raise ConfigError(f"data.{fields[role]}: {kind} splits words into subwords, which only translation does")
        if kind == "clean_str" and config.task == "translation":
            raise ConfigError(
                f"data.{fields[role]}: clean_str drops all but English letters, digits and few marks, so that "
                "translations lack them and nothing calls them unknown; it is for classification"
            )
        if kind in ("both", "parse") and config.task == "translation":
            raise ConfigError(
                f"data.{fields[role]}: {kind} has more than a text's words, which translations would repeat"
            )
        if kind == "parse" and config.data.get("half_width", False):
            raise ConfigError(
                "data.half_width would make brackets of words; it does not go with data.tokenizer = parse"
            )
    return kinds


def words_codec(role: str, vocabulary: Vocabulary, config) -> Words:
    """Of words or characters; ConfigError where the configuration names no tokeniser, or no form of trees."""
    data, kind = config.data, tokenizers(config)[role]
    language = roles(config)[role] if config.task == "translation" else "en"
    split = tokenizer(kind, data.lower, language, data.get("half_width", False))
    if tree := data.get("tree", ""):
        split = _tree_splitter(tree, split, config)
    begin, end = data.get("begin", ""), data.get("end", "")
    split = _between(begin, split, end, config)
    marks = ({begin, end} - {""}) | ({NODE_TOKEN} if tree else set())
    return Words(vocabulary, split, detokenizer(kind, language), skips(config), frozenset(marks))


def _between(begin: str, split: Tokenizer, end: str, config) -> Tokenizer:
    """`split`, whose tokens stand between the words `begin` and `end`, where these are not empty."""
    if not begin and not end:
        return split
    if reserved(config) == TREE:
        raise ConfigError(
            f"data.begin and data.end: no tree has such words; they do not go with data.tree = {config.data.tree}"
        )
    first, last = [begin] * bool(begin), [end] * bool(end)
    return lambda text: [*first, *split(text), *last]


def _tree_splitter(tree: str, split: Tokenizer, config) -> Tokenizer:
    """From a text, plain or a parse, to the nodes of its tree in post-order."""
    if tree not in TREES:
        raise ConfigError(f"data.tree: '{tree}' is none of {', '.join(TREES)}; empty for texts without trees")
    if skips(config):
        raise ConfigError("data.unknown = skip would leave nodes without children: it does not go with data.tree")
    if tree == "full":
        return lambda text: full_tree(split(text))
    if config.data.tokenizer != "parse":
        raise ConfigError("data.tree = parse reads the words off the parse, too; set data.tokenizer=parse")
    return lambda text: post_order(text.lower() if config.data.lower else text)


def reserved(config) -> tuple[str, ...]:
    """What the vocabularies of a run start with."""
    if config.task == "translation":
        return SENTENCE
    return TREE if config.data.get("tree", "") else RESERVED


def _codec_path(folder: Path, role: str, config) -> Path:
    """`vocabulary` where there is one vocabulary, else one file a role."""
    shared = config.task != "translation" or config.data.joint
    kind = tokenizers(config)[role]
    return folder / f"{'vocabulary' if shared else f'vocabulary_{role}'}{'.model' if kind in SUBWORDS else '.json'}"


def save_codecs(codecs: Mapping[str, Codec], folder: Path, config) -> None:
    """Writes each role's vocabulary or sentencepiece model into `folder`, under names that `config` decides."""
    for role, codec in codecs.items():
        _codec_path(folder, role, config).write_bytes(codec.content())


def digest(codecs: Mapping[str, Codec]) -> str:
    """SHA-256 of the vocabularies: ids mean something under the very same ones only."""
    return hashlib.sha256(b"".join(hashlib.sha256(codec.content()).digest() for codec in codecs.values())).hexdigest()


def holds_codecs(folder: Path, config) -> bool:
    """Whether `save_codecs` has written all of them there."""
    return all(_codec_path(folder, role, config).is_file() for role in tokenizers(config))


def load_codecs(folder: Path, config) -> dict[str, Codec]:
    """What `save_codecs` wrote; DataError where a file is missing or damaged."""
    codecs = {}
    for role, kind in tokenizers(config).items():
        path = _codec_path(folder, role, config)
        if kind in SUBWORDS:
            codecs[role] = Subwords.load(path, config.data.lower)
        else:
            vocabulary = _with_nodes(Vocabulary.load(path, reserved(config)), config)
            codecs[role] = words_codec(role, vocabulary, config)
    return codecs

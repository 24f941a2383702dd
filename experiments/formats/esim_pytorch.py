"""ESIM in PyTorch, coetaur0/ESIM."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from configs.esim import snli
from experiments.formats.state import Entries, Imported
from research.codecs import roles, words_codec
from research.errors import DataError
from research.text import RESERVED, Vocabulary

ESIM = "coetaur0/ESIM"

FIRST = ("_PAD_", "_OOV_")
"""Its words of index 0 and 1, where ours are `RESERVED`."""

BEGIN, END = "_BOS_", "_EOS_"

LABELS = ("entailment", "neutral", "contradiction")
"""Of three classes, in all its configurations."""


class PlainUnpickler(pickle.Unpickler):
    """Makes dicts, strings, numbers and such alone. What a pickle runs it has to import first: that is refused."""

    def find_class(self, module: str, name: str):
        raise DataError(
            f"needs {module}.{name}, which is no plain value; nothing of it was run. If you trust the file, load it "
            "with Python and pickle a dict of its words (str) and indices (int) to a new one"
        )


def _unpickle(path: Path) -> object:
    """The plain values in a pickle; DataError where it is missing or damaged, or needs more."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"--worddict {path}: {error.strerror}") from error
    try:
        with file:
            return PlainUnpickler(file).load()
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # whatever a damaged or foreign file leads to
        raise DataError(f"{path}: no pickle ({type(error).__name__}): damaged, cut short or something else") from error


def read_worddict(path: Path) -> tuple[str, ...]:
    """The words of a worddict.pkl, a pickled dict of words and indices, in the order of their indices; DataError names
    file and entry."""
    content, words = _unpickle(path), {}
    if not isinstance(content, dict):
        raise DataError(f"{path}: a pickled {type(content).__name__}, not a dict of words and indices as of {ESIM}")
    for word, index in content.items():
        if type(word) is not str or type(index) is not int:
            raise DataError(f"{path}: {word!r:.40}: {index!r:.40} is not a word and its index")
        if index in words:
            raise DataError(f"{path}: '{words[index]}' and '{word}' have the same index, {index}")
        if word in RESERVED:
            raise DataError(f"{path}: '{word}' has a meaning of its own here; give it a name that no text has")
        words[index] = word
    for index in range(max(len(words), len(FIRST))):
        if index not in words:
            raise DataError(f"{path}: no word has index {index}, although there are {len(words)} words")
        if index < len(FIRST) and words[index] != FIRST[index]:
            raise DataError(f"{path}: '{words[index]}' has index {index}; in a worddict of {ESIM} {FIRST[index]} has")
    return tuple(words[index] for index in range(len(words)))


def _lstm(entries: Entries, name: str, inputs: int, hidden: int) -> dict[str, np.ndarray]:
    """The parameters of `research.recurrence.BiLSTM`: gates i, f, o, g where PyTorch has i, f, g, o, and one bias, the
    sum of its two."""
    params = {}
    for ours, theirs in (("forward", ""), ("backward", "_reverse")):
        take = lambda part, *sizes, theirs=theirs: entries.take(f"{name}._encoder.{part}_l0{theirs}", *sizes)
        parts = {"input": take("weight_ih", 4 * hidden, inputs), "state": take("weight_hh", 4 * hidden, hidden)}
        parts["bias"] = take("bias_ih", 4 * hidden) + take("bias_hh", 4 * hidden)
        for part, x in parts.items():
            i, f, g, o = np.split(x, 4)
            params[f"{ours}_{part}"] = np.ascontiguousarray(np.concatenate([i, f, o, g]).T)
    return params


def _dense(entries: Entries, name: str, outputs: int | None, inputs: int | None) -> dict[str, np.ndarray]:
    weight = entries.take(f"{name}.weight", outputs, inputs)
    return {"kernel": np.ascontiguousarray(weight.T), "bias": entries.take(f"{name}.bias", len(weight))}


def _pairs_config(words: Sequence[str], corpus: str) -> ConfigDict:
    """That of SNLI, but for texts as they were when the words' dict was made."""
    config = snli.get_config()
    lower = all(word == word.lower() for word in words if word not in (*FIRST, BEGIN, END))
    config.data.update(corpus=corpus, tokenizer="blank", lower=lower)
    config.data.update(begin=BEGIN if BEGIN in words else "", end=END if END in words else "")
    return config


def esim_pytorch(checkpoint: Path, worddict: Path) -> Imported:
    """A checkpoint of coetaur0/ESIM with the words of its embedding.

    Raises:
        ConfigError: PyTorch is not installed.
        DataError: a file is missing, damaged or something else, or the files do not belong together."""
    words = read_worddict(worddict)
    entries = Entries(checkpoint, ESIM)
    table = entries.take(embedding := "_word_embedding.weight", None, None)
    if len(table) != len(words):
        raise DataError(
            f"{worddict}: {len(words)} words, but '{embedding}' in {checkpoint} has {len(table)} rows; --worddict "
            "takes the one that was written with the checkpoint's training data"
        )
    classify = _dense(entries, "_classification.4", None, None)
    hidden, classes = classify["kernel"].shape
    if classes < 2:
        raise DataError(f"{checkpoint}: '_classification.4.weight' has {classes} rows; {ESIM} has one a class")
    params = {
        "words": {"embedding": table},
        "encoding": _lstm(entries, "_encoding", table.shape[1], hidden),
        "projection": _dense(entries, "_projection.0", hidden, 8 * hidden),
        "composition": _lstm(entries, "_composition", hidden, hidden),
        "hidden": _dense(entries, "_classification.1", hidden, 8 * hidden),
        "classify": classify,
    }
    entries.finish()

    config = _pairs_config(words, checkpoint.name)
    config.model.update(embedding_dim=table.shape[1], hidden=hidden, dropout=0.0)
    vocabulary = Vocabulary((*RESERVED, *words[len(RESERVED) :]))
    codecs = {role: words_codec(role, vocabulary, config) for role in roles(config)}
    labels = LABELS if classes == len(LABELS) else tuple(map(str, range(classes)))
    return Imported(config, codecs, params, labels)

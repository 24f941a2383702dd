"""Retrieval: recall of the nearest texts of a list for a query, and their rerank by a matching model.

A recall method gives every text a score from words alone. What it recalls, the model then reads beside the query. All
texts are lists of tokens.

Dimension letters: N texts of the list, K recalled ones, R rows of a batch, L positions, D features.
"""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from research.batches import Batch, Lengths
from research.errors import ConfigError, DataError
from research.tasks import Classification

Tokens = Sequence[str]
RECALL = ("bm25", "tfidf", "vectors")
"""What `make_recall` makes."""


class Bm25:
    r"""Okapi BM25 as Lucene computes it (Robertson & Zaragoza 2009, section 3.4), by the library bm25s.

    .. math:: \sum_{t \in q} \ln\left(1 + \frac{N - n_t + 1/2}{n_t + 1/2}\right)
        \frac{f_t}{f_t + k_1 (1 - b + b\, \ell / \bar\ell)}, \quad k_1 = 1.5, b = 0.75

    t: each token of the query, as often as it stands there; n_t: texts that have it; f_t: how often the text has it;
    ℓ: length of the text."""

    def __init__(self, texts: Sequence[Tokens]):
        import bm25s  # imported on use: it starts JAX's backend

        logging.getLogger("bm25s").setLevel(logging.WARNING)
        self._index = bm25s.BM25(k1=1.5, b=0.75, method="lucene", dtype="float64")
        self._index.index([list(text) for text in texts], show_progress=False)
        self._count = len(texts)

    def scores(self, query: Tokens) -> Float[np.ndarray, " N"]:
        """Of all texts, 0 and above; the higher the nearer, as of the other methods."""
        return self._index.get_scores(list(query)) if query else np.zeros(self._count)


class TfIdf:
    r"""Cosine of tf-idf vectors (scikit-learn): token t of a text weighs :math:`f_t (\ln\frac{1 + N}{1 + n_t} + 1)`."""

    def __init__(self, texts: Sequence[Tokens]):
        from sklearn.feature_extraction.text import TfidfVectorizer  # imported on use: it takes a second

        self._terms = TfidfVectorizer(tokenizer=list, lowercase=False, token_pattern=None)
        self._weights = self._terms.fit_transform(texts)

    def scores(self, query: Tokens) -> Float[np.ndarray, " N"]:
        """Of all texts, from 0 to 1."""
        return (self._weights @ self._terms.transform([query]).T).toarray().ravel()


class MeanVectors:
    """Cosine of the mean vectors of the tokens that have one. ids: of these; a text without any has cosine 0."""

    def __init__(self, texts: Sequence[Tokens], ids: Mapping[str, int], table: Float[np.ndarray, "V D"]):
        self._ids, self._table = ids, table
        self._directions = jnp.asarray(np.stack([self._direction(text) for text in texts]))
        # not NumPy's: its threads go on turning for a while and slow the model that comes next
        self._product = jax.jit(jnp.matmul)

    def _direction(self, text: Tokens) -> Float[np.ndarray, " D"]:
        total = self._table[[self._ids[token] for token in text if token in self._ids]].sum(axis=0, dtype=np.float64)
        return np.float32(total / max(np.linalg.norm(total), 1e-30))

    def scores(self, query: Tokens) -> Float[np.ndarray, " N"]:
        """Of all texts, from -1 to 1."""
        return np.asarray(self._product(self._directions, self._direction(query)))


Recall = Bm25 | TfIdf | MeanVectors


def make_recall(kind: str, texts: Sequence[Tokens], ids: Mapping[str, int], variables: PyTree) -> Recall:
    """The recall method called `kind`; `vectors` takes the word vectors of a model with these variables.

    Raises:
        ConfigError: there is no such method.
        DataError: no text has a token.
    """
    if not any(texts):
        raise DataError("none of the texts to choose from has a token")
    if kind == "bm25":
        return Bm25(texts)
    if kind == "tfidf":
        return TfIdf(texts)
    if kind == "vectors":
        return MeanVectors(texts, ids, _word_vectors(variables))
    raise ConfigError(f"--recall {kind}: is none of {', '.join(RECALL)}")


def _word_vectors(variables: PyTree) -> Float[np.ndarray, "V D"]:
    """The table `words/embedding`, the sequential model's where there are two."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if [part.key for part in path[-2:]] == ["words", "embedding"]:
            return np.asarray(leaf)
    raise ValueError("the model has no table of word vectors")


def best(scores: Float[np.ndarray, " N"], k: int) -> Int[np.ndarray, " K"]:
    """Places of the k highest scores (of all, if there are fewer), the highest first, the earlier place first where two
    are equal to six decimals: a sum's last bits depend on where in memory its terms stand."""
    return np.argsort(-np.round(scores, 6), kind="stable")[:k]


def combined(
    probabilities: Float[np.ndarray, " K"], recalled: Float[np.ndarray, " K"], weight: float
) -> Float[np.ndarray, " K"]:
    """What texts are ranked by: the log-odds of their probability plus `weight` times the score of their recall."""
    p = np.clip(np.asarray(probabilities, np.float64), 1e-9, 1 - 1e-9)
    return np.log(p) - np.log1p(-p) + weight * recalled


class Reranker:
    """The probability of class 1 for pairs of a query, the premise, and texts of a list, the hypotheses.

    Every text of the list is encoded once, here, and the query once a call, which spares two fifths of ESIM's
    arithmetic: modules called `encoding` are given back what they gave for the text alone. That needs 8 H bytes a token
    (24 MB for 1,000 texts of 10 tokens with H = 300). A model without such modules, or one whose padding counts as
    words, reads whole pairs.

    What is compiled depends on the lengths of `buckets` and on `rows` alone, and is compiled here. Where a bucket is
    longer than the one before by eight tokens or more, there is one more halfway."""

    def __init__(
        self,
        task: Classification,
        variables: PyTree,
        texts: Sequence[Sequence[int]],
        buckets: Sequence[Lengths],
        rows: int,
        progress: Callable[[int], None] = lambda done: None,
    ):
        self.task, self.variables, self.rows = task, variables, rows
        self._masked = getattr(task.model, "masks", True)
        self._sizes = sorted({max(size for _, size in bucket) for bucket in buckets})
        if self._masked:  # padding costs nothing but time, which more sizes save
            halves = [(a + b) // 2 for a, b in itertools.pairwise(self._sizes) if b - a >= 8]
            self._sizes = sorted([*self._sizes, *halves])
        self._limits = [dict(buckets[-1])[role] for role in task.roles]
        self._texts = [np.asarray(text[: self._limits[1]], np.int32) for text in texts]
        self._lengths = np.array([len(text) for text in self._texts], np.int32)
        self._encode, self._predict = jax.jit(self._encode_pairs), jax.jit(self._predict_pairs)
        self._keep_states(progress)
        for size in self._sizes:
            jax.block_until_ready(self._run(np.zeros(0, np.int32), np.zeros(0, int), size))

    def scores(self, query: Sequence[int], chosen: Int[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
        """Of the texts at `chosen`, up to `rows`, in their order; what is longer than the longest bucket is cut."""
        query = np.asarray(query[: self._limits[0]], np.int32)
        size = self._size(max([len(query), *self._lengths[chosen]]))
        return np.asarray(self._run(query, chosen, size))[: len(chosen)]

    def _run(self, query: Int[np.ndarray, " L"], chosen: Int[np.ndarray, " R"], size: int) -> Float[Array, " R"]:
        """All padded to `size`; empty texts fill up the rows."""
        states = {
            path: _padded([kept[place] for place in chosen], (self.rows, size), kept[0][0])
            for path, kept in self._states.items()
        }
        one = (_padded([query], (1, size), np.int32(0)), np.array([len(query)], np.int32))
        return self._predict(self.variables, one, self._pad(chosen, self.rows, size), states)

    def _size(self, length: int) -> int:
        return next(size for size in self._sizes if length <= size)

    def _pad(self, chosen: Sequence[int], rows: int, size: int):
        """Tokens and lengths of `rows` texts."""
        tokens = _padded([self._texts[place] for place in chosen], (rows, size), np.int32(0))
        return tokens, np.pad(self._lengths[chosen], (0, rows - len(chosen)))

    def _keep_states(self, progress: Callable[[int], None]) -> None:
        """Sets `_states`: name of a module -> of each text what it gave for its positions."""
        self._states: dict[str, list[Float[np.ndarray, "L D"]]] = {}
        needed = np.array([self._size(length) for length in self._lengths])
        for size in self._sizes:
            places = np.flatnonzero(needed == size)
            for first in range(0, len(places), 2 * ENCODED):
                chosen = places[first : first + 2 * ENCODED]
                tokens, lengths = self._pad(chosen, 2 * ENCODED, size)
                pairs = [(tokens[half], lengths[half]) for half in (slice(ENCODED), slice(ENCODED, None))]
                for path, states in self._encode(self.variables, *pairs).items():
                    kept = self._states.setdefault(path, [np.empty(0)] * len(needed))
                    for place, one in zip(chosen, np.asarray(states)):
                        kept[place] = one[: max(self._lengths[place], 1)].copy()
                progress(len(chosen))

    def _encode_pairs(self, variables, premises, hypotheses) -> dict[str, Float[Array, "N L D"]]:
        kept = {}

        def keep(call, arguments, named, context):
            value = call(*arguments, **named)
            if self._encodes(context):
                kept[_path(context)] = value
            return value

        with nn.intercept_methods(keep):
            self.task.predict(variables, self._batch(premises, hypotheses))
        return kept

    def _predict_pairs(self, variables, query, texts, states) -> Float[Array, " R"]:
        """query, texts: tokens and lengths, of the query alone. states: what encodes `texts`."""
        spread = lambda x: jnp.broadcast_to(x[:1], (self.rows, *x.shape[1:]))
        of_query = self._encode_pairs(variables, query, query) if states else {}
        both = {path: jnp.concatenate([spread(of_query[path]), states[path]]) for path in states}

        def give(call, arguments, named, context):
            return both[_path(context)] if self._encodes(context) else call(*arguments, **named)

        with nn.intercept_methods(give):
            return self.task.predict(variables, self._batch(jax.tree.map(spread, query), texts))[:, 1]

    def _encodes(self, context) -> bool:
        named = (context.module.name or "").startswith("encoding") and context.method_name == "__call__"
        return named and self._masked

    def _batch(self, premises, hypotheses) -> Batch:
        rows = jnp.arange(len(premises[1]))
        tokens, lengths = (dict(zip(self.task.roles, pair)) for pair in zip(premises, hypotheses))
        return Batch(tokens, lengths, {}, jnp.zeros_like(rows), jnp.ones(rows.shape), rows)


ENCODED = 32  # pairs of texts of the list that are encoded at once


def _path(context) -> str:
    return "/".join(context.module.path)


def _padded(rows: Sequence[np.ndarray], shape: tuple[int, int], like: np.ndarray) -> np.ndarray:
    """One array of `shape` (and of `like`'s), zero behind the end of each row and below the last."""
    array = np.zeros((*shape, *like.shape), like.dtype)
    for place, row in enumerate(rows):
        array[place, : len(row)] = row[: shape[1]]
    return array


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Queries, the candidates to find them among, and for each query the places of its relevant candidates."""

    queries: list[str]
    candidates: list[str]
    relevant: list[set[int]]

    @classmethod
    def of_pairs(cls, pairs: Iterable[tuple[str, str, int]]) -> "Retrieval":
        """From labelled pairs: candidates are all second texts, each once; queries are the first texts of pairs of
        class 1, and the second texts of these are relevant.

        Whatever else a query is paired with, or not at all, counts as not relevant, though some of it may ask the same.
        A query's own text is no answer to it: pairs of a text with itself do not count."""
        pairs = list(pairs)
        places = {text: place for place, text in enumerate(dict.fromkeys(second for _, second, _ in pairs))}
        relevant: dict[str, set[int]] = {}
        for first, second, label in pairs:
            if label == 1 and first != second:
                relevant.setdefault(first, set()).add(places[second])
        return cls(list(relevant), list(places), list(relevant.values()))

    def among(self, texts: Iterable[str], size: int) -> "Retrieval":
        """With those of `texts` as further candidates that are none yet, until there are `size`."""
        more = dict.fromkeys([*self.candidates, *texts])
        return dataclasses.replace(self, candidates=list(more)[: max(size, len(self.candidates))])


def reciprocal_rank(hits: Sequence[bool]) -> float:
    """1 / the rank of the first hit of a ranked list, 0 where there is none."""
    return next((1.0 / rank for rank, hit in enumerate(hits, 1) if hit), 0.0)


def recall_at(hits: Sequence[bool], k: int, count: int) -> float:
    """The share of the `count` relevant texts that stand among the first k."""
    return sum(map(bool, hits[:k])) / count

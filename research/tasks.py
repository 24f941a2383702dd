"""What a model is trained to do: a batch -> sums of loss and weight, predictions, and a split's metrics.

Every task has the same members, `init`, `loss`, `predict`, `score`, `threshold` and the `width` of a prediction; the
training loop knows nothing else. Losses are sums over examples or tokens; they are divided by the sum of weights once,
over the whole batch, wherever its rows lie.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from research.batches import Batch, Lengths, make_buckets
from research.codecs import roles
from research.errors import ConfigError
from research.layers import length_mask, shift_right
from research.losses import smoothed_cross_entropy, token_scores
from research.text import BOS

Loss = tuple[Float[Array, ""], tuple[Float[Array, ""], PyTree]]
"""Sum of losses; sum of weights, and the new values of variables that a step changes without a gradient."""


@dataclasses.dataclass(frozen=True)
class Classification:
    """One text or a pair of texts, one class. The model maps (tokens, lengths, rows) to logits.

    The texts of `roles` travel together on the batch axis: first the premises of all B pairs, then their hypotheses,
    padded alike; `rows` of such a text are its own, so that the two texts of a pair draw different dropout masks. Where
    the model gives the logits of M models that are trained side by side, each has its own loss, and their
    probabilities are averaged."""

    model: nn.Module
    num_classes: int
    roles: tuple[str, ...] = ("text",)

    @property
    def width(self) -> int:
        """Entries of a prediction."""
        return self.num_classes

    def init(self, key: Key[Array, ""], bucket: Lengths) -> PyTree:
        """The model's variables for texts of up to the longest bucket's lengths."""
        count, size = len(self.roles), max(size for _, size in bucket)
        return self.model.init(key, jnp.zeros((count, size), jnp.int32), jnp.ones((count,), jnp.int32))

    def loss(self, variables: PyTree, batch: Batch, key: Key[Array, ""]) -> Loss:
        """Σ w_i · -log p(y_i | x_i), its mean over M models, and Σ w_i, with dropout keyed by `key`."""
        count = len(self.roles)
        rows = jnp.concatenate([batch.rows * count + number for number in range(count)])
        logits = self._logits(variables, batch, rows=rows, rngs={"dropout": key})
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch.labels[None, :, None], axis=-1)[..., 0]
        return jnp.sum(jnp.mean(losses, axis=0) * batch.weights), (jnp.sum(batch.weights), {})

    def predict(self, variables: PyTree, batch: Batch) -> Float[Array, "B C"]:
        """Probabilities of the classes."""
        return jnp.mean(jax.nn.softmax(self._logits(variables, batch)), axis=0)

    def _logits(self, variables, batch: Batch, rows=None, rngs=None) -> Float[Array, "M B C"]:
        size = max(batch.tokens[role].shape[1] for role in self.roles)
        wide = lambda x: jnp.pad(x, ((0, 0), (0, size - x.shape[1])))
        tokens = jnp.concatenate([wide(batch.tokens[role]) for role in self.roles])
        lengths = jnp.concatenate([batch.lengths[role] for role in self.roles])
        logits = self.model.apply(variables, tokens, lengths, rows, rngs=rngs)
        return logits.reshape(-1, len(batch.weights), self.num_classes)

    def threshold(self, predictions: Float[np.ndarray, "N 2"], labels: Int[np.ndarray, " N"]) -> float | None:
        """The least probability of class 1 from which on to choose it, for the highest F1 on this split, the dev split;
        None unless there are two classes, and class 1 occurs."""
        from sklearn import metrics

        if self.num_classes != 2 or not labels.any():
            return None
        precision, recall, thresholds = metrics.precision_recall_curve(labels, predictions[:, 1])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-30)
        return float(thresholds[np.argmax(f1[:-1])])  # the last point has no threshold: it chooses class 1 never

    def score(
        self, predictions: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"], threshold: float | None = None
    ) -> dict[str, float]:
        """Metrics of a split: accuracy and macro F1, for two classes also F1 and AUC of the class with index 1, in
        percent, and the loss (mean negative log-likelihood, nats). AUC is left out where only one class occurs. With a
        `threshold`, accuracy and F1 also of the decisions that it makes, and itself, a probability."""
        from sklearn import metrics  # imported on use: it takes a second, and `--help` does not need it

        chosen = predictions.argmax(axis=-1)
        picked = predictions[np.arange(len(labels)), labels].astype(np.float64)
        f1 = metrics.f1_score(labels, chosen, labels=range(self.num_classes), average=None, zero_division=0.0)
        scores = {
            "accuracy": 100.0 * float(np.mean(chosen == labels)),
            "macro_f1": 100.0 * np.mean(f1),
            "loss": float(-np.mean(np.log(np.maximum(picked, 1e-30)))),
        }
        if self.num_classes == 2:
            scores["f1"] = 100.0 * f1[1]
            if len(np.unique(labels)) == 2:
                scores["auc"] = 100.0 * metrics.roc_auc_score(labels, predictions[:, 1])
        if threshold is not None:
            tuned = (predictions[:, 1] >= threshold).astype(labels.dtype)
            scores["accuracy_at_threshold"] = 100.0 * float(np.mean(tuned == labels))
            scores["f1_at_threshold"] = 100.0 * metrics.f1_score(labels, tuned, zero_division=0.0)
            scores["threshold"] = threshold
        return {name: float(value) for name, value in scores.items()}


@dataclasses.dataclass(frozen=True)
class Translation:
    """A source sentence, a target sentence, both ending in </s>. The model maps (source, its segments, target inputs,
    their segments, rows) to hidden states, and `readout` gives the matrix and bias that make logits of them."""

    model: nn.Module
    smoothing: float = 0.0
    width: ClassVar[int] = 3

    def init(self, key: Key[Array, ""], bucket: Lengths) -> PyTree:
        """The model's variables for sentences of up to the longest bucket's lengths."""
        sizes = dict(bucket)
        source, target = (jnp.ones((1, sizes[role]), jnp.int32) for role in ("source", "target"))
        variables = dict(self.model.init(key, source, source, target, target))
        variables.pop("attention", None)  # what attention layers show on request is no state
        return variables

    def loss(self, variables: PyTree, batch: Batch, key: Key[Array, ""]) -> Loss:
        """Σ_t w_t H(q_t, p_t) over the real target tokens (q: the label-smoothed target), and their number Σ w_t."""
        changing = [name for name in variables if name != "params"]
        states, changed = self._states(variables, batch, batch.rows, rngs={"dropout": key}, mutable=changing)
        weights = self.weights(batch).ravel()
        flat = (*states, batch.tokens["target"].ravel(), weights)
        return smoothed_cross_entropy(*flat, self.smoothing), (jnp.sum(weights), changed)

    def predict(self, variables: PyTree, batch: Batch) -> Float[Array, "B 3"]:
        """Of each pair: Σ_t -log p(y_t) in nats, right guesses of the next token, tokens."""
        weights = self.weights(batch)
        losses, right = token_scores(*self._states(variables, batch), batch.tokens["target"].ravel())
        total = lambda x: jnp.sum(x.reshape(weights.shape) * weights, axis=1)
        return jnp.stack([total(losses), total(right), jnp.sum(weights, axis=1)], axis=1)

    @staticmethod
    def segments(batch: Batch, role: str) -> Int[Array, "B L"]:
        """The batch's own, or 1 up to each sentence's length."""
        if role in batch.segments:
            return batch.segments[role]
        return length_mask(batch.lengths[role], batch.tokens[role].shape[1]).astype(jnp.int32)

    def weights(self, batch: Batch) -> Float[Array, "B T"]:
        """1 at the real target tokens of the rows that count."""
        return (self.segments(batch, "target") > 0) * batch.weights[:, None]

    def _states(self, variables, batch: Batch, rows=None, rngs=None, mutable=False):
        """Hidden states of all target positions in a row, matrix and bias of the readout, and what a mutable apply
        gives beside them."""

        def forward(model: nn.Module):
            real = (batch.weights > 0)[:, None]  # rows that fill up a batch are padding: moments must not see them
            source, target = (self.segments(batch, role) * real for role in ("source", "target"))
            inputs = shift_right(batch.tokens["target"], target, BOS)
            hidden = model(batch.tokens["source"], source, inputs, target, rows)
            table, bias = model.readout()
            bias = jnp.zeros(len(table)) if bias is None else bias
            return hidden.reshape(-1, hidden.shape[-1]), table, bias

        return nn.apply(forward, self.model, mutable=mutable)(variables, rngs=rngs)

    def threshold(self, predictions: Float[np.ndarray, "N 3"], labels: Int[np.ndarray, " N"]) -> None:
        """There is nothing to choose."""

    def score(
        self, predictions: Float[np.ndarray, "N 3"], labels: Int[np.ndarray, " N"], threshold: None = None
    ) -> dict[str, float]:
        """Of the next token, given those before it: loss (mean negative log-likelihood, nats), perplexity, accuracy in
        percent."""
        del labels, threshold
        total, right, count = predictions.astype(np.float64).sum(axis=0)
        loss = float(total / count)
        return {
            "loss": loss,
            "perplexity": float(np.exp(min(loss, 300.0))),  # the spread of two squares it: e^1400 is no number
            "token_accuracy": 100.0 * float(right / count),
        }


LOWER_IS_BETTER = ("loss", "perplexity")


def better(metric: str, new: float, best: float | None) -> bool:
    """Whether `new` beats `best` (None: nothing yet) on `metric`; a tie does not."""
    if best is None:
        return True
    return new < best if metric in LOWER_IS_BETTER else new > best


Task = Classification | Translation


def shapes(task: Task, bucket: Lengths) -> PyTree:
    """What `task.init` would make for the bucket, as shapes and types alone."""
    return jax.eval_shape(lambda: task.init(jax.random.key(0), bucket))


def paper_of(config):
    """The module `research/<paper>.py`; ConfigError where there is none, or it is not for `config.task`."""
    try:
        paper = importlib.import_module(f"research.{config.paper}")
        tasks = paper.TASKS
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise ConfigError(f"paper: '{config.paper}' is no paper's module in research/") from error
    if config.task not in tasks:
        raise ConfigError(f"task: '{config.task}' is none of {', '.join(tasks)} (research/{config.paper}.py)")
    return paper


def make_task(config, *, sizes: Mapping[str, int], num_classes: int = 0) -> Task:
    """The task of a run with the model of `research/<paper>.py`; ConfigError where the configuration names neither.

    sizes: entries of each role's vocabulary."""
    make_model = paper_of(config).make_model
    buckets = make_buckets(config.data.buckets, tuple(sizes))
    max_length = max(size for _, size in buckets[-1])
    if config.task == "matching":
        _check_trees(config)
    if config.task != "translation":
        (size,) = set(sizes.values())  # a pair of texts has one vocabulary
        options = {"vocab_size": size, "num_classes": num_classes, "max_length": max_length}
        return Classification(make_model(config.model, **options), num_classes, tuple(roles(config)))
    if config.model.get("share") == "all" and not config.data.joint:
        raise ConfigError("model.share = all needs data.joint = True: one vocabulary for both languages")
    if not 0.0 <= config.train.label_smoothing < 1.0:
        raise ConfigError(f"train.label_smoothing must lie in [0, 1), got {config.train.label_smoothing}")
    if config.model.get("fused") == "cudnn" and any(size % 2 for bucket in buckets for _, size in bucket):
        raise ConfigError("model.fused = cudnn trains on even lengths only; change data.buckets")
    model = make_model(config.model, source_size=sizes["source"], target_size=sizes["target"], max_length=max_length)
    return Translation(model, config.train.label_smoothing)


def _check_trees(config) -> None:
    """ConfigError unless texts have trees where the model reads trees, and there alone."""
    architecture, tree = config.model.get("architecture", ""), config.data.tree
    reads = architecture in ("tree", "hybrid")
    if reads and not tree:
        raise ConfigError(f"model.architecture = {architecture} needs data.tree, parse or full")
    if tree and not reads:
        raise ConfigError(f"data.tree = {tree} is for the architectures tree and hybrid, not {architecture}")

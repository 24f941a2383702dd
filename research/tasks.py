"""What a model is trained to do: a batch -> sums of loss and weight, predictions, and a split's metrics.

Every task has the same five members: `columns` (the corpus columns it reads as text), `init`, `loss`, `predict` and
`score`; the training loop knows nothing else. Losses are sums over examples; they are divided by the sum of weights
once, over the whole batch, wherever its rows lie.
"""

import dataclasses
import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from research.batches import Batch
from research.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Classification:
    """One text, one class. The model maps (tokens, lengths, rows) to logits."""

    model: nn.Module
    num_classes: int
    column: str = "text"

    def init(self, key: Key[Array, ""], length: int) -> PyTree:
        """The model's variables for texts of up to `length` tokens."""
        return self.model.init(key, jnp.zeros((1, length), jnp.int32), jnp.ones((1,), jnp.int32))

    def loss(self, variables: PyTree, batch: Batch, key: Key[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Σ w_i · -log p(y_i | x_i) and Σ w_i, with dropout keyed by `key`."""
        logits = self._logits(variables, batch, rows=batch.rows, rngs={"dropout": key})
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch.labels[:, None], axis=-1)[:, 0]
        return jnp.sum(losses * batch.weights), jnp.sum(batch.weights)

    def predict(self, variables: PyTree, batch: Batch) -> Float[Array, "B C"]:
        """Probabilities of the classes."""
        return jax.nn.softmax(self._logits(variables, batch))

    def _logits(self, variables, batch: Batch, rows=None, rngs=None) -> Float[Array, "B C"]:
        tokens, lengths = batch.tokens[self.column], batch.lengths[self.column]
        return self.model.apply(variables, tokens, lengths, rows, rngs=rngs)

    def score(self, predictions: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"]) -> dict[str, float]:
        """Metrics of a split: accuracy and macro F1, for two classes also F1 and AUC of the class with index 1, in
        percent, and the loss (mean negative log-likelihood, nats). AUC is left out where only one class occurs."""
        from sklearn import metrics  # imported on use: it takes a second, and `--help` does not need it

        chosen = predictions.argmax(axis=-1)
        picked = predictions[np.arange(len(labels)), labels].astype(np.float64)
        classes = list(range(self.num_classes))
        scores = {
            "accuracy": 100.0 * float(np.mean(chosen == labels)),
            "macro_f1": 100.0 * metrics.f1_score(labels, chosen, labels=classes, average="macro", zero_division=0.0),
            "loss": float(-np.mean(np.log(np.maximum(picked, 1e-30)))),
        }
        if self.num_classes == 2:
            scores["f1"] = 100.0 * metrics.f1_score(labels, chosen, zero_division=0.0)
            if len(np.unique(labels)) == 2:
                scores["auc"] = 100.0 * metrics.roc_auc_score(labels, predictions[:, 1])
        return {name: float(value) for name, value in scores.items()}


LOWER_IS_BETTER = ("loss", "perplexity")


def better(metric: str, new: float, best: float | None) -> bool:
    """Whether `new` beats `best` (None: nothing yet) on `metric`; a tie does not."""
    if best is None:
        return True
    return new < best if metric in LOWER_IS_BETTER else new > best


def make_task(config, *, vocab_size: int, num_classes: int) -> Classification:
    """The task of a run with the model of `research/<paper>.py`; ConfigError where the configuration names neither."""
    if config.task != "classification":
        raise ConfigError(f"task: '{config.task}' is none of classification")
    try:
        paper = importlib.import_module(f"research.{config.paper}")
        make_model = paper.make_model
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise ConfigError(f"paper: '{config.paper}' is no paper's module in research/") from error
    lengths = {"max_length": config.data.buckets[-1]}
    model = make_model(config.model, vocab_size=vocab_size, num_classes=num_classes, **lengths)
    return Classification(model, num_classes, config.data.text)

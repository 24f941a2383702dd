"""Enhanced LSTM for Natural Language Inference (Chen et al. 2017, ACL), `paper_notes/esim.md`.

Premises a and hypotheses b share one encoder, so they travel together on the batch axis: the texts 0 … B - 1 are the
premises, B … 2B - 1 their hypotheses.

Dimension letters: B pairs, N = 2B texts, L positions (words; of trees: nodes in post-order), H units of a state, D
features of a position, C classes, M models.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from research import siamese
from research.errors import ConfigError, check_choices, check_dropout, check_fields, check_sizes
from research.layers import (
    WORD_MASKS,
    Dropout,
    WordVectors,
    drop_words,
    flat_dot_general,
    length_mask,
    masked_max,
    masked_mean,
    options_of,
)
from research.recurrence import BiLSTM, TreeLSTM
from research.text import NODE

TASKS = ("matching",)
"""What `config.task` may be with this model."""

ARCHITECTURES = ("sequential", "tree", "hybrid")
LAYERS = ("recurrent", "feedforward")
ATTENTIONS = ("both", "premise", "hypothesis")
POOLINGS = ("average_max", "sum")
OUTPUTS = ("softmax", "sigmoid")
FUSED = ("", "cudnn")


def align(texts: Float[Array, "N L D"], mask: Bool[Array, "N L"], attention: str = "both") -> Float[Array, "N L D"]:
    """ã and b̃: for every position of a text what is relevant to it in the other text of its pair (equations 11 to 13).

    attention: `premise` keeps ã alone, `hypothesis` b̃ alone (rows 24 and 23 of table 2); the other one is zero."""
    a, b = jnp.split(texts, 2)
    mask_a, mask_b = jnp.split(mask[:, None], 2)
    e = jnp.einsum("bid,bjd->bij", a, b)
    to_a = jax.nn.softmax(e, where=mask_b) @ b
    to_b = jax.nn.softmax(e.swapaxes(1, 2), where=mask_a) @ a
    if attention == "premise":
        to_b = jnp.zeros_like(to_b)
    if attention == "hypothesis":
        to_a = jnp.zeros_like(to_a)
    return jnp.concatenate([to_a, to_b])


def leaves(tokens: Int[Array, "N L"], lengths: Int[Array, " N"]) -> tuple[Int[Array, "N L"], Int[Array, " N"]]:
    """The words of trees in post-order, in their own order and first, and how many there are."""
    words = (tokens != NODE) & length_mask(lengths, tokens.shape[1])
    order = jnp.argsort(~words, axis=1, stable=True)
    return jnp.take_along_axis(tokens, order, axis=1), jnp.sum(words, axis=1)


GLOROT = nn.initializers.glorot_uniform()


def enhance(
    texts: Float[Array, "N L D"], aligned: Float[Array, "N L D"], whole: bool = True
) -> list[Float[Array, "N L D"]]:
    """The parts of m: ā, ã, ā - ã and ā ∘ ã (equations 14 and 15); unless `whole`, the first two."""
    return [texts, aligned, texts - aligned, texts * aligned] if whole else [texts, aligned]


class Projection(nn.Module):
    """F of equations 16 and 17: a layer with ReLU over `enhance`.

    As W₁ā + W₂ã + W₃(ā - ã) = (W₁ + W₃)ā + (W₂ - W₃)ã, it takes three products of matrices and not four."""

    hidden: int
    whole: bool = True

    @nn.compact
    def __call__(self, texts: Float[Array, "N L D"], aligned: Float[Array, "N L D"]) -> Float[Array, "N L H"]:
        m = enhance(texts, aligned, self.whole)
        w = self.param("kernel", GLOROT, (len(m) * texts.shape[-1], self.hidden))
        b = self.param("bias", nn.initializers.zeros, (self.hidden,))
        if self.whole:
            w_1, w_2, w_3, w_4 = jnp.split(w, 4)
            m, w = [texts, aligned, m[3]], jnp.concatenate([w_1 + w_3, w_2 - w_3, w_4])
        return nn.relu(flat_dot_general(jnp.concatenate(m, axis=-1), w) + b)


class ESIM(nn.Module):
    """The sequential model (figure 1, left) or, with `trees`, the syntactic tree-LSTM (right).

    Dropout, "applied to all feedforward connections" (section 4), stands before the encoding, the composition and both
    layers of the classifier. Where the paper is silent: random word vectors N(0, 1), matrices Glorot-uniform, the
    recurrent ones of all gates together orthogonal, biases zero but for the forget gates', one.

    Options that the paper's ablations need (table 2): `pooling` by summation, no `enhancement` (difference and
    product), feed-forward `encoding` or `composition`, one `attention` alone. Options that teaching material has:
    `layers` of each BiLSTM, no `projection`, one sigmoid `output`, and no `masks`, so that padding counts as words
    whose vectors are zero. fused: `cudnn` for cuDNN's LSTM on an NVIDIA GPU.

    word_masks: of the dropout of word vectors, see `research.layers.drop_words`.
    """

    vocab_size: int
    num_classes: int
    trees: bool = False
    variant: str = "rand"
    embedding_dim: int = 300
    hidden: int = 300
    dropout: float = 0.5
    word_masks: str = "position"
    encoding: str = "recurrent"
    attention: str = "both"
    enhancement: bool = True
    projection: bool = True
    composition: str = "recurrent"
    pooling: str = "average_max"
    output: str = "softmax"
    layers: int = 1
    masks: bool = True
    fused: str = ""

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "N L"], lengths: Int[Array, " N"], rows: Int[Array, " N"] | None = None
    ) -> Float[Array, "B C"]:
        """Logits of the classes.

        tokens: ids, anything from `lengths[i]` on is ignored. rows: places in the whole batch while training (they key
        the dropout masks), None in evaluation. A text without words is one zero vector."""
        drop = lambda name, x, rows: Dropout(self.dropout, inverted=True, name=f"dropout_{name}")(x, rows)
        words = length_mask(lengths, tokens.shape[1])
        lengths = jnp.maximum(lengths, 1)
        mask = length_mask(lengths, tokens.shape[1]) if self.masks else jnp.ones_like(words)
        x = WordVectors(self.vocab_size, self.embedding_dim, self.variant, name="words")(tokens)
        x = drop_words(jnp.where(words[..., None], x, 0.0), rows, self.dropout, self.word_masks)
        texts = self._layers("encoding", self.encoding, x, tokens, mask)  # ā and b̄: equations 1 to 3
        aligned = align(texts, mask, self.attention)
        if self.projection:
            m = Projection(self.hidden, self.enhancement, name="projection")(texts, aligned)
        else:
            m = jnp.concatenate(enhance(texts, aligned, self.enhancement), axis=-1)
        v = self._layers("composition", self.composition, drop("projection", m, rows), tokens, mask)
        v = jnp.concatenate(jnp.split(self._pool(v, mask, lengths), 2), axis=-1)  # equation 20
        pairs = None if rows is None else rows[: len(v)]
        v = jnp.tanh(nn.Dense(self.hidden, name="hidden", kernel_init=GLOROT)(drop("pooled", v, pairs)))
        outputs = self.num_classes if self.output == "softmax" else 1
        logits = nn.Dense(outputs, name="classify", kernel_init=GLOROT)(drop("hidden", v, pairs))
        if self.output == "sigmoid":  # of z: the softmax of 0 and z
            logits = jnp.pad(logits, ((0, 0), (1, 0)))
        return logits

    def _layers(self, name: str, kind: str, x, tokens: Int[Array, "N L"], mask) -> Float[Array, "N L D"]:
        for number in range(self.layers):
            each = f"{name}_{number}" if number else name
            if kind == "feedforward":
                x = nn.relu(nn.Dense(2 * self.hidden, name=each, kernel_init=GLOROT)(x))
            elif self.trees:
                x = TreeLSTM(self.hidden, name=each)(x, tokens == NODE, mask)
            else:
                x = BiLSTM(self.hidden, self.fused, name=each)(x, mask)
        return x

    def _pool(self, v: Float[Array, "N L D"], mask: Bool[Array, "N L"], lengths: Int[Array, " N"]):
        """Equations 18 and 19; of trees also the root's state."""
        if self.pooling == "sum":
            parts = [jnp.sum(jnp.where(mask[..., None], v, 0.0), axis=1)]
        else:
            parts = [masked_mean(v, mask), masked_max(v, mask)]
        if self.trees:
            parts.append(v[jnp.arange(len(v)), lengths - 1])
        return jnp.concatenate(parts, axis=-1)


class HIM(nn.Module):
    """The Hybrid Inference Model: ESIM and the tree-LSTM model side by side, each with word vectors of its own. The
    task averages their probabilities (section 3.3, "Overall inference models") and trains each on its own loss."""

    sequential: ESIM
    tree: ESIM

    def __call__(self, tokens: Int[Array, "N L"], lengths: Int[Array, " N"], rows=None) -> Float[Array, "M B C"]:
        words = leaves(tokens, lengths)
        return jnp.stack([self.sequential(*words, rows), self.tree(tokens, lengths, rows)])


def make_model(config, *, vocab_size: int, num_classes: int, max_length: int) -> nn.Module:
    """The model of `config.model`; ConfigError where a field cannot be."""
    architecture = config.get("architecture", ARCHITECTURES[0])
    if architecture in siamese.ARCHITECTURES:
        return siamese.make_model(config, vocab_size=vocab_size, num_classes=num_classes, max_length=max_length)
    if architecture not in ARCHITECTURES:
        known = ", ".join((*ARCHITECTURES, *siamese.ARCHITECTURES))
        raise ConfigError(f"model.architecture: '{architecture}' is none of {known}")
    own = {"architecture"} | options_of(ESIM, "vocab_size", "num_classes", "trees")
    check_fields(config, own, f"model.architecture = {architecture}", "model")
    choices = {
        **{"variant": siamese.VARIANTS, "word_masks": WORD_MASKS},
        **{"encoding": LAYERS, "attention": ATTENTIONS, "composition": LAYERS},
        **{"pooling": POOLINGS, "output": OUTPUTS, "fused": FUSED},
    }
    check_choices(config, choices)
    check_sizes(config, "embedding_dim", "hidden", "layers")
    check_dropout(config.dropout)
    if config.output == "sigmoid" and num_classes != 2:
        raise ConfigError(f"model.output = sigmoid is for two classes; the corpus has {num_classes}")
    if config.architecture != "sequential" and not config.masks:
        raise ConfigError("model.masks = False is for the sequential architecture: padding is no node of a tree")
    if config.fused and jax.default_backend() != "gpu":
        raise ConfigError("model.fused = cudnn needs an NVIDIA GPU; leave it empty elsewhere")
    options = {name: value for name, value in config.items() if name != "architecture"}
    make = lambda trees: ESIM(vocab_size, num_classes, trees, **options)
    if config.architecture == "hybrid":
        return HIM(make(False), make(True))
    return make(config.architecture == "tree")

"""Ablations of ESIM (Chen et al. 2017): the rows of Table 2, and what teaching material changes.

The baseline is SICK by words with random vectors; `--config configs/esim/lcqmc_small.py` makes it one of Chinese
questions, with the axis of characters against words. Rows 17 and 25 of the table need the corpus's own parses: they
are there where the baseline reads the words of parses (data.tokenizer=parse). Full trees, as in row 18, can be built
over any words; the tree-LSTM alone with those is a row that the table does not have.
"""

from ml_collections import ConfigDict

from experiments.ablate import Axes, Study, main
from research.layers import WORD_MASKS


def axes(baseline: ConfigDict) -> Axes:
    kinds = ("parse", "full") if baseline.data.tokenizer == "parse" else ("full",)
    # a tree of n words has 2n - 1 nodes
    twice = lambda size: tuple(map(twice, size)) if isinstance(size, (tuple, list)) else 2 * size
    nodes = tuple(baseline.data.buckets if baseline.data.tree else map(twice, baseline.data.buckets))
    marks = {"data.begin": "", "data.end": ""}  # are leaves of no tree
    trees = lambda name, tree: {"model.architecture": name, "data.tree": tree, "data.buckets": nodes, **marks}
    found = {
        "Table 2": {
            "pooling_sum": {"model.pooling": "sum"},
            "enhancement_off": {"model.enhancement": False},
            "composition_feedforward": {"model.composition": "feedforward"},
            "encoding_feedforward": {"model.encoding": "feedforward"},
            "premise_attention_off": {"model.attention": "hypothesis"},
            "hypothesis_attention_off": {"model.attention": "premise"},
            **{f"{name}_{kind}": trees(name, kind) for name in ("tree", "hybrid") for kind in kinds},
        },
        "word vectors": {
            "rand": {"model.variant": "rand", "word_vectors.path": ""},
            **{name: {"model.variant": name} for name in ("static", "non_static")},
        },
        "length": {f"length_{size}": {"data.buckets": (size,)} for size in (10, 32)},
        "hidden units": {f"hidden_{size}": {"model.hidden": size} for size in (50, 100, 200, 300)},
        "embedding": {f"embedding_{size}": {"model.embedding_dim": size} for size in (50, 100, 200, 300)},
        "dropout": {
            **{f"dropout_{rate:g}": {"model.dropout": rate} for rate in (0.0, 0.2, 0.5)},
            **{f"word_masks_{kind}": {"model.word_masks": kind} for kind in WORD_MASKS},
        },
        "structure": {
            **({} if baseline.data.tree else {"masks_off": {"model.masks": False}}),
            "projection_off": {"model.projection": False},
            "layers_2": {"model.layers": 2},
        },
    }
    if baseline.data.tokenizer in (chinese := ("character", "jieba", "both")):
        found["tokens"] = {f"tokens_{kind}": {"data.tokenizer": kind} for kind in chinese}
    return found


STUDY = Study(
    paper="esim",
    config="configs/esim/sick.py",
    axes=axes,
    linked=(
        frozenset({"model.architecture", "data.tree", "data.buckets", "data.begin", "data.end"}),
        frozenset({"model.variant", "word_vectors.path"}),
    ),
    needs=dict.fromkeys(("static", "non_static"), "word_vectors.path"),
    examples=(
        "--workdir runs/lcqmc --config configs/esim/lcqmc_small.py --variants 'tokens_*,length_*'",
        "--workdir runs/small --config.model.hidden=100 --config.model.embedding_dim=100",
        "--workdir runs/vectors --variants rand,static \\\n"
        "    --config.word_vectors.path=glove.840B.300d.txt --config.model.variant=non_static",
    ),
)

if __name__ == "__main__":
    main(STUDY)

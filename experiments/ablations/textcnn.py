"""Ablations of TextCNN (Kim 2014), along the axes of Zhang and Wallace (2015), "A Sensitivity Analysis of (and
Practitioners' Guide to) Convolutional Neural Networks for Sentence Classification", and the options of our code.

The baseline is CNN-rand on TREC with the paper's hyperparameters: windows of 3, 4 and 5 words with 100 feature maps
each, ReLU, max pooling, dropout 0.5, norm constraint 3 (section 3.1). Variants that equal the baseline are listed and
not run, so that the study stays whole when --config or an override moves the baseline.
"""

from experiments.ablate import Axes, Study, main

SINGLE_REGIONS = range(1, 11)
REGION_SETS = ((2, 3), (3, 4), (2, 3, 4), (3, 4, 5), (4, 5, 6), (7, 8, 9), (3, 3, 3), (7, 7, 7), (2, 3, 4, 5))
FEATURE_MAPS = (2, 10, 50, 100, 200, 400, 600)
NORMS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0)


def _regions(sizes: tuple[int, ...]) -> tuple[str, dict]:
    return "region_" + "_".join(map(str, sizes)), {"model.kernel_sizes": sizes}


AXES: Axes = {
    "region size": dict(_regions((size,)) for size in SINGLE_REGIONS),
    "several regions": dict(map(_regions, REGION_SETS)),
    "feature maps": {f"maps_{number}": {"model.filters": number} for number in FEATURE_MAPS},
    "activation": {f"activation_{name}": {"model.activation": name} for name in ("relu", "tanh", "identity")},
    "pooling": {
        "pooling_max": {"model.pooling": "max"},
        **{f"pooling_k_max_{k}": {"model.pooling": "k_max", "model.k": k} for k in (2, 3, 5)},
        "pooling_average": {"model.pooling": "average"},
    },
    "dropout": {f"dropout_{tenths / 10:g}": {"model.dropout": tenths / 10} for tenths in range(10)},
    # 0 is no constraint.
    "norm constraint": {f"norm_{norm:g}": {"optimizer.max_norm": norm} for norm in NORMS},
    "word vectors": {
        "rand": {"model.variant": "rand", "word_vectors.path": ""},
        **{name: {"model.variant": name} for name in ("static", "non_static", "multichannel")},
    },
    "structure": {
        "positions": {"model.positions": True},
        "attention": {"model.attention": True},
        "layers_2": {"model.layers": 2},
        "padding_same": {"model.padding": "same"},
    },
}

STUDY = Study(
    paper="textcnn",
    config="configs/textcnn/trec.py",
    axes=lambda baseline: AXES,
    # k is read by k-max pooling alone, and a file of word vectors by all variants but rand.
    linked=(frozenset({"model.pooling", "model.k"}), frozenset({"model.variant", "word_vectors.path"})),
    needs=dict.fromkeys(("static", "non_static", "multichannel"), "word_vectors.path"),
    examples=(
        "--workdir runs/vectors --variants rand,static,multichannel \\\n"
        "    --config.word_vectors.path=vectors.bin --config.model.variant=non_static",
    ),
)

if __name__ == "__main__":
    main(STUDY)

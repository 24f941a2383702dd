"""Ablations of the Transformer (Vaswani et al. 2017): rows A to E of Table 3, scaled to a small model, and what else is
often asked: positions, residuals, normalisation, scaling, label smoothing, beam sizes, the number of training pairs.

The baseline is the quickstart, number words to digits and back; `--config configs/transformer/multi30k_de_en.py` makes
the study one of translation, for which `--metric bleu_lc` says more than the exact match. The sizes of rows A and C
follow the baseline's: heads share d_model, so that the computation stays the same, and d_model and d_ff are halved and
doubled.
"""

from ml_collections import ConfigDict

from experiments.ablate import Axes, Study, main, translation_axes
from research.errors import ConfigError


def axes(baseline: ConfigDict) -> Axes:
    """Heads that do not divide their d_model are left out; ConfigError where there is nothing to divide."""
    model = baseline.model
    if min(model.d_model, model.heads) < 1:
        raise ConfigError(f"model.d_model and heads must be at least 1, got {model.d_model} and {model.heads}")
    keys = lambda d_model, heads: dict.fromkeys(("model.d_k", "model.d_v"), d_model // heads)
    heads = [number for number in (1, 2, 4, 8, 16) if model.d_model % number == 0]
    widths = [size for size in (model.d_model // 2, 2 * model.d_model) if size % model.heads == 0]
    shared = translation_axes(beams=(1, 2, 4, 8))
    return {
        "A: heads": {f"heads_{number}": {"model.heads": number, **keys(model.d_model, number)} for number in heads},
        "B: key size": {f"d_k_{size}": {"model.d_k": size} for size in (4, 8, 16)},
        "C: size": {
            **{f"layers_{number}": {"model.layers": number} for number in (1, 3, 4)},
            **{f"d_model_{size}": {"model.d_model": size, **keys(size, model.heads)} for size in widths},
            **{f"d_ff_{size}": {"model.d_ff": size} for size in (model.d_ff // 2, 2 * model.d_ff)},
        },
        "D: dropout": shared.pop("dropout"),
        "D: label smoothing": shared.pop("label smoothing"),
        "E: positions": {
            f"positions_{kind}": {"model.positions": kind} for kind in ("sinusoidal", "learned", "concatenated", "none")
        },
        "residuals": {
            "residual_off": {"model.residual": False},
            "layers_6": {"model.layers": 6},
            "layers_6_residual_off": {"model.layers": 6, "model.residual": False},
        },
        "normalisation": {
            **{f"norm_{kind}": {"model.norm": kind} for kind in ("batch", "none")},
            "pre_norm": {"model.pre_norm": True},
        },
        "attention": {"scale_off": {"model.scale": False}, "share_none": {"model.share": "none"}},
        **shared,
    }


STUDY = Study(
    paper="transformer",
    config="configs/transformer/quickstart.py",
    metric="exact_match",
    also=(("test_longer", "exact_match"), ("test_longer", "chrf")),
    axes=axes,
    linked=(
        frozenset({"model.heads", "model.d_k", "model.d_v"}),
        frozenset({"model.d_model", "model.d_k", "model.d_v"}),
        frozenset({"model.layers", "model.residual"}),
    ),
    examples=(
        "--workdir runs/multi30k --config configs/transformer/multi30k_de_en.py \\\n"
        "    --metric bleu_lc --config.train.epochs=6 --config.train.average=0 --variants 'positions_*'",
    ),
)

if __name__ == "__main__":
    main(STUDY)

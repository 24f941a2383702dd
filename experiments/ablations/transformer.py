"""Ablations of the Transformer (Vaswani et al. 2017): rows A to E of Table 3, scaled to a small model, and what else is
often asked: positions, residuals, normalisation, scaling, label smoothing, beam sizes, the number of training pairs.

The baseline is the quickstart, number words to digits and back; `--config configs/transformer/multi30k_de_en.py` makes
the study one of translation. Heads divide d_model, so that the computation stays the same (row A).
"""

from configs.transformer import quickstart
from experiments.ablate import Study, main

MODEL = quickstart.get_config().model


def _heads(number: int) -> dict:
    size = MODEL.d_model // number
    return {"model.heads": number, "model.d_k": size, "model.d_v": size}


def _width(d_model: int) -> dict:
    size = d_model // MODEL.heads
    return {"model.d_model": d_model, "model.d_k": size, "model.d_v": size}


STUDY = Study(
    paper="transformer",
    config="configs/transformer/quickstart.py",
    metric="exact_match",
    also=(("test_longer", "exact_match"), ("test_longer", "chrf")),
    axes={
        "A: heads": {f"heads_{number}": _heads(number) for number in (1, 2, 4, 8, 16)},
        "B: key size": {f"d_k_{size}": {"model.d_k": size} for size in (4, 8, 16)},
        "C: size": {
            **{f"layers_{number}": {"model.layers": number} for number in (1, 3, 4)},
            **{f"d_model_{size}": _width(size) for size in (64, 256)},
            **{f"d_ff_{size}": {"model.d_ff": size} for size in (128, 512)},
        },
        "D: dropout": {f"dropout_{rate:g}": {"model.dropout": rate} for rate in (0.0, 0.1, 0.2)},
        "D: label smoothing": {f"smoothing_{rate:g}": {"train.label_smoothing": rate} for rate in (0.0, 0.1, 0.2)},
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
        "beam": {f"beam_{size}": {"decode.beam": size} for size in (1, 2, 4, 8)},
        "training pairs": {f"train_{share:g}": {"data.train_fraction": share} for share in (0.125, 0.25, 0.5)},
    },
    linked=(
        frozenset({"model.heads", "model.d_k", "model.d_v"}),
        frozenset({"model.d_model", "model.d_k", "model.d_v"}),
        frozenset({"model.layers", "model.residual"}),
    ),
    examples=(
        "--workdir runs/multi30k --config configs/transformer/multi30k_de_en.py \\\n"
        "    --config.train.epochs=6 --variants 'positions_*'",
    ),
)

if __name__ == "__main__":
    main(STUDY)

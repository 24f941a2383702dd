"""Ablations of ConvS2S (Gehring et al. 2017): Tables 4, 5, 7 and 8 and Figure 2, scaled to a small model, and what else
is often asked: gates, scaled sums, normalisation, how the context is joined, a dense decoder, label smoothing, beam
sizes, the number of training pairs.

The baseline is the quickstart, number words to digits and back; `--config configs/conv_seq2seq/multi30k_de_en.py` makes
the study one of translation, for which `--metric bleu_lc` says more than the exact match. Sizes follow the baseline's:
layers keep their channels, each run of equal layers is halved or doubled, and kernels are widened where they see more
than one position. Attention is left to fewer of the baseline's decoder layers.
"""

from collections.abc import Sequence
from itertools import groupby

from ml_collections import ConfigDict

from experiments.ablate import Axes, Study, main, translation_axes
from research.conv_seq2seq import Convolution, attending, read_layers, written

WIDTHS = (3, 5, 7)  # of Tables 7 and 8


def _resized(layers: Sequence[Convolution], factor: float, width: int) -> tuple[Convolution, ...]:
    """Each run of equal layers `factor` times as long, at least one, with kernels of `width` but for linear maps."""
    found: list[Convolution] = []
    for layer, run in groupby(layers):
        kernel = width if layer.kernel > 1 else 1
        found += [Convolution(layer.channels, kernel)] * max(1, int(factor * len(list(run))))
    return tuple(found)


def _stack(name: str, given: Sequence[str], least: int = 1) -> dict[str, dict]:
    """Variants of one stack: half, once and twice its depth times the widths, and kernels that see one position; none
    of fewer than `least` layers."""
    layers = read_layers(given, name)
    sizes = {len(_resized(layers, factor, 1)): factor for factor in (0.5, 2.0, 1.0)}  # the last of equal ones counts
    found = {}
    for depth, factor in sorted((depth, factor) for depth, factor in sizes.items() if depth >= least):
        for width in (1, *WIDTHS) if factor == 1.0 else WIDTHS:
            wanted = _resized(layers, factor, width)
            value = tuple(given) if wanted == layers else written(wanted)  # the baseline, however it is written
            found[f"{name}_{depth}x{width}"] = {f"model.{name}": value}
    return found


def _attending(depth: int) -> dict[str, dict]:
    """Subsets of the decoder's layers as in Table 5: all, all but the last ones, every other one, single ones."""
    chosen = {"attention_all": ()}
    chosen |= {f"attention_1_to_{last}": tuple(range(1, last + 1)) for last in range(depth - 1, 1, -1)}
    chosen |= {"attention_odd": tuple(range(1, depth + 1, 2))} if depth > 2 else {}
    chosen |= {f"attention_{number}": (number,) for number in range(1, depth + 1)} if depth > 1 else {}
    return {name: {"model.attention": layers} for name, layers in chosen.items()}


def axes(baseline: ConfigDict) -> Axes:
    """ConfigError where the baseline's layers cannot be read, or those that attend are none of them."""
    model = baseline.model
    depth = len(read_layers(model.decoder, "decoder"))
    least = attending(model.attention, depth)[-1] if model.attention else 1
    source, target = "model.source_positions", "model.target_positions"
    return {
        "Table 4: position embeddings": {
            "source_positions_off": {source: False},
            "target_positions_off": {target: False},
            "positions_off": {source: False, target: False},
        },
        "Table 5: layers that attend": _attending(depth),
        "Table 7, Figure 2: encoder, layers x width": _stack("encoder", model.encoder),
        "Table 8, Figure 2: decoder, layers x width": _stack("decoder", model.decoder, least),
        "gate": {f"gate_{kind}": {"model.gate": kind} for kind in ("glu", "tanh", "relu", "none")},
        "sums": {"scale_residual_off": {"model.scale_residual": False}},
        "normalisation": {f"norm_{kind}": {"model.norm": kind} for kind in ("weight", "layer", "none")},
        "context": {f"context_{kind}": {"model.context": kind} for kind in ("add", "concat")},
        "dense decoder": {"dense": {"model.dense": True}},
        **translation_axes(beams=(1, 2, 3, 5, 8)),
    }


STUDY = Study(
    paper="conv_seq2seq",
    config="configs/conv_seq2seq/quickstart.py",
    metric="exact_match",
    also=(("test_longer", "exact_match"), ("test_longer", "chrf")),
    axes=axes,
    linked=(frozenset({"model.source_positions", "model.target_positions"}),),
    examples=(
        "--workdir runs/four_decoder_layers '--config.model.decoder=4*128x3' --variants 'attention_*'",
        "--workdir runs/multi30k --config configs/conv_seq2seq/multi30k_de_en.py \\\n"
        "    --metric bleu_lc --config.train.epochs=6 --variants 'gate_*'",
    ),
)

if __name__ == "__main__":
    main(STUDY)

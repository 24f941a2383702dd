"""Plots of measured results."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib import font_manager

ROWS_A_COLUMN = 32
CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "SimHei",
    "PingFang SC",
)


def ablation_plot(study: Mapping, path: Path) -> None:
    """Differences from the baseline with 95 % intervals, one line a variant, grouped by axis, as a PNG.

    Args:
        study: the content of `ablation.json`.
        path: file to write.
    """
    rows = [row for row in study["rows"] if row["difference"] is not None]
    groups = [(axis, list(members)) for axis, members in groupby(rows, key=lambda row: row["axis"])]
    columns = _columns(groups)
    height = max(sum(len(members) + 1.6 for _, members in column) for column in columns) if groups else 1
    figure, axes = plt.subplots(
        1, len(columns), figsize=(5.6 * len(columns), 1.3 + 0.23 * height), squeeze=False, sharex=True
    )
    for axis, column in zip(axes[0], columns):
        _draw(axis, column, height)
    figure.suptitle(_title(study), fontsize=11)
    figure.supxlabel(f"difference in {study['metric']} from the baseline, paired by seed, 95 % interval", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _columns(groups: list) -> list[list]:
    """Deals the groups, in order, into as few columns of similar height as keep the plot readable."""
    total = sum(len(members) + 1.6 for _, members in groups)
    count = max(1, -(-int(total) // ROWS_A_COLUMN))
    columns, height = [[]], 0.0
    for group in groups:
        size = len(group[1]) + 1.6
        # Half of a group may stand over the column's share before it opens the next column.
        if columns[-1] and len(columns) < count and height + size / 2 > total / count:
            columns.append([])
            height = 0.0
        columns[-1].append(group)
        height += size
    return columns


def _draw(axis, groups: list, height: float) -> None:
    axis.axvline(0, color="0.4", linewidth=0.8)
    y, ticks, labels = 0.0, [], []
    for color, (name, members) in enumerate(groups):
        axis.text(0.01, y + 0.1, name, transform=axis.get_yaxis_transform(), fontsize=9, fontweight="bold", va="center")
        for row in members:
            y += 1
            low, high = row["ci95"] or (row["difference"], row["difference"])
            axis.plot([low, high], [y, y], color=f"C{color % 10}", linewidth=1.4, solid_capstyle="butt")
            significant = row["p_holm"] is not None and row["p_holm"] < 0.05
            face = f"C{color % 10}" if significant else "white"
            axis.plot(row["difference"], y, "o", color=f"C{color % 10}", markerfacecolor=face, markersize=5)
            ticks.append(y)
            labels.append(row["variant"])
        y += 1.6
    axis.set_yticks(ticks, labels, fontsize=8)
    axis.set_ylim(height, -1)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)


def attention_plot(
    weights: np.ndarray, of: str, source: Sequence[str], target: Sequence[str], title: str, path: Path
) -> bool:
    """Where each target token looks: a map a head or layer, and where there are several their mean, as a PNG.

    Args:
        weights: (heads or layers, target, source), rows sum to 1.
        of: what they are of, head or layer.
        path: file to write.

    Returns whether there was a font for every character: Chinese needs one of CHINESE_FONTS on the machine. Without,
    boxes are drawn.
    """
    installed = {font.name for font in font_manager.fontManager.ttflist}
    fonts = [name for name in CHINESE_FONTS if name in installed]
    with plt.rc_context({"font.sans-serif": [*fonts, "DejaVu Sans"]}), warnings.catch_warnings(record=True) as found:
        warnings.filterwarnings("always", "Glyph .* missing from font")
        _draw_attention(weights, of, source, target, title, path)
    return not any("missing from font" in str(one.message) for one in found)


def _draw_attention(weights, of: str, source: Sequence[str], target: Sequence[str], title: str, path: Path) -> None:
    maps = [(f"{of} {n}", each) for n, each in enumerate(weights, 1)]
    if len(maps) > 1:
        maps = [(f"mean of the {of}s", weights.mean(axis=0)), *maps]
    columns = min(len(maps), 3)
    rows = -(-len(maps) // columns)
    size = (1.2 + 0.3 * len(source), 1.2 + 0.26 * len(target))
    figure, axes = plt.subplots(rows, columns, figsize=(columns * size[0], rows * size[1]), squeeze=False)
    for axis in axes.flat[len(maps) :]:
        axis.set_axis_off()
    for axis, (name, values) in zip(axes.flat, maps):
        axis.imshow(values, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
        axis.set_xticks(
            range(len(source)), source, rotation=60, ha="right", rotation_mode="anchor", fontsize=8, parse_math=False
        )
        axis.set_yticks(range(len(target)), target, fontsize=8, parse_math=False)
        axis.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=130, bbox_inches="tight")  # a title may be wider than the maps of a short sentence
    plt.close(figure)


def length_plot(benchmark: Mapping, path: Path) -> None:
    """What a target word costs in training, by sentence length, and how many words a second are decoded, as a PNG.

    Args:
        benchmark: the content of `benchmark_side_by_side.json`.
        path: file to write.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2))
    kinds = benchmark["kinds"]
    trained = {int(kind.split()[1]): kind for kind in kinds if kind.startswith("train ")}
    decoded = [kind for kind in kinds if kind.startswith("decode ")]
    names = list(next(iter(kinds.values()))["workers"])
    for number, name in enumerate(names):
        cost = lambda kind, key, name=name: 1000 * kinds[kind]["workers"][name][key] / kinds[kind]["words"]
        middle = [cost(kind, "median_ms") for kind in trained.values()]
        left.plot(list(trained), middle, "o-", label=name)
        left.fill_between(
            list(trained), *([cost(kind, key) for kind in trained.values()] for key in ("min_ms", "max_ms")), alpha=0.2
        )
        places = [place + (number - (len(names) - 1) / 2) * 0.38 for place in range(len(decoded))]
        right.barh(places, [1e6 / cost(kind, "median_ms") for kind in decoded], height=0.36, label=name)
    if trained:
        left.set_xscale("log", base=2)
        left.set_xticks(list(trained), list(trained))
        left.set_ylim(bottom=0)
    left.set_xlabel("tokens a sentence, source and target")
    left.set_ylabel("µs a target word, training step")
    right.set_yticks(range(len(decoded)), [kind.removeprefix("decode ") for kind in decoded])
    right.invert_yaxis()
    right.set_xlabel("target words a second, decoding")
    right.set_ylabel("sentences at once, beam")
    left.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _title(study: Mapping) -> str:
    corpus = f"{study['data'].get('corpus', '')} {study['split']}".strip()
    base = next((row["value"] for row in study["rows"] if row["variant"] == "baseline"), None)
    level = f"; baseline {base['mean']:.2f}" if base else ""
    return f"{study['paper']}: ablations on {corpus}{level}\nfilled: p < 0.05 after Holm's correction"

"""Results, studies and measurements as tables and phrases of Markdown."""

import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from research.errors import DataError

METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "f1": "F1",
    "auc": "AUC",
    "accuracy_at_threshold": "accuracy at the threshold",
    "f1_at_threshold": "F1 at the threshold",
    "exact_match": "exact match",
    "perplexity": "perplexity",
    "bleu": "BLEU",
    "bleu_lc": "BLEU (lower-cased)",
    "chrf": "chrF",
}
"""Metric names of the contract, in the order of their columns, and how a table heads them."""

RECOMPUTING = "jax recomputing"
"""The worker of a benchmark that decodes without a cache."""

HEADLINES = ("accuracy", "exact_match", "bleu", "bleu_lc")
"""Metrics that the docstring of a run's configuration shows, behind `Ours:`."""


def headline_split(metrics: Mapping, path: Path | str = "result") -> str:
    """The split whose numbers are reported: test, or dev where there is no test.

    Raises:
        DataError: there is neither.
    """
    for split in ("test", "dev"):
        if metrics.get(split):
            return split
    raise DataError(f"{path}: metrics of neither test nor dev; run it again with a dev or test split")


def shown_splits(metrics: Mapping, path: Path | str = "result") -> list[str]:
    """The splits that a table of results has a line for: that of `headline_split`, and further test splits."""
    first = headline_split(metrics, path)
    return [first, *(split for split, found in metrics.items() if found and split not in ("dev", first))]


def published(root: Path, config: str) -> dict:
    """The paper's own numbers for a run: `PAPER` of its configuration, {metric: number, "where": place in the paper}.

    Raises:
        DataError: there is no such configuration.
    """
    path = root / config
    if not path.is_file():
        raise DataError(f"{config}: no such configuration, but a result of it is committed")
    return runpy.run_path(str(path)).get("PAPER", {})


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> str:
    """A Markdown table whose columns from `numbers` on are aligned to the right."""
    rule = ["---" if column < numbers else "---:" for column in range(len(head))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *rows))


def time_text(seconds: float) -> str:
    """A duration in its two largest units: 42 s, 3 min 20 s, 1 h 05 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def spread_text(stored: Mapping) -> str:
    """mean ± standard deviation."""
    return f"{stored['mean']:.2f}" + ("" if stored["std"] is None else f" ± {stored['std']:.2f}")


def interval_text(interval: Sequence[float] | None, sign: str = "") -> str:
    """[low, high], or a dash."""
    return "–" if interval is None else f"[{interval[0]:{sign}.2f}, {interval[1]:{sign}.2f}]"


def p_text(p: float | None) -> str:
    """A p-value to three decimals, or a dash."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def value_text(value: Any) -> str:
    """A configuration value in one cell."""
    return "(" + ", ".join(map(str, value)) + ")" if isinstance(value, list) else str(value)


def machine_text(environment: Mapping) -> str:
    """The accelerators, or the processor and its cores where there are none."""
    if environment.get("platform") == "cpu" and environment.get("cpu"):
        cores = environment.get("cores", "?")
        return f"{environment['cpu']}, {cores} core{'' if cores == 1 else 's'}"
    count = environment.get("device_count", 1)
    return (f"{count} × " if count > 1 else "") + str(environment.get("device", "unknown"))


def results_table(results: Mapping[str, dict], root: Path, link: str) -> str:
    """One line a run and test split: corpus, every metric with its interval, the paper's number, size, time and
    machine; then sacreBLEU's signatures and the commands.

    Args:
        results: run -> content of its result file.
        root: the repository, where the configurations lie.
        link: what stands before a path of the repository in a link, such as "../".
    """
    lines = [(run, result, split) for run, result in results.items() for split in shown_splits(result["metrics"])]
    shown = [m for m in METRICS if any(m in result["metrics"][split] for _, result, split in lines)]
    rows = []
    for run, result, split in lines:
        measured = result["metrics"][split]
        paper = published(root, result["config"]) if split == headline_split(result["metrics"]) else {}
        theirs = ", ".join(f"{METRICS[m]} {paper[m]}" for m in METRICS if m in paper)
        intervals = bootstrap_intervals(result, split)
        rows.append(
            [
                f"[{result['paper']}/{run}]({link}{result['config']})",
                corpus_text(result["data"], split),
                f"{theirs} ({paper['where']})" if theirs and "where" in paper else theirs or "–",
                _majority(result["data"], split),
                *(_measured(measured.get(m), intervals.get(m)) for m in shown),
                str(max(stored["n"] for stored in measured.values())),
                f"{result['params']:,}",
                time_text(result["seconds"]),
                machine_text(result["environment"]),
            ]
        )
    head = ["configuration", "corpus", "paper", "largest class", *(METRICS[m] for m in shown)]
    head += ["n", "parameters", "time", "machine"]
    used = [n for n in range(len(head)) if n != 3 or any(row[n] != "–" for row in rows)]
    head, rows = [head[n] for n in used], [[row[n] for n in used] for row in rows]
    about = "Mean ± standard deviation over n seeds or folds, and the 95 % interval of the mean (Student's t)."
    if any(bootstrap_intervals(result, split) for _, result, split in lines):
        about += " Where n is 1, the brackets hold sacreBLEU's 95 % bootstrap interval over the sentences instead."
    blocks = [signatures_text(results), "".join(f"{result['command']}\n" for result in results.values())]
    return f"{about}\n\n{table(head, rows, 3)}" + "".join(f"\n```\n{block}```\n" for block in blocks if block)


def corpus_text(data: Mapping, split: str) -> str:
    """The corpus, and which of its own splits the numbers are of: mostly the one of the role's name."""
    splits = data.get("splits", {})
    own = splits.get(split) or split
    trained = splits.get("train", "train")
    return f"{data.get('corpus', '–')} ({own}{'' if trained == 'train' else f'; trained on {trained}'})"


def _majority(data: Mapping, split: str) -> str:
    """The share of the most frequent class, percent."""
    share = data.get("majority", {}).get(split)
    return "–" if share is None else f"{share:.2f}"


def bootstrap_intervals(result: Mapping, split: str) -> dict[str, list[float]]:
    """Metric -> the interval over the split's sentences, where it is stored and there is none over replicas."""
    stored = result.get("bootstrap", [])
    found = stored[0].get(split, {}) if len(stored) == 1 else {}
    return {metric: interval for metric, interval in found.items() if interval is not None}


def signatures_text(results: Mapping[str, dict]) -> str:
    """One line a distinct signature of sacreBLEU: its metric, and its runs where another run's is another one."""
    text = ""
    for metric, name in METRICS.items():
        runs: dict[str, list[str]] = {}
        for run, result in results.items():
            if metric in result["signatures"]:
                runs.setdefault(result["signatures"][metric], []).append(run)
        for signature, those in runs.items():
            text += f"{name} of {', '.join(those)}: {signature}\n" if len(runs) > 1 else f"{name}: {signature}\n"
    return text


def ours_text(result: Mapping) -> str:
    """What a configuration's docstring says of its result: the headline numbers, the time and the machine."""
    split = headline_split(result["metrics"])
    measured = {m: result["metrics"][split][m] for m in HEADLINES if m in result["metrics"][split]}
    count = max(stored["n"] for stored in result["metrics"][split].values())
    numbers = ", ".join(f"{METRICS[m]} {spread_text(stored)}" for m, stored in measured.items())
    return f"{numbers} (n = {count}); {time_text(result['seconds'])} on {machine_text(result['environment'])}"


def _measured(stored: Mapping | None, bootstrap: Sequence[float] | None) -> str:
    if stored is None:
        return "–"
    return f"{spread_text(stored)} {interval_text(stored['ci95'] or bootstrap)}".removesuffix(" –")


def ablation_table(study: Mapping) -> str:
    """One line a variant of `ablation.json`, under a sentence that says what was measured, and its command."""
    metric = METRICS.get(study["metric"], study["metric"])
    also = list(
        dict.fromkeys((s, m) for row in study["rows"] for s, found in row.get("also", {}).items() for m in found)
    )
    rows = []
    for row in study["rows"]:
        changes = [f"`{key}`: {value_text(a)} → {value_text(b)}" for key, (a, b) in row["changes"].items()]
        difference = "–" if row["difference"] is None else f"{row['difference']:+.2f}"
        rows.append(
            [
                row["variant"],
                ", ".join(changes) or f"`{study['config']}`",
                spread_text(row["value"]),
                str(row["value"]["n"]),
                difference,
                interval_text(row["ci95"], "+"),
                p_text(row["p_holm"]),
                *(spread_text(row["also"][s][m]) if m in row["also"].get(s, ()) else "–" for s, m in also),
                f"{row['params']:,}",
                time_text(row["seconds"]),
            ]
        )
    head = ["variant", "change", metric, "seeds", "difference", "95 % interval", "p (Holm)"]
    head += [*(f"{METRICS.get(m, m)} ({s})" for s, m in also), "parameters", "time"]
    return (
        f"{metric} on {corpus_text(study['data'], study['split'])}, mean ± standard deviation over seeds; "
        f"difference from the baseline paired by seed, with the interval and p-value of Student's paired t-test, "
        f"p corrected over all variants; time a seed on {machine_text(study['environment'])}.\n\n"
        f"{table(head, rows, 2)}\n```\n{study['command']}\n```\n"
    )


def recomputing_text(workers: Mapping) -> str:
    """How many times as fast decoding with a cache is, of the medians."""
    return f"{workers[RECOMPUTING]['median_ms'] / workers['jax']['median_ms']:.1f} times"


def benchmark_table(benchmark: Mapping, bleu: Mapping[str, str], link: str, plot: str = "") -> str:
    """One line a kind of work and framework of `benchmark.json`, and the command; where models are compared instead of
    frameworks, first one line a model with its size and BLEU.

    Args:
        benchmark: content of the file.
        bleu: configuration -> lower-cased BLEU of its committed result.
        link: what stands before a path of the repository in a link, such as "../".
        plot: path of its plot, if there is one.
    """
    workers = [row for measured in benchmark["kinds"].values() for row in measured["workers"].values()]
    models = {row["config"]: row for row in workers if "config" in row}
    rows = []
    for kind, measured in benchmark["kinds"].items():
        for name, row in measured["workers"].items():
            first = f"{row['first_step_seconds']:.1f} s"
            if "first_step_seconds_cached" in row:
                first += f" ({row['first_step_seconds_cached']:.1f} s with the compilation cache)"
            spread = f"{row['median_ms']:.1f} ({row['min_ms']:.1f} to {row['max_ms']:.1f})"
            ratio = f"{measured['ratio']:.2f}" if name == "jax" and measured["ratio"] else ""
            memory = f"{row['resident_mib'][0]}, {row['resident_mib'][-1]}"
            each = [
                f"{1000 * measured[unit] / row['median_ms']:,.{digits}f}" if unit in measured else ""
                for unit, digits in (("words", 0), ("sentences", 1))
            ]
            peak = f"{row['peak_mib']:,}" if "peak_mib" in row else ""
            rows.append([kind, name, spread, *each, ratio, first, memory, peak])
    head = [
        "work",
        "model" if models else "framework",
        "ms a step: median (range)",
        "target words/s",
        "sentences/s",
        "ratio",
        "start to first step",
        "MiB, first and last turn",
        "peak MiB",
    ]
    used = [n for n in range(len(head)) if any(row[n] for row in rows)]
    head, rows = [head[n] for n in used], [[row[n] for n in used] for row in rows]
    about = "Frameworks in processes of their own, taking turns; ratio: of the medians, ours to the faster PyTorch."
    for kind, measured in benchmark["kinds"].items():
        if RECOMPUTING in measured["workers"]:
            about += f" `{kind}` is {recomputing_text(measured['workers'])} as fast as recomputing the prefix."
    if models:
        about = "Models in processes of their own, taking turns; BLEU is that of the committed runs."
    sizes = [[_linked(config, link), f"{row['params']:,}", bleu.get(config, "–")] for config, row in models.items()]
    where = benchmark["environment"]
    versions = [f"{name} {where[key]}" for name, key in (("JAX", "jax"), ("PyTorch", "torch")) if where.get(key)]
    about += f" Measured on {', '.join([machine_text(where), *versions])}.\n\n"
    about += f"{benchmark['about']}\n\n" if "about" in benchmark else ""
    about += f"{table(['model', 'parameters', METRICS['bleu_lc']], sizes, 1)}\n" if models else ""
    title = "Time a target word in training, by sentence length, and target words a second in decoding"
    shown = f"\n![{title}]({link}{plot})\n" if plot else ""
    return f"{about}{table(head, rows, 2)}\n```\n{benchmark['command']}\n```\n{shown}"


def _linked(config: str, link: str) -> str:
    """A configuration's short name, linked to it."""
    return f"[{config.removeprefix('configs/').removesuffix('.py')}]({link}{config})"


def describe_table(found: Sequence[Mapping], link: str) -> str:
    """One line a configuration of `describe_*.json`, and the commands. link: the way from the document to the root."""
    rows = [
        [
            _linked(one["config"], link),
            f"{one['params']:,}",
            f"{one['flops_per_token'] / 1e6:,.0f} million",
            f"{one['tokens']:,} positions in {one['seconds']:.1f} s on {machine_text(one['environment'])}",
        ]
        for one in found
    ]
    head = ["configuration", "parameters", "operations of a training step a target position", "a step"]
    commands = "".join(f"{one['command']}\n" for one in found)
    return f"{table(head, rows, 1)}\n```\n{commands}```\n"


def orders_table(result: Mapping) -> str:
    """One line an order of each method of recall in what `evaluate_retrieval` has measured."""
    rows, first = [], next(iter(result["methods"].values()))["orders"]["recall"]
    for kind, method in result["methods"].items():
        for name, one in method["orders"].items():
            numbers = [f"{value:.2f}" for metric, value in one.items() if metric.startswith("recall@")]
            numbers += [f"{one['mrr']:.2f} {interval_text(one['mrr_ci95'])}"]
            gain = [one["difference"], one["difference_ci95"]] if "difference" in one else None
            numbers += [f"{gain[0]:+.2f} {interval_text(gain[1], '+')}" if gain else "–"]
            rows.append([kind, order_name(name, method), *numbers, f"{one['median_ms']:.1f}", f"{one['p95_ms']:.1f}"])
    head = ["recall", "order", *(metric for metric in first if "@" in metric)]
    head += ["MRR, 95 % interval", "difference, 95 % interval", "ms: median", "ms: 95 %"]
    test = result["test"]
    about = f"{test['queries']} queries among {test['candidates']} candidates, {result['k']} recalled; percent\n\n"
    return f"{about}{table(head, rows, 2)}"


def order_name(name: str, method: Mapping) -> str:
    """The name of an order, with the number in the place of w."""
    return name.replace(" w ", f" {method['w']:g} ")


def retrieval_table(found: Mapping, link: str) -> str:
    """`orders_table` of a file that `evaluate_retrieval` has written, with its run and command. link: the way from the
    document to the root."""
    about = f"{_linked(found['config'], link)} on {corpus_text(found['data'], 'test')}"
    machine = machine_text(found["environment"])
    return f"{about}, one query after another on {machine}: {orders_table(found)}\n```\n{found['command']}\n```\n"

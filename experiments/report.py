"""The results tables of README.md and the notes, and the line `Ours:` of the configurations' docstrings, from the
committed result files: python -m experiments.report."""

import json
import re
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments import cli
from experiments.statistics import summary
from research.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[1]
RESULT_KEYS = (
    *("paper", "config", "overrides", "command", "metrics", "signatures", "params", "steps", "examples_per_second"),
    *("seconds", "data", "environment"),
)
BENCHMARK_KEYS = ("paper", "command", "kinds", "environment")
DESCRIBE_KEYS = ("config", "command", "params", "flops_per_token", "tokens", "seconds", "environment")
STUDY_KEYS = ("paper", "config", "command", "metric", "split", "rows", "data", "environment")
METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "f1": "F1",
    "auc": "AUC",
    "exact_match": "exact match",
    "perplexity": "perplexity",
    "bleu": "BLEU",
    "bleu_lc": "BLEU (lower-cased)",
    "chrf": "chrF",
}
"""Metric names of the contract, in the order of their columns, and how a table heads them."""

HEADLINES = ("accuracy", "exact_match", "bleu", "bleu_lc")
"""Metrics that the docstring of a run's configuration shows, behind `Ours:`."""

OURS = re.compile(r"^Ours: .*$", re.M)
MARKER = re.compile(r"<!-- (results|ablation|benchmark|describe):(begin|end) (\w+) -->")


# Reading


def read_json(path: Path, keys: Sequence[str]) -> dict:
    """A JSON object with at least `keys`.

    Raises:
        DataError: the file is unreadable, no JSON object, or lacks a key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8; delete the file and run its command again") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}); delete the file and run its command again"
        ) from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise DataError(f"{path}: no key {', '.join(map(repr, missing))}; delete the file and run its command again")
    return content


def read_result(path: Path, paper: str) -> dict:
    """A committed `result.json`, whose means, spreads and intervals are those of its values.

    Raises:
        DataError: it breaks the contract.
    """
    result = read_json(path, RESULT_KEYS)
    if result["paper"] != paper:
        raise DataError(f"{path}: a result of paper '{result['paper']}' in the folder of '{paper}'; move it")
    metrics = result["metrics"]
    shown = ((split, *item) for split in shown_splits(metrics, path) for item in metrics[split].items())
    for split, metric, stored in shown:
        try:
            true = summary(stored["values"])
            agree = all(_close(stored[key], true[key]) for key in ("mean", "std", "ci95", "n"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: {split} {metric} lacks mean, std, ci95, n or values; run it again") from error
        if not agree:
            raise DataError(f"{path}: {split} {metric}: mean, std, ci95 or n is not that of its values; run it again")
    return result


def _close(stored: Any, true: Any) -> bool:
    if isinstance(true, list):
        return stored is not None and len(stored) == len(true) and all(map(_close, stored, true))
    return stored is true if None in (stored, true) else abs(stored - true) <= 1e-4 * max(1.0, abs(true))


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


# Formatting


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
        return f"{environment['cpu']}, {environment.get('cores', '?')} cores"
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
                f"{result['data'].get('corpus', '–')} ({split})",
                f"{theirs} ({paper['where']})" if theirs and "where" in paper else theirs or "–",
                *(_measured(measured.get(m), intervals.get(m)) for m in shown),
                str(max(stored["n"] for stored in measured.values())),
                f"{result['params']:,}",
                time_text(result["seconds"]),
                machine_text(result["environment"]),
            ]
        )
    head = ["configuration", "corpus", "paper", *(METRICS[m] for m in shown), "n", "parameters", "time", "machine"]
    about = "Mean ± standard deviation over n seeds or folds, and the 95 % interval of the mean (Student's t)."
    if any(bootstrap_intervals(result, split) for _, result, split in lines):
        about += " Where n is 1, the brackets hold sacreBLEU's 95 % bootstrap interval over the sentences instead."
    blocks = [signatures_text(results), "".join(f"{result['command']}\n" for result in results.values())]
    return f"{about}\n\n{table(head, rows, 3)}" + "".join(f"\n```\n{block}```\n" for block in blocks if block)


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
        f"{metric} on {study['data'].get('corpus', '–')} ({study['split']}), mean ± standard deviation over seeds; "
        f"difference from the baseline paired by seed, with the interval and p-value of Student's paired t-test, "
        f"p corrected over all variants; time a seed on {machine_text(study['environment'])}.\n\n"
        f"{table(head, rows, 2)}\n```\n{study['command']}\n```\n"
    )


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
            words = f"{1000 * measured['words'] / row['median_ms']:,.0f}" if "words" in measured else ""
            rows.append(
                [kind, name, spread, words, ratio, first, memory, f"{row['peak_mib']:,}" if "peak_mib" in row else ""]
            )
    head = [
        "work" if models else "batches",
        "model" if models else "framework",
        "ms a step: median (range)",
        "target words/s",
        "ratio",
        "start to first step",
        "MiB, first and last turn",
        "peak MiB",
    ]
    used = [n for n in range(len(head)) if any(row[n] for row in rows)]
    head, rows = [head[n] for n in used], [[row[n] for n in used] for row in rows]
    about = "Frameworks in processes of their own, taking turns; ratio: of the medians, ours to the faster PyTorch."
    if models:
        about = "Models in processes of their own, taking turns; parameters are those of the models that were timed."
    sizes = [[_linked(config, link), f"{row['params']:,}", bleu.get(config, "–")] for config, row in models.items()]
    about += f" Measured on {machine_text(benchmark['environment'])}.\n\n"
    about += f"{table(['model', 'parameters', METRICS['bleu_lc']], sizes, 1)}\n" if models else ""
    shown = f"\n![Training by sentence length, and decoding: words and time]({link}{plot})\n" if plot else ""
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


# Documents


def fill(text: str, blocks: Mapping[tuple[str, str], str], path: Path) -> str:
    """`text` with what stands between each pair of markers replaced by `blocks[kind, paper]`.

    Raises:
        DataError: a marker without its partner, or for a paper that is not known; the message names the line.
    """
    kept, opened, start = [], None, 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        marker = MARKER.fullmatch(line.strip())
        if marker is None:
            kept += [] if opened else [line]
            continue
        kind, edge, paper = marker.groups()
        if (edge == "begin") == (opened is not None) or (edge == "end" and opened != (kind, paper)):
            raise DataError(f"{path}, line {number}: marker '{line.strip()}' without its partner")
        if (kind, paper) not in blocks:
            raise DataError(f"{path}, line {number}: marker of an unknown paper '{paper}'")
        if edge == "begin":
            opened, start = (kind, paper), number
            kept += [line, blocks[kind, paper]]
        else:
            opened = None
            kept.append(line)
    if opened:
        raise DataError(f"{path}, line {start}: marker '<!-- {opened[0]}:begin {opened[1]} -->' without its partner")
    return "".join(kept)


def render(root: Path) -> dict[Path, tuple[str, str]]:
    """Every document with generated tables: path -> (its text, the text it should have).

    Raises:
        DataError: a document, a marker or a key of a result file is missing.
    """
    papers = sorted(path.name for path in (root / "configs").iterdir() if path.is_dir() and path.name[0] not in "._")
    found = {paper: _read_paper(root, paper) for paper in papers}
    bleu = {}
    for result in (one for results, *_ in found.values() for one in results.values()):
        if stored := result["metrics"][headline_split(result["metrics"])].get("bleu_lc"):
            bleu[result["config"]] = spread_text(stored)
    documents = {}
    for path in [root / "README.md", *(root / "paper_notes" / f"{paper}.md" for paper in papers)]:
        if not path.is_file():
            raise DataError(f"{path.relative_to(root)}: no such file; it holds the generated tables of results")
        text, blocks = path.read_text(encoding="utf-8"), {}
        for paper, (results, studies, benchmarks, described) in found.items():
            here = path.parent == root or path.stem == paper
            link = "" if path.parent == root else "../"
            blocks["results", paper] = results_table(results, root, link) if results else "No measured result yet.\n"
            blocks["ablation", paper] = "\n".join(map(ablation_table, studies)) or "No measured ablation yet.\n"
            tables = [benchmark_table(one, bleu, link, plot) for plot, one in benchmarks]
            blocks["benchmark", paper] = "\n".join(tables) or "Not measured yet.\n"
            blocks["describe", paper] = describe_table(described, link) if described else "Not measured yet.\n"
            needed = ["results"] * bool(here and results) + ["ablation"] * bool(path.stem == paper and studies)
            for kind in needed:
                if f"<!-- {kind}:begin {paper} -->" not in text:
                    raise DataError(f"{path.relative_to(root)}: no line '<!-- {kind}:begin {paper} -->'; add the pair")
        documents[path] = (text, fill(text, blocks, path.relative_to(root)))
    for results, *_ in found.values():
        for result in results.values():
            path = root / result["config"]
            text = path.read_text(encoding="utf-8")
            documents[path] = (text, OURS.sub(lambda _, result=result: f"Ours:      {ours_text(result)}", text))
    return documents


def _read_paper(root: Path, paper: str) -> tuple[dict[str, dict], list[dict], list[tuple[str, dict]], list[dict]]:
    """The results of a paper by run, its ablation studies, its benchmarks, each behind the path of its plot or nothing,
    and the configurations described."""
    paths = sorted((root / "experiments" / "results" / paper).glob("*.json"))
    studies = [read_json(path, STUDY_KEYS) for path in paths if path.stem.startswith("ablation")]
    plots = {path: path.with_suffix(".png") for path in paths if path.stem.startswith("benchmark")}
    shown = lambda plot: plot.relative_to(root).as_posix() if plot.is_file() else ""
    benchmarks = [(shown(plot), read_json(path, BENCHMARK_KEYS)) for path, plot in plots.items()]
    described = [read_json(path, DESCRIBE_KEYS) for path in paths if path.stem.startswith("describe")]
    runs = [path for path in paths if not path.stem.startswith(("ablation", "benchmark", "describe"))]
    return {path.stem: read_result(path, paper) for path in runs}, studies, benchmarks, described


# Comparisons


def compare(workdirs: Sequence[Path], split: str) -> str:
    """A Markdown table of finished translation runs on the same sentences: scores of their first replicas, bootstrap
    intervals, and p-values of sacreBLEU's paired bootstrap against the first run.

    Raises:
        ConfigError: fewer than two workdirs, or one that holds no such translations.
        DataError: the runs were not scored on the same references.
    """
    if len(set(workdirs)) < 2:
        raise ConfigError("--compare: name two or more different workdirs, the baseline first")
    from research.translation import compare as paired  # imported on use: JAX is not needed for anything else here
    from research.translation import scored_words

    systems, references, tokenize = {}, None, ""
    for workdir in workdirs:
        paths = [workdir / "replica_00" / f"{split}.{kind}.txt" for kind in ("translations", "references")]
        if not all(path.is_file() for path in paths):
            raise ConfigError(f"--compare {workdir}: holds no finished run of translation with split '{split}'")
        translations, theirs = (path.read_text(encoding="utf-8").split("\n")[:-1] for path in paths)
        if references not in (None, theirs) or len(translations) != len(theirs):
            raise DataError(f"{paths[1]}: not the references of {workdirs[0]}; compare runs on the same split")
        systems[str(workdir)], references = translations, theirs
        tokenize = scored_words(ConfigDict(read_json(workdir / "config.json", ("config",))["config"]))
    found = paired(systems, references, tokenize)
    head = ["run", *(f"{METRICS[metric]}, 95 % interval, p" for metric in found)]
    text = lambda x: f"{x.score:.2f} ± {x.ci:.2f}, {p_text(x.p_value)}"
    rows = [[name, *(text(results[n]) for results in found.values())] for n, name in enumerate(systems)]
    return table(head, rows, 1)


def main(argv: Sequence[str], root: Path = ROOT) -> None:
    """Rewrites the documents, or with `--check` only says which are stale and exits 1."""
    parser = cli.parser(
        "report",
        "Rewrites the tables of README.md and paper_notes/<paper>.md, and the line 'Ours:' of the docstrings in\n"
        "configs/<paper>, from experiments/results/<paper>/*.json.",
        """The tables stand between lines such as these:
  <!-- results:begin textcnn -->
  <!-- results:end textcnn -->
with `ablation` for `results` where an ablation study is to stand (experiments/results/<paper>/ablation*.json, a copy
of the study's W/ablation.json), `benchmark` (experiments/results/<paper>/benchmark*.json) or `describe`
(describe_*.json there, written by experiments.describe).

examples:
  python -m experiments.report
  python -m experiments.report --check
  python -m experiments.report --compare runs/transformer/multi30k_de_en runs/conv_seq2seq/multi30k_de_en""",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        type=Path,
        metavar="W",
        help="workdirs of translation runs: only print a paired bootstrap test of each against the first",
    )
    parser.add_argument("--split", default="test", help="split to compare on (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a table is stale")
    args = parser.parse_args(argv)
    if args.compare:
        print(compare(args.compare, args.split), end="")
        return
    stale = {path: text for path, (old, text) in render(root).items() if old != text}
    for path, text in stale.items():
        name = path.relative_to(root)
        if args.check:
            print(f"{name}: its tables are not those of experiments/results; run python -m experiments.report")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{name}: rewritten")
    if args.check and stale:
        raise SystemExit(1)


if __name__ == "__main__":
    cli.main(main)

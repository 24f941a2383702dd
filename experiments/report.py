"""The results tables of README.md and the notes, and the line `Ours:` of the configurations' docstrings, from the
committed result files: python -m experiments.report."""

import dataclasses
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments import cli
from experiments.files import read_json
from experiments.statistics import summary
from experiments.tables import (
    METRICS,
    ablation_table,
    benchmark_table,
    describe_table,
    headline_split,
    ours_text,
    p_text,
    results_table,
    retrieval_table,
    shown_splits,
    spread_text,
    table,
)
from research.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[1]
RESULT_KEYS = (
    *("paper", "config", "overrides", "command", "metrics", "signatures", "params", "steps", "examples_per_second"),
    *("seconds", "data", "environment"),
)
BENCHMARK_KEYS = ("paper", "command", "kinds", "environment")
DESCRIBE_KEYS = ("config", "command", "params", "flops_per_token", "tokens", "seconds", "environment")
RETRIEVAL_KEYS = ("paper", "config", "command", "k", "dev", "test", "methods", "data", "environment")
STUDY_KEYS = ("paper", "config", "command", "metric", "split", "rows", "data", "environment")
KINDS = ("ablation", "benchmark", "describe", "retrieval")
"""Beginnings of the names of files that are no results of runs."""
OURS = re.compile(r"^Ours: .*(?:\n {11}\S.*)*$", re.M)  # a long one goes on, indented
MARKER = re.compile(r"<!-- (results|ablation|benchmark|describe|retrieval):(begin|end) (\w+) -->")


# Reading


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
    for result in (one for paper in found.values() for one in paper.results.values()):
        if stored := result["metrics"][headline_split(result["metrics"])].get("bleu_lc"):
            bleu[result["config"]] = f"{spread_text(stored)} (n = {stored['n']})"
    documents = {}
    for path in [root / "README.md", *(root / "paper_notes" / f"{paper}.md" for paper in papers)]:
        if not path.is_file():
            raise DataError(f"{path.relative_to(root)}: no such file; it holds the generated tables of results")
        text, blocks = path.read_text(encoding="utf-8"), {}
        for paper, files in found.items():
            here = path.parent == root or path.stem == paper
            link = "" if path.parent == root else "../"
            results, none = files.results, "Not measured yet.\n"
            blocks["results", paper] = results_table(results, root, link) if results else "No measured result yet.\n"
            blocks["ablation", paper] = "\n".join(map(ablation_table, files.studies)) or "No measured ablation yet.\n"
            tables = [benchmark_table(one, bleu, link, plot) for plot, one in files.benchmarks]
            blocks["benchmark", paper] = "\n".join(tables) or none
            blocks["describe", paper] = describe_table(files.described, link) if files.described else none
            tables = [retrieval_table(one, link) for one in files.retrievals]
            blocks["retrieval", paper] = "\n".join(tables) or none
            needed = ["results"] * bool(here and results) + ["ablation"] * bool(path.stem == paper and files.studies)
            for kind in needed:
                if f"<!-- {kind}:begin {paper} -->" not in text:
                    raise DataError(f"{path.relative_to(root)}: no line '<!-- {kind}:begin {paper} -->'; add the pair")
        documents[path] = (text, fill(text, blocks, path.relative_to(root)))
    for files in found.values():
        for run, result in files.results.items():
            _check_owner(run, result)
            path = root / result["config"]
            text = path.read_text(encoding="utf-8")
            line = textwrap.fill(f"Ours:      {ours_text(result)}", 120, subsequent_indent=" " * 11)
            documents[path] = (text, OURS.sub(lambda _, line=line: line, text))
    return documents


def _check_owner(run: str, result: Mapping) -> None:
    """DataError where a result is not that of the configuration of its name, of which it may have other seeds."""
    config = result["config"]
    if Path(config).stem != run:
        raise DataError(f"{run}.json: a result of {config}; rename one of them, so that both have one name")
    if others := [one for one in result["overrides"] if not one.startswith("replicas=")]:
        raise DataError(f"{run}.json: of {', '.join(others)}, not of {config}; give it a configuration of its own")


@dataclasses.dataclass(frozen=True)
class Files:
    """The committed files of a paper: results by run, ablation studies, benchmarks, each behind the path of its plot or
    nothing, configurations described, evaluations of retrieval."""

    results: dict[str, dict]
    studies: list[dict]
    benchmarks: list[tuple[str, dict]]
    described: list[dict]
    retrievals: list[dict]


def _read_paper(root: Path, paper: str) -> Files:
    paths = sorted((root / "experiments" / "results" / paper).glob("*.json"))
    kinds = {name: [path for path in paths if path.stem.startswith(name)] for name in KINDS}
    shown = lambda plot: plot.relative_to(root).as_posix() if plot.is_file() else ""
    return Files(
        {path.stem: read_result(path, paper) for path in paths if not path.stem.startswith(KINDS)},
        [read_json(path, STUDY_KEYS) for path in kinds["ablation"]],
        [(shown(path.with_suffix(".png")), read_json(path, BENCHMARK_KEYS)) for path in kinds["benchmark"]],
        [read_json(path, DESCRIBE_KEYS) for path in kinds["describe"]],
        [read_json(path, RETRIEVAL_KEYS) for path in kinds["retrieval"]],
    )


# Comparisons


def compare(workdirs: Sequence[Path], split: str) -> str:
    """A Markdown table of finished translation runs on the same sentences: scores of their first replicas, bootstrap
    intervals, and p-values of sacreBLEU's paired bootstrap against the first run.

    Raises:
        ConfigError: fewer than two workdirs, one that holds no such translations, or other words for BLEU.
        DataError: the runs were not scored on the same references.
    """
    if len(set(workdirs)) < 2:
        raise ConfigError("--compare: name two or more different workdirs, the baseline first")
    from research.translation import compare as paired  # imported on use: JAX is not needed for anything else here
    from research.translation import scored_words

    systems, references, tokenize = {}, None, None
    for workdir in workdirs:
        paths = [workdir / "replica_00" / f"{split}.{kind}.txt" for kind in ("translations", "references")]
        if not all(path.is_file() for path in paths):
            raise ConfigError(f"--compare {workdir}: holds no finished run of translation with split '{split}'")
        translations, theirs = (path.read_bytes().decode().split("\n")[:-1] for path in paths)
        if references not in (None, theirs) or len(translations) != len(theirs):
            raise DataError(f"{paths[1]}: not the references of {workdirs[0]}; compare runs on the same split")
        words = scored_words(ConfigDict(read_json(workdir / "config.json", ("config",))["config"]))
        if tokenize not in (None, words):
            raise ConfigError(f"--compare {workdir}: scored by words of '{words}', {workdirs[0]} by '{tokenize}'")
        systems[str(paths[0].parent)], references, tokenize = translations, theirs, words
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
of the study's W/ablation.json), `benchmark` (experiments/results/<paper>/benchmark*.json), `describe` (describe_*.json
there, written by experiments.describe) or `retrieval` (retrieval_*.json there, by experiments.evaluate_retrieval).

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
        help="workdirs of translation runs: only print a paired bootstrap test of their first seeds against the first",
    )
    parser.add_argument("--split", help="split that --compare is of (default: test)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a table is stale")
    args = parser.parse_args(argv)
    if (args.compare and args.check) or (args.split and not args.compare):
        raise ConfigError("--split goes with --compare, --check without it")
    if args.compare:
        print(compare(args.compare, args.split or "test"), end="")
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

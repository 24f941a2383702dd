"""Times a paper's training step (and decoding) against PyTorch on this machine, in one interleaved run.

Every framework runs in a process of its own with the same allocator settings; they take turns of some steps each,
so that a machine whose speed drifts treats all alike. Printed are the medians over the turns, our ratio to the faster
of PyTorch's two, how many times as fast decoding is with a cache as without, resident memory, and the time from the
start of a process to the end of its first step, with an empty and with a filled compilation cache. PyTorch is optional
(tests/requirements.txt); without it only JAX is timed.
"""

import contextlib
import fnmatch
import importlib
import importlib.util
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from experiments import cli
from experiments.environment import environment, version
from experiments.files import write_json
from experiments.tables import RECOMPUTING, recomputing_text
from research.errors import ConfigError

EXAMPLES = """examples:
  python -m experiments.benchmark textcnn
  python -m experiments.benchmark textcnn --rounds 30 --output experiments/results/textcnn/benchmark.json
  python -m experiments.benchmark side_by_side --kinds 'train *' --rounds 5"""


@contextlib.contextmanager
def worker(paper: str, name: str, kind: str, cache: str) -> Iterator[tuple[subprocess.Popen, dict]]:
    """A running worker and what it says of itself: the seconds it took to its first step, and perhaps more."""
    words = [sys.executable, "-m", f"experiments.benchmarks.{paper}", name, kind]
    variables = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables)
    try:
        line = process.stdout.readline()
        if not line:
            raise ConfigError(f"the worker '{name}' ended before its first step; its message stands above")
        yield process, json.loads(line)
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.terminate()
        process.wait()


def ask(process: subprocess.Popen, steps: int) -> dict:
    try:
        process.stdin.write(f"{steps}\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())
    except (BrokenPipeError, ValueError) as error:
        raise ConfigError(
            f"a worker ended while it was timed ({process.args[-2]}); its message stands above"
        ) from error


def compare(paper: str, names: Sequence[str], kind: str, rounds: int, steps: int) -> dict:
    """Milliseconds a step of every turn and resident memory after it, by worker."""
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as cache:
        started = {}
        for name in names:
            try:
                started[name] = stack.enter_context(worker(paper, name, kind, cache))
            except ConfigError as error:  # without a C++ compiler, PyTorch cannot compile
                if name == names[0]:
                    raise
                print(f"{name} is skipped: {error}", file=sys.stderr)
        names = list(started)
        turns: dict[str, list[dict]] = {name: [] for name in names}
        for process, _ in started.values():
            ask(process, steps)  # warm-up
        for number in range(rounds):
            for name, (process, _) in started.items():
                turns[name].append(ask(process, steps))
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{kind}: round {number + 1}/{rounds} ")
        with worker(paper, names[0], kind, cache) as (_, warm):
            pass
    found = {}
    for name in names:
        times = [1000.0 * turn["seconds"] / steps for turn in turns[name]]
        found[name] = {
            "median_ms": statistics.median(times),
            "min_ms": min(times),
            "max_ms": max(times),
            **started[name][1],
            "resident_mib": [round(turn["resident_mib"]) for turn in turns[name]],
            "peak_mib": round(turns[name][-1]["peak_mib"]),
        }
    found[names[0]]["first_step_seconds_cached"] = warm["first_step_seconds"]
    return found


def show(kind: str, found: dict) -> float | None:
    """Prints a table; the ratio of our median to PyTorch's best, None without PyTorch."""
    print(
        f"\n{kind:12} {'median ms':>10} {'min':>8} {'max':>8} {'first step s':>13} {'resident MiB, first to last':>28}"
    )
    for name, row in found.items():
        first = f"{row['first_step_seconds']:.1f}"
        if "first_step_seconds_cached" in row:
            first += f" ({row['first_step_seconds_cached']:.1f} cached)"
        memory = f"{row['resident_mib'][0]} to {row['resident_mib'][-1]}"
        print(f"{name:14} {row['median_ms']:8.1f} {row['min_ms']:8.1f} {row['max_ms']:8.1f} {first:>18} {memory:>20}")
    if RECOMPUTING in found:
        print(f"{recomputing_text(found)} as fast as recomputing the prefix")
    others = [row["median_ms"] for name, row in found.items() if name.startswith("torch")]
    if not others:
        return None
    ratio = found["jax"]["median_ms"] / min(others)
    print(f"ratio of medians, JAX to the faster PyTorch: {ratio:.3f}")
    return ratio


def chosen(kinds: Mapping[str, tuple], patterns: str) -> dict[str, tuple]:
    """Those of `kinds` that a comma-separated list of names or patterns (`train *`) names; all where it is empty.

    Raises:
        ConfigError: a name or pattern matches nothing."""
    names = [part.strip() for part in patterns.split(",")] if patterns else ["*"]
    for name in names:
        if not fnmatch.filter(kinds, name):
            raise ConfigError(f"--kinds: there is no '{name}'; there are {', '.join(kinds)}")
    return {kind: entry for kind, entry in kinds.items() if any(fnmatch.fnmatch(kind, name) for name in names)}


def main(argv: Sequence[str]) -> None:
    others = ("__init__", "worker", "translation")
    papers = sorted(p.stem for p in (Path(__file__).parent / "benchmarks").glob("*.py") if p.stem not in others)
    parser = cli.parser("benchmark", __doc__, EXAMPLES)
    parser.add_argument("paper", choices=papers, help="whose steps; side_by_side: the translators' against one another")
    parser.add_argument("--rounds", type=int, default=15, help="turns of every framework (default: 15)")
    parser.add_argument("--steps", type=int, help="steps a turn (default: what suits the kind of work, 1 to 20)")
    parser.add_argument("--kinds", default="", help="kinds of work: names or patterns with commas (default: all)")
    figures = "JSON file for the figures; side_by_side draws FILE.png beside it"
    parser.add_argument("--output", type=cli.output_file, metavar="FILE.json", help=figures)
    flags = parser.parse_args(argv)
    if flags.rounds < 1 or (flags.steps is not None and flags.steps < 1):
        raise ConfigError("--rounds and --steps must be at least 1")
    paper = importlib.import_module(f"experiments.benchmarks.{flags.paper}")
    asked = chosen(paper.KINDS, flags.kinds)
    without = importlib.util.find_spec("torch") is None
    if without and any(name.startswith("torch") for workers, _ in asked.values() for name in workers):
        print("PyTorch is skipped: it is not installed (pip install -r tests/requirements.txt)", file=sys.stderr)
    kinds = {}
    for kind, (workers, steps) in asked.items():
        names = [name for name in workers if not (without and name.startswith("torch"))]
        found = compare(flags.paper, names, kind, flags.rounds, flags.steps or steps)
        kinds[kind] = {"workers": found, "ratio": show(kind, found)}
        kinds[kind] |= getattr(paper, "AMOUNTS", {}).get(kind, {})
    if flags.output:
        words = ["python", "-m", "experiments.benchmark", flags.paper, "--rounds", str(flags.rounds)]
        words += ["--steps", str(flags.steps)] if flags.steps else []
        words += ["--kinds", flags.kinds] if flags.kinds else []
        record = {"paper": flags.paper, "about": paper.__doc__.strip(), "command": shlex.join(words), "kinds": kinds}
        record["environment"] = environment() | {"torch": version("torch")}
        write_json(flags.output, record)
        if all("words" in measured for measured in kinds.values()):
            from experiments.plots import length_plot

            length_plot(record, flags.output.with_suffix(".png"))


if __name__ == "__main__":
    cli.main(main)

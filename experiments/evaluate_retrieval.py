"""Recall alone against recall and rerank, on the labelled pairs of a run's own test split turned into retrieval.

The candidates are all second texts of the split, each once. Every first text with a pair of class 1 is a query, and the
second texts of these pairs are relevant. What a query is not paired with counts as not relevant, though some of it may
ask the same, so that every number is too low; a query's own text is no candidate for it.

Reported are the share of the relevant texts among the first 1, 5 and k (recall@), the reciprocal rank of the first
relevant one among the k recalled, 0 where there is none, in the mean over all queries (MRR), both in percent, and the
milliseconds a query takes, one after another. `rerank` ranks what was recalled by the model's probability alone,
`rerank + w recall` by its log-odds plus w times the score of the recall. That w has the highest MRR on the run's dev
split, whose queries have as many candidates as those of the test split. With --candidates, second texts of the training
part stand beside them, but for those that it pairs with a query as the same. Where all queries were asked, the workdir
keeps each method's w, and `answer` takes it from there.
Intervals are of the bootstrap over the queries; the difference from recall alone is paired by query.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from tqdm import tqdm

from experiments import cli
from experiments.answer import RETRIEVAL, Finder, matching_run, weighed
from experiments.environment import environment
from experiments.files import read_json, write_json
from experiments.predict import Run
from experiments.tables import order_name, orders_table
from experiments.workdir import splits_of
from research import datasets
from research.codecs import roles
from research.corpora import Corpus
from research.errors import ConfigError, DataError
from research.retrieval import RECALL, Retrieval, best, combined, recall_at, reciprocal_rank

EXAMPLES = """examples:
  python -m experiments.evaluate_retrieval --workdir runs/esim/lcqmc_small --manual_dir ~/corpora
  python -m experiments.evaluate_retrieval --workdir runs/esim/lcqmc_small --candidates 10000
  python -m experiments.evaluate_retrieval --workdir runs/esim/afqmc --recall bm25 --queries 500 --output FILE.json"""

WEIGHTS = (0.0, *(2.0**power for power in range(-2, 8)))
"""What w is chosen from: scores of BM25 go up to some tens, cosines up to 1."""
SAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Found:
    """What was recalled for a query, the nearest first, and the milliseconds that recall and rerank took."""

    relevant: Bool[np.ndarray, " K"]
    recalled: Float[np.ndarray, " K"]
    probabilities: Float[np.ndarray, " K"]
    count: int
    recall_ms: float
    rerank_ms: float

    def hits(self, weight: float | None) -> Bool[np.ndarray, " K"]:
        """`relevant` in the order of the rerank with this weight, or, without one, of the recall."""
        if weight is None:
            return self.relevant
        return self.relevant[best(combined(self.probabilities, self.recalled, weight), len(self.relevant))]


def load_corpus(run: Run, *, data_dir, manual_dir) -> Corpus:
    """The corpus of the run; DataError where it is not the one that it was trained on."""
    if not run.record["version"]:
        raise ConfigError(f"--workdir: weights that were imported from {run.record['corpus']}, which is no corpus")
    corpus = datasets.load(run.config, data_dir=data_dir, manual_dir=manual_dir)
    if corpus.digest != run.record["digest"]:
        raise DataError(
            f"corpus '{corpus.name}': not what the run was trained on (digest {run.record['digest'][:12]}, now "
            f"{corpus.digest[:12]}); restore the files, or train it again"
        )
    return corpus


def split_pairs(corpus: Corpus, config) -> dict[str, list[tuple[str, str, int]]]:
    """The labelled pairs of the splits `train`, `dev` and `test` of a run's first replica."""
    columns = [*roles(config).values(), config.data.label]
    by_split = {
        split: [pair for pair in zip(*(found[name] for name in columns)) if pair[-1] >= 0]
        for split, found in corpus.splits.items()
    }
    pairs = [pair for found in by_split.values() for pair in found]
    places = datasets.split_indices({split: len(found) for split, found in by_split.items()}, config, 0)
    return {split: [pairs[place] for place in chosen] for split, chosen in places.items()}


def retrieval_tasks(
    pairs: Mapping[str, Sequence[tuple[str, str, int]]], queries: int, candidates: int
) -> dict[str, Retrieval]:
    """The tasks of `dev` and `test`: up to `queries` queries (0: all), among at least so many candidates where the
    training part has them, and in `dev` among as many as in `test`."""
    train = [pairs["train"][place] for place in np.random.default_rng(0).permutation(len(pairs["train"]))]

    def among(task: Retrieval, size: int) -> Retrieval:
        known = set(task.queries)
        same = {second for first, second, label in train if label == 1 and first in known}
        return task.among((second for _, second, _ in train if second not in same), size)

    test = among(Retrieval.of_pairs(pairs["test"]), candidates)
    dev = among(Retrieval.of_pairs(pairs["dev"]), len(test.candidates))
    return {"dev": sample(dev, queries), "test": sample(test, queries)}


def sample(task: Retrieval, count: int) -> Retrieval:
    """`count` of the queries, drawn at random with a fixed seed; all, if there are not so many or count is 0."""
    if not 0 < count < len(task.queries):
        return task
    chosen = sorted(np.random.default_rng(0).permutation(len(task.queries))[:count])
    return Retrieval([task.queries[n] for n in chosen], task.candidates, [task.relevant[n] for n in chosen])


def search(finder: Finder, task: Retrieval, kind: str, k: int, progress: Callable[[], object]) -> list[Found]:
    """For each query what was recalled by the method `kind`, and its probabilities."""
    found, own = [], {text: place for place, text in enumerate(task.candidates)}

    def one(query: str, relevant: set[int]) -> Found:
        began = time.perf_counter()
        scores = finder.recall(kind, query)
        chosen = best(scores, k + 1)  # one of them may be the query's own text
        chosen = chosen[chosen != own.get(query, -1)][:k]
        recalled = time.perf_counter()
        probabilities = finder.rerank(query, chosen)
        ended = time.perf_counter()
        hits = np.isin(chosen, list(relevant))
        times = (1000.0 * (recalled - began), 1000.0 * (ended - recalled))
        return Found(hits, scores[chosen], probabilities, len(relevant), *times)

    one(task.queries[0], task.relevant[0])  # warm-up
    for query, relevant in zip(task.queries, task.relevant):
        found.append(one(query, relevant))
        progress()
    return found


def reciprocal_ranks(found: Sequence[Found], weight: float | None) -> Float[np.ndarray, " Q"]:
    """In percent."""
    return 100.0 * np.array([reciprocal_rank(one.hits(weight)) for one in found])


def bootstrap(values: Float[np.ndarray, " Q"]) -> list[float]:
    """The 95 % interval of the mean: percentiles of the means of samples drawn with replacement, seed 0."""
    draw = np.random.default_rng(0)
    means = [float(np.mean(values[draw.integers(0, len(values), len(values))])) for _ in range(SAMPLES)]
    return [float(bound) for bound in np.quantile(means, (0.025, 0.975))]


def scores(found: Sequence[Found], weight: float | None, k: int) -> dict:
    """The metrics of one order, in percent, and of its difference from recall alone."""
    ranks = reciprocal_ranks(found, weight)
    measured = {
        f"recall@{n}": 100.0 * float(np.mean([recall_at(one.hits(weight), n, one.count) for one in found]))
        for n in sorted({1, min(5, k), k})
    }
    measured |= {"mrr": float(np.mean(ranks)), "mrr_ci95": bootstrap(ranks)}
    times = [one.recall_ms + (0.0 if weight is None else one.rerank_ms) for one in found]
    measured |= {"median_ms": float(np.median(times)), "p95_ms": float(np.quantile(times, 0.95))}
    if weight is not None:
        gains = ranks - reciprocal_ranks(found, None)
        low, high = bootstrap(gains)
        measured |= {"difference": float(np.mean(gains)), "difference_ci95": [low, high], "above_zero": low > 0.0}
    return measured


def evaluate(run: Run, tasks: Mapping[str, Retrieval], kinds: Sequence[str], k: int) -> dict:
    """Metrics by method and order, w by method, and the numbers of queries and candidates."""
    found = {}
    for split, task in tasks.items():
        if not task.queries:
            raise DataError(f"corpus '{run.record['corpus']}': the {split} split has no two different texts of class 1")
        with _bar(f"{split}: candidates", len(task.candidates)) as bar:
            finder = Finder(run, task.candidates, kinds, k, bar.update)
        if cut := finder.long + sum(finder.is_long(query) for query in task.queries):
            limits = " and ".join(map(str, finder.limits))
            print(
                f"{split}: {cut} queries and candidates are longer than {limits} tokens and were cut", file=sys.stderr
            )
        with _bar(f"{split}: queries", len(kinds) * len(task.queries)) as bar:
            found[split] = {kind: search(finder, task, kind, k, bar.update) for kind in kinds}
    methods = {}
    for kind in kinds:
        mrr = {weight: float(np.mean(reciprocal_ranks(found["dev"][kind], weight))) for weight in WEIGHTS}
        weight = max(mrr, key=mrr.get)
        orders = {"recall": None, "rerank": 0.0, "rerank + w recall": weight}
        measured = {name: scores(found["test"][kind], w, k) for name, w in orders.items()}
        methods[kind] = {"w": weight, "dev_mrr": {f"{w:g}": value for w, value in mrr.items()}, "orders": measured}
    counts = {split: {"queries": len(t.queries), "candidates": len(t.candidates)} for split, t in tasks.items()}
    return {"k": k, **counts, "methods": methods}


def _bar(what: str, total: int) -> tqdm:
    return tqdm(desc=what, total=total, disable=not sys.stderr.isatty(), leave=False)


def verdicts(result: dict) -> str:
    """Lines that say whether each order is better than recall alone."""
    return "".join(
        f"{kind}, {order_name(name, method)}: MRR {'' if one['above_zero'] else 'not '}above that of recall alone\n"
        for kind, method in result["methods"].items()
        for name, one in method["orders"].items()
        if "above_zero" in one
    )


def main(argv: Sequence[str]) -> None:
    parser = cli.parser("evaluate_retrieval", __doc__, EXAMPLES)
    parser.add_argument("--workdir", required=True, type=Path, help="folder of a finished run of matching")
    parser.add_argument("--recall", choices=RECALL, action="append", help="a method; may be repeated (default: all)")
    parser.add_argument("--k", type=int, default=20, help="how many texts are recalled (default: 20)")
    parser.add_argument("--queries", type=int, default=0, help="of a split, drawn at random (default: 0, all)")
    parser.add_argument(
        "--candidates",
        type=int,
        default=0,
        help="fill up to so many with second texts of the training part (default: 0, those of the test split)",
    )
    parser.add_argument("--output", type=cli.output_file, metavar="FILE.json", help="also writes the numbers there")
    flags = parser.parse_args(argv)
    if flags.k < 1:
        raise ConfigError(f"--k must be at least 1, got {flags.k}")
    for name in ("queries", "candidates"):
        if (count := getattr(flags, name)) < 0:
            raise ConfigError(f"--{name} must be at least 0, got {count}")
    cli.set_up_jax()
    run = matching_run(flags.workdir)
    corpus = load_corpus(run, data_dir=flags.data_dir, manual_dir=flags.manual_dir)
    kinds = list(dict.fromkeys(flags.recall or RECALL))
    tasks = retrieval_tasks(split_pairs(corpus, run.config), flags.queries, flags.candidates)
    result = evaluate(run, tasks, kinds, flags.k)
    print(f"{orders_table(result)}\n{verdicts(result)}", end="")
    if flags.k == 1:
        sys.stderr.write("with k = 1 there is no order to find a weight for; the bot keeps those that it has\n")
    elif not flags.queries:
        found = {kind: {"w": one["w"], "k": flags.k} for kind, one in result["methods"].items()}
        write_json(flags.workdir / RETRIEVAL, {"methods": weighed(flags.workdir) | found})
    if flags.output:
        facts = {"corpus": corpus.name, "version": corpus.version, "digest": corpus.digest}
        facts["splits"] = splits_of(run.config)
        record = {"paper": run.config.paper, "config": read_json(flags.workdir / "result.json")["config"]}
        record |= {"command": cli.command("evaluate_retrieval", argv), **result, "data": facts}
        write_json(flags.output, record | {"environment": environment()})


if __name__ == "__main__":
    cli.main(main)

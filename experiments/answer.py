"""Answers questions out of a file of known ones: recalls the nearest by their words, and reranks them with a finished
run of matching, by the probability that two questions ask the same.

--faq names a file of lines question, tab, answer (UTF-8). On a terminal, questions are typed at a prompt, which Ctrl-D
or Ctrl-C leaves. From a file or a pipe every line is a question, and one JSON object a line comes out in the order of
the input: `line` (its number, from 1), `text`, `answer`, `score` (the probability), `question` (the known one that is
answered), `runners_up` (the next best, with `question`, `answer` and `score`) and, where there is something to say,
`warning`. Where the first one's score is below the threshold, a question that is in the FAQ word for word has its
answer all the same; for others `answer` and `question` are null, `reason` says why, and `runners_up` begins with the
best.

A question that stands twice in the FAQ is known once if its answers are the same; otherwise, and where two questions
are the same to the run, as with other widths of letters, the program ends with both line numbers. Texts longer than the
run's longest bucket are cut, with a warning. Of a FAQ with fewer than --k questions all are reranked. For each known
question the encoder's states are kept: about 24 kB at hidden size 300 and ten words.
"""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from experiments import cli
from experiments.files import REMEDY, read_json
from experiments.predict import NOT_UTF8, Run, is_utf8, open_input, read_blocks, record_of
from research.corpora.reading import raw_lines
from research.errors import ConfigError, DataError
from research.retrieval import RECALL, Reranker, best, combined, make_recall

EXAMPLES = """examples:
  python -m experiments.answer --workdir runs/esim/lcqmc_small --faq faq.txt
  echo "怎么还款" | python -m experiments.answer --workdir runs/esim/lcqmc_small --faq faq.txt
  python -m experiments.answer --workdir runs/esim/lcqmc_small --faq faq.txt --recall tfidf --input questions.txt"""

RUNNERS_UP = 3
RETRIEVAL = "retrieval.json"
"""The weights that `evaluate_retrieval` has found for a run, by recall, in its workdir."""
LINE = "write lines of question, tab, answer"


@dataclasses.dataclass(frozen=True)
class Faq:
    """Known questions, each once. lines: where they stand in the file, from 1. repeated: lines that were left out, of
    a question that stood there before, with the same answer."""

    path: Path
    questions: list[str]
    answers: list[str]
    lines: list[int]
    repeated: list[int]


def read_faq(path: Path) -> Faq:
    """The file of `--faq`; DataError with the line that is wrong."""
    known: dict[str, tuple[int, str]] = {}
    repeated = []
    for number, line in enumerate(raw_lines(path, utf8_only=True, remedy=LINE), 1):
        question, answer = _entry(line, f"{path}:{number}")
        first, theirs = known.setdefault(question, (number, answer))
        if theirs != answer:
            raise DataError(f"{path}:{number}: line {first} has the same question with another answer; remove one")
        if first != number:
            repeated.append(number)
    answers = [answer for _, answer in known.values()]
    return Faq(path, list(known), answers, [number for number, _ in known.values()], repeated)


def _entry(line: str, place: str) -> tuple[str, str]:
    """Question and answer, without surrounding blanks."""
    fields = [field.strip(" \r") for field in line.split("\t")]
    if len(fields) != 2:
        found = f"{len(fields)} columns" if line.strip() else "the line is empty"
        raise DataError(f"{place}: {found}; {LINE}")
    for name, field in zip(("question", "answer"), fields):
        if not field:
            raise DataError(f"{place}: the {name} is empty; {LINE}")
    return fields[0], fields[1]


def matching_run(workdir: Path) -> Run:
    """The finished run of matching in `workdir`, of two classes; else ConfigError."""
    record = record_of(workdir)
    config = record["config"]
    if config["task"] != "matching":
        raise ConfigError(f"--workdir {workdir}: holds a run of {config['task']}; name one of matching")
    if len(names := record["label_names"]) != 2:
        raise ConfigError(
            f"--workdir {workdir}: its run has {len(names)} classes ({', '.join(names)}); name one of two, of which "
            "the second means the same"
        )
    if config["data"]["tokenizer"] == "parse":
        raise ConfigError(f"--workdir {workdir}: its run reads parses; name one of plain texts")
    return Run(workdir)


def threshold_of(workdir: Path) -> float:
    """The probability from which on class 1 is chosen for the highest F1 on the dev split of the run, of its first
    replica; 0.5 where there is none."""
    path = workdir / "result.json"
    metrics = read_json(path, ("metrics",))["metrics"]
    with contextlib.suppress(AttributeError, TypeError, KeyError, IndexError):
        stored = metrics.get("dev", {}).get("threshold")
        if stored is None:
            return 0.5
        if 0.0 <= (value := stored["values"][0]) <= 1.0:
            return value
    raise DataError(f"{path}: the dev split's threshold is no probability; {REMEDY}")


def weighed(workdir: Path) -> dict[str, dict]:
    """What `evaluate_retrieval` has found for the run, by recall: `w`, the best weight of recall's score in the order,
    and `k`, how many it recalled."""
    path = workdir / RETRIEVAL
    if not path.is_file():
        return {}
    methods = read_json(path, ("methods",))["methods"]
    with contextlib.suppress(AttributeError, TypeError, KeyError):
        if all(0.0 <= one["w"] < float("inf") for one in methods.values()):
            return methods
    raise DataError(f"{path}: holds no weights by recall; {REMEDY}")


class Finder:
    """Recall of a list of texts by the methods `kinds`, and the rerank of k of them, in a run's own tokens.

    texts: their tokens. limits: the longest query and text that are read whole; long: how many texts are longer."""

    def __init__(
        self,
        run: Run,
        texts: Sequence[str],
        kinds: Sequence[str],
        k: int,
        progress: Callable[[int], None] = lambda done: None,
    ):
        self.premise, hypothesis = (run.codecs[role] for role in run.task.roles)
        tokens, known = [hypothesis.split(text) for text in texts], hypothesis.vocabulary
        self.texts = [hypothesis.own(text) for text in tokens]
        self._recall = {kind: make_recall(kind, self.texts, known.ids, run.variables) for kind in kinds}
        ids = [known.encode(text, skip=hypothesis.skip) for text in tokens]
        self.limits = [dict(run.buckets[-1])[role] for role in run.task.roles]
        self.long = sum(len(text) > self.limits[1] for text in ids)
        self.reranker = Reranker(run.task, run.variables, ids, run.buckets, min(k, len(texts)), progress)

    def words(self, query: str) -> list[str]:
        """The tokens that recall compares."""
        return self.premise.own(self.premise.split(query))

    def knows(self, words: Sequence[str]) -> bool:
        """Whether one of the tokens is in the run's vocabulary."""
        return any(word in self.premise.vocabulary.ids for word in words)

    def is_long(self, query: str) -> bool:
        """Whether the model reads a part of it alone."""
        return len(self.premise.encode(query)) > self.limits[0]

    def recall(self, kind: str, query: str) -> Float[np.ndarray, " N"]:
        """A score of every text."""
        return self._recall[kind].scores(self.words(query))

    def rerank(self, query: str, chosen: Int[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
        """The probability of class 1 for the texts at `chosen`."""
        return self.reranker.scores(self.premise.encode(query), chosen)


class Bot:
    """Answers to questions, out of a FAQ."""

    def __init__(self, run: Run, faq: Faq, recall: str, k: int, *, weight: float, threshold: float):
        self.faq, self.kind, self.weight, self.threshold = faq, recall, weight, threshold
        with tqdm(desc="questions", total=len(faq.questions), disable=not sys.stderr.isatty()) as bar:
            self.finder = Finder(run, faq.questions, [recall], k, bar.update)
        self.same: dict[tuple[str, ...], int] = {}
        for place, (line, words) in enumerate(zip(faq.lines, self.finder.texts)):
            if not words:
                raise DataError(
                    f"{faq.path}:{line}: the tokeniser of the run leaves nothing of the question; reword it"
                )
            first = self.same.setdefault(tuple(words), place)
            if faq.answers[first] != faq.answers[place]:
                raise DataError(
                    f"{faq.path}:{line}: to the run this is the question of line {faq.lines[first]}, which has another "
                    "answer; remove one, or reword it"
                )
        self.readable = np.array([self.finder.knows(words) for words in self.finder.texts])
        if not self.readable.any():
            raise DataError(f"{faq.path}: no question has a token that is in the vocabulary of the run")
        self.k = min(k, np.count_nonzero(self.readable))

    def reply(self, text: str) -> dict:
        """What is said to a question: the object of a line, but for the line's number."""
        words = self.finder.words(text)
        record = {"text": text, "answer": None, "score": None, "question": None, "runners_up": []}
        same = self.same.get(tuple(words))
        if same is None and not self.finder.knows(words):
            reason = "is in the vocabulary of the run" if words else "stands in the question"
            return record | {"reason": f"no token {reason}"}
        places, scores = self._ranked(text)
        if same is not None:  # that two equal questions ask the same needs no model
            others = places != same
            own = self.finder.rerank(text, np.array([same])) if others.all() else scores[~others]
            places, scores = np.append(same, places[others]), np.append(own, scores[others])
        doubted = same is None and scores[0] < self.threshold
        found = [
            {"question": self.faq.questions[place], "answer": self.faq.answers[place], "score": round(float(score), 6)}
            for place, score in zip(places[: RUNNERS_UP + 1], scores)
        ]
        if not doubted:
            record |= found[0] | {"runners_up": found[1:]}
        else:
            reason = f"the score {scores[0]:.2f} of the first is below the threshold {self.threshold:.2f}"
            record |= {"score": found[0]["score"], "runners_up": found[:RUNNERS_UP], "reason": reason}
        if self.finder.is_long(text):
            count = len(self.finder.premise.encode(text))
            record["warning"] = f"cut to the first {self.finder.limits[0]} of {count} tokens"
        return record

    def _ranked(self, text: str) -> tuple[Int[np.ndarray, " K"], Float[np.ndarray, " K"]]:
        """Places of the recalled questions, the best first, and their probabilities. One without a token of the run's
        vocabulary is not among them: any two of those are the same to the model."""
        recalled = np.where(self.readable, self.finder.recall(self.kind, text), -np.inf)
        chosen = best(recalled, self.k)
        probabilities = self.finder.rerank(text, chosen)
        order = best(combined(probabilities, recalled[chosen], self.weight), self.k)
        return chosen[order], probabilities[order]

    def objects(self, lines: Sequence[bytes], first: int) -> Iterator[dict]:
        """One object a line; `first` is the number of the first line."""
        for number, line in enumerate(lines, first):
            text = line.decode("utf-8", errors="replace")
            record = {"line": number, **self.reply(text)}
            if not is_utf8(line):
                record["warning"] = "; ".join(filter(None, [NOT_UTF8, record.get("warning")]))
            yield record


def spoken(record: dict) -> str:
    """An object as a reader on a terminal wants it."""
    lines = [record["answer"], f"  {record['score']:.2f}  {record['question']}"] if record["answer"] else []
    lines = lines or [f"I do not know: {record['reason']}."]
    if record["runners_up"]:
        lines.append("The runners-up:" if record["answer"] else "The nearest questions:")
    lines += [f"  {one['score']:.2f}  {one['question']}" for one in record["runners_up"]]
    return "\n".join([*lines, *([f"({record['warning']})"] if "warning" in record else [])])


def converse(bot: Bot, write: Callable[[dict], str]) -> None:
    """Questions at a prompt, with the history of the readline library where Python has it, until Ctrl-D or Ctrl-C."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            if (text := input("> ")).strip():
                print(write(bot.reply(text)))
    print()


def say(message: str) -> None:
    sys.stderr.write(f"answer: {message}\n")


def main(argv: Sequence[str]) -> None:
    parser = cli.parser("answer", __doc__, EXAMPLES)
    parser.add_argument("--workdir", required=True, type=Path, help="folder of a finished run of matching")
    parser.add_argument("--faq", required=True, type=Path, help="file of lines question, tab, answer")
    parser.add_argument("--recall", choices=RECALL, default="bm25", help="how questions are recalled (default: bm25)")
    parser.add_argument("--k", type=int, default=20, help="how many questions are recalled (default: 20)")
    parser.add_argument(
        "--weight",
        type=float,
        help="of recall's score, beside the log-odds of the probability, in the order (default: what "
        "evaluate_retrieval has found best for the run and this recall, else 0)",
    )
    parser.add_argument(
        "--threshold", type=float, help="least probability of an answer (default: the run's, of its dev split, or 0.5)"
    )
    parser.add_argument("--input", default="-", help="file of questions (default: a prompt, or standard input)")
    parser.add_argument("--json", action="store_true", help="replies at the prompt as JSON objects, too")
    flags = parser.parse_args(argv)
    if flags.k < 1:
        raise ConfigError(f"--k must be at least 1, got {flags.k}")
    if flags.threshold is not None and not 0.0 <= flags.threshold <= 1.0:
        raise ConfigError(f"--threshold is a probability, from 0 to 1, got {flags.threshold}")
    if flags.weight is not None and not 0.0 <= flags.weight < float("inf"):
        raise ConfigError(f"--weight must be {'finite' if flags.weight > 0 else 'at least 0'}, got {flags.weight}")
    faq = read_faq(flags.faq)
    if faq.repeated:
        lines = f"{len(faq.repeated)} lines repeat a question and its answer"
        say(f"{flags.faq}: {lines} and were left out, the first is line {faq.repeated[0]}")
    cli.set_up_jax()
    run = matching_run(flags.workdir)
    threshold = threshold_of(flags.workdir) if flags.threshold is None else flags.threshold
    weights = weighed(flags.workdir) if flags.weight is None else {flags.recall: {"w": flags.weight, "k": flags.k}}
    found = weights.get(flags.recall)
    weight = found["w"] if found else 0.0
    file = open_input(flags.input)
    bot = Bot(run, faq, flags.recall, flags.k, weight=weight, threshold=threshold)
    if bot.finder.long:
        say(f"{bot.finder.long} known questions are longer than {bot.finder.limits[1]} tokens and were cut")
    if unreadable := np.count_nonzero(~bot.readable):
        say(f"{unreadable} known questions have no token of the run's vocabulary: they answer to their own words alone")
    ranked = f", ranked with {weight:g} times the score of {flags.recall}" if weight else ""
    if not found:
        ranked = f", ranked by the model alone: evaluate_retrieval finds what weight the score of {flags.recall} needs"
    if weight and (k := found.get("k", flags.k)) != flags.k:
        say(f"the weight of {flags.recall} was found with --k {k}")
    say(f"{len(faq.questions)} questions; threshold {threshold:.2f} of class '{run.record['label_names'][1]}'{ranked}")
    as_json = lambda record: json.dumps(record, ensure_ascii=False)
    if flags.input == "-" and sys.stdin.isatty() and sys.stdout.isatty():
        converse(bot, as_json if flags.json else spoken)
        return
    began, count = time.monotonic(), 0
    try:
        with file:
            for lines in read_blocks(file):
                for record in bot.objects(lines, count + 1):
                    count += 1  # first: who has read a line and then interrupts finds it counted
                    print(as_json(record), flush=True)
    except KeyboardInterrupt:
        raise cli.Interrupted(f"interrupted after {count} lines") from None
    seconds = time.monotonic() - began
    say(f"{count} lines in {seconds:.1f} s, {1000 * seconds / max(count, 1):.1f} ms a line")


if __name__ == "__main__":
    cli.main(main)

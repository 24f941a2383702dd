"""Labels lines of text with a finished run: one JSON object a line, in the order of the input.

Every line gets an object with the keys `line` (its number, from 1), `text`, `label`, `probability` (of the label),
`probabilities` (by class), `unknown` (how many tokens are not in the vocabulary) and, where there is something to say,
`warning`: bytes that are not UTF-8 (read as U+FFFD), a text cut to the longest length of the run. A line without any
token has no label: its `label` is null.
"""

import codecs
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ml_collections import ConfigDict
from tqdm import tqdm

from experiments import cli
from experiments.workdir import read_json
from research import datasets
from research.checkpoints import load_arrays
from research.errors import ConfigError, DataError
from research.evaluation import Evaluator
from research.tasks import make_task
from research.text import UNKNOWN, Vocabulary, tokenizer

EXAMPLES = """examples:
  echo "not bad at all" | python -m experiments.predict --workdir runs/quickstart
  python -m experiments.predict --workdir runs/mr --input reviews.txt > labels.jsonl
  python -m experiments.predict --workdir runs/mr --replica 3 --input reviews.txt"""

BLOCK = 1 << 20  # bytes read and labelled at once


class Predictor:
    """A finished run's model, vocabulary and tokeniser."""

    def __init__(self, workdir: Path, replica: int = 0):
        if not (workdir / "result.json").is_file():
            raise ConfigError(f"--workdir {workdir}: holds no finished run; finish it with python -m experiments.run")
        run = read_json(workdir / "config.json")
        config = ConfigDict(run["config"])
        count = config.replicas * config.folds
        if not 0 <= replica < count:
            raise ConfigError(f"--replica {replica}: the run has replicas 0 to {count - 1}")
        folder = workdir / f"replica_{replica:02d}"
        self.data, self.label_names = config.data, run["label_names"]
        self.vocabulary = Vocabulary.load(folder / "vocabulary.json")
        self.variables = load_arrays(folder / "best")
        self.split = tokenizer(config.data.tokenizer, config.data.lower)
        task = make_task(config, vocab_size=run["vocab_size"], num_classes=len(self.label_names))
        self.evaluator = Evaluator(task, config.data.buckets, config.train.eval_batch_size)
        self.variables = self.evaluator.placement.put(self.variables)

    def label(self, lines: Sequence[bytes], first: int = 1) -> Iterator[dict]:
        """One object a line; `first` is the number of the first line."""
        texts = [line.decode("utf-8", errors="replace") for line in lines]
        tokens = [self.split(text) for text in texts]
        table = datasets.encode(tokens, [0] * len(lines), self.vocabulary, self.data)
        (found,) = self.evaluator.predict(self.variables, [table], [None])
        for number, (line, text, words, row) in enumerate(zip(lines, texts, tokens, found), first):
            yield self._object(number, line, text, words, row)

    def _object(self, number: int, line: bytes, text: str, words: Sequence[str], row) -> dict:
        limit, warnings = self.data.buckets[-1], []
        ids = self.vocabulary.encode(words)
        unknown = sum(id == UNKNOWN for id in ids)
        if not _is_utf8(line):
            warnings.append("not UTF-8: undecodable bytes read as U+FFFD")
        if len(words) > limit:
            warnings.append(f"cut to the first {limit} of {len(words)} tokens")
        record = {"line": number, "text": text, "label": None}
        if words and (unknown < len(ids) or self.data.unknown != "skip"):
            best = int(row.argmax())
            record |= {"label": self.label_names[best], "probability": round(float(row[best]), 6)}
            record["probabilities"] = {name: round(float(p), 6) for name, p in zip(self.label_names, row)}
            record["unknown"] = unknown
        else:
            warnings.append("no known token to classify" if words else "no token to classify")
        return record | ({"warning": "; ".join(warnings)} if warnings else {})


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def read_blocks(file: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of `file` without their ends ("\\n", or "\\r\\n") and without a byte order mark, as many at a time as
    there are to read at once: a mebibyte of a file, one line of a terminal, what has arrived of a pipe."""
    rest, first = b"", True
    while block := file.read1(BLOCK):
        *lines, rest = (rest + block).split(b"\n")
        if first and lines:
            lines[0], first = lines[0].removeprefix(codecs.BOM_UTF8), False
        if lines:
            yield [line.removesuffix(b"\r") for line in lines]
    if rest:
        yield [rest.removeprefix(codecs.BOM_UTF8) if first else rest]


def main(argv: Sequence[str]) -> None:
    arguments, overrides = cli.split_overrides(argv)
    parser = cli.parser("predict", __doc__, EXAMPLES)
    parser.add_argument("--workdir", required=True, type=Path, help="folder of a finished run")
    parser.add_argument("--input", default="-", help="file of lines to label (default: standard input)")
    parser.add_argument("--replica", type=int, default=0, help="which of the run's models to use (default: 0)")
    flags = parser.parse_args(arguments)
    if overrides:
        raise ConfigError(f"--config.{overrides[0]}: predict takes its configuration from the workdir")
    cli.set_up_jax()
    predictor = Predictor(flags.workdir, flags.replica)
    try:
        file = sys.stdin.buffer if flags.input == "-" else open(flags.input, "rb")  # noqa: SIM115
    except OSError as error:
        raise DataError(f"--input {flags.input}: {error.strerror}") from error
    began, count = time.monotonic(), 0
    bar = tqdm(unit=" lines", disable=not sys.stderr.isatty() or sys.stdout.isatty())
    try:
        with file, bar:
            for lines in read_blocks(file):
                for record in predictor.label(lines, count + 1):
                    print(json.dumps(record, ensure_ascii=False))
                    bar.update()
                count += len(lines)
                sys.stdout.flush()
    except KeyboardInterrupt:
        raise cli.Interrupted(f"interrupted after {count} lines") from None
    sys.stderr.write(f"{count} lines in {time.monotonic() - began:.1f} s\n")


if __name__ == "__main__":
    cli.main(main)

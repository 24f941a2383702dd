"""Applies a finished run to lines of text: one JSON object a line, in the order of the input.

A run of classification labels every line: the keys are `line` (its number, from 1), `text`, `label`, `probability` (of
the label), `probabilities` (by class), `unknown` (how many tokens are not in the vocabulary) and, where there is
something to say, `warning`: bytes that are not UTF-8 (read as U+FFFD), a text cut to the longest length of the run. A
line without any token has no label: its `label` is null.

A run of matching labels every pair, two texts with a tab between them. The keys are the same, but `premise` and
`hypothesis` in place of `text`; a text may be empty.

A run of translation translates every line: `line`, `text`, `translation`, `score` (log-probability divided by the
length penalty), `unknown` (the parts of the text that the vocabulary lacks) and, where there is something to say,
`outputs` (the --best ones, with their scores) and `warning`. An empty line has an empty translation. Of the lines that
are read at once (a mebibyte of a file, what has come of a pipe) those of about one length are translated together.
"""

import argparse
import codecs
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict
from tqdm import tqdm

from experiments import cli
from experiments.files import read_json
from experiments.plots import CHINESE_FONTS, attention_plot
from experiments.workdir import RECORD_KEYS, decode_options
from research import translation
from research.batches import Table, longer, make_buckets
from research.checkpoints import load_arrays
from research.codecs import Words, digest, load_codecs
from research.decoding import NEVER, Search
from research.errors import ConfigError, DataError
from research.evaluation import EachExample, Evaluator
from research.tasks import make_task, shapes
from research.text import EOS, ParseError

EXAMPLES = """examples:
  echo "not bad at all" | python -m experiments.predict --workdir runs/quickstart
  python -m experiments.predict --workdir runs/mr --input reviews.txt > labels.jsonl
  python -m experiments.predict --workdir runs/mr --replica 3 --input reviews.txt
  python -m experiments.predict --workdir runs/esim/lcqmc_small --input pairs.txt
  python -m experiments.predict --workdir runs/transformer/multi30k_de_en --input sentences.de --beam 8 --best 3
  echo "zwei Hunde" | python -m experiments.predict --workdir runs/transformer/multi30k_de_en --attention maps.png"""

BLOCK = 1 << 20  # bytes read and labelled at once


def record_of(workdir: Path) -> dict:
    """What config.json says of the finished run in `workdir`; ConfigError where there is none."""
    if not (workdir / "result.json").is_file():
        raise ConfigError(f"--workdir {workdir}: holds no finished run; finish it with python -m experiments.run")
    return read_json(workdir / "config.json", RECORD_KEYS)


class Run:
    """A finished run's configuration, task, parameters and codecs."""

    def __init__(self, workdir: Path, replica: int = 0):
        self.record = record_of(workdir)
        self.config = ConfigDict(self.record["config"])
        if self.config.model.get("fused", "") == "cudnn" and jax.default_backend() != "gpu":
            self.config.model.fused = ""  # the same function
        count = self.config.replicas * self.config.folds
        if not 0 <= replica < count:
            raise ConfigError(f"--replica {replica}: the run has replicas 0 to {count - 1}")
        self.folder = folder = workdir / f"replica_{replica:02d}"
        sizes, labels = self.record["vocabulary"], self.record["label_names"]
        self.task = make_task(self.config, sizes=sizes, num_classes=len(labels))
        self.buckets = make_buckets(self.config.data.buckets, tuple(sizes))
        self.codecs = load_codecs(folder, self.config)
        trained = self.record.get("vocabularies", "").split()[replica % self.config.folds :][:1]
        if trained != [digest(self.codecs)]:
            raise DataError(f"{folder}: its vocabulary is not the one of its training; restore it, or train it again")
        arrays, about = load_arrays(folder / "best")
        self.variables = jax.tree.map(jnp.asarray, arrays)
        # shapes alone do not tell four heads from two
        same = about.get("model") == self.record["config"]["model"]
        if not same or jax.tree.map(np.shape, arrays) != jax.tree.map(np.shape, shapes(self.task, self.buckets[-1])):
            raise DataError(f"{folder / 'best'}: parameters of another architecture than config.json's; train it again")


class Labeller:
    """Classification and matching."""

    def __init__(self, run: Run):
        config = run.config
        self.codecs, self.limits = run.codecs, dict(run.buckets[-1])
        self.label_names, self.bucket = run.record["label_names"], run.buckets[-1]
        self.evaluator = Evaluator(run.task, run.buckets, config.train.eval_batch_size)
        self.variables = self.evaluator.placement.put(run.variables)

    def probabilities(
        self, ids: Mapping[str, Sequence[Sequence[int]]], progress: Callable[[int], None] = lambda done: None
    ) -> Float[np.ndarray, "N C"]:
        """Of the classes, for texts as ids of each role, in their order; a text is cut to the longest length."""
        count = len(next(iter(ids.values())))
        table = Table.build(dict(ids), [0] * count, self.bucket)
        (found,) = self.evaluator.predict(self.variables, [table], [None], progress)
        return found

    def objects(self, lines: Sequence[bytes], first: int, progress: Callable[[int], None]) -> Iterator[dict]:
        """One object a line, before the first of which all are computed; `first` is the number of the first line,
        `progress` is called with the number of lines computed since the last call."""
        parts, tokens, wrong = [], {role: [] for role in self.codecs}, None
        for number, line in enumerate(lines, first):
            try:
                part = self._parts(line.decode("utf-8", errors="replace"), number)
                words = {role: self._tokens(role, number, part) for role in self.codecs}
            except DataError as error:  # ends the program, after the lines before
                wrong = error
                break
            parts.append(part)
            for role in self.codecs:
                tokens[role].append(words[role])
        ids = {
            role: [codec.vocabulary.encode(words, skip=codec.skip) for words in tokens[role]]
            for role, codec in self.codecs.items()
        }
        found = self.probabilities(ids, progress) if parts else []
        for place, (line, part, row) in enumerate(zip(lines, parts, found)):
            warnings = [] if is_utf8(line) else [NOT_UTF8]
            record = {"line": first + place, **part, "label": None}
            for role, limit in self.limits.items():
                if len(known := ids[role][place]) > limit:
                    which = f"{role} " if len(self.codecs) > 1 else ""
                    warnings.append(f"{which}cut to the first {limit} of {len(known)} tokens")
            if any(self._has_token(codec, tokens[role][place]) for role, codec in self.codecs.items()):
                best = int(row.argmax())
                record |= {"label": self.label_names[best], "probability": round(float(row[best]), 6)}
                record["probabilities"] = {name: round(float(p), 6) for name, p in zip(self.label_names, row)}
                words = [(codec, word) for role, codec in self.codecs.items() for word in tokens[role][place]]
                record["unknown"] = sum(word not in codec.vocabulary.ids for codec, word in words)
            else:
                words = any(codec.own(tokens[role][place]) for role, codec in self.codecs.items())
                warnings.append("no known token to classify" if words else "no token to classify")
            yield record | _warning(warnings)
        if wrong is not None:
            raise wrong

    @staticmethod
    def _has_token(codec: Words, tokens: Sequence[str]) -> bool:
        return any(not codec.skip or token in codec.vocabulary.ids for token in codec.own(tokens))

    def _tokens(self, role: str, number: int, part: Mapping[str, str]) -> list[str]:
        try:
            return self.codecs[role].split(part[role])
        except ParseError as error:
            raise DataError(f"line {number}: {role}: {error}; this run reads binarised parses") from error

    def _parts(self, text: str, number: int) -> dict[str, str]:
        """The texts of a line by role."""
        if len(self.codecs) == 1:
            return dict.fromkeys(self.codecs, text)
        fields = text.split("\t")
        if len(fields) != len(self.codecs):
            raise DataError(
                f"line {number}: {len(fields)} columns; a pair is two texts with a tab between them: {text[:40]!r}"
            )
        return dict(zip(self.codecs, fields))


class Translator:
    """Translation. decode: the run's options, with what flags say instead; prefix: text that every output begins
    with."""

    def __init__(self, run: Run, decode: ConfigDict, *, least: int = 0, best: int = 1, prefix: str = ""):
        self.run, self.decode = run, decode
        self.options = options = Search(decode.beam, decode.alpha, decode.offset, decode.extra, least, best)
        self.write = translation.writer(decode, run.codecs, lower=run.config.data.lower)
        target = run.codecs["target"]
        self.prefix = target.encode(prefix)
        if lacking := target.unknown(prefix):
            raise ConfigError(f"--prefix: not in the vocabulary of {run.config.data.target}: {' '.join(lacking)}")
        if len(self.prefix) > options.extra:
            raise ConfigError(f"--prefix: {len(self.prefix)} tokens are more than decode.extra = {options.extra}")
        # sentences longer than the run's take longer buckets, as far as positions go; </s> takes a place
        most, size = run.task.model.longest or run.config.model.max_length, dict(run.buckets[-1])["source"]
        while 2 * size + options.extra <= most:
            size *= 2
        self.limit = size - 1
        self.variables = run.variables

    def objects(self, lines: Sequence[bytes], first: int, progress: Callable[[int], None]) -> Iterator[dict]:
        """One object a line; the arguments are those of `Labeller.objects`."""
        texts = [line.decode("utf-8", errors="replace") for line in lines]
        source = self.run.codecs["source"]
        ids = [source.encode(text) for text in texts]
        found = self._search(ids, progress)
        for number, (line, text, row, hypotheses) in enumerate(zip(lines, texts, ids, found), first):
            warnings = [] if is_utf8(line) else [NOT_UTF8]
            if len(row) > self.limit:
                warnings.append(f"cut to the first {self.limit} of {len(row)} tokens")
            outputs = translation.outputs(hypotheses) if row else [translation.Output([], 0.0)]
            if outputs[0].score < NEVER / 2:
                warnings.append("nothing was found: the model's scores are no numbers")
            shown = [{"translation": self.write(one, text), "score": round(one.score, 6)} for one in outputs]
            record = {"line": number, "text": text, **shown[0], "unknown": source.unknown(text)}
            record |= {"outputs": shown} if self.options.best > 1 else {}
            yield record | _warning(warnings)

    def _search(self, ids: Sequence[Sequence[int]], progress: Callable[[int], None] = lambda done: None) -> list:
        """Hypotheses for each text, in `translation.decoder`'s arrays; what is too long is cut."""
        source = [[*row[: self.limit], EOS] for row in ids]
        self._each.buckets = longer(self._each.buckets, {"source": np.array([len(row) for row in source])})
        table = Table.build({"source": source, "target": [[]] * len(ids)}, [0] * len(ids), self._each.buckets[-1])
        (found,) = self._each(self.variables, [table], [None], progress)
        return found

    def draw_attention(self, text: str, path: Path) -> None:
        """Writes a picture of what each token of the best translation looks at: the heads of the last layer, or of a
        model with one head every layer."""
        source, target = self.run.codecs["source"], self.run.codecs["target"]
        ids = source.encode(text)[: self.limit]
        if not 0 < len(ids) <= DRAWN:
            raise DataError(f"--attention: the first line has {len(ids)} tokens; 1 to {DRAWN} can be drawn")
        best = translation.outputs(self._search([ids])[0])[0]
        tokens = np.array([[*ids, EOS]])
        given = (tokens, np.ones_like(tokens), np.array([[*best.ids, EOS]]))
        maps = translation.attention_maps(self.run.task.model, self.run.variables, *given)
        if not maps:
            raise ConfigError("--attention: a fused kernel keeps its weights to itself; train with model.fused empty")
        pieces = [[*codec.pieces(row), "</s>"] for codec, row in ((source, ids), (target, best.ids))]
        if maps[-1].shape[1] > 1:
            shown, of, title = maps[-1][0], "head", f"{len(maps)} layers, the last one"
        else:
            shown, of, title = np.concatenate([each[0] for each in maps]), "layer", "all layers that look at the source"
        if not attention_plot(np.asarray(shown), of, *pieces, title, path):
            fonts = ", ".join(CHINESE_FONTS[:2])
            sys.stderr.write(f"{path}: characters without a font are boxes; for Chinese install one, such as {fonts}\n")

    @functools.cached_property
    def _each(self) -> EachExample:
        places = self.decode.replace_unknown
        decode = translation.decoder(self.run.task, self.options, self.prefix, places=places)
        return EachExample(decode, self.run.buckets, self.decode.batch_size)


DRAWN = 100  # tokens: a picture of more could not be read

NOT_UTF8 = "not UTF-8: undecodable bytes read as U+FFFD"


def _warning(warnings: Sequence[str]) -> dict[str, str]:
    return {"warning": "; ".join(warnings)} if warnings else {}


def is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def open_input(name: str) -> BinaryIO:
    """The file of `--input`, standard input for `-`; DataError where it cannot be opened."""
    try:
        return sys.stdin.buffer if name == "-" else open(name, "rb")
    except OSError as error:
        raise DataError(f"--input {name}: {error.strerror}") from error


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


def _lines_to_come(file: BinaryIO) -> int | None:
    """How many lines `read_blocks` will find, None of a pipe or a terminal."""
    if not file.seekable():
        return None
    begin, lines = file.tell(), sum(1 for _ in file)
    file.seek(begin)
    return lines


def _predictor(run: Run, flags) -> Labeller | Translator:
    names = ("beam", "alpha", "replace_unknown", "dictionary")
    given = {name: getattr(flags, name) for name in names if getattr(flags, name) is not None}
    if run.config.task != "translation":
        names = [*given, *(name for name in ("prefix", "attention") if getattr(flags, name) is not None)]
        if names or flags.best != 1 or flags.least:
            raise ConfigError(f"--{(names or ['best, --least'])[0]}: {flags.workdir} holds no run of translation")
        return Labeller(run)
    decode = decode_options(run.config, run.folder)
    if given.get("replace_unknown") is False:
        decode.dictionary = ""
    decode.update(given)
    if flags.dictionary and not decode.replace_unknown:
        raise ConfigError(f"--dictionary {flags.dictionary}: is for --replace_unknown")
    return Translator(run, decode, least=flags.least, best=flags.best, prefix=flags.prefix or "")


def main(argv: Sequence[str]) -> None:
    arguments, overrides = cli.split_overrides(argv)
    parser = cli.parser("predict", __doc__, EXAMPLES)
    parser.add_argument("--workdir", required=True, type=Path, help="folder of a finished run")
    parser.add_argument("--input", default="-", help="file of lines (default: standard input)")
    parser.add_argument("--beam", type=int, help="beam size of translation (default: the run's); 1 is greedy")
    parser.add_argument("--best", type=int, default=1, help="outputs a line, at most the beam size (default: 1)")
    parser.add_argument("--alpha", type=float, help="exponent of the length penalty (default: the run's)")
    parser.add_argument("--least", type=int, default=0, help="fewest tokens of a translation (default: 0)")
    parser.add_argument(
        "--replace_unknown",
        action=argparse.BooleanOptionalAction,
        help="put the source word that was attended to most in place of an unknown word, or not (models of words; "
        "default: the run's)",
    )
    parser.add_argument(
        "--dictionary", metavar="FILE", help="lines of source word, tab, target word, for --replace_unknown"
    )
    parser.add_argument("--prefix", metavar="TEXT", help="text that every translation begins with")
    drawing = (
        "draw where the translation of the first line looks at the source: the heads of the last decoder layer, or of "
        "ConvS2S every layer"
    )
    parser.add_argument("--attention", type=cli.output_file, metavar="FILE.png", help=drawing)
    parser.add_argument("--replica", type=int, default=0, help="which of the run's models to use (default: 0)")
    flags = parser.parse_args(arguments)
    if overrides:
        raise ConfigError(f"--config.{overrides[0]}: predict takes its configuration from the workdir")
    if flags.attention and flags.attention.suffix != ".png":
        raise ConfigError(f"--attention {flags.attention}: name a .png file")
    cli.set_up_jax()
    run = Run(flags.workdir, flags.replica)
    predictor = _predictor(run, flags)
    file = open_input(flags.input)
    began, count = time.monotonic(), 0
    shown = sys.stderr.isatty() and not sys.stdout.isatty()
    bar = tqdm(total=_lines_to_come(file) if shown else None, unit=" lines", disable=not shown)
    try:
        with file, bar:
            for lines in read_blocks(file):
                if flags.attention and not count:
                    predictor.draw_attention(lines[0].decode("utf-8", errors="replace"), flags.attention)
                for record in predictor.objects(lines, count + 1, bar.update):
                    print(json.dumps(record, ensure_ascii=False))
                count += len(lines)
                sys.stdout.flush()
        if flags.attention and not count:
            raise DataError("--attention: the input has no line to draw")
    except KeyboardInterrupt:
        raise cli.Interrupted(f"interrupted after {count} lines") from None
    seconds = time.monotonic() - began
    sys.stderr.write(f"{count} lines in {seconds:.1f} s, {count / seconds:.1f} lines/s\n")


if __name__ == "__main__":
    cli.main(main)

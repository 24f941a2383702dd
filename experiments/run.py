"""Trains (or resumes) the run of a configuration, evaluates it and writes `result.json` into its workdir."""

import contextlib
import dataclasses
import functools
import hashlib
import math
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar
from tqdm import tqdm

from experiments import cli
from experiments.files import write_text
from experiments.workdir import Workdir, decode_options, is_leader, nested, splits_of
from research import codecs, datasets, translation
from research.batches import Lengths
from research.checkpoints import Checkpoints, save_arrays
from research.corpora.reading import sha256
from research.decoding import Search
from research.errors import ConfigError
from research.evaluation import EachExample
from research.fit import Diverged, Member, Settings, Stopped, Trainer
from research.optimizers import cuts_go_on, learning_rates, make_optimizer, row_decay
from research.parallel import Placement
from research.tasks import Task, Translation, make_task, paper_of, shapes
from research.text import SENTENCE, Vocabulary
from research.word_vectors import embedding_matrix, read_vectors

EXAMPLES = (
    """examples:
  python -m experiments.run --config configs/textcnn/quickstart.py --workdir runs/quickstart
  python -m experiments.run --config configs/textcnn/mr.py --workdir runs/mr --manual_dir ~/corpora
  python -m experiments.run --config configs/textcnn/mr.py --workdir runs/mr_small --config.model.filters=10

"""
    + cli.OVERRIDES
)


class Events:
    """TensorBoard's scalars of one replica, on disk when `add` returns.

    Not SummaryWriter: its thread dies of a full disk with a traceback, and whoever adds to its queue then waits."""

    def __init__(self, folder: Path):
        self._file, self._begun = EventsWriter(str(folder / "events")), False

    def add(self, step: int, scalars: dict[str, float]) -> None:
        if not self._begun:  # tells TensorBoard to forget what an interrupted process wrote from this step on
            start = SessionLog(status=SessionLog.SessionStatus.START)
            self._file.write_event(Event(wall_time=time.time(), step=step, session_log=start))
            self._begun = True
        for name, value in scalars.items():
            self._file.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
        self._file.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what `add` could not write
            self._file.close()


def unit_of(metric: str) -> str:
    return "" if metric in ("loss", "perplexity", "bleu", "bleu_lc", "chrf", "threshold") else " %"


def _no_bar(quiet: bool) -> bool:
    return quiet or not sys.stderr.isatty()


class Console:
    """Progress on standard error, a bar on a terminal and plain lines elsewhere, and TensorBoard events."""

    def __init__(self, folders: Sequence[Path], title: str, monitor: str, *, quiet: bool):
        self.title, self.monitor, self.quiet = title, monitor, quiet
        self.writers = [Events(folder) for folder in folders] if is_leader() else []
        self.bar, self.dev = None, ""

    def step(self, step: int, total: int, losses: list[float]) -> None:
        if _no_bar(self.quiet):
            return
        if self.bar is None:
            self.bar = tqdm(total=total, initial=step, desc=self.title, unit="step", dynamic_ncols=True)
        self.bar.n = step
        self.bar.set_postfix_str(f"loss {np.mean(losses):.4f}{self.dev}")

    def evaluation(self, step: int, record: dict) -> None:
        rates = record.get("rate", [None] * len(record["dev"]))
        for writer, loss, scores, rate in zip(self.writers, record["train_loss"], record["dev"], rates):
            if scores is not None:
                trained = {"train/loss": loss} | ({} if rate is None else {"train/rate": rate})
                writer.add(step, trained | {f"dev/{name}": value for name, value in scores.items()})
        value = np.mean([scores[self.monitor] for scores in record["dev"] if scores is not None])
        self.dev = f", dev {self.monitor} {value:.2f}{unit_of(self.monitor)}"
        if not self.quiet and not sys.stderr.isatty():
            loss = np.mean([loss for loss in record["train_loss"] if loss is not None])
            used = "/".join(f"{rate:g}" for rate in dict.fromkeys(rates) if rate is not None)
            rate = f", rate {used}" if used else ""
            self.say(f"{self.title}: epoch {record['epoch']}, step {step}{rate}, loss {loss:.4f}{self.dev}")

    def say(self, line: str) -> None:
        if not self.quiet:
            tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        for writer in self.writers:
            writer.close()


def word_vectors(config: ConfigDict, data: Sequence[datasets.Dataset], quiet: bool) -> dict[str, np.ndarray] | None:
    """The vectors that the file of `config.word_vectors` has for the words of all folds, None if it names no file."""
    if not (path := _vectors_path(config)):
        return None
    # an inner node's vector is no word's, though one is written like a bracket
    words = dict.fromkeys(token for d in data for token in _vocabulary(d).tokens[len(codecs.reserved(config)) :])
    with tqdm(desc="word vectors", unit="B", unit_scale=True, disable=_no_bar(quiet)) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return read_vectors(path, tuple(words), dim=config.model.embedding_dim, progress=progress)


def _vectors_path(config: ConfigDict) -> str:
    """`word_vectors.path`; ConfigError unless the model has a use for it where there is one, and there alone."""
    path = config.word_vectors.path if "word_vectors" in config else ""
    variant = config.model.get("variant", "rand")
    if not path and variant != "rand":
        raise ConfigError(f"model.variant = {variant} needs word vectors: set --config.word_vectors.path=FILE")
    if path and variant == "rand":
        raise ConfigError("word_vectors.path is set, but model.variant = rand does not use it")
    if path and config.word_vectors.unknown not in ("uniform", "gaussian"):
        raise ConfigError(f"word_vectors.unknown: '{config.word_vectors.unknown}' is neither uniform nor gaussian")
    return path


def _vocabulary(data: datasets.Dataset) -> Vocabulary:
    """Of classification and matching, whose texts share one."""
    return next(iter(data.codecs.values())).vocabulary


def digest_of(vectors: Mapping[str, np.ndarray] | None) -> str:
    """SHA-256 of words and vectors, empty without any."""
    if vectors is None:
        return ""
    digest = hashlib.sha256()
    for word in sorted(vectors):
        digest.update(f"{word}\n".encode("utf-8", "surrogatepass"))
        digest.update(np.ascontiguousarray(vectors[word], "<f4"))
    return digest.hexdigest()


def settings_of(config: ConfigDict) -> Settings:
    """`config.train` and `config.optimizer` as the training loop takes them; ConfigError where a number cannot be."""
    train = config.train
    for name in ("epochs", "batch_size", "eval_batch_size", "micro_batches", "log_every"):
        if train[name] < 1:
            raise ConfigError(f"train.{name} must be at least 1, got {train[name]}")
    for name in ("steps", "eval_every", "patience", "checkpoint_seconds", "batch_tokens", "average"):
        if not train[name] >= 0:
            raise ConfigError(f"train.{name} must be at least 0, got {train[name]}")
    if not train.batch_tokens and train.batch_size % train.micro_batches:
        raise ConfigError(
            f"train.micro_batches = {train.micro_batches} does not divide batch_size = {train.batch_size}"
        )
    if train.average and train.patience:
        raise ConfigError("train.average needs train.patience = 0: it averages the last evaluations of a whole run")
    rates = learning_rates(config.optimizer)
    if train.average and rates:
        raise ConfigError("train.average: a learning rate that is cut as the dev split tells has no known last steps")
    made = {"rates": rates, "cuts_go_on": cuts_go_on(config.optimizer)}
    names = {field.name for field in dataclasses.fields(Settings)} - set(made)
    return Settings(**made, **{name: train[name] for name in names})


def search_of(config: ConfigDict) -> Search | None:
    """`config.decode`, None where nothing is decoded."""
    if "decode" not in config:
        return None
    if config.decode.batch_size < 1:
        raise ConfigError(f"decode.batch_size must be at least 1, got {config.decode.batch_size}")
    translation.scored_words(config)
    return Search(config.decode.beam, config.decode.alpha, config.decode.offset, config.decode.extra)


def group_size(config: ConfigDict) -> int:
    """How many replicas train in one program: all on an accelerator, one on a CPU, unless the configuration says. With
    batches by tokens one: they would take the largest of every replica's batch at each step. With cuDNN's kernels one:
    JAX cannot have them take several models at once."""
    choice = config.train.replicas_together
    if choice not in ("auto", "yes", "no"):
        raise ConfigError(f"train.replicas_together: '{choice}' is none of auto, yes, no")
    if choice == "yes" and jax.process_count() > 1:
        raise ConfigError(
            "train.replicas_together = yes works on one host; on several, replicas train one after another"
        )
    if choice == "yes" and config.train.batch_tokens:
        raise ConfigError(
            "train.replicas_together = yes needs train.batch_tokens = 0: of batches by tokens, replicas together would "
            "take the most rows and the greatest length at each place"
        )
    fused = config.model.get("fused", "") == "cudnn"
    if choice == "yes" and fused:
        raise ConfigError(
            "train.replicas_together = yes does not go with model.fused = cudnn, whose kernel takes one model at a time"
        )
    accelerated = jax.default_backend() != "cpu" and jax.process_count() == 1
    together = choice == "yes" or (choice == "auto" and accelerated and not (config.train.batch_tokens or fused))
    return config.replicas * config.folds if together else 1


def check_monitor(name: str, task: Task, data: Sequence[datasets.Dataset]) -> None:
    """ConfigError unless `name` is a metric of every dev split (AUC is none where one class alone occurs)."""
    for dataset in data:
        labels = dataset.table.labels[dataset.splits["dev"]]
        known = task.score(np.full((len(labels), task.width), 1 / task.width), labels)
        if name not in known:
            raise ConfigError(f"train.monitor: '{name}' is none of the dev split's metrics {', '.join(known)}")


def check(config: ConfigDict) -> tuple[Settings, Search | None]:
    """How to train and how to decode; ConfigError for whatever mistake shows without the corpus."""
    make_optimizer(config.optimizer)
    settings, options = settings_of(config), search_of(config)
    paper_of(config)
    empty = codecs.check(config)
    if options is not None:
        translation.check_replacement(config.decode, empty)
    make_task(config, sizes=dict.fromkeys(codecs.roles(config), len(SENTENCE)), num_classes=2)
    _vectors_path(config)
    return settings, options


def run(
    config_path: str, overrides: Sequence[str], workdir: Path, *, data_dir=None, manual_dir=None, quiet=False
) -> dict:
    """Trains or resumes, writes `workdir/result.json` and returns it; returns the result that is there if finished."""
    began = time.monotonic()
    config = cli.load_config(config_path, overrides)
    settings, options = check(config)  # mistakes first: reading the corpus and training take a while
    with Workdir(workdir, config, config_path, overrides) as folder:
        if folder.result is not None:
            return folder.result
        with cli.ending_at_once():
            corpus = datasets.load(config, data_dir=data_dir, manual_dir=manual_dir)
        known = config.task == "translation" and folder.started and codecs.holds_codecs(folder.replica(0), config)
        prepared = datasets.build(corpus, config, codecs.load_codecs(folder.replica(0), config) if known else None)
        data = prepared.datasets
        sizes = {role: max(d.sizes()[role] for d in data) for role in data[0].codecs}
        task = make_task(config, sizes=sizes, num_classes=len(corpus.label_names))
        check_monitor(settings.monitor, task, data)
        if options is not None:
            translation.check(task, options, prepared.buckets[-1], places=config.decode.replace_unknown)
            translation.writer(config.decode, data[0].codecs, lower=config.data.lower)
        for note in () if quiet else prepared.notes:
            print(note, file=sys.stderr)
        size, total = group_size(config), config.replicas * config.folds
        trainer = _trainer(
            task,
            FrozenConfigDict(config.optimizer),
            d_model=config.model.get("d_model", 1),
            buckets=prepared.buckets,
            eval_batch_size=config.train.eval_batch_size,
            placing=(size, config.train.parallel, config.train.stream, config.train.micro_batches),
        )
        vectors = word_vectors(config, data, quiet)
        dictionary = config.decode.dictionary if options is not None else ""
        digests = {"vocabularies": [codecs.digest(d.codecs) for d in data], "word_vectors": digest_of(vectors)}
        digests |= {"dictionary": sha256(Path(dictionary)) if dictionary else ""}
        folder.start(corpus, sizes, **digests)
        spent = time.monotonic() - began  # the replicas count their own seconds, also those of earlier processes
        for first in range(0, total, size):
            numbers = range(first, first + size)
            if not all(folder.finished(n) for n in numbers):
                for n in numbers:
                    folder.replica(n).mkdir(exist_ok=True)
                    if is_leader():
                        codecs.save_codecs(data[n % config.folds].codecs, folder.replica(n), config)
                        if dictionary:
                            shutil.copyfile(dictionary, decode_options(config, folder.replica(n)).dictionary)
                members = [_member(config, data, sizes, vectors, n) for n in numbers]
                _train(trainer, settings, members, folder, numbers, data[0], quiet)
        params = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes(task, prepared.buckets[-1])["params"]))
        counts = {name: len(places) for name, places in data[0].splits.items()}
        if data[0].texts:  # a row of a packed table holds several pairs
            counts["train"] = len(data[0].texts["train"]["source"]) - prepared.long
        facts = {"corpus": corpus.name, "version": corpus.version, "digest": corpus.digest, "examples": counts}
        facts |= {"vocabulary": sizes, "long": prepared.long, "label_names": list(corpus.label_names)}
        facts |= {"vocabularies": digests["vocabularies"], "splits": splits_of(config)}
        facts |= {"majority": _majority(data[0])} if corpus.label_names else {}
        facts |= {"unlabelled": prepared.unlabelled} if prepared.unlabelled else {}
        return folder.finish(params=params, data=facts, seconds=spent)


def _majority(data: datasets.Dataset) -> dict[str, float]:
    """The most frequent class's share of each split, percent: what always choosing it would score."""
    shares = {}
    for name, places in data.splits.items():
        if len(places):
            shares[name] = 100.0 * float(np.bincount(data.table.labels[places]).max() / len(places))
    return shares


@functools.lru_cache(maxsize=64)
def _trainer(
    task: Task,
    optimizer: FrozenConfigDict,
    *,
    d_model: int,
    buckets: tuple[Lengths, ...],
    eval_batch_size: int,
    placing: tuple,
) -> Trainer:
    """Kept, with what it has compiled, for further runs of this process: a study's cells of another seed. placing:
    the arguments of `Placement`."""
    options = {"eval_batch_size": eval_batch_size, "row_decay": row_decay(optimizer)}
    return Trainer(task, make_optimizer(optimizer, d_model), buckets, Placement(*placing), **options)


@functools.lru_cache(maxsize=64)
def _decoder(
    task: Translation, options: Search, *, places: bool, buckets: tuple[Lengths, ...], batch_size: int, replicas: int
) -> EachExample:
    """Kept as `_trainer` is."""
    return EachExample(translation.decoder(task, options, places=places), buckets, batch_size, replicas)


def _member(config: ConfigDict, data: Sequence[datasets.Dataset], sizes: Mapping[str, int], vectors, n: int) -> Member:
    """Replica `n`: seed n // folds, fold n % folds."""
    seed, fold = divmod(n, config.folds)
    matrix = None
    if vectors is not None:
        options = {"dim": config.model.embedding_dim, "gaussian": config.word_vectors.unknown == "gaussian"}
        matrix = embedding_matrix(vectors, _vocabulary(data[fold]).tokens, seed=config.seed + seed, **options)
        matrix = np.pad(matrix, ((0, max(sizes.values()) - len(matrix)), (0, 0)))
    return Member((config.seed + seed, fold), data[fold].table, data[fold].splits, matrix)


def _train(
    trainer: Trainer,
    settings: Settings,
    members: Sequence[Member],
    folder: Workdir,
    numbers: Sequence[int],
    data: datasets.Dataset,
    quiet: bool,
) -> None:
    """Trains a group of replicas, or resumes it, and writes each one's best parameters and metrics."""
    folders = [folder.replica(n) for n in numbers]
    total = folder.config.replicas * folder.config.folds
    title = "training" if len(numbers) == total else f"replica {numbers[0] + 1}/{total}"
    console = Console(folders, title, settings.monitor, quiet=quiet)
    model = nested(folder.config)["model"]
    checkpoints = Checkpoints(folders[0] / "checkpoints", model=model, warn=console.say)
    try:
        with cli.stop_signals() as should_stop:
            best, progress = trainer.fit(
                members, settings, checkpoints=checkpoints, reporter=console, should_stop=should_stop
            )
        if should_stop():  # after the last step
            raise Stopped(progress.step)
        trained, tables = time.monotonic(), [m.table for m in members]
        scored = [{name: places for name, places in m.splits.items() if name != "train"} for m in members]
        scores = trainer.evaluator.final(best, tables, scored)
    except Stopped as stop:
        raise cli.Interrupted(
            f"stopped after step {stop.step} of {title}, saved in {folder.path}; the same command goes on from there"
        ) from stop
    except Diverged as error:
        kept = (
            f"the checkpoint of step {checkpoints.latest} is kept"
            if checkpoints.latest
            else "no checkpoint was saved yet"
        )
        raise ConfigError(f"{title}: {error}; {kept} in {folder.path}") from error
    finally:
        checkpoints.close()
        console.close()
    extra = [{} for _ in folders]
    if isinstance(trainer.task, Translation):
        extra = _translate(trainer, members, best, folders, data, folder.config, quiet)
    for r, path in enumerate(folders):
        mine = best if len(numbers) == 1 else jax.tree.map(lambda x, r=r: x[r], best)
        save_arrays(path / "best", mine, {"model": model})
        record = {
            "metrics": {split: values | extra[r].get(split, {}) for split, values in scores[r].items()},
            **{name: extra[r][name] for name in ("signatures", "bootstrap") if name in extra[r]},
            "best_step": progress.best_step[r],
            "steps": progress.steps[r],
            "examples": progress.examples / len(numbers),
            "step_seconds": progress.step_seconds / len(numbers),
            "seconds": (progress.seconds + time.monotonic() - trained) / len(numbers),
            "history": [
                {name: value[r] if name in ("train_loss", "dev", "rate") else value for name, value in h.items()}
                for h in progress.history
                if h["dev"][r] is not None
            ],
        }
        folder.write(path / "metrics.json", record)


def _translate(
    trainer: Trainer, members: Sequence[Member], best, folders: Sequence[Path], data: datasets.Dataset, config, quiet
) -> list[dict]:
    """Translates the test splits with each replica, writes `<split>.translations.txt` beside its parameters, and
    gives metrics by split, signatures and bootstrap intervals."""
    each = _decoder(
        trainer.task,
        search_of(config),
        places=config.decode.replace_unknown,
        buckets=trainer.buckets,
        batch_size=config.decode.batch_size,
        replicas=len(members),
    )
    write = translation.writer(decode_options(config, folders[0]), data.codecs, lower=config.data.lower)
    records: list[dict] = [{"signatures": {}, "bootstrap": {}} for _ in members]
    for split in (name for name in data.splits if name not in ("train", "dev")):  # in one order on all hosts
        chosen = [m.splits[split] for m in members]
        with tqdm(desc=f"translating {split}", total=sum(map(len, chosen)), disable=_no_bar(quiet), unit="s") as bar:
            found = each(best, [m.table for m in members], chosen, bar.update)
        for record, path, hypotheses in zip(records, folders, found):
            sources = data.texts[split]["source"]
            lines = [write(translation.outputs(one)[0], text) for one, text in zip(hypotheses, sources)]
            if is_leader():
                write_text(path / f"{split}.translations.txt", "".join(f"{line}\n" for line in lines))
            references = data.texts[split]["target"]
            if is_leader():
                write_text(path / f"{split}.references.txt", "".join(f"{line}\n" for line in references))
            scored = translation.score(lines, references, translation.scored_words(config), lower=config.data.lower)
            record[split], record["signatures"], record["bootstrap"][split] = scored
    return records


def show(result: dict) -> None:
    """The result in a few lines on standard output."""
    for split, metrics in result["metrics"].items():
        for name, s in metrics.items():
            spread = f" ± {s['std']:.2f}, 95 % interval {s['ci95'][0]:.2f} to {s['ci95'][1]:.2f}" if s["ci95"] else ""
            print(f"{split:5} {name:9} {s['mean']:.2f}{unit_of(name)}{spread} (n = {s['n']})")
    speed = result["examples_per_second"]
    print(
        f"{result['params']:,} parameters, {result['steps']:,} steps, {result['seconds']:.0f} s"
        + (f", {speed:,.0f} examples/s" if speed else "")
    )


def join_hosts(text: str) -> None:
    """Makes this process one of several of the same run."""
    hosts = {}
    if text != "auto":
        match = re.fullmatch(r"(\S+:\d+),(\d+),(\d+)", text)
        if match is None:
            raise ConfigError(f"--distributed {text}: write auto or ADDRESS:PORT,COUNT,NUMBER")
        hosts = {"coordinator_address": match[1], "num_processes": int(match[2]), "process_id": int(match[3])}
        if not hosts["process_id"] < hosts["num_processes"]:
            raise ConfigError(f"--distributed {text}: hosts are numbered 0 to {hosts['num_processes'] - 1}")
    try:
        jax.distributed.initialize(**hosts)
    except (ValueError, RuntimeError) as error:
        what = "JAX cannot join the others" if hosts else "JAX finds no cluster here"
        raise ConfigError(f"--distributed {text}: {what} ({str(error).splitlines()[0]})") from error


def main(argv: Sequence[str]) -> None:
    arguments, overrides = cli.split_overrides(argv)
    parser = cli.parser("run", __doc__, EXAMPLES)
    parser.add_argument("--config", required=True, help="configuration file, configs/<paper>/<run>.py")
    parser.add_argument("--workdir", required=True, type=Path, help="folder of this run; a run found there is resumed")
    parser.add_argument(
        "--distributed",
        metavar="auto|ADDRESS,COUNT,NUMBER",
        help="train on several hosts that share --workdir: start the same command on each, with auto on a TPU pod or a "
        "cluster that JAX knows, else with the first host's address:port, the number of hosts, and this host's number",
    )
    flags = parser.parse_args(arguments)
    cli.set_up_jax()
    if flags.distributed:
        join_hosts(flags.distributed)
    folders = {"data_dir": flags.data_dir, "manual_dir": flags.manual_dir}
    result = run(flags.config, overrides, flags.workdir, quiet=not is_leader(), **folders)
    if is_leader():
        show(result)
        print(f"result: {flags.workdir / 'result.json'}")


if __name__ == "__main__":
    cli.main(main)

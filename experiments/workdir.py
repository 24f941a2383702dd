"""A run's folder: what stands in it, and whose it is.

```
config.json              the resolved configuration, the corpus's digest, class names, vocabulary sizes
replica_00/              one a replica: vocabularies, a dictionary, TensorBoard events, checkpoints/ while it trains,
                         then best/ (parameters), metrics.json and, of translation, <split>.translations.txt and
                         <split>.references.txt
result.json              closes the run
```
"""

import errno
import fcntl
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from experiments import cli
from experiments.environment import environment
from experiments.files import read_json, write_json
from experiments.statistics import summary
from research.corpora import Corpus
from research.errors import ConfigError, DataError

RECORD_KEYS = ("config", "corpus", "version", "digest", "label_names", "vocabulary")
"""Of a run's config.json."""
REMEDY = "remove the workdir and run again"


def decode_options(config: ConfigDict, replica: Path) -> ConfigDict:
    """`config.decode`, with the replica's own copy of the dictionary, where it names one."""
    options = config.decode.copy_and_resolve_references()
    if options.dictionary:
        options.dictionary = str(replica / f"dictionary{Path(options.dictionary).suffix}")
    return options


def is_leader() -> bool:
    """Whether this is the host that writes what all hosts know."""
    return jax.process_index() == 0


def _is_full_disk(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, (ConfigError, DataError)):
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):  # Orbax's ValueError
            return True
        error = error.__cause__ or error.__context__
    return False


class Workdir:
    """A workdir opened for one run; a context manager that holds the folder's lock.

    Opening refuses, with a ConfigError, a folder that cannot be written, that another process is using, or that holds
    a run of another configuration (naming the fields that differ). Leaving it on a full disk or by Ctrl-C says what is
    kept: Interrupted where there is something to go on from."""

    def __init__(self, path: Path, config: ConfigDict, config_path: str, overrides: Sequence[str]):
        self.path, self.config = Path(path), config
        self.command = {"config": _relative(config_path), "overrides": list(overrides)}
        self.result: dict | None = None
        self._lock = None

    def __enter__(self) -> "Workdir":
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if is_leader():
                self._lock = (self.path / ".lock").open("w")
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._unlock()
            raise ConfigError(f"--workdir {self.path}: another process is running there") from error
        except OSError as error:
            raise ConfigError(f"--workdir {self.path}: cannot be written ({error.strerror}); choose another") from error
        try:
            self._refuse_other_config()
            if (self.path / "result.json").is_file():
                self.result = read_json(self.path / "result.json", remedy=REMEDY)
        except (ConfigError, DataError):
            self._unlock()
            raise
        return self

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def __exit__(self, kind, error, trace) -> None:
        self._unlock()
        full, kept = _is_full_disk(error), self._kept()
        if full and not kept:
            raise ConfigError(f"--workdir {self.path}: the disk is full, nothing was kept; choose another") from error
        if full or (kept and isinstance(error, KeyboardInterrupt)):
            what = "the disk is full; free some space, then" if full else "interrupted;"
            raise cli.Interrupted(
                f"--workdir {self.path}: {what} the same command goes on from what is kept: {kept}"
            ) from error

    def _kept(self) -> str:
        """What the same command would go on from; empty if there is nothing."""
        finished = sum(1 for _ in self.path.glob("replica_*/metrics.json"))
        saved = [p for p in self.path.glob("replica_*/checkpoints/*") if p.name.isdigit()]
        steps = [int(p.name) for p in saved if not (p.parents[1] / "metrics.json").is_file()]
        parts = [f"{finished} finished replica{'s' * (finished > 1)}"] if finished else []
        parts += [f"the checkpoint of step {max(steps)}"] if steps else []
        return " and ".join(parts)

    def _record(self) -> dict | None:
        """`config.json`, once training has begun under it; a run that ended before that left nothing to protect."""
        path = self.path / "config.json"
        if not path.is_file() or not any(self.path.glob("replica_*")):
            return None
        record = read_json(path, remedy=REMEDY)
        if not isinstance(record, dict) or not set(RECORD_KEYS) <= record.keys():
            raise ConfigError(f"--workdir {self.path}: its config.json is not of a run; choose another workdir")
        return record

    def _refuse_other_config(self) -> None:
        if (record := self._record()) is None:
            return
        ours, theirs = cli.flatten(self.config), cli.flatten(ConfigDict(record["config"]))
        unset = object()
        fields = [f for f in dict.fromkeys([*theirs, *ours]) if ours.get(f, unset) != theirs.get(f, unset)]
        if fields:
            show = lambda values, field: values.get(field, "not set")
            listed = "; ".join(f"{f} was {show(theirs, f)}, is {show(ours, f)}" for f in fields)
            raise ConfigError(
                f"--workdir {self.path}: holds a run of another configuration ({listed}); choose another workdir"
            )

    @property
    def started(self) -> bool:
        """Whether training has begun in it."""
        return self._record() is not None

    def start(
        self,
        corpus: Corpus,
        sizes: Mapping[str, int],
        *,
        vocabularies: Sequence[str],
        word_vectors: str,
        dictionary: str,
    ) -> None:
        """Records what the run is, or refuses to go on with another corpus, other vocabularies (one a fold), other word
        vectors or another dictionary (DataError). The last three by their digests."""
        record = {"corpus": corpus.name, "version": corpus.version, "digest": corpus.digest}
        record |= {"word_vectors": word_vectors, "label_names": list(corpus.label_names), "vocabulary": dict(sizes)}
        record |= {"vocabularies": " ".join(vocabularies), "dictionary": dictionary}
        if (old := self._record()) is None:
            self.write(self.path / "config.json", {**self.command, **record, "config": nested(self.config)})
        checked = {"digest": f"corpus {corpus.name}", "vocabularies": "vocabulary", "word_vectors": "word vectors"}
        checked |= {"dictionary": "decode.dictionary"}
        for name, what in checked.items():
            if old is not None and old.get(name) != record[name]:
                raise DataError(
                    f"--workdir {self.path}: its run was started on other data ({what}, digest "
                    f"{str(old.get(name))[:12]}, now {record[name][:12]}); choose another workdir or restore the files"
                )

    @staticmethod
    def write(path: Path, content: dict) -> None:
        """`write_json` by one host; the others wait until it is there."""
        if is_leader():
            write_json(path, content)
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices(str(path))

    def replica(self, number: int) -> Path:
        return self.path / f"replica_{number:02d}"

    def finished(self, number: int) -> bool:
        return (self.replica(number) / "metrics.json").is_file()

    def finish(self, *, params: int, data: dict, seconds: float) -> dict:
        """Writes `result.json` from all replicas' metrics, and removes their checkpoints."""
        replicas = self.config.replicas * self.config.folds
        keys = ("metrics", "steps", "examples", "step_seconds", "seconds")
        records = [read_json(self.replica(n) / "metrics.json", keys, remedy=REMEDY) for n in range(replicas)]
        splits = records[0]["metrics"]
        metrics = {
            split: {
                name: summary([r["metrics"][split][name] for r in records if name in r["metrics"][split]])
                for name in splits[split]
            }
            for split in splits
        }
        signatures = {name: text for r in records for name, text in r.get("signatures", {}).items()}
        intervals = [r["bootstrap"] for r in records if "bootstrap" in r]
        examples, step_seconds = (sum(r[name] for r in records) for name in ("examples", "step_seconds"))
        words = ["python", "-m", "experiments.run", "--config", self.command["config"], "--workdir", str(self.path)]
        words += [f"--config.{override}" for override in self.command["overrides"]]
        result = {
            "paper": self.config.paper,
            **self.command,
            "command": shlex.join(words),
            "metrics": metrics,
            "signatures": signatures,
            **({"bootstrap": intervals} if intervals else {}),
            "params": params,
            "steps": sum(r["steps"] for r in records),
            "examples_per_second": examples / step_seconds if step_seconds else None,
            "seconds": seconds + sum(r["seconds"] for r in records),
            "data": data,
            "environment": environment(),
        }
        self.write(self.path / "result.json", result)
        for number in range(replicas if is_leader() else 0):
            shutil.rmtree(self.replica(number) / "checkpoints", ignore_errors=True)
        return result


def splits_of(config: ConfigDict) -> dict[str, str]:
    """Role of a split -> its name in the corpus, empty where it is a random part of the training split."""
    return {role: config.data[role] for role in ("train", "dev", "test")}


def nested(config: ConfigDict) -> dict:
    """The configuration as plain JSON values."""
    return {k: nested(v) if isinstance(v, ConfigDict) else v for k, v in config.items()}


def _relative(path: str) -> str:
    """A configuration's path from the folder that the command runs in, where it lies below it."""
    path, here = Path(path).resolve(), Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)

"""Name of a corpus -> its columns: the one way in which data sets are read, ours or the TFDS catalogue's."""

import contextlib
import dataclasses
import difflib
import fcntl
import functools
import hashlib
import importlib
import inspect
import io
import json
import logging
import pkgutil
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants, naming, registered

from research.corpora import classification, matching, number_words, paraphrases, translation, word_order
from research.corpora.builder import CorpusBuilder
from research.corpora.download import download
from research.errors import ConfigError, DataError

# Every builder in them that has raw files or generates can be loaded by name.
_MODULES = (classification, matching, translation, word_order, number_words, paraphrases)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A loaded corpus.

    Attributes:
      name: `builder` or `builder/configuration`.
      version: the builder's version.
      splits: split -> column -> values: str for text, int for class labels and integers, float for scores.
      label_names: the classes of the first class-label column asked for; () if there is none.
      digest: SHA-256 of the values in the order in which they were asked for. The same data under another
        corpus, split or column name has the same digest.
    """

    name: str
    version: str
    splits: dict[str, dict[str, list]]
    label_names: tuple[str, ...]
    digest: str


def load_corpus(
    name: str,
    *,
    columns: Sequence[str],
    splits: Sequence[str],
    data_dir: str | Path | None = None,
    manual_dir: str | Path | None = None,
) -> Corpus:
    """Loads splits of a corpus, preparing it first where that has not been done or its raw files have changed.

    Any number of processes may do so at once, and a preparation that is interrupted leaves nothing that counts.

    Args:
      name: one of our builders or a TFDS name: "mr", "trec/fine", "imdb_reviews", "glue/sst2", "name:1.0.0".
      columns: features to return.
      splits: splits to return, e.g. "train"; all of them if empty.
      data_dir: where TFDS keeps prepared corpora; default: TFDS's own, ~/tensorflow_datasets.
      manual_dir: the raw files of corpus `mr` lie in `<manual_dir>/mr/`; default: `<data_dir>/downloads/manual`.

    Raises:
      ConfigError: unknown corpus, configuration, version, split or column; the message lists those that exist.
      DataError: raw files are missing or malformed, a download failed or the data folder is not usable.
    """
    root = Path(data_dir or constants.DATA_DIR).expanduser()
    manual = Path(manual_dir).expanduser() if manual_dir else root / "downloads" / "manual"
    dataset = _parse(name)[0]
    own = own_builders().get(dataset)
    make = functools.partial(_own if own else _from_catalogue, name, root, manual)
    with _locked(root, dataset, exclusive=False):
        builder = make()
        _check("column", columns, _scalar_features(builder), name)
        if _is_fresh(builder):
            return _read(builder, columns, splits)
    with _locked(root, dataset, exclusive=True):
        builder = make()
        if not _is_fresh(builder):
            if own:
                _obtain_raw_files(builder)
            builder = _prepare(builder.data_path, make, manual)
        return _read(builder, columns, splits)


@functools.cache
def own_builders() -> Mapping[str, type[CorpusBuilder]]:
    """Name -> builder class, for the corpora of this repository."""
    members = [member for module in _MODULES for member in vars(module).values() if inspect.isclass(member)]
    builders = [cls for cls in members if issubclass(cls, CorpusBuilder) and not inspect.isabstract(cls)]
    return {cls.name: cls for cls in builders if cls.files}


def _parse(name: str) -> tuple[str, dict[str, Any]]:
    """The builder's name, and the configuration and version asked for."""
    try:
        dataset, options = naming.parse_builder_name_kwargs(name)
    except ValueError:
        dataset, options = None, {}
    if dataset is None or dataset.namespace:
        raise ConfigError(f"corpus {name!r}: write name, name/configuration or name/configuration:1.0.0")
    return dataset.name, options


def _own(name: str, root: Path, manual: Path) -> CorpusBuilder:
    dataset, options = _parse(name)
    cls = own_builders()[dataset]
    folders = {"folder": manual / dataset, "downloads": root / "downloads" / dataset}
    return _construct(functools.partial(cls, **folders, **options), cls, name, root)


def _from_catalogue(name: str, root: Path, manual: Path) -> tfds.core.DatasetBuilder:
    del manual  # is TFDS's business, when it prepares the corpus
    dataset, _ = _parse(name)
    if dataset not in registered.list_imported_builders():
        _import_catalogue()
    try:
        cls = tfds.builder_cls(dataset)
    except registered.DatasetNotFoundError:
        cls = None  # still, a data set of the user's own may lie prepared in the data folder
    return _construct(functools.partial(tfds.builder, name), cls, name, root)


@functools.cache
def _import_catalogue() -> None:
    """Registers the catalogue's older builders.

    TFDS imports their packages one after another and gives up at the first that fails: without TensorFlow or h5py
    most of them, `text` and `translate` included, stay unknown.
    """
    for package in pkgutil.iter_modules(tfds.__path__):
        if package.ispkg and package.name not in ("core", "scripts", "testing"):
            with contextlib.suppress(ImportError):
                importlib.import_module(f"{tfds.__name__}.{package.name}")


def _construct(
    make: Callable[..., tfds.core.DatasetBuilder], cls: type[tfds.core.DatasetBuilder] | None, name: str, root: Path
) -> tfds.core.DatasetBuilder:
    """Calls `make` (of class `cls`, None: unknown) and says in one line what is wrong with `name`."""
    dataset, options = _parse(name)
    if cls is not None:
        _check("configuration", [options["config"]] if "config" in options else [], cls.builder_configs, dataset)
    try:
        return make(data_dir=root, file_format="array_record")
    except registered.DatasetNotFoundError:
        known = sorted({*own_builders(), *registered.list_imported_builders()})
        raise ConfigError(
            f"unknown corpus {name!r}; nearest names: {', '.join(_nearest(dataset, known))}; "
            f"this repository's: {', '.join(sorted(own_builders()))}"
        ) from None
    except AssertionError as error:  # TFDS: no such version
        raise ConfigError(f"corpus {name!r}: {_one_line(error)}") from None
    except ModuleNotFoundError as error:
        raise DataError(f"corpus {name!r}: {_one_line(error)}; install it") from None
    except Exception as error:
        raise DataError(
            f"corpus {name!r}: {_one_line(error)}; if {root / dataset} is damaged or in another format than "
            "array_record, delete it or choose another data folder"
        ) from None


def _obtain_raw_files(builder: CorpusBuilder) -> None:
    """Downloads the raw files if there are none; raises DataError if some are missing in the end."""
    failure = ""
    if not builder.raw and builder.sources:
        try:
            download(builder.sources, builder.downloads, timeout=builder.timeout)
        except DataError as error:
            failure = f" (the download failed: {error})"
    if missing := builder.missing_from(builder.raw):
        origin = f", from {builder.origin}" if builder.origin else ""
        raise DataError(f"corpus {builder.name!r}{origin}: put {', '.join(missing)} into {builder.folder}{failure}")


def _is_fresh(builder: tfds.core.DatasetBuilder) -> bool:
    """Whether a prepared copy exists that was made from the present raw files (if there still are any)."""
    if not builder.data_path.exists():
        return False
    raw = builder.digests() if isinstance(builder, CorpusBuilder) else {}
    return not raw or builder.info.metadata.get("raw_files") == raw


def _prepare(path: Path, make: Callable[[], tfds.core.DatasetBuilder], manual: Path) -> tfds.core.DatasetBuilder:
    """Makes a new prepared copy at `path`. TFDS builds it in a folder `incomplete.*` beside that and renames it.

    The caller holds the lock, so such folders found here are those of processes that were killed.
    """
    for stale in [path, *path.parent.glob(f"{constants.INCOMPLETE_PREFIX}*")]:
        shutil.rmtree(stale, ignore_errors=True)
    builder = make()  # one that knows nothing of the stale copy
    config = tfds.download.DownloadConfig(manual_dir=manual, try_download_gcs=False)
    shown = sys.stderr.isatty() and not isinstance(builder, CorpusBuilder)
    (tfds.enable_progress_bar if shown else tfds.disable_progress_bar)()
    if shown:
        sys.stderr.write(f"corpus {builder.name}: TFDS gets and prepares it; offline it gives up after minutes\n")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # each of its attempts would be a line, before the error
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints where it prepares what
            builder.download_and_prepare(download_config=config)
    except Exception as error:
        raise _data_error(error, builder) from None
    return builder


def _data_error(error: BaseException, builder: tfds.core.DatasetBuilder) -> DataError:
    """The DataError that TFDS wrapped; or one that says in a line what TFDS said."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DataError):
            return cause
        cause = cause.__cause__ or cause.__context__
    lacking = f"; pip install {error.name}" if isinstance(error, ModuleNotFoundError) else ""
    return DataError(
        f"corpus {builder.name!r}: TFDS cannot prepare it in {builder.data_dir}: {_one_line(error)}{lacking}"
    )


def _read(builder: tfds.core.DatasetBuilder, columns: Sequence[str], splits: Sequence[str]) -> Corpus:
    config = builder.builder_config
    name = f"{builder.name}/{config.name}" if config else builder.name
    _check("split", splits, builder.info.splits, name)
    content, digest = {}, hashlib.sha256()
    for split in splits or builder.info.splits:
        try:
            source = builder.as_data_source(split)
            examples = source.__getitems__(range(len(source)))  # twice as fast as one after another
        except Exception as error:
            raise DataError(f"{builder.data_dir}: {_one_line(error)}; the copy is damaged: delete the folder") from None
        content[split] = {column: [_plain(example[column]) for example in examples] for column in columns}
        for values in content[split].values():
            digest.update(json.dumps(values).encode())
    labels = [builder.info.features[column] for column in columns]
    names = next((tuple(label.names) for label in labels if isinstance(label, tfds.features.ClassLabel)), ())
    return Corpus(name, str(builder.version), content, names, digest.hexdigest())


def _plain(value: Any) -> str | int | float:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value


def _scalar_features(builder: tfds.core.DatasetBuilder) -> list[str]:
    return [name for name, feature in builder.info.features.items() if feature.shape == ()]


def _check(kind: str, asked: Sequence[str], existing: Sequence[str] | Mapping[str, Any], name: str) -> None:
    for item in asked:
        if item not in existing:
            raise ConfigError(f"corpus {name!r} has no {kind} {item!r}; it has {', '.join(existing) or 'none'}")


def _nearest(name: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name, known, n=5) or difflib.get_close_matches(name, known, n=3, cutoff=0.0)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r'^Failed to construct dataset .*?\}": ', "", text)  # TFDS's prefix repeats the arguments
    return text if len(text) <= 300 else text[:300] + " ..."


@contextlib.contextmanager
def _locked(root: Path, dataset: str, *, exclusive: bool) -> Iterator[None]:
    """Holds a lock on a corpus: shared by those who read it, exclusive to the one who prepares it.

    Without it two processes that prepare the same corpus collide when the second renames its folder, and a copy
    can be replaced while somebody reads it. The system releases the lock of a process that dies.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = (root / f".{dataset}.lock").open("a")
    except OSError as error:
        if exclusive:
            raise DataError(f"{root}: {error.strerror}; choose another data folder") from None
        yield  # a read-only data folder: nobody prepares anything in it
        return
    with handle:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield

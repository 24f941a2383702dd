"""A corpus as a run sees it: splits or folds, vocabularies from the training part alone, and tables of ids."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from research.batches import Lengths, Table, bucket_numbers, longer, make_buckets
from research.codecs import Codec, learn_words, make_codecs, reserved, roles, words_codec
from research.corpora import Corpus, load_corpus
from research.errors import ConfigError, DataError
from research.text import EOS, ParseError, Vocabulary
from research.translation import faults

SAMPLE = 500  # references that are looked at before training


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One fold (or the corpus's own splits): all examples as ids, which of them make up `train`, `dev` and `test`.

    codecs: of each role; roles with one vocabulary share it. texts: the sentences as they stand in the corpus,
    by split and role, where a task scores texts."""

    table: Table
    splits: dict[str, np.ndarray]
    codecs: dict[str, Codec]
    texts: dict[str, dict[str, list[str]]] = dataclasses.field(default_factory=dict)

    def sizes(self) -> dict[str, int]:
        return {role: len(codec) for role, codec in self.codecs.items()}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a run trains on: a dataset a fold, the buckets of their batches, how many examples were longer than the
    longest bucket of the configuration, or left out for want of a label, and what a user should know, a line each."""

    datasets: list[Dataset]
    buckets: tuple[Lengths, ...]
    long: int
    unlabelled: int = 0
    notes: tuple[str, ...] = ()


def split_names(config) -> tuple[str, ...]:
    """The corpus splits a run reads, each once."""
    data = config.data
    if config.folds > 1:
        return (data.train,)
    return tuple(dict.fromkeys(name for name in (data.train, data.dev, data.test, *data.more_tests) if name))


def load(config, *, data_dir, manual_dir) -> Corpus:
    """The corpus of `config.data`, with the columns and splits that the run reads."""
    data = config.data
    if config.folds < 1 or config.replicas < 1:
        raise ConfigError(f"folds and replicas must be at least 1, got {config.folds} and {config.replicas}")
    for name, seed in (("seed", config.seed), ("data.split_seed", data.split_seed)):
        if not 0 <= seed < 2**31:
            raise ConfigError(f"{name} must lie between 0 and 2147483647, got {seed}")
    if config.folds > 1 and data.dev:
        raise ConfigError(f"data.dev = {data.dev} has no place in cross-validation: set --config.data.dev= or folds=1")
    if config.folds == 1 and not data.test:
        raise ConfigError(f"data.test: corpus '{data.corpus}' needs a test split, or --config.folds=10")
    if config.folds > 1 and data.more_tests:
        raise ConfigError("data.more_tests has no place in cross-validation")
    if set(data.more_tests) & {"train", "dev", "test"}:
        raise ConfigError("data.more_tests: results have train, dev and test of their own; name other splits")
    if config.folds == 1 and data.train in (data.dev, data.test, *data.more_tests):
        raise ConfigError(f"data.train: split '{data.train}' is also data.dev or data.test; none may be trained on")
    if config.folds == 1 and data.test == data.dev:
        raise ConfigError(f"data.test = {data.test} is also data.dev: select and test on different examples")
    texts = list(roles(config).values())
    if len(set(texts)) < len(texts):
        raise ConfigError(f"data: columns must differ, got {', '.join(texts)}")
    columns = [*texts, *([data.label] if config.task != "translation" else [])]
    corpus = load_corpus(
        data.corpus, columns=columns, splits=split_names(config), data_dir=data_dir, manual_dir=manual_dir
    )
    for split, values in corpus.splits.items():
        for role, column in roles(config).items():
            if not all(isinstance(text, str) for text in values[column]):
                raise ConfigError(f"data.{role}: column '{column}' of corpus '{corpus.name}' holds no text")
        if not values[columns[0]]:
            raise DataError(f"corpus '{corpus.name}': split '{split}' is empty")
    if config.task == "translation":
        return corpus
    _check_labels(corpus, data)
    return _with_positive(corpus, data) if data.positive else corpus


def _with_positive(corpus: Corpus, data) -> Corpus:
    """The corpus with `data.positive` as its second class, which F1, AUC, the threshold and retrieval are about."""
    names = corpus.label_names
    if len(names) != 2 or data.positive not in names:
        most = lambda place: max(columns[data.label].count(place) for columns in corpus.splits.values())
        single = [name for place, name in enumerate(names) if most(place) == 1]
        hint = f" (one example of a file alone is '{single[0]}': is it a header?)" if single else ""
        raise ConfigError(
            f"data.positive = {data.positive}: names one of two classes; corpus '{corpus.name}' has "
            f"{', '.join(names)}{hint}"
        )
    if names[1] == data.positive:
        return corpus
    other = {0: 1, 1: 0}
    swapped = lambda columns: columns | {data.label: [other.get(label, label) for label in columns[data.label]]}
    splits = {split: swapped(columns) for split, columns in corpus.splits.items()}
    return dataclasses.replace(corpus, label_names=names[::-1], splits=splits)


def _check_labels(corpus: Corpus, data) -> None:
    """Every example has a label, or at least one of each split has where `data.unlabelled` = drop."""
    if not corpus.label_names:
        raise ConfigError(f"data.label: column '{data.label}' of corpus '{corpus.name}' holds no classes")
    if (choice := data.get("unlabelled", "refuse")) not in ("refuse", "drop"):
        raise ConfigError(f"data.unlabelled: '{choice}' is neither refuse nor drop")
    for split, columns in corpus.splits.items():
        labelled, count = len(_labelled_rows(columns[data.label])), len(columns[data.label])
        if not labelled or (labelled < count and choice == "refuse"):
            hint = ", or set data.unlabelled=drop" if labelled and "unlabelled" in data else ""
            raise DataError(
                f"corpus '{corpus.name}': {labelled} of {count} examples of split '{split}' have a label; "
                f"name another split (data.train, data.dev, data.test){hint}"
            )


def _labelled_rows(labels: Sequence[int]) -> list[int]:
    """Places of the examples with a label; TFDS writes -1 where there is none."""
    return [place for place, label in enumerate(labels) if label >= 0]


def split_indices(sizes: dict[str, int], config, fold: int) -> dict[str, np.ndarray]:
    """Places of the train, dev and test examples among all examples, which lie one split after another.

    With folds, the examples are shuffled once (`data.split_seed`) and dealt out in turn; fold `fold` is the test part.
    Without a dev split, `data.dev_fraction` of the training part is drawn for it, as in Kim 2014, section 3.1."""
    data = config.data
    ends = np.cumsum(list(sizes.values()))
    places = {name: np.arange(end - sizes[name], end) for name, end in zip(sizes, ends)}
    train = places[data.train]
    if config.folds > 1:
        shuffled = np.random.default_rng(data.split_seed).permutation(train)
        test = np.sort(shuffled[fold :: config.folds])
        train = np.setdiff1d(train, test)
    else:
        test = places[data.test]
    if not 0.0 < data.train_fraction <= 1.0:
        raise ConfigError(f"data.train_fraction must lie in (0, 1], got {data.train_fraction}")
    if data.train_fraction < 1.0:
        count = max(1, round(data.train_fraction * len(train)))
        train = np.sort(np.random.default_rng((data.split_seed, fold, 1)).permutation(train)[:count])
    tests = {"test": test, **{name: places[name] for name in data.more_tests}}
    if data.dev and config.folds == 1:
        return {"train": train, "dev": places[data.dev], **tests}
    if not 0.0 < data.dev_fraction < 1.0:
        raise ConfigError(f"data.dev_fraction must lie between 0 and 1, got {data.dev_fraction}")
    shuffled = np.random.default_rng((data.split_seed, fold)).permutation(train)
    count = max(1, round(data.dev_fraction * len(train)))
    return {"train": np.sort(shuffled[count:]), "dev": np.sort(shuffled[:count]), **tests}


def _check_classes(labels: np.ndarray, splits: dict[str, np.ndarray], corpus: Corpus, config, fold: int) -> None:
    """Every class must occur where it is learned, and in every fold where it is tested."""
    for part in ("train", "test") if config.folds > 1 else ("train",):
        present = set(labels[splits[part]].tolist())
        missing = [name for index, name in enumerate(corpus.label_names) if index not in present]
        if missing:
            where = f"fold {fold}'s {part} part" if config.folds > 1 else f"split '{config.data.train}'"
            hint = "use fewer folds or another data.split_seed" if config.folds > 1 else "check the corpus files"
            raise DataError(f"corpus '{corpus.name}': {where} has no example of class {', '.join(missing)}; {hint}")


def build(corpus: Corpus, config, codecs: Mapping[str, Codec] | None = None) -> Prepared:
    """The datasets of a run; ConfigError or DataError where they cannot be made. codecs: of a translation run that goes
    on, so that they are not learned again."""
    data = config.data
    buckets = make_buckets(data.buckets, tuple(roles(config)))
    if data.min_count < 1 or data.max_vocabulary < 0:
        raise ConfigError("data.min_count must be at least 1 and data.max_vocabulary at least 0 (no limit)")
    if config.task == "translation":
        return _parallel(corpus, config, _sizes(corpus), buckets, codecs)
    return _labelled(corpus, config, buckets)


def _sizes(corpus: Corpus) -> dict[str, int]:
    """Examples of each split."""
    return {split: len(next(iter(columns.values()))) for split, columns in corpus.splits.items()}


def _labelled(corpus: Corpus, config, buckets: tuple[Lengths, ...]) -> Prepared:
    """Classification and matching: texts longer than the last bucket are cut.

    All vocabularies are used at the size of the largest, so that every fold has the same shapes."""
    data, before = config.data, sum(_sizes(corpus).values())
    keep = lambda columns: {name: [x[i] for i in _labelled_rows(columns[data.label])] for name, x in columns.items()}
    corpus = dataclasses.replace(corpus, splits={split: keep(columns) for split, columns in corpus.splits.items()})
    sizes, start = _sizes(corpus), reserved(config)
    if config.folds > sizes[data.train] // 3:
        raise ConfigError(f"folds = {config.folds} is too many for the {sizes[data.train]} examples of '{corpus.name}'")
    codecs = {role: words_codec(role, Vocabulary(start, start), config) for role in roles(config)}
    columns = corpus.splits.values()
    texts = {role: [] for role in codecs}
    for role, name in roles(config).items():
        for split, part in corpus.splits.items():
            for number, text in enumerate(part[name], 1):
                try:
                    texts[role].append(codecs[role].split(text))
                except ParseError as error:
                    raise DataError(
                        f"corpus '{corpus.name}', split '{split}', labelled example {number}: {text[:40]!r} in column "
                        f"'{name}' is no binarised parse, as data.tokenizer = parse needs: {error}"
                    ) from error
    labels = np.array([label for part in columns for label in part[data.label]], np.int32)
    datasets = []
    for fold in range(config.folds):
        splits = split_indices(sizes, config, fold)
        _check_classes(labels, splits, corpus, config, fold)
        _check_batch(config, len(splits["train"]), buckets[-1])
        known = learn_words((rows[i] for rows in texts.values() for i in splits["train"]), config)
        mine = {role: dataclasses.replace(codec, vocabulary=known) for role, codec in codecs.items()}
        ids = {role: [known.encode(text, skip=mine[role].skip) for text in rows] for role, rows in texts.items()}
        datasets.append(Dataset(Table.build(ids, labels, buckets[-1]), splits, mine))
    limits = dict(buckets[-1])
    long = sum(len(text) > limits[role] for role, rows in texts.items() for text in rows)
    unlabelled, notes = before - len(labels), _rare_classes(datasets[0], corpus.label_names)
    if long:
        most = " and ".join(map(str, sorted(set(limits.values()))))
        notes.append(f"{long} texts are longer than {most} tokens and were cut")
    if unlabelled:
        notes.append(f"{unlabelled} pairs have no label and were left out")
    return Prepared(datasets, buckets, long, unlabelled, tuple(notes))


def _rare_classes(data: Dataset, names: Sequence[str]) -> list[str]:
    """A line for each class of a single training example: most often the header of a file, or a slip of the pen."""
    counts = np.bincount(data.table.labels[data.splits["train"]], minlength=len(names))
    all_names = ", ".join(f"{name} {count}" for name, count in zip(names, counts))
    return [
        f"class '{name}' has one training example (of {all_names}): is it the header of a file, or a slip of the pen?"
        for name, count in zip(names, counts)
        if count == 1
    ]


def _check_batch(config, size: int, longest: Lengths) -> None:
    """longest: the lengths of the longest bucket of training examples."""
    train, least = config.train, max(length for _, length in longest)
    if train.batch_size > size and not train.batch_tokens:
        raise ConfigError(f"train.batch_size = {train.batch_size} is more than {size} training examples")
    if 0 < train.batch_tokens < least:
        raise ConfigError(f"train.batch_tokens = {train.batch_tokens} is less than one row of data.buckets, {least}")


def _parallel(
    corpus: Corpus, config, sizes: dict[str, int], buckets: tuple[Lengths, ...], codecs: Mapping[str, Codec] | None
) -> Prepared:
    """Translation: training pairs longer than the last bucket are left out; for longer sentences of the other splits
    there are longer buckets, so none is cut or dropped. Every sentence ends in </s>."""
    if config.folds > 1:
        raise ConfigError(f"folds = {config.folds}: there is no cross-validation of translation")
    data, columns = config.data, roles(config)
    places = split_indices(sizes, config, 0)
    sentences = {
        role: [text for split in corpus.splits.values() for text in split[name]] for role, name in columns.items()
    }
    texts = {split: {role: [sentences[role][i] for i in places[split]] for role in columns} for split in places}
    codecs = codecs or make_codecs(texts["train"], config)
    ids = {
        split: {role: [[*codecs[role].encode(text), EOS] for text in texts[split][role]] for role in columns}
        for split in places
    }
    count = lambda split: {role: np.array([len(row) for row in rows]) for role, rows in ids[split].items()}
    fits, longest = bucket_numbers(count("train"), buckets) < len(buckets), buckets[-1]
    if not fits.any():
        raise ConfigError(f"data.buckets: none of the {len(fits)} training pairs fits into the longest, {longest}")
    ids["train"] = {role: [row for row, fit in zip(rows, fits) if fit] for role, rows in ids["train"].items()}
    for split in set(ids) - {"train"}:
        buckets = longer(buckets, count(split))
    segments = None
    if data.pack:
        one = lambda rows: [[1] * len(row) for row in rows]
        segments = {split: {role: one(rows) for role, rows in ids[split].items()} for split in ids}
        ids["train"], segments["train"] = pack(ids["train"], dict(longest))
    ends = np.cumsum([0, *(len(ids[split]["source"]) for split in ids)])
    splits = {split: np.arange(begin, end) for split, begin, end in zip(ids, ends, ends[1:])}
    _check_batch(config, len(splits["train"]), longest)
    together = lambda parts: {role: [row for split in parts for row in parts[split][role]] for role in columns}
    labels = np.zeros(ends[-1], np.int32)
    table = Table.build(together(ids), labels, buckets[-1], segments and together(segments))
    long, most = int(np.sum(~fits)), " and ".join(f"{n} {role}" for role, n in longest)
    notes = [f"{long} training pairs are longer than {most} tokens; left out"] if long else []
    back = [codecs["target"].decode(row[:-1]) for row in ids["dev"]["target"][:SAMPLE]]
    notes += faults(texts["dev"]["target"][:SAMPLE], back, config)
    return Prepared([Dataset(table, splits, codecs, texts)], buckets, long, notes=tuple(notes))


def pack(rows: dict[str, list[list[int]]], sizes: dict[str, int]) -> tuple[dict, dict]:
    """Several examples in a row, as many as fit into `sizes`, and the segment numbers that tell them apart, from 1 on.

    An example goes into the first row that has room, of the last hundred that were begun."""
    packed, open_rows = [], []
    for number in range(len(next(iter(rows.values())))):
        example = {role: rows[role][number] for role in rows}
        room = lambda row, example=example: all(
            sum(map(len, row[role])) + len(example[role]) <= sizes[role] for role in rows
        )
        row = next((row for row in open_rows if room(row)), None)
        if row is None:
            row = {role: [] for role in rows}
            packed.append(row)
            open_rows = [*open_rows[-99:], row]
        for role in rows:
            row[role].append(example[role])
    join = lambda make: {
        role: [[x for part in enumerate(row[role], 1) for x in make(*part)] for row in packed] for role in rows
    }
    return join(lambda number, ids: ids), join(lambda number, ids: [number] * len(ids))

"""A corpus as a run sees it: splits or folds, a vocabulary from the training part alone, and tables of ids."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from research.batches import Table, check_buckets
from research.corpora import Corpus, load_corpus
from research.errors import ConfigError, DataError
from research.text import Vocabulary, tokenizer


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One fold (or the corpus's own splits): all examples as ids, which of them make up `train`, `dev` and `test`."""

    table: Table
    splits: dict[str, np.ndarray]
    vocabulary: Vocabulary


def split_names(config) -> tuple[str, ...]:
    """The corpus splits a run reads, each once."""
    data = config.data
    return (
        tuple(dict.fromkeys(name for name in (data.train, data.dev, data.test) if name))
        if config.folds == 1
        else (data.train,)
    )


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
    if config.folds == 1 and data.train in (data.dev, data.test):
        raise ConfigError(f"data.train: split '{data.train}' is also data.dev or data.test; none may be trained on")
    if config.folds == 1 and data.test == data.dev:
        raise ConfigError(f"data.test = {data.test} is also data.dev: select and test on different examples")
    columns = (data.text, data.label)
    corpus = load_corpus(
        data.corpus, columns=columns, splits=split_names(config), data_dir=data_dir, manual_dir=manual_dir
    )
    _check_columns(corpus, data)
    return corpus


def _check_columns(corpus: Corpus, data) -> None:
    """The columns are text and classes, and every example has a label (TFDS writes -1 where there is none)."""
    if not corpus.label_names:
        raise ConfigError(f"data.label: column '{data.label}' of corpus '{corpus.name}' holds no classes")
    for split, columns in corpus.splits.items():
        if not all(isinstance(text, str) for text in columns[data.text]):
            raise ConfigError(f"data.text: column '{data.text}' of corpus '{corpus.name}' holds no text")
        labelled = sum(0 <= label < len(corpus.label_names) for label in columns[data.label])
        if labelled < len(columns[data.label]) or not labelled:
            raise DataError(
                f"corpus '{corpus.name}': {labelled} of {len(columns[data.label])} examples of split '{split}' "
                "have a label; name another split (data.train, data.dev, data.test)"
            )


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
    if data.dev and config.folds == 1:
        return {"train": train, "dev": places[data.dev], "test": test}
    if not 0.0 < data.dev_fraction < 1.0:
        raise ConfigError(f"data.dev_fraction must lie between 0 and 1, got {data.dev_fraction}")
    shuffled = np.random.default_rng((data.split_seed, fold)).permutation(train)
    count = max(1, round(data.dev_fraction * len(train)))
    return {"train": np.sort(shuffled[count:]), "dev": np.sort(shuffled[:count]), "test": test}


def _check_classes(labels: np.ndarray, splits: dict[str, np.ndarray], corpus: Corpus, config, fold: int) -> None:
    """Every class must occur where it is learned, and in every fold where it is tested."""
    for part in ("train", "test") if config.folds > 1 else ("train",):
        present = set(labels[splits[part]].tolist())
        missing = [name for index, name in enumerate(corpus.label_names) if index not in present]
        if missing:
            where = f"fold {fold}'s {part} part" if config.folds > 1 else f"split '{config.data.train}'"
            hint = "use fewer folds or another data.split_seed" if config.folds > 1 else "check the corpus files"
            raise DataError(f"corpus '{corpus.name}': {where} has no example of class {', '.join(missing)}; {hint}")


def build(corpus: Corpus, config) -> tuple[list[Dataset], int]:
    """One dataset a fold, and how many texts are longer than the last bucket (they are cut).

    All vocabularies are used at the size of the largest, so that every fold has the same shapes."""
    data = config.data
    check_buckets(data.buckets)
    if data.unknown not in ("token", "skip"):
        raise ConfigError(f"data.unknown: '{data.unknown}' is neither token nor skip")
    if data.min_count < 1 or data.max_vocabulary < 0:
        raise ConfigError("data.min_count must be at least 1 and data.max_vocabulary at least 0 (no limit)")
    split = tokenizer(data.tokenizer, data.lower)
    columns = corpus.splits.values()
    texts = [split(text) for column in columns for text in column[data.text]]
    labels = np.array([label for column in columns for label in column[data.label]], np.int32)
    sizes = {name: len(column[data.label]) for name, column in corpus.splits.items()}
    if config.folds > sizes[data.train] // 3:
        raise ConfigError(f"folds = {config.folds} is too many for the {sizes[data.train]} examples of '{corpus.name}'")
    datasets = []
    for fold in range(config.folds):
        splits = split_indices(sizes, config, fold)
        _check_classes(labels, splits, corpus, config, fold)
        if config.train.batch_size > len(splits["train"]):
            raise ConfigError(
                f"train.batch_size = {config.train.batch_size} is more than {len(splits['train'])} training examples"
            )
        known = Vocabulary.build(
            (texts[i] for i in splits["train"]), min_count=data.min_count, max_size=data.max_vocabulary
        )
        datasets.append(Dataset(encode(texts, labels, known, data), splits, known))
    return datasets, sum(len(text) > data.buckets[-1] for text in texts)


def encode(texts: Sequence[Sequence[str]], labels: Sequence[int], vocabulary: Vocabulary, data) -> Table:
    """Tokenised texts as a table of ids."""
    ids = [vocabulary.encode(text, unknown=data.unknown) for text in texts]
    return Table.build({data.text: ids}, labels, data.buckets[-1])

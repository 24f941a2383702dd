"""Makes a workdir of weights that others trained with PyTorch, for python -m experiments.predict to apply.

--from fairseq-fconv: a checkpoint of fairseq's model fconv (the ConvS2S of its authors) and the dictionaries that lie
beside it, of the source and of the target. All sizes are read off the arrays' shapes. What shapes do not show is taken
to be fairseq's default: every layer has a residual connection from its own input and sums are scaled by the square
root of 0.5; a checkpoint of other residual connections gives wrong translations where its shapes are the same.

Lines to translate must look as the training text of the checkpoint did: tokenised, and split into its subwords, such
as "un@@ known words". What predict prints are such tokens with blanks between them; for BPE, sed 's/@@ //g' joins
them to words, and a detokeniser makes text of those.

--from esim-pytorch: a checkpoint of coetaur0/ESIM (best.pth.tar or esim_*.pth.tar) and the worddict.pkl that its
preprocessing wrote. All sizes are read off the arrays' shapes. Texts stand between _BOS_ and _EOS_ if the worddict has
them, as by default, and are lower-cased if no word of it has a capital. Class names are in neither file: three classes
are called entailment, neutral and contradiction, in the order of all its configurations, others 0, 1, ...; where that
is wrong, put the names into label_names of the workdir's config.json.

Pairs to label must look as the training text did, words with blanks between them: those of SNLI's parses, without
their brackets. Logits are those of PyTorch but for one case: its masked softmax lets padding into the sum and divides
it out again, so that in a batch with padding a word all of whose scores are below about -15 is aligned wrongly, and the
more so the lower they are. Here padding changes nothing.

Files are read without running what they may hold beside weights and words: one that needs such code is refused.
"""

import argparse
import dataclasses
import pickle
import re
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, PyTree
from ml_collections import ConfigDict

from configs.conv_seq2seq import wmt14_en_de
from configs.defaults import translation_defaults
from configs.esim import snli
from experiments import cli
from experiments.environment import environment
from experiments.workdir import nested, write_json
from research.checkpoints import save_arrays
from research.codecs import Codec, Words, digest, roles, save_codecs, words_codec
from research.conv_seq2seq import Convolution, written
from research.corpora.reading import read_text, sha256
from research.errors import ConfigError, DataError
from research.tasks import make_task
from research.text import RESERVED, SENTENCE, Vocabulary, blank

EXAMPLES = """examples:
  python -m experiments.import_weights --from fairseq-fconv --checkpoint model.pt --dicts dict.en.txt dict.fr.txt \\
      --workdir runs/fairseq_en_fr
  python -m experiments.predict --workdir runs/fairseq_en_fr --input newstest2014.bpe.en
  python -m experiments.import_weights --from esim-pytorch --checkpoint best.pth.tar --worddict worddict.pkl \\
      --workdir runs/esim_pytorch
  python -m experiments.predict --workdir runs/esim_pytorch --input pairs.txt"""


# Any format


@dataclasses.dataclass(frozen=True)
class Imported:
    """What a checkpoint becomes: the configuration of a run, its codecs by role, the model's parameters, and the names
    of its classes, where it has some."""

    config: ConfigDict
    codecs: Mapping[str, Codec]
    params: PyTree
    label_names: tuple[str, ...] = ()


class Entries:
    """The arrays of a checkpoint by name, each of which is taken once.

    kind: what the checkpoint is said to be, for the messages of DataErrors, which name file and entry."""

    def __init__(self, path: Path, kind: str):
        self.path, self.kind, self._left = path, kind, _read_state(path)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def any_of(self, module: str) -> bool:
        """Whether an array of the module or of one in it is left."""
        return any(name.startswith(f"{module}.") for name in self._left)

    def take(self, name: str, *shape: int | None) -> Float[np.ndarray, "..."]:
        """The array, of this shape (None: any size); DataError where there is none, or it holds NaN or infinity."""
        if name not in self._left:
            raise DataError(f"{self.path}: has no entry '{name}', so it is not of {self.kind}")
        x = self._left.pop(name)
        if len(x.shape) != len(shape) or any(size not in (None, own) for size, own in zip(shape, x.shape)):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise DataError(f"{self.path}: '{name}' has shape {x.shape}; of {self.kind} it would have ({wanted})")
        if not np.isfinite(x).all():
            raise DataError(f"{self.path}: '{name}' holds NaN or infinity; the file is damaged")
        return x

    def finish(self) -> None:
        """DataError if anything is left: a model that has more parts computes something else."""
        if self._left:
            names, more = list(self._left)[:5], len(self._left) - 5
            listed = ", ".join(names) + (f" and {more} more" if more > 0 else "")
            raise DataError(f"{self.path}: has entries that {self.kind} does not have: {listed}")


def _read_state(path: Path) -> dict[str, np.ndarray]:
    """Name -> array (float32), from the entry `model` of a checkpoint.

    Raises:
        ConfigError: PyTorch is not installed.
        DataError: the file is missing or damaged, needs more than tensors and plain values, or is something else."""
    try:
        import torch  # imported on use: nothing else here needs it
    except ImportError as error:
        raise ConfigError("PyTorch, which reads such checkpoints, is missing: pip install torch==2.13.0") from error
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"--checkpoint {path}: {error.strerror}") from error
    try:
        # argparse.Namespace holds fairseq's arguments; to make one runs nothing of the file's
        with file, torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's, on old file formats
            content = torch.load(file, map_location="cpu", weights_only=True)
            state = content.get("model") if isinstance(content, dict) else None
            if isinstance(state, dict) and state and all(isinstance(x, torch.Tensor) for x in state.values()):
                return {str(name): x.detach().to(torch.float32).numpy() for name, x in state.items()}
    except Exception as error:  # whatever a damaged or foreign file makes PyTorch raise
        if needed := re.search(r"GLOBAL (\S+)", str(error)):
            raise DataError(
                f"{path}: needs {needed[1]}, which is neither a tensor nor a plain value; nothing of it was run. If "
                "you trust the file, load it with PyTorch and save its entry 'model' alone to a new one"
            ) from error
        raise DataError(
            f"{path}: PyTorch cannot read it ({type(error).__name__}): damaged, cut short or no checkpoint"
        ) from error
    raise DataError(f"{path}: no checkpoint: it has no entry 'model' that holds tensors by name")


def write_workdir(workdir: Path, imported: Imported, checkpoint: Path, command: str) -> int:
    """Writes what `experiments.predict` needs, `result.json` last, and gives the number of parameters; DataError where
    the model cannot be built."""
    config, variables, labels = imported.config, {"params": imported.params}, imported.label_names
    sizes = {role: len(codec) for role, codec in imported.codecs.items()}
    try:
        make_task(config, sizes=sizes, num_classes=len(labels))
    except ConfigError as error:  # of fields that come from the checkpoint
        raise DataError(f"{checkpoint}: our model cannot be of this shape: {error}") from error
    folder = workdir / "replica_00"
    folder.mkdir(parents=True)
    save_codecs(imported.codecs, folder, config)
    save_arrays(folder / "best", variables)
    data = {"corpus": config.data.corpus, "version": "", "digest": sha256(checkpoint), "label_names": list(labels)}
    record = {"overrides": [], **data, "word_vectors": "", "vocabulary": sizes, "vocabularies": digest(imported.codecs)}
    write_json(workdir / "config.json", {**record, "config": nested(config)})
    params = sum(x.size for x in jax.tree.leaves(variables))
    result = {"paper": config.paper, "config": None, "overrides": [], "command": command, "metrics": {}}
    result |= {"signatures": {}, "params": params, "steps": 0, "examples_per_second": None, "seconds": 0.0}
    result |= {"data": {**data, "examples": {}, "vocabulary": sizes, "long": 0}, "environment": environment()}
    write_json(workdir / "result.json", result)
    return params


# fairseq's fconv


SIDES = {"source": "encoder", "target": "decoder"}

SPECIAL = 4
"""Ids before those of the dictionary's lines: 0 <s>, 1 <pad>, 2 </s>, 3 <unk>."""

FIRST_POSITION = 2
"""Row of a sentence's first position: those of 0 and of the padding's id, 1, are not used."""

INPUTS = {"source": (1, 3, 0, 2), "target": (1, 3, 2, 2)}
"""Rows of our `SENTENCE` tokens: its decoder begins with </s> where ours begins with <s>."""

OUTPUTS = (1, 3, 0, 2)
"""The same for logits. What stands for <pad> and <s> is never chosen, but has a share of the softmax."""


def read_dictionary(path: Path) -> tuple[str, ...]:
    """The words of a fairseq dictionary: a word, a blank and a count on each line; DataError names file and line."""
    lines: dict[str, int] = {}
    for number, line in enumerate(read_text(path, utf8_only=True).removesuffix("\n").split("\n"), 1):
        match = re.fullmatch(r"([^ \t]+) [0-9]+[ \r]*", line)
        if not match:
            raise DataError(f"{path}:{number}: not a word, a blank and a count, as in a dictionary of fairseq")
        if (word := match[1]) in (*SENTENCE, *lines):
            where = f"stands on line {lines[word]} too" if word in lines else "is an entry without a line"
            raise DataError(f"{path}:{number}: '{word}' {where}; give this one a name that no text has")
        lines[word] = number
    return tuple(lines)


def _weight(entries: Entries, name: str, *shape: int | None) -> Float[np.ndarray, "..."]:
    """g v / ‖v‖, where the norm is over the axes on which g has size 1: all but the outputs' one, or in decoders of
    fairseq's first version all but the taps' one. The newer spelling is that of torch.nn.utils.parametrizations."""
    newer = tuple(f"{name}.parametrizations.weight.original{n}" for n in (0, 1))
    names = newer if newer[0] in entries else (f"{name}.weight_g", f"{name}.weight_v")
    g, v = entries.take(names[0], *[None] * len(shape)), entries.take(names[1], *shape).astype(np.float64)
    if any(size not in (1, whole) for size, whole in zip(g.shape, v.shape)):
        raise DataError(f"{entries.path}: '{names[0]}' has shape {g.shape}, which does not go with {v.shape} of the v")
    axes = tuple(axis for axis, size in enumerate(g.shape) if size == 1)
    norm = np.sqrt(np.sum(v * v, axis=axes, keepdims=True))
    return v * (g / np.where(norm == 0.0, 1.0, norm))


def _ours(weight: Float[np.ndarray, "n m"], bias: Float[np.ndarray, " m"]) -> dict[str, np.ndarray]:
    """The parameters of `research.conv_seq2seq.Linear` for x W + b: v = W and g = ‖W‖."""
    g = np.linalg.norm(weight, axis=0)
    v = np.where(g == 0.0, 1.0, weight)  # a unit without weights, of <pad> where matrices are shared: 0 · 1, not 0 / 0
    return {name: np.asarray(x, np.float32, order="C") for name, x in (("v", v), ("g", g), ("bias", bias))}


def _linear(entries: Entries, name: str, outputs: int | None, inputs: int | None) -> dict[str, np.ndarray]:
    weight = _weight(entries, name, outputs, inputs)
    return _ours(weight.T, entries.take(f"{name}.bias", len(weight)))


def _embeddings(
    entries: Entries, dictionaries: Sequence[Path], words: Mapping[str, Sequence[str]]
) -> tuple[dict[str, dict[str, np.ndarray]], int]:
    """The parameters of `embed_source` and `embed_target`, and the number of positions they have: the fewer of both."""
    params, tables, size = {}, {}, None
    for (role, side), path in zip(SIDES.items(), dictionaries):
        table = entries.take(name := f"{side}.embed_tokens.weight", None, size)
        (rows, size), lines = table.shape, len(words[role])
        if rows != lines + SPECIAL:
            raise DataError(
                f"{path}: {lines} lines and {SPECIAL} entries without one make {lines + SPECIAL}, but '{name}' in "
                f"{entries.path} has {rows} rows; --dicts takes the source's dictionary first, then the target's"
            )
        params[f"embed_{role}"] = {"words": table[[*INPUTS[role], *range(SPECIAL, rows)]]}
        if side == "encoder" or entries.any_of(f"{side}.embed_positions"):  # decoders may have none
            tables[f"embed_{role}"] = entries.take(f"{side}.embed_positions.weight", None, size)[FIRST_POSITION:]
    max_length = min(map(len, tables.values()))
    if max_length < 2:
        raise DataError(f"{entries.path}: its tables of positions have no room for a word and </s>")
    for name, table in tables.items():
        params[name]["positions"] = table[:max_length]
    return params, max_length


def _stack(entries: Entries, side: str, embedding: int, output: int | None) -> tuple[list[Convolution], dict]:
    """The layers of encoder or decoder, and the parameters of `enter_…`, `…_layers_N` and `leave_…`. output: size of
    what it gives, None for any."""
    enter = _linear(entries, f"{side}.fc1", None, embedding)
    incoming = enter["bias"].size
    layers, params = [], {f"enter_{side}": enter}
    while not layers or entries.any_of(f"{side}.convolutions.{len(layers)}"):
        number, doubled = len(layers), None if layers else 2 * incoming
        name = f"{side}.convolutions.{number}"
        weight = _weight(entries, name, None, incoming, doubled)
        kernel, _, doubled = weight.shape
        if doubled % 2:
            raise DataError(f"{entries.path}: '{name}' has {doubled} outputs, an odd number; a gate halves them")
        channels = doubled // 2
        layer = {"block": {"convolution": _ours(weight.reshape(-1, doubled), entries.take(f"{name}.bias", doubled))}}
        if channels != incoming:
            layer["project"] = _linear(entries, f"{side}.projections.{number}", channels, incoming)
        if side == "decoder" and entries.any_of(attention := f"{side}.attention.{number}"):
            into = _linear(entries, f"{attention}.in_projection", embedding, channels)
            out = _linear(entries, f"{attention}.out_projection", channels, embedding)
            layer["memory_attention"] = {"enter": into, "leave": out}
        params[f"{side}_layers_{number}"] = layer
        layers.append(Convolution(channels, kernel))
        incoming = channels
    return layers, params | {f"leave_{side}": _linear(entries, f"{side}.fc2", output, incoming)}


def _readout(entries: Entries, inputs: int, rows: int) -> dict[str, np.ndarray]:
    """`classify`: decoder.fc3. With share_input_output_embed its matrix is the embedding, without normalisation."""
    if (name := "decoder.fc3.weight") in entries:
        weight = entries.take(name, rows, inputs)
    else:
        weight = _weight(entries, "decoder.fc3", rows, inputs)
    order = [*OUTPUTS, *range(SPECIAL, rows)]
    return _ours(weight[order].T, entries.take("decoder.fc3.bias", rows)[order])


def _language(path: Path, otherwise: str) -> str:
    """en of dict.en.txt."""
    match = re.fullmatch(r"dict\.([\w-]+)\.txt", path.name)
    return match[1] if match else otherwise


def fairseq_fconv(checkpoint: Path, dictionaries: Sequence[Path]) -> Imported:
    """A checkpoint of fairseq's fconv with its dictionaries, of source and target. The parameters are those of the
    same function: v is the checkpoint's g v / ‖v‖, and g the norm of that.

    Raises:
        ConfigError: PyTorch is not installed.
        DataError: a file is missing, damaged or something else, or the files do not belong together."""
    words = {role: read_dictionary(path) for role, path in zip(SIDES, dictionaries)}
    entries = Entries(checkpoint, "fairseq's fconv")
    params, max_length = _embeddings(entries, dictionaries, words)
    rows, embedding = params["embed_target"]["words"].shape
    encoder, of_encoder = _stack(entries, "encoder", embedding, embedding)
    decoder, of_decoder = _stack(entries, "decoder", embedding, None)
    params |= of_encoder | of_decoder
    output = params["leave_decoder"]["bias"].size
    params["classify"] = _readout(entries, output, rows)
    if "decoder.version" in entries:  # of the form of the weight normalisation, which shapes tell
        entries.take("decoder.version", 1)
    entries.finish()
    attends = [n for n in range(1, len(decoder) + 1) if "memory_attention" in params[f"decoder_layers_{n - 1}"]]
    if not attends:
        raise DataError(f"{checkpoint}: no layer of its decoder attends to the source, so it does not translate")

    config = wmt14_en_de.get_config()
    extra = min(config.decode.extra, max_length // 2)
    buckets = tuple(size for size in translation_defaults().data.buckets if size + extra <= max_length)
    config.data.update(corpus=checkpoint.name, tokenizer="blank", joint=False, lower=False)
    config.data.update({role: _language(path, role) for role, path in zip(SIDES, dictionaries)})
    config.data.buckets = buckets or (max_length - extra,)  # predict goes on to longer ones, as far as positions go
    config.model.update(encoder=written(encoder), decoder=written(decoder), attention=tuple(attends))
    config.model.update(embedding=embedding, output=output, max_length=max_length, dropout=0.0)
    config.model.target_positions = "positions" in params["embed_target"]
    config.decode.update(beam=5, alpha=1.0, offset=0.0, extra=extra)
    codecs = {role: Words(Vocabulary((*SENTENCE, *words[role]), SENTENCE), blank, " ".join) for role in SIDES}
    return Imported(config, codecs, params)


# coetaur0/ESIM

ESIM = "coetaur0/ESIM"

FIRST = ("_PAD_", "_OOV_")
"""Its words of index 0 and 1, where ours are `RESERVED`."""

BEGIN, END = "_BOS_", "_EOS_"

LABELS = ("entailment", "neutral", "contradiction")
"""Of three classes, in all its configurations."""


class PlainUnpickler(pickle.Unpickler):
    """Makes dicts, strings, numbers and such alone. What a pickle runs it has to import first: that is refused."""

    def find_class(self, module: str, name: str):
        raise DataError(
            f"needs {module}.{name}, which is no plain value; nothing of it was run. If you trust the file, load it "
            "with Python and pickle a dict of its words (str) and indices (int) to a new one"
        )


def _unpickle(path: Path) -> object:
    """The plain values in a pickle; DataError where it is missing or damaged, or needs more."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"--worddict {path}: {error.strerror}") from error
    try:
        with file:
            return PlainUnpickler(file).load()
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # whatever a damaged or foreign file leads to
        raise DataError(f"{path}: no pickle ({type(error).__name__}): damaged, cut short or something else") from error


def read_worddict(path: Path) -> tuple[str, ...]:
    """The words of a worddict.pkl, a pickled dict of words and indices, in the order of their indices; DataError names
    file and entry."""
    content, words = _unpickle(path), {}
    if not isinstance(content, dict):
        raise DataError(f"{path}: a pickled {type(content).__name__}, not a dict of words and indices as of {ESIM}")
    for word, index in content.items():
        if type(word) is not str or type(index) is not int:
            raise DataError(f"{path}: {word!r:.40}: {index!r:.40} is not a word and its index")
        if index in words:
            raise DataError(f"{path}: '{words[index]}' and '{word}' have the same index, {index}")
        if word in RESERVED:
            raise DataError(f"{path}: '{word}' has a meaning of its own here; give it a name that no text has")
        words[index] = word
    for index in range(max(len(words), len(FIRST))):
        if index not in words:
            raise DataError(f"{path}: no word has index {index}, although there are {len(words)} words")
        if index < len(FIRST) and words[index] != FIRST[index]:
            raise DataError(f"{path}: '{words[index]}' has index {index}; in a worddict of {ESIM} {FIRST[index]} has")
    return tuple(words[index] for index in range(len(words)))


def _lstm(entries: Entries, name: str, inputs: int, hidden: int) -> dict[str, np.ndarray]:
    """The parameters of `research.recurrence.BiLSTM`: gates i, f, o, g where PyTorch has i, f, g, o, and one bias, the
    sum of its two."""
    params = {}
    for ours, theirs in (("forward", ""), ("backward", "_reverse")):
        take = lambda part, *sizes, theirs=theirs: entries.take(f"{name}._encoder.{part}_l0{theirs}", *sizes)
        parts = {"input": take("weight_ih", 4 * hidden, inputs), "state": take("weight_hh", 4 * hidden, hidden)}
        parts["bias"] = take("bias_ih", 4 * hidden) + take("bias_hh", 4 * hidden)
        for part, x in parts.items():
            i, f, g, o = np.split(x, 4)
            params[f"{ours}_{part}"] = np.ascontiguousarray(np.concatenate([i, f, o, g]).T)
    return params


def _dense(entries: Entries, name: str, outputs: int | None, inputs: int | None) -> dict[str, np.ndarray]:
    weight = entries.take(f"{name}.weight", outputs, inputs)
    return {"kernel": np.ascontiguousarray(weight.T), "bias": entries.take(f"{name}.bias", len(weight))}


def _pairs_config(words: Sequence[str], corpus: str) -> ConfigDict:
    """That of SNLI, but for texts as they were when the words' dict was made."""
    config = snli.get_config()
    lower = all(word == word.lower() for word in words if word not in (*FIRST, BEGIN, END))
    config.data.update(corpus=corpus, tokenizer="blank", lower=lower)
    config.data.update(begin=BEGIN if BEGIN in words else "", end=END if END in words else "")
    return config


def esim_pytorch(checkpoint: Path, worddict: Path) -> Imported:
    """A checkpoint of coetaur0/ESIM with the words of its embedding.

    Raises:
        ConfigError: PyTorch is not installed.
        DataError: a file is missing, damaged or something else, or the files do not belong together."""
    words = read_worddict(worddict)
    entries = Entries(checkpoint, ESIM)
    table = entries.take(embedding := "_word_embedding.weight", None, None)
    if len(table) != len(words):
        raise DataError(
            f"{worddict}: {len(words)} words, but '{embedding}' in {checkpoint} has {len(table)} rows; --worddict "
            "takes the one that was written with the checkpoint's training data"
        )
    classify = _dense(entries, "_classification.4", None, None)
    hidden, classes = classify["kernel"].shape
    if classes < 2:
        raise DataError(f"{checkpoint}: '_classification.4.weight' has {classes} rows; {ESIM} has one a class")
    params = {
        "words": {"embedding": table},
        "encoding": _lstm(entries, "_encoding", table.shape[1], hidden),
        "projection": _dense(entries, "_projection.0", hidden, 8 * hidden),
        "composition": _lstm(entries, "_composition", hidden, hidden),
        "hidden": _dense(entries, "_classification.1", hidden, 8 * hidden),
        "classify": classify,
    }
    entries.finish()

    config = _pairs_config(words, checkpoint.name)
    config.model.update(embedding_dim=table.shape[1], hidden=hidden, dropout=0.0)
    vocabulary = Vocabulary((*RESERVED, *words[len(RESERVED) :]))
    codecs = {role: words_codec(role, vocabulary, config) for role in roles(config)}
    labels = LABELS if classes == len(LABELS) else tuple(map(str, range(classes)))
    return Imported(config, codecs, params, labels)


# The program


@dataclasses.dataclass(frozen=True)
class Format:
    """flag: of the files that a checkpoint of this format needs beside it. read: checkpoint and flag's value to
    `Imported`."""

    flag: str
    read: Callable[[Path, Path | Sequence[Path]], Imported]


FORMATS = {"fairseq-fconv": Format("dicts", fairseq_fconv), "esim-pytorch": Format("worddict", esim_pytorch)}


def read_checkpoint(flags: argparse.Namespace) -> Imported:
    """As the flags say; ConfigError where that of the format is missing, or that of another is there."""
    own = FORMATS[flags.format]
    for other in FORMATS.values():
        if other is not own and getattr(flags, other.flag) is not None:
            raise ConfigError(f"--{other.flag}: not of --from {flags.format}, which takes --{own.flag}; leave it out")
    if (files := getattr(flags, own.flag)) is None:
        raise ConfigError(f"--{own.flag}: --from {flags.format} needs it (--help explains the flags)")
    return own.read(flags.checkpoint, files)


def main(argv: Sequence[str]) -> None:
    parser = cli.parser("import_weights", __doc__, EXAMPLES)
    parser.add_argument("--from", dest="format", required=True, choices=FORMATS, help="whose checkpoint")
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="FILE", help="file that torch.save wrote")
    parser.add_argument(
        "--dicts", type=Path, nargs=2, metavar=("SRC", "TGT"), help="fairseq-fconv: dictionaries, source's first"
    )
    parser.add_argument("--worddict", type=Path, metavar="FILE", help="esim-pytorch: pickled words of the embedding")
    parser.add_argument("--workdir", required=True, type=Path, help="folder to make; it must be new or empty")
    flags = parser.parse_args(argv)
    if flags.workdir.exists() and not (flags.workdir.is_dir() and not any(flags.workdir.iterdir())):
        raise ConfigError(f"--workdir {flags.workdir}: is not an empty folder; name a new one")
    imported = read_checkpoint(flags)
    command = shlex.join(["python", "-m", "experiments.import_weights", *argv])
    params = write_workdir(flags.workdir, imported, flags.checkpoint, command)
    sizes = ", ".join(f"{len(codec):,} entries of the {role}" for role, codec in imported.codecs.items())
    print(f"{params:,} parameters; {sizes}")
    print(f"now: {shlex.join(['python', '-m', 'experiments.predict', '--workdir', str(flags.workdir)])}")


if __name__ == "__main__":
    cli.main(main)

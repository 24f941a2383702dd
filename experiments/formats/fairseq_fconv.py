"""fairseq's model fconv, the ConvS2S of its authors."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from configs.conv_seq2seq import wmt14_en_de
from configs.defaults import translation_defaults
from experiments.formats.state import Entries, Imported
from research.codecs import Words
from research.conv_seq2seq import Convolution, written
from research.corpora.reading import raw_lines
from research.errors import DataError
from research.text import SENTENCE, Vocabulary, blank

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
    for number, line in enumerate(raw_lines(path, utf8_only=True), 1):
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
    if names[0] not in entries and f"{name}.weight" in entries:
        raise DataError(
            f"{entries.path}: '{name}' is without g and v, as a model that was made ready for translating is; import "
            "the checkpoint that its training saved"
        )
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


def _check_arguments(entries: Entries) -> None:
    """DataError where the training's arguments, which a checkpoint of fairseq's own has, tell of another model than
    its shapes would be taken for."""
    arguments, path = entries.arguments, entries.path
    if not str(architecture := arguments.get("arch", "fconv")).startswith("fconv"):
        raise DataError(f"{path}: its training's --arch is {architecture}; only fairseq's fconv is read")
    if (scale := arguments.get("normalization_constant", 0.5)) != 0.5:
        raise DataError(f"{path}: its training's --normalization-constant is {scale}; here sums are scaled by √0.5")
    for name in ("encoder_layers", "decoder_layers"):
        layers = str(arguments.get(name, ""))
        if wrong := [n for n in re.findall(r"\(\s*\d+\s*,\s*\d+\s*,\s*(-?\d+)\s*\)", layers) if n != "1"]:
            raise DataError(
                f"{path}: its training's --{name.replace('_', '-')} have residual connections from {wrong[0]} layers "
                "before; here they come from a layer's own input (1)"
            )


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
    _check_arguments(entries)
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

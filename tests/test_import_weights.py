"""`python -m experiments.import_weights`: the imported model against PyTorch's of the same weights, and bad input.

`Fconv` and `Esim` are models of PyTorch modules with the names, shapes and forward passes of fairseq's fconv and of
coetaur0/ESIM.
"""

import argparse
import functools
import json
import math
import pathlib
import pickle
import sys
import warnings
from unittest import mock

import flax.linen
import jax
import numpy as np
import pytest

from experiments import import_weights, predict
from research.text import BOS, EOS, PAD, UNKNOWN
from tests.test_cli import call, refused

torch = pytest.importorskip("torch", reason="tests/requirements.txt installs PyTorch, which reads the checkpoints")
nn = torch.nn

WORDS = {"source": list("abcdefgh"), "target": ["vier", "fünf", "un@@", "gut", "\u2028", "#", "madeupword0000"]}
THEIR_BEGIN, THEIR_PAD, THEIR_END, THEIR_UNKNOWN = range(4)
TO_OURS = {THEIR_BEGIN: BOS, THEIR_PAD: PAD, THEIR_END: EOS, THEIR_UNKNOWN: UNKNOWN}
F, O = 6, 5  # embedding, decoder's output
HALF = math.sqrt(0.5)


def older_norm(module, dim=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(module, dim=dim)


newer_norm = functools.partial(nn.utils.parametrizations.weight_norm, dim=0)


class Convolution(nn.Module):
    """Over time-major input (L, B, C): a causal one, or one of odd width that keeps the length."""

    def __init__(self, inputs, outputs, kernel, *, causal):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(kernel, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.pad = (kernel - 1, 0) if causal else (kernel // 2, kernel // 2)

    def forward(self, x):
        padded = nn.functional.pad(x, (0, 0, 0, 0, *self.pad)).contiguous()
        return torch.conv_tbc(padded, self.weight, self.bias, 0)


class Attention(nn.Module):
    def __init__(self, channels, norm):
        super().__init__()
        self.in_projection, self.out_projection = norm(nn.Linear(channels, F)), norm(nn.Linear(F, channels))

    def forward(self, x, g, memory):
        z, values, mask = memory
        scores = (self.in_projection(x) + g) * HALF @ z.transpose(1, 2)
        c = scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1) @ values
        count = mask.sum(1).double()[:, None, None]
        return (self.out_projection(c * (count * torch.sqrt(1 / count))) + x) * HALF


class Stack(nn.Module):
    """Encoder or decoder. layers: (channels, kernel); attention: places of the layers that attend."""

    def __init__(self, rows, positions, layers, output, norm, *, attention=None, norm_dim=2):
        super().__init__()
        causal, first = attention is not None, layers[0][0]
        self.embed_tokens = nn.Embedding(rows, F, padding_idx=THEIR_PAD)
        if positions:
            self.embed_positions = nn.Embedding(positions, F, padding_idx=THEIR_PAD)
        self.fc1 = norm(nn.Linear(F, first))
        before = [first, *(channels for channels, _ in layers)]
        pairs = [(old, new) for old, (new, _) in zip(before, layers)]
        self.projections = nn.ModuleList([None if a == b else norm(nn.Linear(a, b)) for a, b in pairs])
        self.convolutions = nn.ModuleList(
            norm(Convolution(a, 2 * b, kernel, causal=causal), dim=norm_dim)
            for (a, b), (_, kernel) in zip(pairs, layers)
        )
        if causal:
            self.attention = nn.ModuleList(
                [Attention(channels, norm) if n in attention else None for n, (channels, _) in enumerate(layers)]
            )
            if norm_dim:  # fairseq's first version has none
                self.register_buffer("version", torch.tensor([2.0]))
        self.fc2 = norm(nn.Linear(before[-1], output))

    def embed(self, tokens):
        x = self.embed_tokens(tokens)
        if hasattr(self, "embed_positions"):
            real = tokens != THEIR_PAD
            x = x + self.embed_positions(real.cumsum(1) * real + THEIR_PAD)
        return x

    def forward(self, tokens, memory=None):
        e, mask = self.embed(tokens), tokens != THEIR_PAD
        x = self.fc1(e)
        for n, (project, convolution) in enumerate(zip(self.projections, self.convolutions)):
            residual = x if project is None else project(x)
            x = x * mask[..., None] if memory is None else x
            x = nn.functional.glu(convolution(x.transpose(0, 1)).transpose(0, 1), dim=2)
            if memory is not None and self.attention[n] is not None:
                x = self.attention[n](x, e, memory)
            x = (x + residual) * HALF
        x = self.fc2(x)
        return x if memory is not None else (x, (x + e) * HALF, mask)


class Fconv(nn.Module):
    def __init__(
        self,
        *,
        norm=older_norm,
        encoder=((8, 3), (8, 5), (10, 1)),
        decoder=((8, 3), (12, 2), (12, 4)),
        attention=(0, 1, 2),
        positions=(30, 26),
        shared=False,
        norm_dim=2,
        seed=0,
    ):
        super().__init__()
        rows = [len(words) + len(TO_OURS) for words in WORDS.values()]
        output = F if shared else O
        self.encoder = Stack(rows[0], positions[0], encoder, F, norm)
        self.decoder = Stack(rows[1], positions[1], decoder, output, norm, attention=attention, norm_dim=norm_dim)
        if shared:
            self.decoder.fc3 = nn.Linear(output, rows[1])
            self.decoder.fc3.weight = self.decoder.embed_tokens.weight
        else:
            self.decoder.fc3 = norm(nn.Linear(output, rows[1]))
        torch.manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.endswith(("weight_g", "original0")):  # ‖v‖ is another: g is not made to be equal
                nn.init.uniform_(parameter, 0.7, 2.0)
            else:
                nn.init.normal_(parameter, std=0.7)
        with torch.no_grad():  # as where they are trained
            self.encoder.embed_tokens.weight[THEIR_PAD] = self.decoder.embed_tokens.weight[THEIR_PAD] = 0.0

    def forward(self, source, target):
        """Memory, the decoder's output and logits."""
        memory = self.encoder(source)
        hidden = self.decoder(target, memory)
        return memory, hidden, self.decoder.fc3(hidden)


@pytest.fixture
def files(tmp_path):
    """files(state, ...) writes a checkpoint and its dictionaries, and gives the command's arguments."""

    def write(content=None, *, words=WORDS, save=torch.save, newer=None, **options):
        state = Fconv().state_dict() if content is None else content
        options = {"arch": "fconv", "encoder_layers": "[(8, 3)] * 2 + [(8, 3, 1)]", "max_tokens": 4000} | options
        arguments = argparse.Namespace(**options)
        if newer is not None:
            arguments = None
        extra = {
            "args": arguments,
            "cfg": newer and {"model": newer(**options)},
            "extra_state": {"epoch": 3},
            "optimizer_history": [{"criterion_name": "x"}],
        }
        save({"model": state, **extra}, tmp_path / "model.pt")
        for name, part in zip(("dict.en.txt", "dict.de.txt"), words.values()):
            lines = [f"{word} {1000 - n}" for n, word in enumerate(part)]
            (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return arguments_of(tmp_path)

    return write


def arguments_of(folder: pathlib.Path, **changes) -> list:
    paths = {"checkpoint": folder / "model.pt", "workdir": folder / "W"} | changes
    words = ["--from", "fairseq-fconv", "--dicts", folder / "dict.en.txt", folder / "dict.de.txt"]
    return words + [part for name, value in paths.items() for part in (f"--{name}", value)]


def imported(files, model, tmp_path, **options) -> predict.Run:
    outcome = call(import_weights.main, *files(model.state_dict(), **options))
    assert outcome.code == 0 and outcome.err == "", outcome
    return predict.Run(tmp_path / "W")


def close(one, other, tolerance):
    """To `tolerance` of the largest value of the other."""
    one, other = np.asarray(one), np.asarray(other)
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= tolerance * np.abs(other).max()


legacy_save = functools.partial(torch.save, _use_new_zipfile_serialization=False)
KINDS = {
    "older spelling": {},
    "newer spelling": {"norm": newer_norm},
    "attention in two layers": {"attention": (0, 2), "norm": newer_norm},
    "no target positions": {"positions": (26, 0)},
    "fewer source positions": {"positions": (20, 26)},
    "shared embedding": {"shared": True},
    "norms of taps": {"norm_dim": 0},  # decoders of fairseq's first version
    "one layer": {"encoder": ((8, 1),), "decoder": ((9, 1),), "attention": (0,), "norm": newer_norm, "norm_dim": 0},
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_pytorch_computes(files, tmp_path, kind):
    """Memory, hidden states and logits of a padded batch, against float64."""
    options = KINDS[kind]
    net = Fconv(**options).eval()
    run = imported(files, net, tmp_path, save=legacy_save if "norm" in options else torch.save)
    random = np.random.default_rng(1)
    sentences = lambda side, lengths: [random.integers(3, len(WORDS[side]) + 4, n).tolist() for n in lengths]
    sources = [[*row, THEIR_END] for row in sentences("source", (6, 1, 9))]
    targets = [[THEIR_END, *row] for row in sentences("target", (4, 7, 2))]
    pad = lambda rows, value: np.array([row + [value] * (max(map(len, rows)) - len(row)) for row in rows])
    with torch.no_grad():
        theirs = net.double()(*(torch.tensor(pad(rows, THEIR_PAD)) for rows in (sources, targets)))
    (z, values, _), hidden, logits = jax.tree.map(lambda x: x.numpy(), theirs)

    ours = lambda row: [TO_OURS.get(token, token) for token in row]
    source = pad([ours(row) for row in sources], PAD)
    target = pad([[BOS, *ours(row[1:])] for row in targets], PAD)
    segments = [np.array(pad([[1] * len(row) for row in rows], 0)) for rows in (sources, targets)]

    @jax.jit
    def outputs(variables):
        def forward(model):
            return model.encode(source, segments[0]), model(source, segments[0], target, segments[1]), model.readout()

        return flax.linen.apply(forward, run.task.model)(variables)

    memory, found, (table, bias) = outputs(run.variables)
    real, shown = (x == 1 for x in segments)
    for one, other in zip(memory, (z, values)):
        close(one[real], other[real], 1e-5)
    close(found[shown], hidden[shown], 1e-5)
    order = [TO_OURS.get(id, id) for id in range(logits.shape[-1])]
    close((found @ table.T + bias)[shown][:, order], logits[shown], 1e-5)


@pytest.mark.parametrize(("kind", "seed"), [("older spelling", 15), ("no target positions", 1)])
def test_translations_are_pytorchs(files, tmp_path, kind, seed):
    """Those of greedy search token by token, those of beam search in their scores."""
    net = Fconv(**KINDS[kind], seed=seed).eval()  # a seed with outputs of many words, not all as long as can be
    run = imported(files, net, tmp_path)
    net.double()
    lines = ["a b c", "h", "d d zzz a", "", "g f e d c b a"]
    extra, ends, chosen = run.config.decode.extra, 0, set()
    for beam in (1, 5):
        outcome = call(predict.main, "--workdir", tmp_path / "W", "--beam", beam, stdin="\n".join(lines).encode())
        assert outcome.code == 0, outcome
        records = [json.loads(line) for line in outcome.out.removesuffix("\n").split("\n")]
        assert [record["unknown"] for record in records] == [[], [], ["zzz"], [], []]
        assert records[3]["translation"] == "" and len(records) == len(lines)
        for line, record in zip(lines, records):
            if not line:
                continue
            ids = lambda text, side: [
                WORDS[side].index(word) + 4 if word in WORDS[side] else THEIR_UNKNOWN
                for word in text.split(" ")
                if word
            ]
            source, output = [*ids(line, "source"), THEIR_END], [*ids(record["translation"], "target"), THEIR_END]
            with torch.no_grad():
                given = torch.tensor([source]), torch.tensor([[THEIR_END, *output[:-1]]])
                logs = net(*given)[-1][0].log_softmax(-1)
            score = logs[range(len(output)), output].sum().item() / len(output)
            assert record["score"] == pytest.approx(score, abs=1e-4)
            if beam == 1:
                logs[:, [THEIR_BEGIN, THEIR_PAD]] = -torch.inf
                limit = len(source) + extra  # where </s> is all that is left
                wanted = [*logs.argmax(-1)[: limit - 1].tolist(), *[THEIR_END] * (len(output) == limit)]
                assert output == wanted
                ends += len(output) < limit
                chosen |= set(output)
    assert ends and len(chosen) > 4


def test_the_workdir(files, tmp_path):
    """Sizes come from the shapes; config.json and result.json say what was imported."""
    net = Fconv(attention=(0, 2))
    (tmp_path / "W").mkdir()  # an empty folder may be there
    run = imported(files, net, tmp_path)
    model = run.config.model
    assert (tuple(model.encoder), tuple(model.decoder)) == (("8x3", "8x5", "10x1"), ("8x3", "12x2", "12x4"))
    assert tuple(model.attention) == (1, 3) and (model.embedding, model.output, model.max_length) == (F, O, 24)
    decode = run.config.decode
    assert (decode.beam, decode.alpha, decode.offset, decode.extra) == (5, 1.0, 0.0, 12)
    data = run.config.data
    assert (data.source, data.target, data.tokenizer, data.lower, data.joint) == ("en", "de", "blank", False, False)
    assert run.codecs["target"].decode([4, 6, 8, UNKNOWN]) == "vier un@@ \u2028 <unk>"
    result = json.loads((tmp_path / "W" / "result.json").read_text())
    unused = 2 * 2 * F + 4 * F  # rows of positions: two that never occur in each table, and what the source has more
    parameters = sum(x.numel() for x in net.parameters())
    assert result["params"] == parameters - unused and result["metrics"] == {}
    assert result["command"].startswith("python -m experiments.import_weights --from fairseq-fconv --dicts ")


def test_layers_of_one_kind_are_counted(files, tmp_path):
    net = Fconv(encoder=((8, 3),) * 3, decoder=((8, 3), (8, 3), (9, 1)), positions=(1026, 1026))
    run = imported(files, net, tmp_path)
    config = run.config
    assert tuple(config.model.encoder) == ("3*8x3",) and tuple(config.model.decoder) == ("2*8x3", "9x1")
    assert config.model.max_length == 1024 and config.decode.extra == 50
    assert tuple(config.data.buckets) == (16, 32, 64)
    assert predict.Translator(run, config.decode).limit == 511


# Bad input


def without(*names):
    return lambda state: {name: x for name, x in state.items() if not name.startswith(names)}


def changed(name, function):
    return lambda state: {**state, name: function(state[name])}


def renamed(old, new):
    return lambda state: {name.replace(old, new): x for name, x in state.items()}


STATES = {
    "a part is missing": (without("decoder.fc3.bias"), r"no entry 'decoder\.fc3\.bias', so it is not of fairseq's"),
    "no convolutions": (without("encoder.conv"), r"no entry 'encoder\.convolutions\.0\.weight_g'"),
    "no projection": (without("decoder.projections"), r"no entry 'decoder\.projections\.1\.weight_g'"),
    "half an attention": (
        without("decoder.attention.1.in"),
        r"no entry 'decoder\.attention\.1\.in_projection\.weight_g",
    ),
    "a layer is missing": (
        without("decoder.convolutions.2"),
        r"not have: decoder\.attention\.2\.in_projection\.bias, ",
    ),
    "no positions": (without("encoder.embed_pos"), r"no entry 'encoder\.embed_positions\.weight'"),
    "no embedding": (renamed("embed_tokens", "embed"), r"no entry 'encoder\.embed_tokens\.weight'"),
    "no attention": (without("decoder.attention"), r"no layer of its decoder attends to the source"),
    "no normalisation": (
        lambda state: {**without("encoder.fc1.")(state), "encoder.fc1.weight": torch.zeros(8, F)},
        r"'encoder\.fc1' is without g and v, as a model that was made ready for translating is; import the checkpoint",
    ),
    "no normalisation of a convolution": (
        lambda state: {
            **without("decoder.convolutions.1")(state),
            "decoder.convolutions.1.weight": torch.zeros(3, 8, 16),
        },
        r"'decoder\.convolutions\.1' is without g and v",
    ),
    "no g": (without("decoder.fc2.weight_g"), r"no entry 'decoder\.fc2\.weight_g', so it is not of fairseq's"),
    "unknown parts": (
        lambda state: {**state, "decoder.fc4.bias": torch.zeros(2), "zz": torch.zeros(1)},
        r"has entries that fairseq's fconv does not have: decoder\.fc4\.bias, zz$",
    ),
    "many unknown parts": (
        lambda state: {**state, **{f"part{n}": torch.zeros(1) for n in range(7)}},
        r"part0, part1, part2, part3, part4 and 2 more$",
    ),
    "attention in the encoder": (
        lambda state: {**state, "encoder.attention.0.bias": torch.zeros(2)},
        r"does not have: encoder\.attention\.0\.bias$",
    ),
    "other sizes": (
        changed("decoder.fc2.weight_v", lambda x: x[:, 1:]),
        r"'decoder\.fc2\.weight_v' has shape \(5, 11\); of fairseq's fconv it would have \(any, 12\)$",
    ),
    "another number of axes": (
        changed("encoder.convolutions.0.weight_v", lambda x: x[0]),
        r"'encoder\.convolutions\.0\.weight_v' has shape \(8, 16\); .* \(any, 8, 16\)$",
    ),
    "a norm of other units": (
        changed("encoder.fc2.weight_g", lambda x: x[1:]),
        r"'encoder\.fc2\.weight_g' has shape \(5, 1\), which does not go with \(6, 10\) of the v",
    ),
    "an odd number of outputs": (
        changed("encoder.convolutions.1.weight_v", lambda x: x[:, :, 1:]),
        r"'encoder\.convolutions\.1\.weight_g' has shape \(1, 1, 16\), which does not go",
    ),
    "an even kernel": (
        changed("encoder.convolutions.0.weight_v", lambda x: x[1:]),
        r"model\.pt: our model cannot be of this shape: model\.encoder: layer 1 has kernel width 2; it must be odd",
    ),
    "damaged": (
        changed("encoder.fc1.bias", lambda x: torch.full_like(x, torch.nan)),
        r"'encoder\.fc1\.bias' holds NaN or infinity",
    ),
    "no room": (changed("encoder.embed_positions.weight", lambda x: x[:3]), r"no room for a word and </s>"),
    "no tensor": (changed("encoder.fc1.bias", lambda x: x.tolist()), r"no entry 'model' that holds tensors by name"),
    "nothing": (lambda state: {}, r"no entry 'model' that holds tensors by name"),
}


@pytest.mark.parametrize("kind", STATES)
def test_a_checkpoint_of_another_model(files, tmp_path, kind):
    change, message = STATES[kind]
    refused(3, message, import_weights.main, *files(change(Fconv().state_dict())))
    assert not (tmp_path / "W").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "lightconv_iwslt_de_en"}, r"its training's --arch is lightconv_iwslt_de_en; only fairseq's fconv"),
        ({"normalization_constant": 1.0}, r"its training's --normalization-constant is 1\.0"),
        ({"encoder_layers": "[(8,3,0),(8,5,0)]"}, r"--encoder-layers have residual connections from 0 layers before"),
        ({"decoder_layers": "[(8, 3)] * 2 + [(8, 3, 2)]"}, r"--decoder-layers have residual connections from 2 layers"),
    ],
    ids=str,
)
@pytest.mark.parametrize("newer", [None, argparse.Namespace, dict])
def test_arguments_that_shapes_do_not_show(files, newer, options, message):
    """As they stand in a checkpoint of fairseq's own, also of its newer versions, which call them `cfg`; without them
    the default is taken for granted."""
    refused(3, message, import_weights.main, *files(newer=newer, **options))


def test_an_odd_number_of_channels(files):
    state = Fconv().state_dict()
    for name in ("weight_g", "weight_v", "bias"):
        state[f"encoder.convolutions.1.{name}"] = state[f"encoder.convolutions.1.{name}"][..., 1:]
    message = r"'encoder\.convolutions\.1' has 15 outputs, an odd number"
    refused(3, message, import_weights.main, *files(state))


class Runs:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_nothing_in_a_file_is_run(files, tmp_path):
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Runs(mark)))
    assert mark.exists(), "the test's own trap"
    mark.unlink()
    arguments, state = files(), Fconv().state_dict()
    for save in (torch.save, legacy_save):
        for content in ({"model": state, "args": Runs(mark)}, Runs(mark)):
            save(content, tmp_path / "model.pt")
            refused(
                3, r"model\.pt: needs \S+, which is neither .*; nothing of it was run", import_weights.main, *arguments
            )
    for content in (Runs(mark), {"model": state, "args": Runs(mark)}):
        (tmp_path / "model.pt").write_bytes(pickle.dumps(content))
        refused(3, r"model\.pt: ", import_weights.main, *arguments)
    assert not mark.exists() and not (tmp_path / "W").exists()


def test_a_checkpoint_made_as_the_message_says_is_read(files, tmp_path):
    arguments, path = files(), tmp_path / "model.pt"
    torch.save({"model": Fconv().state_dict(), "best_loss": np.float64(2.5), "args": {1, 2}}, path)
    refused(3, r"save its entry 'model' alone: torch\.save\(\{'model': checkpoint", import_weights.main, *arguments)
    checkpoint = torch.load(path, weights_only=False)
    torch.save({"model": checkpoint["model"]}, path)
    assert call(import_weights.main, *arguments).code == 0


def test_a_state_dict_alone_is_as_good_as_a_checkpoint(esim_files, tmp_path):
    arguments, net = esim_files(Esim().state_dict()), Esim()
    torch.save(net.state_dict(), tmp_path / "best.pth.tar")
    assert call(import_weights.main, *arguments).code == 0
    (tmp_path / "W").rename(tmp_path / "bare")
    torch.save({"model": net.state_dict()}, tmp_path / "best.pth.tar")
    assert call(import_weights.main, *arguments).code == 0
    one, other = (predict.Run(tmp_path / name).variables for name in ("bare", "W"))
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("save", [torch.save, legacy_save], ids=["zip", "older"])
def test_no_checkpoint(files, tmp_path, save):
    arguments = files(save=save)
    path = tmp_path / "model.pt"
    whole = path.read_bytes()
    for damaged in (b"", whole[:3], whole[:100], whole[: len(whole) // 2], whole[:-30], b"not a checkpoint\n"):
        path.write_bytes(damaged)
        refused(
            3, r"model\.pt: PyTorch cannot read it \(\w+\): damaged, cut short or no", import_weights.main, *arguments
        )
    path.write_bytes(pickle.dumps({"model": {}}))
    refused(3, r"model\.pt: PyTorch cannot read it", import_weights.main, *arguments)
    for content in ([1, 2], {"state_dict": {}}, torch.zeros(2), {"model": torch.zeros(2)}):
        save(content, path)
        refused(3, r"model\.pt: no checkpoint: it has no entry 'model'", import_weights.main, *arguments)
    path.unlink()
    refused(3, r"--checkpoint \S+model\.pt: No such file or directory$", import_weights.main, *arguments)
    path.mkdir()
    refused(3, r"--checkpoint \S+model\.pt: Is a directory$", import_weights.main, *arguments)


def test_dictionaries(files, tmp_path):
    arguments = files()
    source, target = (tmp_path / f"dict.{language}.txt" for language in ("en", "de"))
    whole = source.read_bytes()
    for content, message in (
        (
            whole + b"more 1\n",
            r"en\.txt: 9 lines and 4 entries without one make 13, but 'encoder\.embed_tokens\.weight' ",
        ),
        (
            whole.replace(b"h 993\n", b""),
            r"en\.txt: 7 lines .* make 11, but .*model\.pt has 12 rows; --dicts takes the",
        ),
        (whole.replace(b"c 998", b"c"), r"en\.txt:3: not a word, a blank and a count"),
        (whole.replace(b"c 998", b"c\t998"), r"en\.txt:3: not a word"),
        (whole.replace(b"c 998", b"c d 998"), r"en\.txt:3: not a word"),
        (whole.replace(b"c 998", b"c 9.5"), r"en\.txt:3: not a word"),
        (whole.replace(b"c 998", b"c 998 #fairseq:overwrite"), r"en\.txt:3: not a word"),
        (whole.replace(b"c 998", b""), r"en\.txt:3: not a word"),
        (whole.replace(b"c 998", b"a 998"), r"en\.txt:3: 'a' stands on line 1 too; give this one a name"),
        (whole.replace(b"c 998", b"</s> 998"), r"en\.txt:3: '</s>' is an entry without a line"),
        (whole.replace(b"c 998", b"\xff 998"), r"en\.txt:3: byte 0xff is not UTF-8"),
        (b"", r"en\.txt: the file is empty"),
    ):
        source.write_bytes(content)
        refused(3, message, import_weights.main, *arguments)
    source.write_bytes(target.read_bytes())
    refused(3, r"en\.txt: 7 lines", import_weights.main, *arguments)
    source.unlink()
    refused(3, r"en\.txt: no such file", import_weights.main, *arguments)
    source.write_bytes(whole.replace(b"\n", b" \r\n").removesuffix(b"\r\n"))  # blanks and ends of lines are forgiven
    assert call(import_weights.main, *arguments).code == 0
    assert predict.Run(tmp_path / "W").codecs["source"].encode("a h") == [4, 11]


def test_a_workdir_that_is_used(files, tmp_path):
    arguments = files()
    assert call(import_weights.main, *arguments).code == 0
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "W").rglob("*"))
    refused(2, r"--workdir \S+W: is not an empty folder; name a new one$", import_weights.main, *arguments)
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "W").rglob("*")) == before
    inside = arguments_of(tmp_path, workdir=tmp_path / "model.pt")
    refused(2, r"--workdir \S+model\.pt: is not an empty folder", import_weights.main, *inside)
    below = arguments_of(tmp_path, workdir=tmp_path / "model.pt" / "W")
    refused(2, r"Not a directory", import_weights.main, *below)


def test_usage(files, tmp_path):
    arguments = files()
    with mock.patch.dict(sys.modules, {"torch": None}):
        refused(2, r"PyTorch, .* is missing: pip install torch==2\.13\.0$", import_weights.main, *arguments)
    refused(2, r"invalid choice: 'tf'", import_weights.main, *arguments, "--from", "tf")
    refused(2, r"expected 2 arguments", import_weights.main, "--dicts", tmp_path / "dict.en.txt")
    refused(2, r"required: --from, --checkpoint, --workdir", import_weights.main)
    refused(2, r"unrecognized arguments: --config\.seed=1", import_weights.main, *arguments, "--config.seed=1")


# ESIM of coetaur0

PAIR_WORDS = ["a", "man", "Sleeps", ".", "dog", "-LRB-", "\u2028", "runs"]
BOUNDS = {"both": ("_BOS_", "_EOS_"), "begin": ("_BOS_",), "none": ()}


def worddict_of(bounds: str = "both", words=PAIR_WORDS) -> dict[str, int]:
    return {word: index for index, word in enumerate(("_PAD_", "_OOV_", *BOUNDS[bounds], *words))}


ROWS = len(worddict_of())


class Recurrent(nn.Module):
    """Hidden states of both directions, zero at padding."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self._encoder = nn.LSTM(inputs, hidden, batch_first=True, bidirectional=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self._encoder(packed)[0], batch_first=True)[0]


class Esim(nn.Module):
    def __init__(self, rows=ROWS, *, embedding=6, hidden=5, classes=3, seed=0):
        super().__init__()
        self._word_embedding = nn.Embedding(rows, embedding, padding_idx=0)
        self._encoding = Recurrent(embedding, hidden)
        self._projection = nn.Sequential(nn.Linear(8 * hidden, hidden), nn.ReLU())
        self._composition = Recurrent(hidden, hidden)
        hide, choose = nn.Linear(8 * hidden, hidden), nn.Linear(hidden, classes)
        self._classification = nn.Sequential(nn.Dropout(), hide, nn.Tanh(), nn.Dropout(), choose)
        torch.manual_seed(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.7)

    def forward(self, *texts):
        """Logits. texts: ids and lengths of the premises, then of their hypotheses."""
        masks = [torch.arange(ids.shape[1]) < lengths[:, None] for ids, lengths in texts]
        a, b = (self._encoding(self._word_embedding(ids), lengths) for ids, lengths in texts)
        scores = a @ b.transpose(1, 2)
        aligned = self.softmax(scores, masks[1]) @ b, self.softmax(scores.transpose(1, 2), masks[0]) @ a
        pooled = []
        for x, other, mask, (_, lengths) in zip((a, b), aligned, masks, texts):
            m = self._projection(torch.cat([x, other, x - other, x * other], -1))
            v, outside = self._composition(m, lengths), ~mask[..., None]
            pooled += [v.sum(1) / lengths[:, None], v.masked_fill(outside, -torch.inf).amax(1)]
        return self._classification(torch.cat(pooled, 1))

    @staticmethod
    def softmax(scores, mask):
        """Over the last axis, with the mask multiplied into the scores: right up to rounding, unless all are low."""
        weights = (scores * mask[:, None]).softmax(-1) * mask[:, None]
        return weights / weights.sum(-1, keepdim=True)


@pytest.fixture
def esim_files(tmp_path):
    """esim_files(state, ...) writes a checkpoint and its worddict, and gives the command's arguments."""

    def write(content=None, *, worddict=None, save=torch.save):
        state = Esim().state_dict() if content is None else content
        scores = {"epoch": 2, "best_score": 0.88, "epochs_count": [1, 2], "train_losses": [0.6, 0.5]}
        moments = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 4e-4, "params": [0]}]}
        save({"model": state, "optimizer": moments, **scores}, tmp_path / "best.pth.tar")
        (tmp_path / "worddict.pkl").write_bytes(pickle.dumps(worddict_of() if worddict is None else worddict))
        return esim_arguments(tmp_path)

    return write


def esim_arguments(folder: pathlib.Path) -> list:
    words = ["--from", "esim-pytorch", "--checkpoint", folder / "best.pth.tar"]
    return [*words, "--worddict", folder / "worddict.pkl", "--workdir", folder / "W"]


def imported_esim(esim_files, model, tmp_path, **options) -> predict.Run:
    outcome = call(import_weights.main, *esim_files(model.state_dict(), **options))
    assert outcome.code == 0 and outcome.err == "", outcome
    return predict.Run(tmp_path / "W")


LENGTHS = {"of one length": ((7, 7, 7), (7, 7, 7)), "of many lengths": ((2, 9, 1, 5), (6, 1, 1, 8))}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("sizes", [{}, {"embedding": 3, "hidden": 11, "classes": 2}], ids=["smaller", "wider"])
def test_logits_are_pytorchs(esim_files, tmp_path, sizes, lengths):
    """Against float64, for two texts of any lengths."""
    net = Esim(**sizes).eval()
    run = imported_esim(esim_files, net, tmp_path, save=legacy_save if sizes else torch.save)
    random = np.random.default_rng(2)
    texts = [[random.integers(1, ROWS, n) for n in part] for part in lengths]
    pad = lambda part, size: np.array([np.pad(ids, (0, size - len(ids))) for ids in part])
    given = [(torch.tensor(pad(part, max(n))), torch.tensor(n)) for part, n in zip(texts, lengths)]
    with torch.no_grad():
        wanted = net.double()(*given).numpy()
    tokens = pad(texts[0] + texts[1], max(map(max, lengths)) + 2)
    found = jax.jit(run.task.model.apply)(run.variables, tokens, np.concatenate(lengths))
    close(found, wanted, 1e-5)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_labels_are_pytorchs(esim_files, tmp_path, bounds):
    """Words become the indices that the worddict has, between _BOS_ and _EOS_ where it has these."""
    words = worddict_of(bounds)
    net = Esim(len(words)).eval()
    imported_esim(esim_files, net, tmp_path, worddict=dict(reversed(words.items())))  # an order that means nothing
    lines = ["a man Sleeps .\tdog sleeps .", "-LRB- \u2028\tman", "runs  runs zzz runs a man .\t dog dog "]
    lines += ["a\t"] * (bounds == "both")
    outcome = call(predict.main, "--workdir", tmp_path / "W", stdin="\n".join(lines).encode())
    assert outcome.code == 0, outcome
    records = [json.loads(line) for line in outcome.out.removesuffix("\n").split("\n")]
    assert [record["unknown"] for record in records] == [1, 0, 1, 0][: len(lines)]

    def ids(text):
        inner = [words.get(word, 1) for word in text.split(" ") if word]
        begin, end = ([words[word]] if word in words else [] for word in BOUNDS["both"])
        return torch.tensor([[*begin, *inner, *end]])

    for line, record in zip(lines, records):
        texts = [ids(text) for text in line.split("\t")]
        with torch.no_grad():
            logits = net(*((text, torch.tensor([text.shape[1]])) for text in texts))[0]
        wanted = dict(zip(("entailment", "neutral", "contradiction"), logits.softmax(-1).tolist()))
        assert record["probabilities"] == pytest.approx(wanted, abs=2e-6)
        assert record["label"] == max(wanted, key=wanted.get)
    (empty,) = map(json.loads, call(predict.main, "--workdir", tmp_path / "W", stdin=b"\t").out.splitlines())
    assert (empty["label"], empty["warning"]) == (None, "no token to classify")


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_workdir_of_esim(esim_files, tmp_path, classes):
    """Sizes come from the shapes; config.json and result.json say what was imported."""
    net = Esim(hidden=4, classes=classes)
    run = imported_esim(esim_files, net, tmp_path)
    model, data = run.config.model, run.config.data
    assert (model.architecture, model.embedding_dim, model.hidden, model.dropout) == ("sequential", 6, 4, 0.0)
    assert (data.corpus, data.tokenizer, data.lower, data.tree) == ("best.pth.tar", "blank", False, "")
    assert (data.begin, data.end, tuple(data.buckets)) == ("_BOS_", "_EOS_", (16, 32, 64, 128))
    names = ["entailment", "neutral", "contradiction"] if classes == 3 else [str(n) for n in range(classes)]
    assert run.record["label_names"] == names
    result = json.loads((tmp_path / "W" / "result.json").read_text())
    twice = 4 * 4 * 4  # biases: PyTorch's LSTMs, two of two directions, have two
    assert result["params"] == sum(x.numel() for x in net.parameters()) - twice
    assert (result["paper"], result["metrics"], result["data"]["label_names"]) == ("esim", {}, names)
    assert result["command"].startswith("python -m experiments.import_weights --from esim-pytorch --checkpoint ")


@pytest.mark.parametrize(("words", "lower"), [(["a", "man", ".", "中"], True), (["a", "Man", ".", "é"], False)])
def test_a_worddict_without_capitals_is_of_lower_case(esim_files, tmp_path, words, lower):
    worddict = worddict_of(words=words)
    run = imported_esim(esim_files, Esim(len(worddict)), tmp_path, worddict=worddict)
    codec = run.codecs["hypothesis"]
    assert run.config.data.lower == lower
    assert codec.encode("A Man .") == [2, *([4, 5] if lower else [UNKNOWN, 5]), 6, 3]


ESIM_STATES = {
    "another model": (lambda state: Fconv().state_dict(), r"no entry '_word_embedding\.weight', so it is not of coe"),
    "no backward LSTM": (
        lambda state: {name: x for name, x in state.items() if "reverse" not in name},
        r"no entry '_encoding\._encoder\.weight_ih_l0_reverse'",
    ),
    "no projection": (without("_projection"), r"no entry '_projection\.0\.weight'"),
    "no bias": (without("_composition._encoder.bias_hh_l0"), r"no entry '_composition\._encoder\.bias_hh_l0'"),
    "no classifier": (without("_classification.4"), r"no entry '_classification\.4\.weight'"),
    "two layers": (
        lambda state: {**state, "_encoding._encoder.weight_ih_l1": torch.zeros(20, 10)},
        r"has entries that coetaur0/ESIM does not have: _encoding\._encoder\.weight_ih_l1$",
    ),
    "another recurrence": (
        lambda state: {name: x[:15] if "_encoder" in name else x for name, x in state.items()},
        r"'_encoding\._encoder\.weight_ih_l0' has shape \(15, 6\); of coetaur0/ESIM it would have \(20, 6\)$",
    ),
    "other sizes": (
        changed("_classification.1.weight", lambda x: x[:, 1:]),
        r"'_classification\.1\.weight' has shape \(5, 39\); .* \(5, 40\)$",
    ),
    "one class": (
        lambda state: {name: x[:1] if "_classification.4" in name else x for name, x in state.items()},
        r"'_classification\.4\.weight' has 1 rows; coetaur0/ESIM has one a class$",
    ),
    "no vectors": (
        lambda state: {name: x[:, :0] if x.shape[1:] == (6,) else x for name, x in state.items()},
        r"our model cannot be of this shape: model\.embedding_dim",
    ),
    "damaged": (
        changed("_composition._encoder.bias_ih_l0", lambda x: torch.full_like(x, torch.inf)),
        r"'_composition\._encoder\.bias_ih_l0' holds NaN or infinity",
    ),
    "nothing": (lambda state: {}, r"no entry 'model' that holds tensors by name"),
}


@pytest.mark.parametrize("kind", ESIM_STATES)
def test_a_checkpoint_that_is_no_esim(esim_files, tmp_path, kind):
    change, message = ESIM_STATES[kind]
    refused(3, message, import_weights.main, *esim_files(change(Esim().state_dict())))
    assert not (tmp_path / "W").exists()


def replaced(old: str, new) -> dict:
    return {new if word == old else word: index for word, index in worddict_of().items()}


WORDDICTS = {
    "too many words": (
        worddict_of(words=[*PAIR_WORDS, "more"]),
        r"13 words, but '_word_embedding\.weight' in \S+best\.pth\.tar has 12 rows; --worddict takes the one",
    ),
    "too few words": (worddict_of(words=PAIR_WORDS[1:]), r"worddict\.pkl: 11 words, but"),
    "no dict": (["_PAD_", "_OOV_"], r"worddict\.pkl: a pickled list, not a dict of words and indices"),
    "a number": (12, r"a pickled int, not a dict"),
    "the training data": ({"ids": ["p"] * 99, "premises": [[2]]}, r"'ids': \['p',.{35} is not a word and its index"),
    "words by index": ({index: word for word, index in worddict_of().items()}, r"0: '_PAD_' is not a word"),
    "an index of another type": ({**worddict_of(), "man": 5.0}, r"'man': 5\.0 is not a word and its index"),
    "a truth for an index": ({**worddict_of(), "_OOV_": True}, r"'_OOV_': True is not a word and its index"),
    "only an end": (  # as its preprocessing writes it with eos and no bos: two words share a row
        {"_PAD_": 0, "_OOV_": 1, "_EOS_": 3, "a": 3, "man": 4},
        r"'_EOS_' and 'a' have the same index, 3",
    ),
    "a gap": ({**worddict_of(), "runs": 12}, r"no word has index 11, although there are 12 words"),
    "an index below zero": ({**worddict_of(), "runs": -1}, r"no word has index 11"),
    "no special words": ({"a": 0, "man": 1}, r"'a' has index 0; in a worddict of coetaur0/ESIM _PAD_ has"),
    "no unknown word": (replaced("_OOV_", "<x>"), r"'<x>' has index 1; in a worddict of coetaur0/ESIM _OOV_ has"),
    "a word of ours": (replaced("dog", "<unk>"), r"'<unk>' has a meaning of its own here; give it a name"),
    "nothing": ({}, r"no word has index 0, although there are 0 words"),
}


@pytest.mark.parametrize("kind", WORDDICTS)
def test_a_worddict_that_does_not_fit(esim_files, tmp_path, kind):
    content, message = WORDDICTS[kind]
    refused(3, message, import_weights.main, *esim_files(worddict=content))
    assert not (tmp_path / "W").exists()


def test_nothing_in_a_worddict_is_run(esim_files, tmp_path):
    mark, path, arguments = tmp_path / "mark", tmp_path / "worddict.pkl", esim_files()
    trap = Runs(mark)
    contents = [trap, {**worddict_of(), "man": trap}, [worddict_of(), trap]]
    pickles = [pickle.dumps(content, protocol) for content in contents for protocol in range(6)]
    pickles.append(f"(S'.'\nS'{mark}'\nios\nsymlink\n.".encode())  # by INST, which no protocol of today writes
    for content in pickles:
        pickle.loads(content)
        assert mark.exists(), "the test's own trap"
        mark.unlink()
        path.write_bytes(content)
        refused(
            3,
            r"worddict\.pkl: needs \S+, which is no plain value; nothing of it was run",
            import_weights.main,
            *arguments,
        )
        assert not mark.exists() and not (tmp_path / "W").exists()
    for harmless in (np.int64(4), functools.partial(print, "run")):
        path.write_bytes(pickle.dumps({**worddict_of(), "a": harmless}))
        refused(3, r"worddict\.pkl: needs (numpy|functools)\S*, which is no", import_weights.main, *arguments)


def test_no_worddict(esim_files, tmp_path):
    arguments, path = esim_files(), tmp_path / "worddict.pkl"
    whole = path.read_bytes()
    references = b"\x80\x02K\x07Q.", b"\x80\x02X\x02\x00\x00\x00\xff\xfe."  # a persistent id, no UTF-8
    for damaged in (b"", whole[:3], whole[:-9], b"not a pickle\n", b"{'_PAD_': 0}\n", *references):
        path.write_bytes(damaged)
        refused(3, r"worddict\.pkl: no pickle \(\w+\): damaged, cut short or", import_weights.main, *arguments)
    path.unlink()
    refused(3, r"--worddict \S+worddict\.pkl: No such file or directory$", import_weights.main, *arguments)
    path.mkdir()
    refused(3, r"--worddict \S+worddict\.pkl: Is a directory$", import_weights.main, *arguments)


def test_flags_of_the_format(files, esim_files, tmp_path):
    fconv, esim = files(), esim_files()
    dicts, worddict = fconv[2:5], esim[4:6]
    assert dicts[0] == "--dicts" and worddict[0] == "--worddict"
    of = lambda arguments, extra: [word for word in arguments if word not in extra]
    program = import_weights.main
    refused(2, r"--dicts: --from fairseq-fconv needs it", program, *of(fconv, dicts))
    refused(2, r"--worddict: --from esim-pytorch needs it", program, *of(esim, worddict))
    refused(2, r"--worddict: not of --from fairseq-fconv, which takes --dicts; leave", program, *fconv, *worddict)
    refused(2, r"--dicts: not of --from esim-pytorch, which takes --worddict; leave", program, *esim, *dicts)
    refused(2, r"--dicts: not of --from esim-pytorch", program, *of(esim, worddict), *dicts)
    refused(3, r"best\.pth\.tar: has no entry 'encoder\.", program, *of(fconv, fconv[5:7]), *esim[2:4])
    assert not (tmp_path / "W").exists()

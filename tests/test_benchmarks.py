"""Benchmarks: PyTorch's models compute what ours do, and what is chosen, timed and stored is what was asked for."""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.esim import snli
from configs.textcnn import mr
from experiments import benchmark
from experiments.benchmarks import conv_seq2seq, esim, side_by_side, textcnn, transformer, translation
from experiments.environment import version
from research.batches import Batch, Table, gather, make_buckets
from research.tasks import make_task
from tests import test_conv_seq2seq, test_transformer
from tests.seq2seq import KEY, V, batch, close, sentences, torch_inputs
from tests.test_cli import ROOT, call, refused
from tests.test_recurrence import SIDES

NO_TORCH = "tests/requirements.txt installs PyTorch for this comparison"


# --- the models


def sums_agree(task, ours, examples: Batch, loss, tolerance: float) -> None:
    """Loss and every gradient. ours: what `get` gives of PyTorch's parameters, under our names."""
    loss.backward()
    params = jax.tree.map(jnp.asarray, ours(lambda x: x.detach().numpy().copy()))
    slope = jax.jit(jax.value_and_grad(lambda params: task.loss({"params": params}, examples, KEY)[0]))
    total, gradients = slope(params)
    close(total, loss.item(), tolerance)
    jax.tree.map(lambda one, other: close(one, other, tolerance), gradients, ours(lambda x: x.grad.numpy()))


def translates_alike(module, net, ours, tolerance: float, **changes) -> None:
    """What `net` makes of sources with padding, and what the model of the benchmark's configuration makes of them."""
    import torch

    config = module._config()
    config.data.buckets = (64,)  # rows of the reference's tables of positions
    config.model.update(changes)
    examples = batch(sentences(6, 2, 4), sentences(6, 6, 6, seed=1))
    source, target, inputs, *_ = torch_inputs(examples)
    options = {"reduction": "sum", "label_smoothing": config.train.label_smoothing}
    loss = torch.nn.functional.cross_entropy(net(source, inputs).flatten(0, 1), target.flatten(), **options)
    sums_agree(make_task(config, sizes={"source": V, "target": V}), ours, examples, loss, tolerance)


def small(module, monkeypatch, **sizes):
    """The benchmark's PyTorch model, of other sizes."""
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    for name, size in {"V": V, **sizes}.items():
        monkeypatch.setattr(module, name, size)
    torch.manual_seed(0)
    return module.torch_model()


def test_conv_seq2seq_in_pytorch_is_the_model_that_is_timed(monkeypatch):
    net = small(conv_seq2seq, monkeypatch, C=8, DROPOUT=0.0)
    modules, tables = {"classify": net.classify}, {}
    for name, side in (("encoder", "source"), ("decoder", "target")):
        stack = getattr(net, name)
        tables |= {f"embed_{side}/{kind}": getattr(stack, kind).weight for kind in ("words", "positions")}
        modules |= {f"enter_{name}": stack.enter, f"leave_{name}": stack.leave}
        modules |= {f"{name}_layers_{n}/block/convolution": one for n, one in enumerate(stack.convolutions)}
        for end, maps in (("enter", stack.queries), ("leave", stack.contexts)):
            modules |= {f"{name}_layers_{n}/memory_attention/{end}": one for n, one in enumerate(maps)}
    ours = functools.partial(test_conv_seq2seq.from_pytorch, modules=modules, tables=tables)
    translates_alike(conv_seq2seq, net, ours, 1e-5, max_length=64)


def test_the_transformer_in_pytorch_is_the_model_that_is_timed(monkeypatch):
    """But for the normalisation that `nn.Transformer` has at the end of each stack; at first, after another one, it
    changes nothing."""
    net = small(transformer, monkeypatch, D=8, FF=16, HEADS=2, LAYERS=2, DROPOUT=0.0)
    stacks = {"encoder": net.transformer.encoder, "decoder": net.transformer.decoder}
    tokens = np.arange(4, 12).reshape(2, 4)
    run = lambda: net(*2 * [net.table.weight.new_tensor(tokens).long()]).detach().numpy()
    wanted = run()
    for stack in stacks.values():
        stack.norm = None
    close(run(), wanted, 1e-4)
    ours = functools.partial(test_transformer.from_pytorch, table=net.table.weight, pre_norm=False, **stacks)
    translates_alike(transformer, net, ours, 1e-4)


def test_textcnn_in_pytorch_is_the_model_that_is_timed(monkeypatch):
    net = small(textcnn, monkeypatch).train(False)
    import torch

    def ours(get):
        found = {"embedding": get(net.embedding.weight)}
        for n, one in enumerate(net.convolutions):
            found |= {
                f"convolution_{n}_kernel": get(one.weight).transpose(2, 1, 0),
                f"convolution_{n}_bias": get(one.bias),
            }
        return found | {"softmax": {"kernel": get(net.softmax.weight).T, "bias": get(net.softmax.bias)}}

    config = mr.get_config()
    config.model.dropout = 0.0
    rows, labels = sentences(6, 2, 4), [0, 1, 1]
    bucket = make_buckets((6,), ("text",))[0]
    table = Table.build({"text": rows}, labels, bucket)
    index = np.arange(3)
    examples = gather(table, index, np.ones(3, np.float32), index, bucket)
    tokens, lengths = (torch.tensor(np.array(x["text"])).long() for x in (examples.tokens, examples.lengths))
    loss = torch.nn.functional.cross_entropy(net(tokens, lengths), torch.tensor(labels), reduction="sum")
    sums_agree(make_task(config, sizes={"text": V}, num_classes=textcnn.CLASSES), ours, examples, loss, 1e-5)


@pytest.mark.parametrize("packed", [True, False])
def test_esim_in_pytorch_is_the_model_that_is_timed(packed, monkeypatch):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    for name, size in {"V": V, "SIZE": 6, "L": 5}.items():
        monkeypatch.setattr(esim, name, size)
    torch.manual_seed(0)
    net = esim.torch_model(packed).train(False)

    def ours(get):
        dense = lambda layer: {"kernel": get(layer.weight).T, "bias": get(layer.bias)}
        names = {"words": {"embedding": get(net.words.weight)}}
        for name in ("encoding", "composition"):
            block, suffixes = getattr(net, name), ("", "_reverse") if packed else ("", "")
            names[name] = {}
            for side, lstm, suffix in zip(SIDES, (block.both,) * 2 if packed else (block.one, block.other), suffixes):
                kinds = {"input": "weight_ih_l0", "state": "weight_hh_l0", "bias": "bias_ih_l0"}
                for kind, theirs in kinds.items():
                    i, f, g, o = np.split(get(getattr(lstm, f"{theirs}{suffix}")), 4)
                    names[name][f"{side}_{kind}"] = np.concatenate([i, f, o, g]).T
        return names | {name: dense(getattr(net, name)) for name in ("projection", "hidden", "classify")}

    for name, value in net.named_parameters():
        if "bias_hh" in name:  # ours have one bias
            torch.nn.init.zeros_(value)
    config = snli.get_config()
    config.model.update(embedding_dim=6, hidden=6, dropout=0.0)
    rows, labels = {"premise": sentences(5, 2, 4), "hypothesis": sentences(1, 5, 3, seed=1)}, [0, 1, 2]
    bucket = make_buckets((5,), tuple(rows))[0]
    index = np.arange(3)
    examples = gather(Table.build(rows, labels, bucket), index, np.ones(3, np.float32), index, bucket)
    stack = lambda x: torch.tensor(np.concatenate([x[role] for role in esim.ROLES])).long()
    logits = net(stack(examples.tokens), stack(examples.lengths))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="sum")
    task = make_task(config, sizes=dict.fromkeys(rows, V), num_classes=3)
    sums_agree(task, ours, examples, loss, 1e-4)


def test_the_reference_of_conv_seq2seq_has_all_places_of_dropout(monkeypatch):
    """Both embeddings, the 4 + 3 convolutions' inputs, and the decoder's output: section 4.2."""
    net, calls = small(conv_seq2seq, monkeypatch, C=8), []
    from torch.nn import functional

    drop = lambda x, p=0.5, training=True, *rest: (calls.append((p, training)), x)[1]
    monkeypatch.setattr(functional, "dropout", drop)
    tokens = net.classify.weight.new_ones(1, 3).long()
    net(tokens, tokens)
    assert calls == [(conv_seq2seq.DROPOUT, True)] * 10


# --- what is timed


def test_the_sizes_are_those_that_the_figures_are_of():
    assert (translation.B, translation.L, translation.V, translation.SENTENCES) == (128, 24, 8000, 64)
    of_conv = (conv_seq2seq.C, conv_seq2seq.K, conv_seq2seq.ENCODER, conv_seq2seq.DECODER, conv_seq2seq.STEPS)
    assert of_conv == (256, 3, 4, 3, 64)
    of_transformer = (transformer.D, transformer.FF, transformer.HEADS, transformer.LAYERS, transformer.STEPS)
    assert of_transformer == (256, 1024, 4, 3, 32)
    assert (esim.SIZE, esim.L, esim.B) == (300, 32, 32)
    lengths = [f"train {length}" for length in (16, 32, 64, 128, 256, 512)]
    assert list(side_by_side.KINDS) == lengths + [f"decode {size} beam {beam}" for size in (1, 64) for beam in (1, 5)]


@pytest.mark.parametrize("module", [conv_seq2seq, transformer])
def test_decoding_with_and_without_a_cache_gives_the_same(module):
    """32 words of sentences of 24. The search alone may end there."""
    config = module._config()
    config.model.update(
        dict(encoder=("8x3",), decoder=("2*8x3",), embedding=8, output=8)
        if module is conv_seq2seq
        else dict(layers=1, d_model=8, d_ff=8, heads=2, d_k=4, d_v=4, share="none")
    )
    options = {"beam": 1, "steps": 32, "sentences": 3, "entries": 11}
    cached, again = (
        np.asarray(translation.jax_decoder(config, cached=cached, **options)()) for cached in (True, False)
    )
    assert cached.shape == again.shape == (3, 32)
    np.testing.assert_array_equal(cached[:, :-1], again[:, :-1])
    assert len(set(again[0])) > 1


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("train 512", {"rows": 8, "length": 512, "entries": 6000}),
        ("decode 64 beam 5", {"sentences": 64, "beam": 5, "steps": 32, "entries": 6000}),
    ],
)
def test_side_by_side_times_what_its_kinds_say(kind, wanted, monkeypatch):
    asked, served = [], []
    for name in ("jax_training", "jax_decoding"):
        monkeypatch.setattr(side_by_side, name, lambda config, **options: asked.append(options) or (lambda steps: None))
    monkeypatch.setattr(side_by_side, "serve", lambda run, seconds, **facts: served.append(facts))
    monkeypatch.setattr(side_by_side, "parameters", lambda config, entries: entries)
    for name in ("keep_freed_memory", "set_up_jax"):
        monkeypatch.setattr(side_by_side.cli, name, lambda: None)
    side_by_side.main("transformer", kind)
    assert asked == [wanted]
    assert served == [{"config": "configs/transformer/multi30k_de_en.py", "params": 6000}]


# --- the command


def test_workers_take_turns_and_are_compared(tmp_path, monkeypatch, capsys):
    """Of workers whose steps take 10, 20 and 30 ms."""
    stub = tmp_path / "python"
    program = f"""#!{sys.executable}
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from experiments.benchmarks.worker import serve
milliseconds = {{"jax": 10, "torch eager": 20, "jax recomputing": 30}}[sys.argv[-2]]
serve(lambda steps: time.sleep(steps * milliseconds / 1000), 1.5, kind=sys.argv[-1])
"""
    stub.write_text(program)
    stub.chmod(0o755)
    monkeypatch.setattr(benchmark.sys, "executable", str(stub))
    found = benchmark.compare("toy", ["jax", "torch eager", "jax recomputing"], "greedy", 3, 2)
    for (name, row), least in zip(found.items(), (10, 20, 30)):
        assert least <= row["min_ms"] <= row["median_ms"] <= row["max_ms"], name
        assert len(row["resident_mib"]) == 3 and row["peak_mib"] > max(row["resident_mib"]) - 2
        assert (row["first_step_seconds"], row["kind"]) == (1.5, "greedy")
    assert found["jax"]["first_step_seconds_cached"] == 1.5
    ratio = found["jax"]["median_ms"] / found["torch eager"]["median_ms"]
    assert benchmark.show("greedy", found) == ratio < 1
    shown = capsys.readouterr().out
    assert f"ratio of medians, JAX to the faster PyTorch: {ratio:.3f}" in shown
    assert f"{found['jax recomputing']['median_ms'] / found['jax']['median_ms']:.1f} times as fast as reco" in shown


def test_versions_are_those_of_the_packages():
    assert version("numpy") == np.__version__ and version("no-such-package") is None


FOUND = {"jax": {"median_ms": 5.0, "min_ms": 4.0, "max_ms": 6.0, "first_step_seconds": 1.0, "resident_mib": [7, 8]}}


@pytest.fixture
def timed(monkeypatch):
    """What is timed: (workers, kind, rounds, steps a turn) of each comparison."""
    seen = []

    def compare(paper, names, kind, rounds, steps):
        seen.append((list(names), kind, rounds, steps))
        return dict.fromkeys(names, FOUND["jax"])

    monkeypatch.setattr(benchmark, "compare", compare)
    return seen


def test_kinds_and_steps_are_those_asked_for_and_the_command_says_so(tmp_path, timed):
    path = tmp_path / "found.json"
    flags = ("--rounds", "2", "--output", path)
    assert call(benchmark.main, "side_by_side", *flags, "--kinds", "decode 1 *, train 16").code == 0
    models = list(side_by_side.MODELS)
    assert timed == [(models, "train 16", 2, 1), *((models, f"decode 1 beam {n}", 2, 16) for n in (1, 5))]
    record = json.loads(path.read_text())
    command = "python -m experiments.benchmark side_by_side --rounds 2"
    assert record["command"] == f"{command} --kinds 'decode 1 *, train 16'" and list(record["kinds"]) == [
        *("train 16", "decode 1 beam 1", "decode 1 beam 5")
    ]
    assert [kind["words"] for kind in record["kinds"].values()] == [4096, 32, 32]
    drawn = path.with_suffix(".png").stat().st_mtime_ns
    timed.clear()
    assert call(benchmark.main, "side_by_side", *flags, "--kinds", "decode 64*", "--steps", "3").code == 0
    assert path.with_suffix(".png").stat().st_mtime_ns > drawn, "no picture of other figures is left"
    assert [(kind, steps) for _, kind, _, steps in timed] == [("decode 64 beam 1", 3), ("decode 64 beam 5", 3)]
    assert json.loads(path.read_text())["command"] == f"{command} --steps 3 --kinds 'decode 64*'"


def test_only_what_needs_pytorch_says_that_it_is_skipped(timed, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark.importlib.util, "find_spec", lambda name: None)
    outcome = call(benchmark.main, "conv_seq2seq")
    assert outcome.code == 0 and outcome.err.startswith(
        "PyTorch is skipped: it is not installed (pip install -r tests/"
    )
    assert [names for names, *_ in timed] == [["jax"], ["jax", "jax recomputing"]]
    path = tmp_path / "found.json"
    assert call(benchmark.main, "transformer", "--kinds", "beam 4", "--output", path).code == 0
    record = json.loads(path.read_text())
    assert record["kinds"]["beam 4"]["sentences"] == 64 and record["about"].startswith("Training and decoding of a")
    assert record["environment"]["torch"] == version("torch")
    for words in (("side_by_side", "--kinds", "train 16"), ("conv_seq2seq", "--kinds", "greedy")):
        assert call(benchmark.main, *words).err == ""


def test_bad_usage(timed, tmp_path):
    refused(
        2,
        r"--kinds: there is no 'trian'; there are train 16, .*decode 64 beam 5",
        *command("--kinds", "train 16,trian"),
    )
    refused(2, r"--kinds: there is no ''", *command("--kinds", "train 16,"))
    for flag in ("--rounds", "--steps"):
        refused(2, r"--rounds and --steps must be at least 1", *command(flag, "0"))
    refused(2, r"--output: .*: there is no folder", *command("--output", tmp_path / "no" / "x.json"))
    assert not timed


def command(*flags) -> tuple:
    return benchmark.main, "side_by_side", *flags


def test_parameters_are_those_of_the_model_that_is_timed():
    """One table of V entries for both sides and the readout, attention and feed-forward networks: section 3 of Vaswani
    et al. 2017."""
    config = transformer._config()
    d, ff, layers = transformer.D, transformer.FF, transformer.LAYERS
    attention, network, norm = 4 * d * d, 2 * d * ff + ff + d, 2 * d
    wanted = translation.V * d + layers * (3 * attention + 2 * network + 5 * norm)
    assert translation.parameters(config) == wanted

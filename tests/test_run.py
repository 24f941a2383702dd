"""`python -m experiments.run` as its user meets it: the result, resuming, signals, every kind of bad input."""

import collections
import contextlib
import dataclasses
import errno
import functools
import itertools
import json
import os
import random
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from experiments import ablate, cli, predict, run
from experiments.ablations.textcnn import STUDY
from research import checkpoints
from research.checkpoints import load_arrays
from research.corpora import classification
from research.evaluation import Evaluator
from research.fit import Trainer
from tests.test_cli import ROOT, Outcome, call, refused
from tests.test_corpora import point_to

QUICKSTART = "configs/textcnn/quickstart.py"
CLASSES = ("negative", "positive")
# 72 training sentences of up to eight words make 8 steps an epoch, and the last batch is not full.
SMALL = {
    "data.corpus": "sst2",
    "data.tokenizer": "blank",
    "data.buckets": "4,8",
    "model.embedding_dim": 8,
    "model.filters": 4,
    "optimizer.epsilon": 1e-3,
    "train.batch_size": 10,
    "train.patience": 0,
    "train.epochs": 24,
}


def sentences(count: int, seed: int) -> list[tuple[int, str]]:
    """Labels and sentences with the word good or bad; one label in eight is wrong."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        words = [chance.choice("abcdefghij") for _ in range(chance.randint(1, 5))]
        label = number % 2
        place = chance.randrange(len(words) + 1)
        words.insert(place, ("bad", "good")[label])
        found.append((label if chance.random() > 1 / 8 else 1 - label, " ".join(words)))
    return found


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def lines(rows: Sequence[tuple[int, str]]) -> str:
    return "".join(f"{label} {text}\n" for label, text in rows)


def mr_files(rows: Sequence[tuple[int, str]]) -> dict[str, str]:
    names = ("rt-polarity.neg", "rt-polarity.pos")
    return {name: "".join(f"{text}\n" for label, text in rows if label == wanted) for wanted, name in enumerate(names)}


@dataclasses.dataclass(frozen=True)
class Bench:
    """A data folder and a folder of raw files, and commands that use them."""

    root: Path

    def arguments(self, workdir: Path, changes: dict | None = None, config: str = QUICKSTART) -> list[str]:
        fields = SMALL | (changes or {})
        words = ["--config", config, "--workdir", str(workdir), *self.folders()]
        return words + [f"--config.{name}={value}" for name, value in fields.items()]

    def folders(self) -> list[str]:
        return ["--data_dir", str(self.root / "data"), "--manual_dir", str(self.root / "raw")]

    def run(self, workdir: Path, changes: dict | None = None) -> dict:
        outcome = call(run.main, *self.arguments(workdir, changes))
        assert outcome.code == 0, outcome
        return json.loads((workdir / "result.json").read_text())

    def refused(self, code: int, message: str, workdir: Path, changes: dict | None = None) -> None:
        refused(code, message, run.main, *self.arguments(workdir, changes))


def write_corpora(folder: Path) -> None:
    parts = {"train": sentences(72, 1), "dev": sentences(25, 2), "test": sentences(40, 3)}
    write(folder / "sst2", {f"stsa.binary.{name}": lines(rows) for name, rows in parts.items()})
    write(folder / "mr", mr_files(sentences(60, 4)))


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    made = Bench(tmp_path_factory.mktemp("bench"))
    write_corpora(made.root / "raw")
    return made


@pytest.fixture
def own(tmp_path) -> Bench:
    """A bench of the test's own, to spoil."""
    made = Bench(tmp_path)
    write_corpora(made.root / "raw")
    return made


@pytest.fixture(scope="module")
def finished(bench) -> Path:
    """A finished run of SMALL."""
    bench.run(bench.root / "finished")
    return bench.root / "finished"


def result_of(workdir: Path) -> dict:
    return json.loads((workdir / "result.json").read_text())


def events(folder: Path) -> list[Event]:
    """The TensorBoard events of a replica. A record: 8 bytes length, 4 checksum, content, 4 checksum."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack("Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + size]))
            content = content[16 + size :]
    return found


# --- a finished run


def test_the_result(finished, bench):
    result = result_of(finished)
    assert (result["paper"], result["config"]) == ("textcnn", QUICKSTART)
    assert result["overrides"] == [f"{name}={value}" for name, value in SMALL.items()]
    assert result["command"].startswith(f"python -m experiments.run --config {QUICKSTART} --workdir ")
    assert result["signatures"] == {}
    # 13 words (a to j, not, good) minus what chance left out, and the two reserved ids
    words = {word for _, text in sentences(72, 1) for word in text.split()}
    vocabulary = len(words) + 2
    assert result["params"] == vocabulary * 8 + sum(h * 8 * 4 + 4 for h in (3, 4, 5)) + 12 * 2 + 2
    assert result["steps"] == 24 * 8
    assert result["seconds"] > 0 and result["examples_per_second"] > 0
    data = result["data"]
    assert (data["corpus"], data["version"], data["vocabulary"], data["long"]) == (
        "sst2",
        "1.0.0",
        {"text": vocabulary},
        0,
    )
    assert data["examples"] == {"train": 72, "dev": 25, "test": 40} and data["label_names"] == list(CLASSES)
    assert re.fullmatch("[0-9a-f]{64}", data["digest"])
    environment = result["environment"]
    assert environment["jax"] == jax.__version__ and environment["device_count"] == jax.device_count()
    assert 1 <= environment["cores"] <= os.cpu_count() and environment["dirty"] in (True, False, None)
    for package in ("flax", "optax", "orbax_checkpoint", "numpy", "tensorflow_datasets", "python", "device"):
        assert environment[package]


def test_the_metrics(finished):
    metrics = result_of(finished)["metrics"]
    assert set(metrics) == {"dev", "test"}
    for scores in metrics.values():
        assert set(scores) == {
            "accuracy",
            "macro_f1",
            "loss",
            "f1",
            "auc",
            "accuracy_at_threshold",
            "f1_at_threshold",
            "threshold",
        }
        for score in scores.values():
            assert score == {"mean": score["mean"], "std": None, "ci95": None, "n": 1, "values": [score["mean"]]}
            assert 0 <= score["mean"] <= 100
    accuracy = metrics["test"]["accuracy"]["mean"]
    assert accuracy == pytest.approx(round(accuracy * 40 / 100) * 100 / 40)  # a share of 40 sentences, in percent
    assert 65 < accuracy < 100 and metrics["test"]["loss"]["mean"] < 0.69  # it has learned, and not to the end


def test_what_it_prints(bench, finished, tmp_path):
    first = call(run.main, *bench.arguments(tmp_path / "W"))
    accuracy = result_of(tmp_path / "W")["metrics"]["test"]["accuracy"]["mean"]
    assert f"test  accuracy  {accuracy:.2f} % (n = 1)\n" in first.out
    assert first.out.endswith(f"result: {tmp_path / 'W' / 'result.json'}\n")
    reports = re.findall(r"^training: epoch (\d+), step (\d+), loss \d\.\d{4}, dev accuracy [\d.]+ %$", first.err, re.M)
    assert reports == [(str(epoch), str(8 * epoch)) for epoch in range(1, 25)]
    assert len(reports) == first.err.count("\n")
    assert result_of(tmp_path / "W")["metrics"] == result_of(finished)["metrics"]


def test_the_same_command_again_returns_the_same_result(bench, finished, monkeypatch):
    before = (finished / "result.json").read_bytes()
    monkeypatch.setattr(run, "Trainer", None)  # nothing is trained
    monkeypatch.setattr(run.datasets, "load", None)  # or read
    outcome = call(run.main, *bench.arguments(finished))
    assert outcome.code == 0 and "test  accuracy" in outcome.out and outcome.err == ""
    assert (finished / "result.json").read_bytes() == before


def test_the_command_of_the_result_reproduces_it(bench, finished, tmp_path):
    words = shlex.split(result_of(finished)["command"])
    assert words[:3] == ["python", "-m", "experiments.run"]
    words[words.index("--workdir") + 1] = str(tmp_path / "W")
    assert call(run.main, *words[3:], *bench.folders()).code == 0
    assert result_of(tmp_path / "W")["metrics"] == result_of(finished)["metrics"]


def test_tensorboard_events(finished):
    record = json.loads((finished / "replica_00" / "metrics.json").read_text())
    found = collections.defaultdict(list)
    for event in events(finished / "replica_00"):
        for value in event.summary.value:
            found[value.tag].append((event.step, value.simple_value))
    assert {"train/loss", "dev/accuracy", "dev/loss", "dev/auc"} <= set(found)
    for tag, wanted in (
        ("dev/accuracy", [(h["step"], h["dev"]["accuracy"]) for h in record["history"]]),
        ("train/loss", [(h["step"], h["train_loss"]) for h in record["history"]]),
    ):
        np.testing.assert_allclose(found[tag], wanted, rtol=1e-6)
        assert len(wanted) == 24


def test_what_is_left_in_the_workdir(finished):
    assert {path.name for path in finished.iterdir()} == {".lock", "config.json", "result.json", "replica_00"}
    left = {path.name for path in (finished / "replica_00").iterdir() if "tfevents" not in path.name}
    assert left == {"best", "metrics.json", "vocabulary.json"}


def test_the_quickstart_corpus(bench, tmp_path):
    small = {"model.embedding_dim": 4, "model.filters": 1, "train.epochs": 1, "train.batch_size": 500}
    words = ["--config", QUICKSTART, "--workdir", str(tmp_path / "W"), "--data_dir", str(bench.root / "data")]
    assert call(run.main, *words, *(f"--config.{name}={value}" for name, value in small.items())).code == 0
    result = result_of(tmp_path / "W")
    assert result["data"]["corpus"] == "word_order" and result["steps"] == 8
    assert result["data"]["examples"] == {"train": 4000, "dev": 500, "test": 1000}


CROSS = {"data.corpus": "mr", "data.dev": "", "folds": 3, "replicas": 2, "train.epochs": 3, "train.batch_size": 8}


@pytest.fixture(scope="module")
def crossed(bench) -> Path:
    bench.run(bench.root / "crossed", CROSS)
    return bench.root / "crossed"


def test_cross_validation_with_replicas(crossed):
    result = result_of(crossed)
    score = result["metrics"]["test"]["accuracy"]
    assert score["n"] == 6 and len(score["values"]) == 6
    assert score["mean"] == pytest.approx(np.mean(score["values"]))
    assert score["std"] == pytest.approx(np.std(score["values"], ddof=1))
    assert score["ci95"][0] < score["mean"] < score["ci95"][1]
    assert result["data"]["examples"] == {"train": 36, "dev": 4, "test": 20}
    assert result["steps"] == 6 * 3 * 5
    assert len({tuple(values["values"]) for values in result["metrics"]["test"].values()}) == 8
    losses = result["metrics"]["test"]["loss"]["values"]
    assert len(set(losses)) == 6, "every seed and every fold is a model of its own"


def test_one_fold_needs_the_corpus_own_splits(bench, tmp_path):
    bench.refused(2, r"run: corpus 'mr' has no split 'test'; it has train", tmp_path / "W", CROSS | {"folds": 1})


@pytest.mark.parametrize("changes", [{"train.replicas_together": "yes"}, {"train.stream": True}], ids=str)
def test_replicas_together_and_streaming_give_the_same_metrics(bench, crossed, tmp_path, changes):
    wanted, found = result_of(crossed)["metrics"], bench.run(tmp_path / "W", CROSS | changes)["metrics"]
    for split, name in itertools.product(("dev", "test"), ("accuracy", "macro_f1", "loss", "f1")):
        np.testing.assert_allclose(found[split][name]["values"], wanted[split][name]["values"], rtol=1e-4)


def test_pmap_gives_the_same_metrics(bench, finished, tmp_path):
    found = bench.run(tmp_path / "W", {"train.parallel": "pmap"})["metrics"]
    wanted = result_of(finished)["metrics"]
    assert found["test"]["accuracy"] == wanted["test"]["accuracy"]
    assert found["test"]["loss"]["mean"] == pytest.approx(wanted["test"]["loss"]["mean"], rel=1e-4)


# --- stopping and going on

LONG = {"train.epochs": 80, "train.checkpoint_seconds": 0.2}


def start(arguments: Sequence[str]) -> subprocess.Popen:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    words = [sys.executable, "-m", "experiments.run", *arguments]
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=-1, stderr=-1, text=True)


def wait_for_epochs(process: subprocess.Popen, count: int) -> None:
    """Returns when the process has reported `count` epochs."""
    seen = []
    for line in process.stderr:
        seen.append(line)
        if sum(line.startswith("training: epoch") for line in seen) == count:
            return
    pytest.fail(f"ended with {process.wait()} after {''.join(seen)[-2000:]}")


def test_signals_save_and_the_same_command_goes_on_exactly(bench, tmp_path):
    """SIGTERM, then Ctrl-C on the resumed run, then to the end: the numbers of a run never interrupted."""
    folder, steps = tmp_path / "W", []
    for number in (signal.SIGTERM, signal.SIGINT):
        process = start(bench.arguments(folder, LONG))
        wait_for_epochs(process, 2)
        if not steps:
            bench.refused(2, r"run: --workdir .*W: another process is running there\n", folder, LONG)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 75 and out == "" and "Traceback" not in err, err
        last = err.splitlines()[-1]
        (step,) = re.findall(
            rf"^run: stopped after step (\d+) of training, saved in {folder}; the same command goes on from there$",
            last,
        )
        steps.append(int(step))
        assert (folder / "replica_00" / "checkpoints" / step).is_dir()
        assert not (folder / "result.json").exists()
    assert 16 <= steps[0] < steps[0] + 8 < steps[1] < 80 * 8
    found, wanted = bench.run(folder, LONG), bench.run(tmp_path / "whole", LONG)
    assert found["metrics"] == wanted["metrics"] and found["steps"] == wanted["steps"] == 640
    histories = [
        [{**h} for h in json.loads((f / "replica_00" / "metrics.json").read_text())["history"]]
        for f in (folder, tmp_path / "whole")
    ]
    assert histories[0] == histories[1]


@contextlib.contextmanager
def stop_after(steps: int) -> Iterator:
    """In place of `cli.stop_signals`: asks to stop after so many steps."""
    count = itertools.count(1)
    yield lambda: next(count) >= steps


@pytest.fixture
def stopped(own, monkeypatch):
    """Bench and workdir of a run of SMALL that stopped after 20 steps, with checkpoints of steps 16 and 20."""
    with monkeypatch.context() as patch:
        patch.setattr(cli, "stop_signals", functools.partial(stop_after, 20))
        outcome = call(run.main, *own.arguments(own.root / "W", {"train.checkpoint_seconds": 0.0}))
    assert outcome.code == 75 and "stopped after step 20" in outcome.err
    return own, own.root / "W"


EAGER = {"train.checkpoint_seconds": 0.0}


def test_another_configuration_is_refused(stopped):
    bench, folder = stopped
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    message = (
        r"run: --workdir .*W: holds a run of another configuration "
        r"\(data\.buckets was \(4, 8\), is \(8,\); model\.dropout was 0\.5, is 0\.25\); choose another workdir\n"
    )
    bench.refused(2, message, folder, EAGER | {"data.buckets": "8", "model.dropout": 0.25})
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_another_configuration_is_refused_when_finished(finished, bench):
    bench.refused(2, r"\(seed was 0, is 1\); choose another workdir", finished, {"seed": 1})


def test_changed_corpus_files_are_refused(stopped):
    bench, folder = stopped
    path = bench.root / "raw" / "sst2" / "stsa.binary.train"
    before = path.read_bytes()
    path.write_bytes(before.replace(b"good", b"fine", 1))
    message = r"its run was started on other data \(corpus sst2, digest \w{12}, now \w{12}\); choose another workdir or"
    bench.refused(3, message, folder, EAGER)
    path.write_bytes(before)
    assert bench.run(folder, EAGER)["steps"] == 192


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(stopped, bench, finished):
    own, folder = stopped
    (newest,) = (folder / "replica_00" / "checkpoints").glob("20")
    for path in newest.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    outcome = call(run.main, *own.arguments(folder, EAGER))
    first, second = outcome.err.splitlines()[:2]
    assert re.search(r"checkpoints/20: damaged checkpoint \(.+\); going on from step \d+$", first)
    assert second.startswith("training: epoch 3, step 24,")
    assert outcome.code == 0 and "Traceback" not in outcome.err
    assert result_of(folder)["metrics"] == result_of(finished)["metrics"]


def test_ctrl_c_outside_of_training_says_what_is_kept(stopped, monkeypatch):
    bench, folder = stopped

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run.datasets, "load", interrupt)
        message = (
            r"run: --workdir .*W: interrupted; the same command goes on from what is kept: the checkpoint of step 20$"
        )
        bench.refused(75, message, folder, EAGER)
        bench.refused(75, r"run: interrupted before there was anything to save$", bench.root / "V", EAGER)


def test_a_run_that_is_stopped_while_it_is_scored_has_kept_its_training(bench, finished, tmp_path, monkeypatch):
    """Also one that is shorter than the least time between two checkpoints."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "final", interrupt)
        outcome = call(run.main, *bench.arguments(tmp_path / "W"))
    assert outcome.code == 75 and outcome.err.endswith("from what is kept: the checkpoint of step 192\n")
    assert bench.run(tmp_path / "W")["metrics"] == result_of(finished)["metrics"]


def test_a_signal_after_the_last_step_is_not_lost(bench, finished, tmp_path, monkeypatch):
    real = Trainer.fit

    def fit(*arguments, **named):
        found = real(*arguments, **named)
        os.kill(os.getpid(), signal.SIGTERM)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", fit)
        outcome = call(run.main, *bench.arguments(tmp_path / "W"))
    assert outcome.code == 75 and "run: stopped after step 192 of training, saved in" in outcome.err
    assert bench.run(tmp_path / "W")["metrics"] == result_of(finished)["metrics"]


def test_finished_replicas_are_kept(bench, crossed, tmp_path, monkeypatch):
    """Stopped in the second of six replicas: the first is not trained again, the numbers are those of a whole run."""
    changes, folder = CROSS | EAGER, tmp_path / "W"
    monkeypatch.setattr(cli, "stop_signals", functools.partial(stop_after, 17))  # replicas have 15 steps

    def ends(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        real = run._train
        patch.setattr(run, "_train", lambda *a: real(*a) if a[4][0] < 2 else ends())
        outcome = call(run.main, *bench.arguments(folder, changes))
    assert outcome.code == 75 and outcome.err.endswith("goes on from what is kept: 2 finished replicas\n")
    first = folder / "replica_00" / "metrics.json"
    before = first.stat().st_mtime_ns
    assert bench.run(folder, changes)["metrics"] == result_of(crossed)["metrics"]
    assert first.stat().st_mtime_ns == before


def test_damaged_metrics_of_a_replica_are_named(bench, crossed, tmp_path):
    folder = Path(shutil.copytree(crossed, tmp_path / "W"))
    (folder / "result.json").unlink()
    (folder / "replica_00" / "metrics.json").write_text("{}")
    message = r"replica_00/metrics\.json: no key 'metrics', 'steps', .*; remove the workdir and run again$"
    bench.refused(3, message, folder, CROSS)


# --- configurations that cannot be


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.batch_size": 0}, r"train\.batch_size must be at least 1, got 0$"),
        ({"train.batch_size": -5}, r"train\.batch_size must be at least 1, got -5$"),
        ({"train.batch_size": 73}, r"train\.batch_size = 73 is more than 72 training examples$"),
        ({"train.eval_batch_size": 0}, r"train\.eval_batch_size must be at least 1"),
        ({"train.epochs": 0}, r"train\.epochs must be at least 1"),
        ({"train.epochs": -1}, r"train\.epochs must be at least 1"),
        ({"train.micro_batches": 0}, r"train\.micro_batches must be at least 1"),
        ({"train.steps": -1}, r"train\.steps must be at least 0"),
        ({"train.micro_batches": 3}, r"train\.micro_batches = 3 does not divide batch_size = 10$"),
        ({"train.log_every": 0}, r"train\.log_every must be at least 1"),
        ({"train.patience": -1}, r"train\.patience must be at least 0"),
        ({"train.eval_every": -1}, r"train\.eval_every must be at least 0"),
        ({"train.checkpoint_seconds": "nan"}, r"train\.checkpoint_seconds must be at least 0, got nan"),
        ({"train.parallel": "gpu"}, r"train\.parallel: 'gpu' is neither jit nor pmap$"),
        ({"train.replicas_together": "maybe"}, r"train\.replicas_together: 'maybe' is none of auto, yes, no$"),
        (
            {"train.replicas_together": "yes", "train.batch_tokens": 90},
            r"train\.replicas_together = yes needs train\.batch_tokens = 0",
        ),
        ({"train.monitor": "acuracy"}, r"train\.monitor: 'acuracy' is none of .*accuracy, macro_f1, loss, f1, auc$"),
        ({"model.filters": 0}, r"model\.filters must be at least 1"),
        ({"model.filters": -4}, r"model\.filters must be at least 1, got -4"),
        ({"model.embedding_dim": 0}, r"model\.embedding_dim must be at least 1"),
        ({"model.layers": 0}, r"model\.layers must be at least 1"),
        ({"model.kernel_sizes": "()"}, r"model\.kernel_sizes must be window sizes of at least 1, got \(\)$"),
        ({"model.kernel_sizes": "3,0"}, r"model\.kernel_sizes must be window sizes of at least 1"),
        ({"model.kernel_sizes": "-3"}, r"model\.kernel_sizes must be window sizes of at least 1"),
        ({"model.kernel_sizes": "9"}, r"a window of 9 words is longer than the longest sentence, 8 words"),
        ({"model.dropout": 1}, r"model\.dropout is the share dropped, from 0 to below 1, got 1\.0$"),
        ({"model.dropout": -0.1}, r"model\.dropout"),
        ({"model.dropout": "nan"}, r"model\.dropout"),
        ({"model.pooling": "min"}, r"model\.pooling: 'min' is none of max, k_max, average$"),
        ({"model.variant": "non_static"}, r"model\.variant = non_static needs word vectors: set --config\.word_vec"),
        ({"data.buckets": "()"}, r"data\.buckets must be growing lengths of at least 1, got \(\)$"),
        ({"data.buckets": "0,8"}, r"data\.buckets must be growing lengths of at least 1, got \(0, 8\)$"),
        ({"data.buckets": "-8"}, r"data\.buckets must be growing"),
        ({"data.buckets": "8,4"}, r"data\.buckets must be growing"),
        ({"data.tokenizer": "words"}, r"data\.tokenizer: 'words' is none of blank, clean_str, character, mixed, jieba"),
        ({"data.unknown": "drop"}, r"data\.unknown: 'drop' is neither token nor skip$"),
        ({"data.min_count": 0}, r"data\.min_count must be at least 1"),
        ({"data.max_vocabulary": -1}, r"data\.max_vocabulary at least 0"),
        ({"data.dev": "", "data.dev_fraction": 0}, r"data\.dev_fraction must lie between 0 and 1, got 0\.0$"),
        ({"data.dev": "", "data.dev_fraction": -0.5}, r"data\.dev_fraction must lie between 0 and 1"),
        ({"data.dev": "", "data.dev_fraction": 0.9}, r"train\.batch_size = 10 is more than 7 training examples$"),
        ({"data.corpus": "sst3"}, r"unknown corpus 'sst3'; nearest names: .*sst2"),
        ({"data.train": "training"}, r"'sst2' has no split 'training'; it has train, validation, test$"),
        ({"data.test": ""}, r"data\.test: corpus 'sst2' needs a test split, or --config\.folds=10$"),
        ({"data.test": "train"}, r"data\.train: split 'train' is also data\.dev or data\.test"),
        ({"data.text": "review"}, r"'sst2' has no column 'review'; it has text, label$"),
        ({"data.text": "label"}, r"data\.text: column 'label' of corpus 'sst2' holds no text$"),
        ({"data.label": "text"}, r"data\.label: column 'text' of corpus 'sst2' holds no classes$"),
        ({"folds": 0}, r"folds and replicas must be at least 1, got 0 and 1$"),
        ({"folds": -3}, r"folds and replicas must be at least 1"),
        ({"replicas": 0}, r"folds and replicas must be at least 1, got 1 and 0$"),
        (
            {"folds": 3},
            r"data\.dev = validation has no place in cross-validation: set --config\.data\.dev= or folds=1$",
        ),
        ({"data.test": "validation"}, r"data\.test = validation is also data\.dev"),
        ({"folds": 25, "data.dev": ""}, r"folds = 25 is too many for the 72 examples of 'sst2'$"),
        ({"seed": -1}, r"run: seed must lie between 0 and 2147483647, got -1$"),
        ({"seed": 2**31}, r"run: seed must lie between"),
        ({"data.split_seed": -1}, r"run: data\.split_seed must lie between"),
        ({"task": "translation"}, r"task: 'translation' is none of classification \(research/textcnn"),
        ({"paper": "textrnn"}, r"paper: 'textrnn' is no paper's module in research/$"),
        ({"optimizer.name": "sgd"}, r"optimizer\.name: 'sgd' is none of adadelta, adam, nesterov$"),
        ({"optimizer.learning_rate": 0}, r"optimizer\.learning_rate must be above 0"),
        ({"optimizer.rho": 1}, r"optimizer\.rho must lie between 0 and 1"),
        ({"optimizer.max_norm": -3}, r"optimizer\.max_norm must be 0 \(none\) or above"),
        ({"train.epochs": "two"}, r"--config\.train\.epochs: 'two' is no int$"),
        ({"train.epoch": 2}, r"--config\.train\.epoch: there is no such field; did you mean train\.epochs"),
        ({"model": 2}, r"--config\.model: is a section"),
        ({"word_vectors.path": "v.txt"}, r"word_vectors\.path is set, but model\.variant = rand does not use it$"),
    ],
    ids=str,
)
def test_bad_configurations(bench, tmp_path, changes, message):
    bench.refused(2, message, tmp_path / "W", changes)
    assert not list(tmp_path.glob("W/replica_*")), "nothing has begun"


def test_a_corrected_command_may_use_the_workdir_of_the_mistaken_one(bench, tmp_path):
    missing = {"model.variant": "static", "word_vectors.path": str(tmp_path / "no.txt")}
    bench.refused(3, r"run: .*no\.txt", tmp_path / "W", missing)
    bench.refused(2, r"train\.parallel", tmp_path / "W", {"train.parallel": "gpu"})
    bench.run(tmp_path / "W", {"train.epochs": 1})


@pytest.mark.parametrize(
    ("config", "code", "message"),
    [
        (lambda p: "configs/textcnn/quickstrat.py", 2, r"does not exist; did you mean configs/textcnn/quickstart\.py"),
        (lambda p: p, 2, r"mine\.py:1: invalid syntax$"),
    ],
)
def test_bad_configuration_files(bench, tmp_path, config, code, message):
    (tmp_path / "mine.py").write_text("def get_config(:")
    arguments = bench.arguments(tmp_path / "W", config=config(str(tmp_path / "mine.py")))
    refused(code, message, run.main, *arguments)
    assert not (tmp_path / "W").exists()


def test_word_vectors_of_another_dimension(bench, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("2 3\ngood 0.1 0.2 0.3\nnot 0.1 0.2 0.3\n")
    changes = {"model.variant": "static", "word_vectors.path": str(path)}
    bench.refused(3, r"run: .*vectors\.txt:1: .*3.*8", tmp_path / "W", changes)


@pytest.fixture
def vectors(tmp_path) -> Path:
    """A word2vec text file of 8 dimensions for some of the words of `sentences`."""
    words = ["good", "bad", "a", "b", "c"]
    numbers = np.random.default_rng(0).normal(0, 0.3, (5, 8)).round(4)
    rows = [" ".join([word, *map(str, row)]) for word, row in zip(words, numbers)]
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join(["5 8", *rows, ""]))
    return path


def best_of(workdir: Path, number: int = 0) -> tuple[dict, dict]:
    """Parameters of a finished replica and its rows by word."""
    folder = workdir / f"replica_{number:02d}"
    variables, _ = load_arrays(folder / "best")
    tokens = json.loads((folder / "vocabulary.json").read_text())
    return variables, {token: index for index, token in enumerate(tokens)}


def test_static_vectors_stay_and_tuned_ones_move(bench, tmp_path, vectors):
    given = {line.split()[0]: np.float32(line.split()[1:]) for line in vectors.read_text().splitlines()[1:]}
    for variant, tables in {"static": 1, "non_static": 1, "multichannel": 2}.items():
        workdir = tmp_path / variant
        changes = {"model.variant": variant, "word_vectors.path": vectors, "train.epochs": 3}
        bench.run(workdir, changes)
        variables, rows = best_of(workdir)
        moved = {}
        for kind in ("params", "constants"):
            table = variables.get(kind, {}).get("embedding")
            if table is not None:
                moved[kind] = [word for word in given if not np.array_equal(table[rows[word]], given[word])]
        assert len(moved) == tables
        assert moved.get("constants", []) == [], "static rows are the file's"
        assert "params" not in moved or set(moved["params"]) == set(given), "tuned rows have moved from the file's"


def test_other_word_vectors_are_refused_on_resume_and_folds_read_the_file_once(bench, tmp_path, vectors, monkeypatch):
    changes = {"data.corpus": "mr", "folds": 2, "data.dev": "", "data.train": "train", "train.epochs": 1}
    changes |= {"model.variant": "static", "word_vectors.path": vectors}
    reads, read = [], run.read_vectors
    monkeypatch.setattr(run, "read_vectors", lambda *a, **k: reads.append(1) or read(*a, **k))
    bench.run(tmp_path / "W", changes)
    assert len(reads) == 1
    (tmp_path / "W" / "result.json").unlink()
    vectors.write_text(vectors.read_text().replace("good 0", "good 1"))
    bench.refused(3, r"its run was started on other data \(word vectors, digest \w{12}, now", tmp_path / "W", changes)


def test_a_diverging_run_names_the_steps_and_what_is_kept(bench, tmp_path):
    outcome = call(run.main, *bench.arguments(tmp_path / "W", {"optimizer.learning_rate": 1e38}))
    last = outcome.err.splitlines()[-1]
    assert outcome.code == 2 and outcome.out == "" and "Traceback" not in outcome.err
    assert re.search(
        r"^run: training: NaN or infinity between steps \d+ and \d+; first bad parameter: .*; try a smaller "
        r"optimizer\.learning_rate; no checkpoint was saved yet in .*W$",
        last,
    )


def test_a_study_names_the_cell_that_cannot_be(bench, tmp_path):
    argv = ["--workdir", tmp_path / "W", "--variants", "region_9", "--seeds", "1", "--config", QUICKSTART]
    argv += [*bench.arguments(tmp_path)[4:], "--config.train.epochs=1"]
    outcome = call(functools.partial(ablate.command, STUDY), *argv)
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert re.search(r"^run: region_9, seed 0: .*a window of 9 words is longer than", outcome.err)
    assert "[1/2] baseline seed 0: test accuracy" in outcome.out
    assert outcome.out.startswith(
        "region_9 cannot be run and will end the study there: model.kernel_sizes: a window of 9"
    )


# --- corpora that cannot be

GOOD = {f"stsa.binary.{part}": "1 good film\n0 bad film\n" * 12 for part in ("train", "dev", "test")}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"stsa.binary.train": ""}, r"stsa\.binary\.train: the file is empty"),
        ({"stsa.binary.train": "\n \n"}, r"stsa\.binary\.train: the file is empty"),
        ({"stsa.binary.train": "1 good film\ngood\n"}, r"stsa\.binary\.train:2: 'good' is no label of sst2"),
        ({"stsa.binary.dev": "1 good film\n0\n"}, r"stsa\.binary\.dev:2: no text after the label"),
        ({"stsa.binary.test": "0 bad film\n2 film\n"}, r"stsa\.binary\.test:2: '2' is no label of sst2"),
        ({"stsa.binary.train": "1 good film\n" * 20}, r"stsa\.binary\.train: every example is positive"),
        ({"stsa.binary.train": b"\xef\xbb\xbf1 \xff\xfe\n"}, r"stsa\.binary\.train:1: byte 0xff is not UTF-8"),
        ({"stsa.binary.train": "1 good\0film\n"}, r"stsa\.binary\.train:1: NUL byte"),
    ],
    ids=str,
)
def test_bad_corpus_files(tmp_path, files, message):
    spoilt = Bench(tmp_path)
    write(tmp_path / "raw" / "sst2", GOOD | files)
    spoilt.refused(3, message, tmp_path / "W")
    assert not list(tmp_path.glob("W/replica_*"))
    write(tmp_path / "raw" / "sst2", GOOD)  # mended: the same command runs
    spoilt.run(tmp_path / "W", SMALL | {"train.epochs": 1}) if "empty" in message else None


def test_a_missing_corpus_says_where_to_put_which_file(tmp_path, monkeypatch):
    bare = Bench(tmp_path)
    bare.refused(3, r"put stsa\.binary\.train, stsa\.binary\.dev, stsa\.binary\.test into .*/raw/sst2$", tmp_path / "W")
    point_to(monkeypatch, classification.MovieReviews, "http://127.0.0.1:9")  # nobody listens there
    message = (
        r"run: corpus 'mr': put rt-polarity\.neg, rt-polarity\.pos into .*/raw/mr \(the download failed: http.*refused"
    )
    bare.refused(3, message, tmp_path / "W", CROSS)


def test_a_fold_without_a_class(own, tmp_path):
    rows = [(0, f"bad film {n}") for n in range(30)] + [(1, "good film"), (1, "good film")]
    write(own.root / "raw" / "mr", mr_files(rows))
    message = r"corpus 'mr': fold \d's test part has no example of class positive; use fewer folds or another"
    own.refused(3, message, tmp_path / "W", CROSS)


def test_a_class_that_training_never_sees(own, tmp_path):
    write(own.root / "raw" / "sst2", {"stsa.binary.train": "0 bad film\n" * 30 + "1 good film\n"})
    message = r"corpus 'sst2': split 'train' has no example of class positive; check the corpus files"
    own.refused(3, message, tmp_path / "W", {"data.dev": "", "data.dev_fraction": 0.5, "data.split_seed": 0})


def test_examples_without_a_label(bench, tmp_path, monkeypatch):
    """TFDS marks them with -1, as in the test split of glue/sst2: no accuracy is made up from them."""
    real = run.datasets.load_corpus

    def load(*arguments, **options):
        corpus = real(*arguments, **options)
        corpus.splits["test"]["label"][:] = [-1] * 40
        return corpus

    monkeypatch.setattr(run.datasets, "load_corpus", load)
    message = r"corpus 'sst2': 0 of 40 examples of split 'test' have a label; name another split"
    bench.refused(3, message, tmp_path / "W")


def test_a_line_of_a_million_tokens_is_cut_and_counted(own, tmp_path):
    path = own.root / "raw" / "sst2" / "stsa.binary.train"
    path.write_text(path.read_text() + "1" + " good" * 1_000_000 + "\n")
    outcome = call(run.main, *own.arguments(tmp_path / "W", {"train.epochs": 1}))
    assert outcome.code == 0 and outcome.err.startswith("1 texts are longer than 8 tokens and were cut\n")
    assert result_of(tmp_path / "W")["data"]["long"] == 1


# --- workdirs that cannot be


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own at `folder`, where the test may mount one."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def mount(tmp_path):
    if shutil.which("mount") is None:
        pytest.skip("no file system can be mounted here: there is no mount command")
    with contextlib.ExitStack() as stack:
        yield lambda options: stack.enter_context(mounted(tmp_path / "disk", options))


def test_a_workdir_that_cannot_be_made(bench, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "W", tmp_path / "file"):
        bench.refused(2, r"run: --workdir .*file.*: cannot be written \(.+\); choose another", folder)


def test_a_workdir_without_write_permission(bench, tmp_path):
    (tmp_path / "W").mkdir(mode=0o500)
    if os.access(tmp_path / "W", os.W_OK):
        pytest.skip("permission bits do not bind this user (root)")
    bench.refused(2, r"run: --workdir .*W: cannot be written \(Permission denied\)", tmp_path / "W")


def test_a_read_only_disk(bench, mount):
    message = r"run: --workdir .*disk/W: cannot be written \(Read-only file system\); choose another"
    bench.refused(2, message, mount("ro") / "W")


@pytest.mark.parametrize("content", ["{}", "[1]", '{"config": {}}'])
def test_a_workdir_of_something_else(bench, tmp_path, content):
    (tmp_path / "W" / "replica_00").mkdir(parents=True)
    (tmp_path / "W" / "config.json").write_text(content)
    bench.refused(2, r"W: its config\.json is not of a run; choose another workdir", tmp_path / "W")
    (tmp_path / "W" / "config.json").write_text("{")
    bench.refused(3, r"config\.json, line 1: not valid JSON \(.*\); remove the workdir and run again", tmp_path / "W")


def test_a_disk_that_is_full_from_the_start(bench, mount):
    folder = mount("size=64k") / "W"
    outcome = call(run.main, *bench.arguments(folder, EAGER))
    assert outcome.code == 2 and "Traceback" not in outcome.err
    last = outcome.err.splitlines()[-1]
    assert last == f"run: --workdir {folder}: the disk is full, nothing was kept; choose another"


def fill_up(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_disk_that_fills_up_keeps_the_checkpoint_and_the_run_goes_on(bench, finished, mount, monkeypatch):
    folder = mount("size=16m") / "W"
    with monkeypatch.context() as patch:
        patch.setattr(cli, "stop_signals", functools.partial(stop_after, 20))
        assert call(run.main, *bench.arguments(folder, EAGER)).code == 75
    fill_up(folder.parent / "filler")
    outcome = call(run.main, *bench.arguments(folder, EAGER))
    assert outcome.code == 75 and outcome.out == "" and "Traceback" not in outcome.err
    assert outcome.err.splitlines()[-1] == (
        f"run: --workdir {folder}: the disk is full; free some space, then the same command goes on from what is kept: "
        "the checkpoint of step 20"
    )
    (folder.parent / "filler").unlink()
    assert bench.run(folder, EAGER)["metrics"] == result_of(finished)["metrics"]


@pytest.mark.parametrize("place", ["run.save_arrays", "workdir.write_json", "run.Events.add", "run.Checkpoints.save"])
def test_a_full_disk_at_any_place(stopped, finished, monkeypatch, place):
    """The same where a save fails half-way, over quota say; Orbax reports a ValueError."""
    bench, folder = stopped
    reason = os.strerror(errno.EDQUOT)
    error = ValueError(f"RESOURCE_EXHAUSTED: ... {reason} ...") if "save" in place else OSError(errno.EDQUOT, reason)

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(f"experiments.{place}", fail)
        outcome = call(run.main, *bench.arguments(folder, EAGER))
    assert outcome.code == 75 and "Traceback" not in outcome.err
    assert re.search(r"what is kept: the checkpoint of step \d+$", outcome.err.splitlines()[-1])
    assert bench.run(folder, EAGER)["metrics"] == result_of(finished)["metrics"]


def test_other_errors_stay_what_they_are(stopped, monkeypatch):
    """A defect of ours is no full disk: it keeps its traceback."""
    bench, folder = stopped
    monkeypatch.setattr(run, "save_arrays", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.run(
            str(ROOT / QUICKSTART),
            [f"{name}={value}" for name, value in (SMALL | EAGER).items()],
            folder,
            data_dir=bench.root / "data",
            manual_dir=bench.root / "raw",
        )


def test_room_is_asked_for_before_a_save(tmp_path, monkeypatch):
    free = collections.namedtuple("Usage", "total used free")
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: free(0, 0, 2 * 4000 + 1024**2 - 1))
    checkpoints.save_arrays(tmp_path / "a", {"a": np.zeros(999, np.float32)}, {})
    with pytest.raises(OSError, match="No space left") as error:
        checkpoints.save_arrays(tmp_path / "b", {"a": np.zeros(1000, np.float32)}, {})
    assert error.value.errno == errno.ENOSPC and not (tmp_path / "b").exists()


def test_predict_needs_a_finished_run(stopped, tmp_path):
    _, folder = stopped
    for path in (folder, tmp_path / "nothing"):
        refused(
            2, r"--workdir .*: holds no finished run; finish it with python -m exp", predict.main, "--workdir", path
        )


def test_outcomes_compare():
    """What `refused` relies on."""
    with pytest.raises(AssertionError):
        refused(2, "x", lambda argv: None)
    assert call(lambda argv: print("x")) == Outcome(0, "x\n", "")

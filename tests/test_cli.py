"""What all commands share: configuration files and overrides, exit codes, signals, `--help`. `call` and `refused` are
how the other tests of the commands run a program."""

import contextlib
import dataclasses
import errno
import functools
import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import jax
import pytest
from ml_collections import ConfigDict

from experiments import (
    ablate,
    answer,
    benchmark,
    cli,
    describe,
    evaluate_retrieval,
    import_weights,
    predict,
    report,
    run,
)
from experiments.ablations.textcnn import STUDY
from research.codecs import roles
from research.errors import ConfigError, DataError
from research.optimizers import make_optimizer
from research.tasks import make_task

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def call(program, *argv, stdin: bytes = b"") -> Outcome:
    """What `python -m experiments.run ARGV` does, in this process: `program` under `cli.main`, from the root."""
    out, err, signals = (
        io.StringIO(),
        io.StringIO(),
        [(n, signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGINT)],
    )
    with (
        contextlib.chdir(ROOT),
        mock.patch.object(sys, "argv", ["run.py", *map(str, argv)]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        try:
            cli.main(program)
        finally:
            for number, handler in signals:
                signal.signal(number, handler)
    return Outcome(ended.value.code or 0, out.getvalue(), err.getvalue())


def refused(code: int, message: str, program, *argv) -> None:
    """The program ends with `code`, nothing on standard output and one line on standard error, which has `message`."""
    outcome = call(program, *argv)
    assert (outcome.code, outcome.out) == (code, ""), outcome
    assert outcome.err.endswith("\n") and outcome.err.count("\n") == 1, outcome.err
    assert re.search(message, outcome.err), outcome.err


# --- configuration files

MR = str(ROOT / "configs" / "textcnn" / "mr.py")


def load(tmp_path, text: str) -> ConfigDict:
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return cli.load_config(str(path))


OF_MR = "from configs.textcnn import mr\n\ndef get_config():\n    config = mr.get_config()\n    {}\n    return config\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\ndef get_config(:\n", r"mine\.py:2: invalid syntax"),
        ("a = 'x\n", r"mine\.py:1: unterminated string"),
        ("a = 1\n\0", r"mine\.py:1: .*null bytes"),
        ("a = 1\nb = '\udcff'\n", r"mine\.py:[12]: .*can't decode byte 0xff"),
        ("def get_config():\n    return 1 / 0\n", r"mine\.py:2: ZeroDivisionError: division by zero"),
        ("import no_such\n", r"mine\.py:1: ModuleNotFoundError: No module named 'no_such'"),
        ("def get_config():\n    import json\n\n    json.loads('{')\n", r"mine\.py:4: JSONDecodeError: "),
        ("def get_config():\n    raise ValueError('two\\nlines')\n", r"mine\.py:2: ValueError: two$"),
        ("def get_config():\n    raise ValueError\n", r"mine\.py:2: ValueError: $"),
        ("from ml_collections import ConfigDict\nConfigDict().nothing\n", r"mine\.py:2: AttributeError: "),
        ("def config():\n    pass\n", r"mine\.py: defines no function get_config\(\)$"),
        ("def get_config():\n    return {}\n", r"mine\.py: get_config\(\) returns dict, not an ml_collections\."),
        (OF_MR.format("config.train.epoch = 1"), r"mine\.py has no field train\.epoch; did you mean train\.epochs"),
        (OF_MR.format("config.replica = 1"), r"mine\.py has no field replica; did you mean replicas\?$"),
        (OF_MR.format("del config.data.text"), r"mine\.py needs data\.text, which the configuration does not have$"),
        (OF_MR.format("config.task = 'parsing'"), r"mine\.py: task: 'parsing' is none of classification, matching, tr"),
        (OF_MR.format("del config.model"), r"mine\.py: get_config\(\) sets no fields of model$"),
        (OF_MR.format("config.optimizer = {}"), r"mine\.py: get_config\(\) sets no fields of optimizer$"),
        ("from ml_collections import ConfigDict as get_config\n", r"mine\.py: task: 'None' is none of"),
    ],
)
def test_a_config_file_with_a_mistake(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as error:
        load(tmp_path, text)
    assert "\n" not in str(error.value)


def test_an_unknown_config_file(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(
        ConfigError, match=r"configs/textcnn/nr\.py does not exist; did you mean configs/textcnn/mr\.py"
    ):
        cli.load_config("configs/textcnn/nr.py")
    with pytest.raises(ConfigError, match=r"config file configs does not exist"):
        cli.load_config("configs")
    refused(2, r"File name too long$", run.main, "--config", "x" * 300, "--workdir", "W")


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        (
            "textcnn/mr",
            "config.model.embeding_dim = 8",
            "field model.embeding_dim; did you mean model.embedding_dim",
        ),
        ("textcnn/mr", "del config.model.filters", "research/textcnn.py needs model.filters, which"),
        ("esim/lcqmc_small", "config.model.architecture = 'cosine'", "architecture = cosine needs model.kernel_sizes,"),
        (
            "esim/lcqmc_small",
            "config.model.architecture = 'gru'",
            "architecture: 'gru' is none of sequential, tree",
        ),
        ("esim/lcqmc_small_cosine", "config.model.architecture = 'sequential'", "sequential needs model.attention, mo"),
        ("esim/lcqmc_small_cosine", "config.model.layers = 2", "architecture = cosine has no field model.layers"),
        ("transformer/quickstart", "config.paper = 'conv_seq2seq'", "research/conv_seq2seq.py needs model.attention, "),
        ("transformer/base", "config.model.d_v2 = 3", "research/transformer.py has no field model.d_v2; did you mean"),
        ("conv_seq2seq/iwslt", "config.model.heads = 3", "research/conv_seq2seq.py has no field model.heads"),
        ("transformer/base", "config.optimizer.by_rows = True", "optimizer.name = adam has no field optimizer.by_rows"),
    ],
)
def test_fields_of_the_model_and_the_optimiser(tmp_path, name, own, message):
    """What a user's own configuration file has too much or too little."""
    paper, run_name = name.split("/")
    text = OF_MR.replace("configs.textcnn import mr", f"configs.{paper} import {run_name} as mr")
    config = load(tmp_path, text.format(own))
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_optimizer(config.optimizer)
        make_task(config, sizes=dict.fromkeys(roles(config), 50), num_classes=2)


def test_the_recorded_command_has_no_folder_of_the_machine():
    words = ["--workdir", "runs/x", "--manual_dir", "/home/me/raw", "--data_dir=/data", "--k", "5"]
    assert cli.command("describe", words) == "python -m experiments.describe --workdir runs/x --k 5"


# --- overrides

CONFIG = dict(
    seed=0,
    data=dict(lower=True, corpus="mr", buckets=(16, 32), names=("a",), empty=(), pairs=((12, 10),)),
    model=dict(dropout=0.5, rates=(0.1, 0.2), filters=[2, 3]),
    train=dict(dropout=0.1),
)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("seed", "7", 7),
        ("seed", "-7", -7),
        ("data.lower", "false", False),
        ("data.lower", "True", True),
        ("data.lower", "0", False),
        ("data.lower", "1", True),
        ("data.corpus", "glue/sst2", "glue/sst2"),
        ("data.corpus", "a=b", "a=b"),
        ("data.corpus", "12", "12"),
        ("data.corpus", "", ""),
        ("data.buckets", "8,16", (8, 16)),
        ("data.buckets", "(8, 16)", (8, 16)),
        ("data.buckets", "[8]", (8,)),
        ("data.buckets", "(3,)", (3,)),
        ("data.buckets", "3", (3,)),
        ("data.buckets", "-1,2", (-1, 2)),
        ("data.buckets", "()", ()),
        ("data.names", "'x','y'", ("x", "y")),
        ("data.names", "b", ("b",)),
        ("data.names", "1", ("1",)),
        ("data.names", "0x3", ("0x3",)),
        ("data.names", '"b", "c d"', ("b", "c d")),
        ("data.names", "test_2017_flickr, x/1.0.0,-2", ("test_2017_flickr", "x/1.0.0", "-2")),
        ("data.names", "(b, c)", ("b", "c")),
        ("data.names", "two words,", ("two words",)),
        ("data.empty", "1,'a',0.5", (1, "a", 0.5)),
        ("data.empty", "1.5", (1.5,)),
        ("data.empty", "a", ("a",)),
        ("data.empty", "test_2017_flickr,2018", ("test_2017_flickr", "2018")),
        ("data.empty", "", ()),
        ("data.buckets", "(12,10),(24,20)", ((12, 10), (24, 20))),
        ("data.buckets", "((12, 10), (24, 20))", ((12, 10), (24, 20))),
        ("data.buckets", "[[12,10],[24,20]]", ((12, 10), (24, 20))),
        ("data.buckets", "(12,10),", ((12, 10),)),
        ("data.buckets", "8,(24,20)", (8, (24, 20))),
        ("data.pairs", "16,32", (16, 32)),
        ("data.pairs", "(1,2),(3,4)", ((1, 2), (3, 4))),
        ("model.dropout", "1", 1.0),
        ("model.dropout", "-1e-3", -0.001),
        ("model.rates", "1,0.5", (1.0, 0.5)),
        ("model.filters", "4,5", (4, 5)),
    ],
)
def test_an_override_takes_the_type_of_its_field(field, text, value):
    config = ConfigDict(CONFIG)
    cli.set_field(config, field, text)
    found = cli.flatten(config)
    assert repr(found[field]) == repr(value)  # 1 is not 1.0
    unchanged = cli.flatten(ConfigDict(CONFIG))
    assert {k: v for k, v in found.items() if k != field} == {k: v for k, v in unchanged.items() if k != field}


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("seed", "one", r"--config\.seed: 'one' is no int$"),
        ("seed", "1.5", r"'1\.5' is no int"),
        ("seed", "", r"'' is no int"),
        ("data.lower", "maybe", r"--config\.data\.lower: 'maybe' is no bool$"),
        ("data.lower", "2", r"'2' is no bool"),
        ("model.dropout", "half", r"'half' is no float"),
        ("data.buckets", "a", r"--config\.data\.buckets: 'a' is no tuple of int$"),
        ("data.buckets", "1,,2", r"is no tuple of int"),
        ("data.buckets", "1.5", r"is no tuple of int"),
        ("data.buckets", "True", r"is no tuple of int"),
        ("data.buckets", "{[1]}", r"is no tuple of int"),
        ("data.buckets", "(1,2),(3,a)", r"--config\.data\.buckets: '\(1,2\),\(3,a\)' is no tuple of int$"),
        ("data.buckets", "(1,2),(3,4.5)", r"is no tuple of int"),
        ("data.buckets", "(1,2),(3,(4,5))", r"is no tuple of int"),
        ("data.buckets", "(1,2),(3,4", r"is no tuple of int"),
        ("data.buckets", "(1,2)(3,4)", r"is no tuple of int"),
        ("model.filters", "(1,2),(3,4)", r"is no tuple of int"),
        ("data.names", '"a",b', r"is no tuple of str"),
        ("data.names", "a,,b", r"--config\.data\.names: 'a,,b' is no tuple of str$"),
        ("data.names", "'a", r"is no tuple of str"),
        ("data.names", "a,'b'c", r"is no tuple of str"),
        ("data.names", "a,(b,c)", r"is no tuple of str"),
        ("data.names", "{a}", r"is no tuple of str"),
        ("data.empty", "f(a)", r"--config\.data\.empty: 'f\(a\)' is no tuple of float, int, str$"),
        ("model.rates", "0.1,'a'", r"is no tuple of float"),
        ("model.rates", "a", r"is no tuple of float"),
        ("model.rates", "True", r"is no tuple of float"),
        ("sed", "1", r"--config\.sed: there is no such field; did you mean seed\?$"),
        ("model.dropot", "1", r"did you mean model\.dropout or model\.rates\?$"),
        ("dropout", "1", r"there is no such field; did you mean .*model\.dropout"),
        ("seed.x", "1", r"--config\.seed\.x: there is no such field"),
        ("zzz", "1", r"--config\.zzz: there is no such field$"),
        ("model", "1", r"--config\.model: is a section; name a field in it, such as model\.dropout$"),
    ],
)
def test_an_override_that_cannot_be(field, text, message):
    with pytest.raises(ConfigError, match=message):
        cli.set_field(ConfigDict(CONFIG), field, text)


def test_a_configuration_equals_the_one_that_its_file_gives_back():
    """Otherwise a run that is resumed would be refused as one of another configuration."""
    config = ConfigDict(CONFIG)
    config.data.buckets = ((12, 10), (24, [20]), 30)
    restored = ConfigDict(json.loads(json.dumps(config.to_dict())))
    assert cli.flatten(restored) == cli.flatten(config)
    assert cli.flatten(restored)["data.buckets"] == ((12, 10), (24, (20,)), 30)


def test_overrides_are_taken_out_of_the_arguments():
    argv = ["--config", "c.py", "--config.a.b=1", "--workdir", "W", "--config.c", "-2", "--config.d=x=y", "--config.e="]
    rest, overrides = cli.split_overrides(argv)
    assert rest == ["--config", "c.py", "--workdir", "W"]
    assert overrides == ["a.b=1", "c=-2", "d=x=y", "e="]
    for argv in (["--config.a.b"], ["--config.a.b", "--workdir", "W"]):
        with pytest.raises(ConfigError, match=r"--config\.a\.b: needs a value, --config\.a\.b=VALUE"):
            cli.split_overrides(argv)


def test_the_last_override_of_a_field_counts():
    config = cli.load_config(MR, ["train.epochs=3", "train.epochs=4", "model.kernel_sizes=2,3"])
    assert config.train.epochs == 4 and config.model.kernel_sizes == (2, 3)


# --- exit codes


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("two\nlines"), 2, "run: two lines\n"),
        (DataError("no file"), 3, "run: no file\n"),
        (cli.Interrupted("saved"), 75, "run: saved\n"),
        (KeyboardInterrupt(), 75, "run: interrupted before there was anything to save\n"),
        (OSError(errno.ENOSPC, "No space left on device", "W/x"), 2, "run: W/x: No space left on device\n"),
        (OSError(errno.EACCES, "Permission denied"), 2, "run: output: Permission denied\n"),
    ],
)
def test_exit_codes(error, code, line):
    def program(argv):
        raise error

    assert call(program) == Outcome(code, "", line)


def test_what_is_no_mistake_of_the_user_keeps_its_traceback():
    def program(argv):
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"), mock.patch.object(sys, "argv", ["run.py"]):
        cli.main(program)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_arguments_reach_the_program_and_its_code_the_shell():
    seen = []
    assert call(lambda argv: seen.extend(argv), "a", "--b") == Outcome(0, "", "")
    assert seen == ["a", "--b"]
    assert call(lambda argv: 1).code == 1


def test_sigterm_before_training_ends_like_ctrl_c():
    assert call(lambda argv: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(1)).code == 75


# --- signals

LOOP = """
import sys, time
from experiments import cli

with cli.stop_signals() as should_stop:
    print("ready", flush=True)
    while not should_stop():
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("numbers", "code"),
    [((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGTERM, signal.SIGINT), 130)],
    ids=["Ctrl-C twice", "SIGTERM and Ctrl-C"],
)
def test_a_second_ctrl_c_ends_at_once(numbers, code):
    process = subprocess.Popen([sys.executable, "-c", LOOP], cwd=ROOT, stdout=-1, stderr=-1, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(numbers[0])
    assert process.stdout.readline() == "asked\n"
    process.send_signal(numbers[1])
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (code, "") and "Ctrl-C again" in err and "Traceback" not in err


READING = """
import threading, time
from experiments import cli
def read(argv):
    with cli.ending_at_once():
        threading.Thread(target=time.sleep, args=(60,)).start()  # as a library that downloads
        print("ready", flush=True)
        time.sleep(60)
cli.main(read)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_a_corpus_is_read_a_signal_ends_at_once(number):
    process = subprocess.Popen([sys.executable, "-c", READING], cwd=ROOT, stdout=-1, stderr=-1, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 75
    assert err == "-c: interrupted while a corpus was read; the same command goes on from what is kept\n"


def test_signals_are_as_before_a_corpus_was_read():
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with cli.ending_at_once():
        assert signal.getsignal(signal.SIGINT) != before[1]
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


CLOSED = """
import ctypes
from experiments import cli
def read(argv):
    for said in ("Event loop is closed", "something else"):
        def call(*_, said=said):
            raise RuntimeError(said)
        ctypes.CFUNCTYPE(None)(call)()  # as a library's thread calls back
cli.main(read)
"""


def test_event_loops_that_orbax_has_closed_are_no_traceback():
    done = subprocess.run([sys.executable, "-c", CLOSED], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "something else" in done.stderr and "loop is closed" not in done.stderr


def test_a_device_without_memory_left_is_no_traceback(capsys):
    def exhausted(argv):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.\nmore")

    with pytest.raises(SystemExit) as ended:
        cli.main(exhausted)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "out of memory (RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.); choose a smaller" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_when_all_is_done_changes_nothing(number):
    """While libraries clean up behind themselves, which is here the signal's sending."""
    end = f"import atexit, os; from experiments import cli; atexit.register(os.kill, os.getpid(), {int(number)})"
    done = subprocess.run([sys.executable, "-c", f"{end}; cli.main(lambda argv: 3)"], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stderr) == (3, b"")


def test_signals_are_as_before_afterwards(capfd):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with cli.stop_signals() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # a scheduler may ask twice
        assert should_stop()
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
    assert "saving" in capfd.readouterr().err


# --- the process's settings


def test_keeping_freed_memory_does_no_harm(monkeypatch):
    cli.keep_freed_memory()
    cli.keep_freed_memory()
    blocks = [bytearray(8 * 1024**2) for _ in range(8)]
    del blocks
    monkeypatch.setattr(cli.ctypes, "CDLL", mock.Mock(side_effect=OSError("no libc.so.6 here")))
    cli.keep_freed_memory()


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="memory maps are counted on Linux alone")
def test_compiled_programs_are_let_go_before_the_process_has_too_many_memory_maps():
    double = jax.jit(lambda x: 2 * x)
    double(1.0)
    cli.release_compiled()
    assert double._cache_size() == 1
    cli.release_compiled(most=10)
    assert double._cache_size() == 0
    assert double(2.0) == 4.0


# --- help

SHARED = ("--data_dir", "--manual_dir", "--help")
STUDY_FLAGS = ("--workdir", "--config", "--variants", "--seeds", "--list", "--config.train.epochs=5")


@pytest.mark.parametrize(
    ("name", "program", "flags"),
    [
        ("run", run.main, ("--config", "--workdir", "--config.SECTION.FIELD=VALUE")),
        ("predict", predict.main, ("--workdir", "--input", "--replica")),
        ("report", report.main, ("--check",)),
        ("import_weights", import_weights.main, ("--from", "--checkpoint", "--dicts", "--worddict", "--workdir")),
        ("answer", answer.main, ("--workdir", "--faq", "--recall", "--k", "--weight", "--threshold", "--json")),
        ("evaluate_retrieval", evaluate_retrieval.main, ("--workdir", "--recall", "--candidates", "--output")),
        ("describe", describe.main, ("--config", "--rows", "--output")),
        ("benchmark", benchmark.main, ("--rounds", "--steps", "--kinds", "--output")),
        ("ablations.textcnn", functools.partial(ablate.command, STUDY), STUDY_FLAGS),
    ],
)
def test_help_explains_every_flag_with_examples(name, program, flags):
    outcome = call(program, "--help")
    assert outcome.code == 0 and outcome.err == ""
    text = outcome.out
    assert all(flag in text for flag in (*SHARED, *flags))
    explained = re.findall(r"^  (?:-h, )?(--\w+)(?:, --no-\w+)?(?: [A-Z_]+)?\s+\S", text, re.MULTILINE)
    assert set(re.findall(r"(?<![\w.])--(?!no-)\w+(?![\w.=])", text.partition("examples:")[0])) <= set(explained)
    examples = text.partition("examples:")[2].partition("exit codes:")[0]
    assert f"python -m experiments.{name}" in examples
    assert "75 interrupted" in text
    assert max(map(len, text.splitlines())) <= 120


PROGRAMS = ("run", "predict", "answer", "evaluate_retrieval", "import_weights", "describe", "benchmark", "report")


@pytest.mark.parametrize("name", [*PROGRAMS, "ablations.textcnn"])
def test_programs_are_modules_to_run(name):
    """`python -m experiments.NAME` calls `cli.main`; ablations through `ablate.main`."""
    with mock.patch.object(cli, "main") as main, mock.patch.dict(sys.modules):
        sys.modules.pop(f"experiments.{name}", None)
        runpy.run_module(f"experiments.{name}", run_name="__main__")
    main.assert_called_once()


RUN, BPE = ["--config", MR, "--workdir", "W"], ["--config", MR, "--config.data.tokenizer=bpe"]


@pytest.mark.parametrize(
    ("program", "argv", "message"),
    [
        (
            run.main,
            [],
            r"error: the following arguments are required: --config, --workdir \(--help explains the flags\)",
        ),
        (run.main, ["--config", MR, "--workdir", "W", "--epochs", "3"], r"unrecognized arguments: --epochs 3"),
        (run.main, ["--config", MR, "--workd", "W"], r"arguments are required: --workdir"),
        (
            run.main,
            ["--config", MR, "--config.train.epochs", "--workdir", "W"],
            r"--config\.train\.epochs: needs a value",
        ),
        (
            run.main,
            [*RUN, "--distributed", "foo,1,0"],
            r"--distributed foo,1,0: write auto or ADDRESS:PORT,COUNT",
        ),
        (run.main, [*RUN, "--distributed", "a:1,2,2"], r"--distributed a:1,2,2: hosts are numbered 0 to 1"),
        (
            describe.main,
            ["--config", MR, "--output", "configs"],
            r"argument --output: configs: is a folder; name a",
        ),
        (
            describe.main,
            [*BPE, "--vocabulary", "9", "--classes", "2"],
            r"data\.tokenizer: bpe splits words into sub",
        ),
        (predict.main, ["--workdir", "W", "--replica", "one"], r"argument --replica: invalid int value: 'one'"),
        (predict.main, ["--workdir", "W", "--config.seed=1"], r"predict takes its configuration from the workdir"),
        (functools.partial(ablate.command, STUDY), ["--seeds", "0"], r"--seeds: 0 is below 1"),
        (functools.partial(ablate.command, STUDY), [], r"--workdir is missing"),
        (
            functools.partial(ablate.command, STUDY),
            ["--workdir", "W", "--variants", "dropot_0.1"],
            r"there is no 'dropot_0\.1' \(nearest: dropout_0\.1\); there are baseline, region_1, .*layers_2",
        ),
    ],
)
def test_bad_usage(program, argv, message):
    refused(2, message, program, *argv)

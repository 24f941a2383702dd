"""`python -m experiments.predict`: an object for every line, in order, whatever the line holds."""

import json
import re
import subprocess
import sys

import pytest

from experiments import predict, run
from tests.test_cli import ROOT, call, refused
from tests.test_run import Bench, result_of, sentences, write_corpora


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("bench"))
    write_corpora(bench.root / "raw")
    outcome = call(run.main, *bench.arguments(bench.root / "W"))
    assert outcome.code == 0, outcome
    return bench.root / "W"


def label(workdir, content: bytes, tmp_path) -> list[dict]:
    (tmp_path / "lines.txt").write_bytes(content)
    outcome = call(predict.main, "--workdir", workdir, "--input", tmp_path / "lines.txt")
    assert outcome.code == 0, outcome
    return [json.loads(line) for line in outcome.out.splitlines()]


def test_every_line_has_an_object(workdir, tmp_path):
    long = " ".join(["good"] * 11)
    content = b"a good b\n\n\t \nbad\r\n" + long.encode() + b"\nzzz good \xff\nnul\0byte\nlast good"
    found = label(workdir, content, tmp_path)
    assert [record["line"] for record in found] == list(range(1, 9))
    assert [record["label"] is None for record in found] == [False, True, True, *[False] * 5]
    assert found[1]["warning"] == found[2]["warning"] == "no token to classify"
    assert found[3]["text"] == "bad"
    assert found[4]["warning"] == "cut to the first 8 of 11 tokens"
    assert found[5]["warning"].startswith("not UTF-8") and found[5]["unknown"] == 2
    assert found[6]["text"] == "nul\0byte" and found[6]["unknown"] == 1
    assert found[7]["text"] == "last good" and "warning" not in found[7]
    for record in found:
        if record["label"] is not None:
            chances = record["probabilities"]
            assert sum(chances.values()) == pytest.approx(1.0, abs=1e-5)
            assert record["label"] == max(chances, key=chances.get) and record["probability"] == max(chances.values())


@pytest.mark.parametrize("block", [1, 7, 100])
def test_blocks_and_standard_input_give_the_same(workdir, tmp_path, monkeypatch, block):
    content = "".join(f"{text}\r\n" for _, text in sentences(50, 9)).encode()[:-2]
    wanted = label(workdir, content, tmp_path)
    assert len(wanted) == 50 and not any(record["text"].endswith("\r") for record in wanted)
    monkeypatch.setattr(predict, "BLOCK", block)
    assert label(workdir, content, tmp_path) == wanted
    outcome = call(predict.main, "--workdir", workdir, stdin=content)
    assert [json.loads(line) for line in outcome.out.splitlines()] == wanted
    assert re.search(r"^50 lines in \d+\.\d s, \d+\.\d lines/s$", outcome.err, re.MULTILINE)


def test_a_byte_order_mark_is_no_text(workdir, tmp_path):
    for content in (b"\xef\xbb\xbfgood\n\xef\xbb\xbfgood\n", b"\xef\xbb\xbfgood"):
        found = label(workdir, content, tmp_path)
        assert (found[0]["text"], found[0]["unknown"]) == ("good", 0)
    assert len(found) == 1


def test_lines_of_a_pipe_are_answered_when_they_come(workdir):
    command = [sys.executable, "-m", "experiments.predict", "--workdir", str(workdir)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        for line in (b"good\n", b"bad\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["text"] == line.decode().strip()
        process.terminate()  # as Ctrl-C, which a test that runs in the background may have to ignore
        assert process.wait(60) == 75
        assert process.stderr.read().decode() in [f"predict: interrupted after {count} lines\n" for count in (1, 2)]


def test_a_run_that_skips_unknown_tokens_has_no_answer_to_unknown_ones_alone(tmp_path):
    bench = Bench(tmp_path)
    write_corpora(bench.root / "raw")
    bench.run(tmp_path / "W", {"data.unknown": "skip", "train.epochs": 1})
    found = label(tmp_path / "W", b"zzz zz\nzzz good\n", tmp_path)
    assert found[0]["label"] is None and found[0]["warning"] == "no known token to classify"
    assert found[1]["label"] is not None and found[1]["unknown"] == 1


def test_its_labels_are_those_that_the_result_counts(workdir, tmp_path):
    rows = sentences(40, 3)  # the test split of the bench
    found = label(workdir, "".join(f"{text}\n" for _, text in rows).encode(), tmp_path)
    right = sum(record["label"] == ("negative", "positive")[wanted] for record, (wanted, _) in zip(found, rows))
    assert 100 * right / 40 == pytest.approx(result_of(workdir)["metrics"]["test"]["accuracy"]["mean"])


def test_no_lines_no_objects(workdir, tmp_path):
    assert label(workdir, b"", tmp_path) == []


def test_a_reader_that_leaves_is_no_error(workdir, tmp_path):
    (tmp_path / "lines.txt").write_bytes(b"good\n" * 20000)
    command = f"{sys.executable} -m experiments.predict --workdir {workdir} --input {tmp_path}/lines.txt | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and "Traceback" not in done.stderr


def test_bad_usage(workdir, tmp_path):
    refused(2, r"holds no finished run", predict.main, "--workdir", tmp_path)
    refused(2, r"--replica 3: the run has replicas 0 to 0", predict.main, "--workdir", workdir, "--replica", "3")
    refused(3, r"--input .*nothing: No such file", predict.main, "--workdir", workdir, "--input", tmp_path / "nothing")
    refused(2, r"takes its configuration from the workdir", predict.main, "--workdir", workdir, "--config.seed=1")

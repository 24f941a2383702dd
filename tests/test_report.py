"""The generated tables: what they say, when --check fails, and what is refused."""

import json
from pathlib import Path

import pytest

from experiments import plots
from experiments.files import write_text
from experiments.plots import length_plot
from experiments.report import fill, main
from experiments.statistics import summary
from experiments.tables import headline_split, machine_text, p_text, published, time_text
from research.errors import ConfigError, DataError

DOCSTRING = '"""A run.\n\nPaper:     76.1\nOurs:      {}\n"""\n\n'
CONFIG = (
    DOCSTRING.format("not measured")
    + 'PAPER = {"accuracy": 76.1, "where": "Table 2, CNN-rand, MR"}\n\n\ndef get_config():\n    return None\n'
)
MARKERS = "<!-- results:begin toy -->\n<!-- results:end toy -->\n"
WRITTEN = ("README.md", "paper_notes/toy.md", "configs/toy/mr.py")
ABLATION = "<!-- ablation:begin toy -->\n<!-- ablation:end toy -->\n"


def result(run: str, **changes) -> dict:
    return {
        "paper": "toy",
        "config": f"configs/toy/{run}.py",
        "overrides": [],
        "command": f"python -m experiments.run --config configs/toy/{run}.py --workdir runs/{run}",
        "metrics": {"dev": {"accuracy": summary([1.0])}, "test": {"accuracy": summary([76.0, 77.0, 78.0])}},
        "signatures": {},
        "params": 1234567,
        "steps": 100,
        "examples_per_second": 2.5,
        "seconds": 200.0,
        "data": {"corpus": "mr"},
        "environment": {"platform": "gpu", "device": "NVIDIA H100", "device_count": 2},
    } | changes


@pytest.fixture
def root(tmp_path) -> Path:
    for folder in ("configs/toy", "experiments/results/toy", "paper_notes"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "configs/toy/mr.py").write_text(CONFIG)
    (tmp_path / "configs/toy/other.py").write_text("")
    (tmp_path / "README.md").write_text(f"# Top\n\n{MARKERS}\nend\n")
    (tmp_path / "paper_notes/toy.md").write_text(f"note\n{MARKERS}{ABLATION}")
    store(tmp_path, "mr", result("mr"))
    return tmp_path


def store(root: Path, run: str, content) -> Path:
    path = root / f"experiments/results/toy/{run}.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_table_says_what_the_result_says(root, capsys):
    main([], root)
    assert capsys.readouterr().out == "".join(f"{name}: rewritten\n" for name in WRITTEN)
    readme = (root / "README.md").read_text()
    # t(0.975, 2) = 4.3027, s = 1, n = 3: half the interval is 2.48.
    assert (
        "| [toy/mr](configs/toy/mr.py) | mr (test) | accuracy 76.1 (Table 2, CNN-rand, MR) "
        "| 77.00 ± 1.00 [74.52, 79.48] | 3 | 1,234,567 | 3 min 20 s | 2 × NVIDIA H100 |\n"
    ) in readme
    assert "```\npython -m experiments.run --config configs/toy/mr.py --workdir runs/mr\n```\n" in readme
    assert readme.startswith("# Top\n\n<!-- results:begin toy -->\n")
    assert readme.endswith("\n<!-- results:end toy -->\n\nend\n")
    note = (root / "paper_notes/toy.md").read_text()
    assert "[toy/mr](../configs/toy/mr.py)" in note
    assert "<!-- ablation:begin toy -->\nNo measured ablation yet.\n<!-- ablation:end toy -->" in note
    main([], root)
    assert capsys.readouterr().out == "", "a second run finds nothing to do"


def test_a_configuration_says_what_was_measured(root, capsys):
    main([], root)
    wanted = DOCSTRING.format("accuracy 77.00 ± 1.00 (n = 3); 3 min 20 s on 2 × NVIDIA H100")
    assert (root / "configs/toy/mr.py").read_text() == CONFIG.replace(DOCSTRING.format("not measured"), wanted)
    (root / "configs/toy/mr.py").write_text(CONFIG.replace("not measured", "accuracy 99.00"))
    with pytest.raises(SystemExit):
        main(["--check"], root)
    assert "configs/toy/mr.py: its tables are not those" in capsys.readouterr().out


def test_metrics_have_columns_and_a_run_without_test_reports_dev(root):
    scores = {"loss": summary([0.5]), "macro_f1": summary([50.0]), "accuracy": summary([60.0])}
    store(root, "other", result("other", metrics={"dev": scores}))
    main([], root)
    readme = (root / "README.md").read_text()
    assert "| configuration | corpus | paper | accuracy | macro-F1 | n |" in readme
    assert "| [toy/other](configs/toy/other.py) | mr (dev) | – | 60.00 | 50.00 | 1 |" in readme
    assert "[74.52, 79.48] | – | 3 |" in readme


BLEU = "nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:{}|smooth:exp|version:2.6.0"
INSTEAD = "Where n is 1, the brackets hold sacreBLEU's 95 % bootstrap interval over the sentences instead."


def translated(run: str, scores: list[float], tokenizer: str = "13a", bootstrap: dict | None = None, **more) -> dict:
    """The result of a run of translation: BLEU on test, further splits in `more`, an interval a replica and split."""
    metrics = {"dev": {"loss": summary([0.5])}, "test": {"bleu": summary(scores)}, **more}
    signatures = {"bleu": BLEU.format(tokenizer), "chrf": "case:mixed|nc:6"}
    return result(run, metrics=metrics, signatures=signatures, bootstrap=[bootstrap or {}] * len(scores))


def test_further_test_splits_are_lines_without_the_papers_number(root):
    more = {"test_longer": {"bleu": summary([24.0]), "exact_match": summary([0.0])}, "empty": {}}
    (root / "configs/toy/mr.py").write_text('PAPER = {"bleu": 27.3}\n')
    store(root, "mr", translated("mr", [99.0], bootstrap={"test": {"bleu": None}}, **more))
    main([], root)
    readme = (root / "README.md").read_text()
    assert "| paper | exact match | BLEU | n |" in readme
    assert "| mr (test) | BLEU 27.3 | – | 99.00 | 1 |" in readme
    assert "| mr (test_longer) | – | 0.00 | 24.00 | 1 |" in readme
    assert "(empty)" not in readme and "(dev)" not in readme and INSTEAD not in readme
    store(root, "mr", translated("mr", [99.0], test_longer={"bleu": summary([24.0]) | {"mean": 25.0}}))
    with pytest.raises(DataError, match=r"mr\.json: test_longer bleu: mean, .* is not that of its values"):
        main([], root)


def test_one_replica_has_the_interval_over_sentences(root):
    bootstrap = {"test": {"bleu": [98.0, 99.5]}, "hard": {"bleu": [23.0, 25.5], "chrf": None}}
    hard = {"bleu": summary([24.0]), "chrf": summary([46.0])}
    store(root, "other", translated("other", [99.0], bootstrap=bootstrap, hard=hard))
    main([], root)
    readme = (root / "README.md").read_text()
    assert "| mr (test) | – | – | 99.00 [98.00, 99.50] | – | 1 |" in readme
    assert "| mr (hard) | – | – | 24.00 [23.00, 25.50] | 46.00 | 1 |" in readme
    assert "| 77.00 ± 1.00 [74.52, 79.48] | – | – | 3 |" in readme
    assert f"the mean (Student's t). {INSTEAD}\n\n| configuration" in readme


def test_a_result_is_that_of_the_configuration_of_its_name(root):
    """With fewer seeds it still is."""
    store(root, "mr", result("mr", overrides=["replicas=1"]))
    main([], root)
    store(root, "mr", result("mr", overrides=["replicas=1", "train.epochs=3"]))
    with pytest.raises(DataError, match=r"mr\.json: of train\.epochs=3, not of configs/toy/mr\.py; give it a conf"):
        main([], root)
    store(root, "mr", result("other"))
    with pytest.raises(DataError, match=r"mr\.json: a result of configs/toy/other\.py; rename one of them"):
        main([], root)


@pytest.mark.parametrize("flags", [["--split", "dev"], ["--compare", "a", "b", "--check"]], ids=" ".join)
def test_flags_that_would_say_nothing(root, flags):
    before = (root / "README.md").read_text()
    with pytest.raises(ConfigError, match="--split goes with --compare, --check without it"):
        main(flags, root)
    assert (root / "README.md").read_text() == before


def test_several_replicas_have_the_interval_of_their_mean(root):
    store(root, "other", translated("other", [76.0, 77.0, 78.0], bootstrap={"test": {"bleu": [70.0, 80.0]}}))
    main([], root)
    readme = (root / "README.md").read_text()
    assert "| mr (test) | – | – | 77.00 ± 1.00 [74.52, 79.48] | 3 |" in readme and INSTEAD not in readme


def test_each_signature_stands_once_under_the_table(root):
    for run, tokenizer in (("mr", "13a"), ("one", "zh"), ("two", "13a")):
        (root / f"configs/toy/{run}.py").touch()
        store(root, run, translated(run, [99.0], tokenizer))
    main([], root)
    lines = [f"BLEU of mr, two: {BLEU.format('13a')}", f"BLEU of one: {BLEU.format('zh')}", "chrF: case:mixed|nc:6"]
    block = "".join(f"{line}\n" for line in lines)
    assert f" |\n\n```\n{block}```\n\n```\npython -m" in (root / "README.md").read_text()


def test_check_fails_when_a_number_has_changed(root, capsys):
    main([], root)
    main(["--check"], root)
    assert capsys.readouterr().out.count("\n") == 3, "the first run's three lines alone"
    store(root, "mr", result("mr", params=1234568))
    before = (root / "README.md").read_text()
    with pytest.raises(SystemExit) as stop:
        main(["--check"], root)
    assert stop.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["README.md", "paper_notes/toy.md"]
    assert (root / "README.md").read_text() == before, "--check writes nothing"


def test_a_number_changed_by_hand_in_a_document_is_stale(root):
    main([], root)
    path = root / "paper_notes/toy.md"
    path.write_text(path.read_text().replace("77.00", "79.00"))
    with pytest.raises(SystemExit):
        main(["--check"], root)
    main([], root)
    main(["--check"], root)


def test_an_ablation_stands_in_the_note(root):
    row = {"variant": "x", "changes": {"model.a": [1, [2, 3]]}, "value": summary([80.0, 82.0]), "difference": -1.0}
    row |= {"ci95": [-2.0, 0.0], "p": 0.01, "p_holm": 0.0004, "params": 5, "seconds": 3700.0}
    study = {"paper": "toy", "config": "c.py", "command": "run it", "metric": "accuracy", "split": "test"}
    study |= {"rows": [row], "data": {"corpus": "mr"}, "environment": {"platform": "cpu", "cpu": "Z80", "cores": 2}}
    store(root, "ablation_mr", study)
    main([], root)
    note = (root / "paper_notes/toy.md").read_text()
    assert (
        "| x | `model.a`: 1 → (2, 3) | 81.00 ± 1.41 | 2 | -1.00 | [-2.00, +0.00] | < 0.001 | 5 | 1 h 01 min |" in note
    )
    assert "Z80, 2 cores" in note
    (root / "paper_notes/toy.md").write_text(MARKERS)
    with pytest.raises(DataError, match=r"paper_notes/toy\.md: no line '<!-- ablation:begin toy -->'"):
        main([], root)


def timed(median: float, **more) -> dict:
    row = {"median_ms": median, "min_ms": median - 1, "max_ms": median + 2, "first_step_seconds": 3.0}
    return row | {"resident_mib": [700, 800], "peak_mib": 1200, **more}


SIDE_BY_SIDE = {
    "paper": "side_by_side",
    "command": "python -m experiments.benchmark side_by_side --rounds 3",
    "about": "`train 16`: a step.",
    "environment": {"platform": "cpu", "cpu": "Z80", "cores": 2, "jax": "0.10.2", "torch": "2.13.0"},
    "kinds": {
        kind: {
            "workers": {
                "ours": timed(50.0 * scale, config="configs/toy/mr.py", params=1234, first_step_seconds_cached=2.0),
                "theirs": timed(100.0, config="configs/toy/other.py", params=5678),
            },
            "ratio": None,
            "words": 4096,
        }
        for scale, kind in enumerate(("train 16", "train 512", "decode 1 beam 5"), 1)
    },
}


def test_models_side_by_side_have_parameters_bleu_and_words_a_second(root):
    """4,096 words in 50 ms are 81,920 a second. BLEU is that of the model's own result, where there is one."""
    path = root / "paper_notes/toy.md"
    path.write_text(f"{MARKERS}{ABLATION}<!-- benchmark:begin toy -->\n<!-- benchmark:end toy -->\n")
    store(root, "mr", result("mr", metrics={"test": {"bleu_lc": summary([36.0, 37.0])}}))
    store(root, "benchmark_side_by_side", SIDE_BY_SIDE)
    main([], root)
    note = path.read_text()
    assert "Models in processes of their own" in note and "faster PyTorch" not in note and "ratio:" not in note
    assert "| model | parameters | BLEU (lower-cased) |\n| --- | ---: | ---: |\n" in note
    assert "| [toy/mr](../configs/toy/mr.py) | 1,234 | 36.50 ± 0.71 (n = 2) |\n" in note
    assert "| [toy/other](../configs/toy/other.py) | 5,678 | – |\n" in note
    assert "| work | model | ms a step: median (range) | target words/s | start to first step |" in note
    first = "3.0 s (2.0 s with the compilation cache)"
    assert f"| train 16 | ours | 50.0 (49.0 to 52.0) | 81,920 | {first} | 700, 800 | 1,200 |\n" in note
    assert "| decode 1 beam 5 | theirs | 100.0 (99.0 to 102.0) | 40,960 | 3.0 s | 700, 800 | 1,200 |\n" in note
    assert "Measured on Z80, 2 cores, JAX 0.10.2, PyTorch 2.13.0.\n\n`train 16`: a step.\n\n" in note
    assert f"```\n{SIDE_BY_SIDE['command']}\n```\n" in note and "![" not in note

    plot = "experiments/results/toy/benchmark_side_by_side.png"
    length_plot(SIDE_BY_SIDE, root / plot)
    assert (root / plot).read_bytes().startswith(b"\x89PNG")
    main([], root)
    assert f"](../{plot})\n<!-- benchmark:end toy -->" in path.read_text()


def test_frameworks_have_a_ratio(root):
    path = root / "paper_notes/toy.md"
    path.write_text(f"{MARKERS}{ABLATION}<!-- benchmark:begin toy -->\n<!-- benchmark:end toy -->\n")
    both = {"jax": timed(50.0), "torch eager": timed(100.0)}
    again = {"workers": both | {"jax recomputing": timed(200.0)}, "ratio": 0.5, "sentences": 64}
    kinds = {"train": {"workers": both, "ratio": 0.5}, "greedy": again}
    store(root, "benchmark", SIDE_BY_SIDE | {"kinds": kinds})
    main([], root)
    note = path.read_text().partition("benchmark:begin")[2]
    assert "Frameworks in processes of their own" in note and "parameters" not in note
    assert "| work | framework | ms a step: median (range) | sentences/s | ratio | start to first step |" in note
    assert "| train | jax | 50.0 (49.0 to 52.0) |  | 0.50 | 3.0 s | 700, 800 | 1,200 |\n" in note
    assert "| greedy | torch eager | 100.0 (99.0 to 102.0) | 640.0 |  | 3.0 s |" in note
    assert "| greedy | jax recomputing | 200.0 (199.0 to 202.0) | 320.0 |  | 3.0 s |" in note
    assert "ours to the faster PyTorch. `greedy` is 4.0 times as fast as recomputing the prefix. Measured on" in note


def test_retrieval_stands_where_its_markers_are(root):
    order = {"recall@1": 60.0, "recall@20": 95.5, "mrr": 70.0, "mrr_ci95": [68.0, 72.0]}
    order |= {"median_ms": 2.0, "p95_ms": 3.0}
    gain = {"mrr": 75.0, "difference": 5.0, "difference_ci95": [4.0, 6.0], "above_zero": True, "median_ms": 22.04}
    orders = {"recall": order, "rerank + w recall": order | gain}
    path = root / "README.md"
    path.write_text(f"{MARKERS}<!-- retrieval:begin toy -->\n<!-- retrieval:end toy -->\n")
    found = {key: SIDE_BY_SIDE[key] for key in ("paper", "environment")}
    found |= {"config": "configs/toy/run.py", "command": "python -m experiments.evaluate_retrieval", "k": 20}
    found |= {"dev": {}, "test": {"queries": 7, "candidates": 10000}, "data": {"corpus": "pairs/text"}}
    store(root, "retrieval_pairs", found | {"methods": {"bm25": {"w": 0.5, "orders": orders}}})
    main([], root)
    text = path.read_text().partition("retrieval:begin")[2]
    assert "[toy/run](configs/toy/run.py) on pairs/text (test)" in text
    assert "7 queries among 10000 candidates, 20 recalled; percent\n\n| recall | order | recall@1 | recall@20 |" in text
    assert "| bm25 | recall | 60.00 | 95.50 | 70.00 [68.00, 72.00] | – | 2.0 | 3.0 |\n" in text
    assert "| bm25 | rerank + 0.5 recall | 60.00 | 95.50 | 75.00 [68.00, 72.00] | +5.00 [+4.00, +6.00] | 22.0" in text


def test_costs_by_length_are_drawn_whatever_was_timed(tmp_path, monkeypatch):
    """Of µs a word, 50,000 / 4,096 = 12.2 and 24.4 for ours; without any decoding as well."""
    drawn = []
    monkeypatch.setattr(plots.plt, "close", drawn.append)
    for kinds in (["train 16", "train 512", "decode 1 beam 5"], ["train 16"]):
        length_plot(SIDE_BY_SIDE | {"kinds": {kind: SIDE_BY_SIDE["kinds"][kind] for kind in kinds}}, tmp_path / "x.png")
    left, right = drawn[0].axes
    assert [line.get_label() for line in left.lines] == ["ours", "theirs"]
    assert [line.get_xdata().tolist() for line in left.lines] == [[16, 512]] * 2
    assert left.lines[0].get_ydata().tolist() == pytest.approx([50000 / 4096, 100000 / 4096])
    assert [bar.get_width() for bar in right.patches] == pytest.approx([4096 / 0.15, 4096 / 0.1])
    assert [len(axis.lines) for axis in drawn[1].axes] == [2, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"mr\.json, line 1: not valid JSON"),
        ("[]", "no key 'paper'"),
        ("{}", "no key 'paper'"),
        ({k: v for k, v in result("mr").items() if k != "seconds"}, r"mr\.json: no key 'seconds'"),
        (result("mr", paper="esim"), "a result of paper 'esim' in the folder of 'toy'"),
        (result("mr", config="configs/toy/gone.py"), r"configs/toy/gone\.py: no such configuration"),
        (result("mr", metrics={"train": {"accuracy": summary([1.0])}}), "neither test nor dev"),
        (result("mr", metrics={"test": {"accuracy": {"mean": 1.0}}}), "test accuracy lacks"),
        (
            result("mr", metrics={"test": {"accuracy": summary([76.0, 77.0]) | {"mean": 77.5}}}),
            "is not that of its values",
        ),
        (
            result("mr", metrics={"test": {"accuracy": summary([76.0]) | {"ci95": [75.0, 77.0]}}}),
            "is not that of its values",
        ),
    ],
)
def test_a_result_that_breaks_the_contract_is_named(root, content, message):
    store(root, "mr", content)
    with pytest.raises(DataError, match=message):
        main(["--check"], root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no marker", r"README\.md: no line '<!-- results:begin toy -->'"),
        (
            "<!-- results:begin toy -->\n",
            r"README\.md, line 1: marker '<!-- results:begin toy -->' without its partner",
        ),
        (f"a\n<!-- results:end toy -->\n{MARKERS}", r"README\.md, line 2: marker '<!-- results:end toy -->' without"),
        (f"<!-- results:begin toy -->\n{MARKERS}", r"README\.md, line 2"),
        ("<!-- results:begin toy -->\n<!-- ablation:end toy -->\n", r"README\.md, line 2"),
        (f"{MARKERS}<!-- results:begin joy -->\n", r"README\.md, line 3: marker of an unknown paper 'joy'"),
    ],
)
def test_broken_markers_are_named_and_nothing_is_written(root, text, message):
    (root / "README.md").write_text(text)
    with pytest.raises(DataError, match=message):
        main([], root)
    assert (root / "README.md").read_text() == text
    assert "77.00" not in (root / "paper_notes/toy.md").read_text()


def test_a_missing_document_is_named(root):
    (root / "paper_notes/toy.md").unlink()
    with pytest.raises(DataError, match=r"paper_notes/toy\.md: no such file"):
        main([], root)


def test_filling_keeps_everything_else():
    text = "a\r\n<!-- results:begin toy -->\nold\n<!-- results:end toy -->\nthe end, `<!-- results:begin toy -->`"
    filled = fill(text, {("results", "toy"): "new\n"}, Path("x.md"))
    assert filled == text.replace("old\n", "new\n")
    assert fill(filled, {("results", "toy"): "new\n"}, Path("x.md")) == filled


def test_small_formats(root):
    assert [time_text(s) for s in (0.4, 59.6, 200, 3600)] == ["0 s", "1 min 00 s", "3 min 20 s", "1 h 00 min"]
    assert [p_text(p) for p in (None, 0.0004, 0.0496, 1.0)] == ["–", "< 0.001", "0.050", "1.000"]
    assert machine_text({"device": "TPU v4", "device_count": 1, "platform": "tpu"}) == "TPU v4"
    one = {"platform": "cpu", "cpu": "EPYC", "cores": 1}
    assert machine_text(one) == "EPYC, 1 core" and machine_text(one | {"cores": 2}) == "EPYC, 2 cores"
    assert headline_split({"dev": {"accuracy": {}}, "test": {}}) == "dev"
    assert published(root, "configs/toy/other.py") == {}


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "ablation.md"
    write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_text(path, "new")
    assert path.read_text() == "old"

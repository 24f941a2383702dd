"""The engine of the ablation studies with a fake runner, and the studies themselves against their models."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from experiments import cli
from experiments.ablate import Study, collect, command, finished, make_plan, select
from experiments.ablations import conv_seq2seq, esim, textcnn, transformer
from experiments.run import check, search_of, settings_of
from research.batches import Batch
from research.codecs import reserved, roles, words_codec
from research.conv_seq2seq import read_layers
from research.corpora import Corpus
from research.datasets import build, split_indices, split_names
from research.errors import ConfigError, DataError
from research.optimizers import make_optimizer
from research.tasks import Task, make_task
from research.text import Vocabulary

CONFIG = """
from configs.defaults import defaults

def get_config():
    config = defaults()
    config.paper, config.replicas = "toy", 5
    config.model = dict(width=3, rate=0.5, pool="max", k=1, sizes=(3, 4))
    config.optimizer = dict(name="sgd")
    return config
"""


class FakeRunner:
    """Writes a result with accuracy 80 + width + seed / 2 (+ seed * rate) and as loss what that lacks to 100, and
    remembers the cells it ran."""

    def __init__(self):
        self.cells, self.fail = [], {}

    def __call__(self, config_path, overrides, workdir, *, data_dir, manual_dir, quiet):
        cell = f"{workdir.parent.name}/{workdir.name}"
        if cell in self.fail:
            raise self.fail[cell]
        self.cells.append(cell)
        config = cli.load_config(config_path, overrides)
        assert config.replicas == 1 and quiet
        accuracy = 80 + config.model.width + config.seed / 2 + config.seed * config.model.rate
        score = {"mean": accuracy, "std": None, "ci95": None, "n": 1, "values": [accuracy]}
        test = {"accuracy": score, "loss": {**score, "mean": 100 - accuracy}}
        result = {"metrics": {"dev": {"accuracy": {**score, "mean": 1.0}}, "test": test}}
        result["metrics"]["hard"] = {"accuracy": {**score, "mean": accuracy / 2}}
        result |= {"params": 7, "seconds": 2.0, "data": {"corpus": "toy"}, "environment": {"device": "abacus"}}
        workdir.mkdir(parents=True)
        (workdir / "result.json").write_text(json.dumps(result))
        return result


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "toy.py"
    path.write_text(CONFIG)
    return Study(
        paper="toy",
        config=str(path),
        axes=lambda baseline: {
            "width": {"width_2": {"model.width": 2}, "width_3": {"model.width": 3}},
            "rate": {"rate_1": {"model.rate": 1.0}},
            "pooling": {"k_2": {"model.pool": "k_max", "model.k": 2}},
            "vectors": {"sizes": {"model.sizes": (2, 3)}},
        },
        linked=(frozenset({"model.pool", "model.k"}),),
    )


def rows_of(folder: Path) -> dict[str, dict]:
    return {row["variant"]: row for row in json.loads((folder / "ablation.json").read_text())["rows"]}


def test_a_study_runs_every_cell_once_and_skips_it_on_a_rerun(study, tmp_path, capsys):
    folder, runner = tmp_path / "W", FakeRunner()
    command(study, ["--workdir", str(folder), "--seeds", "2", "--variants", "width_2,rate_*"], runner)
    names = ("baseline", "width_2", "rate_1")
    assert runner.cells == [f"{name}/seed_{seed}" for seed in (0, 1) for name in names]
    out = capsys.readouterr().out
    assert "[6/6] rate_1 seed 1: test accuracy 84.50, 2 s; about 0 s left" in out
    before = {path: path.read_bytes() for path in folder.glob("ablation.*")}
    assert {path.suffix for path in before} == {".json", ".md", ".png"}

    command(study, ["--workdir", str(folder), "--seeds", "2", "--variants", "width_2,rate_1"], runner)
    assert len(runner.cells) == 6
    assert "6 of 6 cells were finished before" in capsys.readouterr().out
    assert (folder / "ablation.md").read_bytes() == before[folder / "ablation.md"]

    command(study, ["--workdir", str(folder), "--seeds", "3", "--variants", "k_2"], runner)  # the study grows
    assert runner.cells[6:] == ["k_2/seed_0", "k_2/seed_1", "baseline/seed_2", "k_2/seed_2"]
    rows = rows_of(folder)
    assert rows["baseline"]["seeds"] == [0, 1, 2] and rows["width_2"]["seeds"] == [0, 1]
    assert rows["width_2"]["n"] == 2, "pairs are the seeds that both have"


def test_the_numbers_of_a_study(study, tmp_path):
    folder = tmp_path / "W"
    command(study, ["--workdir", str(folder), "--seeds", "3"], FakeRunner())
    rows = rows_of(folder)
    assert "width_3" not in rows, "a variant that equals the baseline is not run"
    # Test accuracies: baseline 83 84 85, width_2 one less each, rate_1 0, 0.5 and 1 more.
    assert rows["baseline"]["value"]["values"] == [83.0, 84.0, 85.0]
    assert (rows["width_2"]["difference"], rows["width_2"]["p"]) == (-1.0, None)
    rate = rows["rate_1"]
    assert rate["difference"] == pytest.approx(0.5)
    # t = 0.5 sqrt(3) / 0.5 with 2 degrees of freedom: p = 1 - t / sqrt(2 + t^2); k_2 and sizes have p = 1, so m = 3.
    p = 1 - 3**0.5 / 5**0.5
    assert (rate["p"], rate["p_holm"]) == (pytest.approx(p), pytest.approx(3 * p))
    assert rows["k_2"]["changes"] == {"model.pool": ["max", "k_max"], "model.k": [1, 2]}
    assert "metrics" not in json.loads((folder / "ablation.json").read_text())
    text = (folder / "ablation.md").read_text()
    assert "| rate_1 | `model.rate`: 0.5 → 1.0 | 84.50 ± 1.50 | 3 | +0.50 | [-0.74, +1.74] | 0.676 | 7 | 2 s |" in text
    assert "| sizes | `model.sizes`: (3, 4) → (2, 3) |" in text
    assert " --workdir runs/W --seeds 3\n" in text and "--variants" not in text


def test_further_splits_are_columns_of_their_own(study, tmp_path):
    further = dataclasses.replace(study, also=(("hard", "accuracy"), ("hard", "absent"), ("absent", "accuracy")))
    command(further, ["--workdir", str(tmp_path / "W"), "--seeds", "3", "--variants", "rate_1"], FakeRunner())
    assert rows_of(tmp_path / "W")["rate_1"]["also"]["hard"]["accuracy"]["values"] == [41.5, 42.25, 43.0]
    text = (tmp_path / "W" / "ablation.md").read_text()
    assert "| p (Holm) | accuracy (hard) | parameters |" in text
    assert "| [-0.74, +1.74] | 0.225 | 42.25 ± 0.75 | 7 |" in text


@pytest.mark.parametrize(
    ("error", "seen", "message"),
    [
        (cli.Interrupted("stopped after step 3"), cli.Interrupted, "after step 3"),
        (KeyboardInterrupt(), cli.Interrupted, "finished cells are kept"),
        (ConfigError("kernel too long"), ConfigError, "rate_1, seed 0: kernel too long"),
        (DataError("no corpus"), DataError, "no corpus"),
    ],
)
def test_a_cell_that_stops_keeps_the_finished_ones(study, tmp_path, error, seen, message):
    folder, runner = tmp_path / "W", FakeRunner()
    runner.fail["rate_1/seed_0"] = error
    arguments = ["--workdir", str(folder), "--seeds", "1", "--variants", "width_2,rate_1"]
    with pytest.raises(seen, match=message):
        command(study, arguments, runner)
    assert set(rows_of(folder)) == {"baseline", "width_2"}
    runner.fail.clear()
    command(study, arguments, runner)
    assert runner.cells == ["baseline/seed_0", "width_2/seed_0", "rate_1/seed_0"]


def test_a_baseline_that_was_refused_leaves_the_folder_to_another(study, tmp_path):
    folder, runner = tmp_path / "W", FakeRunner()
    arguments = ["--workdir", str(folder), "--seeds", "1", "--variants", "width_2"]
    runner.fail["baseline/seed_0"] = ConfigError("such a rate cannot be")
    with pytest.raises(ConfigError, match="baseline, seed 0: such a rate cannot be"):
        command(study, [*arguments, "--config.model.rate=0.25"], runner)
    runner.fail.clear()
    command(study, arguments, runner)
    assert set(rows_of(folder)) == {"baseline", "width_2"}


def test_the_folder_of_another_study_is_refused(study, tmp_path):
    folder, runner = tmp_path / "W", FakeRunner()
    arguments = ["--workdir", str(folder), "--seeds", "1", "--variants", "width_2"]
    command(study, arguments, runner)
    with pytest.raises(ConfigError, match=r"another study: model\.rate \(0\.5 there, 0\.25 here\)"):
        command(study, [*arguments, "--config.model.rate=0.25"], runner)

    moved = Study(study.paper, study.config, lambda baseline: {"width": {"width_2": {"model.width": 1}}})
    with pytest.raises(ConfigError, match="variant width_2"):
        command(moved, arguments, runner)
    with pytest.raises(ConfigError, match="study of accuracy, not loss"):
        command(study, [*arguments, "--metric", "loss"], runner)

    (folder / "ablation.json").unlink()
    with pytest.raises(ConfigError, match=r"no ablation\.json"):
        command(study, arguments, runner)
    assert len(runner.cells) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variants", "width_1"], r"no 'width_1' \(nearest: width_[23]\); there are baseline, width_2, .*sizes"),
        (["--variants", "width_3"], "what the baseline already does"),
        (["--seeds", "0"], "--seeds: 0 is below 1"),
        (["--config.seed=3"], "a study sets seed and replicas itself"),
        (["--config.model.wdith=3"], r"model\.wdith: there is no such field; did you mean model\.width"),
        (["--config", "nowhere.py"], r"nowhere\.py does not exist"),
    ],
)
def test_bad_arguments(study, tmp_path, arguments, message):
    runner = FakeRunner()
    with pytest.raises(ConfigError, match=message):
        command(study, ["--workdir", str(tmp_path / "W"), *arguments], runner)
    assert not runner.cells and not (tmp_path / "W").exists()


def test_a_workdir_is_needed_and_must_be_writable(study, tmp_path):
    with pytest.raises(ConfigError, match="--workdir is missing"):
        command(study, [], FakeRunner())
    with pytest.raises(ConfigError, match="cannot be made"):
        command(study, ["--workdir", f"{study.config}/W"], FakeRunner())


def test_a_damaged_result_names_its_file(study, tmp_path):
    folder = tmp_path / "W"
    command(study, ["--workdir", str(folder), "--seeds", "1", "--variants", "width_2"], FakeRunner())
    (folder / "width_2" / "seed_0" / "result.json").write_text('{"metrics": ')
    with pytest.raises(DataError, match=r"seed_0/result\.json, line 1: not valid JSON"):
        command(study, ["--workdir", str(folder)], FakeRunner())


def test_list_needs_no_workdir(study, capsys):
    command(study, ["--list"], FakeRunner())
    out = capsys.readouterr().out
    assert "sizes     model.sizes=2,3\n" in out
    assert "width_3   model.width=3 (as the baseline: not run)" in out


def test_a_variant_changes_one_field_unless_the_fields_are_linked(study):
    resolve = lambda axes: make_plan(Study("toy", study.config, lambda baseline: axes), study.config, [])
    with pytest.raises(AssertionError, match="two changes more than one field"):
        resolve({"axis": {"two": {"model.width": 2, "model.rate": 0.1}}})
    with pytest.raises(AssertionError, match="names of variants must differ"):
        resolve({"a": {"x": {"model.width": 2}}, "b": {"x": {"model.width": 1}}})


def test_axes_may_follow_the_baseline_of_the_study_s_paper(study):
    axes = lambda baseline: {"width": {"twice": {"model.width": 2 * baseline.model.width}}}
    twice = dataclasses.replace(study, axes=axes)
    assert make_plan(twice, study.config, ["model.width=5"]).variants["twice"].changes == {"model.width": [5, 10]}
    with pytest.raises(ConfigError, match=r"toy\.py: of paper 'esim', but the study is of toy"):
        make_plan(twice, study.config, ["paper=esim"])


def test_another_metric_is_compared_and_stands_in_the_command(study, tmp_path):
    command(study, ["--workdir", str(tmp_path / "W"), "--seeds", "2", "--metric", "loss"], FakeRunner())
    assert rows_of(tmp_path / "W")["width_2"]["difference"] == 1.0, "the accuracy is one less"
    text = (tmp_path / "W" / "ablation.md").read_text()
    assert "| loss | seeds |" in text and " --metric loss --seeds 2\n" in text
    command(study, ["--workdir", str(tmp_path / "other"), "--seeds", "2"], FakeRunner())
    assert "--metric" not in (tmp_path / "other" / "ablation.md").read_text()


def test_an_unknown_metric_lists_those_that_there_are_and_the_cell_is_kept(study, tmp_path):
    arguments, runner = ["--workdir", str(tmp_path / "W"), "--seeds", "1", "--variants", "width_2"], FakeRunner()
    for _ in range(2):  # after the first cell, and before another one
        with pytest.raises(ConfigError, match=r"^--metric blue: baseline, seed 0 has none .* it has accuracy, loss$"):
            command(study, [*arguments, "--metric", "blue"], runner)
    assert runner.cells == ["baseline/seed_0"]
    command(study, [*arguments, "--metric", "loss"], runner)
    assert runner.cells == ["baseline/seed_0", "width_2/seed_0"]


def test_the_cells_of_no_folder_are_none(study, tmp_path):
    plan = make_plan(study, study.config, [])
    assert finished(plan, tmp_path / "nothing") == {} and collect(plan, {}, tmp_path)["rows"] == []


# The studies against their models

STUDIES = (textcnn.STUDY, transformer.STUDY, conv_seq2seq.STUDY, esim.STUDY)
TEXTCNN, TRANSFORMER, CONV, ESIM = (make_plan(study, study.config, []) for study in STUDIES)
MULTI30K, CONV_MULTI30K = (f"configs/{paper}/multi30k_de_en.py" for paper in ("transformer", "conv_seq2seq"))
VECTORS = ["word_vectors.path=some.vec", "model.variant=non_static"]

TOKENS, LENGTHS = np.arange(48).reshape(4, 12) % 20, np.array([1, 2, 5, 12])


def task_of(config) -> Task:
    return make_task(config, sizes=dict.fromkeys(roles(config), 20), num_classes=6)


@functools.cache
def shapes_of(path: str, *overrides: str) -> dict:
    """Collection, name and shape of every variable of a configuration's model."""
    config = cli.load_config(path, overrides)
    bucket = tuple((role, TOKENS.shape[1]) for role in roles(config))
    shapes = jax.eval_shape(lambda: task_of(config).init(jax.random.key(0), bucket))
    return jax.tree.map(lambda x: x.shape, shapes)


def filled(path: str, *overrides: str, scale: float) -> dict:
    """The model's variables with random values, the same for the same shapes."""
    random = np.random.default_rng(0)
    draw = lambda shape: (scale * random.normal(size=shape)).astype(np.float32)
    return jax.tree.map(draw, shapes_of(path, *overrides), is_leaf=lambda shape: isinstance(shape, tuple))


def loss(path: str, *overrides: str, variables: dict) -> jax.Array:
    """Of a batch while training."""
    config = cli.load_config(path, overrides)
    tokens, lengths = (dict.fromkeys(roles(config), x) for x in (TOKENS, LENGTHS))
    rows = np.arange(len(LENGTHS))
    batch = Batch(tokens, lengths, {}, labels=rows, weights=np.ones(len(rows), np.float32), rows=rows)
    return task_of(config).loss(variables, batch, jax.random.key(1))[0]


@functools.cache
def effect(path: str, *overrides: str) -> np.ndarray:
    """What is left to differ where the parameters have the same shapes: a batch's loss, how to decode, the number of
    training examples, and the parameters after a step of the optimiser."""
    config = cli.load_config(path, overrides)
    variables = filled(path, *overrides, scale=1.0)
    params, optimizer = variables["params"], make_optimizer(config.optimizer, config.model.get("d_model", 1))
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    search = search_of(config)
    decode = dataclasses.astuple(search) if search else ()
    data = config.data
    splits = dict.fromkeys(filter(None, (data.train, data.dev, data.test, *data.more_tests)), 1000)
    examples = len(split_indices(splits, config, 0)["train"])
    numbers = [loss(path, *overrides, variables=variables), examples, *decode]
    return np.concatenate([np.ravel(x) for x in (*numbers, *jax.tree.leaves(optax.apply_updates(params, updates)))])


def idle_parameters(path: str, *overrides: str) -> list[str]:
    """Parameters of a configuration's model that its loss does not depend on."""
    variables = filled(path, *overrides, scale=0.1)  # large scores saturate a softmax
    of_params = lambda params: loss(path, *overrides, variables={**variables, "params": params})
    gradient = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(of_params))(variables["params"]))
    return [jax.tree_util.keystr(place) for place, g in gradient if not np.any(g)]


def differ(path: str, overrides: list[str], others: list[str]) -> bool:
    """Whether the model has other parameters and uses them all, or where they are the same, has another effect."""
    if shapes_of(path, *overrides) != shapes_of(path, *others):
        return not idle_parameters(path, *overrides)
    return not np.allclose(effect(path, *overrides), effect(path, *others), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("plan", [TEXTCNN, TRANSFORMER, CONV, ESIM], ids=lambda plan: plan.study.paper)
def test_a_configuration_of_the_same_model_has_the_same_effect(plan):
    assert not differ(plan.config, ["train.epochs=3"], [])


@pytest.mark.parametrize("name", select(TEXTCNN, ""))
def test_every_variant_of_textcnn_changes_what_is_trained(name):
    assert differ(TEXTCNN.config, TEXTCNN.variants[name].overrides, [])


# Without residuals next to nothing of a gradient comes through six layers, so all but the last ones look idle.
DEEP = "layers_6_residual_off"


@pytest.mark.parametrize("name", [name for name in select(TRANSFORMER, "") if name != DEEP])
def test_every_variant_of_the_transformer_changes_what_is_trained_or_searched(name):
    assert differ(TRANSFORMER.config, TRANSFORMER.variants[name].overrides, [])


def test_residuals_are_off_in_deep_models_too():
    assert differ(TRANSFORMER.config, *(TRANSFORMER.variants[name].overrides for name in (DEEP, "layers_6")))


@pytest.mark.parametrize("name", select(CONV, ""))
def test_every_variant_of_conv_seq2seq_changes_what_is_trained_or_searched(name):
    assert differ(CONV.config, CONV.variants[name].overrides, [])


LCQMC = make_plan(esim.STUDY, "configs/esim/lcqmc_small.py", [])


def test_trees_have_twice_as_many_nodes_as_words():
    plan = make_plan(esim.STUDY, LCQMC.config, ["data.buckets=(12,10),(24,20)"])
    assert plan.variants["tree_full"].changes["data.buckets"][1] == [[24, 20], [48, 40]]
    assert LCQMC.variants["tree_full"].changes["data.buckets"][1] == [24, 32, 48, 96]


OF_TEXTS = ("length_", "tokens_")


@pytest.mark.parametrize("name", [name for name in select(ESIM, "") if not name.startswith(OF_TEXTS)])
def test_every_variant_of_esim_changes_what_is_trained(name):
    assert differ(ESIM.config, ESIM.variants[name].overrides, [])


@pytest.mark.parametrize("name", [name for name in select(LCQMC, "") if name.startswith(OF_TEXTS)])
def test_variants_of_texts_change_the_tables_that_esim_reads(name):
    texts = ["我想去 5000 公里外的北京，怎么走？" * 2] * 20
    corpus = Corpus("toy", "1", {}, ("different", "same"), "")
    labels = [0, 1] * 10
    split = {"sentence1": texts, "sentence2": texts, "label": labels}

    def table(overrides):
        config = cli.load_config(LCQMC.config, [*overrides, "train.batch_size=1"])
        parts = dict.fromkeys(split_names(config), split)
        return build(dataclasses.replace(corpus, splits=parts), config).datasets[0].table.tokens["premise"]

    one, other = table(LCQMC.variants[name].overrides), table([])
    assert one.shape != other.shape or np.any(one != other)


# TextCNN's study


def test_variants_of_word_vectors():
    assert not set(select(TEXTCNN, "")) & {"rand", "static", "non_static", "multichannel"}
    with pytest.raises(ConfigError, match=r"static needs a baseline with word_vectors\.path"):
        select(TEXTCNN, "static")
    plan = make_plan(textcnn.STUDY, TEXTCNN.config, VECTORS)
    assert select(plan, "rand,static,non_*,multichannel") == ["rand", "static", "multichannel"]
    changed = [plan.variants[name].overrides for name in ("baseline", "static", "multichannel")]
    shapes = [shapes_of(plan.config, *VECTORS, *overrides) for overrides in changed]
    assert [set(tree) for tree in shapes] == [{"params"}, {"params", "constants"}, {"params", "constants"}]
    assert ["embedding" in tree["params"] for tree in shapes] == [True, False, True]
    rand = cli.load_config(plan.config, [*VECTORS, *plan.variants["rand"].overrides])
    assert (rand.model.variant, rand.word_vectors.path) == ("rand", "")


def test_the_study_covers_the_axes_of_the_issue():
    values = lambda axis: [next(iter(change.values())) for change in textcnn.AXES[axis].values()]
    assert values("region size") == [(size,) for size in range(1, 11)]
    assert (min(values("feature maps")), max(values("feature maps"))) == (2, 600)
    assert values("dropout") == [tenths / 10 for tenths in range(10)]
    same = {name for name, v in TEXTCNN.variants.items() if not v.changes} - {"baseline"}
    assert same == {
        *("region_3_4_5", "maps_100", "activation_relu", "pooling_max", "dropout_0.5", "norm_3", "rand"),
    }, "the baseline itself stands on every axis"


# ESIM's study


PARSED = ["data.tree=", "model.architecture=sequential"]


@pytest.mark.parametrize("config", [ESIM.config, LCQMC.config, "configs/esim/snli_tree.py"])
def test_every_variant_of_esim_can_be_run(config):
    plan = make_plan(esim.STUDY, config, PARSED if "tree" in config else [])
    for name in plan.variants:
        cell = cli.load_config(config, plan.cell(name, 3))
        assert (cell.seed, cell.replicas) == (3, 1)
        assert task_of(cell) and make_optimizer(cell.optimizer) and settings_of(cell)
        assert words_codec("premise", Vocabulary(reserved(cell), reserved(cell)), cell)


@pytest.mark.parametrize("config", ["sick", "lcqmc_small", "snli_parses", "snli_tree", "snli_him"])
def test_no_variant_of_esim_that_is_offered_is_refused(config):
    plan = make_plan(esim.STUDY, f"configs/esim/{config}.py", ["model.variant=rand"])
    for name in select(plan, ""):
        check(cli.load_config(plan.config, plan.cell(name, 0)))


def test_a_baseline_of_another_model_of_the_paper_is_refused_by_its_own_name():
    message = r"^--config configs/esim/lcqmc_small_cosine\.py: the study's variant \w+ does not fit it: .*no such field"
    with pytest.raises(ConfigError, match=message):
        command(esim.STUDY, ["--list", "--config", "configs/esim/lcqmc_small_cosine.py"])


def test_trees_of_esim_are_those_that_the_texts_allow():
    trees = lambda plan: [name for name in plan.variants if name.startswith(("tree_", "hybrid_"))]
    assert trees(ESIM) == ["tree_full", "hybrid_full"]
    plan = make_plan(esim.STUDY, "configs/esim/snli_tree.py", PARSED)
    assert trees(plan) == ["tree_parse", "tree_full", "hybrid_parse", "hybrid_full"]
    assert "data.buckets=64,128,256,512" in plan.variants["tree_full"].overrides
    own = make_plan(esim.STUDY, "configs/esim/snli_tree.py", [])
    assert own.variants["hybrid_full"].changes.keys() == {"model.architecture", "data.tree"}, "its lengths count nodes"


def test_what_equals_the_baseline_of_esim_is_not_run():
    same = lambda plan: {name for name in plan.variants if name != "baseline"} - set(select(plan, ""))
    given = {"rand", "static", "non_static"}  # without a file of vectors
    assert same(ESIM) == given | {"hidden_300", "embedding_300", "dropout_0.5", "word_masks_pair"}
    assert same(LCQMC) == given | {"hidden_300", "embedding_300", "dropout_0.5", "word_masks_pair", "tokens_character"}


# The Transformer's study


@pytest.mark.parametrize("config", [TRANSFORMER.config, MULTI30K])
def test_every_variant_of_the_transformer_can_be_run(config):
    plan = make_plan(transformer.STUDY, config, [])
    for name in plan.variants:
        cell = cli.load_config(config, plan.cell(name, 3))
        assert (cell.seed, cell.replicas) == (3, 1)
        assert task_of(cell) and make_optimizer(cell.optimizer, cell.model.d_model)
        assert settings_of(cell) and search_of(cell)


@pytest.mark.parametrize(
    ("config", "overrides", "heads", "widths"),
    [
        (TRANSFORMER.config, [], (1, 2, 4, 8, 16), (64, 256)),
        (MULTI30K, [], (1, 2, 4, 8, 16), (128, 512)),
        (TRANSFORMER.config, ["model.d_model=40"], (1, 2, 4, 8), (20, 80)),
        (TRANSFORMER.config, ["model.d_model=16", "model.heads=16"], (1, 2, 4, 8, 16), (32,)),
    ],
)
def test_heads_share_the_width_of_the_model(config, overrides, heads, widths):
    plan = make_plan(transformer.STUDY, config, overrides)
    names = [f"heads_{number}" for number in heads] + [f"d_model_{size}" for size in widths]
    assert [name for name in plan.variants if name.startswith(("heads_", "d_model_"))] == names
    baseline = cli.load_config(config, overrides).model
    sizes = [(number, baseline.d_model) for number in heads] + [(baseline.heads, size) for size in widths]
    for name, (number, size) in zip(names, sizes):
        model = cli.load_config(config, plan.cell(name, 0)).model
        assert (model.heads, model.d_model) == (number, size)
        assert model.heads * model.d_k == model.heads * model.d_v == model.d_model
    shared = [shapes_of(config, *overrides, *plan.variants[f"heads_{number}"].overrides) for number in heads]
    assert all(shapes == shared[0] for shapes in shared), "the same matrices, and so the same computation"


def test_a_side_of_the_attention_is_removed_by_keeping_the_other():
    """Rows 23 and 24 of Table 2."""
    assert ESIM.variants["premise_attention_off"].overrides == ["model.attention=hypothesis"]
    assert ESIM.variants["hypothesis_attention_off"].overrides == ["model.attention=premise"]


def test_the_axes_of_the_transformer():
    """Rows A to E of Table 3, and what else is often asked."""
    names = {
        axis: list(variants)
        for axis, variants in transformer.STUDY.axes(cli.load_config(TRANSFORMER.config, [])).items()
    }
    wanted = {
        "A: heads": ["heads_1", "heads_2", "heads_4", "heads_8", "heads_16"],
        "B: key size": ["d_k_4", "d_k_8", "d_k_16"],
        "C: size": ["layers_1", "layers_3", "layers_4", "d_model_64", "d_model_256", "d_ff_128", "d_ff_512"],
        "D: dropout": ["dropout_0", "dropout_0.1", "dropout_0.2"],
        "D: label smoothing": ["smoothing_0", "smoothing_0.1", "smoothing_0.2"],
        "E: positions": [f"positions_{kind}" for kind in ("sinusoidal", "learned", "concatenated", "none")],
        "residuals": ["residual_off", "layers_6", "layers_6_residual_off"],
        "normalisation": ["norm_batch", "norm_none", "pre_norm"],
        "attention": ["scale_off", "share_none"],
        "beam": ["beam_1", "beam_2", "beam_4", "beam_8"],
        "training pairs": ["train_0.125", "train_0.25", "train_0.5"],
    }
    assert names == wanted


def test_what_equals_the_baseline_is_not_run():
    same = lambda plan: {name for name in plan.variants if name != "baseline"} - set(select(plan, ""))
    assert same(TRANSFORMER) == {"heads_4", "dropout_0", "smoothing_0", "positions_sinusoidal", "beam_4"}
    multi30k = {"heads_4", "layers_3", "dropout_0.2", "smoothing_0.1", "positions_sinusoidal", "beam_4"}
    assert same(make_plan(transformer.STUDY, MULTI30K, [])) == multi30k
    moved = make_plan(transformer.STUDY, MULTI30K, ["model.d_model=64", "model.d_k=16", "model.d_v=16"])
    assert same(moved) == multi30k | {"d_k_16"}, "heads follow the overrides"


def test_a_model_without_heads_is_no_baseline():
    with pytest.raises(ConfigError, match=r"d_model and heads must be at least 1, got 128 and 0"):
        make_plan(transformer.STUDY, TRANSFORMER.config, ["model.heads=0"])


# The study of ConvS2S


def test_the_axes_of_conv_seq2seq():
    """Tables 4, 5, 7 and 8, and what else is often asked."""
    axes = conv_seq2seq.STUDY.axes(cli.load_config(CONV.config, []))
    sizes = ["1x3", "1x5", "1x7", "2x1", "2x3", "2x5", "2x7", "4x3", "4x5", "4x7"]
    assert {axis: list(variants) for axis, variants in axes.items()} == {
        "Table 4: position embeddings": ["source_positions_off", "target_positions_off", "positions_off"],
        "Table 5: layers that attend": ["attention_all", "attention_1", "attention_2"],
        "Table 7, Figure 2: encoder, layers x width": [f"encoder_{size}" for size in sizes],
        "Table 8, Figure 2: decoder, layers x width": [f"decoder_{size}" for size in sizes],
        "gate": ["gate_glu", "gate_tanh", "gate_relu", "gate_none"],
        "sums": ["scale_residual_off"],
        "normalisation": ["norm_weight", "norm_layer", "norm_none"],
        "context": ["context_add", "context_concat"],
        "dense decoder": ["dense"],
        "dropout": ["dropout_0", "dropout_0.1", "dropout_0.2"],
        "label smoothing": ["smoothing_0", "smoothing_0.1", "smoothing_0.2"],
        "beam": ["beam_1", "beam_2", "beam_3", "beam_5", "beam_8"],
        "training pairs": ["train_0.125", "train_0.25", "train_0.5"],
    }


@pytest.mark.parametrize("config", [CONV.config, CONV_MULTI30K])
def test_every_variant_of_conv_seq2seq_can_be_run(config):
    plan = make_plan(conv_seq2seq.STUDY, config, [])
    for name in plan.variants:
        cell = cli.load_config(config, plan.cell(name, 3))
        assert (cell.seed, cell.replicas) == (3, 1)
        assert task_of(cell) and make_optimizer(cell.optimizer)
        assert settings_of(cell) and search_of(cell)


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("layers", "depths", "same", "widest"),
    [
        ("2*128x3", (1, 2, 4), ["2x3"], "4*128x7"),
        ("128x3,128x3", (1, 2, 4), ["2x3"], "4*128x7"),  # another way to write the same
        ("128x3", (1, 2), ["1x3"], "2*128x7"),  # half of one layer is one
        ("4*64x9,2*96x3,96x1", (4, 7, 14), [], "8*64x7,4*96x7,2*96x1"),  # linear maps stay
    ],
)
def test_tables_7_and_8_follow_the_depth_of_the_baseline(stack, layers, depths, same, widest):
    plan = make_plan(conv_seq2seq.STUDY, CONV.config, [f"model.{stack}={layers}"])
    found = {name: variant for name, variant in plan.variants.items() if name.startswith(f"{stack}_")}
    own = len(read_layers(layers.split(","), stack))
    sizes = [(depth, width) for depth in depths for width in (1, 3, 5, 7) if width > 1 or depth == own]
    assert list(found) == [f"{stack}_{depth}x{width}" for depth, width in sizes]
    for (depth, width), variant in zip(sizes, found.values()):
        model = cli.load_config(CONV.config, [*plan.overrides, *variant.overrides]).model
        resized = read_layers(model[stack], stack)
        assert (len(resized), resized[0].kernel) == (depth, width)
    assert [name for name, variant in found.items() if not variant.changes] == [f"{stack}_{size}" for size in same]
    assert found[f"{stack}_{depths[-1]}x7"].overrides == [f"model.{stack}={widest}"]


def test_layers_of_the_baseline_may_be_pairs():
    plan = make_plan(conv_seq2seq.STUDY, CONV.config, ["model.encoder=(128,3),(64,5)", "model.decoder=[(128, 3)]"])
    assert not plan.variants["decoder_1x3"].changes and plan.fields["model.encoder"] == [[128, 3], [64, 5]]
    for name in select(plan, "encoder_*,decoder_*"):
        model = cli.load_config(CONV.config, plan.cell(name, 0)).model
        stack, _, size = name.partition("_")
        assert len(read_layers(model[stack], stack)) == int(size.split("x")[0])


@pytest.mark.parametrize(
    ("decoder", "names"),
    [
        ("5*16x5", ("all", "1_to_4", "1_to_3", "1_to_2", "odd", "1", "2", "3", "4", "5")),  # Table 5
        ("2*16x5", ("all", "1", "2")),
        ("16x5", ("all",)),
    ],
)
def test_table_5_follows_the_depth_of_the_baseline(decoder, names):
    plan = make_plan(conv_seq2seq.STUDY, CONV.config, [f"model.decoder={decoder}"])
    found = [name for name in plan.variants if name.startswith("attention_")]
    assert found == [f"attention_{name}" for name in names]
    layers = [cli.load_config(CONV.config, plan.cell(name, 0)).model.attention for name in found]
    if len(names) == 10:
        assert layers[1:5] == [(1, 2, 3, 4), (1, 2, 3), (1, 2), (1, 3, 5)]
        assert layers[5:] == [(number,) for number in range(1, 6)]


def test_no_decoder_is_shorter_than_its_last_layer_that_attends():
    plan = make_plan(conv_seq2seq.STUDY, CONV.config, ["model.attention=2"])
    assert not [name for name in plan.variants if name.startswith("decoder_1x")]
    assert {"decoder_2x5", "decoder_4x3", "encoder_1x3"} <= set(select(plan, ""))


def test_what_equals_the_convolutional_baseline_is_not_run():
    same = lambda plan: {name for name in plan.variants if name != "baseline"} - set(select(plan, ""))
    always = {"attention_all", "gate_glu", "norm_weight", "context_add", "smoothing_0", "beam_5"}
    assert same(CONV) == always | {"encoder_2x3", "decoder_2x3", "dropout_0"}
    assert same(make_plan(conv_seq2seq.STUDY, CONV_MULTI30K, [])) == always | {"encoder_4x3", "decoder_3x3"}


def test_layers_that_cannot_be_read_are_no_baseline():
    with pytest.raises(ConfigError, match=r"model\.decoder: '2y3', from layer 1 on, is not CHANNELSxKERNEL"):
        make_plan(conv_seq2seq.STUDY, CONV.config, ["model.decoder=2y3"])
    for attention, message in {"a": "'a' is no number of a decoder layer", "1,7": "names layer 7; the decoder"}.items():
        with pytest.raises(ConfigError, match=rf"model\.attention:? {message}"):
            make_plan(conv_seq2seq.STUDY, CONV.config, [f"model.attention={attention}"])

"""The engine of the ablation studies with a fake runner, and the studies themselves against their models."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import cli
from experiments.ablate import Study, collect, command, finished, make_plan, select
from experiments.ablations.textcnn import STUDY
from research.errors import ConfigError, DataError
from research.optimizers import make_optimizer
from research.textcnn import make_model

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    model = dict(width=3, rate=0.5, pool="max", k=1, sizes=(3, 4))
    return ConfigDict(dict(paper="toy", seed=0, replicas=5, model=model))
"""


class FakeRunner:
    """Writes a result whose accuracy is 80 + width + seed / 2 (+ seed * rate), and remembers the cells it ran."""

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
        result = {"metrics": {"dev": {"accuracy": {**score, "mean": 1.0}}, "test": {"accuracy": score}}}
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
        axes={
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
    assert "--seeds 3" in text and "--variants" not in text


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


def test_the_folder_of_another_study_is_refused(study, tmp_path):
    folder, runner = tmp_path / "W", FakeRunner()
    arguments = ["--workdir", str(folder), "--seeds", "1", "--variants", "width_2"]
    command(study, arguments, runner)
    with pytest.raises(ConfigError, match=r"another study: model\.rate \(0\.5 there, 0\.25 here\)"):
        command(study, [*arguments, "--config.model.rate=0.25"], runner)

    moved = Study(study.paper, study.config, {"width": {"width_2": {"model.width": 1}}})
    with pytest.raises(ConfigError, match="variant width_2"):
        command(moved, arguments, runner)
    other_metric = Study(study.paper, study.config, study.axes, metric="bleu", linked=study.linked)
    with pytest.raises(ConfigError, match="study of accuracy, not bleu"):
        command(other_metric, arguments, runner)

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
    with pytest.raises(AssertionError, match="two changes more than one field"):
        Study("toy", study.config, {"axis": {"two": {"model.width": 2, "model.rate": 0.1}}})
    with pytest.raises(AssertionError, match="names of variants must differ"):
        Study("toy", study.config, {"a": {"x": {"model.width": 2}}, "b": {"x": {"model.width": 1}}})


def test_a_result_without_the_metric_is_named(study, tmp_path):
    plan = make_plan(study, study.config, [])
    cell = {"metrics": {"test": {"loss": {"mean": 1.0}}}, "params": 1, "seconds": 1.0, "data": {}, "environment": {}}
    with pytest.raises(DataError, match="baseline, seed 0: its result has no accuracy on split test"):
        collect(plan, {"baseline": {0: cell}})
    assert finished(plan, tmp_path / "nothing") == {}


# TextCNN's study

PLAN = make_plan(STUDY, STUDY.config, [])
VECTORS = ["word_vectors.path=some.vec", "model.variant=non_static"]


TOKENS, LENGTHS = np.arange(48).reshape(4, 12) % 20, np.array([1, 2, 5, 12])


def shapes_of(overrides: list[str]) -> dict:
    """Collection, name and shape of every variable of a configuration's model."""
    model = model_of(cli.load_config(STUDY.config, overrides))
    shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS, LENGTHS)
    return jax.tree.map(lambda x: x.shape, shapes)


def model_of(config):
    return make_model(config.model, vocab_size=20, num_classes=6, max_length=config.data.buckets[-1])


def effect(overrides: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """A batch's logits while training, and the softmax layer's weights after a step, from fixed parameters."""
    config = cli.load_config(STUDY.config, overrides)
    random = np.random.default_rng(0)
    draw = lambda shape: random.normal(size=shape).astype(np.float32)
    params = jax.tree.map(draw, shapes_of(overrides)["params"], is_leaf=lambda shape: isinstance(shape, tuple))
    rows, rngs = jnp.arange(len(LENGTHS)), {"dropout": jax.random.key(1)}
    logits = model_of(config).apply({"params": params}, TOKENS, LENGTHS, rows, rngs=rngs)
    weights, optimizer = {"softmax": {"kernel": params["softmax"]["kernel"]}}, make_optimizer(config.optimizer)
    updates, _ = optimizer.update(weights, optimizer.init(weights), weights)
    return np.asarray(logits), np.asarray(optax.apply_updates(weights, updates)["softmax"]["kernel"])


def idle_parameters(overrides: list[str]) -> list[str]:
    """Parameters of a configuration's model that its logits do not depend on."""
    model = model_of(cli.load_config(STUDY.config, overrides))
    random = np.random.default_rng(0)
    draw = lambda shape: (0.1 * random.normal(size=shape)).astype(np.float32)  # large scores saturate a softmax
    params = jax.tree.map(draw, shapes_of(overrides)["params"], is_leaf=lambda shape: isinstance(shape, tuple))
    gradient = jax.grad(lambda p: jnp.sum(model.apply({"params": p}, TOKENS, LENGTHS)[:, 0] ** 2))(params)
    return [jax.tree_util.keystr(path) for path, g in jax.tree_util.tree_leaves_with_path(gradient) if not np.any(g)]


def differ(overrides: list[str], baseline: tuple[dict, tuple]) -> bool:
    """Whether the model has other parameters and uses them all, or where they are the same, the logits or the step."""
    if shapes_of(overrides) != baseline[0]:
        return not idle_parameters(overrides)
    return not all(np.allclose(x, y, rtol=1e-4, atol=1e-4) for x, y in zip(effect(overrides), baseline[1]))


@pytest.fixture(scope="module")
def baseline():
    return shapes_of([]), effect([])


@pytest.mark.parametrize("overrides", [[], ["train.epochs=3"]])
def test_a_configuration_of_the_same_model_has_the_same_effect(overrides, baseline):
    assert not differ(overrides, baseline)


@pytest.mark.parametrize("name", select(PLAN, ""))
def test_every_variant_changes_the_model_or_the_loss(name, baseline):
    assert differ(PLAN.variants[name].overrides, baseline)


def test_variants_of_word_vectors():
    assert not set(select(PLAN, "")) & {"rand", "static", "non_static", "multichannel"}
    with pytest.raises(ConfigError, match=r"static needs a baseline with word_vectors\.path"):
        select(PLAN, "static")
    plan = make_plan(STUDY, STUDY.config, VECTORS)
    assert select(plan, "rand,static,non_*,multichannel") == ["rand", "static", "multichannel"]
    shapes = [shapes_of(VECTORS + plan.variants[name].overrides) for name in ("baseline", "static", "multichannel")]
    assert [set(tree) for tree in shapes] == [{"params"}, {"params", "constants"}, {"params", "constants"}]
    assert ["embedding" in tree["params"] for tree in shapes] == [True, False, True]
    rand = cli.load_config(STUDY.config, [*VECTORS, *plan.variants["rand"].overrides])
    assert (rand.model.variant, rand.word_vectors.path) == ("rand", "")


def test_the_study_covers_the_axes_of_the_issue():
    values = lambda axis: [next(iter(change.values())) for change in STUDY.axes[axis].values()]
    assert values("region size") == [(size,) for size in range(1, 11)]
    assert (min(values("feature maps")), max(values("feature maps"))) == (2, 600)
    assert values("dropout") == [tenths / 10 for tenths in range(10)]
    same = {name for name, v in PLAN.variants.items() if not v.changes} - {"baseline"}
    assert same == {
        *("region_3_4_5", "maps_100", "activation_relu", "pooling_max", "dropout_0.5", "norm_3", "rand"),
    }, "the baseline itself stands on every axis"

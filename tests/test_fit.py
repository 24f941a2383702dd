"""The training loop: exact resume, early stopping, replicas, damaged checkpoints, NaN."""

import dataclasses
import functools
import itertools
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.conv_seq2seq import wmt14_en_de
from configs.transformer import base
from experiments.run import settings_of
from research import fit as loop
from research.batches import Slots, Table, make_buckets
from research.checkpoints import Checkpoints
from research.errors import ConfigError, DataError
from research.esim import ESIM
from research.fit import Diverged, Member, Settings, Stopped, Trainer, _Run
from research.optimizers import learning_rates, make_optimizer, with_rate
from research.parallel import Placement
from research.tasks import Classification, better
from research.textcnn import TextCNN
from tests.test_optimizers import config
from tests.test_textcnn import optimizer

V, N = 30, 61
BUCKETS = make_buckets((4, 8), ("text",))
SETTINGS = Settings(epochs=3, batch_size=8, log_every=3, checkpoint_seconds=0.0)


def member(seed: int = 0, fold: int = 0) -> Member:
    """Sentences whose class is whether word 2 stands before word 3."""
    random = np.random.default_rng(5)
    texts = [random.integers(2, V, random.integers(1, 8)).tolist() for _ in range(N)]
    labels = random.integers(0, 2, N)
    order = np.random.default_rng(fold).permutation(N)
    dev = 10 + fold  # folds differ in size, and so in steps an epoch
    splits = {"train": order[dev:], "dev": order[:dev], "test": order[:dev]}
    return Member((seed, fold), Table.build({"text": texts}, labels, BUCKETS[-1]), splits)


class Silent:
    def __init__(self):
        self.records = []

    def step(self, step, total, losses):
        pass

    def evaluation(self, step, record):
        self.records.append(record)


def net(**changes) -> TextCNN:
    return TextCNN(V, 2, 8, embedding_dim=6, kernel_sizes=(2, 3), filters=4, **changes)


TASK = Classification(net(), 2)


@functools.cache  # a trainer keeps nothing of a run but its compiled functions
def trainer(*, task=TASK, replicas=1, rows=0.95, rate=1.0, **placing) -> Trainer:
    options = {"eval_batch_size": 16, "row_decay": rows}
    return Trainer(task, optimizer(learning_rate=rate), BUCKETS, Placement(replicas, **placing), **options)


def stop_after(steps: int):
    count = itertools.count(1)
    return lambda: next(count) >= steps


def fit(folder, members, settings=SETTINGS, *, make=trainer, should_stop=lambda: False, warn=None, **options):
    checkpoints = Checkpoints(folder, warn=warn or (lambda line: pytest.fail(line)))
    try:
        made = make(replicas=len(members), **options)
        return made.fit(members, settings, checkpoints=checkpoints, reporter=Silent(), should_stop=should_stop)
    finally:
        checkpoints.close()


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def timeless(progress) -> dict:
    return {k: v for k, v in dataclasses.asdict(progress).items() if k not in ("seconds", "step_seconds", "examples")}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return {
        replicas: fit(tmp_path_factory.mktemp("whole"), [member(seed) for seed in range(replicas)])
        for replicas in (1, 2)
    }


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("stops", [(5,), (7,), (1, 1, 9)], ids=str)  # 7 steps an epoch: within, at its end, often
def test_resuming_is_exact(tmp_path, uninterrupted, replicas, stops):
    members = [member(seed) for seed in range(replicas)]
    for steps in stops:
        with pytest.raises(Stopped):
            fit(tmp_path, members, should_stop=stop_after(steps))
    variables, progress = fit(tmp_path, members)
    wanted, whole = uninterrupted[replicas]
    assert_same(variables, wanted)
    assert timeless(progress) == timeless(whole)


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_average_of_the_last_evaluations(tmp_path, replicas):
    """The mean of what shorter runs end with, which an average over one evaluation keeps; also after an interruption
    between the evaluations that are averaged."""
    members = [member(seed) for seed in range(replicas)]
    run = lambda name, **changes: fit(
        tmp_path / name,
        members,
        dataclasses.replace(SETTINGS, **changes),
        should_stop=stop_after(18) if name == "cut" else lambda: False,
    )
    ends = [run(str(epochs), epochs=epochs, average=1)[0] for epochs in (1, 2, 3)]
    for average in (2, 3):
        found, _ = run(f"mean {average}", average=average)
        wanted = jax.tree.map(lambda *x: sum(x) / len(x), *ends[-average:])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found, wanted)
        assert any((np.asarray(a) != b).any() for a, b in zip(*map(jax.tree.leaves, (found, ends[-1]))))
    with pytest.raises(Stopped):
        run("cut", average=3)
    shutil.move(tmp_path / "cut", tmp_path / "resumed")
    assert_same(run("resumed", average=3)[0], found)


def test_an_epoch_has_seven_steps(uninterrupted):
    """What the test above relies on."""
    _, progress = uninterrupted[1]
    assert [record["step"] for record in progress.history] == [7, 14, 21]


def test_replicas_together_are_replicas_in_turn(tmp_path):
    members = [member(0, 0), member(1, 3), member(2, 9)]
    together, progress = fit(tmp_path / "all", members)
    for r, one in enumerate(members):
        alone, its = fit(tmp_path / str(r), [one])
        jax.tree.map(lambda a, b, r=r: np.testing.assert_allclose(a[r], b, rtol=1e-4, atol=1e-5), together, alone)
        assert its.steps[0] == progress.steps[r]
        assert its.best[0] == pytest.approx(progress.best[r])
    assert len(set(progress.steps)) > 1  # the folds differ in length, so replicas idle


def test_pairs_padded_for_the_longest_replica_train_as_alone(tmp_path):
    """Together, replicas take the longest bucket of all at each place; masks and recurrence do not see it."""
    roles = ("premise", "hypothesis")
    buckets, net = make_buckets((4, 8), roles), ESIM(V, 2, embedding_dim=6, hidden=5)
    random = np.random.default_rng(7)
    texts = {role: [random.integers(2, V, random.integers(1, 8)).tolist() for _ in range(N)] for role in roles}
    table = Table.build(texts, random.integers(0, 2, N), buckets[-1])
    splits = {"train": np.arange(40), "dev": np.arange(40, N)}
    members = [Member((seed,), table, splits) for seed in range(2)]

    def make(*, replicas: int) -> Trainer:
        task = Classification(net, 2, roles)
        return Trainer(task, optax.sgd(0.1), buckets, Placement(replicas), eval_batch_size=16)

    together, progress = fit(tmp_path / "all", members, make=make)
    plans = [make(replicas=1)._plan(SETTINGS, one, 0) for one in members]
    assert any(one.bucket != other.bucket for one, other in zip(*plans))
    for r, one in enumerate(members):
        alone, its = fit(tmp_path / str(r), [one], make=make)
        jax.tree.map(lambda a, b, r=r: np.testing.assert_allclose(a[r], b, rtol=1e-4, atol=1e-5), together, alone)
        losses = [record["train_loss"][r] for record in progress.history]
        assert losses == pytest.approx([record["train_loss"][0] for record in its.history], rel=1e-4)


def test_a_limit_of_steps_ends_a_run_within_an_epoch(tmp_path):
    """At its last step the dev split is evaluated, as at the end of an epoch; more steps than all epochs have end
    nothing."""
    ends = {}
    for steps in (10, 1000):
        _, progress = fit(tmp_path / str(steps), [member()], dataclasses.replace(SETTINGS, steps=steps))
        ends[steps] = [record["step"] for record in progress.history]
    assert ends == {10: [7, 10], 1000: [7, 14, 21]}


def test_streamed_batches_are_the_gathered_ones(tmp_path, uninterrupted):
    variables, progress = fit(tmp_path, [member()], stream=True)
    assert_same(variables, uninterrupted[1][0])
    assert timeless(progress) == timeless(uninterrupted[1][1])


def test_micro_batches_give_the_same_update(tmp_path, uninterrupted):
    variables, _ = fit(tmp_path, [member()], parts=4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), variables, uninterrupted[1][0])


def test_micro_batches_save_memory():
    """What they are for: what a part needs besides parameters is given back before the next part."""

    def temporary(parts: int) -> int:
        table, rows = member().table, np.zeros(1024, np.int32)
        made, bucket = trainer(rows=None, parts=parts), BUCKETS[-1]
        arguments = (made.init(member().keys()[0], None), made.no_sums(), member().keys()[1], table)
        loaded = made.placement.load([table], [Slots(rows, np.ones(1024, np.float32), bucket)])
        return made.step.lower(*arguments, loaded, bucket).compile().memory_analysis().temp_size_in_bytes

    assert temporary(16) < temporary(1) / 4


def test_patience_stops_each_replica_by_itself(tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=30, patience=2)
    _, progress = fit(tmp_path, [member(0), member(1, 5)], settings)
    assert all(progress.stopped) and progress.step < 30 * 7
    for r in range(2):
        mine = [(h["step"], h["dev"][r]["accuracy"]) for h in progress.history if h["dev"][r] is not None]
        best = max(range(len(mine)), key=lambda i: (mine[i][1], -i))
        assert (progress.best_step[r], progress.best[r]) == mine[best]
        assert len(mine) == best + 1 + 2  # two evaluations without improvement, and no record after them
        assert progress.steps[r] == len(mine) * (7, 6)[r]  # updates an epoch; none after the stop


RATES = (1.0, 0.25, 0.0625)
ANNEALED = dataclasses.replace(SETTINGS, epochs=30, monitor="loss", rates=RATES, cuts_go_on=True)


@functools.cache
def annealed(*, replicas=1, **placing) -> Trainer:
    """By Nesterov's method, whose state holds the learning rate."""
    nesterov = config(wmt14_en_de, learning_rate=RATES[0], momentum=0.9)
    return Trainer(TASK, make_optimizer(nesterov), BUCKETS, Placement(replicas, **placing), eval_batch_size=16)


@pytest.fixture(scope="module")
def annealed_members() -> list[Member]:
    """Their dev splits differ, so that rates are cut at different evaluations, and one stops before the other."""
    return [member(0), member(1, 5)]


@pytest.fixture(scope="module")
def annealed_together(tmp_path_factory, annealed_members):
    return fit(tmp_path_factory.mktemp("annealed"), annealed_members, ANNEALED, make=annealed)


def cuts(history: list[dict], replica: int = 0) -> list[int]:
    """How often the rate has been cut after each evaluation of a replica: at each from the first on that has not
    improved its loss."""
    losses = [record["dev"][replica]["loss"] for record in history if record["dev"][replica] is not None]
    worse = [n > 0 and loss >= min(losses[:n]) for n, loss in enumerate(losses)]
    return np.cumsum(np.maximum.accumulate(worse)).tolist()


def test_the_rate_is_cut_from_the_first_evaluation_without_improvement_on(tmp_path, monkeypatch):
    """Gehring et al. 2017, section 4.2; where no rate is left the run ends, long before its epochs do."""
    given = []

    def spy(opt_state, rate):
        given.append(float(rate))
        return with_rate(opt_state, rate)

    monkeypatch.setattr(loop, "with_rate", spy)
    _, progress = fit(tmp_path, [member()], ANNEALED, make=annealed)
    found = cuts(progress.history)
    assert given == [RATES[min(n, 2)] for n in found]
    assert [record["rate"] for record in progress.history] == [[rate] for rate in (RATES[0], *given[:-1])]
    assert found[0] == 0 and sorted(set(found)) == [0, 1, 2, 3] and found.count(3) == 1
    assert progress.stopped == [True] and progress.cuts == [3] and progress.step == 7 * len(found) < 7 * 30


def test_the_rate_is_cut_at_evaluations_without_improvement_alone(tmp_path):
    """As ESIM is trained: what improves in between costs no rate."""
    settings = dataclasses.replace(ANNEALED, rates=tuple(0.7**n for n in range(9)), cuts_go_on=False)
    _, progress = fit(tmp_path, [member()], settings, make=annealed)
    losses = [record["dev"][0]["loss"] for record in progress.history]
    worse = np.cumsum([n > 0 and loss >= min(losses[:n]) for n, loss in enumerate(losses)])
    rates = [record["rate"][0] for record in progress.history]
    np.testing.assert_allclose(rates, [0.7**n for n in (0, *worse[:-1])], rtol=1e-12)
    steps = np.diff(worse)
    assert 0 in steps[np.argmax(steps) :], "the loss improves after a cut"
    assert progress.cuts == [9] if progress.stopped == [True] else progress.cuts == [worse[-1]]


def test_a_cut_rate_is_that_of_the_steps_that_follow(tmp_path):
    """With 1e-30 after the first one nothing moves any more, which is no improvement."""
    settings = dataclasses.replace(ANNEALED, rates=(RATES[0], 1e-30))
    _, progress = fit(tmp_path, [member()], settings, make=annealed)
    losses = [record["dev"][0]["loss"] for record in progress.history]
    assert cuts(progress.history)[-3:] == [0, 1, 2] and losses[-1] == losses[-2]
    assert len(set(losses)) == len(losses) - 1


def test_each_replica_has_a_rate_of_its_own(tmp_path, annealed_members, annealed_together):
    """Together they go through what they go through in turn, and each stops when its rates run out."""
    together, progress = annealed_together
    assert all(progress.stopped) and progress.cuts == [3, 3] and len(set(progress.steps)) == 2
    ran = [cuts(progress.history, r) for r in range(2)]
    assert ran[0] != ran[1] and len(ran[0]) != len(ran[1])
    for r, one in enumerate(annealed_members):
        alone, its = fit(tmp_path / str(r), [one], ANNEALED, make=annealed)
        jax.tree.map(lambda a, b, r=r: np.testing.assert_allclose(a[r], b, rtol=1e-4, atol=1e-5), together, alone)
        assert (cuts(its.history), its.steps[0]) == (ran[r], progress.steps[r])
        assert (its.best_step[0] // (7, 6)[r], its.best[0]) == pytest.approx(
            (progress.best_step[r] // 7, progress.best[r])
        )


def test_resuming_between_cuts_is_exact(tmp_path, annealed_members, annealed_together):
    """Stopped within an epoch, at an evaluation that cuts a rate, and after it, when the replicas' rates differ."""
    wanted, whole = annealed_together
    first, second = (cuts(whole.history, r) for r in range(2))
    places = [7 * (n + 1) for n, (one, two) in enumerate(zip(first, second)) if one != two]
    at, stops = 0, [5, places[0], places[0] + 3, 7 * (first.index(2) + 1) + 1]
    for place in sorted(set(stops)):
        with pytest.raises(Stopped) as stopped:
            fit(tmp_path, annealed_members, ANNEALED, make=annealed, should_stop=stop_after(place - at))
        at = place
        assert stopped.value.step == place
    found, progress = fit(tmp_path, annealed_members, ANNEALED, make=annealed)
    assert_same(found, wanted)
    assert timeless(progress) == timeless(whole)


def test_a_checkpoint_of_a_version_that_counted_no_cuts_is_resumed(tmp_path, uninterrupted, monkeypatch):
    with pytest.raises(Stopped):
        fit(tmp_path, [member()], should_stop=stop_after(10))
    restore = Checkpoints.restore

    def older(checkpoints, template):
        step, arrays, record = restore(checkpoints, template)
        return step, arrays, {name: value for name, value in record.items() if name != "cuts"}

    monkeypatch.setattr(Checkpoints, "restore", older)
    found, progress = fit(tmp_path, [member()])
    assert_same(found, uninterrupted[1][0])
    assert timeless(progress) == timeless(uninterrupted[1][1])


def test_a_run_takes_its_rates_from_the_optimiser():
    run_config = wmt14_en_de.get_config()
    assert settings_of(run_config).rates == learning_rates(run_config.optimizer) and settings_of(run_config).rates
    assert settings_of(run_config).cuts_go_on and not settings_of(base.get_config()).cuts_go_on
    assert settings_of(base.get_config()).rates == ()
    run_config.train.average = 2
    with pytest.raises(ConfigError, match=r"^train\.average: a learning rate that is cut"):
        settings_of(run_config)


@pytest.mark.parametrize("metric", ["loss", "perplexity", "accuracy", "auc"])
def test_what_is_better(metric):
    """A lower loss or perplexity, a higher score of anything else; a tie is not."""
    lower, higher = better(metric, 5.0, 6.0), better(metric, 6.0, 5.0)
    assert (lower, higher) == ((True, False) if metric in ("loss", "perplexity") else (False, True))
    assert better(metric, 5.0, None) and not better(metric, 5.0, 5.0)


def test_the_best_parameters_are_kept_not_the_last(tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=8)
    variables, progress = fit(tmp_path, [member()], settings)
    made = trainer()
    one = member()
    (scores,) = made.evaluator.final(variables, [one.table], [one.splits])
    best = max(record["dev"][0]["accuracy"] for record in progress.history)
    assert scores["dev"]["accuracy"] == best == progress.best[0]


class Explodes(Classification):
    """Adds a loss that pulls the second bias upwards, and is NaN once it is above 0.05: after about ten steps."""

    def loss(self, variables, batch, key):
        total, (weight, changed) = super().loss(variables, batch, key)
        bias = variables["params"]["convolution_1_bias"][0]
        return total + weight * jnp.where(bias > 0.05, jnp.nan, -1.0) * bias, (weight, changed)


def test_nan_names_the_steps_and_the_parameter_and_keeps_the_last_good_checkpoint(tmp_path):
    make = functools.partial(trainer, task=Explodes(net(), 2))

    with pytest.raises(
        Diverged, match=r"between steps (\d+) and (\d+); first bad parameter: convolution_1_bias;"
    ) as error:
        fit(tmp_path, [member()], make=make)
    first, last = (int(word) for word in re.findall(r"steps (\d+) and (\d+)", str(error.value))[0])
    assert 7 < first <= last <= 15
    checkpoints = Checkpoints(tmp_path)
    assert 7 <= checkpoints.latest < first
    shapes = _Run.start(make(), SETTINGS, [member()], checkpoints)
    checkpoints.close()
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(shapes.state.params))


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    """Though its arrays have the same shapes; and nothing of it is touched."""
    arrays = {"w": jnp.arange(6.0)}
    open_as = lambda model: Checkpoints(tmp_path, model=model, warn=lambda line: pytest.fail(line))
    mine = open_as({"heads": 2, "sizes": (3, 4)})
    mine.save(4, arrays, {"epoch": 1})
    mine.close()
    for other in ({"heads": 4, "sizes": (3, 4)}, {"heads": 2, "sizes": (4, 3)}, {"heads": 2}, None):
        checkpoints = open_as(other)
        with pytest.raises(DataError, match=r"/4: a checkpoint of another architecture than this training's; put its"):
            checkpoints.restore(arrays)
        checkpoints.close()
    again = open_as({"heads": 2, "sizes": (3, 4)})
    step, found, record = again.restore(arrays)
    again.close()
    assert (step, record) == (4, {"epoch": 1})
    np.testing.assert_array_equal(found["w"], arrays["w"])


class NotDifferentiable(Classification):
    """Its loss is finite and its gradient is not: the parameters are NaN from the first step on."""

    def loss(self, variables, batch, key):
        total, (weight, changed) = super().loss(variables, batch, key)
        bias = variables["params"]["convolution_1_bias"][0]
        return total + 0.0 * jnp.sqrt(0.0 * bias), (weight, changed)


def test_nan_parameters_behind_a_finite_loss_are_never_selected(tmp_path):
    settings = dataclasses.replace(SETTINGS, eval_every=1)
    reporter = Silent()
    made = trainer(task=NotDifferentiable(net(), 2))
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(Diverged, match="between steps 1 and 1; first bad parameter: convolution_1_bias"):
        made.fit([member()], settings, checkpoints=checkpoints, reporter=reporter)
    checkpoints.close()
    assert reporter.records == []


class Blind(Classification):
    """It trains, and predicts nothing that is a number."""

    def predict(self, variables, batch):
        return jnp.nan * super().predict(variables, batch)


def test_predictions_that_are_no_numbers(tmp_path):
    with pytest.raises(Diverged, match=r"^NaN or infinity in the predictions of the dev split after step 7; try a sma"):
        fit(tmp_path, [member()], task=Blind(net(), 2))


def copies_of(folder, tmp_path, name):
    target = tmp_path / name
    shutil.copytree(folder, target)
    return target


@pytest.mark.parametrize("damage", ["truncate", "delete", "flip"])
def test_damaged_checkpoints_are_passed_over(tmp_path, uninterrupted, damage):
    """Whatever file of the newest checkpoint is damaged, the result is that of a run never interrupted."""
    origin = tmp_path / "origin"
    with pytest.raises(Stopped):
        fit(origin, [member()], should_stop=stop_after(16))
    newest = max((p for p in origin.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    files = [p.relative_to(origin) for p in newest.rglob("*") if p.is_file() and p.stat().st_size]
    # the largest ones and the one that leads to all data stand for all: each trial trains to the end
    manifest = newest.relative_to(origin) / "arrays" / "manifest.ocdbt"
    chosen = dict.fromkeys([*sorted(files, key=lambda p: -(origin / p).stat().st_size)[:4], manifest])
    assert len(files) >= 4 and manifest in files
    warned = []
    for number, file in enumerate(chosen):
        folder = copies_of(origin, tmp_path, f"trial_{number}")
        content = (folder / file).read_bytes()
        if damage == "delete":
            (folder / file).unlink()
        elif damage == "truncate":
            (folder / file).write_bytes(content[: len(content) // 2])
        else:
            middle = len(content) // 2
            (folder / file).write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
        variables, progress = fit(folder, [member()], warn=warned.append)
        assert_same(variables, uninterrupted[1][0])
        assert timeless(progress) == timeless(uninterrupted[1][1])
    assert any("damaged checkpoint" in line and str(newest.name) in line for line in warned)

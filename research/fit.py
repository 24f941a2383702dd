"""The one training loop of the repository: from members (replicas) to their best parameters, resumable at any step."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, UInt32

from research.batches import Lengths, Slots, Table, align, plan, prefetch
from research.checkpoints import Checkpoints
from research.errors import ConfigError
from research.evaluation import Evaluator
from research.optimizers import with_rate
from research.parallel import Placement
from research.tasks import better
from research.train import Sums, TrainState, init_state, train_step


@dataclasses.dataclass(frozen=True)
class Member:
    """One replica's share of a run: its seed, its examples as ids, which of them make up each split."""

    seed: tuple[int, ...]
    table: Table
    splits: dict[str, np.ndarray]
    vectors: np.ndarray | None = None

    def keys(self) -> tuple[UInt32[Array, "2"], UInt32[Array, "2"]]:
        """Keys of the initialisation and of dropout, as data: plain arrays go anywhere."""
        key = jax.random.key(self.seed[0])
        for part in self.seed[1:]:
            key = jax.random.fold_in(key, part)
        return tuple(jax.random.key_data(jax.random.split(key)))


@dataclasses.dataclass
class Progress:
    """Where a run stands, per replica where a list; saved with every checkpoint. In the history a replica that has
    stopped is None, and `rate` is that of the steps before an evaluation, where the run has `Settings.rates`.

    step counts places in the data order, steps the updates a replica has made (known at the end); examples and
    step_seconds are of the steps that did not compile, seconds is wall time with everything."""

    best: list[float | None]
    best_step: list[int]
    stale: list[int]
    cuts: list[int]  # of the learning rate
    stopped: list[bool]
    step: int = 0
    examples: int = 0
    step_seconds: float = 0.0
    seconds: float = 0.0
    history: list[dict] = dataclasses.field(default_factory=list)
    steps: list[int] = dataclasses.field(default_factory=list)

    @classmethod
    def start(cls, replicas: int) -> "Progress":
        return cls([None] * replicas, *([0] * replicas for _ in range(3)), [False] * replicas)


class Reporter(Protocol):
    """What a training run tells the program that started it."""

    def step(self, step: int, total: int, losses: list[float]) -> None: ...

    def evaluation(self, step: int, record: dict) -> None: ...


class Stopped(Exception):
    """Asked to stop; `step` is the checkpoint that holds everything up to here."""

    def __init__(self, step: int):
        super().__init__(f"stopped after step {step}")
        self.step = step


class Diverged(ConfigError):
    """Loss, parameters or predictions are NaN or infinite."""


SMALLER = "try a smaller optimizer.learning_rate"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How `Trainer.fit` goes: what no compiled function depends on, of `config.train` and `config.optimizer`.
    steps: ends sooner than all epochs, after so many; 0 for all epochs. batch_tokens: of a batch's longest column with
    its padding, instead of batch_size rows. eval_every: steps, 0 for once an epoch. patience: evaluations without
    improvement of `monitor` after which a replica stops, 0 for never. average: keep the mean of the parameters at that
    many last evaluations instead of the best; 0 for the best. rates: learning rates, of which a replica takes the next
    one at each evaluation without improvement, and stops where there is none; empty for the optimiser's own schedule.
    cuts_go_on: it takes the next one also at each evaluation after the first such, whether that improves or not.
    checkpoint_seconds: least time between saves."""

    epochs: int
    batch_size: int
    steps: int = 0
    batch_tokens: int = 0
    average: int = 0
    eval_every: int = 0
    patience: int = 0
    monitor: str = "accuracy"
    rates: tuple[float, ...] = ()
    cuts_go_on: bool = False
    log_every: int = 20
    checkpoint_seconds: float = 60.0

    def rows(self, bucket: Lengths) -> int:
        """Rows of a training batch."""
        return max(1, self.batch_tokens // max(size for _, size in bucket)) if self.batch_tokens else self.batch_size


def _kept(variables: PyTree) -> PyTree:
    """What differs from evaluation to evaluation: parameters and running moments, not tables that stay as they are."""
    return {name: x for name, x in variables.items() if name != "constants"}


def _leaders(decision: bool) -> bool:
    """The first host's decision: clocks differ, and a save is a matter of all hosts."""
    if jax.process_count() == 1:
        return decision
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.array(decision)))


class Trainer:
    """Compiled steps for one task, model and optimiser, and the loop that runs them over the members of a run."""

    def __init__(
        self,
        task,
        optimizer,
        buckets: Sequence[Lengths],
        placement: Placement,
        *,
        eval_batch_size: int,
        row_decay: float | None = None,
    ):
        """row_decay: see `train_step`; None updates whole tables in every step. What is made: `init(key, vectors)`, a
        replica's fresh state (vectors: see `init_state`), and `step`, by `Placement.compile_step`."""
        self.task, self.buckets, self.placement = task, tuple(buckets), placement
        self.evaluator = Evaluator(task, self.buckets, eval_batch_size, placement.replicas)

        def init(key, vectors):
            by_rows = row_decay is not None
            return init_state(task, optimizer, key, bucket=self.buckets[-1], vectors=vectors, by_rows=by_rows)

        def step(state, sums, key, batch):
            options = {"micro_batches": placement.parts, "axis_name": placement.axis_name}
            options |= {"task": task, "optimizer": optimizer, "row_decay": row_decay or 1.0}
            return train_step(state, sums, key, batch, **options)

        def keep(kept, params, share):
            """`kept` moved to `params` by `share` (of each replica): 1 takes them as they are."""

            def move(old, new):
                s = share.reshape(share.shape + (1,) * (new.ndim - share.ndim))
                return jnp.where(s == 1.0, new, jnp.where(s == 0.0, old, old + s * (new - old)))

            return jax.tree.map(move, kept, params)

        self.init = jax.jit(init)
        self.step = placement.compile_step(step)
        self._keep = jax.jit(keep, donate_argnums=0)
        self._finite = jax.jit(lambda params: jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), params))
        self._compiled: set[Lengths] = set()

    def fit(
        self,
        members: Sequence[Member],
        settings: Settings,
        *,
        checkpoints: Checkpoints,
        reporter: Reporter,
        should_stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> tuple[PyTree, Progress]:
        """Trains the members (as many as the placement has replicas), from the newest checkpoint if there is one.

        Returns the variables that were best on the dev split (or their average), and how it went. Raises Stopped, after
        saving, when `should_stop()`; Diverged on NaN or Inf, naming the steps and the first bad parameter."""
        placement = self.placement
        run = _Run.start(self, settings, members, checkpoints)
        tables = [m.table for m in members]
        table = None if placement.stream else placement.put(placement.stack(tables))
        keys = placement.put(placement.stack([m.keys()[1] for m in members]))
        per_epoch = self._epoch_length(settings, members)
        total = min(settings.epochs * per_epoch, settings.steps or math.inf)
        every, log = settings.eval_every or per_epoch, settings.log_every
        if settings.average > -(-total // every):
            raise ConfigError(
                f"train.average = {settings.average}: the run has only {-(-total // every)} evaluations to average over"
            )
        progress, saved, began = run.progress, clock(), clock() - run.progress.seconds

        def load(here: Sequence[Slots]):
            return here[0].bucket, int(sum(slot.weights.sum() for slot in here)), placement.load(tables, here)

        while progress.step < total and not all(progress.stopped):
            epoch, offset = divmod(progress.step, per_epoch)
            slots = [self._without(progress.stopped, here) for here in self._epoch(settings, members, epoch)[offset:]]
            last = clock()
            for bucket, examples, loaded in prefetch(iter(slots), load) if placement.stream else map(load, slots):
                run.previous = run.sums
                run.state, run.sums = self.step(run.state, run.sums, keys, table, loaded, bucket)
                progress.step += 1
                evaluated, logged = progress.step % every == 0 or progress.step == total, progress.step % log == 0
                if evaluated:  # waits for the device, and so belongs to the time of the steps
                    losses = run.check(self, run.sums, progress.step, parameters=True)
                now = clock()
                if bucket in self._compiled:  # a step that compiles is no measure of speed
                    progress.examples += examples
                    progress.step_seconds += now - last
                self._compiled.add(bucket)
                progress.seconds, last = now - began, now
                if logged and not evaluated:  # the step before has ended: reading it waits for nothing
                    reporter.step(progress.step, total, run.check(self, run.previous, progress.step - 1))
                if evaluated:
                    left = -(-(total - progress.step) // every)  # evaluations to come
                    self._select(run, members, epoch + 1, losses, left)
                    reporter.step(progress.step, total, losses)
                    reporter.evaluation(progress.step, progress.history[-1])
                stop = self._agreed(should_stop, progress.step)  # after the evaluation: a resume must not miss it
                due = (evaluated or logged) and _leaders(clock() - saved >= settings.checkpoint_seconds)
                if stop or due:
                    run.save(self, checkpoints)
                    saved = clock()
                if stop:
                    checkpoints.wait()
                    raise Stopped(progress.step)
                if evaluated:
                    break  # replicas may have stopped, and the epoch may be over
        progress.seconds = clock() - began
        run.save(self, checkpoints)  # who is stopped while the run is scored has lost nothing
        progress.steps = np.atleast_1d(jax.device_get(placement.take(run.state).step)).tolist()
        checkpoints.wait()
        fixed = {name: x for name, x in placement.take(run.state).constants.items() if name not in run.best}
        return {**run.best, **self.evaluator.placement.put(fixed)}, progress

    def _epoch_length(self, settings: Settings, members: Sequence[Member]) -> int:
        """Steps an epoch; ConfigError where replicas that train together could not be evaluated as if alone."""
        steps = {len(self._plan(settings, m, 0)) for m in members}
        if len(steps) > 1 and settings.eval_every:
            raise ConfigError(
                f"train.eval_every = {settings.eval_every}: folds of {min(steps)} and {max(steps)} steps an epoch "
                "train together; set it to 0 (once an epoch) or train.replicas_together=no"
            )
        return max(steps)

    def _epoch(self, settings: Settings, members: Sequence[Member], epoch: int) -> list[list[Slots]]:
        """The epoch's batches, one a replica at each place."""
        return align([self._plan(settings, m, epoch) for m in members])

    def _plan(self, settings: Settings, member: Member, epoch: int) -> list[Slots]:
        options = {"buckets": self.buckets, "rows": settings.rows, "seed": (*member.seed, epoch)}
        return plan(member.table.lengths, member.splits["train"], **options)

    @staticmethod
    def _without(stopped: Sequence[bool], here: Sequence[Slots]) -> list[Slots]:
        idle = lambda slots: dataclasses.replace(slots, weights=np.zeros_like(slots.weights))
        return [idle(slots) if stop else slots for stop, slots in zip(stopped, here)]

    @staticmethod
    def _agreed(should_stop: Callable[[], bool], step: int) -> bool:
        """`should_stop` on any host. Several hosts ask one another every 20 steps only, all at the same step."""
        if jax.process_count() == 1:
            return should_stop()
        if step % 20:
            return False
        from jax.experimental import multihost_utils

        return bool(np.any(multihost_utils.process_allgather(np.array(should_stop()))))

    def _select(
        self, run: "_Run", members: Sequence[Member], epoch: int, losses: list[float], evaluations_left: int
    ) -> None:
        """Evaluates the dev split, keeps what is best there, and stops replicas whose patience has run out. With
        `average`, keeps the mean over the last evaluations instead."""
        settings, progress = run.settings, run.progress
        current = self.placement.take(run.state)
        variables = (
            self.evaluator.placement.put(current.variables) if self.placement.mode == "pmap" else current.variables
        )
        found = self.evaluator.predict(variables, [m.table for m in members], [m.splits["dev"] for m in members])
        if not all(np.all(np.isfinite(one)) for one in found):
            raise Diverged(f"NaN or infinity in the predictions of the dev split after step {progress.step}; {SMALLER}")
        scores = [self.task.score(one, m.table.labels[m.splits["dev"]]) for one, m in zip(found, members)]
        shares, ended, used = [], list(progress.stopped), run.rates()
        place = settings.average - evaluations_left  # among the evaluations that are averaged
        for r, score in enumerate(scores):
            wins = better(settings.monitor, score[settings.monitor], progress.best[r]) or settings.average
            wins = wins and not progress.stopped[r]
            shares.append(float(wins) if not settings.average else 1.0 / place if place > 0 else 0.0)
            if wins:
                progress.best[r], progress.best_step[r], progress.stale[r] = score[settings.monitor], progress.step, 0
            elif not progress.stopped[r]:
                progress.stale[r] += 1
            begun = settings.cuts_go_on and progress.cuts[r] > 0
            progress.cuts[r] += not progress.stopped[r] and (progress.stale[r] > 0 or begun)
            progress.stopped[r] |= 0 < settings.patience <= progress.stale[r]
            progress.stopped[r] |= 0 < len(settings.rates) <= progress.cuts[r]
        if settings.rates:
            rates = run.rates()
            rates = self.placement.put(np.array(rates if self.placement.replicas > 1 else rates[0], np.float32))
            run.state = run.state.replace(opt_state=with_rate(run.state.opt_state, rates))
        share = np.array(shares if self.placement.replicas > 1 else shares[0], np.float32)
        run.best = self._keep(run.best, _kept(variables), share)
        run.sums = run.previous = self.no_sums()
        only = lambda values: [None if end else value for end, value in zip(ended, values)]
        record = {"step": progress.step, "epoch": epoch, "train_loss": only(losses), "dev": only(scores)}
        progress.history.append(record | ({"rate": only(used)} if settings.rates else {}))

    def no_sums(self) -> Sums:
        """Of no steps, for each replica."""
        shape = () if self.placement.replicas == 1 else (self.placement.replicas,)
        return self.placement.put({"loss": np.zeros(shape, np.float32), "weight": np.zeros(shape, np.float32)})


@dataclasses.dataclass
class _Run:
    """A group of replicas in training: device state, the sums one step back, and where it stands."""

    settings: Settings
    state: TrainState
    best: PyTree
    sums: Sums
    previous: Sums
    progress: Progress
    checked: int

    @classmethod
    def start(cls, trainer: Trainer, settings: Settings, members: Sequence[Member], checkpoints: Checkpoints) -> "_Run":
        placement = trainer.placement
        state = placement.stack([trainer.init(m.keys()[0], m.vectors) for m in members])
        best = trainer.evaluator.placement.put(jax.tree.map(jnp.copy, _kept(state.variables)))
        state, sums, progress = placement.put(state), trainer.no_sums(), Progress.start(len(members))
        template = {"state": placement.take(state), "best": best, "sums": placement.take(sums)}
        if (restored := checkpoints.restore(template)) is not None:
            _, arrays, record = restored
            state, best, sums = placement.put(arrays["state"]), arrays["best"], placement.put(arrays["sums"])
            progress = Progress(**dataclasses.asdict(progress) | record)  # an older version's record may lack a field
        return cls(settings, state, best, sums, sums, progress, progress.step)

    def save(self, trainer: Trainer, checkpoints: Checkpoints) -> None:
        self.check(trainer, self.sums, self.progress.step, parameters=True)
        take = trainer.placement.take
        arrays = {"state": take(self.state), "best": self.best, "sums": take(self.sums)}
        checkpoints.save(self.progress.step, arrays, dataclasses.asdict(self.progress))

    def rates(self) -> list[float]:
        """Each replica's learning rate, after the cuts it has had; empty where the optimiser has its own schedule."""
        rates = self.settings.rates
        return [rates[min(cuts, len(rates) - 1)] for cuts in self.progress.cuts] if rates else []

    def check(self, trainer: Trainer, sums: Sums, step: int, parameters: bool = False) -> list[float]:
        """Mean training loss a replica since the last evaluation, up to `step`; Diverged unless all is finite."""
        host = jax.device_get(trainer.placement.take(sums))
        losses = np.atleast_1d(host["loss"]) / np.maximum(np.atleast_1d(host["weight"]), 1.0)
        if not np.all(np.isfinite(losses)) or parameters:
            params = trainer.placement.take(self.state).params
            fine = jax.device_get(trainer._finite(params))
            bad = [
                jax.tree_util.keystr(path, simple=True, separator=".")
                for path, ok in jax.tree_util.tree_leaves_with_path(fine)
                if not ok
            ]
            if bad or not np.all(np.isfinite(losses)):
                raise Diverged(
                    f"NaN or infinity between steps {self.checked + 1} and {step}; first bad parameter: "
                    f"{bad[0] if bad else 'none, the loss itself'}; {SMALLER}"
                )
        self.checked = step
        return [float(x) for x in losses]

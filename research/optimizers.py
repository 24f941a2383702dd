"""Each paper's optimiser and schedule as Optax transformations, and the step that touches only the rows a batch uses.

Kim 2014 trains with Adadelta (section 3.1) and rescales the softmax layer's weight vectors to norm s after every step
(section 2.1). An embedding table's gradient is zero outside the batch's words, and Adadelta leaves an element with zero
gradient where it is: its update is √(E[Δx²] + ε) / √(E[g²] + ε) · 0, and both accumulators just decay by ρ. So a step
may run on the touched rows alone, after their accumulators have caught up with the steps they missed (ρ^missed), and
the result is the dense step's. Adam has no such identity: its moments keep moving idle rows.
"""

import math

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from research.errors import ConfigError, check_fields

TABLE = "embedding"
"""Name of a parameter or constant that is looked up by token id, one row an id."""


def max_norm(limit: float, module: str = "softmax") -> optax.GradientTransformation:
    """Rescales each output unit's weight vector w of `module` to ‖w‖₂ = limit whenever the step leaves ‖w‖₂ > limit."""

    def constrain(path, update, param):
        if [key.key for key in path[-2:]] != [module, "kernel"]:
            return update
        stepped = param + update
        norms = jnp.linalg.norm(stepped, axis=0, keepdims=True)
        return stepped * (limit / jnp.maximum(norms, limit)) - param

    def update(updates, state, params):
        return jax.tree_util.tree_map_with_path(constrain, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


FIELDS = {
    "adadelta": ("learning_rate", "rho", "epsilon", "max_norm", "by_rows"),
    "adam": ("learning_rate", "beta1", "beta2", "epsilon", "warmup", "clip_norm", "anneal", "least_rate"),
    "nesterov": ("learning_rate", "momentum", "clip_norm", "anneal", "least_rate"),
}
"""What `config.optimizer` must have beside each `name`."""


def make_optimizer(config, d_model: int = 1) -> optax.GradientTransformation:
    """The transformation of `config.optimizer`; ConfigError where a field cannot be. d_model: of the model, for the
    schedule."""
    if config.name not in FIELDS:
        raise ConfigError(f"optimizer.name: '{config.name}' is none of {', '.join(FIELDS)}")
    has = next((name for name, fields in FIELDS.items() if all(field in config for field in fields)), "no optimiser")
    hint = f"; this configuration has those of {has}"
    check_fields(config, ("name", *FIELDS[config.name]), f"optimizer.name = {config.name}", "optimizer", hint)
    for name, value in config.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"optimizer.{name} must be a finite number, got {value}")
    for name in ("learning_rate", "epsilon"):
        if name in config and not config[name] > 0.0:
            raise ConfigError(f"optimizer.{name} must be above 0, got {config[name]}")
    if config.name == "nesterov":
        return _nesterov(config)
    return _adadelta(config) if config.name == "adadelta" else _adam(config, d_model)


def _adadelta(config) -> optax.GradientTransformation:
    """Kim 2014, sections 2.1 and 3.1."""
    if not 0.0 < config.rho < 1.0:
        raise ConfigError(f"optimizer.rho must lie between 0 and 1, got {config.rho}")
    if config.max_norm < 0.0:
        raise ConfigError(f"optimizer.max_norm must be 0 (none) or above, got {config.max_norm}")
    step = optax.adadelta(config.learning_rate, rho=config.rho, eps=config.epsilon)
    return optax.chain(step, max_norm(config.max_norm)) if config.max_norm else step


def row_decay(config) -> float | None:
    """Factor by which the accumulators of an idle table row shrink a step, where `config.optimizer` asks for updates of
    the touched rows alone (`by_rows`); None where every step updates whole tables."""
    return config.rho if config.name == "adadelta" and config.by_rows else None


def inverse_square_root(learning_rate: float, d_model: int, warmup: int) -> optax.Schedule:
    """learning_rate · d_model^-0.5 · min(step^-0.5, step · warmup^-1.5), with steps counted from 1: equation 3 of
    Vaswani et al. 2017, times a factor."""

    def schedule(count: Int[Array, ""]) -> Float[Array, ""]:
        step = count + 1.0
        return learning_rate * d_model**-0.5 * jnp.minimum(step**-0.5, step * warmup**-1.5)

    return schedule


def _adam(config, d_model: int) -> optax.GradientTransformation:
    """Vaswani et al. 2017, section 5.3; `warmup` = 0 keeps the learning rate as it is, or leaves it to `anneal`."""
    for name in ("beta1", "beta2"):
        if not 0.0 <= config[name] < 1.0:
            raise ConfigError(f"optimizer.{name} must lie in [0, 1), got {config[name]}")
    if config.warmup < 0 or config.clip_norm < 0.0:
        raise ConfigError("optimizer.warmup and optimizer.clip_norm must be at least 0")
    if config.warmup and config.anneal:
        raise ConfigError("optimizer.warmup and optimizer.anneal are two schedules; set one of them to 0")

    def make(learning_rate) -> optax.GradientTransformation:
        step = optax.adam(learning_rate, b1=config.beta1, b2=config.beta2, eps=config.epsilon)
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), step) if config.clip_norm else step

    if config.warmup:
        return make(inverse_square_root(config.learning_rate, d_model, config.warmup))
    return _annealed(make, config) if config.anneal else make(config.learning_rate)


def _nesterov(config) -> optax.GradientTransformation:
    """Gehring et al. 2017, section 4.2: gradients renormalised to `clip_norm` where their norm exceeds it, then
    Nesterov's accelerated gradient."""
    if not 0.0 <= config.momentum < 1.0:
        raise ConfigError(f"optimizer.momentum must lie in [0, 1), got {config.momentum}")
    if not config.clip_norm > 0.0:
        raise ConfigError(f"optimizer.clip_norm must be above 0, got {config.clip_norm}")

    def make(learning_rate) -> optax.GradientTransformation:
        step = optax.sgd(learning_rate, momentum=config.momentum, nesterov=True)
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), step)

    return _annealed(make, config)


def _annealed(make, config) -> optax.GradientTransformation:
    """`make(learning_rate)` with the rate as part of the state, so that `with_rate` can change it."""
    if not config.least_rate > 0.0:
        raise ConfigError(f"optimizer.least_rate must be above 0, got {config.least_rate}")
    if not 0.0 < config.anneal < 1.0:
        raise ConfigError(f"optimizer.anneal must lie between 0 and 1, got {config.anneal}")
    if config.least_rate > config.learning_rate:
        raise ConfigError(f"optimizer.least_rate = {config.least_rate} is more than learning_rate")
    cuts = (math.log(config.least_rate) - math.log(config.learning_rate)) / math.log(config.anneal)
    if cuts > 1000:
        raise ConfigError(f"optimizer.anneal = {config.anneal} makes {cuts:.0f} cuts to least_rate; 1000 may be")
    return optax.inject_hyperparams(make)(learning_rate=config.learning_rate)


def learning_rates(config) -> tuple[float, ...]:
    """The rates that a run goes through, one after another, as the dev split stops improving: `learning_rate` times
    `anneal`, and again, as long as it is not below `least_rate`. Empty for schedules by steps."""
    if not config.get("anneal", 0.0):
        return ()
    rates = [config.learning_rate]
    while (cut := rates[-1] * config.anneal) >= config.least_rate:
        rates.append(cut)
    return tuple(rates)


def cuts_go_on(config) -> bool:
    """Whether a rate that has been cut once is cut at every further evaluation (Gehring et al. 2017, section 4.2: "we
    reduce the learning rate by an order of magnitude after each epoch"), or only at those without improvement."""
    return config.name == "nesterov"


def with_rate(opt_state: PyTree, rate: Float[Array, "..."]) -> PyTree:
    """The state of an optimiser that keeps its learning rate there, with another one."""
    return opt_state._replace(hyperparams=opt_state.hyperparams | {"learning_rate": rate})


def _is_table(path) -> bool:
    return getattr(path[-1], "key", None) == TABLE


def touched_rows(tokens: Int[Array, "..."], vocab_size: int) -> Int[Array, " rows"]:
    """The distinct ids in `tokens` in order, filled up with `vocab_size` to a static number."""
    return jnp.unique(tokens, size=min(tokens.size, vocab_size), fill_value=vocab_size)


def gather_rows(tree: PyTree, rows: Int[Array, " rows"], decay: Float[Array, " rows"] | float = 1.0) -> PyTree:
    """`tree` with every table cut to `rows`, times `decay`; out-of-range rows read zero."""
    take = lambda table: table.at[rows].get(mode="fill", fill_value=0.0) * jnp.expand_dims(decay, -1)
    return jax.tree_util.tree_map_with_path(lambda path, x: take(x) if _is_table(path) else x, tree)


def scatter_rows(tree: PyTree, small: PyTree, rows: Int[Array, " rows"]) -> PyTree:
    """`tree` with the tables' `rows` and all other leaves taken from `small`."""
    put = lambda table, new: table.at[rows].set(new, mode="drop", unique_indices=True)
    return jax.tree_util.tree_map_with_path(lambda path, x, new: put(x, new) if _is_table(path) else new, tree, small)

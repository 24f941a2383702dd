"""The engine of every paper's ablation study: a baseline, variants that change one field of it, and seeds.

A cell is one run of one variant with one seed, in `W/<variant>/seed_<k>`. The tables are made from the cells that lie
in W, so a study may grow by variants and seeds over several commands, and an interrupted one goes on where it stopped.
"""

import difflib
import fnmatch
import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments import cli
from experiments.files import read_json, write_json, write_text
from experiments.statistics import holm, paired_difference, summary
from experiments.tables import ablation_table, headline_split, time_text
from research.errors import ConfigError

BASELINE = "baseline"
# The study sets these: a cell is one seed, so that the seeds of two variants can be paired.
OWN_FIELDS = ("seed", "replicas")

Axes = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Axis -> variant -> {field: value}."""


def translation_axes(beams: Sequence[int]) -> dict[str, dict]:
    """What the studies of translation have in common."""
    return {
        "dropout": {f"dropout_{rate:g}": {"model.dropout": rate} for rate in (0.0, 0.1, 0.2)},
        "label smoothing": {f"smoothing_{rate:g}": {"train.label_smoothing": rate} for rate in (0.0, 0.1, 0.2)},
        "beam": {f"beam_{size}": {"decode.beam": size} for size in beams},
        "training pairs": {f"train_{share:g}": {"data.train_fraction": share} for share in (0.125, 0.25, 0.5)},
    }


@dataclass(frozen=True)
class Study:
    """What a paper's file in `experiments/ablations` declares.

    Args:
        paper: its short name.
        config: path of the baseline configuration.
        axes: the baseline with its overrides -> axes. Every variant changes one field.
        metric: compared on the test split (dev where there is none), unless --metric names another.
        also: (split, metric) of further columns of the table, without a comparison.
        linked: sets of fields that mean something only together, such as a pooling and its k, and count as one.
        needs: variant -> a field that must be set in the baseline for the variant to make sense.
        examples: arguments that --help shows besides the ones that every study has.
    """

    paper: str
    config: str
    axes: Callable[[ConfigDict], Axes]
    metric: str = "accuracy"
    also: tuple[tuple[str, str], ...] = ()
    linked: tuple[frozenset[str], ...] = ()
    needs: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[str, ...] = ()

    def resolve(self, baseline: ConfigDict) -> Axes:
        """The axes around a baseline, with what a study promises checked."""
        axes = self.axes(baseline)
        names = [name for variants in axes.values() for name in variants]
        assert len(set(names)) == len(names) and BASELINE not in names, "the names of variants must differ"
        assert set(self.needs) <= set(names), "needs names a variant that does not exist"
        for variants in axes.values():
            for name, change in variants.items():
                assert len(change) == 1 or frozenset(change) in self.linked, f"{name} changes more than one field"
        return axes


@dataclass(frozen=True)
class Variant:
    """One variant against one baseline; `changes` is {field: [baseline's value, its own]} without equal ones."""

    axis: str
    overrides: list[str]
    changes: dict[str, list]
    missing: str = ""


@dataclass(frozen=True)
class Plan:
    """A study with its baseline resolved: `fields` holds every field of the baseline by dotted name."""

    study: Study
    config: str
    overrides: list[str]
    metric: str
    fields: dict[str, Any]
    variants: dict[str, Variant]

    def cell(self, name: str, seed: int) -> list[str]:
        """The overrides of one cell."""
        return [*self.overrides, *self.variants[name].overrides, "replicas=1", f"seed={seed}"]


def fields_of(config: ConfigDict) -> dict[str, Any]:
    """Every field of a configuration by dotted name, with values as JSON gives them back (lists for tuples)."""
    return json.loads(json.dumps(cli.flatten(config)))


def make_plan(study: Study, config: str, overrides: Sequence[str], metric: str = "") -> Plan:
    """Resolves the baseline and every variant, so that a field that does not exist ends the study before it starts.
    metric: empty for the study's.

    Raises:
        ConfigError: an override cannot be applied, or sets what the study sets itself; the baseline is another paper's.
    """
    for override in overrides:
        if override.split("=")[0] in OWN_FIELDS:
            raise ConfigError(f"--config.{override}: a study sets {' and '.join(OWN_FIELDS)} itself; use --seeds N")
    baseline = cli.load_config(config, overrides)
    if baseline.get("paper") != study.paper:
        raise ConfigError(f"--config {config}: of paper '{baseline.get('paper')}', but the study is of {study.paper}")
    fields = fields_of(baseline)
    variants = {BASELINE: Variant("", [], {})}
    for axis, members in study.resolve(baseline).items():
        for name, change in members.items():
            own = [f"{key}={_text(value)}" for key, value in change.items()]
            try:
                values = fields_of(cli.load_config(config, [*overrides, *own]))
            except ConfigError as error:
                raise ConfigError(f"--config {config}: the study's variant {name} does not fit it: {error}") from error
            changes = {key: [fields[key], values[key]] for key in fields if fields[key] != values[key]}
            needed = study.needs.get(name, "")
            variants[name] = Variant(axis, own, changes, needed if needed and not fields[needed] else "")
    fields = {key: value for key, value in fields.items() if key not in OWN_FIELDS}
    return Plan(study, config, list(overrides), metric or study.metric, fields, variants)


def _text(value: Any) -> str:
    """A value as the command line takes it: 1,2 as well as (1, 2),(3, 4), and ((1, 2),), which is no (1, 2)."""
    if isinstance(value, tuple) and not (len(value) == 1 and isinstance(value[0], tuple)):
        return ",".join(map(str, value))
    return str(value)


def select(plan: Plan, patterns: str) -> list[str]:
    """Names of the variants to run, in the study's order: all that can be, or those of a comma-separated list.

    Raises:
        ConfigError: a name or pattern (`dropout_*`) matches nothing, or names a variant that cannot be run.
    """
    possible = [name for name, v in plan.variants.items() if name != BASELINE and v.changes and not v.missing]
    if not patterns:
        return possible
    chosen = set()
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        found = fnmatch.filter(plan.variants, pattern)
        if not found:
            nearest = difflib.get_close_matches(pattern, plan.variants, 1, 0.0)[0]
            raise ConfigError(
                f"--variants: there is no '{pattern}' (nearest: {nearest}); there are {', '.join(plan.variants)}"
            )
        variant = plan.variants[found[0]]
        if found == [pattern] and variant.missing:
            raise ConfigError(f"--variants: {pattern} needs a baseline with {variant.missing} (--help has an example)")
        if found == [pattern] and pattern != BASELINE and not variant.changes:
            raise ConfigError(f"--variants: {pattern} is what the baseline already does; leave it out")
        chosen.update(found)
    return [name for name in possible if name in chosen]


def check_workdir(plan: Plan, workdir: Path) -> None:
    """Refuses a folder whose cells were run against another baseline or under another definition of a variant.

    Raises:
        ConfigError: naming the differing fields.
    """
    path = workdir / "ablation.json"
    begun = any(workdir.glob("*/seed_*"))
    if not path.exists():
        if begun:
            raise ConfigError(f"{workdir} holds cells but no ablation.json to say of what; choose another --workdir")
        return
    old = read_json(path, ("metric", "baseline", "rows"))
    if old["rows"] and old["metric"] != plan.metric:  # without rows, its first cell may have lacked the metric
        raise ConfigError(f"{workdir} holds a study of {old['metric']}, not {plan.metric}; choose another one")
    if not old["rows"] and not begun:
        return  # its baseline was refused before the first cell began
    differing = [
        f"{key} ({old['baseline'].get(key, 'absent')} there, {plan.fields.get(key, 'absent')} here)"
        for key in sorted(old["baseline"].keys() | plan.fields.keys())
        if old["baseline"].get(key) != plan.fields.get(key)
    ]
    for row in old["rows"]:
        known = plan.variants.get(row["variant"])
        if known is None or known.changes != row["changes"]:
            differing.append(f"variant {row['variant']}")
    if differing:
        raise ConfigError(f"{workdir} holds cells of another study: {', '.join(differing)}; choose another --workdir")


def finished(plan: Plan, workdir: Path) -> dict[str, dict[int, dict]]:
    """The results that lie in a study's folder: variant -> seed -> result, both in order."""
    cells: dict[str, dict[int, dict]] = {}
    for name in plan.variants:
        found = {p.parent.name.removeprefix("seed_"): p for p in workdir.glob(f"{name}/seed_*/result.json")}
        paths = {int(seed): path for seed, path in found.items() if seed.isdigit()}
        if paths:
            needed = ("metrics", "params", "seconds", "data", "environment")
            cells[name] = {seed: read_json(paths[seed], needed) for seed in sorted(paths)}
    return cells


def collect(plan: Plan, cells: Mapping[str, Mapping[int, dict]], workdir: Path) -> dict:
    """The content of `ablation.json`: one row a variant with its summary and its difference from the baseline over
    the seeds that both have, p-values corrected over the whole study.

    Raises:
        ConfigError: a cell has no such metric; the message lists those that it has.
    """
    metric, rows, split = plan.metric, [], None
    values: dict[str, dict[int, float]] = {}
    for name, results in cells.items():
        for seed, result in results.items():
            split = headline_split(result["metrics"])
            if metric not in (known := result["metrics"][split]):
                raise ConfigError(
                    f"--metric {metric}: {name}, seed {seed} has none on split {split}; it has {', '.join(known)}"
                )
            values.setdefault(name, {})[seed] = result["metrics"][split][metric]["mean"]
        common = sorted(values[name].keys() & values.get(BASELINE, {}).keys())
        compared = {"difference": None, "ci95": None, "p": None, "n": 0}
        if name != BASELINE and common:
            compared = paired_difference(*([values[which][seed] for seed in common] for which in (name, BASELINE)))
        rows.append(
            {
                "variant": name,
                "axis": plan.variants[name].axis,
                "changes": plan.variants[name].changes,
                "seeds": list(results),
                "value": summary(values[name].values()),
                **compared,
                "also": _also(plan.study, results),
                "params": next(iter(results.values()))["params"],
                "seconds": sum(result["seconds"] for result in results.values()) / len(results),
            }
        )
    corrected = holm({row["variant"]: row["p"] for row in rows})
    any_result = next((r for results in cells.values() for r in results.values()), {"data": {}, "environment": {}})
    return {
        "paper": plan.study.paper,
        "config": plan.config,
        "overrides": plan.overrides,
        "command": _command(plan, cells, workdir),
        "metric": metric,
        "split": split,
        "baseline": plan.fields,
        "rows": [row | {"p_holm": corrected[row["variant"]]} for row in rows],
        "data": any_result["data"],
        "environment": any_result["environment"],
    }


def _also(study: Study, results: Mapping[int, dict]) -> dict[str, dict[str, dict]]:
    """Split -> metric -> its summary over the seeds, of what the study wants to show and the cells have."""
    found: dict[str, dict[str, dict]] = {}
    for split, metric in study.also:
        if all(metric in result["metrics"].get(split, {}) for result in results.values()):
            means = [result["metrics"][split][metric]["mean"] for result in results.values()]
            found.setdefault(split, {})[metric] = summary(means)
    return found


def _command(plan: Plan, cells: Mapping[str, Mapping[int, dict]], workdir: Path) -> str:
    """The command that makes the cells, in a folder of the same name below `runs`."""
    words = ["python", "-m", f"experiments.ablations.{plan.study.paper}"]
    words += ["--workdir", f"runs/{workdir.resolve().name}"]
    words += ["--config", plan.config] if plan.config != plan.study.config else []
    words += ["--metric", plan.metric] if plan.metric != plan.study.metric else []
    chosen = [name for name in cells if name != BASELINE]
    words += ["--variants", ",".join(chosen)] if chosen and chosen != select(plan, "") else []
    words += ["--seeds", str(max((len(results) for results in cells.values()), default=1))]
    return shlex.join(words + [f"--config.{override}" for override in plan.overrides])


def write_study(plan: Plan, workdir: Path) -> None:
    """Writes `ablation.json`, and once there are cells `ablation.md` and `ablation.png`."""
    from experiments.plots import ablation_plot

    study = collect(plan, finished(plan, workdir), workdir)
    write_json(workdir / "ablation.json", study)
    if study["rows"]:
        table = f"# Ablations of {plan.study.paper}\n\n{ablation_table(study)}"
        write_text(workdir / "ablation.md", table)
        part = workdir / ".ablation.part.png"  # whose suffix tells Matplotlib the format
        ablation_plot(study, part)
        part.replace(workdir / "ablation.png")


def run_study(
    plan: Plan, names: Sequence[str], seeds: int, workdir: Path, run_cell: Callable[[list[str], Path], dict]
) -> None:
    """Runs the cells that are not finished, seed by seed, so that a study cut short is a study with fewer seeds.

    Args:
        plan: the resolved study.
        names: variants to run besides the baseline.
        seeds: every variant runs with the seeds 0 to seeds - 1.
        workdir: the study's folder.
        run_cell: trains one cell, given its overrides and folder, or resumes it; returns its result.

    Raises:
        ConfigError: the folder is another study's, or a cell (the message names it) cannot be configured or has no such
            metric.
    """
    check_workdir(plan, workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--workdir {workdir}: cannot be made ({error.strerror}); choose another") from error
    write_study(plan, workdir)
    cells = [(name, seed) for seed in range(seeds) for name in (BASELINE, *names)]
    done = finished(plan, workdir)
    left = [(name, seed) for name, seed in cells if seed not in done.get(name, {})]
    if len(left) < len(cells):
        print(f"{len(cells) - len(left)} of {len(cells)} cells were finished before", flush=True)
    start = time.monotonic()
    try:
        for position, (name, seed) in enumerate(left, 1):
            try:
                result = run_cell(plan.cell(name, seed), workdir / name / f"seed_{seed}")
            except ConfigError as error:
                raise ConfigError(f"{name}, seed {seed}: {error}") from error
            write_study(plan, workdir)
            split = headline_split(result["metrics"])
            value = result["metrics"][split][plan.metric]["mean"]
            remaining = (time.monotonic() - start) / position * (len(left) - position)
            print(
                f"[{len(cells) - len(left) + position}/{len(cells)}] {name} seed {seed}: {split} {plan.metric} "
                f"{value:.2f}, {time_text(result['seconds'])}; about {time_text(remaining)} left",
                flush=True,
            )
    except KeyboardInterrupt as error:
        raise cli.Interrupted(f"stopped; finished cells are kept in {workdir}, the same command goes on") from error


def listing(plan: Plan) -> str:
    """One line a variant: its name, what it changes, and why it would not run."""
    lines = [f"{BASELINE}  {plan.config} {' '.join(plan.overrides)}".rstrip()]
    width = max(map(len, plan.variants))
    members = [(name, variant) for name, variant in plan.variants.items() if name != BASELINE]
    for axis, group in groupby(members, key=lambda member: member[1].axis):
        lines.append(f"{axis}:")
        for name, variant in group:
            why = f" (needs --config.{variant.missing}=VALUE)" if variant.missing else ""
            why = why or ("" if variant.changes else " (as the baseline: not run)")
            lines.append(f"  {name:{width}}  {' '.join(variant.overrides)}{why}")
    return "\n".join(lines)


def command(study: Study, argv: Sequence[str], run: Callable[..., dict] | None = None) -> None:
    """The command line of a study. `run` trains one cell; by default `experiments.run.run`."""
    program = f"ablations.{study.paper}"
    name = f"python -m experiments.{program}"
    parser = cli.parser(
        program,
        f"Ablations of {study.paper}: the baseline and variants of it, each a change of one field, times seeds.",
        f"""examples:
  {name} --list
  {name} --workdir runs/{study.paper}_ablation
  {name} --workdir runs/{study.paper}_ablation --seeds 3
  {name} --workdir runs/short --config.train.epochs=5
{"".join(f"  {name} {line}{chr(10)}" for line in study.examples)}
Run the same command again to go on after an interruption: finished cells are skipped. More seeds or variants may
be added in the same folder. --config.FIELD=VALUE changes a field of the baseline, and so of every variant.""",
    )
    parser.add_argument("--workdir", type=Path, help="folder of the study: cells, ablation.json, .md and .png")
    parser.add_argument("--config", default=study.config, help="baseline configuration (default: %(default)s)")
    parser.add_argument("--variants", default="", help="comma-separated names or patterns, as 'x_*' (default: all)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1 of every variant (default: 5)")
    parser.add_argument("--metric", default=study.metric, help="metric to compare (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="print the variants and end")
    rest, overrides = cli.split_overrides(argv)
    args = parser.parse_args(rest)
    if args.seeds < 1:
        raise ConfigError(f"--seeds: {args.seeds} is below 1")
    plan = make_plan(study, args.config, overrides, args.metric)
    if args.list:
        print(listing(plan))
        return
    if args.workdir is None:
        raise ConfigError("--workdir is missing: the folder that is to hold the study")
    names = select(plan, args.variants)
    needy = [name for name, variant in plan.variants.items() if variant.missing]
    if needy and not args.variants:
        print(f"not run, as the baseline lacks what they need (see --list): {', '.join(needy)}", flush=True)
    if run is None:
        from experiments.run import check, run

        cli.set_up_jax()
        for cell in names:  # said now, not after hours of the cells before it
            try:
                check(cli.load_config(args.config, plan.cell(cell, 0)))
            except ConfigError as error:
                print(f"{cell} cannot be run and will end the study there: {error}", flush=True)

    def run_cell(cell: list[str], workdir: Path) -> dict:
        cli.release_compiled()
        return run(args.config, cell, workdir, data_dir=args.data_dir, manual_dir=args.manual_dir, quiet=True)

    run_study(plan, names, args.seeds, args.workdir, run_cell)
    print(f"{args.workdir / 'ablation.md'}: the table; ablation.png beside it: the plot")


def main(study: Study) -> None:
    """Runs `command` on the process's arguments and exits with its code."""
    cli.main(partial(command, study))

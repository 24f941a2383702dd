"""The two mistakes a user can make. The programs turn each into one line on standard error and an exit code."""

import difflib
from collections.abc import Collection, Mapping


class ConfigError(ValueError):
    """The command or the configuration asks for something that cannot be run (exit code 2)."""


class DataError(ValueError):
    """A corpus, word-vector file, checkpoint or input text is missing or malformed (exit code 3).

    The message names the file and, where there is one, the line, and says what to do about it.
    """


def nearest(name: str, known: Collection[str]) -> str:
    """`; did you mean …?`, by the whole dotted name or by its last part, or nothing."""
    found = difflib.get_close_matches(name, known, 3, 0.6)
    last = name.rpartition(".")[2]
    found += [k for k in known if k.rpartition(".")[2] == last and k not in found]
    return f"; did you mean {' or '.join(found[:3])}?" if found else ""


def check_fields(
    given: Collection[str],
    wanted: Collection[str],
    where: str,
    section: str = "",
    hint: str = ", which the configuration does not have",
) -> None:
    """ConfigError where the fields of a configuration, or of its `section`, are not the ones `wanted`. where: what
    wants them, for the message; hint: ends it where one is missing."""
    given, wanted = ([f"{section}.{name}".lstrip(".") for name in names] for names in (given, sorted(wanted)))
    if missing := [name for name in wanted if name not in given]:
        raise ConfigError(f"{where} needs {', '.join(missing)}{hint}")
    if unknown := [name for name in given if name not in wanted]:
        raise ConfigError(f"{where} has no field {unknown[0]}{nearest(unknown[0], wanted)}")


def check_choices(model: Mapping[str, str], choices: Mapping[str, Collection[str]]) -> None:
    """ConfigError where a field of a configuration's `model` is none of its choices."""
    for name, known in choices.items():
        if model[name] not in known:
            raise ConfigError(f"model.{name}: '{model[name]}' is none of {', '.join(known)}")


def check_sizes(model: Mapping[str, int], *names: str) -> None:
    """ConfigError where one of these fields of a configuration's `model` is below 1."""
    for name in names:
        if model[name] < 1:
            raise ConfigError(f"model.{name} must be at least 1, got {model[name]}")


def check_dropout(rate: float) -> None:
    """ConfigError where a configuration's `model.dropout` cannot be."""
    if not 0.0 <= rate < 1.0:
        raise ConfigError(f"model.dropout is the share dropped, from 0 to below 1, got {rate}")

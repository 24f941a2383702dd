"""What all programs share: flags, configuration files and overrides, exit codes, signals, the process's settings."""

import argparse
import ast
import atexit
import contextlib
import ctypes
import errno
import functools
import itertools
import os
import re
import runpy
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from ml_collections import ConfigDict

from configs.defaults import defaults, matching_defaults, translation_defaults
from research.errors import ConfigError, DataError, check_fields, nearest

DONE, BAD_CONFIG, BAD_DATA, INTERRUPTED = 0, 2, 3, 75

EXIT_CODES = """exit codes:
  0 done   2 bad usage or configuration   3 bad or missing data   75 interrupted; a run or a study has saved and goes on
  where it stopped when it is started again   130 ended at once by a second Ctrl-C"""

OVERRIDES = """overrides:
  --config.SECTION.FIELD=VALUE replaces a field of the configuration, for example
    --config.train.epochs=3  --config.model.kernel_sizes=2,3,4  --config.data.corpus=glue/sst2
    --config.data.buckets="(12,10),(24,20)"  --config.data.more_tests=test_2017_flickr,test_2018_flickr
  configs/defaults.py explains the fields that all runs have, research/<paper>.py those of the model,
  research/optimizers.py those of the optimiser."""


COLUMN_WISE = ("data.buckets",)  # an entry of these may also be a tuple: a number for each text column
LAYERS = ("model.encoder", "model.decoder")  # an entry of these is 9*512x3, or a pair of channels and kernel width

# a word that nothing quotes, such as the name of a split
_BARE = re.compile(r"""[^\s,()[\]{}'"]+(?: +[^\s,()[\]{}'"]+)*""")


class Interrupted(Exception):
    """SIGTERM or Ctrl-C, after saving (exit code 75)."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(BAD_CONFIG, f"{self.prog}: error: {message} (--help explains the flags)\n")


def parser(program: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """A parser for `python -m experiments.<program>` with the flags that all programs share."""
    made = _Parser(
        prog=f"python -m experiments.{program}",
        description=description,
        epilog=f"{epilog.rstrip()}\n\n{EXIT_CODES}" if epilog else EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--data_dir", help="folder of prepared corpora (default: TFDS's, ~/tensorflow_datasets)")
    made.add_argument(
        "--manual_dir",
        help="folder of raw corpus files, one folder a corpus, such as mr/rt-polarity.pos "
        "(default: <data_dir>/downloads/manual)",
    )
    return made


def output_file(text: str) -> Path:
    """The type of a flag that names a file to write: refused before the work is done where it could not be."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no folder {path.parent}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: is a folder; name a file in it")
    return path


def command(program: str, argv: Sequence[str]) -> str:
    """The command of a program as its result records it: without the folders of the machine."""
    words, local = ["python", "-m", f"experiments.{program}"], ("--data_dir", "--manual_dir")
    for before, word in zip(["", *argv], argv):
        if before not in local and word.partition("=")[0] not in local:
            words.append(word)
    return shlex.join(words)


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Takes every `--config.a.b=value` (or `--config.a.b value`) out of the arguments, as `a.b=value`."""
    rest, overrides, arguments = [], [], iter(argv)
    for argument in arguments:
        if not argument.startswith("--config."):
            rest.append(argument)
            continue
        text = argument.removeprefix("--config.")
        if "=" not in text:
            value = next(arguments, "--")
            if value.startswith("--"):  # a negative number has one dash
                raise ConfigError(f"{argument}: needs a value, {argument}=VALUE")
            text = f"{text}={value}"
        overrides.append(text)
    return rest, overrides


def load_config(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The ConfigDict that `get_config()` in the Python file `path` returns, with overrides such as
    `model.dropout=0.3` applied; ConfigError with file and line, or with the nearest valid name."""
    if not Path(path).is_file():
        known = sorted(str(p) for p in Path("configs").glob("*/*.py"))
        raise ConfigError(f"config file {path} does not exist{nearest(path, known)}")
    try:
        get_config = runpy.run_path(path).get("get_config")
        if get_config is None:
            raise ConfigError(f"{path}: defines no function get_config()")
        config = get_config()
    except ConfigError:
        raise
    except SyntaxError as error:
        raise ConfigError(f"{error.filename or path}:{error.lineno or 1}: {error.msg}") from error
    except Exception as error:
        here = Path(path).resolve()
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == here]
        message = str(error.args[0]).splitlines()[0] if error.args else ""
        raise ConfigError(f"{path}:{lines[-1] if lines else 1}: {type(error).__name__}: {message}") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"{path}: get_config() returns {type(config).__name__}, not an ml_collections.ConfigDict")
    _check_sections(config, path)
    for override in overrides:
        name, _, text = override.partition("=")
        set_field(config, name, text)
    return config


DEFAULTS = {"classification": defaults, "matching": matching_defaults, "translation": translation_defaults}


def _check_sections(config: ConfigDict, path: str) -> None:
    """ConfigError unless a configuration has the fields that its task has in configs/defaults.py, and no other. What
    stands in `model` and `optimizer` is the paper's and the optimiser's to check."""
    if config.get("task") not in DEFAULTS:
        raise ConfigError(f"{path}: task: '{config.get('task')}' is none of {', '.join(DEFAULTS)}")
    own = lambda names: [name for name in names if not name.startswith(("model.", "optimizer."))]
    check_fields(own(flatten(config)), own(flatten(DEFAULTS[config.task]())), path)
    for section in ("model", "optimizer"):
        if not isinstance(config.get(section), ConfigDict) or not config[section]:
            raise ConfigError(f"{path}: get_config() sets no fields of {section}")


def set_field(config: ConfigDict, name: str, text: str) -> None:
    """Sets the field at the dotted path `name` to `text`, read as the type that the field has."""
    fields = flatten(config)
    if name not in fields:
        if any(field.startswith(f"{name}.") for field in fields):
            raise ConfigError(
                f"--config.{name}: is a section; name a field in it, such as {name}.{next(iter(config[name]))}"
            )
        raise ConfigError(f"--config.{name}: there is no such field{nearest(name, list(fields))}")
    section, _, field = name.rpartition(".")
    holder = config
    for part in filter(None, section.split(".")):
        holder = holder[part]
    holder[field] = _parse(name, text, fields[name])


def _parse(name: str, text: str, old):
    """`text` as a value of `old`'s type."""
    wanted = type(old).__name__
    try:
        if isinstance(old, bool):
            return {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]
        if isinstance(old, (int, float)):
            return type(old)(text)
        if isinstance(old, tuple):
            parts = [item if isinstance(item, tuple) else (item,) for item in old]
            kinds = {type(part) for part in itertools.chain(*parts)} or {int, float, str}
            kinds |= {int, str} if name in LAYERS else set()
            wanted = f"tuple of {', '.join(sorted(k.__name__ for k in kinds))}"
            nested = name in (*COLUMN_WISE, *LAYERS) or any(isinstance(x, tuple) for x in old)
            return _parse_tuple(text, kinds, nested=nested)
    except (ValueError, KeyError, SyntaxError, TypeError, RecursionError) as error:
        raise ConfigError(f"--config.{name}: '{text}' is no {wanted}") from error
    return text


def _parse_tuple(text: str, kinds: set[type], *, nested: bool) -> tuple:
    """`1,2`, `(1, 2)`, `[1]`, `3`, or nothing, as a tuple of values of `kinds`; strings also without quotes, as
    `word,other`; if `nested`, also of tuples of such values, as `(1,2),(3,4)`. ValueError, SyntaxError or TypeError
    where it is none."""
    text = text.strip() or "()"
    bare = str in kinds and not re.search("['\"]", text)
    words = _BARE.sub(lambda word: repr(word[0]), text) if bare else text
    try:
        value = ast.literal_eval(words if kinds == {str} else text)  # 0x3 may be a number, or two of them
    except (ValueError, SyntaxError):
        value = ast.literal_eval(words)
    value = _tuples(value if isinstance(value, (tuple, list)) else (value,))
    if float in kinds and int not in kinds:
        value = tuple(float(item) if type(item) is int else item for item in value)
    for item in value:
        if any(type(part) not in kinds for part in (item if nested and isinstance(item, tuple) else (item,))):
            raise ValueError
    return value


def _tuples(value):
    """`value` with tuples for lists, inner ones too."""
    return tuple(map(_tuples, value)) if isinstance(value, (tuple, list)) else value


def flatten(config: ConfigDict) -> dict:
    """All fields by dotted path, lists as tuples, so that a configuration equals the one that its JSON gives back."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= {f"{name}.{inner}": v for inner, v in flatten(value).items()}
        else:
            flat[name] = _tuples(value)
    return flat


@contextlib.contextmanager
def _handling(handler: Callable) -> Iterator[None]:
    """Within it, `handler` takes SIGTERM and Ctrl-C."""
    old = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Within it, SIGTERM and Ctrl-C only make the function it gives return True; a second Ctrl-C ends at once."""
    asked: list[int] = []

    def ask(number, frame):
        if asked and number == signal.SIGINT:
            os._exit(128 + signal.SIGINT)
        asked.append(number)
        os.write(2, b"\nsaving; press Ctrl-C again to end at once without\n")  # safe in a handler, unlike sys.stderr

    with _handling(ask):
        yield lambda: bool(asked)


def ending_at_once() -> contextlib.AbstractContextManager[None]:
    """Within it, SIGTERM and Ctrl-C end the process at once, while libraries would first wait for their downloads; what
    is half prepared then, the next start clears away."""
    words = (
        f"{Path(sys.argv[0]).stem}: interrupted while a corpus was read; the same command goes on from what is kept\n"
    )

    def end(number, frame):
        os.write(2, words.encode())
        os._exit(INTERRUPTED)

    return _handling(end)


def _raise_interrupt(number, frame):
    raise KeyboardInterrupt


def keep_freed_memory() -> None:
    """Has glibc's allocator keep what a step frees for the next one instead of returning it to the kernel.

    The same as MALLOC_MMAP_MAX_=0, MALLOC_TRIM_THRESHOLD_ and MALLOC_ARENA_MAX=1, set from inside the process through
    mallopt(3). A compiled step's temporary buffer is larger than the largest MALLOC_MMAP_THRESHOLD_ (32 MiB), so only
    without mmap it is kept. Resident memory levels off: `experiments.benchmark` shows it. Nothing happens where there
    is no glibc."""
    trim_threshold, mmap_max, arena_max = -1, -4, -8
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(arena_max, 1)


def set_up_jax() -> None:
    """The persistent compilation cache (JAX_COMPILATION_CACHE_DIR moves it), for small programs too."""
    import jax

    if not jax.config.jax_compilation_cache_dir:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "nlp-papers-in-jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


MOST_MAPS = 30_000


def release_compiled(most: int = MOST_MAPS) -> None:
    """Lets go of what JAX has compiled where the process has more than `most` memory maps (Linux; elsewhere nothing is
    done). Every compiled program holds some, a translation run thousands, and Linux ends a process that asks for more
    than 65,530 (vm.max_map_count). What is needed again is read from the persistent cache."""
    import jax

    with contextlib.suppress(OSError), open("/proc/self/maps", "rb") as maps:
        if sum(1 for _ in maps) > most:
            jax.clear_caches()


USERS_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT),  # no room
    *(errno.EACCES, errno.EPERM, errno.EROFS),  # no permission
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),  # no such path can be
)


def main(function: Callable[[Sequence[str]], int | None]) -> NoReturn:
    """Runs `function(arguments)`; a user's mistake becomes one line on standard error and an exit code."""
    name = Path(sys.argv[0]).stem
    signal.signal(signal.SIGTERM, _raise_interrupt)
    sys.unraisablehook = functools.partial(_without_closed_loops, sys.unraisablehook)
    keep_freed_memory()
    try:
        code = function(sys.argv[1:]) or DONE
        sys.stdout.flush()
    except ConfigError as error:
        code = _say(name, error, BAD_CONFIG)
    except DataError as error:
        code = _say(name, error, BAD_DATA)
    except Interrupted as error:
        code = _say(name, error, INTERRUPTED)
    except KeyboardInterrupt:
        code = _say(name, "interrupted before there was anything to save", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has left: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = DONE
    except OSError as error:
        if error.errno not in USERS_ERRORS:
            raise
        code = _say(name, f"{error.filename or 'output'}: {error.strerror}", BAD_CONFIG)
    except Exception as error:
        if "RESOURCE_EXHAUSTED" not in str(error):  # what JAX raises when a device has no memory left
            raise
        first = str(error).strip().splitlines()[0]
        code = _say(name, f"out of memory ({first}); choose a smaller batch, beam or model", BAD_CONFIG)
    atexit.register(_end_at_once_if_asked, code)
    sys.exit(code)


def _without_closed_loops(report: Callable, unraisable) -> None:
    """Where one array of a damaged checkpoint cannot be read, Orbax closes its event loop, and the threads that read
    the others have nobody to tell."""
    if str(unraisable.exc_value) != "Event loop is closed":
        report(unraisable)


def _end_at_once_if_asked(code: int) -> None:
    """All is done, but for what the interpreter and libraries do at their end, which an exception would only garble."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(code))


def _say(name: str, error: Exception | str, code: int) -> int:
    sys.stderr.write(f"{name}: {' '.join(str(error).split())}\n")
    return code

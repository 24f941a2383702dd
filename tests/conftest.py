"""Fixtures that several test files use, and how tests compile."""

import gc
import gzip
import os
import pathlib
import tempfile

import jax
import pytest

from research.corpora import load_corpus

SLOW = (
    *("test_run", "test_translation", "test_parallel", "test_ablations", "test_fit", "test_conv_seq2seq"),
    *("test_transformer", "test_unknown_words", "test_import_weights", "test_retrieval", "test_esim"),
)
"""Files of minutes: they come first, so that neither of two processes is left with one at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: SLOW.index(item.path.stem) if item.path.stem in SLOW else len(SLOW))


FAST_COMPILATION = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
"""Compiling takes a seventh of the time; tiny models run no slower for it."""


def pytest_configure(config):
    """Each program is compiled once a session, for all its processes, though every test makes its own compiled
    functions."""
    if not hasattr(config, "workerinput"):  # workers, and the programs that tests start, inherit the environment
        cache = tempfile.TemporaryDirectory(prefix="xla")
        config.add_cleanup(cache.cleanup)
        os.environ |= {
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {FAST_COMPILATION}",
            "JAX_COMPILATION_CACHE_DIR": cache.name,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
        }
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_traceback_in_locations_limit", 0)  # where operations come from, which nobody reads here


def pytest_collection_finish():
    """What has been imported stays, so the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.fixture(scope="module", autouse=True)
def programs_of_a_file():
    """Are dropped behind it: each maps some memory of its own, and Linux lets a process have 65,530 such pieces, past
    which it dies."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def corpora() -> pathlib.Path:
    """The folder of real corpora beside the repository, laid out as a `--manual_dir`."""
    folder = pathlib.Path(__file__).resolve().parents[2] / "shared" / "corpora"
    if not folder.is_dir():
        pytest.skip("real corpora are not there: no folder ../shared/corpora")
    return folder


@pytest.fixture
def load(tmp_path):
    """load_corpus with the data folder in `tmp_path`; raw files lie in `tmp_path/raw/<corpus>/`."""

    def load(name, columns=("text", "label"), splits=()):
        return load_corpus(
            name, columns=columns, splits=splits, data_dir=tmp_path / "data", manual_dir=tmp_path / "raw"
        )

    return load


@pytest.fixture
def write(tmp_path):
    """write("mr", {"rt-polarity.pos": "..."}) writes raw files, compressing those called *.gz; gives their folder."""

    def write(corpus, files):
        folder = tmp_path / "raw" / corpus
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            content = content if isinstance(content, bytes) else content.encode()
            (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return folder

    return write

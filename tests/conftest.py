"""Fixtures that several test files use, and one compilation cache for the whole session."""

import pathlib

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Each program is compiled once a session, though every test makes its own compiled functions."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="session")
def corpora() -> pathlib.Path:
    """The folder of real corpora beside the repository, laid out as a `--manual_dir`."""
    folder = pathlib.Path(__file__).resolve().parents[2] / "shared" / "corpora"
    if not folder.is_dir():
        pytest.skip("real corpora are not there: no folder ../shared/corpora")
    return folder

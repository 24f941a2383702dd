"""Checkpoints by Orbax: atomic and asynchronous saves, exact restores, and a fallback past a damaged one.

A checkpoint holds arrays (parameters, optimiser state, ...) and a JSON record (data position, metrics so far). The
record also keeps a checksum of every array, so that damage is noticed even where the file format would not.
"""

import errno
import json
import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from research.errors import DataError


def _flat(tree: PyTree) -> dict[str, jax.Array]:
    """Leaves by name; Orbax keeps names and drops containers, so the restored tree takes its shape from a template."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _checksums(flat: dict[str, jax.Array]) -> dict[str, int]:
    """CRC-32 of every array that this host can see whole."""
    sums = {}
    for name, x in flat.items():
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            if not x.is_fully_replicated:
                continue
            x = x.addressable_data(0)
        sums[name] = zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8))  # no copy of the bytes
    return sums


def _require_room(folder: Path, arrays: PyTree) -> None:
    """OSError (ENOSPC) unless the disk has room for `arrays` as Orbax writes them: twice, before it merges its files.

    Asked before, because Orbax cannot stop half-way without tracebacks from its threads."""
    needed = 2 * sum(x.nbytes for x in jax.tree.leaves(arrays)) + 1024**2
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


class Checkpoints:
    """The checkpoints of one training run, by step, in a folder of their own; the newest `keep` stay.

    model: the fields of its architecture, which shapes alone do not tell: four heads of 8 have those of two of 16.
    warn: called with one line for every damaged checkpoint that is passed over."""

    def __init__(
        self,
        folder: Path,
        *,
        model: Mapping[str, Any] | None = None,
        keep: int = 2,
        warn: Callable[[str], None] = lambda line: None,
    ):
        self.folder, self.warn = Path(folder).absolute(), warn
        self._model = json.loads(json.dumps(model))  # as a checkpoint gives it back
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, step: int, arrays: PyTree, record: dict) -> None:
        """Starts a save; `wait` makes sure of it. A step that is there already is left as it is. OSError (ENOSPC)
        where the disk has no room for it: no save is begun."""
        if step in self._manager.all_steps():
            return
        _require_room(self.folder, arrays)
        flat = _flat(arrays)
        record = {"model": self._model, "checksums": _checksums(flat), "record": record}
        self._manager.save(
            step, args=ocp.args.Composite(arrays=ocp.args.StandardSave(flat), record=ocp.args.JsonSave(record))
        )

    def wait(self) -> None:
        """Returns when all saves are on disk; raises OSError if one failed (a full disk)."""
        self._manager.wait_until_finished()

    @property
    def latest(self) -> int | None:
        """Step of the newest finished checkpoint."""
        return self._manager.latest_step()

    def restore(self, template: PyTree) -> tuple[int, PyTree, dict] | None:
        """Step, arrays and record of the newest undamaged checkpoint, None if there is none at all.

        template: arrays of the shapes, types and shardings wanted. Damaged checkpoints newer than the one that is used
        are set aside beside the folder, with a warning. DataError if the newest undamaged one is of another
        architecture, or if checkpoints are there and none can be used: nothing is touched then."""
        flat, damaged = _flat(template), {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                kept = self._manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore())).record
                same = kept.get("model") == self._model
                arrays = self._read(step, flat, kept["checksums"]) if same else {}
            except Exception as error:  # whatever a damaged file makes Orbax raise
                damaged[step] = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                continue
            if not same:
                raise DataError(
                    f"{self.folder / str(step)}: a checkpoint of another architecture than this training's; put its "
                    "own in its place, or remove the folder to start this training anew"
                )
            for other, reason in damaged.items():
                self._set_aside(other)
                self.warn(f"{self.folder / str(other)}: damaged checkpoint ({reason}); going on from step {step}")
            leaves = [arrays[name] for name in flat]
            return step, jax.tree.unflatten(jax.tree.structure(template), leaves), kept["record"]
        if damaged:
            step, reason = next(iter(damaged.items()))
            raise DataError(
                f"{self.folder}: none of the checkpoints of steps {', '.join(map(str, damaged))} can be used "
                f"(step {step}: {reason}); remove the folder to start this training anew"
            )
        return None

    def _read(self, step: int, flat: dict[str, jax.Array], checksums: dict[str, int]) -> dict[str, jax.Array]:
        arrays = self._manager.restore(step, args=ocp.args.Composite(arrays=ocp.args.StandardRestore(flat))).arrays
        if _checksums(arrays) != checksums:
            raise ValueError("its contents do not match their checksums")
        return arrays

    def _set_aside(self, step: int) -> None:
        """Out of Orbax's sight, which would not save the same step again."""
        target = self.folder.with_name(f"damaged_checkpoint_{step}")
        shutil.rmtree(target, ignore_errors=True)
        (self.folder / str(step)).rename(target)
        self._manager.reload()

    def close(self) -> None:
        self._manager.close()


def save_arrays(path: Path, arrays: PyTree, about: dict) -> None:
    """Writes the leaves of a tree of dicts to `path` (a folder), replacing what is there, and what JSON can say about
    them. OSError (ENOSPC) where the disk has no room for it."""
    _require_room(Path(path).parent, arrays)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(Path(path).absolute(), arrays, force=True, custom_metadata=about)


def load_arrays(path: Path) -> tuple[PyTree, dict]:
    """What `save_arrays` wrote, as NumPy arrays, and what it said about them; DataError if it is missing or damaged."""
    path = Path(path).absolute()
    if not path.is_dir():
        raise DataError(f"{path}: no saved parameters here; the run has not finished")
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            found = checkpointer.metadata(path)
            if found.item_metadata is None:
                raise ValueError("the list of its arrays cannot be read")
            shapes = jax.tree.map(lambda m: np.zeros(m.shape, m.dtype), found.item_metadata.tree)
            return checkpointer.restore(path, shapes), found.custom_metadata or {}
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{path}: damaged parameters ({first[:200]}); remove the folder and train the run again"
        ) from error

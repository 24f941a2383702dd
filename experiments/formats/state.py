"""What any checkpoint of PyTorch's is read with, and what becomes of it."""

import argparse
import dataclasses
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, PyTree
from ml_collections import ConfigDict

from research.codecs import Codec
from research.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Imported:
    """What a checkpoint becomes: the configuration of a run, its codecs by role, the model's parameters, and the names
    of its classes, where it has some."""

    config: ConfigDict
    codecs: Mapping[str, Codec]
    params: PyTree
    label_names: tuple[str, ...] = ()


class Entries:
    """The arrays of a checkpoint by name, each of which is taken once, and the `arguments` of its training, as far as
    it has them.

    kind: what the checkpoint is said to be, for the messages of DataErrors, which name file and entry."""

    def __init__(self, path: Path, kind: str):
        self.path, self.kind = path, kind
        self._left, self.arguments = _read_state(path)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def any_of(self, module: str) -> bool:
        """Whether an array of the module or of one in it is left."""
        return any(name.startswith(f"{module}.") for name in self._left)

    def take(self, name: str, *shape: int | None) -> Float[np.ndarray, "..."]:
        """The array, of this shape (None: any size); DataError where there is none, or it holds NaN or infinity."""
        if name not in self._left:
            raise DataError(f"{self.path}: has no entry '{name}', so it is not of {self.kind}")
        x = self._left.pop(name)
        if len(x.shape) != len(shape) or any(size not in (None, own) for size, own in zip(shape, x.shape)):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise DataError(f"{self.path}: '{name}' has shape {x.shape}; of {self.kind} it would have ({wanted})")
        if not np.isfinite(x).all():
            raise DataError(f"{self.path}: '{name}' holds NaN or infinity; the file is damaged")
        return x

    def finish(self) -> None:
        """DataError if anything is left: a model that has more parts computes something else."""
        if self._left:
            names, more = list(self._left)[:5], len(self._left) - 5
            listed = ", ".join(names) + (f" and {more} more" if more > 0 else "")
            raise DataError(f"{self.path}: has entries that {self.kind} does not have: {listed}")


def _read_state(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Name -> array (float32), from the entry `model` of a checkpoint, or of a file that holds a state dict alone, and
    name -> value from its entry `args`, or `model` of its entry `cfg`, where newer versions of fairseq have them.

    Raises:
        ConfigError: PyTorch is not installed.
        DataError: the file is missing or damaged, needs more than tensors and plain values, or is something else."""
    try:
        import torch  # imported on use: nothing else here needs it
    except ImportError as error:
        raise ConfigError("PyTorch, which reads such checkpoints, is missing: pip install torch==2.13.0") from error
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"--checkpoint {path}: {error.strerror}") from error
    try:
        # argparse.Namespace holds fairseq's arguments; to make one runs nothing of the file's
        with file, torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's, on old file formats
            content = torch.load(file, map_location="cpu", weights_only=True)
            of_tensors = lambda x: isinstance(x, dict) and x and all(isinstance(y, torch.Tensor) for y in x.values())
            if of_tensors(content) and "model" not in content:
                content = {"model": content}
            state = content.get("model") if isinstance(content, dict) else None
            if of_tensors(state):
                arrays = {str(name): x.detach().to(torch.float32).numpy() for name, x in state.items()}
                newer = content.get("cfg")
                arguments = content.get("args") or (newer.get("model") if isinstance(newer, dict) else None)
                arguments = vars(arguments) if isinstance(arguments, argparse.Namespace) else arguments
                return arrays, arguments if isinstance(arguments, dict) else {}
    except Exception as error:  # whatever a damaged or foreign file makes PyTorch raise
        if needed := re.search(r"GLOBAL (\S+)", str(error)):
            raise DataError(
                f"{path}: needs {needed[1]}, which is neither a tensor nor a plain value; nothing of it was run. If "
                "you trust the file, load it with torch.load(FILE, weights_only=False) and save its entry 'model' "
                "alone: torch.save({'model': checkpoint['model']}, NEW)"
            ) from error
        raise DataError(
            f"{path}: PyTorch cannot read it ({type(error).__name__}): damaged, cut short or no checkpoint"
        ) from error
    raise DataError(f"{path}: no checkpoint: it has no entry 'model' that holds tensors by name")

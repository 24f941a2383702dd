"""Files that programs leave for one another: JSON and text, written whole or not at all."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from research.errors import DataError

REMEDY = "delete the file and run its command again"


def read_json(path: Path, keys: Sequence[str] = (), *, remedy: str = REMEDY) -> dict:
    """What a JSON file holds: an object with at least `keys`, where there are any. remedy: ends the message.

    Raises:
        DataError: the file is unreadable, no JSON, or lacks a key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8; {remedy}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}); {remedy}") from error
    if missing := [key for key in keys if not isinstance(content, dict) or key not in content]:
        raise DataError(f"{path}: no key {', '.join(map(repr, missing))}; {remedy}")
    return content


def write_json(path: Path, content: dict) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, content: str) -> None:
    """Writes `content` so that `path` holds either the old or the new text, never half of it."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)

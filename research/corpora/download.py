"""Raw files from their publishers. (TFDS's download manager knows no timeout and takes a truncated body for whole.)"""

import http.client
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from research.errors import DataError


class Source(NamedTuple):
    """Where a raw file comes from: a URL, and the file's path inside if that is a tar archive."""

    url: str
    member: str = ""


def download(sources: Mapping[str, Source], folder: Path, *, timeout: float) -> None:
    """Puts each file of `sources` that `folder` lacks into it; a file is there whole or not at all.

    Args:
      sources: file name -> source. An archive is downloaded once, however many members are wanted.
      folder: is made where absent.
      timeout: longest wait for the server's next bytes, in seconds.

    Raises:
      DataError: in one line, what failed: no connection, HTTP status, truncated body, no such member, disk full.
    """
    wanted = {name: source for name, source in sources.items() if not (folder / name).is_file()}
    for url in dict.fromkeys(source.url for source in wanted.values()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix="incomplete.") as scratch:
                body = Path(scratch) / "body"
                _fetch(url, body, timeout)
                for name, source in wanted.items():
                    if source.url == url:
                        whole = _extract(body, source.member) if source.member else body
                        os.replace(whole, folder / name)
        except KeyError as error:
            raise DataError(f"{url}: the archive lacks {error.args[0]}") from None
        except (OSError, http.client.HTTPException, tarfile.TarError, EOFError, zlib.error) as error:
            raise DataError(f"{url}: {' '.join(str(error).split()) or type(error).__name__}") from None


def _fetch(url: str, path: Path, timeout: float) -> None:
    with urllib.request.urlopen(url, timeout=timeout) as response, path.open("wb") as file:
        promised = response.headers["Content-Length"]
        size = None if promised is None else int(promised)
        name, shown = url.rpartition("/")[2], sys.stderr.isatty()
        with tqdm.wrapattr(response, "read", total=size, desc=name, unit="B", disable=not shown) as body:
            shutil.copyfileobj(body, file)
        if size is not None and file.tell() != size:
            raise OSError(f"truncated: {file.tell()} of {promised} bytes came")


def _extract(archive: Path, member: str) -> Path:
    path = archive.with_name("member")
    with tarfile.open(archive) as tar, path.open("wb") as file:
        content = tar.extractfile(member)
        if content is None:
            raise KeyError(member)
        shutil.copyfileobj(content, file)
    return path

"""Raw corpus files -> text, strictly: a damaged file is an error that names the line, never a wrong example.

One example is one line, and lines end with "\\n" alone: 0x85, U+2028 and other separators are text (the movie
reviews of Pang and Lee hold 0x85). A "\\r" before the "\\n" is dropped and the last line may lack its newline.
"""

import codecs
import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from research.errors import DataError

_STRAY_BYTE = re.compile("[\udc80-\udcff]")  # how "surrogateescape" shows a byte that is no part of UTF-8
_BEYOND_ASCII = re.compile("[\u0080-\ud7ff\ue000-\U0010ffff]")


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path, *, utf8_only: bool = False, remedy: str = "replace it with the corpus's file") -> str:
    """The text of a UTF-8 or, unless `utf8_only`, ISO-8859-1 file; of a file `*.gz`, what it compresses.
    remedy: what to do about an empty file.

    Any bytes are valid ISO-8859-1, so a UTF-8 file with one damaged character would turn into garbage
    throughout. Hence a file with a byte order mark, or with more characters beyond ASCII in valid UTF-8 than stray
    bytes, counts as damaged UTF-8. (In `rt-polarity.*` all 316 bytes beyond ASCII are stray.)

    Raises:
      DataError: the file is missing, unreadable, damaged or empty, holds a NUL byte or is in no such encoding.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: no whole gzip file ({error}); replace it, or drop .gz if it is plain text") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not data.removeprefix(codecs.BOM_UTF8).strip():
        raise DataError(f"{path}: the file is empty; {remedy}")
    if (position := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, position) + 1
        raise DataError(f"{path}:{line}: NUL byte; the file is damaged or not UTF-8 (UTF-16?): convert or replace it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    escaped = data.decode("utf-8", "surrogateescape")
    stray = len(_STRAY_BYTE.findall(escaped))
    if not utf8_only and not data.startswith(codecs.BOM_UTF8) and stray > len(_BEYOND_ASCII.findall(escaped)):
        return data.decode("iso-8859-1")
    position = _STRAY_BYTE.search(escaped).start()
    line, byte = escaped.count("\n", 0, position) + 1, ord(escaped[position]) - 0xDC00
    remedy = "convert the file (iconv -t UTF-8 -f GB18030 or what it is in)" if utf8_only else "replace the file"
    raise DataError(f"{path}:{line}: byte 0x{byte:02x} is not UTF-8, which the file must be; {remedy}")


def raw_lines(path: Path, **options) -> list[str]:
    """The lines as they stand: a tab at a line's beginning ends an empty column. options, DataError: `read_text`'s."""
    return read_text(path, **options).removesuffix("\n").split("\n")


def split_lines(path: Path, *, utf8_only: bool = False) -> list[str]:
    """The lines without surrounding blanks, empty ones too; raises DataError as `read_text`."""
    lines = raw_lines(path, utf8_only=utf8_only)
    # Blank, tab and "\r" only: str.strip() would take 0x85 for white space.
    return [line.strip(" \t\r") for line in lines]


def read_lines(path: Path, *, utf8_only: bool = False) -> Iterator[tuple[int, str]]:
    """Yields (line number from 1, line without surrounding blanks).

    Raises:
      DataError: as `read_text`; or a line is empty.
    """
    for number, line in enumerate(split_lines(path, utf8_only=utf8_only), start=1):
        if not line.strip():
            raise DataError(f"{path}:{number}: the line is empty; remove it or restore its text")
        yield number, line


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields (line number of the row's start, the values of `columns`) of a UTF-8 CSV file with a header.

    Raises:
      DataError: as `read_text`; or the header lacks a column, a row has another number of fields than the header or
        the quoting is broken.
    """
    text = read_text(path, utf8_only=True)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    limit = csv.field_size_limit(len(text))  # the default refuses fields of more than 131,072 characters
    rows, start = [], 1
    try:
        for row in reader:
            rows.append((start, row))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{start}: {error}; check the quotes of this row") from None
    finally:
        csv.field_size_limit(limit)
    _, header = rows[0]
    if missing := [column for column in columns if column not in header]:
        raise DataError(f"{path}:1: no column {missing[0]!r} in the header; it must be {','.join(columns)}")
    places = [header.index(column) for column in columns]
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(f"{path}:{number}: {len(row)} fields where the header has {len(header)}; quote the commas")
        yield number, [row[place] for place in places]

"""Pretrained word vectors -> the embedding matrix of a vocabulary (Kim 2014, sections 3 and 4.3).

Read are word2vec text and binary, GloVe text and fastText `.vec`, each plain or gzip. The content tells which, never
the file's name:

* gzip by its first two bytes;
* a header (word2vec, fastText) is a first line of two integers, the numbers of words and of dimensions. A GloVe line
  has `dim + 1` fields, so that a first word such as `2014` is no header. Where `dim` is 1 both have two fields, and the
  line is a header if its second integer is 1;
* behind a header, text and binary are told apart by the vectors in the first MiB, not by the first alone: the file is
  text if they hold only the characters of numbers, or only printable ones and some line has `dim` fields after its
  word (then a number is malformed, and the error names its line). Any other byte makes it binary.

A last line without its newline is accepted. Vectors of words outside the vocabulary are not parsed: their number of
fields is checked, their values are not.
"""

# gensim's KeyedVectors is not used: it holds every row of the file before any can be dropped, and its errors
# for damaged files name neither line nor byte.
import gzip
import math
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, takewhile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from research.errors import DataError

Progress = Callable[[int, int], None]

_BLOCK = 1 << 20  # bytes read at once
_LONGEST_LINE = 1 << 20  # a line of 300 numbers has about 3 kB
_LONGEST_WORD = 1 << 14
_HEADER = re.compile(rb"(\d+)[ \t]+(\d+)\s*")
_NUMBER = re.compile(rb"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")  # linear: no two neighbouring \d*
_NUMERALS = b"0123456789+-.eE"
_PRINTABLE = bytes(range(0x21, 0x7F))


def read_vectors(
    path: str | os.PathLike, tokens: Iterable[str], *, dim: int, progress: Progress | None = None
) -> dict[str, Float[np.ndarray, " dim"]]:
    """The vectors of those of `tokens` that a word-vector file holds.

    A word is matched exactly, as its UTF-8 bytes: case, width and Unicode form count, and words of the file that are
    not UTF-8 match nothing. Of duplicate words the first wins. GloVe's words may hold blanks (`. . .`): the last `dim`
    fields of a line are the vector.

    Memory is that of the vectors and about 16 MB, whatever the file's size (measured on 1 GB). `progress(done, total)`
    is called after each MiB of content with bytes of the file on disk.

    Raises DataError, naming the line (text) or the byte and the number of the word (binary, counted in the unpacked
    content), if the file is missing, empty, in another format, truncated or damaged, if its vectors have not `dim`
    components, if a wanted vector is malformed, NaN or Inf (also beyond float32's range), or if no token is in it.
    """
    path = Path(path)
    wanted = {token.encode("utf-8", "surrogatepass"): token for token in tokens}
    some = list(wanted.values())[:5]
    vectors = dict(_vectors(path, wanted, dim, progress))
    if not vectors:
        raise DataError(
            f"{path}: holds none of the {len(wanted)} words of the vocabulary, such as "
            f"{', '.join(repr(token[:40]) for token in some)}: another language, casing (data.lower) or "
            "data.tokenizer?"
        )
    return vectors


def embedding_matrix(
    vectors: Mapping[str, Float[np.ndarray, " dim"]],
    tokens: Sequence[str],
    *,
    dim: int,
    seed: int,
    gaussian: bool = False,
) -> Float[np.ndarray, "vocab dim"]:
    """The rows of `vectors` for `tokens`, in their order; token 0 is the padding, whose row is zero.

    The row of an unknown word is drawn from U[-a, a]^dim with a = sqrt(3 * variance), "chosen such that the randomly
    initialized vectors have the same variance as the pre-trained ones" (section 4.3, third observation). The paper
    names one a for all dimensions, so the variance is that of all components of `vectors` taken together. gaussian:
    from N(0, variance) instead (Chen et al. 2017, section 4, which leaves the variance open). The draw depends on
    `seed` and the row's index, not on the order of the file or on what else it holds."""
    random, variance = np.random.default_rng(seed), _variance(vectors.values(), dim)
    if gaussian:
        matrix, bound = random.standard_normal((len(tokens), dim), dtype=np.float32), math.sqrt(variance)
    else:
        matrix, bound = random.random((len(tokens), dim), dtype=np.float32), math.sqrt(3 * variance)
        matrix *= 2
        matrix -= 1
    bound = min(bound, float(np.finfo(np.float32).max))
    for row, token in enumerate(tokens):
        if (vector := vectors.get(token)) is not None:
            matrix[row] = vector
        else:
            matrix[row] *= bound
    matrix[0] = 0
    return matrix


def _variance(vectors: Collection[Float[np.ndarray, " dim"]], dim: int) -> float:
    """Variance of all components, in float64, a vector at a time: no second matrix."""
    size = len(vectors) * dim
    mean = sum(vector.sum(dtype=np.float64) for vector in vectors) / size
    return sum(float(np.square(vector - mean).sum()) for vector in vectors) / size


def _vectors(path: Path, wanted: dict[bytes, str], dim: int, progress: Progress | None) -> Iterator:
    """Yields (token, vector) of the wanted words. Takes a word out of `wanted` at its first occurrence."""
    blocks = _blocks(path, progress)
    head = next(blocks, b"")
    if not head.strip():
        raise DataError(f"{path}: is empty")
    if head.startswith(b"PK\x03\x04"):
        raise DataError(f"{path}: is a zip archive: unpack it and give the file inside")
    line, _, body = head.partition(b"\n")
    count = _header(path, line, dim)
    if count is None:
        return _text_vectors(path, chain([head], blocks), wanted, dim, None)
    if _looks_like_text(body, dim, cut=len(head) == _BLOCK):
        return _text_vectors(path, chain([body], blocks), wanted, dim, count)
    return _binary_vectors(path, (len(line) + 1, body, blocks), wanted, dim, count)


def _blocks(path: Path, progress: Progress | None) -> Iterator[bytes]:
    """The unpacked content, block by block."""

    def attempt(action: Callable, *args):
        try:
            return action(*args)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path}: damaged or truncated gzip file ({error}): fetch it again") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error}): check word_vectors.path") from error

    if not attempt(path.is_file):  # opening a named pipe would wait for a writer
        reason = "is no regular file" if attempt(path.exists) else "does not exist"
        raise DataError(f"{path}: {reason}: check word_vectors.path")
    with attempt(path.open, "rb") as file:
        total = os.fstat(file.fileno()).st_size
        packed = attempt(file.peek, 2)[:2] == b"\x1f\x8b"
        stream = gzip.GzipFile(fileobj=file) if packed else file
        while True:
            block = attempt(stream.read, _BLOCK)
            if progress is not None:
                progress(file.tell(), total)
            if not block:
                return
            yield block


def _header(path: Path, line: bytes, dim: int) -> int | None:
    """The number of words that a header promises; None without a header."""
    match = _HEADER.fullmatch(line)
    if match is None or (dim == 1 and match[2] != b"1"):
        return None
    if max(map(len, match.groups())) > 15:
        raise DataError(f"{path}:1: the header's numbers are absurdly large: the file is damaged; fetch it again")
    if int(match[2]) != dim:
        raise _other_dimension(f"{path}:1", int(match[2]), dim)
    return int(match[1])


def _other_dimension(where: str, actual: int, dim: int) -> DataError:
    return DataError(f"{where}: vectors of {actual} numbers, but model.embedding_dim is {dim}: change one of the two")


def _looks_like_text(body: bytes, dim: int, cut: bool) -> bool:
    lines = body.split(b"\n")
    if cut and len(lines) > 1:  # perhaps inside a word with blanks
        lines.pop()
    vectors = [line.rsplit(None, dim)[1:] for line in lines]
    characters = b"".join(map(b"".join, vectors))
    if not characters.translate(None, _NUMERALS):
        return True
    return not characters.translate(None, _PRINTABLE) and any(len(vector) == dim for vector in vectors)


def _text_vectors(
    path: Path, blocks: Iterable[bytes], wanted: dict[bytes, str], dim: int, count: int | None
) -> Iterator:
    words = 0
    for number, line in _lines(path, blocks, 1 if count is None else 2):
        line = line.rstrip()
        if not line:
            continue
        words += 1
        # 300 numbers: count() 5 us, split() 10, parsing 110: only the vocabulary's lines are split and parsed.
        word, vector = line.split(b" ", 1) if line.count(b" ") == dim else _split_odd_line(line, dim)
        if vector is None:
            raise _wrong_length(path, number, line, dim, first=words == 1 and count is None)
        token = wanted.pop(word, None)
        if token is not None:
            yield token, _checked(_parse(vector, dim, f"{path}:{number}", word), f"{path}:{number}", word)
    if count is not None and words != count:
        raise DataError(
            f"{path}:1: the header promises {count} words, but {words} follow: truncated or damaged; fetch it again"
        )


def _lines(path: Path, blocks: Iterable[bytes], number: int) -> Iterator[tuple[int, bytes]]:
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        yield from enumerate(lines, number)
        number += len(lines)
        if len(rest) > _LONGEST_LINE:
            raise DataError(f"{path}:{number}: a line of over {_LONGEST_LINE} bytes: this is no word-vector file")
    if rest:
        yield number, rest


def _split_odd_line(line: bytes, dim: int) -> tuple[bytes, bytes | None]:
    """Word and vector of a line with tabs, double blanks or blanks in its word; the vector is None if it is no such."""
    fields = line.rsplit(None, dim)
    pieces = fields[0].split()
    if len(fields) <= dim or (len(pieces) > 1 and _NUMBER.fullmatch(pieces[-1])):
        return line, None
    return fields[0], b" ".join(fields[1:])


def _wrong_length(path: Path, number: int, line: bytes, dim: int, first: bool) -> DataError:
    actual = len(list(takewhile(_NUMBER.fullmatch, reversed(line.split()[1:]))))
    if first and actual == 0:
        return DataError(
            f"{path}:{number}: neither a header nor a word with its numbers:"
            " expected word2vec (text or binary), GloVe or fastText .vec, plain or gzip"
        )
    if first:
        return _other_dimension(f"{path}:{number}", actual, dim)
    return DataError(f"{path}:{number}: {actual} numbers instead of {dim}: truncated or damaged; fetch it again")


def _parse(vector: bytes, dim: int, where: str, word: bytes) -> Float[np.ndarray, " dim"]:
    fields = vector.split()
    try:
        if len(fields) != dim or b"_" in vector:  # float() takes 1_0 for 10
            raise ValueError
        with np.errstate(over="ignore"):
            return np.array([float(field) for field in fields], dtype=np.float32)
    except ValueError:
        raise DataError(f"{where}: the vector of {_show(word)} is not {dim} numbers: fetch or mend the file") from None


def _checked(vector: Float[np.ndarray, " dim"], where: str, word: bytes) -> Float[np.ndarray, " dim"]:
    if not np.isfinite(vector).all():
        raise DataError(f"{where}: the vector of {_show(word)} holds NaN or Inf: fetch the file again or drop the word")
    return vector


def _show(word: bytes) -> str:
    return repr(word[:40].decode("utf-8", "replace"))


def _binary_vectors(
    path: Path, content: tuple[int, bytes, Iterator[bytes]], wanted: dict[bytes, str], dim: int, count: int
) -> Iterator:
    """`content` is the byte at which the vectors begin, the bytes already read from there, and the blocks to come."""
    base, buffer, blocks = content
    start = 0
    for number in range(1, count + 1):
        # A record is: word, blank, dim little-endian float32 and, from Mikolov's program but not from others, newline.
        while (blank := buffer.find(b" ", start, start + _LONGEST_WORD)) < 0 or blank + 1 + 4 * dim > len(buffer):
            where = f"{path}: byte {base + start} (word {number} of {count})"
            if blank < 0 and len(buffer) - start >= _LONGEST_WORD:
                raise DataError(f"{where}: a word of over {_LONGEST_WORD} bytes: the file is damaged; fetch it again")
            if not (block := next(blocks, b"")):
                raise DataError(f"{where}: the file ends before this word's vector does: truncated; fetch it again")
            base, buffer, start = base + start, buffer[start:] + block, 0
        word = buffer[start:blank].lstrip(b"\n")
        token = wanted.pop(word, None)
        if token is not None:
            vector = np.frombuffer(buffer, "<f4", dim, blank + 1).copy()  # a view would keep the block
            yield token, _checked(vector, f"{path}: byte {base + start} (word {number} of {count})", word)
        start = blank + 1 + 4 * dim
    if any(block.strip() for block in chain([buffer[start:]], blocks)):
        raise DataError(f"{path}: byte {base + start}: goes on after the {count} words of its header: fetch it again")

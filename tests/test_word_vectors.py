"""Reading word-vector files: every format against known values, damaged files, unknown words and peak memory."""

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from research.errors import DataError
from research.word_vectors import embedding_matrix, read_vectors

DIM = 3
VECTORS = {
    "</s>": [0.5, -0.25, 1e-3],
    "good": [1.5, 2.0, -3.25],
    "电影": [-0.125, 0.0, 7.0],
    "bad": [0.1, 0.2, 0.3],
}
TOKENS = ["<pad>", "bad", "missing", "good", "电影"]
EXPECTED = {1: "bad", 3: "good", 4: "电影"}


def text(vectors, header=True, ending="\n"):
    size = len(next(iter(vectors.values())))
    lines = [f"{len(vectors)} {size}{ending}"] * header
    lines += [" ".join([word, *map(str, vector)]) + ending for word, vector in vectors.items()]
    return "".join(lines).encode()


def binary(vectors, newline=b"\n"):
    size = len(next(iter(vectors.values())))
    records = [word.encode() + b" " + np.asarray(v, "<f4").tobytes() + newline for word, v in vectors.items()]
    return f"{len(vectors)} {size}\n".encode() + b"".join(records)


FORMATS = {
    "word2vec_text": text(VECTORS, ending=" \n"),  # Mikolov's program ends every line with a blank
    "word2vec_binary": binary(VECTORS),
    "word2vec_binary_without_newlines": binary(VECTORS, newline=b""),
    "glove": text(VECTORS, header=False),
    "fasttext": text(VECTORS),
    "carriage_returns": text(VECTORS, ending="\r\n"),
    "tabs": text(VECTORS).replace(b" ", b"\t"),
    "no_last_newline": text(VECTORS)[:-1],
    "exponents": text(VECTORS).replace(b"0.001", b"1e-3"),
}


@pytest.fixture
def read(tmp_path):
    """Writes `content` to a file and reads it back."""

    def read(content, tokens=TOKENS, dim=DIM, seed=0, progress=None):
        path = tmp_path / "vectors"
        path.write_bytes(content)
        vectors = read_vectors(path, tokens[1:], dim=dim, progress=progress)
        found = np.array([index > 0 and token in vectors for index, token in enumerate(tokens)])
        return embedding_matrix(vectors, tokens, dim=dim, seed=seed), found

    return read


@pytest.fixture
def error(read):
    """The one line of the DataError that reading `content` must end in."""

    def error(content, **options):
        with pytest.raises(DataError) as caught:
            read(content, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return error


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_known_values(read, name, packed):
    content = FORMATS[name]
    matrix, found = read(gzip.compress(content) if packed else content)
    assert matrix.dtype == np.float32 and matrix.shape == (5, 3)
    assert found.dtype == bool and found.tolist() == [False, True, False, True, True]
    for row, word in EXPECTED.items():
        np.testing.assert_array_equal(matrix[row], np.float32(VECTORS[word]))
    assert not matrix[0].any() and matrix[2].all()


def test_gzip_of_several_members(read):
    content = FORMATS["glove"]
    matrix, _ = read(gzip.compress(content[:30]) + gzip.compress(content[30:]))
    np.testing.assert_array_equal(matrix[1], np.float32(VECTORS["bad"]))


@pytest.mark.parametrize("name", FORMATS)
def test_records_that_cross_blocks(read, monkeypatch, name):
    expected = read(FORMATS[name])
    monkeypatch.setattr("research.word_vectors._BLOCK", 31)
    for got, want in zip(read(FORMATS[name]), expected):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("block", range(4, 28))
def test_detection_on_a_block_that_ends_inside_a_word(read, monkeypatch, block):
    monkeypatch.setattr("research.word_vectors._BLOCK", block)
    _, found = read("2 3\nbad 1 2 3\né è é 4 5 6\n".encode(), tokens=["", "bad", "é è é"])
    assert found.tolist() == [False, True, True]


def test_empty_lines_are_skipped(read):
    for header in (b"", b"2 3\n"):
        _, found = read(header + b"bad 1 2 3\r\n\r\n \n\ngood 4 5 6\n\n")
        assert found.tolist() == [False, True, False, True, False]


def test_a_first_word_that_is_a_number_is_no_header(read):
    matrix, found = read(b"2014 3 4 5\n7 1 2 3\n", tokens=["", "2014", "7"])
    assert found.tolist() == [False, True, True]
    np.testing.assert_array_equal(matrix[1:], [[3, 4, 5], [1, 2, 3]])


def test_one_dimension_with_and_without_a_header(read):
    assert read(b"5 7\n6 8\n", tokens=["", "5", "6"], dim=1)[0].ravel().tolist() == [0, 7, 8]
    matrix, found = read(b"2 1\n5 7\n6 8\n", tokens=["", "2", "5"], dim=1)
    assert found.tolist() == [False, False, True] and matrix[2] == 7


@pytest.mark.parametrize("newline", [b"\n", b""])
@pytest.mark.parametrize(
    "first",
    [b"0.1 0.2 0.3 ", b"abcdefghijkl", b"1 2 3 4 5 6 ", b"a b c d e f ", b"\n" * 12, b" " * 12, b"1" * 12],
)
def test_binary_whose_first_vector_looks_like_text(read, first, newline):
    vectors = {"first": np.frombuffer(first, "<f4"), **VECTORS}
    matrix, found = read(binary(vectors, newline), tokens=["", "first", "good"])
    assert found[1:].all()
    np.testing.assert_array_equal(matrix[1:], [vectors["first"], np.float32(VECTORS["good"])])


def test_a_binary_file_of_one_printable_vector(read):
    matrix, _ = read(b"1 3\nw abcdefghijkl\n", tokens=["", "w"])
    np.testing.assert_array_equal(matrix[1], np.frombuffer(b"abcdefghijkl", "<f4"))


def test_words_with_blanks_and_doubled_blanks(read):
    content = b". 1 2 3\n. . . 4 5 6\nat name@domain.com 7 8 9\nbad  -1 -2 -3\n 9 9 9\n5  6 6 6\n"
    matrix, found = read(content, tokens=["", ".", ". . .", "at name@domain.com", "bad", "5", "name@domain.com"])
    assert found.tolist() == [False, True, True, True, True, True, False]
    np.testing.assert_array_equal(matrix[1:6], [[1, 2, 3], [4, 5, 6], [7, 8, 9], [-1, -2, -3], [6, 6, 6]])


def test_the_first_of_duplicate_words_wins(read):
    for content in (text(VECTORS, header=False) + b"bad 9 9 9\n", binary(VECTORS).replace(b"</s>", b"good")):
        matrix, _ = read(content)
        first = "</s>" if b"</s>" not in content else "good"
        np.testing.assert_array_equal(matrix[1], np.float32(VECTORS["bad"]))
        np.testing.assert_array_equal(matrix[3], np.float32(VECTORS[first]))


def test_words_match_exactly(read):
    _, found = read(b"Good 1 2 3\ncaf\xc3\xa9 1 2 3\n", tokens=["", "good", "Good", "cafe\u0301", "café", "\ud800"])
    assert found.tolist() == [False, False, True, False, True, False]


def test_the_padding_row_is_zero_even_if_the_file_holds_its_token(read):
    matrix, found = read(b"<pad> 1 2 3\nbad 4 5 6\n")
    assert not matrix[0].any() and not found[0]


@pytest.mark.parametrize("make", [text, binary])
def test_unwanted_words_may_be_damaged(read, make):
    content = make({"qqqq": [1, 2, 3], **VECTORS}).replace(b"qqqq", b"\xff\xfe\xc3\x28")
    assert read(content)[1].tolist() == [False, True, False, True, True]
    content = make({"other": [1, float("nan"), float("inf")], **VECTORS})
    assert read(content)[1].tolist() == [False, True, False, True, True]


def test_unknown_rows_are_uniform_with_the_variance_of_the_known(read):
    # Means that differ by dimension: the paper's one a takes the variance of all components together.
    known = np.random.default_rng(1).normal([-2.0, 0.0, 0.5, 2.0], 0.3, size=(500, 4)).astype(np.float32)
    words = {f"w{i}": row for i, row in enumerate(known)}
    matrix, found = read(binary(words), tokens=["", *words, *(f"unknown{i}" for i in range(5000))], dim=4)
    unknown = matrix[1:][~found[1:]]
    assert unknown.shape == (5000, 4)
    bound = np.sqrt(3 * np.var(known, dtype=np.float64))
    # 20,000 draws: the variance's standard error is 0.63 %, each dimension's 1.3 %.
    np.testing.assert_allclose(unknown.var(), np.var(known), rtol=0.03)
    np.testing.assert_allclose(unknown.var(axis=0), np.full(4, np.var(known)), rtol=0.06)
    assert abs(unknown.mean()) < 0.05 * bound
    assert 0.999 * bound < unknown.max() <= bound and -bound <= unknown.min() < -0.999 * bound
    assert np.unique(unknown).size > 19_000


def test_unknown_rows_may_be_gaussian():
    """Of the same variance: far from the mean there is one in 740 beyond 3.2 standard deviations, uniform ones end at
    the root of 3."""
    known = np.random.default_rng(1).normal(0.5, 2.0, size=(500, 4)).astype(np.float32)
    words = {f"w{i}": row for i, row in enumerate(known)}
    tokens = ["", *words, *(f"unknown{i}" for i in range(5000))]
    matrix = embedding_matrix(words, tokens, dim=4, seed=0, gaussian=True)
    np.testing.assert_array_equal(matrix[1:501], known)
    unknown = matrix[501:].astype(np.float64)
    np.testing.assert_allclose(unknown.var(), np.var(known, dtype=np.float64), rtol=0.03)
    assert 10 < np.sum(np.abs(unknown) > 3.2 * unknown.std()) < 50  # of 20,000; 27 on average
    assert np.mean(unknown**4) / np.mean(unknown**2) ** 2 == pytest.approx(3.0, abs=0.2)


def test_unknown_rows_stay_finite_at_the_end_of_float32(read):
    matrix, _ = read(b"good 3.4e38 -3.4e38 3.4e38\n")
    assert np.isfinite(matrix).all() and np.abs(matrix[1]).max() > 1e37


def test_unknown_rows_depend_on_seed_and_row_alone(read):
    first, _ = read(text(VECTORS))
    backwards, _ = read(binary(dict(reversed(VECTORS.items()))))
    np.testing.assert_array_equal(first, backwards)
    assert (read(text(VECTORS), seed=1)[0][2] != first[2]).all()
    longer, _ = read(text(VECTORS), tokens=[*TOKENS, "another"])
    np.testing.assert_array_equal(longer[:5], first)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", ["word2vec_text", "word2vec_binary", "glove"])
def test_progress_counts_bytes_on_disk(read, tmp_path, monkeypatch, capfd, name, packed):
    monkeypatch.setattr("research.word_vectors._BLOCK", 16)
    calls = []
    content = gzip.compress(FORMATS[name]) if packed else FORMATS[name]
    read(content, progress=lambda done, total: calls.append((done, total)))
    assert len(calls) > len(FORMATS[name]) // 16
    assert {total for _, total in calls} == {len(content)}
    done = [done for done, _ in calls]
    assert done == sorted(done) and done[-1] == len(content)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["word2vec_text", "word2vec_binary", "glove"])
def test_another_dimension_names_both_numbers_and_the_field(error, name):
    message = error(FORMATS[name], dim=5)
    assert "vectors:1:" in message and "vectors of 3 numbers" in message and "model.embedding_dim is 5" in message
    assert "vectors of 3 numbers" in error(FORMATS[name], dim=2)


@pytest.mark.parametrize("cut", [1, 2, 5, 6, 11])
@pytest.mark.parametrize("block", [17, 1 << 20])
def test_truncated_binary_names_byte_and_word(error, monkeypatch, cut, block):
    monkeypatch.setattr("research.word_vectors._BLOCK", block)
    content = FORMATS["word2vec_binary_without_newlines"]
    start = len(content) - len(b"bad ") - 12
    assert f"byte {start} (word 4 of 4): the file ends before" in error(content[:-cut])


def test_truncated_text_names_the_line(error):
    content = FORMATS["glove"]
    assert "vectors:4: 2 numbers instead of 3: truncated" in error(content[: content.rindex(b" ")])
    assert "vectors:5: 2 numbers instead of 3: truncated" in error(FORMATS["fasttext"][: -len(" 0.3\n")])


@pytest.mark.parametrize("name", ["word2vec_text", "word2vec_binary", "glove"])
def test_truncated_gzip(error, name):
    content = gzip.compress(FORMATS[name])
    for cut in (1, 8, 20):
        assert "truncated gzip file" in error(content[:-cut])
    assert "damaged" in error(content[:20] + b"\xff" * 9 + content[29:])
    assert "damaged" in error(content + b"rubbish")
    assert "damaged" in error(b"\x1f\x8b" + bytes(range(200)))


def test_a_header_that_promises_another_number_of_words(error):
    assert "header promises 9 words, but 4 follow" in error(FORMATS["fasttext"].replace(b"4 3", b"9 3", 1))
    assert "header promises 2 words, but 4 follow" in error(FORMATS["fasttext"].replace(b"4 3", b"2 3", 1))
    assert "(word 5 of 9): the file ends" in error(FORMATS["word2vec_binary"].replace(b"4 3", b"9 3", 1))
    assert "goes on after the 2 words" in error(FORMATS["word2vec_binary"].replace(b"4 3", b"2 3", 1))
    assert "goes on after the 4 words" in error(FORMATS["word2vec_binary"] + b"x")
    assert "header promises 4 words, but 0 follow" in error(b"4 3\n")


@pytest.mark.parametrize("header", [b"9" * 30 + b" 3", b"4 " + b"9" * 30, b"9" * 5000 + b" " + b"9" * 5000])
def test_an_absurd_header(error, header):
    for name in ("fasttext", "word2vec_binary"):
        assert "absurdly large" in error(FORMATS[name].replace(b"4 3", header, 1))


@pytest.mark.parametrize("number", [b"x", b"0.2.1", b"1_0", b"--1", b"0x10", b"1,5", "１".encode()])
def test_a_malformed_number_of_a_wanted_word(error, number):
    content = FORMATS["glove"].replace(b"0.2", number)
    assert "vectors:4: the vector of 'bad' is not 3 numbers" in error(content)


@pytest.mark.parametrize("number", [b"nan", b"NaN", b"inf", b"-Infinity", b"1e39"])
def test_text_that_is_not_finite(error, number):
    content = FORMATS["fasttext"].replace(b"0.2", number)
    assert "vectors:5: the vector of 'bad' holds NaN or Inf" in error(content)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_binary_that_is_not_finite(error, number):
    content = binary({**VECTORS, "bad": [0, number, 0]}, newline=b"")
    assert f"byte {len(content) - 16} (word 4 of 4): the vector of 'bad' holds NaN or Inf" in error(content)


def test_lines_of_a_wrong_length(error):
    content = FORMATS["glove"].splitlines(keepends=True)
    assert "vectors:3: 4 numbers instead of 3" in error(b"".join([*content[:2], b"w 1 2 3 4\n", *content[2:]]))
    assert "vectors:3: 0 numbers instead of 3" in error(b"".join([*content[:2], b"alone\n", *content[2:]]))


def test_other_files(error):
    rubbish = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()
    for content in (rubbish, rubbish[:100], b"The brown fox.\n" * 9, b"\x89PNG\r\n\x1a\n\x00\x00", b"\0" * 5000):
        assert "neither a header nor a word" in error(content)
    assert "goes on after the 4 words" in error(b"4 3\n" + rubbish)
    assert "(word 1 of 4): a word of over 16384 bytes" in error(b"4 3\n" + rubbish.replace(b" ", b""))
    assert "zip archive: unpack it" in error(b"PK\x03\x04" + rubbish[:100])
    for content in (b"", b"\n \n", gzip.compress(b"")):
        assert "is empty" in error(content)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_word_without_end(error, packed):
    endless = b"w" * 20_000_000
    pack = (lambda content: gzip.compress(content, 1)) if packed else bytes
    assert "vectors:1: a line of over" in error(pack(endless))
    assert "vectors:4: a line of over" in error(pack(FORMATS["glove"][: -len("bad 0.1 0.2 0.3\n")] + endless))
    begin = FORMATS["word2vec_binary"][: -len("bad ") - 13]
    assert f"byte {len(begin) - 1} (word 4 of 4): a word of over" in error(pack(begin + endless))


def test_a_field_of_a_million_digits_is_judged_in_linear_time(error):
    start = time.monotonic()
    for field in (b"9" * 900_000 + b"x", b"9." + b"9" * 900_000 + b"x"):
        assert "vectors:1: neither" in error(b"w 1 " + field + b"\n")
        assert "vectors:2: 0 numbers instead of 3" in error(b"w 1 2 3\nv 1 " + field + b"\n")
        assert "not 3 numbers" in error(b"bad 1 2 " + field + b"\n")
    assert "holds NaN or Inf" in error(b"bad 1 2 " + b"9" * 900_000 + b"\n")
    assert time.monotonic() - start < 5  # measured: 0.3 s; over a minute with a backtracking pattern


def test_no_word_found_hints_at_language_and_casing(error):
    for name in ("glove", "word2vec_binary"):
        message = error(FORMATS[name], tokens=["<pad>", "GOOD", "película"])
        assert "none of the 2 words" in message and "'GOOD'" in message and "data.lower" in message


def test_paths_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name, reason in [
        ("absent", "does not exist"),
        ("dangling", "does not exist"),
        (".", "no regular file"),
        ("pipe", "no regular file"),
        ("x" * 5000, "File name too long"),
    ]:
        with pytest.raises(DataError, match=f"{reason}.*word_vectors.path"):
            read_vectors(tmp_path / name, TOKENS, dim=DIM)


def test_a_file_that_cannot_be_opened(tmp_path, monkeypatch):
    path = tmp_path / "vectors"
    path.write_bytes(FORMATS["glove"])

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"Permission denied.*word_vectors.path"):
        read_vectors(path, TOKENS, dim=DIM)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", FORMATS)
def test_any_damage_ends_in_vectors_or_in_one_line(read, name, packed):
    rng = np.random.default_rng(0)
    content = gzip.compress(FORMATS[name]) if packed else FORMATS[name]
    for _ in range(100):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 3)] = rng.integers(0, 256, 3)
        try:
            matrix, found = read(damaged[: rng.integers(1, len(damaged) + 1)].tobytes())
        except DataError as error:
            assert "vectors" in str(error) and "\n" not in str(error)
        else:
            assert np.isfinite(matrix).all() and found.any()


# The peak is VmHWM and not ru_maxrss: a child's ru_maxrss starts at its parent's, here pytest with JAX, which hides
# the growth. The baseline is the current size after the imports, so that no part of the growth is hidden either.
MEASURE = """
import json, sys, time
from research.word_vectors import embedding_matrix, read_vectors

def kilobytes(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

path, vocabulary, dim = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
tokens = ["<pad>", *(f"w{7 * i}" for i in range(vocabulary - 1))]
before, start = kilobytes("VmRSS"), time.monotonic()
vectors = read_vectors(path, tokens[1:], dim=dim)
matrix = embedding_matrix(vectors, tokens, dim=dim, seed=0)
seconds = time.monotonic() - start
kept = matrix.nbytes + matrix[0].nbytes * len(vectors)
print(json.dumps({"mb": (kilobytes("VmHWM") - before) / 1000, "kept_mb": kept / 1e6, "seconds": seconds,
                  "found": len(vectors), "last": matrix[tokens.index(list(vectors)[-1])].tolist()}))
"""


def write_large(path, size, kind):
    """A file of about `size` bytes with words w0, w1, ...; returns the number of words."""
    numbers = np.random.default_rng(0).normal(0, 0.2, (1000, 300)).astype(np.float32)
    if kind == "binary":
        vectors = [b" " + row.tobytes() + b"\n" for row in numbers]
    else:
        vectors = [(" " + " ".join(f"{x:.6f}" for x in row) + "\n").encode() for row in numbers]
    words = size // (len(vectors[0]) + 8)
    opener = gzip.open if kind == "gzip" else open
    with opener(path, "wb", **({"compresslevel": 1} if kind == "gzip" else {})) as file:
        file.write(f"{words} 300\n".encode())
        file.writelines(b"w%d" % i + vectors[i % 1000] for i in range(words))
    return words, numbers


def measure(path, size, kind, vocabulary=10_000):
    words, numbers = write_large(path, size, kind)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), str(vocabulary), "300"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    known = min(vocabulary - 1, -(-words // 7))
    assert report["found"] == known
    np.testing.assert_allclose(report["last"], numbers[7 * (known - 1) % 1000], atol=1e-6)
    return report


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


@needs_proc
@pytest.mark.parametrize("kind", ["text", "binary", "gzip"])
def test_peak_memory(tmp_path, kind):
    report = measure(tmp_path / "vectors", 40_000_000, kind)
    # Measured beyond the matrix and the vectors: text 14, binary 12, gzip 14.
    assert report["mb"] < report["kept_mb"] + 20, report


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "binary"])
def test_peak_memory_of_a_gigabyte(tmp_path, kind):
    path = tmp_path / "vectors"
    start = time.monotonic()
    report = measure(path, 1_000_000_000, kind)
    print(kind, path.stat().st_size, report["mb"], report["seconds"], time.monotonic() - start)
    path.unlink()
    assert report["mb"] < report["kept_mb"] + 20, report

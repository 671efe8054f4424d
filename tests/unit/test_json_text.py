"""JSON from outside: what is read, and what is refused before it takes memory or time."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest

from bootc_live.formats.json_text import LARGEST, LARGEST_TOGETHER, MAX_DEPTH, MAX_STRUCTURE, Budget, read_json

GOOD = [
    b"{}",
    b"[]",
    b"7",
    b' {"a": [1, 2.5, -3e2, true, false, null, "x"], "b": {"c": {}}} ',
    '{"ü": "漢\\u0000\\ud800"}'.encode(),
    rb'{"a": "[[[[{{{{,,,,\"[[[[\\", "\\\"": "}"}',
    b"[%s, -%s]" % (b"9" * 64, b"9" * 63),
    b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
    json.dumps(["[" * 1000, '"' * 1000, "\\" * 1000] * 100).encode(),
    b"[" + b"0," * (MAX_STRUCTURE - 2) + b"0]",
]
BAD = {
    "empty": b"",
    "no JSON": b"hello",
    "cut": b'{"a": ',
    "two": b"{} {}",
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "Latin-1": b'"\xfc"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "too many digits": b'{"a": ' + b"1" * 65 + b"}",
    "far too many digits": b'{"a": -' + b"1" * 5000 + b"}",
    "too large": b" " * (LARGEST + 1),
    "too deep": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "too deep, and open": b"[" * LARGEST,
    "objects": b'{"a":' * (LARGEST // 5),
    "closed first": b"]" * 1000 + b"[" * 1000,
    "ends alone": b"]" * LARGEST,
    "empty lists": b"[" + b"[]," * (LARGEST // 3 - 1) + b"0]",
    "numbers": b"[" + b"0," * (LARGEST // 2 - 1) + b"0]",
    "names": b"{" + b",".join(b'"%x":{}' % number for number in range(300_000)) + b"}",
    "quotes": b'"' * LARGEST,
    "an open string": b'"' + b"a" * (LARGEST - 1),
    "an open string of escapes": b'"' + b"\\\\" * (LARGEST // 2 - 1),
    "an open string of quotes": b'"' + b'\\"' * (LARGEST // 2 - 1) + b"\\",
    "escapes alone": b"\\" * LARGEST,
}


@pytest.mark.parametrize("content", GOOD, ids=range(len(GOOD)))
def test_read_like_the_library(content: bytes) -> None:
    assert read_json(content) == json.loads(content)


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_refused_at_little_cost(content: bytes) -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match=r"\w"):
        read_json(content)
    assert time.process_time() - began < 60


def test_refused_before_memory_is_taken() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="brackets"):
            read_json(BAD["empty lists"])
        assert tracemalloc.get_traced_memory()[1] < 4 * LARGEST
    finally:
        tracemalloc.stop()


FIELDS = frozenset({"layers", "annotations", "mediaType"})


@pytest.mark.parametrize(
    ("content", "one"),
    [
        (b'{"layers": [], "mediaType": "x"}', True),
        (b'{"a": 1, "A": 2, "more": {"Layers": []}}', True),
        (b'{"annotations": {"a.b": "1", "A.b": "2", "Layers": "3", "layers": "4"}}', True),
        (b'{"layers": [{"annotations": {"MediaType": "", "mediatype": ""}}]}', True),
        (b'{"a": 1, "a": 1}', False),
        (b'{"annotations": {"a": "1", "a": "2"}}', False),
        (b'{"layers": [], "Layers": []}', False),
        (b'{"Layers": []}', False),
        ('{"layer\u017f": []}'.encode(), False),
        (b'{"layers": [{"layers": [{"mediatype": "x"}]}]}', False),
        (b'[[{"Annotations": {}}]]', False),
    ],
)
def test_one_reading(content: bytes, one: bool) -> None:
    """Fields, not names of annotations, are the same in upper and lower case for programs in Go."""
    assert read_json(content) == json.loads(content)
    if one:
        assert read_json(content, FIELDS) == json.loads(content)
        return
    with pytest.raises(ValueError, match=r"has a name twice|only in upper and lower case"):
        read_json(content, FIELDS)


@pytest.mark.parametrize(
    ("sizes", "fit"),
    [
        ([LARGEST] * 4, True),
        ([LARGEST] * 4 + [0], True),
        ([LARGEST] * 4 + [1], False),
        ([LARGEST_TOGETHER + 1], False),
        ([2**20] * 17, False),
        ([4096] * 4096, True),
        ([4096] * 4097, False),
    ],
)
def test_documents_have_so_much_together(sizes: list[int], fit: bool) -> None:
    budget = Budget()
    for size in sizes[:-1]:
        budget.spend(size)
    if fit:
        budget.spend(sizes[-1])
        return
    with pytest.raises(ValueError, match=f"more than {LARGEST_TOGETHER} bytes"):
        budget.spend(sizes[-1])

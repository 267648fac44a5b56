import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.cli.record_input import LINE_LIMIT, Broken, Input, Piece


def pieces(data: bytes, size: int = 1 << 20) -> list[tuple[int, bytes | None] | str]:
    """All pieces of an input that is read in chunks of `size` at most."""
    stream = io.BytesIO(data)
    found = Input(lambda n: stream.read(min(n, size))).pieces()
    return [p.reason if isinstance(p, Broken) else (p.number, p.text) for p in found]


@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n\n  \n", []),
        (b'{"a":1}', [(1, b'{"a":1}')]),
        (b'{"a":1}\n\n{"b":2}\n', [(1, b'{"a":1}'), (3, b'{"b":2}')]),
        (b'\n\n{"a":1}\n', [(3, b'{"a":1}')]),
        (b'{"a":1}\r\n{"b":2}\r\n', [(1, b'{"a":1}\r'), (2, b'{"b":2}\r')]),
        (b'[{"a":1},{"b":[1,2]}]', [(1, b'{"a":1}'), (2, b'{"b":[1,2]}')]),
        (b' [ {"a":"]}\\""} ,\n {"b":{}}\n ] \n', [(1, b'{"a":"]}\\""}'), (2, b'{"b":{}}')]),
        (b"[]", []),
        (b"[ ]\n", []),
        (b"[{},]", [(1, b"{}"), (2, b"")]),
        # A line that is a whole array, with lines after it, is a line that is wrong; so is one that cannot be an array.
        (b'[1]\n{"a":1}\n', [(1, b"[1]"), (2, b'{"a":1}')]),
        (b'[{"x":1}]\n{"a":1}\n', [(1, b'[{"x":1}]'), (2, b'{"a":1}')]),
        (b'[[[[\n{"a":1}', [(1, b"[[[["), (2, b'{"a":1}')]),
    ],
)
def test_lines_and_arrays_are_cut_into_events_however_they_arrive(
    data: bytes, expected: list[tuple[int, bytes]], size: int
) -> None:
    assert pieces(data, size) == expected


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'[{"a":1}, {"b":', "the input ends inside the array, in event 2"),
        (b'[{"a":1}] {"b":2}', "there is more after the array's end"),
        (b'[{"a":1}} , {"b":2}]', "a } that was not opened"),
    ],
)
def test_an_array_that_cannot_be_read_further_says_where(data: bytes, said: str) -> None:
    last = pieces(data)[-1]
    assert isinstance(last, str) and said in last


TEXTS = st.text(st.sampled_from('{}[],"\\ \nabé'), max_size=12)
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)


@given(st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=5), st.integers(1, 9), st.integers(0, 2))
def test_any_array_gives_its_elements(objects: list[dict[str, object]], size: int, indent: int) -> None:
    data = json.dumps(objects, indent=indent or None, ensure_ascii=False).encode()
    found = pieces(data, size)
    assert [json.loads(p[1] or b"") for p in found if not isinstance(p, str)] == objects
    assert [p[0] for p in found] == list(range(1, len(objects) + 1))


@given(st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=5), st.integers(1, 9))
def test_any_lines_give_their_objects(objects: list[dict[str, object]], size: int) -> None:
    data = b"".join(json.dumps(o).encode() + b"\n" for o in objects)
    assert [json.loads(p[1] or b"") for p in pieces(data, size) if not isinstance(p, str)] == objects


@given(st.binary(max_size=200), st.integers(1, 9))
def test_any_bytes_give_pieces_and_never_raise(data: bytes, size: int) -> None:
    for start in (b"", b"[{", b'[{"'):
        pieces(start + data, size)


class Endless:
    """Bytes without end, as far as they are read; tells how much is held at most."""

    def __init__(self, before: bytes, filler: bytes, length: int, after: bytes) -> None:
        self.parts = [before]
        self.filler, self.left, self.after = filler, length, after

    def read(self, size: int) -> bytes:
        if self.parts:
            return self.parts.pop()
        if self.left > 0:
            n = min(size, self.left)
            self.left -= n
            return (self.filler * (n // len(self.filler) + 1))[:n]
        rest, self.after = self.after, b""
        return rest


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"a":1}\n"', b'"\n{"b":2}\n'),
        (b'[{"a":1},{"x":"', b'"},{"b":2}]'),
        (b'[{"a":1},{"x":[', b']},{"b":2}]'),
    ],
)
@pytest.mark.parametrize("filler", [b"x", b"1, ", b"\\\\"])
def test_what_is_longer_than_an_event_is_told_by_number_and_not_held(
    before: bytes, after: bytes, filler: bytes
) -> None:
    import tracemalloc

    source = Endless(before, filler, 12 * LINE_LIMIT // len(filler) * len(filler), after)
    tracemalloc.start()
    found = list(Input(source.read).pieces())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [p.number for p in found if isinstance(p, Piece)] == [1, 2, 3]
    assert [p.text for p in found if isinstance(p, Piece)] == [b'{"a":1}', None, b'{"b":2}']
    assert peak < 6 * LINE_LIMIT

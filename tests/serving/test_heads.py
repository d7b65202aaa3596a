"""Heads that are known: what is taken for a whole message, and how many are kept."""

import pytest

from serving.heads import Heads, whole

ONE = b"POST /v1 HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\naccept: */*\r\n\r\n"


def test_heads_are_equal_but_for_their_length() -> None:
    short, long = whole(ONE % 2 + b"{}"), whole(ONE % 11 + b'{"model":1}')
    assert short is not None
    assert long is not None
    assert (short.body, long.body) == (b"{}", b'{"model":1}')
    assert short.head == long.head
    other = whole(ONE.replace(b"here", b"there") % 2 + b"{}")
    assert other is not None
    assert other.head != short.head


@pytest.mark.parametrize(
    "data",
    [
        b"",
        ONE % 2,
        ONE % 2 + b"{",
        ONE % 2 + b"{}P",
        (ONE % 2)[:-1],
        ONE.replace(b"%d", b"+2") + b"{}",
        ONE.replace(b"%d", b"2 ") + b"{}",
        ONE.replace(b"content-length: %d", b"transfer-encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n",
        b"POST /v1 HTTP/1.1\r\nhost: here\r\n\r\ncontent-length: 2\r\n{}",
        ONE.replace(b"here", b"x" * 5000) % 2 + b"{}",
    ],
)
def test_what_is_no_whole_message_with_a_length_is_none(data: bytes) -> None:
    assert whole(data) is None


def test_a_second_length_makes_another_head() -> None:
    plain, twice = whole(ONE % 2 + b"{}"), whole(ONE.replace(b"accept: */*", b"content-length: 3") % 2 + b"{}")
    assert plain is not None
    assert twice is not None
    assert twice.head != plain.head


def test_ever_new_heads_fill_no_memory() -> None:
    heads: Heads[int] = Heads()
    for number in range(10_000):
        heads.learn(b"%d" % number, number)
        assert heads.get(b"%d" % number) == number
    assert sum(heads.get(b"%d" % number) is not None for number in range(10_000)) <= 256

"""Heads of HTTP messages that a parser has read before: who sends one message sends thousands, and their heads are the
same but for the length of what follows. To read one again costs more than to look it up.

Only what the parser took is known, byte by byte but for the digits of the length; so nothing is understood here that it
would understand in another way.
"""

import re
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

_LONGEST = 2048  # of a head; longer ones are read again each time
_MOST = 256  # heads that are known; beyond that it begins anew
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (\d{1,9})\r\n")


class Message(NamedTuple):
    """A whole message that came in one piece. `head` is without the digits of the length."""

    head: bytes
    body: bytes


def whole(data: bytes) -> Message | None:
    """The message, if `data` is one from its first byte to its last by its (first) length; else None."""
    end = data.find(b"\r\n\r\n", 0, _LONGEST)
    if end < 0 or (length := _LENGTH.search(data, 0, end + 2)) is None:
        return None
    start, stop = length.span(1)
    if len(data) != end + 4 + int(data[start:stop]):
        return None
    return Message(data[:start] + data[stop:end], data[end + 4 :])


class Heads(Generic[T]):
    """What was read out of a head, by the head."""

    def __init__(self) -> None:
        self._known: dict[bytes, T] = {}
        self.get = self._known.get

    def learn(self, head: bytes, read: T) -> None:
        """The parser took it."""
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[head] = read

"""Relays an engine's event stream as bytes, and steps in only at its end.

Whole events are forwarded as they come. Without passages to cite they are not even parsed; with them only to read the
text along, for its citations. Only four kinds are looked into: the finish event (it is held back
until the cost is known, so that it can carry `breakeven`), the usage event, an error event and `[DONE]`. A stream is
complete when `[DONE]` came from the engine; ours is sent only then.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from retrieval import citations
from serving import openai
from serving.accounting.record import Tokens
from serving.errors import GatewayError, UpstreamFailed, from_engine

_DONE = b"data: [DONE]"
_DATA = b"data: "
_END = b"\n\n"
# A JSON string cannot hold an unescaped quote, so no generated text can look like one of these.
_FINISH = b'"finish_reason":"'
_NO_CHOICES = b'"choices":[]'
_ERROR = b'{"error"'
_MARKS = (_FINISH, _NO_CHOICES, _ERROR, _DONE)
# vLLM's finish for what it gave up, as it may when it is told to end; with 200 and `[DONE]`.
_ABORTED = "abort"


class Relay:
    """State of one stream. `keep_usage`: the client asked for the usage event itself. `keep_text`: remember the text
    for who wants to judge it, also if there is nothing to cite."""

    def __init__(
        self, *, keep_usage: bool, annotations: Sequence[Mapping[str, Any]] = (), keep_text: bool = False
    ) -> None:
        self._keep_usage = keep_usage
        self._annotations = annotations
        self._read = keep_text or bool(annotations)
        self._texts: dict[int, list[str]] = {}  # by choice
        self._rest = b""
        self._held: dict[str, Any] | None = None
        self._usage_event: dict[str, Any] | None = None
        self._done = False
        self._error: GatewayError | None = None
        self.events = 0
        self.cut = False  # some choice reached its limit of tokens

    def feed(self, piece: bytes) -> bytes:
        """Take bytes from the engine, return the whole events that can go to the client now."""
        data = self._rest + piece if self._rest else piece
        cut = data.rfind(_END)
        if cut < 0:
            self._rest = data
            return b""
        whole, self._rest = data[: cut + 2], data[cut + 2 :]
        if self._read:
            for event in whole.split(_END):
                self._read_along(event)
        # Spelled out: this line sees every token.
        if self._held is None and not (_FINISH in whole or _NO_CHOICES in whole or _ERROR in whole or _DONE in whole):
            self.events += whole.count(_END)
            return whole
        return b"".join(self._take(event) for event in whole.split(_END) if event)

    def check_complete(self) -> None:
        """Call at the end of the engine's bytes. Raises if the answer is not whole."""
        if self._error is not None:
            raise self._error
        if not self._done:
            raise broke_off()

    def texts(self) -> list[str]:
        """The text so far, of each choice."""
        return ["".join(self._texts[index]) for index in sorted(self._texts)]

    def cited(self) -> citations.Cited:
        """The citations in the text so far, of all choices."""
        return citations.check(map("".join, self._texts.values()), self._annotations)

    def failure(self, error: GatewayError) -> bytes:
        """The error event that a broken stream ends with, in place of `[DONE]`."""
        return error.event()

    def tokens(self) -> Tokens:
        """Counts from the usage event; estimated from the number of events if it never came."""
        if self._usage_event is None:
            return Tokens(completion=self.events, estimated=True)
        return tokens_of(self._usage_event.get("usage"))

    def finish(self, extension: Mapping[str, Any]) -> bytes:
        """The rest of a complete stream: finish event with `breakeven`, usage if asked for, `[DONE]`."""
        parts = []
        if self._held is not None:
            parts.append(self._release({"breakeven": extension}))
        if self._keep_usage and self._usage_event is not None:
            parts.append(_event(self._usage_event))
        return b"".join([*parts, _DONE, _END])

    def _read_along(self, event: bytes) -> None:
        if b'"content":"' not in event and b'"text":"' not in event:
            return
        try:
            choices = orjson.loads(event.removeprefix(_DATA)).get("choices") or ()
        except (orjson.JSONDecodeError, AttributeError):
            return  # not ours to judge: it is forwarded as it is
        for choice in choices:
            if isinstance(text := (choice.get("delta") or {}).get("content", choice.get("text")), str):
                self._texts.setdefault(choice["index"], []).append(text)

    def _take(self, event: bytes) -> bytes:
        if event == _DONE:
            self._done = True
            return b""
        if _ERROR in event:
            self._error = from_engine(500, event.removeprefix(_DATA))
            return b""
        if not any(mark in event for mark in _MARKS):
            self.events += 1
            return self._release({}) + event + _END
        parsed = orjson.loads(event.removeprefix(_DATA))
        if parsed.get("usage") and not parsed["choices"]:
            self._usage_event = parsed
            return b""
        if aborted(parsed["choices"]):
            self._error = broke_off()
            return self._release({})
        self.cut |= any(choice.get("finish_reason") == "length" for choice in parsed["choices"])
        # Only one choice's finish can be the last event; with n > 1 the earlier ones go out now.
        before = self._release({})
        self.events += 1
        self._held = parsed
        return before

    def _release(self, extra: Mapping[str, Any]) -> bytes:
        held, self._held = self._held, None
        if held is None:
            return b""
        before = b""
        for choice in held["choices"] if self._annotations else ():
            # The citations ride on the last delta before the finish; text of the finish event moves there too.
            said = "".join(self._texts.get(choice["index"], ()))
            delta = {**choice.get("delta", {}), "annotations": citations.mark(said, self._annotations)}
            before += _event(openai.chunk(held, [{"index": choice["index"], "delta": delta, "finish_reason": None}]))
            choice["delta"] = {}
        return before + _event({**held, **extra})


def aborted(choices: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the engine gave one of them up."""
    return any(choice.get("finish_reason") == _ABORTED for choice in choices)


def broke_off() -> UpstreamFailed:
    """An answer was begun, and is not whole."""
    return UpstreamFailed(
        "the engine broke off in the middle of its answer; send the request again", code="engine_broke_off"
    )


def tokens_of(usage: Any) -> Tokens:
    """Counts from a usage object; absent counts are zero."""
    if not isinstance(usage, dict):
        return Tokens()
    return Tokens(
        prompt=whole_number(usage.get("prompt_tokens")),
        cached=cached_in(usage.get("prompt_tokens_details")),
        completion=whole_number(usage.get("completion_tokens")),
    )


def cached_in(details: Any) -> int:
    """Tokens that were in the engine's cache, of a usage object's details of the prompt."""
    return whole_number(details.get("cached_tokens")) if isinstance(details, dict) else 0


def whole_number(count: Any) -> int:
    """An engine's count; zero for what is none, at which everything that counts tokens would fail."""
    return int(count) if type(count) in (int, float) and count > 0 else 0


def _event(value: Mapping[str, Any]) -> bytes:
    return _DATA + orjson.dumps(value) + _END

"""Relays the events of a streamed response, with our search before them and our citations in them.

Unlike a chat stream every event must be read: our item comes first, so places and sequence numbers of all others move.
A stream is complete when its last event says how the response ended; ours is sent only then.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from retrieval.passages import Passage
from serving import response_items
from serving.accounting.record import Tokens
from serving.errors import GatewayError, UpstreamFailed, from_engine
from serving.relay import cached_in, whole_number
from serving.response_items import Item

_END = b"\n\n"
_DATA = b"data:"
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})


class ResponseRelay:
    """State of one stream. `call` is empty or our search item; `shown` replaces what the engine echoes."""

    def __init__(self, call: Sequence[Item], passages: Sequence[Passage], shown: Mapping[str, Any]) -> None:
        self._call, self._passages, self._shown = call, passages, shown
        self._rest = b""
        self._sequence = 0
        self._deltas = 0
        self._last: Item | None = None
        self.texts: list[str] = []  # what the model has said in full

    def feed(self, piece: bytes) -> bytes:
        """Take bytes from the engine, return the whole events that can go to the client now.

        Raises what the engine reports as an error.
        """
        *whole, self._rest = (self._rest + piece).split(_END)
        return b"".join(self._emit(ours) for event in whole for ours in self._take(event))

    def check_complete(self) -> None:
        """Call at the end of the engine's bytes. Raises if the answer is not whole."""
        if self._last is None:
            raise UpstreamFailed(
                "the engine broke off in the middle of its answer; send the request again", code="engine_broke_off"
            )

    def tokens(self) -> Tokens:
        """Counts from the last event; estimated from the number of deltas if it never came."""
        if self._last is None:
            return Tokens(completion=self._deltas, estimated=True)
        return tokens_of(self._last["response"].get("usage"))

    @property
    def cut(self) -> bool:
        """True once the answer has ended because it reached its limit of tokens."""
        return self._last is not None and self._last["type"] == "response.incomplete"

    def finish(self, extension: Mapping[str, Any]) -> bytes:
        """The last event, whose response carries `breakeven`."""
        if self._last is None:
            return b""
        return self._emit({**self._last, "response": {**self._last["response"], "breakeven": extension}})

    def failure(self, error: GatewayError) -> bytes:
        """OpenAI's error event."""
        body = error.body()["error"]
        fields = {name: body[name] for name in ("code", "message", "param")}
        return self._emit({"type": "error", **fields})

    def _take(self, event: bytes) -> list[Item]:
        data = next((line[len(_DATA) :] for line in event.split(b"\n") if line.startswith(_DATA)), b"").strip()
        if not data or data == b"[DONE]":
            return []
        parsed: Item = orjson.loads(data)
        kind = parsed.get("type")
        if kind == "error" or "error" in parsed:
            raise from_engine(500, data)
        if "response" in parsed:
            parsed["response"] = self._echoed(parsed["response"])
        if "output_index" in parsed:
            parsed["output_index"] += len(self._call)
        self._deltas += kind == "response.output_text.delta"
        if kind in _LAST:
            self._last = parsed
            return []
        if kind == "response.in_progress":
            return [parsed, *_searching(self._call)]
        return self._cited(parsed)

    def _cited(self, event: Item) -> list[Item]:
        kind = event.get("type")
        if kind == "response.output_text.done":
            place = {name: event[name] for name in ("item_id", "output_index", "content_index")}
            added = {"type": "response.output_text.annotation.added", **place}
            self.texts.append(event.get("text") or "")
            cited = response_items.citations(event.get("text") or "", self._passages)
            return [
                *({**added, "annotation_index": index, "annotation": each} for index, each in enumerate(cited)),
                event,
            ]
        if kind == "response.content_part.done":
            return [{**event, "part": response_items.annotated_part(event["part"], self._passages)}]
        if kind == "response.output_item.done":
            return [{**event, "item": response_items.annotate(event["item"], self._passages)}]
        return [event]

    def _echoed(self, response: Item) -> Item:
        output = [response_items.annotate(item, self._passages) for item in response.get("output") or []]
        ended = response.get("status") not in ("in_progress", "queued")
        return {**response, **self._shown, "output": [*(self._call if ended else ()), *output]}

    def _emit(self, event: Item) -> bytes:
        numbered = {**event, "sequence_number": self._sequence}
        self._sequence += 1
        return b"event: " + str(event.get("type")).encode() + b"\ndata: " + orjson.dumps(numbered) + _END


def as_stream(answer: Item) -> bytes:
    """A whole response as an event stream."""
    relay = ResponseRelay((), (), {})
    events: list[Item] = []
    started = {**answer, "status": "in_progress", "output": [], "usage": None}
    events += [{"type": f"response.{name}", "response": started} for name in ("created", "in_progress")]
    for index, item in enumerate(answer["output"]):
        if item["type"] == "file_search_call":
            events += _searching([item], index)
            continue
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        part = item["content"][0]
        begun = {"output_index": index, "item": {**item, "status": "in_progress", "content": []}}
        events += [
            {"type": "response.output_item.added", **begun},
            {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
            {"type": "response.output_text.delta", **place, "delta": part["text"], "logprobs": []},
            {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []},
            {"type": "response.content_part.done", **place, "part": part},
            {"type": "response.output_item.done", "output_index": index, "item": item},
        ]
    events.append({"type": "response.completed", "response": answer})
    return b"".join(relay._emit(event) for event in events)


def tokens_of(usage: Any) -> Tokens:
    """Counts from a response's usage; absent counts are zero."""
    if not isinstance(usage, dict):
        return Tokens()
    return Tokens(
        prompt=whole_number(usage.get("input_tokens")),
        cached=cached_in(usage.get("input_tokens_details")),
        completion=whole_number(usage.get("output_tokens")),
    )


def _searching(call: Sequence[Item], index: int = 0) -> list[Item]:
    events: list[Item] = []
    for item in call:
        place = {"output_index": index, "item_id": item["id"]}
        begun = {**item, "status": "in_progress", "results": None}
        events.append({"type": "response.output_item.added", "output_index": index, "item": begun})
        for stage in ("in_progress", "searching", "completed"):
            events.append({"type": f"response.file_search_call.{stage}", **place})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    return events

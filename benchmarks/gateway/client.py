"""A closed loop of requests over kept-alive connections, whole or streamed; prints what came as one line of JSON.

`python -m benchmarks.gateway.client KEY PORT PATH CONNECTIONS SECONDS json|sse TOKENS DELAY_MS PADDING`: after the key
the arguments of the C client that it stands in for. Each connection sends its next request when the last is answered.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import httptools
import uvloop

_WARM_S = 0.5


@dataclass(slots=True)
class _Seen:
    """What came after the warm-up, in seconds."""

    latency: list[float] = field(default_factory=list)
    ttft: list[float] = field(default_factory=list)
    chunk: list[float] = field(default_factory=list)  # from sent by the upstream to received here
    chunks: int = 0
    bad: int = 0
    non200: int = 0


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, seen: _Seen, times: tuple[float, float], stream: bool) -> None:
        self._request, self._seen, self._stream = request, seen, stream
        self._from, self._until = times
        self._done = self._first = False
        self._start()

    def _start(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._done = self._first = False
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's are none by name
        self._fire()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if time.monotonic() < self._until:
            self._seen.bad += 1

    def _fire(self) -> None:
        self._start()
        self._sent = time.monotonic()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if not self._stream:
            return
        now, data = time.monotonic(), self._rest + body
        *events, self._rest = data.split(b"\n\n")
        counts = self._from <= self._sent and now <= self._until
        for event in events:
            if event == b"data: [DONE]":
                self._done = True
                continue
            if not self._first:
                self._first = True
                if counts:
                    self._seen.ttft.append(now - self._sent)
            if self._from <= now <= self._until:
                self._seen.chunks += 1
            _, mark, text = event.partition(b'"content":"t')
            if mark and counts:
                self._seen.chunk.append(now - int(text[:18]) / 1e9)

    def on_message_complete(self) -> None:
        now = time.monotonic()
        self._seen.non200 += self._parser.get_status_code() != 200
        self._seen.bad += self._stream and not self._done
        if self._from <= self._sent and now <= self._until:
            self._seen.latency.append(now - self._sent)
        if now < self._until:
            asyncio.get_running_loop().call_soon(self._fire)


def _body(tokens: int, delay_ms: int, padding: int, *, stream: bool) -> dict[str, Any]:
    system = "You are a helpful assistant." + ("the quick brown fox " * (padding // 20 + 1))[:padding]
    question = "What is the capital of France? Answer in one sentence."
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    options = {"max_tokens": tokens, "temperature": 0.0, "seed": delay_ms, "stream": stream}
    return {"model": "mock", "messages": messages, **options}


def _at(values: list[float], share: float) -> float:
    return round(values[min(int(len(values) * share), len(values) - 1)] * 1e6, 1) if values else -1


async def _run(key: str, port: str, path: str, connections: int, seconds: float, kind: str, *sizes: int) -> None:
    stream = kind == "sse"
    body = json.dumps(_body(*sizes, stream=stream), separators=(",", ":")).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {key}\r\nAccept: */*\r\nContent-Length: {len(body)}\r\n\r\n"
    seen, began = _Seen(), time.monotonic() + _WARM_S
    times = (began, began + seconds)
    for _ in range(connections):
        await asyncio.get_running_loop().create_connection(
            lambda: _Connection(head.encode() + body, seen, times, stream), "127.0.0.1", int(port)
        )
        if stream and connections > 1:
            await asyncio.sleep(sizes[1] / 1000 / connections)  # spread over the pace
    await asyncio.sleep(times[1] - time.monotonic() + 0.05)
    for values in (seen.latency, seen.ttft, seen.chunk):
        values.sort()
    found = {"secs": seconds, "reqs": len(seen.latency), "chunks": seen.chunks, "bad": seen.bad, "non200": seen.non200}
    found |= {"p50_us": _at(seen.latency, 0.5), "p99_us": _at(seen.latency, 0.99), "err": 0}
    found |= {"ttft_p50": _at(seen.ttft, 0.5), "ttft_p99": _at(seen.ttft, 0.99)}
    found |= {"one_p50": _at(seen.chunk, 0.5), "one_p99": _at(seen.chunk, 0.99)}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    given = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(given[0], given[1], given[2], int(given[3]), float(given[4]), given[5], *map(int, given[6:])))

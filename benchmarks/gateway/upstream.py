"""An engine that costs next to nothing: answers at once, or streams `max_tokens` chunks, one every `seed` milliseconds.

`python -m benchmarks.gateway.upstream PORT`. Each chunk's text is the time at which it was sent.
"""

import asyncio
import sys
import time

import httptools
import orjson
import uvloop

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_TEXT = "The quick brown fox jumps over the lazy dog. " * 5
_USAGE = {"prompt_tokens": 42, "total_tokens": 106, "completion_tokens": 64, "prompt_tokens_details": None}
_MESSAGE: dict[str, object] = {"role": "assistant", "content": _TEXT, "refusal": None, "tool_calls": []}
_ID = {"id": "chatcmpl-0123456789abcdef0123456789abcdef", "created": 1700000000, "model": "mock"}
_WHOLE = orjson.dumps(
    {
        **_ID,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": _MESSAGE, "logprobs": None, "finish_reason": "stop"}],
        "usage": _USAGE,
    }
)
_MODELS = orjson.dumps({"object": "list", "data": [{"id": "mock", "object": "model", "owned_by": "bench"}]})


class _Upstream(asyncio.Protocol):
    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._path = self._body = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's are none by name

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._path = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        asked = orjson.loads(self._body) if self._body else {}
        if asked.get("stream"):
            self._task = asyncio.ensure_future(self._stream(asked))
            return
        answer = _WHOLE if self._body else _MODELS
        self._transport.write(_HEAD % (len(answer), answer))

    async def _stream(self, asked: dict[str, object]) -> None:
        count, delay_s = int(str(asked.get("max_tokens", 128))), int(str(asked.get("seed", 0))) / 1000
        self._transport.write(_STREAM)
        at = asyncio.get_running_loop().time()
        for number in range(count):
            at += delay_s
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            delta = {"content": f"t{time.monotonic_ns():018d}"}
            finish = "stop" if number == count - 1 else None
            self._event(choices=[{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])
        if (asked.get("stream_options") or {}).get("include_usage"):  # type: ignore[attr-defined]  # a JSON object
            self._event(choices=[], usage={**_USAGE, "completion_tokens": count})
        self._transport.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def _event(self, **fields: object) -> None:
        event = b"data: " + orjson.dumps({**_ID, "object": "chat.completion.chunk", **fields}) + b"\n\n"
        self._transport.write(b"%x\r\n%s\r\n" % (len(event), event))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))
